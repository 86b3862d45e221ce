"""Every public function that takes images refuses what is none, in words that speak of images."""

import re
import tempfile
from functools import cache, partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.dummy import DummyClassifier

from sklearn_patchcert import (
    CertifiedCommittee,
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
    SmoothedClassifier,
    StickerCertifiedClassifier,
)
from sklearn_patchcert.attacks import run_attack, run_sticker_attack
from sklearn_patchcert.displays import (
    CertificateDisplay,
    CertifiedAccuracyDisplay,
    TokenUsageDisplay,
    VocabularyDisplay,
)
from sklearn_patchcert.outofcore import certify_to
from sklearn_patchcert.scorers import (
    certified_accuracy,
    patch_certificate,
    robustness_report,
    smoothing_accuracy,
)

Image = pytest.importorskip("PIL.Image")

N, HEIGHT, WIDTH = 6, 16, 20
LABELS = np.arange(N) % 2


def images():
    return np.random.default_rng(0).integers(0, 256, (N, HEIGHT, WIDTH, 3), dtype=np.uint8)


def vocabulary():
    return PatchVocabulary(4, 4, strategy="kmeans", max_iter=1, random_state=0)


def net(kind=PatchNetClassifier):
    return kind(max_epochs=1, module__width=2, module__hidden=2, random_state=0)


def classifier(*before):
    last = ("clf", net())
    return CertifiedPatchClassifier([*before, ("vocab", vocabulary()), last])


def regressor():
    return CertifiedPatchRegressor([("vocab", vocabulary()), ("clf", net(PatchNetRegressor))])


def scaled():
    return classifier(("scale", ChannelStandardizer()))


def smoothed():
    return SmoothedClassifier(net(), sigma=1.0, n0=2, n=4, random_state=0)


def committee():
    def member():
        return CertifiedPatchClassifier([("vocab", vocabulary()), ("clf", DummyClassifier())])

    return CertifiedCommittee([("one", member()), ("two", member())])


def stickers(make=net):
    return StickerCertifiedClassifier(make(), 1, n_masks=2)


MODELS = {
    "vocabulary": vocabulary,
    "standardizer": ChannelStandardizer,
    "network": net,
    "regression": partial(net, PatchNetRegressor),
    "classifier": classifier,
    "scaled": scaled,
    "regressor": regressor,
    "smoothed": smoothed,
    "committee": committee,
    "stickers": stickers,
    "stickers on tokens": partial(stickers, classifier),
}


@cache
def fitted(name):
    return MODELS[name]().fit(images(), LABELS)


def certify_into_a_file(model, X):
    with tempfile.TemporaryDirectory() as folder:
        try:
            return np.array(certify_to(model, X, Path(folder) / "radii.npy"))
        except Exception:
            assert not list(Path(folder).iterdir())  # a refusal leaves nothing
            raise


def entry(name, method, *args, **options):
    return lambda X: getattr(fitted(name), method)(X, *args, **options)


def function(call, name, *args, **options):
    return lambda X: call(fitted(name), X, *args, **options)


FITS = {name: (lambda X, make=make: make().fit(X, LABELS)) for name, make in MODELS.items()}
FITS["partial"] = lambda X: vocabulary().partial_fit(X)
FITS["partial network"] = lambda X: net().partial_fit(X, LABELS)
FITS["fit_transform"] = lambda X: vocabulary().fit_transform(X)

STREAMS = {  # which take an iterator of batches on purpose
    "vocabulary.certify": entry("vocabulary", "certify"),
    "vocabulary.tokenize": entry("vocabulary", "tokenize"),
    "classifier.certify": entry("classifier", "certify"),
    "scaled.certify": entry("scaled", "certify"),
    "regressor.certify": entry("regressor", "certify"),
    "VocabularyDisplay": function(VocabularyDisplay.from_estimator, "vocabulary"),
    "TokenUsageDisplay": function(TokenUsageDisplay.from_estimator, "vocabulary"),
}
ASKS = {
    **STREAMS,
    "vocabulary.transform": entry("vocabulary", "transform"),
    "vocabulary.partial_fit": lambda X: vocabulary().fit(images()).partial_fit(X),
    "stickers.predict": entry("stickers", "predict"),
    "stickers.certify": entry("stickers", "certify"),
    "stickers on tokens.predict": entry("stickers on tokens", "predict"),
    "stickers on tokens.certify": entry("stickers on tokens", "certify"),
    "standardizer.transform": entry("standardizer", "transform"),
    "standardizer.inverse_transform": entry("standardizer", "inverse_transform"),
    "network.predict": entry("network", "predict"),
    "network.predict_proba": entry("network", "predict_proba"),
    "network.score": entry("network", "score", LABELS),
    "regression.predict": entry("regression", "predict"),
    "classifier.predict": entry("classifier", "predict"),
    "classifier.predict_proba": entry("classifier", "predict_proba"),
    "classifier.score": entry("classifier", "score", LABELS),
    "classifier.certify_prediction": entry(
        "classifier", "certify_prediction", max_configurations=2
    ),
    "scaled.predict": entry("scaled", "predict"),
    "scaled.certify_prediction": entry("scaled", "certify_prediction", max_configurations=2),
    "regressor.predict": entry("regressor", "predict"),
    "smoothed.predict": entry("smoothed", "predict"),
    "smoothed.certify": entry("smoothed", "certify"),
    "smoothed.score": entry("smoothed", "score", LABELS),
    "committee.predict": entry("committee", "predict"),
    "committee.certify_prediction": entry("committee", "certify_prediction", max_configurations=2),
    "certify_to": partial(certify_into_a_file, fitted("vocabulary")),
    "certify_to scaled": partial(certify_into_a_file, fitted("scaled")),
    "run_attack": function(run_attack, "classifier", LABELS, "noise", eps=1.0),
    "run_sticker_attack": function(
        run_sticker_attack, "classifier", LABELS, 2, steps=1, n_places=1
    ),
    "robustness_report": function(robustness_report, "classifier", LABELS, eps=1.0),
    "patch_certificate": function(patch_certificate, "classifier"),
    "certified_accuracy": function(
        certified_accuracy, "classifier", LABELS, radius=1.0, max_configurations=2
    ),
    "smoothing_accuracy": function(smoothing_accuracy, "classifier", LABELS, sigma=1.0, n=4),
    "CertificateDisplay": function(CertificateDisplay.from_estimator, "classifier"),
    "CertifiedAccuracyDisplay": function(
        CertifiedAccuracyDisplay.from_estimator, "classifier", LABELS, max_configurations=2
    ),
}


SOME = (
    "vocabulary.transform", "scaled.certify", "classifier.predict", "standardizer.transform",
    "network.predict_proba", "smoothed.predict", "certify_to", "patch_certificate",
    "CertificateDisplay", "CertifiedAccuracyDisplay",
)  # fmt: skip


def pictures(*modes):
    return [Image.new(modes[at % len(modes)], (WIDTH, HEIGHT), at) for at in range(N)]


def loader():
    data = torch.utils.data.TensorDataset(torch.from_numpy(images()), torch.from_numpy(LABELS))
    return torch.utils.data.DataLoader(data, batch_size=2)


MIXED = [*images()[:-1], images()[0, :12]]
NO_IMAGES = {  # what is no batch of images at all: X, error, and what the error says
    "mixed sizes": (lambda: MIXED, ValueError, r"\(16, 20, 3\).*X\[5\].*\(12, 20, 3\).*Resize"),
    "mixed lists": (
        lambda: [image.tolist() for image in MIXED], ValueError, r"X\[5\].*\(12, 20, 3\).*Resize",
    ),
    "objects": (
        lambda: np.array([*MIXED, None], dtype=object)[:-1], ValueError, r"X\[5\].*Resize",
    ),
    "loader": (loader, TypeError, "DataLoader.*np.concatenate"),
    "dataset": (lambda: loader().dataset, TypeError, "TensorDataset.*np.concatenate"),
    "sparse": (
        lambda: scipy.sparse.csr_matrix(images().reshape(N, -1)), TypeError, r"[Ss]parse.*toarray",
    ),
    "texts": (lambda: ["a.png"] * N, ValueError, "texts.*a.png.*not convert"),
    "array of texts": (lambda: np.full((N, 4), "a"), ValueError, "texts.*not convert"),
    "path": (lambda: Path("photos"), TypeError, "Path.*read the images"),
    "dict": (lambda: {"X": images()}, TypeError, "got dict"),
    "None": (lambda: None, TypeError, "got NoneType"),
    "picture": (lambda: pictures("RGB")[0], TypeError, "single picture.*list"),
    "modes": (lambda: pictures("RGB", "L"), ValueError, "one mode, got L, RGB.*convert"),
    "palette": (lambda: pictures("P"), ValueError, "mode 'P'.*convert"),
    "no images": (
        lambda: images()[:0], ValueError, r"0 sample|no images|sizes that are|samples: .0, 6",
    ),
    "list of batches": (lambda: [images(), images()], ValueError, r"single images.*concatenate"),
}  # fmt: skip
WRONG = "height {}, width {} and {} channel"
TAKEN = {  # what some of them take
    ("path", "certify_to"), ("path", "certify_to scaled"),
    ("None", "VocabularyDisplay"), ("None", "TokenUsageDisplay"),
}  # fmt: skip
CHANNELS_FIRST = r"np\.moveaxis\(X, 1, -1\)"
OTHER_LAYOUTS = {  # images of a shape that the fitted model does not know, and what is said
    "size": (
        lambda: images()[:, :12], [WRONG.format(12, 20, 3), WRONG.format(16, 20, 3), "Resize"],
    ),
    "channels first": (
        lambda: np.moveaxis(images(), -1, 1),
        [WRONG.format(3, 16, 20), WRONG.format(16, 20, 3), CHANNELS_FIRST],
    ),
    "first, and of another size": (lambda: np.moveaxis(images()[:, :12], -1, 1), [CHANNELS_FIRST]),
    "one image": (lambda: images()[0], [r"single image.*X\[np\.newaxis\]"]),
    "one, channels first": (
        lambda: np.moveaxis(images()[0], -1, 0), [r"np\.moveaxis\(X, 0, -1\)\[np\.newaxis\]"],
    ),
    "gray": (lambda: images()[..., 0], [WRONG.format(16, 20, 1), "Convert.*3 channels"]),
}  # fmt: skip
UNLIKELY = {  # at fit
    "channels first": (lambda: np.moveaxis(images(), -1, 1), CHANNELS_FIRST),
    "gray channels first": (lambda: images()[:, None, :, :, 0], CHANNELS_FIRST),
    "one image": (lambda: np.random.default_rng(0).random((32, 32, 3)), r"X\[np\.newaxis\]"),
}


@pytest.fixture(autouse=True)
def _no_figures_are_left():
    yield
    plt.close("all")


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_what_is_no_image_is_refused_everywhere(kind):
    make, error, message = NO_IMAGES[kind]
    for name, call in {**FITS, **ASKS}.items():
        if (kind, name) in TAKEN:
            continue
        said = refusal(call, make(), error)
        assert re.search(message, said, re.DOTALL), (name, said)


def refusal(call, X, error):
    """What the error of a call says; nothing where there is none."""
    try:
        call(X)
    except error as refused:
        return str(refused)
    return ""


def test_streams_are_for_methods_that_read_them_piece_by_piece():
    for name, call in {**FITS, **ASKS}.items():
        if name in STREAMS:
            call(batch for batch in np.split(images(), 2))
            continue
        said = refusal(call, (batch for batch in np.split(images(), 2)), TypeError)
        assert re.search("generator|all images at once", said), (name, said)


@pytest.mark.parametrize("kind", OTHER_LAYOUTS)
def test_images_of_another_layout_are_told_as_such(kind):
    make, messages = OTHER_LAYOUTS[kind]
    for name, call in ASKS.items():
        if kind == "one image" and name == "CertificateDisplay":
            continue  # which draws it
        said = refusal(call, make(), ValueError)
        if not (len(make()) != N and re.search("inconsistent numbers|labels, but", said)):
            assert all(re.search(message, said) for message in messages), (name, said)


@pytest.mark.parametrize("kind", UNLIKELY)
def test_fit_refuses_axes_in_another_order(kind):
    make, message = UNLIKELY[kind]
    X = make()
    y = np.arange(len(X)) % 2
    for name, model in MODELS.items():
        if name == "smoothed":
            continue  # its classifier says it
        said = refusal(lambda X, m=model: m().fit(X, y), X, ValueError)
        assert re.search(message, said), (name, said)
    said = vocabulary().set_params(image_shape=X.shape[1:])
    model = CertifiedPatchClassifier([("vocab", said), ("clf", net())]).fit(X, y)
    assert model.certify(X).shape[0] == len(X)
    assert model["vocab"].image_shape_ == (*X.shape[1:], 1)[:3]


@pytest.mark.parametrize(
    "shape", [(5, 4, 4, 8), (5, 1, 1, 9), (5, 3, 3, 7), (5, 6, 7, 8), (5, 3, 4, 2), (9, 8, 3)]
)
def test_small_maps_of_many_channels_are_what_they_are(shape):
    X = np.random.default_rng(0).random(shape)
    assert PatchVocabulary(2, 2, random_state=0).fit(X).image_shape_ == (*shape[1:], 1)[:3]


def test_tokens_for_images_of_any_size_know_their_channels():
    own = PatchVocabulary.from_tokens(np.eye(12), patch_size=2)
    with pytest.raises(ValueError, match=f"20 channels.*made for 3.*{CHANNELS_FIRST}"):
        own.certify(np.moveaxis(images(), -1, 1))
    many = PatchVocabulary.from_tokens(np.eye(20), patch_size=1)
    assert many.certify(np.moveaxis(images(), -1, 1)).shape == (N, 3, HEIGHT)


def test_rows_keep_scikit_learns_words():
    rows = np.random.default_rng(0).random((4, 64))
    model = vocabulary().fit(rows)
    with pytest.raises(ValueError, match="X has 63 features, but PatchVocabulary is expecting 64"):
        model.certify(rows[:, :63])
    with pytest.raises(ValueError, match=r"X has 8 features, but.*X\[np\.newaxis\]"):
        model.certify(rows[0].reshape(8, 8))


@pytest.mark.parametrize("kind", ["list", "tuple", "objects", "pictures", "series"])
def test_lists_of_images_of_one_size_are_images(kind):
    X = images()
    given = {
        "list": list(X),
        "tuple": tuple(X),
        "objects": np.array([*X, None], dtype=object)[:-1],
        "pictures": [Image.fromarray(x) for x in X],
        "series": pd.Series(list(X)),
    }[kind]
    for name in SOME:
        expected, found = ASKS[name](X), ASKS[name](given)
        if isinstance(expected, np.ndarray | float):
            np.testing.assert_array_equal(found, expected, err_msg=name)
        plt.close("all")
    for make in (vocabulary, net, scaled, smoothed):
        assert make().fit(given, LABELS).input_dtype_ == "uint8"


class Subclass(torch.Tensor):
    """As the images of torchvision."""


def tensor(X):
    return torch.from_numpy(X).as_subclass(Subclass)


def same(expected, found, name):
    kinds = np.ndarray | float | int | dict | tuple
    if isinstance(expected, dict):
        expected, found = (tuple(got[key] for key in expected) for got in (expected, found))
    if isinstance(expected, tuple):
        for one, other in zip(expected, found, strict=True):
            same(one, other, name)
    elif isinstance(expected, kinds):
        np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize("name", sorted({*ASKS} - {"robustness_report"}))  # takes seconds
def test_tensors_are_images(name):
    X = images()
    same(ASKS[name](X), ASKS[name](tensor(X)), name)
    if name in STREAMS and "Display" not in name:
        half = np.array_split(X, 2)
        same(ASKS[name](iter(half)), ASKS[name](map(tensor, half)), name)


@pytest.mark.parametrize("name", FITS)
def test_tensors_train_what_arrays_train(name):
    expected, found = (FITS[name](X) for X in (images(), tensor(images())))
    if hasattr(expected, "input_dtype_"):
        assert found.input_dtype_ == expected.input_dtype_
    if hasattr(expected, "predict"):
        np.testing.assert_array_equal(found.predict(images()), expected.predict(images()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_tensors_of_any_kind_of_float_hold_what_they_hold(dtype):
    X = torch.rand(N, HEIGHT, WIDTH, 1, generator=torch.manual_seed(0)).to(dtype)
    wide = X.to(torch.promote_types(dtype, torch.float32)).numpy()
    model = vocabulary().fit(wide)
    np.testing.assert_array_equal(model.certify(X.requires_grad_()), model.certify(wide))
    np.testing.assert_array_equal(model.certify(list(X)), model.certify(wide))


def test_gray_pictures_are_gray_images():
    gray = pictures("L")
    assert vocabulary().fit(gray).image_shape_ == (HEIGHT, WIDTH, 1)


@pytest.mark.parametrize("name", ["vocabulary", "standardizer", "classifier", "scaled"])
def test_frames_hold_rows_only(name):
    X, remedy = images(), r'rows.*X\.reshape\(len\(X\), -1\).*set_output\(transform="default"\)'
    model = MODELS[name]().set_output(transform="pandas")
    with pytest.raises(ValueError, match=remedy):
        model.fit(X, LABELS).transform(X)
    if name in ("vocabulary", "standardizer"):
        model.set_params(image_shape=X.shape[1:]).fit(X)
        assert isinstance(model.transform(X.reshape(N, -1)), pd.DataFrame)
    if name == "vocabulary":
        assert isinstance(model.set_params(output="ids").transform(X), pd.DataFrame)
