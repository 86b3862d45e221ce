"""Models that were fitted on arrays: .npy in their units, pictures by their range or --scale."""

import re

import numpy as np
import pytest
from pictures_for_cli import parsed, run, table
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


def vocabulary(**options):
    return PatchVocabulary(6, **{"strategy": "kmeans", "random_state": 0, **options})


def bayes(*before, **options):
    steps = [(f"scale{i}", step) for i, step in enumerate(before)]
    last = ("clf", CategoricalNB(min_categories=6))
    return CertifiedPatchClassifier([*steps, ("vocab", vocabulary(output="ids", **options)), last])


@pytest.fixture(scope="module")
def models(digits, tmp_path_factory):
    """Files of models of digits in several ranges, and by what 0..16 was multiplied."""
    X, y = digits
    folder = tmp_path_factory.mktemp("models")
    factors = {"sixteen": 1.0, "bytes": 255 / 16, "one": 1 / 16}
    for name, factor in factors.items():
        save(bayes(StandardScaler()).fit(factor * X[:300], y[:300]), folder / name)
    save(bayes().fit(StandardScaler().fit_transform(X[:300]), y[:300]), folder / "standardized")
    return folder, factors


def radii_of(capsys, *arguments):
    status = run("certify", *arguments, "--json", "--quiet", "--no-pictures")
    out, err = capsys.readouterr()
    if status == 2:
        return err
    return {row["image"]: row["smallest_radius"] for row in parsed(out)["images"]}


def test_arrays_are_in_the_model_s_own_units(digits, models, tmp_path, capsys):
    X, folder = digits[0][:4], tmp_path / "arrays"
    folder.mkdir()
    np.save(folder / "image.npy", X[0].reshape(8, 8))
    np.save(folder / "row.npy", X[1])
    np.save(folder / "channel.npy", X[2].reshape(8, 8, 1).astype(np.float32))
    np.save(folder / "whole.npy", X[3].reshape(8, 8).astype(np.uint8))
    out = tmp_path / "maps"
    found = radii_of(capsys, folder, "--model", models[0] / "sixteen", "--out", out)
    from sklearn_patchcert import load

    model = load(models[0] / "sixteen")
    names = ["image.npy", "row.npy", "channel.npy", "whole.npy"]
    for name, x in zip(names, X, strict=True):
        kind = np.float32 if name == "channel.npy" else np.float64
        own = model.certify(x[None].astype(kind))
        assert (np.load(out / f"{name}.radii.npy") == own[0]).all()
        assert found[name] == own.min()


@pytest.mark.parametrize("name", ["bytes", "one", "sixteen"])
def test_pictures_of_8_and_16_bits_and_arrays_agree(name, digits, models, tmp_path, capsys):
    folder, factors = models
    image = np.round(digits[0][0].reshape(8, 8) * 255 / 16).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "8.png")
    Image.fromarray(image.astype(np.uint16) * 257).save(tmp_path / "16.png")
    np.save(tmp_path / "array.npy", image.astype(np.float32) * np.float32(factors[name] * 16 / 255))
    files = [tmp_path / one for one in ("8.png", "16.png", "array.npy")]
    scale = ["--scale", 255 / 16] if name == "sixteen" else []  # the others tell it themselves
    found = radii_of(capsys, *files, "--model", folder / name, "--out", tmp_path / "o", *scale)
    assert found["8.png"] == found["16.png"] == pytest.approx(found["array.npy"], rel=1e-4)


REFUSED = [
    ("sixteen", [], "values from 0 to 16, so pictures need --scale"),
    ("standardized", [], "give .npy arrays, in its own units"),
    ("standardized", ["--scale", 255], "radii would mean nothing"),
    ("sixteen", ["--scale", 255], "radii would mean nothing"),
    ("sixteen", ["--scale", 1], "radii would mean nothing"),
    ("bytes", ["--scale", 255], "radii would mean nothing"),
    ("one", ["--scale", 1], "radii would mean nothing"),
]


@pytest.mark.parametrize(("name", "options", "says"), REFUSED)
def test_a_wrong_scale_is_no_certificate(name, options, says, digits, models, tmp_path, capsys):
    Image.fromarray((15 * digits[0][0].reshape(8, 8)).astype(np.uint8)).save(tmp_path / "a.png")
    said = radii_of(capsys, tmp_path / "a.png", "--model", models[0] / name, "--out",
                    tmp_path / "maps", *options)  # fmt: skip
    assert re.search(f"patchcert: error: .*{says}", said)
    assert not (tmp_path / "maps").exists()


def test_arrays_on_another_scale_are_left_out(digits, models, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    for at in range(3):  # also the second and the third, not only the first
        np.save(images / f"large{at}.npy", 255 / 16 * digits[0][at].reshape(8, 8))
    np.save(images / "right.npy", digits[0][0].reshape(8, 8) / 16)
    command = ("certify", images, "--model", models[0] / "one", "--out", tmp_path / "maps")
    assert run(*command, "--json") == 1
    found = parsed(capsys.readouterr().out)
    assert [row["image"] for row in found["images"]] == ["right.npy"]
    assert len(found["left_out"]) == 3
    assert all("radii would mean nothing" in why for why in found["left_out"].values())


def test_a_model_with_a_reader_has_its_own_scale(photos, model_file, capsys):
    assert run("predict", photos, "--model", model_file, "--scale", 255) == 2
    assert "this one has its own" in capsys.readouterr().err


def archived(path):
    with open(path, "wb") as stream:
        np.savez(stream, a=np.zeros((8, 8)))


BAD = {
    "empty.npy": lambda path: path.write_bytes(b""),
    "cut.npy": lambda path: (np.save(path, np.zeros((8, 8))),
                             path.write_bytes(path.read_bytes()[:-40])),
    "pickle.npy": lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
    "flat.npy": lambda path: np.save(path, np.zeros(63)),
    "stack.npy": lambda path: np.save(path, np.zeros((2, 8, 8))),
    "nothing.npy": lambda path: np.save(path, np.zeros((0, 8))),
    "nan.npy": lambda path: np.save(path, np.full((8, 8), np.nan)),
    "complex.npy": lambda path: np.save(path, np.zeros((8, 8), complex)),
    "text.npy": lambda path: np.save(path, np.full((8, 8), "a")),
    "huge.npy": lambda path: np.save(path, np.full((8, 8), 1e200)),
    "archive.npy": archived,
    "large.png": lambda path: Image.new("L", (9, 8)).save(path),
    "bomb.png": lambda path: Image.new("1", (14000, 14000)).save(path),
}  # fmt: skip


def test_bad_files_are_left_out(digits, models, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    for name, make in BAD.items():
        make(images / name)
    np.save(images / "right.npy", digits[0][0].reshape(8, 8))
    out = tmp_path / "maps"
    command = ("certify", images, "--model", models[0] / "sixteen", "--scale", 16, "--out", out)
    assert run(*command) == 1
    said = capsys.readouterr().err
    for name in BAD:
        assert re.search(rf"patchcert: left out {name}: \S", said), name
    assert "resize=" not in said  # no such option of a command
    assert "1 certified; the brightest color is the l2 radius" in said
    assert f"{len(BAD)} left out" in said
    assert [row["image"] for row in table(out / "statistics.csv")] == ["right.npy"]
    assert not any(path.name.startswith(tuple(BAD)) for path in out.rglob("*"))


def test_colors_gray_and_palettes(digits, tmp_path, capsys):
    X = np.stack([digits[0], digits[0][:, ::-1], digits[0] ** 2], axis=-1).reshape(-1, 8, 8, 3)
    model = bayes(ChannelStandardizer(), patch_size=3, per_channel=True)
    save(model.fit(X[:100], digits[1][:100]), tmp_path / "model")
    picture = Image.fromarray(np.minimum(X[0], 255).astype(np.uint8)).quantize(8)
    picture.save(tmp_path / "palette.png")
    picture.convert("RGB").save(tmp_path / "colors.png")
    files = [tmp_path / "palette.png", tmp_path / "colors.png"]
    options = ("--model", tmp_path / "model", "--scale", 1, "--quiet", "--out", tmp_path / "o")
    assert run("certify", *files, *options) == 0
    maps = [np.load(tmp_path / "o" / f"{file.name}.radii.npy") for file in files]
    assert maps[0].shape == (3, 3, 3)  # channels have their own
    assert (maps[0] == maps[1]).all()


def test_regressors_and_vocabularies(digits, tmp_path, capsys):
    X, y = digits
    net = PatchNetRegressor(max_epochs=1, random_state=0, module__width=2, module__hidden=2)
    model = CertifiedPatchRegressor([("vocab", vocabulary()), ("clf", net)])
    model.fit(X[:60], np.stack([y, -y], axis=1)[:60])
    images = tmp_path / "images"
    images.mkdir()
    np.save(images / "a.npy", X[0].reshape(8, 8))
    np.save(images / "wide.npy", np.zeros((3, 12)))
    for kind, answers in ((model, 2), (PatchVocabulary.from_tokens(np.eye(4), patch_size=2), 0)):
        save(kind, tmp_path / "model")
        command = (images, "--model", tmp_path / "model", "--quiet", "--out", tmp_path / "maps")
        # Tokens of no image take any; those of the pipeline were of 8 x 8 pixels.
        assert run("certify", *command) == (1 if answers else 0)
        row = table(tmp_path / "maps" / "statistics.csv")[0]
        assert len(row["prediction"].split()) == answers
        assert run("certify", *command, "--prediction") == 2
        assert "--prediction is for classifiers" in capsys.readouterr().err
    assert np.load(tmp_path / "maps" / "wide.npy.radii.npy").shape == (2, 6)
    save(model, tmp_path / "model")
    assert run("predict", images / "a.npy", "--model", tmp_path / "model", "--json") == 0
    assert len(parsed(capsys.readouterr().out)["images"][0]["prediction"]) == 2
    for command in (["attack", "--eps", 1], ["report", "--out", tmp_path / "r.html"]):
        assert run(command[0], tmp_path, "--model", tmp_path / "model", *command[1:]) == 2
        assert "knows no classes" in capsys.readouterr().err


def test_models_without_maps_are_refused(digits, tmp_path, capsys):
    np.save(tmp_path / "a.npy", digits[0][0])
    save(CertifiedCommittee([("a", bayes())]).fit(*(part[:50] for part in digits)),
         tmp_path / "vote")  # fmt: skip
    save(bayes(), tmp_path / "new")
    for name, says in (("vote", "no map of radii"), ("new", "not fitted")):
        assert run("certify", tmp_path / "a.npy", "--model", tmp_path / name, "--out",
                   tmp_path / "o") == 2  # fmt: skip
        assert says in capsys.readouterr().err
        assert run("info", tmp_path / name) == 0
    assert not (tmp_path / "o").exists()
