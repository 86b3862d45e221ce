"""Whether the steps after a vocabulary are a function of one image: no chance, no other images."""

from __future__ import annotations

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import _safe_indexing

from sklearn_patchcert.networks.outputs import output_of
from sklearn_patchcert.prediction.estimator_tree import nested, real_steps

_TOLERANCE = 1e-4  # of the largest value: far more than rounding in float32
_SCORES = "predict_proba", "decision_function"
_FEW = 0.25  # part of the images on which a step may differ between a batch and single images
_EACH = 4  # of so many images one is classified by itself, where all were scored by themselves


def check_one_image_at_a_time(pipeline, X):
    """Refuse a fitted pipeline whose answer for an image is not a function of that image.

    Every step is asked twice for the same images, and then for each image by itself; for classes,
    besides scores, only for a quarter of them.

    Parameters
    ----------
    pipeline : fitted Pipeline
        Of the steps after the vocabulary.
    X : array (m, ...)
        Some inputs of the first of them.  It is left as it is.

    Raises
    ------
    ValueError
        If a step answers something else the second time, as with dropout in prediction, or for
        single images, as with statistics of the batch.  Differences on few images are ties and
        are left to :mod:`prediction.answers`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_patchcert.prediction.consistency import check_one_image_at_a_time
    >>> X = np.zeros((40, 2))
    >>> by_chance = make_pipeline(DummyClassifier(strategy="uniform")).fit(X, [0, 1] * 20)
    >>> check_one_image_at_a_time(by_chance, X)
    Traceback (most recent call last):
        ...
    ValueError: The step 'dummyclassifier' (DummyClassifier) gave other answers ...
    """
    *steps, (name, last) = real_steps(pipeline)
    for step_name, step in steps:
        X, _ = _same_twice_and_alone(step_name, step, step.transform, X)
    if any(getattr(part, "_depends_on_place", False) for part in nested(last)):
        raise ValueError(
            f"The step {name!r} ({type(last).__name__}) draws noise by the place of an image in "
            "its batch, so that no certificate of a prediction holds for it."
        )
    methods = [output_of(last), *(getattr(last, method, None) for method in _SCORES)]
    scores = next(filter(None, methods), None)
    ties = np.zeros(X.shape[0], dtype=bool)
    if scores is not None:
        given, alone = _same_twice_and_alone(name, last, scores, X)
        # In the last bits, which may decide.
        ties = (given != alone).reshape(len(alone), -1).any(1)
    _same_twice_and_alone(name, last, last.predict, X, ties, 1 if scores is None else _EACH)


def _same_twice_and_alone(name, step, compute, X, ties=False, each=1):
    """The output for X, if it is the same a second time, and for single images, one of `each`."""
    given, again = compute(X.copy()), compute(X.copy())
    whole = _dense(given)
    if _differ(whole, _dense(again)).any():
        raise ValueError(
            f"The step {name!r} ({type(step).__name__}) gave other answers when asked again for "
            "the same images: it depends on chance (a dropout that is active in prediction, a "
            "strategy that draws). Certificates of predictions need a step that always answers "
            "the same."
        )
    alone, whole = _one_by_one(compute, X, each), whole[::each]
    if alone.shape != whole.shape:
        raise ValueError(
            f"The step {name!r} ({type(step).__name__}) returns arrays of shape {whole.shape} for "
            f"a batch and of {alone.shape} for its images one by one: predict of a single image "
            "would fail."
        )
    different = _differ(whole, alone) & ~np.broadcast_to(ties, X.shape[:1])[::each]
    if different.mean() > _FEW:
        raise ValueError(
            f"The step {name!r} ({type(step).__name__}) gave other answers for {different.sum()} "
            f"of {len(different)} images when each came alone instead of in a batch: it depends on "
            "the other images of a batch (as normalization by the batch's own mean does), or "
            "rounding decides it (torch.set_float32_matmul_precision, outputs that nearly cancel). "
            "Certificates of predictions need a step that looks at one image at a time."
        )
    return given, alone


def _one_by_one(compute, X, each):
    rows = range(0, X.shape[0], each)
    return np.concatenate([_dense(compute(_safe_indexing(X, [row]))) for row in rows])


def _dense(values):
    return values.toarray() if issparse(values) else np.asarray(values)


def _differ(first, second):
    """Which rows differ by more than rounding."""
    if first.shape != second.shape:
        return np.ones(len(first), dtype=bool)
    first, second = first.reshape(len(first), -1), second.reshape(len(first), -1)
    if first.dtype.kind not in "fc":
        return (first != second).any(1)
    with np.errstate(invalid="ignore"):
        size = np.abs(first[np.isfinite(first)]).max(initial=0.0)
        near = np.abs(first - second) <= _TOLERANCE * size
    return ~(near | (first == second) | (np.isnan(first) & np.isnan(second))).all(1)
