"""Votes of models with certificates: how far the majority is certain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def plurality(votes: NDArray[np.integer[Any]], n_classes: int) -> NDArray[np.int64]:
    """Class with the most votes, the first one if there is a tie.

    Parameters
    ----------
    votes : ndarray of int (n_members, n)
    n_classes : int

    Returns
    -------
    winners : ndarray of int (n,)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.prediction import plurality
    >>> plurality(np.array([[0, 1], [0, 2], [2, 2]]), n_classes=3)
    array([0, 2])
    """
    return _counts(votes, np.ones(votes.shape, dtype=bool), n_classes).argmax(0)


def committee_radius(
    votes: NDArray[np.integer[Any]], radii: NDArray[Any], n_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Radius within which no perturbation changes the class with the most votes.

    A member keeps its vote inside its own radius.  At a given norm, whoever is not certified may
    vote for anyone, and the winner stands if those who cannot change leave him ahead.

    Parameters
    ----------
    votes : ndarray of int (n_members, n)
    radii : ndarray (n_members, n)
        Certified radii of the members, in one norm.
    n_classes : int

    Returns
    -------
    winners : ndarray of int (n,)
    radius : ndarray (n,)
        The largest of the members' radii that serves, so no smaller than the least of them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.prediction import committee_radius
    >>> votes, radii = np.array([[1], [1], [1]]), np.array([[0.5], [2.0], [3.0]])
    >>> committee_radius(votes, radii, n_classes=2)  # two of three that agree are enough
    (array([1]), array([2.]))
    """
    winners, radius = plurality(votes, n_classes), np.zeros(votes.shape[1])
    image = np.arange(votes.shape[1])
    for threshold in radii:
        held = radii >= threshold
        counts = _counts(votes, held, n_classes)
        loose = (~held).sum(0)
        rivals = counts + loose
        rivals[winners, image] = -1
        before = np.arange(n_classes)[:, None] < winners  # a tie is theirs
        stands = (counts[winners, image] - before >= rivals).all(0)
        radius = np.where(stands, np.maximum(radius, threshold), radius)
    return winners, radius


def _counts(votes, held, n_classes):
    """Votes (n_classes, n) of the members that are held."""
    return np.stack([((votes == c) & held).sum(0) for c in range(n_classes)])
