"""What all commands have in common: help, status, and words for whatever goes wrong."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pictures_for_cli import run

from sklearn_patchcert import __version__
from sklearn_patchcert.cli import commands

ROOT = Path(__file__).parents[2]
COMMANDS = ("fit", "info", "predict", "certify", "attack", "report", "export")


def help_of(*arguments, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_fits_into_a_terminal(command, capsys, monkeypatch):
    text = help_of(command, "--help", capsys=capsys, monkeypatch=monkeypatch)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(rf"Examples?:\n  patchcert {command} \S", text)
    for option in ("--quiet", "--json", "--max-bytes")[: 2 if command == "fit" else 3]:
        assert option in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_the_help_is_understood(command, capsys, monkeypatch):
    text = help_of(command, "--help", capsys=capsys, monkeypatch=monkeypatch)
    for line in re.findall(r"^  patchcert (.+)", text, re.M):
        options = commands._parser().parse_args(line.split())
        assert options.command == command


def test_the_overview_names_all_commands(capsys, monkeypatch):
    text = help_of("--help", capsys=capsys, monkeypatch=monkeypatch)
    for command in COMMANDS:
        assert re.search(rf"^    {command} +\S", text, re.M)
    assert "Exit status: 0" in text
    version = help_of("--version", capsys=capsys, monkeypatch=monkeypatch)
    assert version.strip() == __version__


def test_python_runs_the_package_as_the_command():
    command = [sys.executable, "-m", "sklearn_patchcert", "certify", "x", "--out", "y"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: patchcert certify")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["certify", "a"],
        ["certify", "a", "--model", "m", "--out", "o", "--scale", "0"],
        ["certify", "a", "--model", "m", "--out", "o", "--scale", "nan"],
        ["certify", "a", "--model", "m", "--out", "o", "--norm", "l7"],
        ["certify", "a", "--model", "m", "--out", "o", "--max-seconds", "-1"],
        ["fit", "a", "--out", "m", "--validation", "1"],
        ["fit", "a", "--out", "m", "--epochs", "0"],
        ["attack", "a", "--model", "m", "--eps", "-1"],
    ],
)
def test_usage_errors_are_argparse_s(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert "usage: patchcert" in capsys.readouterr().err


MODEL_COMMANDS = {
    "info": [],
    "predict": ["photos"],
    "certify": ["photos", "--out", "out"],
    "attack": ["photos", "--eps", "1"],
    "report": ["photos", "--out", "out.html"],
}


@pytest.mark.parametrize("command", MODEL_COMMANDS)
def test_what_is_no_model_is_refused(command, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("photos").symlink_to(photos, target_is_directory=True)
    Path("text").write_text("no model")
    before = sorted(tmp_path.iterdir())
    for name, says in (("text", "no model file"), ("missing", "No such file"), ("photos", "")):
        model = [name] if command == "info" else ["--model", name]
        assert run(command, *MODEL_COMMANDS[command], *model) == 2
        out, err = capsys.readouterr()
        assert re.fullmatch(rf"patchcert: error: .*{says}.*\n", err)
        assert out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_unexpected_errors_are_not_the_status_of_files_left_out(monkeypatch, capsys):
    from sklearn_patchcert.cli import describing

    def broken(options):
        raise RuntimeError("what?")

    monkeypatch.setattr(describing, "run", broken)
    assert run("info", "m") == 2
    err = capsys.readouterr().err
    assert "RuntimeError: what?" in err
    assert err.endswith("please report it\n")


def test_ctrl_c_has_its_status(monkeypatch, capsys):
    from sklearn_patchcert.cli import describing

    def stopped(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(describing, "run", stopped)
    assert run("info", "m") == 130
    assert "interrupted" in capsys.readouterr().err


HEAVY = """
import json, sys
from sklearn_patchcert.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(json.dumps(sorted({"numpy", "torch", "sklearn", "scipy", "PIL", "yaml"} & set(sys.modules))))
"""


def test_help_waits_for_no_library():
    done = subprocess.run([sys.executable, "-c", HEAVY, "certify", "--help"], cwd=ROOT,
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_the_console_script():
    text = (ROOT / "pyproject.toml").read_text()
    module, function = re.search(r'^patchcert = "(.+):(.+)"$', text, re.M).groups()
    script = f"import sys; from {module} import {function}; sys.exit({function}())"
    for arguments, status in ((["--version"], 0), (["nothing"], 2)):
        done = subprocess.run([sys.executable, "-W", "error", "-c", script, *arguments], cwd=ROOT,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == status
    assert "invalid choice: 'nothing'" in done.stderr
