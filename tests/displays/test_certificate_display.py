"""CertificateDisplay: what is drawn is what is certified."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from pictures_for_tests import render, vocabulary
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler

from sklearn_patchcert import (
    CertificateDisplay,
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchVocabulary,
    SmoothedClassifier,
)
from sklearn_patchcert.voronoi.certificate import NORMS


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def gray(digits):
    return digits[0][:100].reshape(-1, 8, 8)


@pytest.fixture(scope="module")
def colour():
    rng = np.random.default_rng(0)
    return rng.normal([0, 5, -30], [1, 10, 0.1], size=(30, 7, 8, 3))


def drawn(display):
    """The arrays in the three columns, and what their colours mean."""
    columns = [[ax.get_images()[0] for ax in column] for column in display.axes_.T]
    return [np.ma.stack([image.get_array() for image in column]) for column in columns]


@pytest.mark.parametrize("norm", NORMS)
def test_a_vocabulary_is_drawn_as_it_certifies(gray, norm):
    model = vocabulary().fit(gray)
    display = CertificateDisplay.from_estimator(model, gray[:3], norm=norm, units="gray levels")
    render(display)
    assert display.axes_.shape == (3, 3)
    np.testing.assert_array_equal(display.images, gray[:3].reshape(display.images.shape))
    made = display.discretised.reshape(3, 8, 8)
    np.testing.assert_array_equal(made, model.transform(gray[:3]))
    np.testing.assert_array_equal(display.radii, model.certify(gray[:3], norm))
    images, tokens, radii = drawn(display)
    np.testing.assert_array_equal(radii, display.radii)
    # images and tokens on one scale of grays, so that they can be compared by eye
    np.testing.assert_allclose(images, np.repeat(gray[:3, :, :, None] / 16, 3, axis=3))
    np.testing.assert_allclose(tokens, np.repeat(np.clip(made / 16, 0, 1)[..., None], 3, axis=3))
    name = {"l2": "L2", "linf": "Linf", "l1": "L1"}[norm]
    label = display.colorbar_.ax.get_ylabel()
    assert name in label
    assert "[gray levels]" in label


def test_all_maps_share_the_scale_of_the_colour_bar(gray):
    model = vocabulary().fit(gray)
    display = CertificateDisplay.from_estimator(model, gray[:4])
    limits = {ax.get_images()[0].get_clim() for ax in display.axes_[:, 2]}
    assert limits == {(0, display.radii.max())}
    assert (display.colorbar_.vmin, display.colorbar_.vmax) == (0, display.radii.max())
    assert display.axes_[0, 2].get_images()[0].get_cmap().name == "viridis"
    other = CertificateDisplay.from_estimator(model, gray[:1], cmap="magma")
    assert other.axes_[0, 2].get_images()[0].get_cmap().name == "magma"


def test_the_map_lies_over_the_pixels_of_its_patches(gray):
    display = CertificateDisplay.from_estimator(vocabulary().fit(gray), gray[:1])
    picture, _, radii = (ax.get_images()[0] for ax in display.axes_[0])
    left, right, bottom, top = radii.get_extent()
    # patches of 3 on 8 pixels: the map is 9 wide, and cut where the image ends
    assert (left, right, bottom, top) == (-0.5, 8.5, 8.5, -0.5)
    assert (display.axes_[0, 2].get_xlim(), display.axes_[0, 2].get_ylim()) == (
        display.axes_[0, 0].get_xlim(),
        display.axes_[0, 0].get_ylim(),
    )
    assert picture.get_extent() == [-0.5, 7.5, 7.5, -0.5]


@pytest.mark.parametrize(
    ("scaler", "layout"),
    [
        (StandardScaler(), "rows"),
        (MinMaxScaler((-3, 9)), "rows"),
        (ChannelStandardizer(), "rows"),
        (ChannelStandardizer(), "images"),  # scikit-learn's scalers take rows only
    ],
)
def test_behind_a_scaler_everything_is_in_the_units_of_the_input(gray, scaler, layout):
    X = gray if layout == "images" else gray.reshape(100, 64)
    steps = [("scale", scaler), ("vocab", vocabulary()), ("clf", DummyClassifier())]
    model = CertifiedPatchClassifier(steps).fit(X, np.arange(100) % 2)
    display = CertificateDisplay.from_estimator(model, X[:3], norm="linf")
    render(display)
    made = model["vocab"].transform(model["scale"].transform(X[:3]))
    expected = model["scale"].inverse_transform(made).reshape(3, 8, 8)
    np.testing.assert_allclose(display.discretised.reshape(3, 8, 8), expected, atol=1e-12)
    np.testing.assert_array_equal(display.images.reshape(3, 8, 8), gray[:3])
    np.testing.assert_array_equal(display.radii, model.certify(X[:3], "linf"))
    # tokens are averages of patches: they look like the images, not like what the step makes
    assert np.abs(display.discretised.reshape(3, 8, 8) - gray[:3]).mean() < 4


@pytest.mark.parametrize("per_channel", [False, True, "shared"])
@pytest.mark.parametrize("scaled", [False, True])
def test_colour(colour, per_channel, scaled):
    step = vocabulary(per_channel=per_channel)
    scale = ("scale", ChannelStandardizer() if scaled else "passthrough")
    steps = [scale, ("vocab", step), ("clf", DummyClassifier())]
    model = CertifiedPatchClassifier(steps).fit(colour, np.arange(30) % 2)
    display = CertificateDisplay.from_estimator(model, colour[:2])
    render(display)
    certified = model.certify(colour[:2])
    assert certified.shape == ((2, 3, 3) if per_channel is False else (2, 3, 3, 3))
    smallest = certified if per_channel is False else certified.min(axis=-1)
    images, tokens, radii = drawn(display)
    np.testing.assert_array_equal(radii, smallest)
    np.testing.assert_array_equal(display.radii, certified)  # all of them are kept
    low, high = colour[:2].min(), colour[:2].max()
    np.testing.assert_allclose(images, (colour[:2] - low) / (high - low))
    made = model[:-1].transform(colour[:2])
    if scaled:
        made = model["scale"].inverse_transform(made)
    np.testing.assert_allclose(display.discretised, made, atol=1e-12)
    np.testing.assert_allclose(tokens, np.clip((made - low) / (high - low), 0, 1))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels_is_drawn(channels):
    X = np.random.default_rng(0).random((20, 6, 6, channels))
    display = CertificateDisplay.from_estimator(vocabulary().fit(X), X[:2])
    render(display)
    assert drawn(display)[0].shape == (2, 6, 6, 3)


def test_rows_are_drawn_as_the_images_that_they_are(gray, colour):
    X = gray.reshape(100, 64)
    model = vocabulary().fit(X)
    rows = CertificateDisplay.from_estimator(model, X[:2])
    images = CertificateDisplay.from_estimator(model, gray[:2])
    for first, second in zip(drawn(rows), drawn(images), strict=True):
        np.testing.assert_array_equal(first, second)
    flat = colour.reshape(30, -1)
    display = CertificateDisplay.from_estimator(
        vocabulary(image_shape=(7, 8, 3)).fit(flat), flat[:2]
    )
    render(display)
    np.testing.assert_array_equal(display.images, colour[:2])
    listed = CertificateDisplay.from_estimator(model, X[:2].tolist())
    np.testing.assert_array_equal(drawn(listed)[1], drawn(rows)[1])


def test_token_ids_as_output_are_drawn_as_images(gray):
    ids = vocabulary(output="ids").fit(gray)
    made = CertificateDisplay.from_estimator(ids, gray[:2]).discretised
    np.testing.assert_array_equal(made.reshape(2, 8, 8), vocabulary().fit(gray).transform(gray[:2]))


def test_one_image(gray):
    model = vocabulary().fit(gray)
    display = CertificateDisplay.from_estimator(model, gray[5:6])
    render(display)
    assert display.axes_.shape == (1, 3)
    np.testing.assert_array_equal(drawn(display)[2], model.certify(gray[5:6]))


def test_infinite_radii_are_left_blank(gray):
    single = vocabulary(n_tokens=1).fit(gray)
    display = CertificateDisplay.from_estimator(single, gray[:2])
    render(display)
    assert np.isinf(display.radii).all()
    # some finite, some not: the finite ones alone make the scale
    radii = np.array([[[1.0, np.inf], [0.5, 0.0]]])
    display = CertificateDisplay.from_radii(gray[:1], gray[:1], radii, patch_size=(4, 4))
    render(display)
    assert display.axes_[0, 2].get_images()[0].get_clim() == (0, 1)
    np.testing.assert_array_equal(drawn(display)[2].mask, [[[False, True], [False, False]]])


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e300])
def test_radii_of_any_size(gray, value):
    radii = np.full((1, 2, 2), value)
    render(CertificateDisplay.from_radii(gray[:1], gray[:1], radii, patch_size=(4, 4)))


def test_images_without_contrast(gray):
    flat = np.full((2, 8, 8), 7.0)
    display = CertificateDisplay.from_radii(flat, flat, np.ones((2, 2, 2)), patch_size=(4, 4))
    render(display)
    assert np.isfinite(drawn(display)[0]).all()


def test_from_radii_draws_what_it_is_given(gray):
    rng = np.random.default_rng(0)
    images, made = (rng.integers(0, 256, (3, 10, 12, 3), dtype=np.uint8) for _ in range(2))
    radii = rng.random((3, 3, 3, 3))
    display = CertificateDisplay.from_radii(
        images, made, radii, patch_size=(4, 5), norm="l1", units="counts"
    )
    render(display)
    assert display.images is images
    assert display.radii is radii
    np.testing.assert_array_equal(drawn(display)[2], radii.min(-1))
    low, high = int(images.min()), int(images.max())
    np.testing.assert_allclose(drawn(display)[0], (images - float(low)) / (high - low))
    assert display.axes_[0, 2].get_images()[0].get_extent() == [-0.5, 14.5, 11.5, -0.5]
    label = display.colorbar_.ax.get_ylabel()
    assert label.startswith("L1 ")
    assert label.endswith("[counts]")
    with pytest.raises(ValueError, match="do not fit each other"):
        CertificateDisplay.from_radii(images, made[:2], radii, patch_size=(4, 5))


def test_a_display_plots_again(gray):
    model = vocabulary().fit(gray)
    display = CertificateDisplay.from_estimator(model, gray[:2])
    first, axes = drawn(display), display.axes_
    assert display.plot(cmap="gray") is display
    assert display.axes_ is not axes
    for one, other in zip(first, drawn(display), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["pyplot", "bare", "sub"])
def test_into_a_figure_of_the_users(gray, kind):
    model = vocabulary().fit(gray)
    whole = Figure() if kind == "bare" else pyplot.figure()
    target = whole.subfigures(1, 2)[1] if kind == "sub" else whole
    open_figures = pyplot.get_fignums()
    display = CertificateDisplay.from_estimator(model, gray[:2], figure=target)
    render(display)
    assert display.figure_ is target
    assert all(ax.get_figure() is target for ax in display.axes_.ravel())
    assert pyplot.get_fignums() == open_figures  # no other is opened
    new = CertificateDisplay.from_estimator(model, gray[:2])
    assert new.figure_ is not target
    assert pyplot.get_fignums() != open_figures


def test_settings_of_matplotlib_are_left_alone(gray):
    before = dict(matplotlib.rcParams)
    CertificateDisplay.from_estimator(vocabulary().fit(gray), gray[:1])
    assert dict(matplotlib.rcParams) == before


def test_refusals(gray):
    with pytest.raises(NotFittedError):
        CertificateDisplay.from_estimator(vocabulary(), gray)
    with pytest.raises(NotFittedError):
        CertificateDisplay.from_estimator(CertifiedPatchClassifier(), gray)
    model = vocabulary().fit(gray)
    with pytest.raises(ValueError, match="norm must be one of"):
        CertificateDisplay.from_estimator(model, gray, norm="l3")
    X = gray.reshape(100, 64)
    steps = [("norm", Normalizer()), ("vocab", vocabulary()), ("clf", DummyClassifier())]
    unclear = CertifiedPatchClassifier(steps).fit(X, X[:, 0])
    with pytest.raises(TypeError, match="see through Normalizer"):
        CertificateDisplay.from_estimator(unclear, X[:2])
    known = CertifiedPatchClassifier(steps[1:]).fit(X, np.arange(len(X)) % 2)
    with pytest.raises(ValueError, match="No label of y is a class"):
        CertificateDisplay.from_estimator(known, X[:2], ["0", "1"])
    assert pyplot.get_fignums() == []


def test_tokens_of_the_users_own(gray):
    model = PatchVocabulary.from_tokens([[0.0] * 16, [16.0] * 16], patch_size=4)
    display = CertificateDisplay.from_estimator(model, gray[:2])
    render(display)
    np.testing.assert_array_equal(display.discretised.reshape(2, 8, 8), model.transform(gray[:2]))


@pytest.mark.parametrize("before", [None, StandardScaler(), ChannelStandardizer()], ids=str)
def test_display_of_frames(digits, before):
    frame = pd.DataFrame(digits[0][:100]).add_prefix("pixel")
    first = ("scale", before or "passthrough")
    steps = [first, ("vocab", vocabulary()), ("clf", DummyClassifier())]
    model = CertifiedPatchClassifier(steps).fit(frame, np.arange(100) % 2)
    CertificateDisplay.from_estimator(model, frame[:2])


def test_display_of_rows_with_own_tokens(digits):
    own = PatchVocabulary.from_tokens(np.eye(16), patch_size=4)
    CertificateDisplay.from_estimator(own, digits[0][:2])


def test_display_of_other_sizes_with_own_tokens():
    own = PatchVocabulary.from_tokens(np.eye(4), patch_size=2)
    CertificateDisplay.from_estimator(own, np.zeros((1, 3, 5)))


def test_from_radii_unknown_norm(digits):
    from matplotlib import pyplot

    pyplot.close("all")
    im = digits[0][:1].reshape(1, 8, 8)
    with pytest.raises(ValueError, match="norm"):
        CertificateDisplay.from_radii(im, im, np.ones((1, 2, 2)), patch_size=(4, 4), norm="l3")
    assert pyplot.get_fignums() == []


OTHERS = {
    "search": lambda model, X, y: GridSearchCV(model, {}, cv=2).fit(X, y),
    "pipeline": lambda model, X, y: make_pipeline(MinMaxScaler(), *model).fit(X, y),
    "dummy": lambda model, X, y: DummyClassifier().fit(X, y),
    "smoothed": lambda model, X, y: SmoothedClassifier(DummyClassifier()).fit(X, y),
    "frozen": lambda model, X, y: FrozenEstimator(model.fit(X, y)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_has_no_map_of_its_own_is_refused_with_a_way_out(digits, name):
    X, y = (part[:100] for part in digits)
    model = CertifiedPatchClassifier([("vocab", vocabulary()), ("clf", DummyClassifier())])
    other = OTHERS[name](model, X, y)
    with pytest.raises(TypeError, match=r"certify\(model, X\).*from_radii"):
        CertificateDisplay.from_estimator(other, X[:3])
