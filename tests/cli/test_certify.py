"""patchcert certify: what it writes is what the library says, and nothing is done twice."""

import os
import re
import shutil

import numpy as np
import pytest
from pictures_for_cli import CLASSES, files_of, noisy, parsed, run, table
from PIL import Image

from sklearn_patchcert import load
from sklearn_patchcert.cli import certifying, maps
from sklearn_patchcert.files import read_card


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_maps_and_statistics_are_those_of_the_library(norm, photos, model_file, tmp_path, capsys):
    out, folder = tmp_path / "maps", photos / "red"
    assert run("certify", folder, "--model", model_file, "--out", out, "--norm", norm) == 0
    files, rows = sorted(map(str, folder.iterdir())), table(out / "statistics.csv")
    model = load(model_file)
    radii = model.certify(files, norm=norm)
    assert [str(folder / row["image"]) for row in rows] == files
    assert [row["prediction"] for row in rows] == model.predict(files).tolist()
    for row, own in zip(rows, radii, strict=True):
        assert (np.load(out / f"{row['image']}.radii.npy") == own).all()
        assert float(row["smallest_radius"]) == own.min()
        assert float(row["mean_radius"]) == pytest.approx(own.mean())
        assert float(row["sum_slack_statistic"]) == pytest.approx(own.sum())
        with Image.open(out / f"{row['image']}.radii.png") as picture:
            assert picture.size == (16, 16)
            assert float(picture.text["brightest_radius"]) == radii.max()
            assert picture.text["norm"] == norm
        with Image.open(out / f"{row['image']}.overlay.png") as picture:
            assert picture.width > 2 * 224
    assert not any("sum" in name and "slack" not in name for name in rows[0])
    assert len(files_of(out)) == 3 * 8 + 1
    assert f"8 certified; the brightest color is the {norm} radius" in capsys.readouterr().err


def test_predictions_are_certified(photos, model_file, tmp_path, capsys):
    out, options = tmp_path / "maps", ("--prediction", "--configurations", 30, "--json")
    picture = photos / "red" / "000.jpg"
    assert run("certify", picture, "--model", model_file, "--out", out, *options) == 0
    found, err = capsys.readouterr()
    model = load(model_file)
    whole = model.certify_prediction(model["reader"].transform([picture]), max_configurations=30)
    row = parsed(found)["images"][0]
    assert row["prediction_radius"] == whole.radius[0]
    assert row["prediction_radius_is_exact"] == whole.exact[0]
    assert err.count(" 0%|") == 2  # bars, for certifying and drawing
    for more, says in ((["--norm", "l1"], "l2 and linf only"), ([], "")):
        status = run("certify", picture, "--model", model_file, "--out", out, *options, *more)
        assert status == (2 if more else 0)
        assert says in capsys.readouterr().err


def test_options_of_predictions_are_not_passed_over(photos, model_file, tmp_path, capsys):
    for option in ("--configurations", "--max-seconds", "--max-total-seconds"):
        for command in ("certify", "report"):
            out = ("--out", tmp_path / "out", option, 9)
            assert run(command, photos, "--model", model_file, *out) == 2
            assert "belong to --prediction" in capsys.readouterr().err


def test_quiet_says_nothing(photos, model_file, tmp_path, capsys):
    options = ("--model", model_file, "--out", tmp_path / "m", "--quiet", "--no-pictures")
    assert run("certify", photos / "red", *options) == 0
    assert capsys.readouterr() == ("", "")
    assert {name.rpartition(".")[2] for name in files_of(tmp_path / "m")} == {"npy", "csv"}


def test_what_is_done_is_not_done_again(photos, model_file, tmp_path, monkeypatch, capsys):
    out, done, drawn = tmp_path / "maps", [], []
    folder = shutil.copytree(photos / "red", tmp_path / "red")
    answer, draw = certifying._answer, maps.map_picture
    monkeypatch.setattr(certifying, "_answer",
                        lambda *a, **k: done.append(1) or answer(*a, **k))  # fmt: skip
    monkeypatch.setattr(maps, "map_picture", lambda *a: drawn.append(1) or draw(*a))

    def again(*more):
        done.clear()
        drawn.clear()
        status = run("certify", folder, "--model", model_file, "--out", out, "--quiet", *more)
        return status, len(done), len(drawn)

    assert again() == (0, 8, 8)
    first = files_of(out)
    assert again() == (0, 0, 0)
    assert files_of(out) == first
    os.utime(folder / "000.jpg", (1, 1))
    assert again() == (0, 1, 1)
    first = files_of(out)
    (out / "001.png.radii.npy").unlink()
    (out / "002.JPG.radii.png").write_bytes(b"damaged")
    assert again() == (0, 1, 1)
    assert files_of(out) == first
    assert again("--norm", "linf") == (0, 8, 8)
    other = tmp_path / "other.patchcert"
    options = ("--image-size", 16, "--tokens", 6, "--epochs", 1, "--quiet")
    assert run("fit", photos, "--out", other, *options) == 0
    assert again("--model", other) == (0, 8, 8)
    (folder / "000.jpg").unlink()
    assert run("certify", folder, folder / "000.jpg", "--model", other, "--out", out) == 1
    assert "left out 000.jpg: there is no such file" in capsys.readouterr().err
    assert len(table(out / "statistics.csv")) == 7


@pytest.mark.parametrize("how", ["another folder", "in its place"])
def test_files_with_the_names_sizes_and_times_of_others_are_others(how, model_file, tmp_path):
    """As an archive keeps times in whole seconds, and pictures without compression their sizes."""
    found = []
    for at, color in enumerate(CLASSES.values()):
        folder = tmp_path / (f"{at}" if how == "another folder" else "photos")
        folder.mkdir(exist_ok=True)
        new = tmp_path / "0.bmp"
        Image.fromarray(noisy(color, seed=at)).save(new)
        os.utime(new, (10**9, 10**9))
        new.replace(folder / "0.bmp")
        for out in ("same", f"own{at}"):
            options = ("--model", model_file, "--out", tmp_path / out, "--quiet")
            assert run("certify", folder, *options) == 0
        same, own = (files_of(tmp_path / out) for out in ("same", f"own{at}"))
        assert [same[name] == own[name] for name in ("0.bmp.radii.npy", "statistics.csv")] == [1, 1]
        found.append(own["statistics.csv"])
    assert len(set(found)) == 3


def test_infinite_radii_are_bright_and_written_as_infinite(photos, tmp_path, capsys):
    """Of a single token, whose map has nothing else."""
    model, out = tmp_path / "one.patchcert", tmp_path / "out"
    options = ("--image-size", 12, "--tokens", 1, "--epochs", 1, "--quiet")
    assert run("fit", photos, "--out", model, *options) == 0
    assert run("certify", photos / "red", "--model", model, "--out", out) == 0
    assert "the brightest color is the l2 radius inf" in capsys.readouterr().err
    for row in table(out / "statistics.csv"):
        assert {row[f"{which}_radius"] for which in ("smallest", "mean", "largest")} == {"inf"}
    radii = np.array([[np.inf, 0.0], [1.0, np.inf]])
    for top in (0.0, 1.0, np.inf):
        picture = maps.map_picture(radii, (1, 1), (2, 2), top).sum(-1)
        assert picture[0, 0] == picture[1, 1] == picture.max() > picture[0, 1]
    with Image.open(out / "000.jpg.radii.png") as written:
        assert len(written.getcolors()) == 1
        assert np.asarray(written)[0, 0].tolist() == maps.colors(np.ones((1, 1)))[0, 0].tolist()


def test_no_command_takes_maps_for_pictures(photos, model_file, tmp_path, capsys):
    """Written among the pictures of a class, or beside the classes, and left there."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    options = ("--model", model_file, "--quiet", "--out")
    assert run("certify", folder / "red", *options, folder / "red" / "maps") == 0
    assert run("certify", folder, *options, folder / "maps") == 0
    report = ("--model", model_file, "--out", tmp_path / "report.html")
    assert run("report", folder, *report) == 1
    said = capsys.readouterr().err
    assert "left out maps: maps that patchcert certify wrote" in said
    assert "left out red/maps: maps that patchcert certify wrote" in said
    fresh = tmp_path / "new.patchcert"
    options = ("--image-size", 12, "--tokens", 4, "--epochs", 1, "--quiet")
    assert run("fit", folder, "--out", fresh, *options) == 1
    assert read_card(fresh)["images"] == dict.fromkeys(CLASSES, 8)
    shutil.rmtree(folder / "maps")  # beside the photos of a class, only the maps are passed over
    options = ("--model", model_file, "--quiet", "--out", folder / "blue")
    assert run("certify", *sorted((folder / "blue").iterdir()), *options) == 0
    options = ("--image-size", 12, "--tokens", 4, "--epochs", 1, "--quiet", "--overwrite")
    assert run("fit", folder, "--out", fresh, *options) == 1
    assert read_card(fresh)["images"] == dict.fromkeys(CLASSES, 8)


def test_it_does_not_read_what_it_wrote(photos, model_file, tmp_path, capsys):
    folder = shutil.copytree(photos / "red", tmp_path / "red")
    for out in ("maps", "maps", "more/maps"):
        options = ("--model", model_file, "--out", folder / out)
        assert run("certify", folder, *options) == 0
        assert len(table(folder / out / "statistics.csv")) == 8
    assert "passed over the maps in maps" in capsys.readouterr().err
    assert run("predict", folder, "--model", model_file, "--json") == 0
    assert len(parsed(capsys.readouterr().out)["images"]) == 8


def test_it_may_write_above_its_images_but_not_among_them(photos, model_file, tmp_path, capsys):
    shutil.copytree(photos, tmp_path / "a" / "photos")
    options = ("--model", model_file, "--quiet", "--no-pictures", "--out")
    assert run("certify", tmp_path / "a" / "photos" / "red", *options, tmp_path / "a") == 0
    assert (tmp_path / "a" / "000.jpg.radii.npy").exists()
    folder = tmp_path / "a" / "photos"
    assert run("certify", folder, *options, folder / "red" / "..") == 2
    assert "cannot be written to" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run("certify", folder, *options, tmp_path / "file") == 2
    assert re.search("error: .*File exists", capsys.readouterr().err)


def test_no_output_takes_the_place_of_an_input(photos, model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "a.png.radii.png", "more/b.png", "more/b.png.overlay.png", "c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(photos / "red" / "001.png", name)
    shutil.copy(model_file, "statistics.csv")
    os.link("a.png", "c.png.radii.npy")
    os.symlink(".", "link", target_is_directory=True)
    cases = [
        ["a.png", "a.png.radii.png", "--out", "."],
        ["a.png", "a.png.radii.png", "--out", "link/more/.."],
        ["link/a.png", "link/a.png.radii.png", "--out", tmp_path],
        ["a.png", "c.png", "--out", "."],  # by a hard link
        ["more/b.png", "more/b.png.overlay.png", "--out", "link/more"],
        ["c.png", "--out", "link", "--model", "statistics.csv"],
    ]
    before = files_of(tmp_path, hidden=True)
    for arguments in cases:
        assert run("certify", "--model", model_file, *arguments) == 2, arguments
        assert "would take its place" in capsys.readouterr().err
    assert before == files_of(tmp_path, hidden=True)


def test_pictures_have_the_image_s_size_and_go_from_dark_to_bright():
    radii = np.array([[0.0, 1.0], [2.0, np.inf]])
    picture = maps.map_picture(radii, (3, 2), (5, 4), top=2.0)
    assert picture.shape == (5, 4, 3)
    light = picture.astype(int).sum(-1)
    assert light[0, 0] < light[0, 2] < light[3, 0] == light[4, 3]
    dark = maps.map_picture(np.zeros((2, 2)), (3, 2), (5, 4), top=0.0)
    assert (dark == picture[0, 0]).all()


def test_overlays_show_the_image_and_the_colors():
    image = np.full((8, 8, 3), 200, dtype=np.uint8)
    picture = maps.map_picture(np.array([[0.0, 1.0]]), (8, 4), (8, 8), top=1.0)
    drawing = maps.overlay_picture(image, picture, 1.0, "l2", "a caption")
    assert (drawing == 200).all(-1).sum() >= 224 * 224  # the image beside
    mixed = (0.45 * image + 0.55 * picture).round().astype(np.uint8)
    for x in (0, 7):
        assert (drawing == mixed[0, x]).all(-1).sum() >= 224 * 100
