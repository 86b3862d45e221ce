"""CertificateDisplay: overlays, histograms, and axes of the user's."""

import numpy as np
import pytest
from matplotlib import pyplot
from pictures_for_tests import render, vocabulary

from sklearn_patchcert import CertificateDisplay


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def gray(digits):
    return digits[0][:100].reshape(-1, 8, 8)


def test_an_overlay_is_the_map_over_the_image(gray):
    model = vocabulary().fit(gray)
    display = CertificateDisplay.from_estimator(
        model, gray[:2], columns=["overlay", "map"], alpha=0.3, cmap="magma"
    )
    render(display)
    assert display.axes_.shape == (2, 2)
    titles = [ax.get_title() for ax in display.axes_[0]]
    assert titles == ["radius over image", "certified radius"]
    for (overlay, plain), radii in zip(display.axes_, display.radii, strict=True):
        _, over = overlay.get_images()
        np.testing.assert_array_equal(over.get_array(), radii)
        assert over.get_alpha() == 0.3
        (alone,) = plain.get_images()
        assert over.get_extent() == alone.get_extent()
        assert over.get_clim() == alone.get_clim()
        assert over.get_cmap() == alone.get_cmap() == display.colorbar_.cmap
    # the image below keeps the order of its grays
    first = display.axes_[0, 0].get_images()[0].get_array()[..., 0]
    np.testing.assert_allclose(first, 0.3 + 0.7 * gray[0] / gray[:2].max())


def test_colours_may_end_below_the_largest_radius(gray):
    model = vocabulary().fit(gray)
    display = CertificateDisplay.from_estimator(model, gray[:2], vmax=0.5)
    render(display)
    assert display.axes_[1, 2].get_images()[0].get_clim() == (0, 0.5)
    assert display.colorbar_.extend == "max"
    assert CertificateDisplay.from_estimator(model, gray[:2]).colorbar_.extend == "neither"


def test_without_a_map_there_is_no_colour_bar(gray):
    model = vocabulary().fit(gray)
    display = CertificateDisplay.from_estimator(model, gray[:2], columns=["image"])
    render(display)
    assert display.colorbar_ is None
    assert display.axes_.shape == (2, 1)


def test_the_histogram_counts_every_patch_and_every_image(gray):
    radii = vocabulary().fit(gray).certify(gray)
    display = CertificateDisplay.from_radii(
        gray, gray, radii, patch_size=(3, 3), kind="histogram", bins=10, units="gray levels"
    )
    render(display)
    assert display.axes_.shape == (1, 1)
    assert display.ax_.get_xlabel() == "L2 radius of a patch [gray levels]"
    edges = np.linspace(0, radii.max(), 11)
    for container, values in zip(
        display.ax_.patches, [radii.ravel(), radii.reshape(100, -1).min(1)], strict=True
    ):
        heights = container.get_xy()[1:-1:2, 1][:10]
        np.testing.assert_allclose(heights, np.histogram(values, edges)[0] / len(values))
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == ["patches", "smallest of an image"]


def test_the_histogram_says_how_many_radii_are_infinite(gray):
    radii = np.array([[[1.0, np.inf], [0.5, 0.0]], [[np.inf] * 2] * 2])
    display = CertificateDisplay.from_radii(
        gray[:2], gray[:2], radii, patch_size=(4, 4), kind="histogram"
    )
    render(display)
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == ["patches (62% infinite)", "smallest of an image (50% infinite)"]
    single = vocabulary(n_tokens=1).fit(gray)
    render(CertificateDisplay.from_estimator(single, gray[:2], kind="histogram"))


def test_into_axes_of_the_users(gray):
    model = vocabulary().fit(gray)
    figure, axes = pyplot.subplots(2, 3)
    display = CertificateDisplay.from_estimator(model, gray[:2], ax=axes)
    render(display)
    assert display.figure_ is figure
    assert (display.axes_ == axes).all()
    _, ax = pyplot.subplots()
    for options in ({"kind": "histogram"}, {"columns": ["overlay"]}):
        one = CertificateDisplay.from_estimator(model, gray[:1], ax=ax, **options)
        assert one.ax_ is ax
    with pytest.raises(ValueError, match="2 x 3 axes"):
        display.plot(ax=ax)
    with pytest.raises(ValueError, match="not both"):
        display.plot(ax=axes, figure=figure)


def test_unknown_kinds_of_pictures(gray):
    model = vocabulary().fit(gray)
    with pytest.raises(ValueError, match="kind must be"):
        CertificateDisplay.from_estimator(model, gray[:1], kind="pie")
    with pytest.raises(ValueError, match="columns must be"):
        CertificateDisplay.from_estimator(model, gray[:1], columns=["tokens"])
    with pytest.raises(ValueError, match="columns must be"):
        CertificateDisplay.from_estimator(model, gray[:1], columns=[])
    assert pyplot.get_fignums() == []
