"""Interrupted or killed at any moment and started again, a command leaves what one run leaves."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pictures_for_cli import files_of, run, table

from sklearn_patchcert.cli import certifying, maps, predicting
from sklearn_patchcert.cli.journal import Journal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def interrupt(monkeypatch):
    """A function that lets another be interrupted at its n-th call from now."""

    def at(place, name, call):
        real, count = getattr(place, name), []

        def interrupted(*arguments, **options):
            count.append(1)
            if len(count) == call:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        monkeypatch.setattr(place, name, interrupted)

    return at


@pytest.mark.parametrize(
    ("place", "name", "call"),
    [
        (certifying, "_answer", 1),
        (certifying, "_answer", 4),
        (maps, "write_npy", 5),
        (np, "save", 3),
        (maps, "map_picture", 3),
        (maps, "write_png", 4),
        (certifying, "_write_statistics", 1),
    ],
)
def test_certify(place, name, call, photos, model_file, tmp_path, monkeypatch, interrupt, capsys):
    often, once = tmp_path / "often", tmp_path / "once"
    options = ("certify", photos / "red", "--model", model_file, "--quiet", "--out")
    with monkeypatch.context():
        interrupt(place, name, call)
        assert run(*options, often) == 130
    assert "interrupted; start the same command again" in capsys.readouterr().err
    assert not [path for path in often.rglob("*") if path.suffix == ".tmp"]
    monkeypatch.undo()
    assert run(*options, often) == run(*options, once) == 0
    assert files_of(often) == files_of(once)


def test_predict(photos, model_file, tmp_path, monkeypatch, interrupt, capsys):
    out, command = tmp_path / "t.csv", ("predict", photos, "--model", model_file, "--quiet")
    interrupt(predicting, "_answer", 10)
    assert run(*command, "--out", out) == 130
    assert not out.exists()
    monkeypatch.undo()
    real, asked = predicting._answer, []
    monkeypatch.setattr(predicting, "_answer", lambda *a: asked.append(1) or real(*a))
    assert run(*command, "--out", out) == 0
    assert len(asked) == 24 - 9
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    capsys.readouterr()
    assert run(*command) == 0
    assert capsys.readouterr().out == out.read_text()


def test_predict_prints_what_it_has(photos, model_file, interrupt, capsys):
    interrupt(predicting, "_answer", 10)
    assert run("predict", photos, "--model", model_file, "--quiet") == 130
    assert len(capsys.readouterr().out.splitlines()) == 1 + 9


def test_a_journal_that_is_damaged_is_begun_again(photos, model_file, tmp_path):
    out, once = tmp_path / "out", tmp_path / "once"
    options = ("certify", photos / "red", "--model", model_file, "--quiet", "--out")
    assert run(*options, out) == run(*options, once) == 0
    journal = out / ".patchcert.jsonl"
    text = journal.read_text()
    other = re.sub(r'"row": \{[^}]*\}', '"row": 5', text)
    assert other != text
    for damaged in (
        other,
        text.replace("0.", "9.", 1),
        text[:-20],
        text[: len(text) // 2],
        "",
        "nonsense",
        "[]\n[]\n",
        "\xff" * 9,
    ):
        journal.write_text(damaged, encoding="latin-1")
        assert run(*options, out) == 0
        assert files_of(out) == files_of(once)


CHILD = "import sys; from sklearn_patchcert.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_a_process_that_is_killed_at_a_random_moment(photos, model_file, tmp_path):
    often, once = tmp_path / "often", tmp_path / "once"
    options = ["certify", photos, "--model", model_file, "--quiet", "--out"]
    options = [str(one) for one in options]
    journal = often / ".patchcert.jsonl"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *options, str(often)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    limit = time.monotonic() + 60
    while not journal.exists() and child.poll() is None and time.monotonic() < limit:
        time.sleep(0.005)
    time.sleep(random.uniform(0, 0.6))
    child.kill()
    _, err = child.communicate()
    assert child.returncode in (-signal.SIGKILL, 0), err
    done = table(often / "statistics.csv") if (often / "statistics.csv").exists() else []
    before = {name: content for name, content in files_of(often).items() if "npy" in name}
    assert run(*options, often) == run(*options, once) == 0
    assert files_of(often) == files_of(once)
    assert before.items() <= files_of(often).items()
    assert len(table(often / "statistics.csv")) == 24 >= len(done)
    left = {path.name for path in often.rglob(".*")}
    assert left == {".patchcert.jsonl"}


@pytest.mark.parametrize("command", ["certify", "predict", "report"])
def test_a_picture_that_changes_in_the_midst_is_done_again(
    command, photos, model_file, tmp_path, monkeypatch
):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    shutil.rmtree(folder / "green")
    for path in folder.glob("*/00[3-7]*"):
        path.unlink()
    end = {"certify": "", "predict": ".csv", "report": ".html"}[command]
    whole = () if command == "predict" else ("--prediction", "--configurations", 20)
    options = (command, folder, "--model", model_file, "--quiet", *whole, "--out")
    real, other = Journal.add, (folder / "red" / "001.png").read_bytes()

    def changed(self, name, *more):
        # Pillow looks at what a file holds, and not at its name.
        folder.joinpath(name).write_bytes(other)
        real(self, name, *more)
        if len(self.done) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", changed)
        assert run(*options, tmp_path / f"often{end}") == 130
    assert run(*options, tmp_path / f"often{end}") == run(*options, tmp_path / f"once{end}") == 0
    if end:
        found = [(tmp_path / f"{name}{end}").read_bytes() for name in ("often", "once")]
    else:
        found = [files_of(tmp_path / name) for name in ("often", "once")]
    assert found[0] == found[1]
