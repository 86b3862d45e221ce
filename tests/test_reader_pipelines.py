"""A pipeline that begins with an ImageReader: on paths it is what it is on the images."""

import copy
import json
import re
import zipfile
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pipelines_for_tests import net, vocabulary
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_sample_image
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import CategoricalNB

import sklearn_patchcert
from sklearn_patchcert import (
    CertificateDisplay,
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    ChannelStandardizer,
    ImageReader,
    StickerCertifiedClassifier,
    StickerDisplay,
    load,
    save,
    write_report,
)
from sklearn_patchcert.attacks import run_attack
from sklearn_patchcert.cli import main
from sklearn_patchcert.files.archive import ModelFileError
from sklearn_patchcert.scorers import (
    attack_accuracy,
    certified_accuracy,
    patch_certificate,
    robustness_report,
    sticker_accuracy,
    sticker_attack_accuracy,
)

SIZE = 12
CLASSES = {"flower": load_sample_image("flower.jpg"), "temple": load_sample_image("china.jpg")}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Paths of 24 pictures of several sizes and formats, their labels, and them as images."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    paths, labels = [], []
    for at in range(24):
        name = sorted(CLASSES)[at % 2]
        height, width = rng.integers(20, 60, 2)
        top, left = rng.integers(0, 300), rng.integers(0, 500)
        path = folder / f"{at:02}.{('jpg', 'png', 'webp')[at % 3]}"
        Image.fromarray(CLASSES[name][top:, left:][:height, :width]).save(path)
        paths.append(str(path))
        labels.append(name)
    return np.array(paths), np.array(labels), ImageReader(SIZE).transform(paths)


def bayes(**options):
    ids = vocabulary(n_tokens=6, patch_size=4, output="ids")
    steps = [("reader", ImageReader(SIZE, **options)), ("vocab", ids)]
    return CertifiedPatchClassifier([*steps, ("clf", CategoricalNB(min_categories=6))])


def network(*before, **options):
    tokens = vocabulary(n_tokens=6, patch_size=4)
    steps = [("reader", ImageReader(SIZE)), *before, ("vocab", tokens), ("clf", net(**options))]
    return CertifiedPatchClassifier(steps)


MODELS = {
    "bayes": bayes,
    "network": network,
    "standardized": lambda: network(("scale", ChannelStandardizer())),
    "disturbed": lambda: network(flip_radius=0.5, noise_std=0.1),
    "frozen reader": lambda: bayes().set_params(reader=FrozenEstimator(ImageReader(SIZE))),
    "regressor": lambda: CertifiedPatchRegressor([*bayes().steps[:2], ("clf", Ridge())]),
}


def test_stickers_are_on_the_images_that_the_reader_makes(photos):
    paths, labels, images = photos
    model = StickerCertifiedClassifier(bayes(), 2).fit(paths, labels)
    assert model.image_shape_ == images.shape[1:]
    found, same = model.certify(paths[:4]), model.certify(images[:4])
    for name in ("prediction", "places", "radii"):
        np.testing.assert_array_equal(found[name], same[name])
    np.testing.assert_array_equal(model.predict(paths[:4]), found.prediction)
    for tool in (sticker_accuracy, partial(sticker_attack_accuracy, steps=1, n_places=1)):
        assert tool(model, paths[:4], labels[:4]) == tool(model, images[:4], labels[:4])
    shown = [StickerDisplay.from_estimator(model, some[:4]) for some in (paths, images)]
    np.testing.assert_array_equal(shown[0].images, shown[1].images)
    np.testing.assert_array_equal(shown[0].places, shown[1].places)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    path = tmp_path_factory.mktemp("broken") / "broken.jpg"
    path.write_bytes(b"no picture")
    return str(path)


@pytest.fixture(scope="module")
def fitted(photos):
    return network().fit(photos[0], photos[1])


def answers(model, X, y):
    """All that a model can say of images, by name."""
    found = {"predict": model.predict(X), "score": model.score(X, y)}
    for name in ("predict_proba", "predict_log_proba", "decision_function"):
        if hasattr(model, name):
            found[name] = getattr(model, name)(X)
    for norm in ("l2", "linf", "l1"):
        found[f"certify {norm}"] = model.certify(X, norm)
    found["witness"] = model.certify(X[:5], return_witness=True)[1].perturbation
    if hasattr(model, "certify_prediction"):
        whole = model.certify_prediction(X[:3], max_configurations=20)
        found |= {f"whole {key}": whole[key] for key in ("radius", "upper", "prediction")}
    return found


def same(first, second):
    assert set(first) == set(second)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_paths_are_what_their_images_are(photos, name):
    paths, y, images = photos
    y = images.mean((1, 2, 3)) if name == "regressor" else y
    of_paths, of_images = MODELS[name]().fit(paths, y), MODELS[name]().fit(images, y)
    expected = answers(of_images, images, y)
    for model, X in ((of_paths, paths), (of_paths, images), (of_images, paths)):
        same(answers(model, X, y), expected)
    for attribute in ("input_range_", "input_dtype_"):
        assert getattr(of_paths, attribute) == getattr(of_images, attribute)
    assert of_paths["vocab"].image_shape_ == of_images["vocab"].image_shape_ == (SIZE, SIZE, 3)


def test_paths_of_every_kind(photos, fitted):
    paths, _, images = photos
    frame = pd.DataFrame({"path": paths})
    expected = fitted.predict(images), fitted.certify(images)
    for X in (list(paths), paths.astype(object), frame, frame["path"], paths[:, None]):
        np.testing.assert_array_equal(fitted.predict(X), expected[0])
        np.testing.assert_array_equal(fitted.certify(X), expected[1])
        np.testing.assert_array_equal(sklearn_patchcert.certify(fitted, X), expected[1])
    batches = np.array_split(paths, 5)
    np.testing.assert_array_equal(fitted.certify(iter(batches)), expected[1])
    np.testing.assert_array_equal(sklearn_patchcert.certify(fitted, iter(batches)), expected[1])


def test_the_size_can_be_searched(photos):
    paths, y, _ = photos
    search = GridSearchCV(
        bayes(),
        {"reader__image_size": [8, 12], "vocab__n_tokens": [4, 6]},
        cv=2,
        scoring={"accuracy": "accuracy", "radius": patch_certificate},
        refit="accuracy",
        error_score="raise",
    ).fit(paths, y)
    best = search.best_estimator_
    size = search.best_params_["reader__image_size"]
    assert best["vocab"].image_shape_ == (size, size, 3)
    same({"": search.predict(paths)}, {"": best.predict(ImageReader(size).transform(paths))})
    radii = sklearn_patchcert.certify(search, paths)
    np.testing.assert_array_equal(radii, best.certify(paths))
    assert radii.shape == (len(paths), size // 4, size // 4)
    calibrated = CalibratedClassifierCV(bayes(), cv=2).fit(paths, y)
    np.testing.assert_array_equal(
        sklearn_patchcert.certify(calibrated, paths),
        np.min([c.estimator.certify(paths) for c in calibrated.calibrated_classifiers_], axis=0),
    )


@pytest.mark.parametrize("way", ["file", "joblib", "clone"])
def test_the_reader_goes_where_the_model_goes(photos, fitted, tmp_path, way):
    paths, y, _ = photos
    reader = ImageReader((SIZE, 16), mode="L", resize="pad", background="#ff0000", on_error="warn")
    model = network().set_params(reader=reader).fit(paths, y)
    if way == "clone":
        other = clone(model).fit(paths, y)
    else:
        store, read = (save, load) if way == "file" else (joblib.dump, joblib.load)
        store(model, tmp_path / "model")
        other = read(tmp_path / "model")
    assert other["reader"].get_params() == reader.get_params()
    same(answers(other, paths, y), answers(model, paths, y))
    assert other.input_range_ == model.input_range_
    assert other.input_dtype_ == model.input_dtype_ == "float32"


HOSTILE = {
    "image_size": [0, -1, True, 2**40, "64", [8, 8, 8], 1.5], "mode": ["RGBA", 1, None],
    "resize": ["fit", 0], "interpolation": ["cubic", None], "n_jobs": ["2", 1.5],
    "background": ["whitish", "url(x)", None, 3], "on_error": ["ignore", False],
}  # fmt: skip


def rewritten(source, target, change):
    """A copy of a model file whose description went through `change`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith(".json"):
                data = json.dumps(change(json.loads(data))).encode()
            new.writestr(name, data)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_with_another_reader_is_refused(fitted, tmp_path, name):
    save(fitted, tmp_path / "model.patchcert")

    for value in HOSTILE[name]:
        changed = []

        def change(thing, value=value, changed=changed):
            if isinstance(thing, dict):
                if name in thing and "on_error" in thing:
                    changed.append(thing[name])
                    return {**thing, name: value}
                return {key: change(one) for key, one in thing.items()}
            return [change(one) for one in thing] if isinstance(thing, list) else thing

        rewritten(tmp_path / "model.patchcert", tmp_path / "bad.patchcert", change)
        assert changed
        with pytest.raises(ModelFileError):
            load(tmp_path / "bad.patchcert")


def test_a_file_that_cannot_be_read_is_left_out_aloud_or_refused(photos, broken):
    paths, y, images = photos
    model = bayes(on_error="warn").fit(paths, y)
    X = [paths[0], broken, *paths[1:]]
    for ask in (
        model.predict, model.predict_proba, model.certify,
        lambda X: model.certify(X, return_witness=True)[0],
        lambda X: model.certify_prediction(X, max_configurations=20).radius,
        lambda X: sklearn_patchcert.certify(model, X),
    ):  # fmt: skip
        with pytest.warns(UserWarning, match=re.escape(broken)):
            found = ask(X)
        np.testing.assert_array_equal(found, ask(images))
    labels = np.array([y[0], "flower", *y[1:]])
    cautious = bayes(on_error="warn")
    with pytest.raises(ValueError, match=r"broken\.jpg.*load_image_folder"):
        cautious.fit(X, labels)
    assert not hasattr(cautious["vocab"], "vocabulary_")
    for judge in (
        model.score,
        lambda X, y: certified_accuracy(model, X, y, radius=0.1),
    ):
        with pytest.raises(ValueError, match=r"broken\.jpg"):
            judge(X, labels)
    for ask in (bayes().fit(paths, y).predict, bayes().fit(paths, y).certify):
        with pytest.raises(ValueError, match=r"broken\.jpg: it is no picture"):
            ask(X)


def test_attacks_reports_and_pictures_take_paths(photos, fitted):
    paths, y, images = photos
    both = [
        (
            run_attack(fitted, X, y, "pgd", eps=0.5, steps=2).adversarial,
            attack_accuracy(fitted, X, y, eps=0.5, attack_list=["pgd"], steps=2),
            certified_accuracy(fitted, X[:6], y[:6], radius=0.1, max_configurations=20),
            robustness_report(fitted, X[:2], y[:2], eps=0.5, steps=1).robust,
            CertificateDisplay.from_estimator(fitted, X[:2]).radii,
        )
        for X in (paths, images)
    ]
    assert both[1][0].shape == images.shape
    for of_paths, of_images in zip(*both, strict=True):
        np.testing.assert_array_equal(of_paths, of_images)


def test_cross_validation_on_paths(photos):
    paths, y, images = photos
    expected = cross_val_score(bayes(), images, y, cv=3, error_score="raise")
    frame = pd.DataFrame({"path": paths})
    for X in (list(paths), frame, frame["path"]):
        found = cross_val_score(bayes(), X, y, cv=3, error_score="raise")
        np.testing.assert_array_equal(found, expected)


def test_a_reader_that_is_not_first_is_refused(photos):
    paths, y, _ = photos
    steps = bayes().steps
    model = CertifiedPatchClassifier([steps[1], steps[0], steps[2]])
    with pytest.raises(ValueError, match="'reader' reads files, so it must be the first"):
        model.fit(paths, y)


def test_what_a_model_saw_is_told_to_who_brings_another(photos, fitted):
    _, _, images = photos
    eight = (images * 255).astype(np.uint8)
    for ask in (fitted.predict, fitted.certify, fitted.predict_proba):
        model = copy.copy(fitted)  # each warns once
        with pytest.warns(UserWarning, match=r"from 0 to 2\d\d,.* from 0 to 0\.9"):
            getattr(model, ask.__name__)(eight)
        for X, told in (
            (images[:, :8], "height 8, width 12 and 3.*height 12, width 12 and 3"),
            (images[..., :1], "1 channel.*3 channels"),
            (images[..., 0], "1 channel.*3 channels"),
        ):
            with pytest.raises(ValueError, match=told):
                ask(X)


def test_readers_that_make_different_images_have_no_common_map(photos):
    paths, y, images = photos
    other = bayes(interpolation="nearest")
    voting = VotingClassifier([("one", bayes()), ("two", other)]).fit(paths, y)
    with pytest.raises(TypeError, match="readers"):
        sklearn_patchcert.certify(voting, paths)
    assert (sklearn_patchcert.certify(voting, images) > 0).any()  # images are images
    same_way = VotingClassifier([("one", bayes()), ("two", bayes(n_jobs=2))]).fit(paths, y)
    np.testing.assert_array_equal(
        sklearn_patchcert.certify(same_way, paths), sklearn_patchcert.certify(same_way, images)
    )


@pytest.mark.parametrize("way", ["frozen", "behind nothing"])
def test_the_page_and_the_command_read_as_the_model_does(photos, tmp_path, way, capsys):
    paths, y, _ = photos
    model = bayes(mode="L", resize="stretch")
    name, own = model.steps[0]
    first = [(name, FrozenEstimator(own))] if way == "frozen" else [("no", None), (name, own)]
    model = CertifiedPatchClassifier([*first, *model.steps[1:]]).fit(paths, y)
    found = write_report(model, paths, y, tmp_path / "page.html")
    smallest = model.certify(paths).reshape(len(paths), -1).min(1)
    np.testing.assert_array_equal(found.smallest, smallest)
    sklearn_patchcert.save(model, tmp_path / "model.patchcert")
    command = ["predict", *map(str, paths), "--model", str(tmp_path / "model.patchcert"), "--json"]
    assert main(command) == 0
    told = {
        row["file"]: row["smallest_radius"] for row in json.loads(capsys.readouterr().out)["images"]
    }
    assert sorted(told.values()) == sorted(smallest.tolist())
