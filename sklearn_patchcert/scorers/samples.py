"""The images that a scorer looks at, and the model."""

from __future__ import annotations

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples


def best_of(estimator):
    """The best estimator of a search, or the estimator itself."""
    return getattr(estimator, "best_estimator_", estimator)


def drawn(X, n_samples, random_state):
    """Some images, the same for all estimators, or all of them where `n_samples` is None."""
    total = _num_samples(X)
    if n_samples is None or n_samples >= total:
        return X
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1 or None, got {n_samples}.")
    index = np.random.default_rng(random_state).choice(total, n_samples, replace=False)
    return _safe_indexing(X, np.sort(index))


def drawn_pair(X, y, n_samples, random_state):
    """Some images and their classes."""
    index = drawn(np.arange(_num_samples(X)), n_samples, random_state)
    return _safe_indexing(X, index), np.asarray(y)[index]
