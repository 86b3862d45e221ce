"""patchcert predict, info and names of files: tables of what the library says."""

import csv
import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pictures_for_cli import noisy, parsed, run, table
from PIL import Image

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchVocabulary,
    load,
    save,
)
from sklearn_patchcert.cli import opened
from sklearn_patchcert.cli.options import shown
from sklearn_patchcert.displays.report.pixels import letters


def test_the_table_is_what_the_library_says(photos, model_file, tmp_path, capsys):
    out = tmp_path / "table.csv"
    assert run("predict", photos, "--model", model_file, "--out", out) == 0
    rows = table(out)
    files = [str(photos / row["file"]) for row in rows]
    assert files == sorted(map(str, photos.rglob("*.*")))
    model = load(model_file)
    radii = model.certify(files).reshape(len(files), -1)
    assert [row["class"] for row in rows] == model.predict(files).tolist()
    chances = model.predict_proba(files).max(1)
    np.testing.assert_allclose([float(row["probability"]) for row in rows], chances, rtol=1e-5)
    assert [float(row["smallest_radius"]) for row in rows] == radii.min(1).tolist()
    assert [float(row["mean_radius"]) for row in rows] == pytest.approx(radii.mean(1))
    said = capsys.readouterr()
    assert said.out == ""
    assert "24/24" in said.err
    assert re.search(r"[\d.?]+image/s|s/image", said.err)
    assert "PatchVocabulary" not in said.err  # bars of the library
    assert "24 predicted; 0 left out" in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv"]


def test_printed_written_and_json_agree(photos, model_file, tmp_path, capsys):
    command = ("predict", photos / "red", "--model", model_file, "--quiet")
    assert run(*command) == 0
    printed, err = capsys.readouterr()
    assert err == ""
    assert run(*command, "--out", tmp_path / "t.csv") == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "t.csv").read_text() == printed
    assert run(*command, "--json") == 0
    found = parsed(capsys.readouterr().out)
    assert found["left_out"] == {}
    rows = [{name: str(value) for name, value in row.items()} for row in found["images"]]
    assert rows == table(tmp_path / "t.csv")


def test_every_odd_file_is_read_or_named(odd, model_file, tmp_path, capsys):
    folder, bad = odd
    bad["loose.txt"] = "not the name of a picture"
    assert run("predict", folder, "--model", model_file, "--json") == 1
    out, err = capsys.readouterr()
    found = parsed(out)
    assert set(found["left_out"]) == set(bad)
    for name, reason in bad.items():
        assert re.search(reason, found["left_out"][name]), name
        assert f"patchcert: left out {name}: " in err
    assert f"{len(bad)} left out (3 not the name" in err or f"{len(bad)} left out (2 " in err
    rows = {row["file"]: row for row in found["images"]}
    assert "green/deeper/<script>alert(1)<script>.png" in rows
    first, *others = (rows[f"red/{name}"] for name in ("gray8.png", "gray16.png", "gray16.tiff"))
    for other in others:  # of one picture; resizing rounds that of 8 bits, a radius is 1-Lipschitz
        assert other["class"] == first["class"]
        for name in ("smallest_radius", "mean_radius"):
            assert other[name] == pytest.approx(first[name], abs=48**0.5 * 0.5 / 255)
    for name in ("turned", "alpha"):
        assert {**rows[f"red/{name}.png"], "file": ""} == {**rows["red/upright.png"], "file": ""}


def test_paths_of_all_kinds(photos, model_file, monkeypatch, capsys):
    monkeypatch.chdir(photos)
    cases = {
        ("blue/000.jpg",): ["000.jpg"],
        ("blue/000.jpg", "blue/000.jpg", "./blue/../blue/000.jpg"): ["000.jpg"],
        ("blue", "red/000.jpg"): [*(f"blue/{p.name}" for p in sorted(Path("blue").iterdir())),
                                  "red/000.jpg"],
        ("blue/000.jpg", "red/000.jpg", "green/000.jpg"): [
            "blue/000.jpg", "green/000.jpg", "red/000.jpg"],
        (".", "blue"): sorted(p.as_posix() for p in Path().rglob("*.*")),
    }  # fmt: skip
    for places, names in cases.items():
        assert run("predict", *places, "--model", model_file, "--json", "--quiet") == 0
        found = parsed(capsys.readouterr().out)
        assert [row["file"] for row in found["images"]] == names


def test_where_nothing_can_be_done(photos, model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("bad.png").write_bytes(b"")
    Path("text.txt").write_text("a")
    os.mkfifo("pipe.png")
    Path("old.csv").write_text("old")
    for name in ("empty", "bad.png", "text.txt", "missing", "pipe.png"):
        assert run("predict", name, "--model", model_file, "--out", "old.csv") == 2, name
        err = capsys.readouterr().err
        assert name == "empty" or f"left out {name}: " in err
        assert err.splitlines()[-1].startswith("patchcert: error: ")
    assert Path("old.csv").read_text() == "old"
    assert run("predict", "bad.png", photos, "--model", model_file, "--out", "new.csv") == 1


def test_what_is_read_is_not_written_over(photos, model_file, tmp_path, capsys):
    folder = shutil.copytree(photos, tmp_path / "photos")
    model = shutil.copy(model_file, tmp_path / "model")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for out in (model, folder / "red" / "000.jpg"):
        for command in ("predict", "report"):
            assert run(command, folder, "--model", model, "--out", out) == 2
            assert "would take its place" in capsys.readouterr().err
    assert run("info", model, "--picture", tmp_path / "photos") == 2
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


HOSTILE = [
    "<script>alert(1)<script>.png",
    "new\nline.png",
    "escape\x1b[2J\x1b]0;title\x07.png",
    "=cmd|' .png",
    'a"b,comma.png',
    "bytes-\udcff.png",
    "\u202egnp.exe.png",
    "--model.png",
    " .png",
    "x" * 230 + ".png",
]


@pytest.fixture
def hostile(tmp_path):
    """Pictures with names that want to do something; those of one class are broken."""
    folder = tmp_path / "hostile"
    for at, name in enumerate(HOSTILE):
        for kind in ("red", "blue"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(noisy((200, 60, 60), seed=at)).save(folder / kind / name)
        (folder / "red" / name).write_bytes(b"nonsense")
    return folder


@pytest.mark.parametrize("command", ["predict", "certify", "report"])
def test_names_of_files_do_nothing(command, hostile, model_file, tmp_path, capfd):
    out = tmp_path / "out.html"
    assert run(command, hostile, "--model", model_file, "--out", out, "--json") == 1
    said, err = capfd.readouterr()
    assert "\x1b" not in err.replace("\x1b[A", "")
    assert "\x1b" not in said
    found = parsed(said)
    assert {f"red/{name}" for name in HOSTILE} <= set(found["left_out"])
    for name in HOSTILE:
        assert f"left out red/{shown(name)}: " in err
    if command == "predict":
        assert [row["file"] for row in table(out)] == sorted(f"blue/{name}" for name in HOSTILE)
    if command == "certify":
        long = f"blue/{HOSTILE[-1]}"
        assert found["left_out"][long] == "its name is too long for the files to write"
        assert len(table(out / "statistics.csv")) == len(HOSTILE) - 1


def test_hostile_names_of_folders_and_models(hostile, model_file, tmp_path, capfd):
    bad = tmp_path / "a\x1b[2J\nb"
    for arguments in (
        ["predict", bad, "--model", model_file],
        ["predict", hostile, "--model", bad],
        ["report", hostile, "--model", model_file, "--out", bad / "r.html"],
        ["fit", bad, "--out", tmp_path / "m"],
    ):
        assert run(*arguments) == 2
        err = capfd.readouterr().err
        assert "\x1b[2J" not in err
        assert err.splitlines()[-1].startswith("patchcert: error: ")


def test_info_says_what_a_model_is(photos, model_file, tmp_path, capsys):
    picture = tmp_path / "tokens.png"
    assert run("info", model_file, "--picture", picture) == 0
    text = capsys.readouterr().out
    for says in (
        "CertifiedPatchClassifier", "image_size=16", "blue, green, red", "pictures of any size",
        r"height: +16", r"tokens: +8", r"patch size: +4, 4", r"trained on: +21", r"epochs: +8",
        r"accuracy: +[\d.]+", "photos",
    ):  # fmt: skip
        assert re.search(says, text), says
    with Image.open(picture) as drawn:
        assert drawn.width > 100
    assert run("info", model_file, "--json") == 0
    facts = parsed(capsys.readouterr().out)
    assert facts["expects"]["values_from_to"][0] >= 0
    assert facts["trained"]["images"] == {"blue": 8, "green": 8, "red": 8}
    assert run("info", model_file, "--picture", tmp_path / "tokens.xyz") == 2


def test_info_of_other_models(tmp_path, capsys):
    save(PatchVocabulary.from_tokens(np.eye(4), patch_size=2), tmp_path / "m",
         card={"by": "a\x1b[2J\nb"})  # fmt: skip
    assert run("info", tmp_path / "m") == 0
    text = capsys.readouterr().out
    assert re.search(r"tokens: +4", text)
    assert "\x1b" not in text
    assert r"a\x1b[2J\nb" in text
    assert run("predict", tmp_path, "--model", tmp_path / "m") == 2
    assert "predicts nothing" in capsys.readouterr().err


def test_infinite_radii_are_json(photos, tmp_path, capsys):
    save(PatchVocabulary.from_tokens(np.zeros((1, 4)), patch_size=2), tmp_path / "m")
    command = ("certify", photos / "red", "--model", tmp_path / "m", "--scale", 255)
    assert run(*command, "--out", tmp_path / "o", "--json", "--quiet") == 0
    assert parsed(capsys.readouterr().out)["images"][0]["smallest_radius"] == "inf"


def test_memory_does_not_grow_with_the_number_of_pictures(model_file, tmp_path):
    """No image is kept: one is read at a time, whatever their size."""
    import weakref

    Image.new("RGB", (300, 300), "red").save(tmp_path / "0.png")
    files = {str(at): tmp_path / "0.png" for at in range(30)}
    model = opened.Opened(model_file)
    alive = []
    for _, X in model.each(files, None):
        alive.append(weakref.ref(X.base if X.base is not None else X))
        assert sum(one() is not None for one in alive) <= 10
    assert len(alive) == 30


@pytest.mark.parametrize("name", ["=1+1.png", "-1.png", "+1.png", "@1.png", "\t=1.png"])
def test_no_name_of_a_file_is_a_formula_in_a_table(name, photos, model_file, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    shutil.copy(photos / "red" / "001.png", tmp_path / "in" / name)
    options = (tmp_path / "in", "--model", model_file, "--quiet")
    assert run("predict", *options, "--out", tmp_path / "out.csv") == 0
    assert run("certify", *options, "--out", tmp_path / "maps") == 0
    told = [table(tmp_path / "out.csv")[0]["file"]]
    told.append(table(tmp_path / "maps" / "statistics.csv")[0]["image"])
    capsys.readouterr()
    assert run("predict", *options) == 0
    told.append(next(csv.DictReader(io.StringIO(capsys.readouterr().out, newline="")))["file"])
    for text in told:
        assert text[0] not in "=+-@\t"
        assert (tmp_path / "in" / text).is_file()


def test_several_labels_have_no_one_probability(tmp_path, capsys):
    X = np.random.default_rng(0).random((40, 8, 8))
    y = np.stack([X[:, 0, 0] > 0.5, X[:, 4, 4] > 0.5], axis=1).astype(int)
    net = PatchNetClassifier(module__width=4, max_epochs=1, random_state=0)
    steps = [("vocab", PatchVocabulary(4, 4, strategy="kmeans", random_state=0)), ("clf", net)]
    save(CertifiedPatchClassifier(steps).fit(X, y), tmp_path / "model")
    np.save(tmp_path / "x.npy", X[0])
    assert run("predict", tmp_path / "x.npy", "--model", tmp_path / "model", "--json") == 0
    (row,) = parsed(capsys.readouterr().out)["images"]
    assert len(row["class"]) == 2
    assert "probability" not in row


def test_info_of_channels_that_have_different_numbers_of_tokens(tmp_path, capsys):
    X = np.random.default_rng(0).random((40, 8, 8, 3))
    options = {"strategy": "kmeans", "per_channel": True, "random_state": 0}
    save(PatchVocabulary([12, 2, 3], 2, **options).fit(X), tmp_path / "model")
    assert run("info", tmp_path / "model") == 0
    printed = capsys.readouterr().out
    assert re.search(r"tokens: +12, 2, 3$", printed, re.M)
    assert re.search(r"perplexity: +\d+\.\d+(, [\d.]+){2}$", printed, re.M)


def test_captions_have_the_letters_of_users():
    font = letters(14)
    missing = bytes(font.getmask("\uffff"))
    assert all(bytes(font.getmask(letter)) != missing for letter in "aüïéßñłøжλ")
