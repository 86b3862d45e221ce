"""Choosing from the results of a search with several scores."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def best_index(cv_results: Mapping[str, Any], *, maximize: str, floors: Mapping[str, float]) -> int:
    """Index of the candidate with the best score among those that reach floors in other scores.

    Bound by :func:`functools.partial` it is a `refit` for GridSearchCV and its relatives::

        refit=partial(best_index, maximize="radius", floors={"accuracy": 0.97})

    Parameters
    ----------
    cv_results : dict
        `cv_results_` of a search with several scores.
    maximize : str
        Name of the score to maximize.
    floors : dict of str to float
        Least mean test scores, by name.

    Returns
    -------
    index : int
        The first, if several are equal.  Inf is a score like any other, NaN is none: a candidate
        with NaN in one of these scores is never chosen.  If no candidate reaches all floors, the
        one that falls short the least, with a warning.

    Raises
    ------
    ValueError
        If a score is unknown, a floor is not a number, or each candidate has a NaN or falls short
        by inf.
    TypeError
        If `floors` is not a dict.

    Examples
    --------
    >>> from sklearn_patchcert.model_selection import best_index
    >>> scores = {"mean_test_radius": [1.0, 2.0, 3.0], "mean_test_accuracy": [0.99, 0.98, 0.9]}
    >>> best_index(scores, maximize="radius", floors={"accuracy": 0.97})
    1
    """
    if not isinstance(floors, Mapping):
        raise TypeError(f"floors must be a dict of scores' names and numbers, got {floors!r}.")
    scores = _mean(cv_results, maximize)
    short = np.where(np.isnan(scores), np.nan, 0.0)  # NaN where a score is
    for name, floor in floors.items():
        if not isinstance(floor, numbers.Real) or math.isnan(floor):
            raise ValueError(f"floors must be numbers, got {floor!r} for {name!r}.")
        found = _mean(cv_results, name)
        with np.errstate(invalid="ignore"):  # inf - inf
            lack = np.where(found >= floor, 0.0, floor - found)
        short = np.maximum(short, lack)
    possible = np.isfinite(short)
    if not possible.any():
        raise ValueError(
            f"No candidate can be chosen: each has a NaN among {[maximize, *floors]}, or falls "
            f"short of {floors} by inf. See the other warnings of the search for fits that failed."
        )
    least = short[possible].min()
    if least > 0:
        warnings.warn(
            f"No candidate reaches {floors}; taking the one that falls short the least.",
            stacklevel=2,
        )
    best = np.flatnonzero(short == least)
    return int(best[np.argmax(scores[best])])


def pareto_front(*scores: ArrayLike) -> NDArray[np.bool_]:
    """Mark the points of the Pareto front of several scores.

    No other point is at least as good in every score and better in one.

    Parameters
    ----------
    *scores : array-like (n,)
        Larger is better.

    Returns
    -------
    front : ndarray of bool (n,)
        Points with a NaN are never in the front.

    Examples
    --------
    >>> from sklearn_patchcert.model_selection import pareto_front
    >>> pareto_front([1.0, 2.0, 1.5], [0.9, 0.8, 0.7])
    array([ True,  True, False])
    """
    points = np.stack([np.asarray(score, dtype=np.float64) for score in scores], axis=1)
    real = ~np.isnan(points).any(1)
    beaten = [(real & (points >= point).all(1) & (points > point).any(1)).any() for point in points]
    return real & ~np.array(beaten, dtype=bool)


def _mean(cv_results, name):
    try:
        return np.asarray(cv_results[f"mean_test_{name}"], dtype=np.float64)
    except KeyError:
        known = [key[len("mean_test_") :] for key in cv_results if key.startswith("mean_test_")]
        raise ValueError(f"No score {name!r} in the results: there are {known}.") from None
