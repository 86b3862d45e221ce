"""Every public function that takes images refuses what is none, in words that speak of images."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from image_inputs_for_tests import (
    ASKS,
    FITS,
    HEIGHT,
    LABELS,
    MODELS,
    STREAMS,
    WIDTH,
    N,
    images,
    net,
    scaled,
    smoothed,
    vocabulary,
)

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchVocabulary,
)

Image = pytest.importorskip("PIL.Image")


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
