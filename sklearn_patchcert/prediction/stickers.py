"""Certificates against stickers: windows in which an attacker may change everything.

A window of s x s pixels touches at most :math:`\\lceil (s - 1) / p \\rceil + 1` patches along each
side, at any position.  All tokens are tried at these patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_patchcert.prediction.search.budgets import Pace, at_once


def touched(side: int, patch_size: tuple[int, int]) -> tuple[int, int]:
    """Largest number of patches that a square window touches.

    Parameters
    ----------
    side : int
        Of the window, in pixels.
    patch_size : tuple (ph, pw)

    Returns
    -------
    size : tuple (rows, cols)

    Examples
    --------
    >>> from sklearn_patchcert.prediction import touched
    >>> touched(5, (4, 4))
    (2, 2)
    """
    rows, cols = (-(-(side - 1) // size) + 1 for size in patch_size)
    return rows, cols


def certify_stickers(
    changes: Callable[..., NDArray[np.bool_]],
    own: NDArray[np.integer[Any]],
    n_tokens: int | Sequence[int],
    patch_size: tuple[int, int],
    *,
    max_configurations: int = 10_000,
    max_seconds: float = np.inf,
    batch_size: int = 2048,
) -> tuple[float, bool, int, NDArray[np.integer[Any]]]:
    """Side of the smallest window in which changes may change the class of an image.

    Parameters
    ----------
    changes : callable, ids (m, positions) -> ndarray of bool (m,)
        Whether a configuration may have another class than the image.
    own : ndarray of int (rows, cols, groups)
        The tokens of the image.
    n_tokens : int or sequence of int (groups,)
    patch_size : tuple (ph, pw)
    max_configurations : int
        How many are looked at; those of a larger window only if all of it can be.
    max_seconds : float
        After the first configuration, none are begun that are not expected to be classified by
        then.
    batch_size : int
        Fewer of large images.

    Returns
    -------
    side : float
        In pixels: nothing inside any window with a smaller side changes the class.  inf where
        every configuration has been looked at.
    exact : bool
        Whether a configuration that changes was found in windows of that side.
    looked : int
    changing : ndarray of int (positions,)
        That configuration; the own tokens where there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.prediction import certify_stickers
    >>> def changes(ids):  # as soon as two patches have another token
    ...     return ids.sum(1) >= 2
    >>> own = np.zeros((1, 2, 1), dtype=int)
    >>> side, exact, *_ = certify_stickers(changes, own, n_tokens=2, patch_size=(3, 3))
    >>> side, exact
    (2.0, True)
    """
    pace, max_configurations = Pace(max_seconds, always=True), int(max_configurations)
    rows, cols, groups = own.shape
    pace.next(1)
    if changes(own.reshape(1, -1))[0]:  # tied as it is
        return 0.0, True, 1, own.ravel()
    pace.done(1)
    batch_size = at_once(own.size, batch_size)
    choices = np.broadcast_to(n_tokens, groups).tolist()
    done: tuple[int, ...] = (0, 0)
    looked, side = 0, 1
    while done != (rows, cols):
        size = tuple(map(min, touched(side, patch_size), (rows, cols)))
        if size != done:
            count = math.prod(choices) ** (size[0] * size[1])
            places = (rows - size[0] + 1) * (cols - size[1] + 1)
            if count * places > max_configurations - looked:
                return float(side), False, looked, own.ravel()
            for ids in _full(_windows(own, choices, size, done, count, batch_size), batch_size):
                while len(ids):
                    some = pace.next(len(ids))
                    if not some:
                        return float(side), False, looked, own.ravel()
                    bad = np.flatnonzero(changes(ids[:some]))
                    if len(bad):
                        return float(side), True, looked + int(bad[0]) + 1, ids[bad[0]]
                    pace.done(some)
                    looked, ids = looked + some, ids[some:]
            done = size
        side += 1
    return np.inf, False, looked, own.ravel()


def _full(batches, size):
    """The same in batches that are as large as they may be."""
    kept: list = []
    for ids in batches:
        if kept and sum(map(len, kept)) + len(ids) > size:
            yield np.concatenate(kept)
            kept = []
        kept.append(ids)
    if kept:
        yield np.concatenate(kept)


def _windows(own, choices, size, done, count, batch_size):
    """Configurations that differ from `own` in a window of patches, each once.

    Those whose differences fit into the windows that are `done` are left out.
    """
    rows, cols = own.shape[:2]
    for top in range(rows - size[0] + 1):
        for left in range(cols - size[1] + 1):
            block = own[top : top + size[0], left : left + size[1]]
            for at in range(0, count, batch_size):
                numbers = np.arange(at, min(at + batch_size, count))
                digits = np.stack(np.unravel_index(numbers, choices * (size[0] * size[1])), axis=1)
                digits = digits.reshape(-1, *block.shape)
                other = (digits != block).any(3)
                keep = other.any((1, 2))
                fits = np.ones_like(keep)
                for axis, (start, last) in enumerate(
                    ((top, rows - size[0]), (left, cols - size[1]))
                ):
                    line = other.any(2 - axis)
                    first = line.argmax(1)
                    extent = line.shape[1] - line[:, ::-1].argmax(1) - first
                    keep &= (first == 0) | (start == last)  # else it is another window's
                    fits &= extent <= done[axis]
                keep &= ~fits
                if keep.any():
                    ids = np.repeat(own[None], keep.sum(), axis=0)
                    ids[:, top : top + size[0], left : left + size[1]] = digits[keep]
                    yield ids.reshape(len(ids), -1)
