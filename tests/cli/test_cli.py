"""The command line: what it writes is what the library says, and bad files stop nothing else."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.naive_bayes import CategoricalNB
from sklearn.preprocessing import StandardScaler

from sklearn_patchcert import (
    CertifiedCommittee,
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    ChannelStandardizer,
    PatchNetRegressor,
    PatchVocabulary,
    save,
)
from sklearn_patchcert.cli import commands, image_files

ROOT = Path(__file__).parents[2]


def vocabulary(**options):
    return PatchVocabulary(6, **{"strategy": "kmeans", "random_state": 0, **options})


def bayes(*before, **options):
    steps = [(f"scale{i}", step) for i, step in enumerate(before)]
    last = ("clf", CategoricalNB(min_categories=6))
    return CertifiedPatchClassifier([*steps, ("vocab", vocabulary(output="ids", **options)), last])


@pytest.fixture(scope="module")
def model(digits):
    X, y = digits
    return bayes(StandardScaler()).fit(X[:300], y[:300])


@pytest.fixture(scope="module")
def model_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.patchcert"
    save(model, path)
    return path


@pytest.fixture
def images(digits, tmp_path):
    """A folder of ten images, half of them PNG in 0..240, half of them arrays in 0..16."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for index, image in enumerate(digits[0][:10].reshape(-1, 8, 8)):
        if index < 5:
            Image.fromarray((15 * image).astype(np.uint8)).save(folder / f"{index}.png")
        else:
            np.save(folder / "more" / f"{index}.npy", image)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def run(*arguments):
    return commands.main(["certify", *map(str, arguments)])


def table(folder):
    with open(folder / "statistics.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def names_of(count=10):
    return [f"{i}.png" if i < 5 else f"more/{i}.npy" for i in range(count)]


def test_maps_and_statistics_are_those_of_the_library(
    digits, model, model_file, images, tmp_path, capsys
):
    X, out = digits[0][:10], tmp_path / "maps"
    options = ("--scale", 15, "--configurations", 50, "--batch-size", 3)
    assert run(images, "--model", model_file, "--out", out, *options) == 0
    X = np.where(np.arange(10)[:, None] < 5, (15 * X).astype(np.float32) / np.float32(15), X)
    # What comes from PNG files is float32.
    radii = np.concatenate([model.certify(X[:5].astype(np.float32)), model.certify(X[5:])])
    whole = [
        model.certify_prediction(part, max_configurations=50).radius
        for part in (X[:5].astype(np.float32), X[5:])
    ]
    rows = table(out)
    assert [row["image"] for row in rows] == names_of()
    assert [int(row["prediction"]) for row in rows] == model.predict(X).tolist()
    for row, own, radius in zip(rows, radii, np.concatenate(whole), strict=True):
        assert (np.load(out / f"{row['image']}.radii.npy") == own).all()
        assert float(row["smallest_radius"]) == own.min()
        assert float(row["mean_radius"]) == pytest.approx(own.mean())
        assert float(row["sum_slack_statistic"]) == pytest.approx(own.sum())
        assert float(row["prediction_radius"]) == radius
        picture, texts = picture_of(out / f"{row['image']}.radii.png")
        assert picture.shape == (8, 8, 3)
        assert float(texts["brightest_radius"]) == radii.max()
    assert "sum_slack_statistic" in rows[0]
    assert not any("sum" in name and "slack" not in name for name in rows[0])
    said = capsys.readouterr().err
    assert "10 images certified, 0 skipped" in said
    assert "10/10" in said  # the progress bar
    assert len([path for path in out.rglob("*") if path.is_file()]) == 21


def test_quiet_says_nothing(model_file, images, tmp_path, capsys):
    assert run(images / "more", "--model", model_file, "--out", tmp_path / "m", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def truncated(path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(noise).save(path) if path.suffix == ".png" else np.save(path, noise)
    path.write_bytes(path.read_bytes()[:-40])


def archived(path):
    with open(path, "wb") as stream:
        np.savez(stream, a=np.zeros((8, 8)))


def picture_of(path):
    with Image.open(path) as file:
        return np.asarray(file), file.text


BAD = {
    "truncated.png": truncated,
    "truncated.npy": truncated,
    "empty.png": lambda path: path.write_bytes(b""),
    "empty.npy": lambda path: path.write_bytes(b""),
    "jpeg.png": lambda path: Image.new("L", (8, 8)).save(path, format="JPEG"),
    "pickle.npy": lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
    "large.png": lambda path: Image.new("L", (9, 8)).save(path),
    "bomb.png": lambda path: Image.new("1", (12000, 12000)).save(path),
    "colour.png": lambda path: Image.new("RGB", (8, 8)).save(path),
    "palette.png": lambda path: Image.new("P", (8, 8)).save(path),
    "alpha.png": lambda path: Image.new("LA", (8, 8)).save(path),
    "flat.npy": lambda path: np.save(path, np.zeros(63)),
    "stack.npy": lambda path: np.save(path, np.zeros((2, 8, 8))),
    "nan.npy": lambda path: np.save(path, np.full((8, 8), np.nan)),
    "complex.npy": lambda path: np.save(path, np.zeros((8, 8), complex)),
    "text.npy": lambda path: np.save(path, np.full((8, 8), "a")),
    "huge.npy": lambda path: np.save(path, np.full((8, 8), 1e200)),
    "archive.npy": archived,
}


def test_bad_files_are_reported_and_skipped(model_file, images, tmp_path, capsys):
    for name, make in BAD.items():
        make(images / name)
    out = tmp_path / "maps"
    options = ("--scale", 15, "--batch-size", 4)
    assert run(images, "--model", model_file, "--out", out, *options) == 1
    said = capsys.readouterr().err
    for name in BAD:
        assert re.search(rf"patchcert: skipped {name}: \S", said), name
    assert f"10 images certified, {len(BAD)} skipped" in said
    assert sorted(row["image"] for row in table(out)) == sorted(names_of())
    assert not any(path.name.startswith(tuple(BAD)) for path in out.rglob("*"))


def test_all_files_bad(model_file, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 3)))
    out = tmp_path / "maps"
    assert run(tmp_path / "a.npy", tmp_path / "b.gif", "--model", model_file, "--out", out) == 1
    assert table(out) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["images", "--model", "nothing", "--out", "maps"], "No such file.*'nothing'"),
        (["images", "--model", "images/notes.txt", "--out", "maps"], "This is no model file"),
        (["images", "--model", "{model}", "--max-bytes", "9", "--out", "maps"], "max_bytes=9"),
        (["images", "--model", "{model}", "--out", "maps"], "say with --scale"),
        (["empty", "--model", "{model}", "--out", "maps"], r"no .png and .npy files"),
        (["images", "images", "--model", "{model}", "--out", "maps"], "the same name"),
        (["images/more", "--model", "{model}", "--out", "images/notes.txt"], "File exists"),
        (["images", "--model", "tokens", "--out", "m", "--configurations", "9"], "classifiers"),
        (["images/more", "--model", "vote", "--out", "maps"], "no map of radii"),
        (["images/more", "--model", "new", "--out", "maps"], "not fitted"),
        (
            ["images/more", "--model", "{model}", "--out", "m", "--norm", "l1",
             "--configurations", "9"],
            "l2 and linf only",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(
    arguments, says, digits, model_file, images, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    save(PatchVocabulary.from_tokens(np.zeros((1, 1)), patch_size=1), "tokens")
    save(CertifiedCommittee([("a", bayes())]).fit(*(part[:50] for part in digits)), "vote")
    save(bayes(), "new")
    before = sorted(tmp_path.rglob("*"))
    assert run(*(text.format(model=model_file) for text in arguments)) == 2
    said = capsys.readouterr().err
    assert re.search(f"patchcert: error: .*{says}", said), said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["certify", "a"],
        ["certify", "a", "--model", "m", "--out", "o", "--scale", "0"],
        ["certify", "a", "--model", "m", "--out", "o", "--scale", "nan"],
        ["certify", "a", "--model", "m", "--out", "o", "--batch-size", "-1"],
        ["certify", "a", "--model", "m", "--out", "o", "--norm", "l7"],
    ],
)
def test_usage_errors_are_argparse_s(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        commands.main(arguments)
    assert stop.value.code == 2
    assert "usage: patchcert" in capsys.readouterr().err


def test_interrupted_it_leaves_whole_files(model_file, images, tmp_path, monkeypatch, capsys):
    out = tmp_path / "maps"
    assert run(images / "more", "--model", model_file, "--out", out, "--quiet") == 0
    before = (out / "statistics.csv").read_bytes()
    real, count = np.save, []

    def interrupted(stream, array, **options):
        count.append(1)
        if len(count) == 4:
            stream.write(b"half")
            raise KeyboardInterrupt
        real(stream, array, **options)

    monkeypatch.setattr(image_files.np, "save", interrupted)
    assert run(images, "--model", model_file, "--out", out, "--scale", 15) == 130
    monkeypatch.undo()
    assert "interrupted" in capsys.readouterr().err
    assert (out / "statistics.csv").read_bytes() == before
    for path in out.rglob("*"):
        assert not path.name.startswith(".")
        if path.suffix == ".npy":
            assert np.load(path).shape == (2, 2)


def test_no_output_takes_the_place_of_an_input(digits, model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.npy", "a.npy.radii.npy", "more/b.npy", "more/b.npy.radii.npy", "c.npy"):
        Path(name).parent.mkdir(exist_ok=True)
        np.save(name, digits[0][0])
    shutil.copy(model_file, "statistics.csv")
    os.link("a.npy", "c.npy.radii.npy")
    os.symlink(".", "link", target_is_directory=True)
    cases = [
        ["a.npy", "a.npy.radii.npy", "--out", "."],
        ["a.npy", "a.npy.radii.npy", "--out", "link/more/.."],
        ["link/a.npy", "link/a.npy.radii.npy", "--out", tmp_path],
        ["a.npy", "c.npy", "--out", "."],  # by a hard link
        ["more/b.npy", "link/more/b.npy.radii.npy", "--out", "more"],
        ["c.npy", "--out", "link", "--model", "statistics.csv"],
    ]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for arguments in cases:
        assert run("--model", model_file, *arguments) == 2, arguments
        assert "would take its place" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_links_that_lead_nowhere_are_skipped_as_bad_files_are(model_file, images, tmp_path, capsys):
    os.symlink("circle.npy", images / "circle.npy")
    os.symlink("nothing", images / "broken.png")
    os.symlink("circle", images / "circle")
    os.symlink(".", images / "here", target_is_directory=True)
    options = ("--model", model_file, "--scale", 15)
    for out in (tmp_path / "maps", images / "maps"):
        assert run(images, *options, "--out", out) == 1
        said = capsys.readouterr().err
        assert "skipped circle.npy: " in said
        assert "skipped broken.png: " in said
        assert "10 images certified, 2 skipped" in said
    for place, out in (("circle", "m"), ("more", "circle"), ("more", "circle/m")):
        assert run(images / place, *options, "--out", images / out) in (1, 2)
        assert "circle" in capsys.readouterr().err


KILLED = """
import os, signal, sys
from sklearn_patchcert.cli import commands, image_files
real, count = image_files.np.save, []
def killed(stream, array, **options):
    count.append(1)
    if len(count) == 4:
        stream.write(b"half")
        stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    real(stream, array, **options)
image_files.np.save = killed
commands.main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_killed_and_run_again_it_leaves_what_one_run_leaves(model_file, images, tmp_path):
    often, once = tmp_path / "often", tmp_path / "once"
    options = [images, "--model", model_file, "--scale", 15, "--quiet", "--out"]
    arguments = ["certify", *map(str, options), str(often)]
    assert subprocess.run([sys.executable, "-c", KILLED, *arguments]).returncode == -9
    assert [path for path in often.rglob("*") if path.suffix == ".tmp"]
    assert run(*options, often) == run(*options, once) == 0
    files = [{path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
             for folder in (often, once)]  # fmt: skip
    assert files[0] == files[1]


def test_it_does_not_read_what_it_wrote(model_file, images):
    for _ in range(2):
        options = ("--scale", 15, "--quiet")
        assert run(images, "--model", model_file, "--out", images / "maps", *options) == 0
        assert len(table(images / "maps")) == 10


def test_it_may_write_above_its_images_but_not_among_them(model_file, images, capsys):
    above, options = images.parent, ("--model", model_file, "--quiet")
    assert run(images / "more", *options, "--out", images) == 0
    assert (images / "5.npy.radii.npy").exists()
    assert run(above / "images", *options, "--out", above / "more" / ".." / "images") == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_the_scale_is_what_makes_png_files_and_arrays_agree(digits, model_file, tmp_path):
    image = digits[0][0].reshape(8, 8)
    Image.fromarray((4096 * image - (image == 16)).astype(np.uint16)).save(tmp_path / "16.png")
    Image.fromarray(image.astype(np.uint8)).save(tmp_path / "8.png")
    np.save(tmp_path / "array.npy", image.astype(np.float32))
    np.save(tmp_path / "row.npy", image.ravel())
    for scale, name in ((1, "8.png"), (4096, "16.png")):
        files = [tmp_path / "array.npy", tmp_path / "row.npy", tmp_path / name]
        options = ("--scale", scale, "--quiet", "--out", tmp_path / "maps")
        assert run(*files, "--model", model_file, *options) == 0
        maps = [np.load(tmp_path / "maps" / f"{file.name}.radii.npy") for file in files]
        np.testing.assert_allclose(maps[1], maps[0], rtol=1e-4)
        np.testing.assert_allclose(maps[2], maps[0], rtol=1e-3)


def test_colours_and_palettes(digits, tmp_path):
    X = np.stack([digits[0], digits[0][:, ::-1], digits[0] ** 2], axis=-1).reshape(-1, 8, 8, 3)
    model = bayes(ChannelStandardizer(), patch_size=3, per_channel=True).fit(
        X[:100], digits[1][:100]
    )
    save(model, tmp_path / "model")
    picture = Image.fromarray(X[0].astype(np.uint8)).quantize(8)
    picture.save(tmp_path / "palette.png")
    picture.convert("RGB").save(tmp_path / "colours.png")
    options = ("--scale", 1, "--quiet", "--out", tmp_path)
    files = [tmp_path / "palette.png", tmp_path / "colours.png"]
    assert run(*files, "--model", tmp_path / "model", *options) == 0
    maps = [np.load(f"{file}.radii.npy") for file in files]
    assert maps[0].shape == (3, 3, 3)  # channels have their own
    assert (maps[0] == maps[1]).all()
    assert picture_of(tmp_path / "colours.png.radii.png")[0].shape == (8, 8, 3)


def test_regressors_and_vocabularies(digits, images, tmp_path):
    X, y = digits
    net = PatchNetRegressor(max_epochs=1, random_state=0, module__width=2, module__hidden=2)
    model = CertifiedPatchRegressor([("vocab", vocabulary()), ("clf", net)])
    model.fit(X[:60], np.stack([y, -y], axis=1)[:60])
    tokens = PatchVocabulary.from_tokens(np.eye(4), patch_size=2)
    np.save(images / "more" / "wide.npy", np.zeros((3, 12)))
    for kind, answers in ((model, 2), (tokens, 0)):
        save(kind, tmp_path / "model")
        options = ("--quiet", "--out", tmp_path / "maps")
        # Tokens of no image take any; those of the pipeline were of 8 x 8 pixels.
        status = run(images / "more", "--model", tmp_path / "model", *options)
        assert status == (1 if kind is model else 0)
        row = table(tmp_path / "maps")[0]
        assert len(row["prediction"].split()) == answers
        assert row["norm"] == "l2"
    assert np.load(tmp_path / "maps" / "wide.npy.radii.npy").shape == (2, 6)
    assert picture_of(tmp_path / "maps" / "wide.npy.radii.png")[0].shape == (3, 12, 3)


def test_pictures_have_the_image_s_size_and_go_from_dark_to_bright():
    radii = np.array([[0.0, 1.0], [2.0, np.inf]])
    picture = image_files.map_picture(radii, (3, 2), (5, 4), top=2.0)
    assert picture.shape == (5, 4, 3)
    assert picture[0, 0].tolist() == [68, 1, 84]
    assert picture[3, 0].tolist() == picture[4, 3].tolist() == [253, 231, 37]
    light = picture.sum(-1)
    assert light[0, 0] < light[0, 2] < light[3, 0]
    assert (image_files.map_picture(np.zeros((2, 2)), (3, 2), (5, 4), top=0.0) == [68, 1, 84]).all()


def test_the_palette_is_viridis():
    colours = __import__("matplotlib").colormaps["viridis"](np.linspace(0, 1, 9))[:, :3]
    np.testing.assert_allclose(np.array(image_files._PALETTE) / 255, colours, atol=0.002)


def test_the_console_script(images, tmp_path):
    text = (ROOT / "pyproject.toml").read_text()
    module, function = re.search(r'^patchcert = "(.+):(.+)"$', text, re.M).groups()
    script = f"import sys; from {module} import {function}; sys.exit({function}())"
    arguments = ["certify", images, "--model", images / "0.png", "--out", tmp_path / "maps"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("patchcert: error: This is no model file")
    assert done.stdout == ""
