"""Scorers and what is chosen by them."""

import pickle
from functools import partial

import numpy as np
import pytest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchVocabulary,
    SmoothedClassifier,
    StickerCertifiedClassifier,
)
from sklearn_patchcert.displays import CertifiedAccuracyDisplay
from sklearn_patchcert.model_selection import best_index, pareto_front
from sklearn_patchcert.scorers import robustness_report
from sklearn_patchcert.scorers.functions import (
    certified_accuracy,
    image_certificate,
    min_patch_certificate,
    neg_reconstruction_error,
    patch_certificate,
    smoothing_accuracy,
)

SCORERS = [patch_certificate, image_certificate, min_patch_certificate, neg_reconstruction_error]


def model(*before, **options):
    vocabulary = PatchVocabulary(6, 4, strategy="kmeans", random_state=0, **options)
    steps = [(type(step).__name__, step) for step in before]
    classifier = RidgeClassifier()
    return CertifiedPatchClassifier([*steps, ("vocab", vocabulary), ("clf", classifier)])


@pytest.fixture(scope="module")
def some(digits):
    return digits[0][:200], digits[1][:200]


def test_certificates_are_statistics_of_the_map(some):
    X, y = some
    fitted = model().fit(X, y)
    radii = fitted.certify(X)
    assert patch_certificate(fitted, X, y) == radii.mean()
    assert image_certificate(fitted, X, y) == pytest.approx(radii.sum((1, 2)).mean())
    assert min_patch_certificate(fitted, X) == radii.min((1, 2)).mean()
    assert patch_certificate(fitted["vocab"], X) == radii.mean()
    assert patch_certificate(fitted, X, norm="linf") == fitted.certify(X, "linf").mean()


@pytest.mark.parametrize("before", [(), (StandardScaler(with_std=False),)])
@pytest.mark.parametrize("output", ["images", "ids"])
def test_reconstruction_error_is_that_of_the_vocabulary(some, before, output):
    X, y = some
    fitted = model(*before, output=output).fit(X, y)
    Z = X
    for step in fitted[: len(before)]:
        Z = step.transform(Z)
    vocabulary = fitted["vocab"]
    made = vocabulary.inverse_transform(vocabulary.tokenize(Z))
    wanted = np.square(Z - made).sum() / (4 * len(X))
    assert neg_reconstruction_error(fitted, X) == pytest.approx(-wanted)
    assert neg_reconstruction_error(vocabulary, Z) == pytest.approx(-wanted)


@pytest.mark.parametrize("scorer", SCORERS)
def test_subsets_are_the_same_for_everyone(some, scorer):
    X, y = some
    fitted = model().fit(X, y)
    small = partial(scorer, n_samples=20, random_state=3)
    assert small(fitted, X, y) == pickle.loads(pickle.dumps(small))(fitted, X, y)
    assert small(fitted, X, y) != scorer(fitted, X, y)
    assert scorer(fitted, X, y, n_samples=10**6) == scorer(fitted, X, y)
    assert np.isfinite(cross_val_score(model(), X, y, scoring=small, cv=2)).all()
    with pytest.raises(ValueError, match="n_samples"):
        scorer(fitted, X, y, n_samples=0)


@pytest.mark.parametrize("size", [1, 2])
def test_pixels_that_may_be_used_up_are_counted_in(digits, size):
    """A radius of 2 pixels is certified against fewer than 2, not against 2."""
    X, y = digits[0][:400], digits[1][:400]
    vocabulary = PatchVocabulary(4, 2, strategy="kmeans", random_state=0)
    steps = [("vocab", vocabulary), ("clf", RidgeClassifier())]
    fitted = CertifiedPatchClassifier(steps).fit(X[:350], y[:350])
    X, y = X[350:], y[350:]
    broken = fitted.predict(X) != y
    window = np.zeros((8, 8), dtype=bool)
    rng = np.random.default_rng(0)
    for row, column in np.ndindex(9 - size, 9 - size):
        window[:] = False
        window[row : row + size, column : column + size] = True
        for values in (0.0, 16.0, *rng.integers(0, 17, size=(3, size * size)).astype(float)):
            moved = X.copy()
            moved[:, window.ravel()] = values
            broken |= fitted.predict(moved) != y
    assert broken.mean() > fitted.score(X, y) / 10
    left = 1 - broken.mean()
    options = {"norm": "sticker", "radius": size, "max_configurations": 3000}
    assert certified_accuracy(fitted, X, y, **options) <= left
    assert certified_accuracy(fitted, X, y, **{**options, "radius": 0}) == fitted.score(X, y)
    found = fitted.certify_prediction(X, norm="sticker", max_configurations=3000)
    radii = np.where(found.prediction == y, found.radius, -1.0)
    display = CertifiedAccuracyDisplay({"model": radii}, norm="sticker")
    assert display.accuracy("model", size) == certified_accuracy(fitted, X, y, **options)
    if size == 1:  # one value is a sticker of one pixel
        assert certified_accuracy(fitted, X, y, **{**options, "norm": "l0"}) <= left
    assert certified_accuracy(fitted, X, y, norm="l0", radius=np.inf) == 0


def test_abstaining_is_wrong_whatever_the_labels(digits):
    """Also where a label that the model has never seen is the number by which it abstains."""
    X, y = digits[0][:400], digits[1][:400]
    y = np.where(y == 3, -1, y)
    small = {"module__width": 4, "module__hidden": 16}
    fitted = PatchNetClassifier(max_epochs=1, random_state=0, **small)
    fitted.fit(X[y != -1], y[y != -1])
    options = {"sigma": 100.0, "n": 50, "alpha": 1e-6}
    assert smoothing_accuracy(fitted, X[:50], y[:50], **options) == 0
    report = robustness_report(fitted, X[:50], y[:50], eps=0.0, sigma=100.0, n=20, steps=1)
    rows = report.table if isinstance(report.table, list) else report.table.to_dict("records")
    told = {row["name"]: row["accuracy"] for row in rows}
    assert told["smoothed, sigma 100, certified"] <= told["smoothed, sigma 100"] <= 10


def test_what_has_no_certificate_is_refused(some):
    X, y = some
    plain = make_pipeline(StandardScaler(), RidgeClassifier()).fit(X, y)
    smoothed = SmoothedClassifier(plain, n=10).fit(X, y)
    masked = StickerCertifiedClassifier(FrozenEstimator(plain), 1, image_shape=(8, 8)).fit(X, y)
    for model in (plain, smoothed, masked):
        with pytest.raises(TypeError, match="no certify of patches"):
            patch_certificate(model, X, y)
    with pytest.raises(TypeError, match="PatchVocabulary"):
        neg_reconstruction_error(plain, X, y)


def test_a_search_over_ablations(some, tmp_path):
    X, y = some
    pipeline = model().set_params(
        memory=str(tmp_path), vocab__max_iter=2, vocab__strategy="learned"
    )
    grid = {
        "vocab__n_tokens": [4, 8],
        "vocab__soft_temperature": [None, 0.3],
        "vocab__margin_weight": [0.0, 1.0],
    }
    search = GridSearchCV(
        pipeline,
        grid,
        scoring={"accuracy": "accuracy", "radius": patch_certificate},
        refit=partial(best_index, maximize="radius", floors={"accuracy": 0.5}),
        cv=2,
        error_score="raise",
    ).fit(X, y)
    found = search.cv_results_
    good = found["mean_test_accuracy"] >= 0.5
    assert good.any()
    assert found["mean_test_radius"][search.best_index_] == found["mean_test_radius"][good].max()
    assert patch_certificate(search, X) == search.best_estimator_.certify(X).mean()


def test_a_search_by_halving(some):
    X, y = some
    search = HalvingGridSearchCV(
        model(),
        {"vocab__n_tokens": [4, 8, 16, 24], "clf__alpha": [0.1, 10.0]},
        scoring=patch_certificate,
        cv=2,
        min_resources=40,
        error_score="raise",
        random_state=0,
    ).fit(X, y)
    found, last = search.cv_results_, search.cv_results_["iter"].max()
    assert last > 0
    survivors = found["mean_test_score"][found["iter"] == last]
    assert search.best_score_ == survivors.max()
    assert patch_certificate(search, X) == search.best_estimator_.certify(X).mean()


RESULTS = {"mean_test_a": [0.9, 0.8, 0.7], "mean_test_b": [1.0, 2.0, 3.0]}


def test_best_above_a_floor():
    assert best_index(RESULTS, maximize="b", floors={"a": 0.75}) == 1
    assert best_index(RESULTS, maximize="b", floors={}) == 2
    with pytest.warns(UserWarning, match="No candidate"):
        assert best_index(RESULTS, maximize="b", floors={"a": 0.95}) == 0
    with pytest.raises(ValueError, match=r"'a', 'b'"):
        best_index(RESULTS, maximize="c", floors={"a": 0.75})


def test_pareto_front_by_definition():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, size=(2, 40)).astype(float)
    x[0] = np.nan
    front = pareto_front(x, y)
    for i in range(len(x)):
        beaten = any(
            x[j] >= x[i] and y[j] >= y[i] and (x[j] > x[i] or y[j] > y[i]) for j in range(len(x))
        )
        assert front[i] == (not beaten and i > 0)
