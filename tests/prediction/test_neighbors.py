"""Votes of nearest neighbors: they count where none of the equally near can turn them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.neighbors import KNeighborsClassifier

from sklearn_patchcert.prediction.answers import reader


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 3))
@settings(max_examples=120, deadline=None, derandomize=True)
def test_a_vote_of_neighbors_counts_where_none_of_the_equally_near_can_turn_it(seed, k, n_classes):
    rng = np.random.default_rng(seed)
    others = rng.integers(0, 3, size=(9, 2)).astype(float)
    y = np.arange(9) % n_classes
    model = KNeighborsClassifier(k).fit(others, y)
    X = rng.integers(0, 3, size=(5, 2)).astype(float)
    labels, sure = reader(model)(X)
    sparse = reader(KNeighborsClassifier(k).fit(csr_matrix(others), y))(csr_matrix(X))
    np.testing.assert_array_equal(sparse[1], sure)
    for x, label, told in zip(X, labels, sure, strict=True):
        squares = np.square(others - x).sum(1)
        last = np.sort(squares)[k - 1]
        within, tied = y[squares < last], y[squares == last]
        answers = {
            np.bincount([*within, *some], minlength=n_classes).argmax()
            for some in itertools.combinations(tied, k - len(within))
        }
        assert told == (answers == {label})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("opposite", [False, True])
def test_neighbors_that_rounding_makes_equally_near(dtype, whole, opposite):
    """Far from zero, |x|^2 - 2 x y + |y|^2 cannot tell who is nearer."""
    apart = np.array([[0.3, 1.1], [0.3, -0.9]])
    for size, told in [(1.0, True), (1e3, dtype is np.float64), (1e9, False)]:
        others = (apart + size).astype(dtype)
        X = others[:1] + np.array([[0.25, -0.95]], dtype)
        if whole:
            others, X = others - X + dtype(size), np.full((1, 2), size, dtype)
        if opposite:
            others = np.concatenate([others, -others[:1]])
        model = KNeighborsClassifier(1).fit(others, [0, 1, 1][: len(others)])
        assert reader(model)(X)[1].tolist() == [told]


def test_weighted_neighbors_are_no_plain_vote():
    """The third neighbor is far away: the first two have equal weights, but for a billionth."""
    others, y = np.array([[-1.0], [1.0], [1e9]]), [0, 1, 1]
    for weights, told in [("uniform", True), ("distance", False)]:
        model = KNeighborsClassifier(3, weights=weights).fit(others, y)
        labels, sure = reader(model)(np.zeros((1, 1)))
        assert labels == model.predict(np.zeros((1, 1)))
        assert sure == told


def test_more_ties_than_are_followed():
    model = KNeighborsClassifier(1).fit(np.zeros((40, 1)), [0] * 39 + [1])
    assert not reader(model)(np.ones((2, 1)))[1].any()
    model = KNeighborsClassifier(5).fit([[0.9]] * 2 + [[0.0]] * 40, [0] * 35 + [1] * 7)
    assert not reader(model)(np.ones((2, 1)))[1].any()
    model = KNeighborsClassifier(1).fit(np.zeros((31, 1)), np.zeros(31, int))
    assert reader(model)(np.ones((2, 1)))[1].all()
