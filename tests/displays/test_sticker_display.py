"""StickerDisplay: what is marked is what is not certified, and the sticker is drawn to scale."""

import copy

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.patches import Rectangle
from pictures_for_tests import render, vocabulary
from sklearn.exceptions import NotFittedError
from sklearn.naive_bayes import CategoricalNB, GaussianNB

from sklearn_patchcert import CertifiedPatchClassifier, StickerCertifiedClassifier, StickerDisplay
from sklearn_patchcert.displays.colors import OPEN, SAFE


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def gray(digits):
    return digits[0][:130].reshape(-1, 8, 8), digits[1][:130]


@pytest.fixture(scope="module")
def model(gray):
    steps = [("vocab", vocabulary(output="ids")), ("clf", CategoricalNB(min_categories=6))]
    return StickerCertifiedClassifier(CertifiedPatchClassifier(steps), 2).fit(
        gray[0][:100], gray[1][:100]
    )


def colors_of(display):
    """Which colors the cells of each image have, as names."""
    from matplotlib.colors import to_rgb

    names = {to_rgb(SAFE): True, to_rgb(OPEN): False}
    for row in display.axes_:
        colors = np.asarray(row[-1].get_images()[-1].get_array())[..., :3]
        yield np.array([[names[tuple(cell)] for cell in line] for line in colors.tolist()])


def frames(display, at):
    return [p for p in display.axes_[at, -1].patches if isinstance(p, Rectangle)]


def test_places_are_drawn_as_they_are_certified(model, gray):
    X, y = gray[0][100:112], gray[1][100:112]
    display = StickerDisplay.from_estimator(model, X, y, display_labels=list("abcdefghij"))
    render(display)
    found = model.certify(X)
    assert found.places.any()
    assert not found.places.all()
    for at, (drawn, places) in enumerate(zip(colors_of(display), found.places, strict=True)):
        np.testing.assert_array_equal(drawn, places)
        mark = display.marks_[at]
        assert (mark is None) == places.all()
        extent = display.axes_[at, 1].get_images()[-1].get_extent()
        assert tuple(extent) == (-0.5, 8.5, 8.5, -0.5)  # three cells of three pixels, cut at 8
        if mark is not None:  # the hatching covers the centers of just these cells
            path = mark.get_path()
            for cell in np.ndindex(3, 3):
                covered = path.contains_point((3 * cell[1] + 1, 3 * cell[0] + 1))
                assert covered != places[cell]
        caption = display.axes_[at, 0].get_xlabel()
        assert f"predicted {'abcdefghij'[found.prediction[at]]}" in caption
        share = int(100 * places.mean() + 1e-9)
        assert f"{share} %" in display.axes_[at, 1].get_xlabel()
        for frame in frames(display, at):
            assert (frame.get_width(), frame.get_height()) == (2, 2)
    texts = " ".join(text.get_text() for text in display.legend_.get_texts())
    assert "sticker of 2 x 2 pixels, to scale" in texts.replace("\n", " ")
    assert "upper left pixel" in texts.replace("\n", " ")


def test_no_share_is_rounded_up_to_all_places():
    places = np.ones((1, 100, 100), dtype=bool)
    places[0, 3, 4] = False
    display = StickerDisplay.from_places(
        np.zeros((1, 100, 100)), places, cell_size=1, sticker_size=[(4, 8), 6]
    )
    assert display.axes_[0, 1].get_xlabel().startswith("99 %")
    sizes = {(frame.get_height(), frame.get_width()) for frame in frames(display, 0)}
    assert sizes == {(4, 8), (6, 6)}
    assert {frame.get_xy() for frame in frames(display, 0)} == {(3.5, 2.5)}


def test_pixels_single_images_axes_and_several(gray):
    X, y = gray
    colors = np.stack([X, X[:, ::-1], X], axis=-1)
    model = StickerCertifiedClassifier(GaussianNB(), 1, n_masks=2, image_shape=(8, 8, 3))
    model.fit(colors.reshape(len(X), -1)[:60], y[:60])
    one = StickerDisplay.from_estimator(model, colors[100:101].reshape(1, -1))
    assert one.axes_.shape == (1, 2)
    assert one.places.shape == (1, 8, 8)
    many = StickerDisplay.from_estimator(
        model, colors[:5].reshape(5, -1), max_images=2, columns=["places"], figsize=(3.35, 4)
    )
    render(many)
    assert many.axes_.shape == (2, 1)
    assert "showing 2 of 5 images" in many.legend_.get_texts()[-1].get_text()
    figure, axes = pyplot.subplots(1, 2, squeeze=False)
    own = StickerDisplay.from_estimator(model, colors[100:101].reshape(1, -1), ax=axes)
    render(own)
    assert own.figure_ is figure
    assert own.legend_ is None
    assert "not certified" in own.text_.get_text().replace("\n", " ")


def test_what_does_not_fit_is_refused(model, gray):
    images, places = np.zeros((2, 8, 8)), np.ones((2, 4, 4), dtype=bool)
    draw, numbers = StickerDisplay.from_places, 1.0 * places
    for some, cells, cell in ((images, places, 3), (images[:1], places, 2), (images, numbers, 2),
                              (np.zeros(8), places, 2)):  # fmt: skip
        with pytest.raises(ValueError, match="do not fit each other"):
            draw(some, cells, cell_size=cell, sticker_size=2)
    for size in (0, (2, 3, 4), 1.5, []):
        with pytest.raises(ValueError, match="sticker_size must be positive"):
            draw(images, places, cell_size=2, sticker_size=size)
    with pytest.raises(ValueError, match="columns must be"):
        draw(images, places, cell_size=2, sticker_size=2, columns=["map"])
    with pytest.raises(ValueError, match="one entry for each"):
        draw(images, places, cell_size=2, sticker_size=2, y=[1])
    with pytest.raises(TypeError, match="best_estimator_"):
        StickerDisplay.from_estimator(model.estimator_, gray[0][:1])
    with pytest.raises(NotFittedError):
        StickerDisplay.from_estimator(StickerCertifiedClassifier(GaussianNB()), gray[0][:1])


def test_a_size_that_was_changed_after_fit_is_not_drawn(model, gray):
    other = copy.deepcopy(model).set_params(sticker_size=7)
    with pytest.raises(ValueError, match="changed after fit"):
        StickerDisplay.from_estimator(other, gray[0][:1])
