r"""Masks such that every sticker lies inside at least one of them.

The image is a grid of cells: the patches of a vocabulary, or single pixels.  A sticker of s pixels
along one axis touches at most :math:`\lceil (s - 1) / p \rceil + 1` cells of p pixels in a row, its
*window*.  The smallest masks are all windows.  Fewer and larger masks cost fewer predictions
(PatchCleanser, Xiang, Mahloujifar and Mittal, USENIX Security 2022, section 3.2): with n cells and
windows of k cells, the starts of m masks are :math:`t = \lceil (n - k + 1) / m \rceil` cells apart,
and a mask has k + t - 1 cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_MOST = 2**32  # cells of all pairs of masks


def window_of(
    size: tuple[int, int], cell: tuple[int, int], grid: tuple[int, int]
) -> tuple[int, int]:
    """Largest number of cells that a sticker touches along each axis.

    Parameters
    ----------
    size : tuple (height, width)
        Of the sticker, in pixels.
    cell : tuple (height, width)
        Of a cell, in pixels.
    grid : tuple (rows, cols)
        Cells of the image.

    Returns
    -------
    window : tuple (rows, cols)

    Examples
    --------
    >>> from sklearn_patchcert.prediction.masking.masks import window_of
    >>> window_of((5, 9), (4, 4), (8, 8))
    (2, 3)
    """
    rows, cols = (
        min(-(-(one - 1) // side) + 1, most)
        for one, side, most in zip(size, cell, grid, strict=True)
    )
    return rows, cols


def covering_masks(
    grid: tuple[int, int],
    windows: Sequence[tuple[int, int]],
    n_masks: int | tuple[int, int] | None = None,
) -> NDArray[np.bool_]:
    """Masks such that every window of cells lies inside at least one.

    Parameters
    ----------
    grid : tuple (rows, cols)
        Cells of the image.
    windows : sequence of tuple (rows, cols)
        Cells of each window.  A mask that lies inside another one is left out.
    n_masks : int, tuple (int, int) or None, default=None
        Masks along each axis, at most, for each kind of window.  None: as many as there are
        places, so that masks are as small as windows.

    Returns
    -------
    masks : ndarray of bool (n_masks, rows, cols)
        True where the image is hidden.

    Examples
    --------
    >>> from sklearn_patchcert.prediction import covering_masks
    >>> covering_masks((8, 8), [(2, 2)]).shape
    (49, 8, 8)
    >>> masks = covering_masks((8, 8), [(2, 2)], n_masks=3)  # of 4 x 4 cells
    >>> len(masks), int(masks[0].sum())
    (9, 16)
    """
    found = [
        (rows[:, None, :, None] & cols[None, :, None, :]).reshape(-1, *grid)
        for rows, cols in _all_lines(grid, windows, n_masks)
    ]
    masks = np.concatenate(found)
    return masks if len(found) == 1 else masks[_largest(masks.reshape(len(masks), -1))]


def _all_lines(grid, windows, n_masks):
    """For each window the rows and the columns that masks hide."""
    counts = n_masks if isinstance(n_masks, tuple) else (n_masks, n_masks)
    for window in windows:
        yield [_lines(*axis) for axis in zip(grid, window, counts, strict=True)]


def pairs_to_make(
    grid: tuple[int, int],
    windows: Sequence[tuple[int, int]],
    n_masks: int | tuple[int, int] | None = None,
    n_stickers: int = 1,
) -> int:
    """Number of pairs of masks, at most, without making them.

    Parameters
    ----------
    grid, windows, n_masks, n_stickers
        As in :func:`mask_plan`.

    Returns
    -------
    count : int
    """
    count = sum(len(rows) * len(cols) for rows, cols in _all_lines(grid, windows, n_masks))
    for _ in range(n_stickers):
        count = count * (count + 1) // 2
    return count


def hides_all(
    grid: tuple[int, int],
    windows: Sequence[tuple[int, int]],
    n_masks: int | tuple[int, int] | None = None,
) -> bool:
    """Whether a mask hides a whole image, behind which all images are alike.

    Parameters
    ----------
    grid, windows, n_masks
        As in :func:`covering_masks`.
    """
    lines = _all_lines(grid, windows, n_masks)
    return any(bool(rows.all(1).any() and cols.all(1).any()) for rows, cols in lines)


def _lines(length, window, count):
    """Masks (m, length) along one axis that cover all windows."""
    places = length - window + 1
    stride = 1 if count is None else -(-places // count)
    side = window + stride - 1
    starts = sorted({*range(0, length - side + 1, stride), length - side})
    at = np.arange(length)
    return np.stack([(start <= at) & (at < start + side) for start in starts])


def _largest(masks):
    """Rows of masks (m, cells) that lie inside no other, the first of equal ones."""
    _, first = np.unique(masks, axis=0, return_index=True)
    kept = np.sort(first)
    some = masks[kept].astype(np.float32)
    inside = some @ some.T >= some.sum(1)[:, None]
    return kept[inside.sum(1) == 1]


class MaskPlan(NamedTuple):
    """The masks of a certificate, what two of them hide together, and what they cover.

    base : ndarray of bool (n_base, rows, cols), each covering single stickers;
    masks : ndarray of bool (n_masks, rows, cols), for two stickers the unions of two of `base`;
    joined : ndarray of int (n_base, n_base), which mask is the union of two of `base`; None for one
    sticker;
    unions : ndarray of bool (n_unions, rows * cols), all different unions of two masks;
    pairs : ndarray of int (n_masks, n_masks), which union two masks have; a mask with itself on
    the diagonal;
    holds : ndarray of bool (n_unions, n_masks), whether a mask is in a pair with this union;
    covers : ndarray of bool (n_windows, rows, cols, n_base), whether a window that begins at a
    cell, and is cut off at the end of the grid, lies inside a mask.
    """

    base: NDArray[np.bool_]
    masks: NDArray[np.bool_]
    joined: NDArray[np.int64] | None
    unions: NDArray[np.bool_]
    pairs: NDArray[np.int64]
    holds: NDArray[np.bool_]
    covers: NDArray[np.bool_]


def mask_plan(
    grid: tuple[int, int],
    windows: Sequence[tuple[int, int]],
    n_masks: int | tuple[int, int] | None = None,
    n_stickers: int = 1,
) -> MaskPlan:
    """All that a certificate has to know of its masks.

    Parameters
    ----------
    grid, windows, n_masks
        As in :func:`covering_masks`.
    n_stickers : {1, 2}, default=1
        With two stickers the masks are the unions of two masks, and K masks become K (K + 1) / 2.

    Returns
    -------
    plan : MaskPlan

    Raises
    ------
    ValueError
        If there are so many masks that their pairs do not fit into memory.

    Examples
    --------
    >>> from sklearn_patchcert.prediction.masking.masks import mask_plan
    >>> plan = mask_plan((8, 8), [(2, 2)], n_masks=3)
    >>> len(plan.masks), len(plan.unions)
    (9, 45)
    """
    pairs_of = pairs_to_make(grid, windows, n_masks, n_stickers)
    if pairs_of * grid[0] * grid[1] > _MOST:
        raise ValueError(
            f"The masks on {grid[0]} x {grid[1]} cells have {pairs_of} pairs, which are too many: "
            "set n_masks to a smaller number of masks along each axis."
        )
    base = covering_masks(grid, windows, n_masks)
    masks, joined = base.reshape(len(base), -1), None
    if n_stickers == 2:
        masks, joined = _unions(masks)
    unions, pairs = _unions(masks)
    holds = np.zeros((len(unions), len(masks)), dtype=bool)
    holds[pairs, np.arange(len(masks))] = True
    covers = np.stack([_covers(base, window) for window in windows])
    return MaskPlan(base, masks.reshape(-1, *grid), joined, unions, pairs, holds, covers)


def _unions(masks):
    """All different unions of two masks (m, cells), and which of them two masks have (m, m)."""
    count, cells = masks.shape
    packed = np.packbits(masks, axis=1)
    first, second = np.triu_indices(count)
    both, where = np.unique(packed[first] | packed[second], axis=0, return_inverse=True)
    pairs = np.empty((count, count), dtype=np.int64)
    pairs[first, second] = pairs[second, first] = where.reshape(-1)
    return np.unpackbits(both, axis=1, count=cells).astype(bool), pairs


def _covers(masks, window):
    """Whether the window that begins at a cell lies inside a mask, (rows, cols, n_masks)."""
    _, rows, cols = masks.shape
    sums = np.pad(masks.astype(np.int64).cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    top, left = np.arange(rows), np.arange(cols)
    bottom, right = np.minimum(top + window[0], rows), np.minimum(left + window[1], cols)
    hidden = (
        sums[:, bottom][:, :, right] - sums[:, top][:, :, right]
        - sums[:, bottom][:, :, left] + sums[:, top][:, :, left]
    )  # fmt: skip
    area = (bottom - top)[:, None] * (right - left)
    return np.moveaxis(hidden == area, 0, -1)


def places_of(plan: MaskPlan, certified: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where no sticker can change the answer.

    Parameters
    ----------
    plan : MaskPlan
    certified : ndarray of bool (n, n_masks)
        Which masks are certified on each image.

    Returns
    -------
    places : ndarray of bool (n, rows, cols)
        Whether a sticker of any of the sizes that begins in a cell, its upper left corner, lies
        inside a certified mask.  With two stickers: together with the other one anywhere.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.prediction.masking.masks import mask_plan, places_of
    >>> plan = mask_plan((3, 3), [(2, 2)])  # 4 masks
    >>> places_of(plan, np.array([[True, False, False, False]]))[0]
    array([[ True, False, False],
           [False, False, False],
           [False, False, False]])
    """
    kinds, where = kinds_of_places(plan)
    return _covered(plan, kinds, certified)[:, where].all(1)


def everywhere(plan: MaskPlan) -> Callable[[NDArray[np.bool_]], NDArray[np.bool_]]:
    """A function of the certified masks (n, n_masks): whether all places are certified, (n,)."""
    kinds, _ = kinds_of_places(plan)
    return lambda certified: _covered(plan, kinds, certified).all(1)


def _covered(plan, kinds, certified):
    """Which kinds of places (n, n_kinds) lie inside certified masks."""
    covers = kinds.astype(np.float32)
    if plan.joined is None:
        return certified.astype(np.float32) @ covers.T > 0
    found = [
        (covers @ some[plan.joined].astype(np.float32) @ covers.T > 0).all(1) for some in certified
    ]
    return np.stack(found) if found else np.ones((0, len(kinds)), dtype=bool)


def kinds_of_places(plan: MaskPlan) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Places that the same masks cover are of one kind, of which there are few.

    Returns
    -------
    kinds : ndarray of bool (n_kinds, n_base)
        Which masks cover the places of a kind.
    where : ndarray of int (n_windows, rows, cols)
        The kind of each place.
    """
    count = plan.covers.shape[-1]
    packed = np.packbits(plan.covers.reshape(-1, count), axis=1)
    found, where = np.unique(packed, axis=0, return_inverse=True)
    kinds = np.unpackbits(found, axis=1, count=count).astype(bool)
    return kinds, np.asarray(where, dtype=np.int64).reshape(plan.covers.shape[:-1])
