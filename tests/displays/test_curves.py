"""ParetoDisplay and CertifiedAccuracyDisplay: curves are what the results say."""

import io

import numpy as np
import pytest
from matplotlib import pyplot
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import CategoricalNB
from sklearn.tree import DecisionTreeClassifier

from sklearn_patchcert import (
    CertifiedAccuracyDisplay,
    CertifiedPatchClassifier,
    ParetoDisplay,
    PatchVocabulary,
    SmoothedClassifier,
)
from sklearn_patchcert.scorers.functions import patch_certificate


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def render(display):
    display.figure_.savefig(io.BytesIO(), format="png", dpi=40)


def pipeline():
    vocabulary = PatchVocabulary(6, 4, strategy="kmeans", output="ids", random_state=0)
    return CertifiedPatchClassifier(
        [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=8))]
    )


def test_the_front_is_drawn_and_nothing_beats_it():
    x, y = np.random.default_rng(0).random((2, 30))
    groups = np.array(["a", "b", "c"])[np.arange(30) % 3]
    display = ParetoDisplay.from_scores(x, y, x_name="radius", y_name="accuracy", groups=groups)
    render(display)
    front = display.front_
    assert (np.diff(x[front]) > 0).all()
    assert (np.diff(y[front]) < 0).all()
    for index in set(range(30)) - set(front):
        assert ((x[front] >= x[index]) & (y[front] >= y[index])).any()
    steps, *points = display.ax_.get_lines()
    np.testing.assert_array_equal(steps.get_xdata(), x[front])
    for line, name in zip(points, "abc", strict=True):
        np.testing.assert_array_equal(line.get_ydata(), y[groups == name])
    assert display.ax_.get_xlabel() == "radius"
    assert display.ax_.get_ylabel() == "accuracy"


def test_the_front_of_a_search(digits):
    search = GridSearchCV(
        pipeline(),
        [{"vocab__n_tokens": [2, 4]}, {"clf__alpha": [1.0]}],
        scoring={"accuracy": "accuracy", "radius": patch_certificate},
        refit=False,
        cv=2,
    ).fit(digits[0][:300], digits[1][:300])
    _, ax = pyplot.subplots()
    display = ParetoDisplay.from_cv_results(
        search.cv_results_, "radius", "accuracy", group_by="vocab__n_tokens", ax=ax
    )
    render(display)
    assert display.ax_ is ax
    np.testing.assert_array_equal(display.x, search.cv_results_["mean_test_radius"])
    assert display.groups.tolist() == ["2", "4", "default"]
    assert display.plot() is display
    assert display.ax_ is not ax


def test_scores_of_different_lengths():
    with pytest.raises(ValueError, match="equally long"):
        ParetoDisplay.from_scores([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="equally long"):
        ParetoDisplay.from_scores([1, 2], [1, 2], groups=["a"])
    assert pyplot.get_fignums() == []


def test_curves_of_radii_that_are_known():
    radii = np.array([0.5, -1.0, 2.0, 0.25, np.inf])
    uppers = np.array([0.75, 0.0, 2.0, np.inf, np.inf])
    display = CertifiedAccuracyDisplay.from_results({"mine": radii}, {"mine": uppers}, units="px")
    render(display)
    line = display.lines_["mine"]
    for radius, share in [(0, 0.8), (0.25, 0.8), (0.26, 0.6), (0.5, 0.6), (1.9, 0.4)]:
        assert display.accuracy("mine", radius) == share
    # after a radius, the part of the images with a larger one; without a bound, to the end
    end = display.ax_.get_xlim()[1]
    np.testing.assert_allclose(line.get_xdata(), [0, 0.25, 0.5, 2.0, end])
    np.testing.assert_allclose(line.get_ydata(), [0.8, 0.6, 0.4, 0.2, 0.2])
    attack = display.ax_.get_lines()[1]
    assert attack.get_color() == line.get_color()
    assert display.ax_.get_xlabel() == "radius, px"


def test_curves_of_a_pipeline(digits):
    X, y = digits[0][:260], digits[1][:260]
    model = pipeline().fit(X[:200], y[:200])
    smoothed = SmoothedClassifier(FrozenEstimator(model), sigma=1.0, n=200, random_state=0)
    smoothed.fit(X[:200], y[:200])
    _, ax = pyplot.subplots()
    display = CertifiedAccuracyDisplay.from_estimator(
        model, X[200:], y[200:], smoothed=smoothed, name="tokens", ax=ax, max_configurations=200
    )
    render(display)
    assert display.ax_ is ax
    assert list(display.lines_) == ["tokens", "randomized smoothing"]
    assert display.accuracy("tokens", 0.0) == model.score(X[200:], y[200:])
    at = np.linspace(0, 8, 50)
    assert (np.diff(display.accuracy("tokens", at)) <= 0).all()
    lower, upper = display.radii["tokens"], display.uppers["tokens"]
    assert (upper >= lower).all()
    assert np.isfinite(upper[upper > 0]).any()
    other = CertifiedAccuracyDisplay.from_estimator(
        model, X[200:220], y[200:220], norm="linf", max_configurations=50
    )
    assert list(other.lines_) == ["CertifiedPatchClassifier"]
    assert other.uppers == {}


@pytest.mark.parametrize("bad", [[], [np.nan], [[1.0, 2.0]]])
def test_radii_that_are_none(bad):
    with pytest.raises(ValueError, match="row of radii"):
        CertifiedAccuracyDisplay.from_results({"mine": bad})
    with pytest.raises(ValueError, match="row of radii"):
        CertifiedAccuracyDisplay.from_results({"mine": [1.0]}, {"mine": bad})


def test_upper_bounds_of_no_curve():
    with pytest.raises(ValueError, match="without radii"):
        CertifiedAccuracyDisplay.from_results({"mine": [1.0]}, {"other": [1.0]})


@pytest.mark.parametrize(
    "given", [{"radii": [1.0]}, {"radii": {"a": [1.0]}, "uppers": [2.0]},
              {"radii": {"a": [1.0]}, "limited": np.array([True])}]
)  # fmt: skip
def test_rows_without_names_are_refused_with_the_form_that_has_them(given):
    name = list(given)[-1]
    with pytest.raises(TypeError, match=rf'{name} must be a dict .* \{{"mine": {name}\}}'):
        CertifiedAccuracyDisplay.from_results(**given)


@pytest.mark.parametrize("kind", ["text", "other numbers", "too few"])
def test_labels_that_are_no_classes_are_refused(digits, kind):
    X, y = digits[0][:100], digits[1][:100]
    vocabulary = PatchVocabulary(4, 2, strategy="kmeans", output="ids", random_state=0)
    steps = [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=4))]
    model = CertifiedPatchClassifier(steps).fit(X, y)
    wrong = {"text": y.astype(str), "other numbers": y + 0.5, "too few": y[:50]}[kind]
    with pytest.raises(ValueError, match=r"No label of y is a class|one entry for each"):
        CertifiedAccuracyDisplay.from_estimator(model, X, wrong, max_configurations=5)


def test_what_cannot_be_certified_says_why(digits):
    X, y = digits[0][:60], digits[1][:60]
    vocabulary = PatchVocabulary(4, 2, strategy="kmeans", output="ids", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", DecisionTreeClassifier())])
    with pytest.raises(NotFittedError):
        CertifiedAccuracyDisplay.from_estimator(model, X, y)
    model.fit(X, np.stack([y, y], axis=1))
    with pytest.raises(ValueError, match="one output"):
        CertifiedAccuracyDisplay.from_estimator(model, X, y)
