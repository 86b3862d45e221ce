"""The fitted estimator, the images and the labels that scorers, attacks and reports are given.

Here, and nowhere else, they become checked arrays.  X is copied once, so that the caller's array
never changes, and every question to an estimator gets a copy of its own (:func:`asked`), since
steps such as ``StandardScaler(copy=False)`` work in place.
"""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from sklearn_patchcert._layouts import as_batch, of_torch
from sklearn_patchcert._validation import random_seed
from sklearn_patchcert.attacks.plain_modules import as_classifier
from sklearn_patchcert.checks import check_count
from sklearn_patchcert.datasets.readers import holds_paths, reader_of

_KINDS = {"b": "numbers", "i": "numbers", "u": "numbers", "f": "numbers", "U": "text", "S": "bytes"}


def unwrapped(estimator):
    """The estimator itself, out of searches, FrozenEstimators and pipelines of this one step."""
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif type(estimator) is Pipeline and len(_used(estimator)) == 1:
            estimator = _used(estimator)[0]
        else:
            return estimator


def steps_of(estimator):
    """The steps of a pipeline, those of pipelines inside it included, or the estimator itself."""
    estimator = unwrapped(estimator)
    if not isinstance(estimator, Pipeline):
        return [estimator]
    return [part for step in _used(estimator) for part in steps_of(step)]


def image_shape_of(estimator):
    """(H, W, C) as some step has it, or None."""
    return next((s.image_shape_ for s in steps_of(estimator) if hasattr(s, "image_shape_")), None)


def images_of(estimator, X, y=None):
    """X, or what a reader of files at the beginning of an estimator makes of paths."""
    reader = reader_of(steps_of(estimator))
    if reader is None and hasattr(inside := unwrapped(estimator), "estimator_"):  # behind masks
        reader = reader_of(steps_of(inside.estimator_))
    return reader.fit_transform(X, y) if reader and holds_paths(X) else as_batch(X)


def has_tokens(estimator):
    """Whether some step replaces patches by tokens."""
    return any(hasattr(step, "tokenize") for step in steps_of(estimator))


def takes_x(estimator):
    """Whether the last step gets arrays in the layout of X, because none reads them as images."""
    return not any(
        hasattr(s, "image_shape_") or hasattr(s, "tokenize") for s in steps_of(estimator)
    )


def _used(pipeline):
    return [s for _, s in pipeline.steps if s is not None and not isinstance(s, str)]


def seed_of(random_state):
    """A seed: an integer itself, or one that is drawn from a RandomState or, for None, afresh."""
    whole = isinstance(random_state, Integral) and not isinstance(random_state, bool)
    if whole and 0 <= random_state < 2**32:
        return int(random_state)
    if not whole and (random_state is None or isinstance(random_state, np.random.RandomState)):
        return random_seed(random_state)
    raise ValueError(
        "random_state must be an integer from 0 to 2**32 - 1, a RandomState or None, got "
        f"{random_state!r}."
    )


def asked(method, X):
    """The answer of a method to a copy of X."""
    return method(X.copy())


def evaluated(estimator, X, y=None, *, labels=True, n_samples=None, random_state=0):
    """The estimator, and copies of the images and labels, or of some of them.

    Parameters
    ----------
    estimator : fitted estimator, or a search, a FrozenEstimator or a pipeline around it
        Or a torch module, images (n, C, H, W) to logits, whose classes are 0, 1, ...
    X : array-like (n, ...) or DataFrame
    y : array-like (n,) or (n, 1)
    labels : bool
        Whether labels are needed.
    n_samples : int or None
        Take this many images, the same for all estimators.  None: all.
    random_state : int
        Draws them.

    Returns
    -------
    estimator : fitted estimator
    X : ndarray or DataFrame
    y : ndarray (n,), or None without `labels`

    Raises
    ------
    ValueError
        If X is empty, labels do not fit it or the classes of the estimator, or an option is out
        of range.
    TypeError
        If X is sparse or an option is of another type.
    """
    X = images_of(estimator, X, y if labels else None)
    estimator = as_classifier(estimator, X)
    model, total, index = unwrapped(estimator), _number(X), None
    if labels:
        y = labels_of(y, total, getattr(model, "classes_", None))
    seed = seed_of(random_state)
    if n_samples is not None and check_count("n_samples", n_samples) < total:
        index = np.sort(np.random.default_rng(seed).choice(total, n_samples, replace=False))
        X, y = _safe_indexing(X, index), y[index] if labels else None
    return model, copied(X), y if labels else None


def _number(X):
    try:
        total = _num_samples(X)
    except TypeError as error:
        raise TypeError(f"X must be an array of images: {error}") from error
    if not total:
        raise ValueError("X has no images.")
    return total


def copied(X):
    """A copy of X that nobody else has: a frame with its columns, all else as an array."""
    if hasattr(X, "columns") and hasattr(X, "copy"):
        return X.copy()
    return numeric(np.array(X, order="C"))


def numeric(X, name="X"):
    """An array of numbers that float64 holds, those that come as objects included."""
    if X.dtype.kind == "O":
        try:
            X = X.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be numbers: {error}") from error
    if X.dtype.kind not in "biuf" or X.dtype.itemsize > 8:
        raise TypeError(f"{name} must be numbers, of float64 at most, got {X.dtype}.")
    return X


def labels_of(y, n_images, classes=None):
    """Labels (n,) of as many images, comparable with the classes.

    Labels that the classes lack are allowed, since a fold may have them, unless all are such.
    """
    if y is None:
        raise ValueError("y is None: the labels of the images are needed.")
    y = np.asarray(of_torch(y))
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(f"y must be one label for each image, (n,) or (n, 1), got {y.shape}.")
    if len(y) != n_images:
        raise ValueError(f"y has {len(y)} labels, but X has {n_images} images.")
    y = _plain(y, "y")
    if classes is not None:
        known = classes_of(classes)
        if _kind(y) != _kind(known):
            raise ValueError(
                f"y has {_kind(y)} where the classes of the estimator are {_kind(known)}: "
                f"{y[:3].tolist()} against {known[:3].tolist()}."
            )
        if not np.isin(y, known).any():
            raise ValueError(
                f"y has no label that is among the classes of the estimator: {y[:3].tolist()} "
                f"against {known[:10].tolist()}."
            )
    return y


def classes_of(classes):
    """The classes (n_classes,) of an estimator with one output."""
    if isinstance(classes, list) and any(np.ndim(one) for one in classes):
        raise ValueError("The estimator has several outputs: only one can be evaluated.")
    return _plain(np.asarray(classes), "classes_")


def columns_of(classes, labels):
    """Index (n,) of each label among the classes, which need not be sorted; -1 where it is not."""
    order = np.argsort(classes, kind="stable")
    at = order[np.searchsorted(classes, labels, sorter=order).clip(max=len(classes) - 1)]
    return np.where(classes[at] == labels, at, -1)


def agreed(predicted, y):
    """Whether each prediction is the label."""
    predicted = np.asarray(predicted)
    if predicted.ndim == 2 and predicted.shape[1] == 1:
        predicted = predicted[:, 0]
    if predicted.shape != y.shape:
        raise ValueError(
            f"The predictions have shape {predicted.shape}, not {y.shape}: attacks and scores are "
            "for one label for each image."
        )
    if predicted.dtype.kind == "O":  # also of a smoothed classifier, which abstains by a number
        return np.array([a == b for a, b in zip(predicted, y, strict=True)], dtype=bool)
    if _kind(predicted) != _kind(y):
        raise ValueError(
            f"The estimator predicts {_kind(predicted)}, {predicted[:3].tolist()}, where y has "
            f"{_kind(y)}, {y[:3].tolist()}."
        )
    return predicted == y


def _plain(values, name):
    """Labels of one kind as an array of that kind, also those that come as objects."""
    if values.dtype.kind == "O":
        items = values.tolist()
        kinds = {_KINDS.get(np.asarray(item).dtype.kind) for item in items}
        if len(kinds) != 1 or None in kinds:
            raise ValueError(f"{name} must be numbers only or strings only, got {items[:5]}.")
        values = np.array(items)
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError(f"{name} has NaN among the labels.")
    return values


def _kind(values):
    return _KINDS.get(values.dtype.kind, values.dtype.name)
