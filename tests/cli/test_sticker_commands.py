"""Commands on models that are certified against stickers: what the library says, in files."""

import numpy as np
import pytest
from pictures_for_cli import make_photos, parsed, run, table
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import CategoricalNB

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    ImageReader,
    PatchNetRegressor,
    PatchVocabulary,
    StickerCertifiedClassifier,
    StickerCertifiedRegressor,
    certify,
    load,
    save,
)
from sklearn_patchcert.datasets import load_image_folder
from sklearn_patchcert.scorers import certified, sticker_accuracy, sticker_attack_accuracy


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("few") / "photos", 4)


@pytest.fixture(scope="module")
def files(few):
    """Model files by what is masked; tokens with a reader of files, pixels of arrays without."""
    data = load_image_folder(few, image_size=12)
    X, y = data.data, np.array(data.target_names)[data.target]
    vocabulary = PatchVocabulary(6, 4, strategy="kmeans", output="ids", random_state=0)
    steps = [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=6))]
    pipeline = CertifiedPatchClassifier([("reader", ImageReader(12)), *steps])
    made = {
        "tokens": StickerCertifiedClassifier(pipeline, [3, (1, 5)]).fit(X, y),
        "pixels": StickerCertifiedClassifier(LogisticRegression(), 4, n_masks=2,
                                             image_shape=(12, 12, 3)).fit(X.reshape(12, -1), y),
    }  # fmt: skip
    for name, model in made.items():
        save(model, few.parent / name)
    return {name: few.parent / name for name in made}


@pytest.fixture
def pictures(few, tmp_path):
    """Six pictures of the size that both models take."""
    for at, image in enumerate(load_image_folder(few, image_size=12).data[::2]):
        Image.fromarray((255 * image).round().astype(np.uint8)).save(tmp_path / f"{at}.png")
    return [tmp_path / f"{at}.png" for at in range(6)]


def read(paths, space):
    X = np.stack([np.asarray(Image.open(path)) / np.float32(255) for path in paths])
    return X if space == "tokens" else X.reshape(len(X), -1)


@pytest.mark.parametrize("space", ["tokens", "pixels"])
def test_predict_and_certify_say_what_the_library_says(space, files, pictures, tmp_path, capsys):
    model, X, out = load(files[space]), read(pictures, space), tmp_path / "out"
    found = model.certify(X)
    assert run("certify", *pictures, "--model", files[space], "--out", out) == 0
    text = capsys.readouterr().err
    assert f"{found.certified.sum()} certified against stickers" in text
    rows = table(out / "statistics.csv")
    for at, row in enumerate(rows):
        np.testing.assert_array_equal(np.load(out / f"{at}.png.places.npy"), found.places[at])
        assert row["prediction"] == found.prediction[at]
        assert row["certified_against_stickers"] == str(bool(found.certified[at]))
        assert float(row["share_of_places"]) == found.places[at].mean()
        radii = out / f"{at}.png.radii.npy"
        assert radii.exists() == ("smallest_radius" in row) == (space == "tokens")
        if space == "tokens":
            np.testing.assert_array_equal(np.load(radii), found.radii[at])
        picture = np.asarray(Image.open(out / f"{at}.png.places.png"))
        green = (picture[..., 1] > picture[..., 0].astype(int) + 30).any()
        assert green == found.places[at].any()
    assert run("predict", *pictures, "--model", files[space], "--out", tmp_path / "p.csv") == 0
    for at, row in enumerate(table(tmp_path / "p.csv")):
        assert row["class"] == model.predict(X)[at]
        assert float(row["probability"]) == pytest.approx(model.predict_proba(X)[at].max())
        smallest = "" if space == "pixels" else str(float(certify(model, X)[at].min()))
        assert row["smallest_radius"] == smallest


@pytest.mark.parametrize("space", ["tokens", "pixels"])
def test_commands_know_the_bounds_of_a_regressor(space, few, pictures, tmp_path, capsys):
    X, y = load_image_folder(few, image_size=12).data, np.arange(12) / 3
    net = PatchNetRegressor(max_epochs=1, module__width=4, module__hidden=8, random_state=0)
    vocabulary = PatchVocabulary(6, 4, strategy="kmeans", random_state=0)
    if space == "tokens":
        net = CertifiedPatchRegressor([("vocab", vocabulary), ("net", net)])
    save(StickerCertifiedRegressor(net, 3, n_masks=2).fit(X, y), tmp_path / "model")
    model, out = load(tmp_path / "model"), tmp_path / "out"
    found = model.certify(
        np.stack([np.asarray(Image.open(one)) / np.float32(255) for one in pictures])
    )
    assert run("certify", *pictures, "--model", tmp_path / "model", "--out", out) == 0
    assert f"mean width {(found.upper - found.lower).mean():.6g}" in capsys.readouterr().err
    for at, row in enumerate(table(out / "statistics.csv")):
        for end in ("lower", "upper"):
            assert float(row[end]) == found[end][at]
            made = np.load(out / f"{at}.png.places_{end}.npy")
            np.testing.assert_array_equal(made, found[f"places_{end}"][at])
        assert float(row["prediction"]) == found.prediction[at]
        assert (out / f"{at}.png.overlay.png").exists() == (space == "tokens")
    assert run("predict", *pictures, "--model", tmp_path / "model", "--out", out / "p.csv") == 0
    for command in (["attack"], ["report", "--out", tmp_path / "page.html"]):
        assert run(*command, few, "--model", tmp_path / "model") == 2
        assert "StickerCertifiedRegressor, which knows no classes" in capsys.readouterr().err


def test_certify_goes_on(files, pictures, tmp_path, capsys, monkeypatch):
    out, calls, own = tmp_path / "out", [], StickerCertifiedClassifier.certify

    def counted(self, X, norm="l2"):
        if len(calls) == 3:
            calls.append(0)
            raise KeyboardInterrupt
        calls.append(len(X))
        return own(self, X, norm)

    monkeypatch.setattr(StickerCertifiedClassifier, "certify", counted)
    command = ("certify", *pictures, "--model", files["tokens"], "--out", out, "--no-pictures")
    assert run(*command) == 130
    assert run(*command) == 0
    assert sum(calls) == len(table(out / "statistics.csv")) == 6


@pytest.mark.parametrize("space", ["tokens", "pixels"])
def test_report_and_info(space, few, files, tmp_path, capsys):
    command = ("report", few, "--model", files[space], "--out", tmp_path / "r.html", "--json")
    for name in few.rglob("*"):  # pictures of the size that the model of pixels takes
        if name.is_file():
            Image.open(name).convert("RGB").resize((12, 12)).save(name)
    assert run(*command) == 0
    found = parsed(capsys.readouterr().out)
    assert 0 <= found["certified_against_stickers"] <= found["share_of_places"] <= 1
    assert ("mean_radius" in found) == (space == "tokens")
    page = (tmp_path / "r.html").read_text()
    assert ("one sticker of up to 3 x 3 or 1 x 5 pixels" in page) == (space == "tokens")
    assert run("info", files[space], "--json") == 0
    facts = parsed(capsys.readouterr().out)
    model = load(files[space])
    assert facts["stickers"]["masks"] == len(model.masks_)
    assert facts["stickers"]["masked"] == space
    assert (facts["expects"]["height"], facts["expects"]["channels"]) == (12, 3)
    assert ("vocabulary" in facts) == (space == "tokens")
    assert "masks" in facts["steps"]


@pytest.mark.parametrize("space", ["tokens", "pixels"])
def test_attack_says_what_the_library_says(space, files, few, tmp_path, capsys, monkeypatch):
    photos = tmp_path / "photos"
    for name in few.rglob("*.*"):
        place = photos / name.parent.name
        place.mkdir(parents=True, exist_ok=True)
        Image.open(name).convert("RGB").resize((12, 12)).save(place / f"{name.stem}.png")
    answers, quick = [], {"steps": 4, "n_places": 2}

    def spy(model, X, y, **options):
        answers.append((model, X, y, sticker_attack_accuracy(model, X, y, **options, **quick)))
        return answers[0][-1]

    monkeypatch.setattr(certified, "sticker_attack_accuracy", spy)
    command = ("attack", photos, "--model", files[space], "--images", 6, "--seed", 2, "--quiet")
    assert run(*command, "--json") == 0
    said, [(model, X, y, left)] = parsed(capsys.readouterr().out), answers
    assert said["images"] == len(X) == 6
    assert said["accuracy"] == pytest.approx(model.score(X, y))
    assert said["certified_accuracy"] == pytest.approx(sticker_accuracy(model, X, y))
    assert said["accuracy_under_attack"] == left
    assert said["certified_accuracy"] <= left <= said["accuracy"]


REFUSED = [
    (("attack", "FEW", "--eps", 1), "leave it out"),
    (("report", "FEW", "--out", "r.html", "--prediction"), "--prediction is for classifiers"),
    (("export", "--out", "n.pt2"), "export its estimator_"),
]


@pytest.mark.parametrize(("command", "says"), REFUSED)
def test_commands_that_do_not_apply_say_so(command, says, few, files, tmp_path, capsys,
                                           monkeypatch):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    command = [few if part == "FEW" else part for part in command]
    assert run(*command, "--model", files["tokens"]) == 2
    assert says in capsys.readouterr().err


def test_fit_with_a_sticker_size(few, tmp_path, capsys):
    out = tmp_path / "m.patchcert"
    options = ("--image-size", 12, "--tokens", 6, "--epochs", 1, "--quiet", "--json")
    assert run("fit", few, "--out", out, *options, "--sticker-size", 2, "--masks", 2) == 0
    card = parsed(capsys.readouterr().out)
    assert card["options"]["sticker_size"] == 2
    model = load(out)
    assert model._sticker_sizes() == [(2, 2)]
    assert len(model.masks_) == 4
    assert model.estimator_.steps[-1][1].mask_training is None
    paths = sorted(str(path) for path in few.rglob("*") if path.is_file())
    assert model.certify(paths[:2]).places.shape == (2, 3, 3)
    assert run("fit", few, "--out", tmp_path / "n", *options, "--masks", 2) == 2
    assert "--masks belongs to --sticker-size" in capsys.readouterr().err
    for hidden in ((12,), (7,), (2, "--masks", 1)):
        assert run("fit", few, "--out", tmp_path / "n", *options, "--sticker-size", *hidden) == 2
        assert "hides all 3 x 3 patches" in capsys.readouterr().err
