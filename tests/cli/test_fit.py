"""patchcert fit: a folder becomes a model, and whatever cannot become one is refused early."""

import re
import shutil

import numpy as np
import pytest
from pictures_for_cli import make_photos, noisy, parsed, run
from PIL import Image

from sklearn_patchcert import load
from sklearn_patchcert.cli import fitting
from sklearn_patchcert.files import read_card

QUICK = ("--image-size", 8, "--tokens", 4, "--epochs", 1)


def test_json_is_all_that_standard_output_has(photos, tmp_path, capsys):
    path = tmp_path / "m"
    assert run("fit", photos, "--out", path, *QUICK, "--json") == 0
    out, err = capsys.readouterr()
    result = parsed(out)
    assert result["images"] == {"blue": 8, "green": 8, "red": 8}
    assert result["trained_on"] == 21
    assert result["held_out"] == 3
    assert 0 <= result["accuracy_from_to"][0] <= result["accuracy"]
    assert set(result["seconds"]) == {"reading", "vocabulary", "network", "evaluation"}
    assert "24/24" in err  # the bar
    assert read_card(path)["accuracy"] == result["accuracy"]


def test_text_says_accuracy_radius_and_time(photos, tmp_path, capsys):
    assert run("fit", photos, "--out", tmp_path / "m", *QUICK, "--quiet") == 0
    out, err = capsys.readouterr()
    assert re.search(r"accuracy on 3 held-out pictures: .*95 % confidence", out)
    assert re.search(r"patch radius .*: mean \d", out)
    assert re.search(r"time: reading .* vocabulary .* network", out)
    assert err == ""


def test_odd_files_are_named(odd, tmp_path, capsys):
    folder, bad = odd
    (folder / "gone").mkdir()
    (folder / "gone" / "1.png").write_bytes(b"nonsense")
    assert run("fit", folder, "--out", tmp_path / "m", *QUICK) == 1
    err = capsys.readouterr().err
    for name, reason in bad.items():
        assert re.search(rf"left out {name}: .*{reason}", err), name
    assert "left out gone: a class of which no picture can be read" in err
    assert re.search(rf"{len(bad) + 2} left out \(.*\d ", err)
    assert load(tmp_path / "m").classes_.tolist() == ["blue", "green", "red"]


def test_nothing_held_out(photos, tmp_path, capsys):
    assert run("fit", photos, "--out", tmp_path / "m", *QUICK, "--validation", 0, "--json") == 0
    result = parsed(capsys.readouterr().out)
    assert result["held_out"] == 0
    assert "accuracy" not in result


def test_a_class_of_one_picture_is_trained_on(photos, tmp_path, capsys):
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "lonely").mkdir()
    Image.fromarray(noisy((0, 0, 0))).save(folder / "lonely" / "1.png")
    assert run("fit", folder, "--out", tmp_path / "m", *QUICK) == 0
    assert "lonely has one picture" in capsys.readouterr().err
    assert "lonely" in load(tmp_path / "m").classes_


def test_every_class_is_held_out_in_its_share():
    from types import SimpleNamespace

    target = np.repeat([0, 1, 2], [40, 7, 1])
    for share, counts in ((0.1, [4, 1, 0]), (0.9, [36, 6, 0]), (0.0, [0, 0, 0])):
        options = SimpleNamespace(validation=share, seed=0)
        left_out = SimpleNamespace(note=lambda text: None)
        train, held_out = fitting._split(target, options, "abc", left_out)
        assert np.bincount(target[held_out], minlength=3).tolist() == counts
        assert sorted([*train, *held_out]) == list(range(48))


def folders(tmp_path, photos):
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").mkdir()
    shutil.copytree(photos / "red", tmp_path / "one" / "red")
    for name in ("a", "b"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "1.png").write_bytes(b"nonsense")
    (tmp_path / "there").write_text("a file")


@pytest.mark.parametrize(
    ("folder", "out", "says"),
    [
        ("missing", "m", "missing is not a folder"),
        ("there", "m", "there is not a folder"),
        ("empty", "m", "no subfolders with pictures"),
        ("one", "m", "one class only, red"),
        ("broken", "m", "None of the files can be read"),
        ("photos", "there", "there already: pass --overwrite"),
        ("photos", "empty", "is a folder"),
        ("photos", "nowhere/m", "there is no folder"),
    ],
)
def test_what_cannot_become_a_model(folder, out, says, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folders(tmp_path, photos)
    (tmp_path / "photos").symlink_to(photos, target_is_directory=True)
    before = sorted(tmp_path.rglob("*"))
    assert run("fit", folder, "--out", out, *QUICK, "--quiet") == 2
    assert re.search(f"patchcert: error: .*{says}", capsys.readouterr().err)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clf__max_epoch: 3", "clf__max_epoch: is it clf__max_epochs"),
        ("vocab__ntokens: 3", "is it vocab__n_tokens"),
        ("n_tokens: 3", "unknown parameter n_tokens"),
        ("vocab__n_tokens: many", "n_tokens"),
        ("clf__module: ResNet", "must be one of .*PatchResNet"),
        ("clf__optimizer__lrr: 1", "lrr"),
        ("reader__image_size: -1", "image_size"),
        ("- a\n- b", "name: value"),
        ("a: [", "no YAML"),
        ("a: !!python/object/apply:os.getcwd []", "no YAML"),
    ],
)
def test_a_config_is_checked_before_anything_is_read(
    text, says, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(fitting, "_read", None)
    (tmp_path / "c.yaml").write_text(text)
    out = ("--out", tmp_path / "m", "--config", tmp_path / "c.yaml")
    assert run("fit", photos, *out) == 2
    err = capsys.readouterr().err
    assert re.search(f"patchcert: error: .*{says}", err), err
    assert err.count("\n") == 1


def test_a_config_decides_how_pictures_are_read(photos, tmp_path):
    (tmp_path / "c.yaml").write_text(
        "reader__image_size: 12\nreader__resize: pad\nreader__background: black\n"
        "clf__module: PatchResNet\nclf__optimizer__weight_decay: 0.001\n"
    )
    path = tmp_path / "m"
    config = ("--config", tmp_path / "c.yaml", "--quiet")
    assert run("fit", photos, "--out", path, *QUICK, *config) == 0
    model = load(path)
    assert model["reader"].background == "black"
    assert model["vocab"].image_shape_ == (12, 12, 3)
    assert model["clf"].module.__name__ == "PatchResNet"
    assert "PatchResNet" in read_card(path)["options"]["config"]


def test_a_config_is_read_once_and_told_as_it_was_used(photos, tmp_path, monkeypatch):
    """A pipe ends after it was read, and a file may change or go while the model is trained."""
    config, read = tmp_path / "c.yaml", fitting._read

    def gone(*args):
        config.unlink()
        return read(*args)

    monkeypatch.setattr(fitting, "_read", gone)
    config.write_text("clf__lr: 0.05\n")
    path = tmp_path / "m"
    assert run("fit", photos, "--out", path, *QUICK, "--config", config, "--quiet") == 0
    assert load(path)["clf"].lr == 0.05
    assert read_card(path)["options"]["config"] == "clf__lr: 0.05\n"


def test_twice_the_same_and_not_over_a_picture(tmp_path, capsys):
    folder = make_photos(tmp_path / "photos", 3)
    for name in ("a", "b"):
        assert run("fit", folder, "--out", tmp_path / name, *QUICK, "--quiet") == 0
    radii = [load(tmp_path / name).certify([folder / "red" / "000.jpg"]) for name in "ab"]
    assert (radii[0] == radii[1]).all()
    picture = folder / "red" / "000.jpg"
    before = picture.read_bytes()
    assert run("fit", folder, "--out", picture, "--overwrite", *QUICK, "--quiet") == 2
    assert "would take its place" in capsys.readouterr().err
    assert picture.read_bytes() == before
