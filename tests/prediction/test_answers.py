"""Which answers count: not those at a tie, all that are far from one, and each is `predict`'s."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from sklearn_patchcert import PatchNetClassifier
from sklearn_patchcert.networks import outputs
from sklearn_patchcert.prediction.answers import reader
from sklearn_patchcert.prediction.consistency import _differ
from sklearn_patchcert.prediction.score_errors import (
    computes_by_row,
    decisive,
    few_rows,
    linear,
    probabilities,
)


def blobs(n_classes=3, n=60, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    centers = 4 * np.eye(4)[:n_classes]
    return (centers[y] + rng.normal(size=(n, 4))).astype(dtype), y


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Flat(nn.Sequential):
    def __init__(self, n_outputs=3):
        super().__init__(nn.Flatten(), nn.Linear(4, n_outputs))


class One(Flat):
    def __init__(self):
        super().__init__(1)

    def forward(self, X):
        return super().forward(X)[:, 0]


def skorch_net(kind=NeuralNetClassifier, module=Flat, **options):
    if kind is NeuralNetClassifier:
        options["criterion"] = nn.CrossEntropyLoss
    return kind(module, train_split=None, verbose=0, max_epochs=20, lr=0.1, **options)


LOGISTIC = LogisticRegression(max_iter=500)
KNOWN = {
    "logistic": LOGISTIC,
    "ridge": RidgeClassifier(),
    "tree": DecisionTreeClassifier(max_depth=2, random_state=0),
    "forest": RandomForestClassifier(5, max_depth=2, random_state=0),
    "constant": DummyClassifier(),
    "frozen": FrozenEstimator(LOGISTIC),
    "search": GridSearchCV(LOGISTIC, {}, cv=2),
    "pipeline": make_pipeline(StandardScaler(), LOGISTIC),
    "soft vote": VotingClassifier(
        [("a", LOGISTIC), ("b", "drop"), ("c", RandomForestClassifier(3, random_state=0))],
        voting="soft", weights=[1, 9, 3],
    ),
    "hard vote": VotingClassifier([("a", LOGISTIC), ("b", RidgeClassifier())]),
    "neighbors": KNeighborsClassifier(3),
    "network": PatchNetClassifier(Flat, max_epochs=20, lr=0.1, random_state=0),
    "skorch network": skorch_net(),
}  # fmt: skip
UNKNOWN = {
    "Bayes": GaussianNB(),
    "discriminant": LinearDiscriminantAnalysis(),
    "weighted neighbors": KNeighborsClassifier(3, weights="distance"),
    "vote of the unknown": VotingClassifier([("a", LOGISTIC), ("b", GaussianNB())], voting="soft"),
}
SCORED = {name: KNOWN[name] for name in KNOWN if name not in ("ridge", "hard vote", "neighbors")}


def fit(estimator, X, y):
    if isinstance(estimator, FrozenEstimator):
        return FrozenEstimator(LogisticRegression(max_iter=500).fit(X, y))
    with torch.random.fork_rng():  # skorch draws from the global generator
        torch.manual_seed(0)
        return estimator.fit(X, y)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", [*KNOWN, *UNKNOWN])
def test_answers_are_those_of_predict_and_far_from_a_tie_they_count(name, n_classes):
    X, y = blobs(n_classes, dtype=np.float32 if "network" in name else np.float64)
    model = fit({**KNOWN, **UNKNOWN}[name], X, y)
    before = X.copy()
    labels, sure = reader(model)(X)
    np.testing.assert_array_equal(labels, model.predict(X))
    np.testing.assert_array_equal(X, before)
    assert sure.shape == (60,)
    assert sure.mean() > 0.9
    none, sure = reader(model)(X[:1])
    assert len(none) == len(sure) == 1


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", SCORED)
def test_probabilities_are_those_of_the_estimator(name, n_classes):
    X, y = blobs(n_classes, dtype=np.float32 if "network" in name else np.float64)
    model = fit(SCORED[name], X, y)
    values, error = probabilities(model)(X)
    assert np.abs(values - model.predict_proba(X)).max() <= error.min() + 1e-15
    assert error.shape == (60,)
    if name != "forest":  # of which some rows are certain in every tree
        assert ((error > 0) == (name not in ("tree", "constant"))).all()
    assert error.max() < (1e-9 if name in ("tree", "forest", "constant") else 0.01)


def test_probabilities_of_a_network_with_one_output():
    X, y = blobs(2, dtype=np.float32)
    model = fit(skorch_net(NeuralNetBinaryClassifier, One), X, y.astype(np.float32))
    values, error = probabilities(model)(X)
    assert np.abs(values - model.predict_proba(X)).max() <= error.min()


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", [n for n in KNOWN if n not in ("hard vote", "neighbors")])
def test_predict_takes_the_largest_of_the_decisive_scores(name, n_classes):
    X, y = blobs(n_classes, dtype=np.float32 if "network" in name else np.float64)
    model = fit(KNOWN[name], X, y)
    values, _ = decisive(model)(X)
    np.testing.assert_array_equal(values.argmax(1), model.predict(X))


@pytest.mark.parametrize("kind", [*UNKNOWN, "hard vote", "neighbors"])
def test_no_scores_of_what_is_not_understood(kind):
    model = {**KNOWN, **UNKNOWN}[kind].fit(*blobs())
    assert decisive(model) is None
    assert probabilities(model) is None
    assert linear(model) is None


def test_who_computes_every_row_by_itself():
    for strategy, told in [("prior", True), ("most_frequent", True), ("constant", True),
                           ("stratified", False), ("uniform", False)]:  # fmt: skip
        assert computes_by_row(DummyClassifier(strategy=strategy)) == told
    assert computes_by_row(DecisionTreeClassifier())
    for other in (RandomForestClassifier(), LOGISTIC, type("Own", (DecisionTreeClassifier,), {})()):
        assert not computes_by_row(other)


@given(st.integers(0, 10**6), st.sampled_from([np.float32, np.float64]), st.booleans())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_order_of_a_sum_moves_linear_scores_by_less_than_their_error(seed, dtype, sparse):
    rng = np.random.default_rng(seed)
    X = (10.0 ** rng.uniform(-3, 3, size=(6, 30)) * rng.choice([-1, 1], (6, 30))).astype(dtype)
    model = RidgeClassifier().fit(X, np.arange(6) % 3)
    model.coef_ = (10.0 ** rng.uniform(-3, 3, size=(3, 30))).astype(dtype)
    model.intercept_ = (100 * rng.normal(size=3)).astype(dtype)
    values, error = linear(model)(csr_matrix(X) if sparse else X)
    exact = X.astype(np.longdouble) @ model.coef_.T.astype(np.longdouble) + model.intercept_
    for _ in range(5):
        order = rng.permutation(30)
        other = np.zeros((6, 3), dtype)
        for j in order:
            other += X[:, [j]] * model.coef_[:, j]
        other += model.intercept_
        assert (np.abs(other - exact).max(1) <= error).all()
    assert (np.abs(values - exact).max(1) <= error).all()
    size = np.abs(X).astype(float) @ np.abs(model.coef_).T + np.abs(model.intercept_)
    assert (error <= 100 * np.finfo(dtype).eps * size.max(1)).all()


class Scored(ClassifierMixin, BaseEstimator):
    """Scores that are the images themselves."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X[:, 0] if len(self.classes_) == 2 else X

    def predict(self, X):
        if len(self.classes_) == 2:
            return self.classes_[(X[:, 0] > 0).astype(int)]
        return self.classes_[X.argmax(1)]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_answers_at_a_tie_do_not_count_and_a_little_beside_they_do(n_classes):
    y = np.array([3, 5, 8])[np.arange(60) % n_classes]
    model = Scored().fit(np.zeros((60, 3)), y)
    lead = np.array([0.0, 1e-9, 1e-6, -1e-6, 0.01, -0.01])
    X = np.stack([5 + lead, np.full(6, 5.0), -lead - 4], axis=1)
    if n_classes == 2:
        X[:, 0] = lead
    labels, sure = reader(model)(X)
    np.testing.assert_array_equal(labels, model.predict(X))
    near = [False] * 4 if n_classes == 3 else [False, True, True, True]  # 0 is exact, 5 is not
    assert sure.tolist() == [*near, True, True]


class ByPlace(Scored):
    """Answers by the place of an image, or by how many there are, or by the last image."""

    def __init__(self, way="place"):
        self.way = way

    def predict(self, X):
        n = len(X)
        change = {"place": np.arange(n) == 3, "number": np.full(n, n == 1),
                  "order": np.full(n, X[-1, 0] < X[0, 0])}[self.way]  # fmt: skip
        return super().predict(X) + change


@pytest.mark.parametrize("way", ["place", "number", "order"])
def test_answers_that_depend_on_a_batch_do_not_count(way):
    model = ByPlace(way).fit(np.zeros((9, 3)), np.arange(9) % 3)
    X = np.random.default_rng(0).normal(size=(9, 3))
    X[:, 0] = np.arange(1, 10)
    labels, sure = reader(model)(X)
    if way == "place":
        assert not sure[3]
    else:
        assert not sure.any()
    assert len(labels) == 9


class Threshold(ClassifierMixin, BaseEstimator):
    """Has no scores."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return (X[:, 0] > 5).astype(int)


def test_answers_without_scores_count_where_images_beside_have_the_same():
    model = Threshold().fit(np.zeros((2, 1)), [0, 1])
    X = 5 * (1 + np.array([[-1e-3], [-1e-8], [0], [1e-8], [1e-3]]))
    for dtype in (np.float32, np.float64):
        sure = reader(model)(X.astype(dtype))[1]
        assert sure.tolist() == [True, False, False, False, True]


class Moving(Scored):
    """The second score of the first image of a batch is a little more."""

    def decision_function(self, X):
        scores = X.copy()
        scores[0, 1] += 1e-3
        return scores


def test_a_lead_that_scores_move_by_does_not_count():
    model = Moving().fit(np.zeros((60, 3)), np.arange(60) % 3)
    X = np.tile([0.5, 0.0, 0.49], (60, 1))
    assert np.flatnonzero(~reader(model)(X)[1]).tolist() == few_rows(60).tolist()
    X[:, 2] = 0.4  # more than 32 times that
    assert reader(model)(X)[1].all()


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_a_vote_counts_where_all_that_it_rests_on_does(voting):
    X, y = blobs(2)
    model = VotingClassifier([("a", LOGISTIC), ("b", DummyClassifier())], voting=voting).fit(X, y)
    inside = model.estimators_[0]
    at = X[:1] - inside.decision_function(X[:1]) * inside.coef_ / np.square(inside.coef_).sum()
    assert reader(model)(np.concatenate([at, X]))[1].tolist() == [False, *[True] * 60]


@pytest.mark.parametrize("kind", ["fixed", "fixed, auto", "network", "ridge", "ridge, first class",
                                  "logistic scores"])  # fmt: skip
def test_a_threshold_is_where_answers_do_not_count(kind):
    X, y = blobs(2)
    threshold = None
    if kind == "network":
        X = X.astype(np.float32)
        model = fit(skorch_net(NeuralNetBinaryClassifier, One), X, y.astype(np.float32))
        scores = model.predict_proba(X)[:, 1]
    elif kind.startswith("fixed"):
        model = FixedThresholdClassifier(LogisticRegression(max_iter=500)).fit(X, y)
        inside = model.estimator_
        scores = inside.predict_proba(X)[:, 1]
        if kind == "fixed, auto":
            step = inside.decision_function(X[7:8]) / np.square(inside.coef_).sum()
            X[7] -= step * inside.coef_[0]
            threshold = 0.5
    else:
        last = LogisticRegression() if "logistic" in kind else RidgeClassifier()
        first = "first" in kind
        model = FixedThresholdClassifier(
            last, response_method="decision_function", pos_label=0 if first else None
        ).fit(X, y)
        scores = model.estimator_.decision_function(X) * (-1 if first else 1)
    if threshold is None:
        threshold = float(scores[7])
        model.set_params(threshold=threshold)
    labels, sure = reader(model)(X)
    np.testing.assert_array_equal(labels, model.predict(X))
    assert not sure[7]
    other = -scores if "class" in kind or "scores" in kind or kind == "ridge" else 1 - scores
    far = np.minimum(np.abs(scores - threshold), np.abs(other - threshold)) > 0.01
    far[7] = False
    assert sure[far].all()
    assert far.sum() > 10


@pytest.mark.parametrize("factor", [1.0, 1e6])
def test_outputs_of_a_network_that_nearly_tie_do_not_count(factor):
    X, y = blobs(3, dtype=np.float32)
    model = PatchNetClassifier(Flat, max_epochs=1, random_state=0).fit(X, y)
    layer = model.module_[1]
    layer.weight.data[:] = factor * layer.weight.data[:1]
    layer.bias.data[:] = 0
    outputs = np.abs(X @ layer.weight.data.numpy()[0])
    large = outputs > 0.1 * outputs.max()
    for lead, told in [(0, False), (1e-6, False), (0.05, True)]:
        layer.bias.data[1] = lead * float(outputs.max())
        assert (reader(model)(X)[1] == told)[large].all()


def test_outputs_err_by_what_any_of_them_moves_between_a_batch_and_one_row(monkeypatch):
    """And what was seen of one batch counts for the next ones, too."""
    X, y = blobs(3, dtype=np.float32)
    model = PatchNetClassifier(Flat, max_epochs=1, random_state=0).fit(X, y)
    raw, scores, moved = outputs.raw_scores, decisive(model), 0.25

    def moving(net, X, alone):
        values, unit = raw(net, X, alone)
        values[len(X) :, 2] += moved
        return values, unit

    assert (scores(X).error < 0.1).all()
    monkeypatch.setattr(outputs, "raw_scores", moving)
    assert (scores(X).error >= 4 * moved).all()
    moved = 0.0
    assert (scores(X).error >= 1).all()
    assert (decisive(model)(X).error < 0.1).all()


def test_rows_that_differ():
    X = np.array([[1.0, -4.0], [np.nan, 2.0], [np.inf, 0.0]])
    assert not _differ(X, X.copy()).any()
    for at, other, wanted in [
        ((0, 0), 1.0 + 3e-4, [False] * 3),  # less than 1e-4 of the largest value
        ((0, 0), 1.0 + 5e-4, [True, False, False]),
        ((0, 1), 4.0, [True, False, False]),
        ((1, 0), 0.0, [False, True, False]),
        ((2, 0), -np.inf, [False, False, True]),
        ((2, 0), 7.0, [False, False, True]),
    ]:
        moved = X.copy()
        moved[at] = other
        assert _differ(X, moved).tolist() == wanted
        assert _differ(moved, X).tolist() == wanted
    assert _differ(X, X[:, :1]).all()
    assert _differ(X, X[:2]).tolist() == [True] * 3
    names = np.array(["a", "b", "c"])
    assert _differ(names, np.array(["a", "x", "c"])).tolist() == [False, True, False]
    assert _differ(np.arange(3), np.array([0, 1, 3])).tolist() == [False, False, True]
    table = np.array([[0, 1], [2, 3]])
    assert _differ(table, np.array([[0, 1], [2, 9]])).tolist() == [False, True]
