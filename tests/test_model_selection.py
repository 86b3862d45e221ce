"""best_index over scores of every kind: NaN never wins, and what falls short is said."""

import warnings
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV

from sklearn_patchcert.model_selection import best_index

NAN, INF = np.nan, np.inf
SCORES = st.sampled_from([NAN, -INF, INF, -1.0, 0.0, 0.5, 0.9, 2.0])
FLOOR = st.sampled_from([-INF, 0.0, 0.5, 0.9, INF])
TABLES = st.integers(1, 6).flatmap(
    lambda n: st.lists(st.tuples(*[SCORES] * n), min_size=3, max_size=3)
)


def chosen(rows, floors):
    """The winner and whether a warning came with it; None where there is no winner."""
    results = {f"mean_test_{name}": row for name, row in zip("abc", rows, strict=True)}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = best_index(results, maximize="a", floors=dict(zip("bc", floors, strict=True)))
        except ValueError:
            return None, False
    assert type(found) is int
    assert all("No candidate reaches" in str(one.message) for one in said)
    return found, bool(said)


@example([(5.0, NAN, 7.0), (0.5, 0.9, 0.5), (0.9,) * 3], (0.9, 0.0))
@example([(5.0, -INF, 7.0), (0.5, 0.9, 0.5), (0.9,) * 3], (0.9, 0.0))
@example([(NAN, 1.0), (0.5, 0.5), (0.5, 0.5)], (0.9, 0.9))
@given(TABLES, st.tuples(FLOOR, FLOOR))
def test_the_winner_is_eligible_where_one_is_and_nan_never_wins(rows, floors):
    scores, *others = np.array(rows, dtype=float)
    lacks = [
        [max(0.0, floor - x) if x < floor else 0.0 if x >= floor else NAN for x in row]
        for row, floor in zip(others, floors, strict=True)
    ]
    lack = np.max(lacks, axis=0)  # NaN where one is
    eligible = (lack == 0) & ~np.isnan(scores)
    near = np.isfinite(lack) & ~np.isnan(scores)
    found, said = chosen(rows, floors)
    if found is None:
        assert not near.any()
        return
    assert near[found]
    assert said == (not eligible.any())
    if eligible.any():
        assert eligible[found]
        assert scores[found] == scores[eligible].max()
        assert found == np.flatnonzero(eligible & (scores == scores[found]))[0]
    else:
        assert lack[found] == lack[near].min()
        tied = near & (lack == lack[found])
        assert scores[found] == scores[tied].max()
        assert found == np.flatnonzero(tied & (scores == scores[found]))[0]


@given(st.lists(SCORES, min_size=1, max_size=6))
def test_without_floors_the_largest_score_that_is_a_number_wins(scores):
    results, real = {"mean_test_a": scores}, [x for x in scores if not np.isnan(x)]
    if not real:
        with pytest.raises(ValueError, match="No candidate"):
            best_index(results, maximize="a", floors={})
    else:
        assert best_index(results, maximize="a", floors={}) == scores.index(max(real))


@pytest.mark.parametrize(
    ("floors", "message"),
    [
        ({"b": NAN}, "floors"),
        ({"b": "high"}, "floors"),
        ({"b": None}, "floors"),
        ([0.5], "floors"),
        ({"z": 0.5}, "No score 'z'"),
    ],
)
def test_floors_that_are_none(floors, message):
    results = {"mean_test_a": [1.0], "mean_test_b": [1.0]}
    with pytest.raises((ValueError, TypeError), match=message):
        best_index(results, maximize="a", floors=floors)


def test_in_a_search_with_a_score_that_fails(digits):
    X, y = digits[0][:100], digits[1][:100]

    def accuracy(model, X, y):
        return 0.9 if model.alpha == 2.0 else 0.5

    def radius(model, X, y):
        return NAN if model.alpha == 2.0 else model.alpha

    def search(**floors):
        refit = partial(best_index, maximize="radius", floors=floors)
        scoring = {"accuracy": accuracy, "radius": radius}
        grid = {"alpha": [1.0, 2.0, 3.0]}
        return GridSearchCV(RidgeClassifier(), grid, scoring=scoring, refit=refit, cv=2)

    with (
        pytest.warns(UserWarning, match="non-finite"),
        pytest.warns(UserWarning, match="No candidate reaches"),
    ):
        found = search(accuracy=0.8).fit(X, y)
    assert found.best_params_ == {"alpha": 3.0}
