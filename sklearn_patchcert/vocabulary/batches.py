"""Images in batches of a bounded size, and what was made of them put together."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from sklearn.utils import _safe_indexing, gen_batches

from sklearn_patchcert._layouts import as_batch
from sklearn_patchcert._ranges import judge


def batches_of(X, values, copied=False):
    """Batches of X as 1-tuples, few held at once, and the number of images where that is known.

    An iterator is one of batches already, which are cut where they are large, and `copied` if the
    next one, which may be written over this one, is asked for before this one is looked at.
    """
    if isinstance(X, Iterator):
        return (part for batch in X for part in batches_of(batch, values, copied)[0]), None
    X = as_batch(X)
    shape = tuple(X.shape)
    if len(shape) < 2 or 0 in shape:
        return [(X,)], None  # which the check will refuse
    X = X if hasattr(X, "__getitem__") else np.asarray(X)
    parts = list(gen_batches(shape[0], max(1, values // math.prod(shape[1:]))))
    if copied:  # slices are views
        parts = [np.arange(part.start, part.stop) for part in parts]
    elif len(parts) == 1:
        return [(X,)], shape[0]
    return ((_safe_indexing(X, part),) for part in parts), shape[0]


def judged(pieces, owner, X):
    """Yield the arrays of (limits, arrays), and judge the range of all images before the end.

    Here and not where the pieces are made, which may be other threads or machines.
    """
    low, high, n_images = np.inf, -np.inf, 0
    for limits, arrays in pieces:
        if limits is not None:
            low, high = min(low, limits[0]), max(high, limits[1])
        n_images += len(arrays[0])
        judge(owner, limits, 0)  # a range that is too wide is told at once
        yield arrays
    if low <= high:
        images = None if isinstance(X, Iterator) else X
        judge(owner, (low, high), n_images, images)


def gathered(pieces, n, bar):
    """Put tuples of arrays together; into place, without a copy, where their number n is known."""
    start, whole, kept = 0, None, []
    for piece in pieces:
        stop = start + len(piece[0])
        bar.update(stop - start)
        if n is None:
            kept.append(piece)
            continue
        if stop - start == n:
            whole = tuple(piece)
            continue
        if whole is None:
            whole = tuple(np.empty((n, *part.shape[1:]), part.dtype) for part in piece)
        for target, part in zip(whole, piece, strict=True):
            target[start:stop] = part
        start = stop
    if n is None and not kept:
        raise ValueError("The iterator of batches of images is empty.")
    return whole or tuple(np.concatenate(parts) for parts in zip(*kept, strict=True))
