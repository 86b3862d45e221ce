"""The range of values that a model was fitted on, and a warning where it is given another."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
import warnings
import weakref

import numpy as np

__all__ = ["extend", "judge", "judged", "quiet", "range_of", "remember"]

# Another unit changes all values by one factor: 255, 16, or more.  A range that is 12 times as wide
# or as narrow is taken for one.  Standardized images against images in [0, 1], images with some
# outliers, and what attacks make of images stay well below.
_FACTOR = 12
# Dark images are narrow, too, but seldom all of many.  Few images must be narrower still, and have
# more values than a dark image of 8 bits could have there, which are 256 / 50.
_MANY, _DARK, _LEVELS, _LOOKED_AT = 16, 50, 64, 4096

_TOLD: weakref.WeakSet = weakref.WeakSet()  # not an attribute: no copy and no file has it
_LOCK = threading.Lock()
_QUIET = contextvars.ContextVar("patchcert_quiet", default=False)


def range_of(X):
    """Smallest and largest value of an array or frame in memory; None where it has no such."""
    if hasattr(X, "columns"):
        X = np.asarray(X)
    if not isinstance(X, np.ndarray) or X.dtype.kind not in "biuf" or not X.size:
        return None
    low, high = float(X.min()), float(X.max())
    return (low, high) if np.isfinite(low) and np.isfinite(high) else None


def remember(estimator, limits, dtype):
    """Set `input_range_` and `input_dtype_`, as fit does."""
    estimator.input_range_, estimator.input_dtype_ = limits, str(dtype)
    with _LOCK:
        _TOLD.discard(estimator)


def extend(estimator, limits):
    """Widen `input_range_`, as partial_fit does, where it is known."""
    known = getattr(estimator, "input_range_", None)
    if known is not None:
        estimator.input_range_ = min(known[0], limits[0]), max(known[1], limits[1])


def judge(estimator, limits, n_images=1, images=None):
    """Warn, once for each fitted estimator, of values on another scale than those fitted on.

    Parameters
    ----------
    estimator : estimator
        Without `input_range_`, nothing is known and nothing is told.
    limits : (float, float) or None
        Smallest and largest value of what it is given now.
    n_images : int
        How many images have these limits.
    images : ndarray or None
        The images, or some of them, where they are at hand.
    """
    known = getattr(estimator, "input_range_", None)
    if known is None or limits is None or _QUIET.get():
        return
    if not _is_another(known, limits, n_images, images):
        return
    with _LOCK:
        if estimator in _TOLD:
            return
        _TOLD.update([estimator, *_parts(estimator)])
    warnings.warn(
        f"X has values from {limits[0]:g} to {limits[1]:g}, but this {type(estimator).__name__} "
        f"was fitted on values from {known[0]:g} to {known[1]:g}. On another scale neither "
        "predictions nor radii mean anything: bring X to the range of the training images.",
        UserWarning,
        stacklevel=_depth(),
    )


@contextlib.contextmanager
def judged(estimator, X):
    """Judge X by the range of the whole, and its parts by nothing: they see scaled values."""
    known = getattr(estimator, "input_range_", None)
    if known is None or _QUIET.get():
        yield
        return
    judge(estimator, range_of(X), len(X), X)
    with quiet():
        yield


@contextlib.contextmanager
def quiet():
    """Judge nothing in this thread: not noise, what an attack made, or the input of a part."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)


def _is_another(known, limits, n_images, images):
    (low, high), (least, most) = known, limits
    width, spread = high - low, most - least
    if not width > 0:
        return False  # one value has no scale
    if max(high, most) - min(low, least) > _FACTOR * width:
        return True
    if not 0 < spread < width / _FACTOR:
        return False  # a constant image, such as a black one, is on every scale
    if n_images >= _MANY:
        return True
    if images is None or spread > width / _DARK:
        return False
    values = np.asarray(images).reshape(-1)
    return len(np.unique(values[:: -(-len(values) // _LOOKED_AT)])) > _LEVELS


def _depth():
    """How far up the first caller is who belongs neither to us nor to what calls us."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and _is_ours(frame):
        frame, depth = frame.f_back, depth + 1
    return depth - 1


def _is_ours(frame):
    name = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] in ("sklearn_patchcert", "sklearn", "joblib", "contextlib")


def _parts(estimator):
    """The steps of a pipeline, which need not say it again."""
    return [step for _, step in getattr(estimator, "steps", ()) if hasattr(step, "fit")]
