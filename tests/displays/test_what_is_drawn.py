"""Pictures tell the truth: on a page or in a column, nothing is cut, hidden or left unsaid."""

from itertools import combinations
from unittest.mock import patch

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.text import Text
from pictures_for_tests import vocabulary
from sklearn.dummy import DummyClassifier, DummyRegressor

from sklearn_patchcert import (
    CertificateDisplay,
    CertifiedAccuracyDisplay,
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    ParetoDisplay,
    PatchVocabulary,
    TokenUsageDisplay,
    VocabularyDisplay,
)

LONG = np.array([f"European fire salamander, number {label}" for label in range(10)])
COLUMN, PAGE = 3.35, (7.5, 10.0)  # inches


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def gray(digits):
    return digits[0][:100].reshape(-1, 8, 8)


@pytest.fixture(scope="module")
def classifier(gray, digits):
    steps = [("vocab", vocabulary()), ("clf", DummyClassifier(strategy="constant", constant=3))]
    return CertifiedPatchClassifier(steps).fit(gray, digits[1][:100])


def cases():
    """What each display draws of much and of little: (name, function of plot options)."""
    rng = np.random.default_rng(0)
    images, radii = rng.random((100, 8, 12)), rng.gamma(2, 1, (100, 2, 3))
    labels, truth = LONG[np.arange(100) % 10], LONG[np.arange(100) % 7]

    def maps(n, **given):
        arrays = images[:n], images[:n], radii[:n]
        return lambda **o: CertificateDisplay.from_radii(*arrays, patch_size=(4, 4), **given, **o)

    told = {"predictions": labels, "y": truth, "names": [f"a/b/{i}.png" for i in range(100)]}
    few = {name: values[:2] for name, values in told.items()}
    curves = {name: np.append(rng.gamma(2, 1, 60), [99, -1, np.inf]) for name in "ab"}
    uppers, limited = {"a": curves["a"] * 1.2}, {"a": curves["a"] > 1}
    counts = rng.geometric(0.01, 60) ** 3
    tokens = rng.random((60, 16))
    scores, groups = rng.random((2, 30)), LONG[np.arange(30) % 3]
    return {
        "one": maps(1),
        "two": maps(2, **few),
        "four squares": lambda **o: CertificateDisplay.from_radii(
            *(images[:4, :, :8],) * 2,
            radii[:4, :, :2] / 9,
            patch_size=(4, 4),
            predictions=np.arange(4),
            y=[0, 1, 0, 0],
            **o,
        ),
        "hundred": maps(100, **told),
        "overlays": maps(100, **told, columns=["overlay"]),
        "histogram": maps(100, kind="histogram"),
        "accuracy": lambda **o: CertifiedAccuracyDisplay.from_results(
            curves, uppers, limited=limited, norm="l2", **o
        ),
        "pareto": lambda **o: ParetoDisplay.from_scores(*scores, groups=groups, **o),
        "usage": lambda **o: TokenUsageDisplay.from_counts(counts, **o),
        "tokens": lambda **o: VocabularyDisplay.from_tokens(tokens, counts, patch_size=(4, 4), **o),
        "tokens in a row": lambda **o: VocabularyDisplay.from_tokens(
            tokens, patch_size=(4, 4), columns=1, **o
        ),
    }


CASES = cases()
CURVES = "histogram", "accuracy", "pareto", "usage"


def drawn_texts(display):
    """Every text that is really drawn, with its box in pixels."""
    found, draw = {}, Text.draw

    def record(text, renderer, *args, **options):
        if text.get_visible() and text.get_text().strip():
            found[text] = text.get_window_extent(renderer)
        return draw(text, renderer, *args, **options)

    with patch.object(Text, "draw", record):
        display.figure_.canvas.draw()
    return found


def overlap(a, b):
    wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return wide > 1 and high > 1


def faults(display):
    texts, whole = drawn_texts(display), display.figure_.bbox
    found = []
    for text, box in texts.items():
        says = text.get_text()
        if text.get_fontsize() < 6:
            found.append(f"{text.get_fontsize()} points: {says}")
        if box.x0 < -1 or box.y0 < -1 or box.x1 > whole.x1 + 1 or box.y1 > whole.y1 + 1:
            found.append(f"cut: {says}")
        for ax in display.figure_.axes:
            if ax is not text.axes and overlap(box, ax.get_window_extent()):
                found.append(f"under other axes: {says}")
    for (one, a), (other, b) in combinations(texts.items(), 2):
        if overlap(a, b):
            found.append(f"overlap: {one.get_text()!r} and {other.get_text()!r}")
    return found


@pytest.mark.parametrize("width", [None, COLUMN], ids=["page", "column"])
@pytest.mark.parametrize("case", CASES)
def test_every_text_can_be_read_and_the_figure_fits_a_page(case, width):
    height = {"hundred": 8.0, "four squares": 4.2}.get(case, 3.0)
    size = {} if width is None else {"figsize": (width, height)}
    if case == "overlays" or (width is not None and case == "hundred"):
        size["max_images"] = 6
    display = CASES[case](**size)
    width, height = display.figure_.get_size_inches()
    assert width <= PAGE[0]
    assert height <= PAGE[1]
    assert faults(display) == []


@pytest.mark.parametrize("size", [(6.4, 4.8), (COLUMN, 2.5)], ids=["usual", "column"])
@pytest.mark.parametrize("case", CURVES)
def test_labels_are_not_cut_in_axes_of_the_users(case, size):
    _, ax = pyplot.subplots(figsize=size)
    assert faults(CASES[case](ax=ax)) == []


def test_faults_are_seen():
    figure, ax = pyplot.subplots(figsize=(2, 2))
    ax.set(xticks=[], yticks=[], xlabel="a very long label that is cut on both its sides")
    ax.text(0.5, 0.5, "one", fontsize=5)
    ax.text(0.5, 0.5, "other")
    figure.add_axes((0.5, 0.5, 0.1, 0.1))

    class Display:
        figure_ = figure

    assert {fault.split(":")[0] for fault in faults(Display)} == {
        "cut",
        "overlap",
        "5.0 points",
        "under other axes",
    }


def test_of_many_images_some_are_drawn_and_how_many_is_said(gray, classifier):
    display = CertificateDisplay.from_estimator(classifier, gray, max_images=10)
    assert display.axes_.shape == display.im_.shape == (10, 3)
    assert display.text_.get_text() == "showing 10 of 100 images"
    assert len(display.radii) == 100  # all are certified
    lefts = {round(ax.get_position().x0, 3) for ax in display.axes_[:, 0]}
    assert len(lefts) > 1  # beside each other
    assert CertificateDisplay.from_estimator(classifier, gray[:10]).text_ is None
    _, axes = pyplot.subplots(2, 3)
    own = CertificateDisplay.from_estimator(classifier, gray, max_images=2, ax=axes)
    assert "showing 2 of 100 images" in own.axes_[1, 0].get_xlabel()
    with pytest.raises(ValueError, match="do not fit"):
        CertificateDisplay.from_estimator(classifier, gray, max_images=100, figsize=(2, 2))
    for bad in (0, 2.5, None):
        with pytest.raises(ValueError, match="max_images"):
            CertificateDisplay.from_estimator(classifier, gray, max_images=bad)


def test_predictions_truth_and_smallest_radius_are_written(gray, classifier, digits):
    y = digits[1][:4]  # 0, 1, 2, 3, and the prediction is 3
    display = CertificateDisplay.from_estimator(classifier, gray[:4], y)
    smallest = classifier.certify(gray[:4]).min(axis=(1, 2))
    for at, row in enumerate(display.axes_):
        expected = f"predicted 3\n{'true' if at == 3 else 'wrong, true'} {at}"
        assert row[0].get_xlabel() == expected
        below = row[2].get_xlabel()
        assert below.startswith("smallest ")
        assert below.endswith(f" {smallest[at]:.3g}")
    colors = [row[0].xaxis.label.get_color() for row in display.axes_]
    assert colors[0] == colors[1] == colors[2] != colors[3]
    frames = [row[0].spines["left"].get_edgecolor() for row in display.axes_]
    assert frames[0] != frames[3]
    named = CertificateDisplay.from_estimator(
        classifier, gray[:1], [3], display_labels=LONG, names=["a.png"], columns=["map"]
    )
    lines = named.ax_.get_xlabel().split("\n")
    assert lines[0] == "a.png"
    assert lines[1].startswith("predicted European fire")
    assert lines[2].startswith("true European fire")
    assert lines[3] == f"smallest radius {smallest[0]:.3g}"
    plain = CertificateDisplay.from_estimator(vocabulary().fit(gray), gray[:1])
    assert plain.axes_[0, 0].get_xlabel() == ""


def test_numbers_that_are_predicted_are_not_marked(gray):
    steps = [("vocab", vocabulary()), ("reg", DummyRegressor())]
    y = np.linspace(0, 1, 100)
    model = CertifiedPatchRegressor(steps).fit(gray, y)
    display = CertificateDisplay.from_estimator(model, gray[:1], y[:1])
    assert display.ax_.get_xlabel() == "predicted 0.5\ntrue 0"


@pytest.mark.parametrize("option", ["y", "names", "display_labels"])
def test_captions_of_another_length(gray, classifier, option):
    with pytest.raises(ValueError, match=option):
        CertificateDisplay.from_estimator(classifier, gray[:2], **{option: ["a"]})
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("per_channel", [False, True])
def test_one_image_is_an_image(channels, per_channel):
    shape = (8, 8) if channels is None else (8, 8, channels)
    X = np.random.default_rng(0).random((20, *shape))
    model = vocabulary(per_channel=per_channel, patch_size=4).fit(X)
    one = CertificateDisplay.from_estimator(model, X[7])
    batch = CertificateDisplay.from_estimator(model, X[7:8])
    np.testing.assert_array_equal(one.radii, batch.radii)
    np.testing.assert_array_equal(one.images, batch.images)
    made = batch.discretised.reshape(X[7].shape)
    again = CertificateDisplay.from_radii(X[7], made, batch.radii[0], patch_size=(4, 4))
    for ours, theirs in zip(again.im_[0], batch.im_[0], strict=True):
        np.testing.assert_array_equal(ours.get_array(), theirs.get_array())


def test_one_image_of_tokens_of_the_users():
    own = PatchVocabulary.from_tokens(np.eye(12)[:3], patch_size=2)
    image = np.random.default_rng(0).random((4, 6, 3))
    assert CertificateDisplay.from_estimator(own, image).images.shape == (1, 4, 6, 3)


@pytest.mark.parametrize(
    ("images", "radii"),
    [
        ((2, 8, 8), (2, 3, 3)),
        ((2, 8, 8), (1, 2, 2)),
        ((8, 8), (4, 4)),
        ((2, 8, 8, 3, 1), (2, 2, 2)),
    ],
)
def test_radii_that_do_not_fit(images, radii):
    images = np.zeros(images)
    with pytest.raises(ValueError, match="do not fit each other"):
        CertificateDisplay.from_radii(images, images, np.ones(radii), patch_size=(4, 4))
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("bad", [np.nan, -1.0])
def test_radii_that_are_no_radii(bad):
    image = np.zeros((8, 8))
    with pytest.raises(ValueError, match="from 0 on"):
        CertificateDisplay.from_radii(image, image, np.full((2, 2), bad), patch_size=(4, 4))


@pytest.mark.parametrize("full", [1.0, 255.0])
def test_colors_with_alpha_lie_on_white(full):
    rgb = np.array([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]]).repeat(2, axis=0)
    alpha = np.array([1.0, 0.5, 0.0, 1.0])[None, :, None].repeat(2, axis=0)
    image = full * np.concatenate([rgb, alpha], axis=2)
    display = CertificateDisplay.from_radii(image, image, np.ones((1, 2)), patch_size=(2, 2))
    expected = [[1, 0, 0], [0.5, 1, 0.5], [1, 1, 1], [0, 0, 0]]
    for picture in display.im_[0, :2]:
        np.testing.assert_allclose(picture.get_array(), [expected] * 2)
    tokens = image.reshape(1, -1)
    gallery = VocabularyDisplay.from_tokens(tokens, patch_size=(2, 4))
    drawn = {tuple(color) for color in np.asarray(gallery.im_.get_array()).reshape(-1, 3)}
    assert {tuple(map(float, color)) for color in expected} <= drawn
    assert gallery.colorbar_ is None


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_channels_of_which_the_mean_is_drawn_are_named(channels):
    X = np.random.default_rng(0).random((3, 4, 4, channels))
    display = CertificateDisplay.from_radii(X, X, np.ones((3, 2, 2)), patch_size=(2, 2))
    tokens = VocabularyDisplay.from_tokens(X.reshape(3, -1), patch_size=(4, 4))
    titles = [display.axes_[0, 0].get_title(), display.axes_[0, 1].get_title()]
    note = f"mean of {channels} channels"
    for title in [*titles, tokens.ax_.get_title()]:
        assert (note in title) == (channels in (2, 7))
    assert note not in display.axes_[0, 2].get_title()


def test_scales_have_units(gray, classifier):
    display = CertificateDisplay.from_estimator(classifier, gray[:1], units="gray levels")
    label = display.colorbar_.ax.get_ylabel().replace("\n", " ")
    assert label == "L2 radius of a patch [gray levels]"
    gallery = VocabularyDisplay.from_estimator(classifier, units="gray levels")
    assert gallery.colorbar_.ax.get_ylabel() == "value [gray levels]"
    tokens = classifier["vocab"].vocabulary_
    assert gallery.colorbar_.mappable.get_clim() == (tokens.min(), tokens.max())
    part = VocabularyDisplay.from_estimator(classifier, n_tokens=2)
    assert part.ax_.get_title().startswith("2 of 6 tokens")
    curve = CertifiedAccuracyDisplay.from_results({"a": [1.0]}, norm="linf", units="gray levels")
    assert curve.ax_.get_xlabel() == "Linf radius, gray levels"
    with pytest.raises(ValueError, match="norm must be"):
        CertifiedAccuracyDisplay.from_results({"a": [1.0]}, norm="l3")


def legend(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_an_outlier_does_not_squash_the_curves():
    radii = np.append(np.linspace(0, 2, 59), 1000.0)
    display = CertifiedAccuracyDisplay.from_results({"a": radii})
    end = display.ax_.get_xlim()[1]
    assert 2 <= end <= 2.2
    assert legend(display) == [f"a\n1 of 60 images beyond {end:.3g}"]
    even = CertifiedAccuracyDisplay.from_results({"a": radii[:-1]})
    assert legend(even) == ["a"]
    assert even.ax_.get_xlim() == (0, end)
    histogram = CertificateDisplay.from_radii(
        np.zeros((60, 2, 2)), np.zeros((60, 2, 2)), radii[:, None, None], patch_size=2 * (2,),
        kind="histogram",
    )  # fmt: skip
    assert histogram.ax_.get_xlim() == (0, 2)
    assert legend(histogram)[0] == "patches (1 beyond 2)"
    wide = CertifiedAccuracyDisplay.from_results({"b": [9.0]}, ax=display.ax_)
    assert wide.ax_.get_xlim()[1] > 9  # and the axes of several displays end where all do


def test_an_attack_that_finds_nothing_or_all_is_seen():
    radii = np.linspace(0.1, 1, 10)
    for uppers in (radii, np.full(10, np.inf)):
        display = CertifiedAccuracyDisplay.from_results({"a": radii}, {"a": uppers})
        line, attack = display.lines_["a"], display.attack_lines_["a"]
        assert attack.get_zorder() > line.get_zorder()
        assert attack.get_linewidth() < line.get_linewidth()
        assert attack.is_dashed()
        assert attack.get_xdata()[[0, -1]].tolist() == [0, display.ax_.get_xlim()[1]]
        assert legend(display) == ["a", "a, attack"]
    assert (attack.get_ydata() == 1).all()
    assert attack.get_ydata().max() < display.ax_.get_ylim()[1]


def test_images_without_a_bound_are_on_the_curve_up_to_its_end():
    display = CertifiedAccuracyDisplay.from_results({"a": [1.0, np.inf]})
    line = display.lines_["a"]
    assert line.get_xdata()[-1] == display.ax_.get_xlim()[1]
    assert line.get_ydata()[-1] == 0.5


def test_images_whose_search_was_stopped_are_counted():
    radii = {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0]}
    display = CertifiedAccuracyDisplay.from_results(radii, limited={"a": [True, False, True]})
    assert legend(display) == ["a\n2 of 3 stopped by the budget", "b"]
    with pytest.raises(ValueError, match="limited without radii"):
        CertifiedAccuracyDisplay.from_results(radii, limited={"c": [True]})
    for what in ("limited", "uppers"):
        with pytest.raises(ValueError, match=f"{what} of 'a' must have the shape"):
            CertifiedAccuracyDisplay.from_results(radii, **{what: {"a": [1.0]}})


def test_a_single_token_in_use_is_drawn():
    display = TokenUsageDisplay.from_counts([4, 0, 0])
    assert display.lines_[0].get_marker() == "."


@pytest.mark.parametrize("case", ["two", *CURVES, "tokens"])
def test_nothing_is_black_on_black(case):
    with pyplot.style.context("dark_background"):
        display = CASES[case]()
        for ax in display.figure_.axes:
            lines = {str(line.get_color()) for line in ax.get_lines()}
            assert not lines & {"k", "black"}
            texts = [ax.title, ax.xaxis.label, ax.yaxis.label]
            assert "black" not in {text.get_color() for text in texts}


def test_axes_and_a_size_of_the_users():
    _, ax = pyplot.subplots()
    for case in [*CURVES, "tokens"]:
        with pytest.raises(ValueError, match="not both"):
            CASES[case](ax=ax, figsize=(3, 3))
