"""Choosing from the results of a search with several scores."""

from __future__ import annotations

import warnings

import numpy as np


def best_index(cv_results, *, maximize, floors):
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
        Where no candidate reaches all floors, the one that falls short the least, with a warning.

    Examples
    --------
    >>> from sklearn_patchcert.model_selection import best_index
    >>> scores = {"mean_test_radius": [1.0, 2.0, 3.0], "mean_test_accuracy": [0.99, 0.98, 0.9]}
    >>> best_index(scores, maximize="radius", floors={"accuracy": 0.97})
    1
    """
    scores = _mean(cv_results, maximize)
    short = np.max(
        [np.full(len(scores), -np.inf)]
        + [floor - _mean(cv_results, name) for name, floor in floors.items()],
        axis=0,
    )
    if not (short <= 0).any():
        warnings.warn(
            f"No candidate reaches {floors}; taking the one that falls short the least.",
            stacklevel=2,
        )
        return int(np.nanargmin(short))
    return int(np.nanargmax(np.where(short <= 0, scores, -np.inf)))


def pareto_front(*scores):
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
