"""What a budget buys best of all patches at once: the compiled loop of flips in training.

:func:`engine.choose` does this for an attack, whose offers are in order of their price, so that it
looks at few of them.  Those of training are in no order, and each batch has others.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_LEAST = 1e-30  # of a price, by which gains are divided
_RANGE = 1e-40  # of rates of exchange; below, the next one is 0
_HALVINGS = 25  # of their interval, in logarithms


@njit(cache=True, nogil=True)
def _best(rate, gains, prices, first, last):
    """The offer from `first` to `last` of most gain less `rate` times price."""
    found, most = first, gains[first] - rate * prices[first]
    for at in range(first + 1, last):
        worth = gains[at] - rate * prices[at]
        if worth > most:
            found, most = at, worth
    return found


@njit(cache=True, nogil=True)
def _at_exchange(rate, gains, prices, start, some, steepest, low, found):
    """Fill the best offers of some patches, and return by how much they cost more than `low`."""
    more = 0.0
    for p in some:
        found[p] = low[p]
        if steepest[p] > rate:  # else nothing is worth its price
            found[p] = _best(rate, gains, prices, start[p], start[p + 1])
        more += np.float64(prices[found[p]]) - prices[low[p]]
    return more


@njit(cache=True, nogil=True)
def spend(gains, prices, start, budget, chosen):
    """Fill the offers (n, patches) of large total gain that a budget pays for, for each image.

    At a rate of exchange each patch takes the offer of most gain less rate times price; the rate is
    the lowest at which the budget suffices.  The lower it is, the dearer the offers, so patches
    that take the same at two rates take it at all between.

    Parameters
    ----------
    gains, prices : ndarray of float32 (n, m)
        The price of the own token of a patch is 0.
    start : ndarray of int64 (patches + 1,)
        Where the offers of each patch begin.
    budget : float
    chosen : ndarray of int64 (n, patches)
        Is filled with places from 0 to m.
    """
    patches = len(start) - 1
    steepest, everyone = np.empty(patches), np.arange(patches)
    for i in range(len(gains)):
        gain, price, low = gains[i], prices[i], chosen[i]
        dear = 0.0
        for p in range(patches):
            own = start[p]
            for at in range(own + 1, start[p + 1]):
                if price[at] < price[own]:
                    own = at
            low[p], steepest[p] = own, 0.0
            for at in range(start[p], start[p + 1]):
                if gain[at] > gain[own]:
                    slope = (gain[at] - gain[own]) / max(price[at] - price[own], _LEAST)
                    steepest[p] = max(steepest[p], slope)
            dear = max(dear, steepest[p])
        if dear == 0.0:
            continue
        middle, high, some = low.copy(), low.copy(), everyone[steepest > 0.0]
        spent, cheap, smallest = 0.0, dear, dear * _RANGE
        while cheap > 0.0:
            cheap = cheap / 4 if cheap > smallest else 0.0
            more = _at_exchange(cheap, gain, price, start, some, steepest, low, middle)
            if spent + more > budget:
                high[some] = middle[some]
                break
            spent += more
            low[some], high[some], dear = middle[some], middle[some], cheap
        for _ in range(_HALVINGS):
            some = some[low[some] != high[some]]
            if not len(some) or dear == 0.0:
                break
            rate = np.sqrt(dear * cheap) if cheap > 0.0 else dear / 4
            more = _at_exchange(rate, gain, price, start, some, steepest, low, middle)
            if spent + more <= budget:
                low[some] = middle[some]
                spent, dear = spent + more, rate
            else:
                high[some] = middle[some]
                cheap = rate
