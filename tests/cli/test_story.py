"""The whole story: a folder with all oddities, through all commands."""

import re

from pictures_for_cli import parsed, run, table

from sklearn_patchcert import load


def test_a_folder_with_oddities_goes_through_all_commands(
    odd, quick_attacks, tmp_path, capsys, monkeypatch
):
    folder, bad = odd
    monkeypatch.chdir(tmp_path)
    model = ["--model", "m.patchcert"]
    commands = {
        "fit": ["--out", "m.patchcert", "--image-size", 16, "--tokens", 8, "--epochs", 3],
        "predict": [*model, "--out", "p.csv"],
        "certify": [*model, "--out", "maps"],
        "attack": [*model, "--eps", 0.2, "--images", 3],
        "report": [*model, "--out", "r.html"],
    }
    results = {}
    for command, options in commands.items():
        assert run(command, folder, *options, "--json") == 1, command
        out, err = capsys.readouterr()
        results[command] = parsed(out)
        left_out = results[command]["left_out"]
        assert len(left_out) in (len(bad), 2 if command == "attack" else 0), command
        for name in left_out:
            assert re.search(rf"patchcert: left out {name}: \S", err)
        assert f"{len(left_out)} left out (" in err
        assert re.search(r"image/s|s/image", err), command
    assert run("info", "m.patchcert", "--json") == 0
    facts = parsed(capsys.readouterr().out)
    count = sum(facts["trained"]["images"].values())
    assert count == 3 * 3 + 10 + 1  # the good odd ones, one of them deeper down
    for command in ("predict", "certify"):
        assert len(results[command]["images"]) == count
    assert results["report"]["images"] == count
    files = [str(folder / row["file"]) for row in table("p.csv")]
    assert load("m.patchcert").predict(files).tolist() == [row["class"] for row in table("p.csv")]
