"""What the search over tokens does for each patch: compiled loops over the offers.

The offers of a patch are the tokens that an attacker can pay for, in order of their price, the own
token first.  ``start`` (patches + 1,) says where those of each patch begin in ``token`` and
``price``; a flip is named by its place there.  ``tables`` (groups, n_tokens + 2, dim) are the
tokens that patches have in turn, and as two more rows half the range and the middle of each
coordinate.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_LEAST = 1e-30  # of a price, by which gains are divided
_RANGE = 1e-15  # of rates of exchange; below, all that gains anything is taken
_NEAR = 1.5  # times a guess of the rate: within a quarter of it, another step finds it
_MORE = 1 + 1e-6  # times a bound of prices, for the rounding of gains
_HALVINGS = 40  # of their interval, in logarithms


@njit(cache=True, nogil=True)
def pack(costs, most, count, token, price):
    """Fill the numbers (m,) of offers of patches, their tokens and prices, from costs (m, k)."""
    total, k = 0, costs.shape[1]
    some, names = np.empty(k), np.empty(k, np.int32)
    for i in range(costs.shape[0]):
        m = 0
        for b in range(k):
            if np.isfinite(costs[i, b]):
                some[m], names[m] = costs[i, b], b
                m += 1
        order = np.argsort(some[:m], kind="mergesort")
        m = min(m, most)
        for at in range(m):
            token[total], price[total] = names[order[at]], some[order[at]] ** 2
            total += 1
        count[i] = m
    return total


@njit(cache=True, nogil=True)
def places_of(ids, start, token, found):
    """Fill the places (patches,) of tokens, -1 where they are not offered."""
    for p in range(len(ids)):
        found[p] = -1
        for at in range(start[p], start[p + 1]):
            if token[at] == ids[p]:
                found[p] = at
                break


@njit(cache=True, nogil=True)
def reprice(ids, prices, start, token, price):
    """Give tokens (patches,) that are offered other prices (patches,), and keep the order."""
    for p in range(len(ids)):
        at = start[p]
        while at < start[p + 1] and token[at] != ids[p]:
            at += 1
        if at == start[p] or at == start[p + 1]:
            continue
        value = prices[p]
        while at + 1 < start[p + 1] and price[at + 1] < value:
            token[at], price[at] = token[at + 1], price[at + 1]
            at += 1
        while at - 1 > start[p] and price[at - 1] > value:
            token[at], price[at] = token[at - 1], price[at - 1]
            at -= 1
        token[at], price[at] = ids[p], value


@njit(cache=True, nogil=True)
def lengths(start, token, price, tables, found):
    """Fill by how much (patches,) distances to the own token exceed roots of prices, at most.

    A slope s then gains at most |s| (found + sqrt(price)), which bounds what dear offers are worth.
    """
    for p in range(len(found)):
        table, own = tables[p % len(tables)], token[start[p]]
        found[p] = 0.0
        for at in range(start[p] + 1, start[p + 1]):
            total = 0.0
            for j in range(table.shape[1]):
                total += (table[token[at], j] - table[own, j]) ** 2
            found[p] = max(found[p], np.sqrt(total) - np.sqrt(np.float64(price[at])))


@njit(cache=True, nogil=True, inline="always")
def _gain(slope, p, table, b):
    total = 0.0
    for j in range(slope.shape[1]):
        total += slope[p, j] * table[b, j]
    return total


@njit(cache=True, nogil=True)
def _bounds(slope, now, token, tables, base, reach):
    """Fill the products (patches,) of a slope with the tokens that patches have now.

    And in `reach` upper bounds of what another token gains.
    """
    for p in range(len(reach)):
        half, middle = tables[p % len(tables), -2], tables[p % len(tables), -1]
        total = 0.0
        for j in range(slope.shape[1]):
            total += slope[p, j] * middle[j] + abs(slope[p, j]) * half[j]
        base[p] = _gain(slope, p, tables[p % len(tables)], token[now[p]])
        reach[p] = total - base[p]


@njit(cache=True, nogil=True)
def _top_ratio(slope, start, token, price, tables, base, reach, first):
    """The largest gain per price of all flips."""
    best = 0.0
    for p in range(len(reach)):
        if reach[p] <= best * first[p]:
            continue
        for at in range(start[p] + 1, start[p + 1]):
            cost = max(price[at], _LEAST)
            if reach[p] <= best * cost:
                break
            best = max(best, (_gain(slope, p, tables[p % len(tables)], token[at]) - base[p]) / cost)
    return best


@njit(cache=True, nogil=True)
def _at_exchange(rate, slope, some, low, high, token, price, tables, base, reach, first, length,
                 steep, found):  # fmt: skip
    """Fill the best offers, by gain less `rate` times price, of some patches.

    Only offers from `low` to `high` are looked at.  Return by how much their prices exceed those
    of `low`.
    """
    more = 0.0
    for p in some:
        found[p] = low[p]
        if reach[p] <= rate * first[p]:
            continue  # the own token is best, and has been at all higher rates
        table = tables[p % len(tables)]
        best = _gain(slope, p, table, token[low[p]]) - base[p] - rate * price[low[p]]
        far = np.inf
        if rate > 0.0:  # beyond it, no gain is worth its price
            far = steep[p] + np.sqrt(steep[p] ** 2 + 4 * rate * steep[p] * length[p])
            far = _MORE * (far / (2 * rate)) ** 2
        for at in range(low[p] + 1, high[p] + 1):
            if reach[p] - rate * price[at] <= best or (price[at] >= far and best >= 0.0):
                break  # no later offer is better
            worth = _gain(slope, p, table, token[at]) - base[p] - rate * price[at]
            if worth > best:
                best, found[p] = worth, at
        more += np.float64(price[found[p]]) - price[low[p]]
    return more


@njit(cache=True, nogil=True)
def choose(slope, start, token, price, tables, budget, guess, length, chosen):
    """Fill the offers (patches,) of large total gain that a budget pays for.

    At a rate of exchange each patch takes the offer of most gain less rate times price; the rate is
    the lowest at which the budget suffices.  The higher it is, the cheaper the offers, so those
    found at two rates bound those at all rates between.  `guess` (1,) is a rate to begin with, 0
    for none, and becomes the one that was found.  `length` (patches,) is of :func:`lengths`; inf
    is the same but slower.
    """
    n = len(chosen)
    base, reach, first = np.empty(n), np.empty(n), np.full(n, np.inf)  # in one piece each: quicker
    low, high, middle = start[:-1].copy(), start[1:] - 1, start[:-1].copy()
    chosen[:] = low
    _bounds(slope, low, token, tables, base, reach)
    steep = np.empty(n)
    for p in range(n):
        total = 0.0
        for j in range(slope.shape[1]):
            total += slope[p, j] ** 2
        steep[p] = np.sqrt(total)
        if low[p] < high[p]:
            first[p] = max(price[low[p] + 1], _LEAST)
    dear = _top_ratio(slope, start, token, price, tables, base, reach, first)
    if dear <= 0.0:
        return
    some, smallest, spent, cheap = np.flatnonzero(low < high), dear * _RANGE, 0.0, dear
    if 0.0 < guess[0] < dear / 4:
        cheap = 4 * _NEAR * guess[0]
    while True:
        cheap = cheap / 4 if cheap > smallest else 0.0
        more = _at_exchange(cheap, slope, some, low, high, token, price, tables, base, reach, first,
                            length, steep, middle)  # fmt: skip
        if spent + more > budget:
            high[some] = middle[some]
            break
        spent += more
        low[some], dear = middle[some], cheap
        if cheap == 0.0:
            break
    for _ in range(_HALVINGS):
        some = some[low[some] < high[some]]
        if not len(some) or dear == 0.0:
            break
        rate = np.sqrt(dear * cheap) if cheap > 0.0 else dear / 4
        more = _at_exchange(rate, slope, some, low, high, token, price, tables, base, reach, first,
                            length, steep, middle)  # fmt: skip
        if spent + more <= budget:
            low[some] = middle[some]
            spent, dear = spent + more, rate
        else:
            high[some] = middle[some]
            cheap = rate
    chosen[:], guess[0] = low, dear


@njit(cache=True, nogil=True)
def steepest(slope, now, left, start, token, price, tables, scores, places):
    """Fill the best flip (patches,) of each patch from where it is now, by gain per price.

    0 where no flip gains anything or can be paid for by what is left.
    """
    base, reach = np.empty(len(now)), np.empty(len(now))
    _bounds(slope, now, token, tables, base, reach)
    for p in range(len(now)):
        table, paid = tables[p % len(tables)], price[now[p]]
        scores[p], places[p] = 0.0, now[p]
        for at in range(start[p], start[p + 1]):
            change = price[at] - paid
            if change > left or reach[p] <= scores[p] * change:
                break
            score = (_gain(slope, p, table, token[at]) - base[p]) / max(change, 1e-12)
            if at != now[p] and score > scores[p]:
                scores[p], places[p] = score, at


@njit(cache=True, nogil=True)
def best_flips(slope, now, left, start, token, price, tables, scores, places, patches):
    """Fill the best single flips (width,) of all patches by gain per price, the best first.

    Scores are -inf where there are no more.
    """
    width, base, reach = len(scores), np.empty(len(now)), np.empty(len(now))
    _bounds(slope, now, token, tables, base, reach)
    scores[:] = -np.inf
    places[:], patches[:] = now[0], 0
    for p in range(len(now)):
        table, paid = tables[p % len(tables)], price[now[p]]
        for at in range(start[p], start[p + 1]):
            change = price[at] - paid
            if change > left or reach[p] <= scores[width - 1] * change:
                break
            gain = _gain(slope, p, table, token[at]) - base[p]
            score = gain / max(change, 1e-12)
            if at == now[p] or gain <= 0 or score <= scores[width - 1]:
                continue
            k = width - 1
            while k > 0 and scores[k - 1] < score:
                scores[k], places[k], patches[k] = scores[k - 1], places[k - 1], patches[k - 1]
                k -= 1
            scores[k], places[k], patches[k] = score, at, p
