r"""Values behind masks, and the interval that no sticker can leave.

**Inference.**  Let :math:`f(x, m, m')` be the value of an image behind two masks, :math:`f(x, m)`
behind one, and

.. math:: L = \max_m \min_{m'} f(x, m, m'), \qquad U = \min_m \max_{m'} f(x, m, m').

The value is the median of :math:`f(x, m)` over all masks, moved into :math:`[L, U]`.

**Certificate.**  For an image x' that is equal to x behind m, as the regressor sees it, the value
lies between the smallest and the largest of :math:`f(x, m, m')` over all masks m', m itself
included.

*Proof.*  First, :math:`L \le U` for every image: for any masks a and b,
:math:`\min_{m'} f(x, a, m') \le f(x, a, b) = f(x, b, a) \le \max_{m'} f(x, b, m')`.  (The spans of
two masks have the value behind both in common, and intervals that meet in pairs all meet, which is
Helly's theorem on the line.)  So there is a value in :math:`[L, U]`, and it lies in the span of
every mask.  The span of m is the same for x' as for x, because behind m and any m', x' is x.  The
other values of x' may be anything.

*No smaller interval holds* for this inference and values that an attacker may choose freely.  Let
him give all pairs of a mask a, but for the one with m, the value :math:`f(x, m, a)`.  Then the span
of a is this one value, and it is the prediction.  With a constant span of m, this is the
certificate of double masking.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sklearn_patchcert.prediction.masking.masks import MaskPlan, kinds_of_places


def spans(
    values: NDArray[np.float64], pairs: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest value behind each mask and any other one.

    Parameters
    ----------
    values : ndarray of float64 (n_unions,)
        Of an image behind all unions of two masks, not NaN.
    pairs : ndarray of int (n_masks, n_masks)
        Which union two masks have.

    Returns
    -------
    low, high : ndarray of float64 (n_masks,)
    """
    found = values[pairs]
    return found.min(1), found.max(1)


def middle(values: NDArray[np.float64], pairs: NDArray[np.int64]) -> float:
    """The value in the spans of all masks that is nearest to the median behind one mask.

    Parameters
    ----------
    values, pairs
        As in :func:`spans`.

    Returns
    -------
    value : float

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.prediction.masking.intervals import middle
    >>> from sklearn_patchcert.prediction.masking.masks import mask_plan
    >>> pairs = mask_plan((1, 3), [(1, 1)]).pairs
    >>> values = np.full(6, 9.0)                   # a sticker that the second mask hides
    >>> values[pairs[1]] = 1.0
    >>> middle(values, pairs)
    1.0
    """
    low, high = spans(values, pairs)
    alone = np.sort(values[np.diagonal(pairs)])  # of two in the middle, the lower one
    return float(np.clip(alone[(len(alone) - 1) // 2], low.max(), high.min()))


def lower_bounds(plan: MaskPlan, low: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the value does not fall below, wherever a sticker begins.

    Parameters
    ----------
    plan : MaskPlan
    low : ndarray of float64 (n, n_masks)
        What it does not fall below if a sticker lies inside a mask.

    Returns
    -------
    bounds : ndarray of float64 (n, rows, cols)
        For a sticker of any of the sizes whose upper left corner is in a cell: of the masks that
        hide it, the largest one.  With two stickers: together with the other one anywhere.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.prediction.masking.intervals import lower_bounds
    >>> from sklearn_patchcert.prediction.masking.masks import mask_plan
    >>> plan = mask_plan((1, 3), [(1, 2)])  # two masks; a window may be cut off at the end
    >>> lower_bounds(plan, np.array([[3.0, 5.0]]))
    array([[[3., 5., 5.]]])
    """
    kinds, where = kinds_of_places(plan)

    def best(values):  # (..., n_base) to (..., n_kinds)
        return np.where(kinds, values[..., None, :], -np.inf).max(-1)

    found = [
        best(one) if plan.joined is None
        else np.min([best(other) for other in best(one[plan.joined]).T], axis=0)
        for one in low
    ]  # fmt: skip
    return np.stack(found)[:, where].min(1)
