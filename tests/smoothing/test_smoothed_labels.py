"""SmoothedClassifier with labels of every kind: the same answers by other names, and its score."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.tree import DecisionTreeClassifier

from sklearn_patchcert import SmoothedClassifier
from sklearn_patchcert.smoothing.bounds import ABSTAIN, class_counts

NAMES = {
    "integers": np.array([7, 3, 10]),
    "small integers": np.array([100, -100, 0], dtype=np.int8),
    "unsigned": np.array([0, 200, 3], dtype=np.uint8),
    "large unsigned": np.array([2**63 + 5, 1, 2**64 - 1], dtype=np.uint64),
    "floats": np.array([0.5, -2.0, 1e9]),
    "float32": np.array([0.1, 0.2, -0.3], dtype=np.float32),
    "strings": np.array(["b", "a", "-1"]),
    "long strings": np.array(["be", "a", "see"]),
    "objects": np.array(["b", "a", "c"], dtype=object),
    "objects of integers": np.array([5, 2, 9], dtype=object),
    "bools": np.array([True, False]),
    "two": np.array(["yes", "no"]),
}


class Slabs(ClassifierMixin, BaseEstimator):
    """As many classes as names, one after the other along the first value; `names` in any order."""

    def __init__(self, names=None, answer=None, listed=False):
        self.names, self.answer, self.listed = names, answer, listed

    def fit(self, X, y):
        self.classes_ = list(self.names) if self.listed else np.asarray(self.names)
        self.n_features_in_ = np.shape(X)[1]
        return self

    def predict(self, X):
        at = (X[:, 0] > 0).astype(int) + ((X[:, 0] > 2) if len(self.names) > 2 else 0)
        found = np.asarray(self.names)[at]
        return found if self.answer is None else self.answer(found)


@pytest.fixture(scope="module")
def images():
    """Images on both sides of walls, near ones and on them."""
    X = np.zeros((9, 4))
    X[:, 0] = [-3, -0.4, 0.0, 0.4, 1.0, 1.7, 2.0, 2.4, 5]
    return X


def smoothed(estimator, **options):
    options = {"sigma": 0.5, "n0": 30, "n": 300, "alpha": 0.01, "random_state": 0, **options}
    return SmoothedClassifier(estimator, **options).fit(np.eye(4), [0, 1, 0, 1])


@pytest.mark.parametrize("listed", [False, True], ids=["array", "list"])
@pytest.mark.parametrize("name", NAMES)
def test_names_of_classes_and_their_order_do_not_matter(images, name, listed):
    names = NAMES[name]
    plain = smoothed(Slabs(np.arange(len(names))))
    model = smoothed(Slabs(names, listed=listed))
    assert list(model.classes_) == list(names)  # unsorted, as others have them
    wanted, found = plain.predict(images), model.predict(images)
    assert ABSTAIN in wanted
    assert len(set(wanted)) > 2
    same_by_name(found, wanted, names)
    (wanted, radii), (found, others) = plain.certify(images), model.certify(images)
    same_by_name(found, wanted, names)
    np.testing.assert_array_equal(others, radii)


def same_by_name(found, wanted, names):
    abstains = wanted == ABSTAIN
    assert [answer == ABSTAIN for answer in found] == list(abstains)
    assert all(found[~abstains] == names[wanted[~abstains]])


@pytest.mark.parametrize("shape", ["row", "column", "list", "series", "frame"])
@pytest.mark.parametrize("name", NAMES)
def test_abstaining_is_wrong(images, name, shape):
    names = NAMES[name]
    model, plain = smoothed(Slabs(names)), smoothed(Slabs(np.arange(len(names))))
    answers = plain.predict(images)
    truth = np.where(answers == ABSTAIN, 0, answers)
    truth[-1] = 0  # a mistake
    right = (answers == truth) & (answers != ABSTAIN)
    y = names[truth]
    given = {
        "row": y, "column": y[:, None], "list": list(y), "series": pd.Series(y),
        "frame": pd.DataFrame({"y": y}),
    }[shape]  # fmt: skip
    weights = np.arange(1.0, 10.0)
    assert model.score(images, given) == pytest.approx(right.mean())
    found = model.score(images, given, sample_weight=weights)
    assert found == pytest.approx(np.average(right, weights=weights))
    assert 0 < right.mean() < 1


@pytest.mark.parametrize("name", ["integers", "strings", "objects", "bools", "two"])
def test_in_searches(name):
    names = NAMES[name]
    X = np.random.default_rng(0).normal(size=(60, 4)) + 0.5
    y = np.asarray(Slabs(names).predict(X))
    model = SmoothedClassifier(DecisionTreeClassifier(random_state=0), 0.5, n0=10, n=50)
    model.set_params(random_state=0, alpha=0.01)
    found = cross_val_score(model, X, y, cv=2, error_score="raise")
    assert (model.fit(X, y).predict(X) == ABSTAIN).any()
    assert (found > 0.3).all()
    search = GridSearchCV(model, {"sigma": [0.1, 1.0]}, cv=2, error_score="raise").fit(X, y)
    assert search.best_score_ < 1
    assert search.score(X, y) > 0.5


def test_a_class_that_was_not_there_in_training_counts_as_wrong(images):
    model = smoothed(Slabs(np.array(["a", "b", "c"])))
    answers = model.predict(images)
    assert model.score(images, np.full(9, "new")) == 0
    y = np.where(answers == ABSTAIN, "a", answers)
    y[0] = "new"
    assert model.score(images, y) == pytest.approx((answers == y).mean())
    assert smoothed(Slabs(np.arange(3))).score(images, np.full(9, ABSTAIN)) == 0


@pytest.mark.parametrize(
    ("names", "y", "message"),
    [
        ([0, 1, 2], list("abcabcabc"), "kind"),
        ([0, 1, 2], np.array(list("012012012"), dtype=object), "kind"),
        (["0", "1", "2"], np.arange(9) % 3, "kind"),
        (np.array(["0", "1", "2"], dtype=object), np.arange(9) % 3, "kind"),
        ([0, 1, 2], np.arange(8), "inconsistent"),
        ([0, 1, 2], np.arange(10), "inconsistent"),
        ([0, 1, 2], np.zeros((9, 2), dtype=int), "1d"),
        ([0, 1, 2], np.zeros((1, 9), dtype=int), "1d"),
        ([0, 1, 2], 1, "array"),
    ],
)
def test_other_labels_are_refused(images, names, y, message):
    with pytest.raises((ValueError, TypeError), match=message):
        smoothed(Slabs(names)).score(images, y)


def test_weights_of_another_length_are_refused(images):
    with pytest.raises(ValueError, match="inconsistent"):
        smoothed(Slabs([0, 1, 2])).score(images, np.zeros(9, int), sample_weight=np.ones(8))


ANSWERS = {
    "others": (lambda found: found + 10, "not among its classes_"),
    "one other": (lambda found: np.where(found == 1, 7, found), r"\[7\].*not among its classes_"),
    "abstaining": (lambda found: np.where(found == 1, ABSTAIN, found), "not among its classes_"),
    "texts": (lambda found: found.astype(str), "not among its classes_"),
    "scores": (lambda found: np.eye(3)[found], "one answer"),
    "too few": (lambda found: found[:-1], "one answer"),
    "one": (lambda found: found[0], "one answer"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_are_no_labels_are_refused(images, name):
    answer, message = ANSWERS[name]
    model = smoothed(Slabs(np.arange(3), answer))
    for method in (model.predict, model.certify):
        with pytest.raises(ValueError, match=f"Slabs .*{message}"):
            method(images)


def test_answers_in_a_column_are_labels(images):
    """As some libraries give them."""
    model = smoothed(Slabs(np.arange(3), lambda found: found[:, None]))
    plain = smoothed(Slabs(np.arange(3)))
    np.testing.assert_array_equal(model.predict(images), plain.predict(images))


@pytest.mark.parametrize("names", [[-1, 1], np.array([-1, "a"], dtype=object), [-1.0, 2.0]])
def test_the_label_that_abstains_is_no_class(names):
    with pytest.raises(ValueError, match="-1"):
        smoothed(Slabs(names))


def test_several_outputs_are_refused():
    X, y = np.eye(4), np.array([[0, 1], [1, 0], [0, 2], [1, 1]])
    with pytest.raises(ValueError, match="several outputs"):
        SmoothedClassifier(DecisionTreeClassifier()).fit(X, y)
    with pytest.raises(ValueError, match="several outputs"):
        SmoothedClassifier(DecisionTreeClassifier()).fit(X, y % 2)


def test_smoothing_what_abstains_is_refused(images):
    inner = smoothed(Slabs(np.arange(3)))
    model = SmoothedClassifier(FrozenEstimator(inner), 0.5, n0=5, n=20, random_state=0)
    with pytest.raises(ValueError, match="not among its classes_"):
        model.fit(images, np.zeros(9)).predict(images)


@pytest.mark.parametrize("answers", [[-1, 0], [0, 2], [[0], [1]], [0]])
def test_counting_refuses_what_is_no_index(answers):
    with pytest.raises(ValueError, match="class indices"):
        class_counts(
            lambda copies: np.array(answers), np.zeros((1, 1), np.float32), 2, 1.0, n_classes=2,
            seed=0, stage=0, indices=[0], batch_size=2,
        )  # fmt: skip


def test_the_score_is_that_of_accuracy_where_nothing_abstains(digits):
    X, y = digits[0][:300], digits[1][:300]
    model = SmoothedClassifier(RidgeClassifier(), 0.1, n0=10, n=40, random_state=0).fit(X, y)
    answers = model.predict(X[:60])
    sure = answers != ABSTAIN
    accuracy = make_scorer(lambda truth, found: (truth == found).mean())
    assert sure.sum() > 40
    assert model.score(X[:60], y[:60]) == accuracy(model, X[:60], y[:60])
