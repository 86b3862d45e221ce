"""The linear bound of a multiple-choice knapsack: hulls, and one sort.

Every block of an image takes one choice; a choice has a price and a gap, which is what is left of
the lead over a rival class.  Where choices may be mixed, the cheapest way down goes along the lower
convex hulls of the blocks, the steepest part first (Sinha, Zoltners, Operations Research 1979).
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def price_of_change(gaps, prices, order, least):
    """Smallest total price at which the lead over some rival can be as small as `least`.

    Parameters
    ----------
    gaps : ndarray (n_rivals, blocks, choices)
    prices : ndarray (blocks, choices)
        Not negative; inf where there is no choice.
    order : ndarray of int (blocks, choices)
        Sorts the prices of each block.
    least : float

    Returns
    -------
    price : float
        Choices may be mixed, so at most that of real ones; 0 where the lead is that small for
        nothing, inf where it cannot be.
    """
    rivals, blocks, choices = gaps.shape
    slopes, widths = np.empty(blocks * choices), np.empty(blocks * choices)
    x, y = np.empty(choices), np.empty(choices)
    best = np.inf
    for rival in range(rivals):
        lead, count, sizes = 0.0, 0, 0.0
        for block in range(blocks):
            size = 0
            for at in range(choices):
                choice = order[block, at]
                price, gap = prices[block, choice], gaps[rival, block, choice]
                if not price < np.inf:
                    break
                if size and gap >= y[size - 1]:
                    continue
                while size and price <= x[size - 1]:  # at the same price the smaller gap
                    size -= 1
                while size > 1 and (y[size - 1] - y[size - 2]) * (price - x[size - 2]) >= (
                    gap - y[size - 2]
                ) * (x[size - 1] - x[size - 2]):
                    size -= 1
                x[size], y[size] = price, gap
                size += 1
            lead += y[0]
            sizes += abs(y[0]) + abs(y[size - 1])
            for part in range(1, size):
                widths[count] = x[part] - x[part - 1]
                slopes[count] = (y[part] - y[part - 1]) / widths[count]
                count += 1
        spent = 0.0
        low = least + (count + blocks + 8) * 2.0**-52 * sizes  # what the sums may have rounded
        for part in np.argsort(slopes[:count]):
            if lead <= low or spent >= best:
                break
            drop = -slopes[part] * widths[part]
            if lead - drop <= low:
                spent += (lead - low) / -slopes[part]
                lead = low
            else:
                spent += widths[part]
                lead -= drop
        if lead <= low:
            best = min(best, spent)
    return best
