"""Labels of every kind and shape give the same number, or are refused."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.attacks.robustness import run_attack, worst_case
from sklearn_patchcert.scorers.functions import (
    attack_accuracy,
    average_certified_radius,
    certified_accuracy,
    smoothing_accuracy,
    smoothing_radius,
    sspgd_accuracy,
)
from sklearn_patchcert.scorers.reports import robustness_report

CALLS = {
    "smoothing_accuracy": lambda m, X, y: smoothing_accuracy(m, X, y, sigma=2.0, n=20),
    "smoothing_radius": lambda m, X, y: smoothing_radius(m, X, y, sigma=2.0, n=20, n0=5, alpha=0.1),
    "certified_accuracy": lambda m, X, y: certified_accuracy(
        m, X, y, radius=0.2, max_configurations=3
    ),
    "average_certified_radius": lambda m, X, y: average_certified_radius(
        m, X, y, max_configurations=3
    ),
    "sspgd_accuracy": lambda m, X, y: sspgd_accuracy(m, X, y, eps=4.0),
    "attack_accuracy": lambda m, X, y: attack_accuracy(m, X, y, eps=4.0, steps=2),
    "run_attack": lambda m, X, y: run_attack(m, X, y, "pgd", eps=40.0, steps=3).success.tolist(),
    "flips": lambda m, X, y: run_attack(
        m, X, y, "flips", eps=4.0, steps=2, greedy=0
    ).success.tolist(),
    "worst_case": lambda m, X, y: worst_case(
        m, X, y, ["noise", "sspgd"], eps=4.0, steps=2
    ).robust.tolist(),
}
KINDS = {  # labels to fit on, from the digits 0..9
    "numbers": lambda y: y,
    "floats": lambda y: y.astype(float),
    "small": lambda y: y.astype(np.uint8),
    "text": lambda y: np.array([f"digit {label}" for label in y]),
    "objects": lambda y: np.array([f"digit {label}" for label in y], dtype=object),
    "negative": lambda y: y - 20,
}
SHAPES = {
    "as they are": lambda y: y,
    "column": lambda y: y[:, None],
    "list": lambda y: y.tolist(),
    "list of lists": lambda y: y[:, None].tolist(),
    "Series": lambda y: pd.Series(y, index=np.arange(len(y))[::-1]),
    "DataFrame": lambda y: pd.DataFrame({"label": y}),
    "objects": lambda y: y.astype(object),
    "backwards": lambda y: y[::-1].copy()[::-1],
}


class RemembersCertificates(CertifiedPatchClassifier):
    """Certificates know no labels: those of the same images are computed once."""

    def certify_prediction(self, X, **options):
        known = self.__dict__.setdefault("known", {})
        key = np.asarray(X).tobytes(), *sorted(options.items())
        if key not in known:
            known[key] = super().certify_prediction(X, **options)
        return known[key]


def pipeline():
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0)
    net = PatchNetClassifier(
        max_epochs=2, batch_size=16, module__width=4, module__hidden=16, random_state=0
    )
    return RemembersCertificates([("vocab", vocabulary), ("clf", net)])


@pytest.fixture(scope="module")
def models(digits):
    X, y = digits[0][:300], digits[1][:300]
    return {kind: pipeline().fit(X, make(y)) for kind, make in KINDS.items()}


@pytest.fixture(scope="module")
def wanted(models, digits):
    X, y = digits[0][300:310], digits[1][300:310]
    return {name: call(models["numbers"], X, y) for name, call in CALLS.items()}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_label_gives_the_same_number(models, wanted, digits, kind, name):
    X, y = digits[0][300:310], KINDS[kind](digits[1][300:310])
    assert np.any(wanted[name])
    assert not np.all(np.equal(wanted[name], 1))
    shapes = SHAPES if kind in ("numbers", "text") else {"as they are": np.array}
    for shape, make in shapes.items():
        assert CALLS[name](models[kind], X, make(y)) == wanted[name], shape


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", ["numbers", "text"])
def test_labels_that_do_not_fit_are_refused(models, digits, kind, name):
    X, y = digits[0][300:306], digits[1][300:306]
    other = KINDS["text" if kind == "numbers" else "numbers"](y)
    own = KINDS[kind](y)
    for bad in (
        own[:5], np.append(own, own[:1]), own[:, None].repeat(2, 1), own[0], None, other,
        other[:, None], other.astype(object), np.array([b"0"] * 6), np.append(own[:5], [None]),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match="y"):
            CALLS[name](models[kind], X, bad)
    unknown = np.full(6, 77) if kind == "numbers" else np.full(6, "digit 77")
    with pytest.raises(ValueError, match="classes"):
        CALLS[name](models[kind], X, unknown)


@pytest.mark.parametrize("name", CALLS)
def test_a_label_that_the_model_has_never_seen_is_wrong(models, wanted, digits, name):
    X, y = digits[0][300:310].copy(), digits[1][300:310].copy()
    y[3] = 77
    found = CALLS[name](models["numbers"], X, y)
    assert np.sum(found) <= np.sum(wanted[name])
    if isinstance(found, list):
        assert not found[3]


def test_bools(digits):
    X, y = digits[0], digits[1] > 4
    models = [pipeline().fit(X[:300], labels[:300]) for labels in (y.astype(int), y)]
    for name in ("smoothing_radius", "certified_accuracy", "run_attack", "flips"):
        call = CALLS[name]
        numbers = call(models[0], X[300:310], y[300:310].astype(int))
        for shape in ("column", "objects"):
            assert call(models[1], X[300:310], SHAPES[shape](y[300:310])) == numbers, name
        assert call(models[1], X[300:310], y[300:310].astype(int)) == numbers, name


def test_the_report(models, digits):
    X, y = digits[0][300:302], digits[1][300:302]
    options = {"eps": 0.3, "steps": 1, "sigma": 1.0, "n": 20}
    numbers = robustness_report(models["numbers"], X, y, **options)
    wrapped = Pipeline([("model", FrozenEstimator(models["text"]))])
    text = robustness_report(wrapped, X, KINDS["text"](y)[:, None], **options)
    assert str(numbers) == str(text)
    np.testing.assert_array_equal(numbers.robust, text.robust)


class Reordered(ClassifierMixin, BaseEstimator):
    """A classifier whose classes are in an order of its own."""

    def __init__(self, order=(3, 1, 9, 0, 2, 8, 7, 5, 6, 4), column=False):
        self.order = order
        self.column = column

    def fit(self, X, y):
        self.inner_ = KNeighborsClassifier().fit(X, y)
        self.classes_ = self.inner_.classes_[list(self.order)]
        return self

    def predict(self, X):
        found = self.inner_.predict(X)
        return found[:, None] if self.column else found

    def predict_proba(self, X):
        return self.inner_.predict_proba(X)[:, list(self.order)]


@pytest.mark.parametrize("attack", ["noise", "square"])
@pytest.mark.parametrize("kind", ["numbers", "text"])
@pytest.mark.parametrize("column", [False, True])
def test_classes_in_an_order_of_their_own(digits, attack, kind, column):
    X, y = digits[0], KINDS[kind](digits[1])
    plain = KNeighborsClassifier().fit(X[:300], y[:300])
    other = Reordered(column=column).fit(X[:300], y[:300])
    found = [
        run_attack(model, X[300:340], y[300:340], attack, eps=25.0, steps=30)
        for model in (plain, other)
    ]
    assert found[0].success.any()
    np.testing.assert_array_equal(found[0].success, found[1].success)
    np.testing.assert_array_equal(found[0].norms, found[1].norms)


class Wide(RidgeClassifier):
    def predict(self, X):
        return np.stack([super().predict(X)] * 2, axis=1)


def test_predictions_of_another_shape_or_kind_are_refused(digits):
    X, y = digits[0][:100], digits[1][:100]
    with pytest.raises(ValueError, match="shape"):
        run_attack(Wide().fit(X, y), X[:5], y[:5], "noise", eps=1.0)
    several = KNeighborsClassifier().fit(X, np.stack([y, y], axis=1))
    with pytest.raises(ValueError, match="outputs"):
        run_attack(several, X[:5], y[:5], "noise", eps=1.0)
    with pytest.raises(ValueError, match="outputs"):
        smoothing_accuracy(several, X[:5], y[:5], sigma=1.0, n=10)


WRAPPERS = {
    "frozen": FrozenEstimator,
    "frozen twice": lambda model: FrozenEstimator(FrozenEstimator(model)),
    "one step": lambda model: Pipeline([("model", model)]),
    "with a passthrough": lambda model: Pipeline([("no", "passthrough"), ("model", model)]),
    "frozen in a pipeline": lambda model: make_pipeline(FrozenEstimator(model)),
    "nested": lambda model: Pipeline(
        [("inner", Pipeline([("vocab", model["vocab"]), ("clf", FrozenEstimator(model["clf"]))]))]
    ),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_are_looked_through(models, wanted, digits, wrapper):
    X, y = digits[0][300:310], digits[1][300:310]
    wrapped = WRAPPERS[wrapper](models["numbers"])
    for name in ("sspgd_accuracy", "flips", "certified_accuracy", "smoothing_accuracy"):
        call = CALLS[name]
        if wrapper == "nested" and "certified" in name:
            with pytest.raises(TypeError, match="certify_prediction"):
                call(wrapped, X, y)
        else:
            assert call(wrapped, X, y) == wanted[name], name


def test_searches_are_looked_through(digits):
    X, y = digits[0], digits[1]
    search = GridSearchCV(pipeline(), {"vocab__n_tokens": [6]}, cv=2).fit(X[:120], y[:120])
    for name, call in CALLS.items():
        found = [call(m, X[300:306], y[300:306]) for m in (search, search.best_estimator_)]
        assert found[0] == found[1], name
