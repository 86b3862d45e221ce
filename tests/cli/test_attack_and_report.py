"""patchcert attack and report: labeled folders, and what the library says of them."""

import functools
import re
import shutil

import numpy as np
import pytest
from pictures_for_cli import parsed, run

from sklearn_patchcert import load
from sklearn_patchcert.cli import watched
from sklearn_patchcert.datasets import load_image_folder
from sklearn_patchcert.scorers import reports


def test_attacks_are_those_of_the_library(photos, model_file, quick_attacks, monkeypatch, capsys):
    quick, asked, answers = reports.robustness_report, [], []

    def spy(model, X, y, **options):
        asked.append((X, y, options))
        answers.append(quick(model, X, y, **options))
        return answers[0]

    monkeypatch.setattr(reports, "robustness_report", spy)
    command = ("attack", photos, "--model", model_file, "--eps", 0.3, "--images", 3, "--seed", 1)
    assert run(*command, "--json") == 0
    out, err = capsys.readouterr()
    found, [(X, y, options)], [report] = parsed(out), asked, answers
    data = load_image_folder(photos, image_size=16)
    some = np.sort(np.random.default_rng(1).choice(24, 3, replace=False))
    assert (data.data[some] == X).all()
    assert np.array(data.target_names)[data.target[some]].tolist() == y.tolist()
    assert options == {"eps": 0.3, "norm": "l2", "random_state": 1, "verbose": True}
    rows = report.table if isinstance(report.table, list) else report.table.to_dict("records")
    assert found["table"] == rows
    assert found["checks"] == report.checks
    assert found["robust"] == report.robust.sum()
    assert re.search(r"flips: 100%.*image/s|flips: 100%.*s/image", err)
    assert "PatchVocabulary" not in err


@pytest.fixture
def folder(photos, tmp_path):
    """A few pictures, as certificates of predictions take long."""
    for name in ("blue", "red"):
        (tmp_path / "few" / name).mkdir(parents=True)
        for picture in ("000.jpg", "001.png"):
            shutil.copy(photos / name / picture, tmp_path / "few" / name / picture)
    return tmp_path / "few"


def test_a_report_says_what_the_library_says(photos, model_file, tmp_path, capsys):
    out = tmp_path / "r.html"
    command = ("report", photos, "--model", model_file, "--out", out)
    assert run(*command, "--title", "a <b> title", "--json") == 0
    text, err = capsys.readouterr()
    found, page = parsed(text), out.read_text()
    data, model = load_image_folder(photos, image_size=16), load(model_file)
    y = np.array(data.target_names)[data.target]
    assert found["accuracy"] == (model.predict(data.data) == y).mean()
    radii = model.certify(data.data).reshape(24, -1)
    assert found["mean_radius"] == pytest.approx(radii.mean())
    assert found["mean_smallest_radius"] == pytest.approx(radii.min(1).mean())
    assert "a &lt;b&gt; title" in page
    assert "red/000.jpg" in page
    for bar in ("reading", "certifying patches", "predicting"):
        assert re.search(rf"{bar}: 100%.* 24/24 .*image", err), bar
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html"]
    assert run(*command, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert "Certified patches: photos" in out.read_text()


def test_predictions_go_on_where_they_were_interrupted(
    folder, model_file, tmp_path, monkeypatch, capsys
):
    real, asked = watched.CertifiedPatchClassifier.certify_prediction, []

    @functools.wraps(real)
    def counted(self, X, **options):
        if len(asked) == 3:
            asked.append("interrupted")
            raise KeyboardInterrupt
        asked.append(options)
        return real(self, X, **options)

    monkeypatch.setattr(watched.CertifiedPatchClassifier, "certify_prediction", counted)
    options = ("--model", model_file, "--quiet", "--prediction", "--configurations", 20,
               "--max-seconds", 50)  # fmt: skip
    often, once = tmp_path / "often.html", tmp_path / "once.html"
    assert run("report", folder, "--out", often, *options) == 130
    assert not often.exists()
    assert run("report", folder, "--out", often, *options) == 0
    assert len(asked) == 5  # one was interrupted, none was done twice
    assert {(one["max_configurations"], one["max_seconds"]) for one in asked
            if isinstance(one, dict)} == {(20, 50.0)}  # fmt: skip
    assert run("report", folder, "--out", once, *options) == 0
    assert often.read_bytes() == once.read_bytes()
    assert not list(tmp_path.glob(".*"))
    assert run("report", folder, "--out", once, *options, "--norm", "l1") == 2


def test_odd_files_are_named_on_the_page(odd, model_file, tmp_path, capsys):
    folder, bad = odd
    bad["loose.txt"] = "in no class folder"
    out = tmp_path / "r.html"
    assert run("report", folder, "--model", model_file, "--out", out) == 1
    err, page = capsys.readouterr().err, out.read_text()
    for name, reason in bad.items():
        assert re.search(rf"left out {name}: .*{reason}", err), name
        assert name in page
    assert "<script>alert(1)<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert f"{len(bad)} left out" in err


def test_folders_that_are_not_the_model_s_classes(photos, model_file, tmp_path, capsys):
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "red").rename(folder / "crimson")
    for command in (["attack", "--eps", 1], ["report", "--out", tmp_path / "r.html"]):
        assert run(command[0], folder, "--model", model_file, *command[1:]) == 2
        err = capsys.readouterr().err
        assert "blue, green, red" in err
        assert "crimson" in err
        assert run(command[0], tmp_path / "no", "--model", model_file, *command[1:]) == 2
        assert "is not a folder" in capsys.readouterr().err
    shutil.rmtree(folder / "crimson")
    assert run("report", folder, "--model", model_file, "--out", tmp_path / "r.html") == 0
