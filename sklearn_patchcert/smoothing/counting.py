"""Counts of the classes that an estimator answers for noisy copies of images."""

from __future__ import annotations

from functools import partial

import numpy as np

from sklearn_patchcert._ranges import quiet
from sklearn_patchcert.parallel import stop_if_told
from sklearn_patchcert.smoothing.bounds import class_counts


def counted(estimator, labels, n, sigma, seed, stage, batch_size, images, start):
    """Counts of the classes for the copies of some images, `start` the index of the first."""
    return class_counts(
        partial(_indices, estimator, labels),
        images,
        n,
        sigma,
        n_classes=len(labels),
        seed=seed,
        stage=stage,
        indices=range(start, start + len(images)),
        batch_size=batch_size,
    )


def _indices(estimator, labels, copies):
    """Which of the labels an estimator predicts for each of some images."""
    stop_if_told()
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:  # of a frozen one that was fitted on a frame
        import pandas as pd

        copies = pd.DataFrame(copies.reshape(len(copies), -1), columns=names)
    with quiet():  # noise has another range than the images
        answers, name = np.asarray(estimator.predict(copies)), type(estimator).__name__
    if answers.shape == (len(copies), 1):
        answers = answers[:, 0]
    if answers.shape != (len(copies),):
        raise ValueError(
            f"{name} should predict one answer for each of {len(copies)} images, but its answers "
            f"have the shape {answers.shape}: only one output can be smoothed."
        )
    found = label_indices(labels, answers)
    if (found < 0).any():
        strange = list(dict.fromkeys(answers[found < 0].tolist()))
        raise ValueError(
            f"{name} predicts {strange!r:.80}, not among its classes_ {labels.tolist()}."
        )
    return found


def label_indices(classes, labels):
    """Place of each label among the classes, in whatever order these are.

    Parameters
    ----------
    classes : array-like (n_classes,)
    labels : array-like (n,)

    Returns
    -------
    indices : ndarray of int64 (n,)
        -1 for a label that is not a class.

    Examples
    --------
    >>> from sklearn_patchcert.smoothing.counting import label_indices
    >>> label_indices(["b", "a"], ["a", "b", "c"])
    array([ 1,  0, -1])
    """
    places = {label: place for place, label in enumerate(np.asarray(classes).tolist())}
    labels = np.asarray(labels).tolist()
    return np.array([places.get(label, -1) for label in labels], dtype=np.int64)
