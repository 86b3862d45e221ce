"""What the search over tokens does for each patch: compiled loops over the offers.

The offers of a patch are the tokens that an attacker can pay for, in order of their price, the own
token first.  ``tables`` (groups, n_tokens + 2, dim) are the tokens of each patch, by its place modulo
the groups, with half the range and the middle of each coordinate as two more rows.  ``start`` (patches + 1,) says where those of each patch begin in ``token`` and
``price``; a flip is named by its place there.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_LEAST = 1e-30  # of a price, by which gains are divided


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


@njit(cache=True, nogil=True, inline="always")
def _gain(slope, p, table, b):
    total = 0.0
    for j in range(slope.shape[1]):
        total += slope[p, j] * table[b, j]
    return total


@njit(cache=True, nogil=True)
def _largest(slope, tables, reach):
    """Fill upper bounds (patches,) of the products of a slope with all tokens of its table."""
    for p in range(len(reach)):
        half, middle = tables[p % len(tables), -2], tables[p % len(tables), -1]
        total = 0.0
        for j in range(slope.shape[1]):
            total += slope[p, j] * middle[j] + abs(slope[p, j]) * half[j]
        reach[p] = total


@njit(cache=True, nogil=True)
def _steps(slope, start, token, price, tables, reach, least, gains, costs, places, patches):
    """The steps of all patches along their best choices as a gain costs `least` and more.

    Fill the gains, costs, places and patches; how many there are, or -1 where there is no room.
    """
    total, size = 0, len(gains)
    for p in range(len(reach)):
        table = tables[p % len(tables)]
        begin = total
        base = _gain(slope, p, table, token[start[p]])
        best = 0.0  # of gain - least * price
        most = reach[p] - base
        gain, paid = 0.0, 0.0
        for at in range(start[p] + 1, start[p + 1]):
            if most - least * price[at] <= best:
                break  # no later token is better at this exchange, or at a higher one
            found = _gain(slope, p, table, token[at]) - base
            if found <= gain:
                continue
            worth = found - least * price[at]
            if worth <= best:
                continue
            best = worth
            # The hull: a step that is worth less than the next was none.
            while total > begin:
                more, cost = found - gain, price[at] - paid
                if more * costs[total - 1] < gains[total - 1] * cost:
                    break
                total -= 1
                gain, paid = gain - gains[total], paid - costs[total]
            if total == begin:
                gain, paid = 0.0, 0.0
            if total == size:
                return -1
            gains[total], costs[total] = found - gain, price[at] - paid
            places[total], patches[total] = at, p
            gain, paid, total = found, np.float64(price[at]), total + 1
    return total


@njit(cache=True, nogil=True)
def _first_steps(slope, start, token, price, tables, reach, ratios, costs):
    """Fill the best gain per price (patches,) of a flip, and its price."""
    for p in range(len(reach)):
        table = tables[p % len(tables)]
        base = _gain(slope, p, table, token[start[p]])
        most, best, paid = reach[p] - base, 0.0, 0.0
        for at in range(start[p] + 1, start[p + 1]):
            cost = max(price[at], _LEAST)
            if most <= best * cost:
                break
            ratio = (_gain(slope, p, table, token[at]) - base) / cost
            if ratio > best:
                best, paid = ratio, cost
        ratios[p], costs[p] = best, paid


@njit(cache=True, nogil=True)
def choose(slope, start, token, price, tables, budget, chosen):
    """Fill the offers (patches,) of largest total gain that a budget pays for, all but the last.

    The steps of all patches, each to the next token on the hull of its gains over prices, are taken
    in order of gain per price until one is too dear: the knapsack's linear relaxation without its
    fraction.
    """
    n = len(chosen)
    reach, ratios, paid = np.empty(n), np.empty(n), np.empty(n)
    _largest(slope, tables, reach)
    _first_steps(slope, start, token, price, tables, reach, ratios, paid)
    # Of each patch's first step alone, those that spend the budget: no others are worth less.
    order, spent, least = np.argsort(-ratios), 0.0, 0.0
    for p in order:
        if ratios[p] <= 0.0:
            break
        spent += paid[p]
        if spent > budget:
            least = ratios[p] * (1 - 1e-9)
            break
    size, total = 4 * n, -1
    while total < 0:
        gains, costs = np.empty(size), np.empty(size)
        places, patches = np.empty(size, np.int64), np.empty(size, np.int64)
        total = _steps(slope, start, token, price, tables, reach, least, gains, costs, places,
                       patches)  # fmt: skip
        size *= 4
    worth = np.empty(total)
    for k in range(total):
        worth[k] = -gains[k] / max(costs[k], _LEAST)
    for p in range(n):
        chosen[p] = start[p]
    spent = 0.0
    for k in np.argsort(worth, kind="mergesort"):
        spent += costs[k]
        if spent > budget:
            break
        chosen[patches[k]] = places[k]


@njit(cache=True, nogil=True)
def steepest(slope, now, left, start, token, price, tables, scores, places):
    """Fill the best flip (patches,) of each patch from where it is now, by gain per price.

    0 where no flip gains anything or can be paid for by what is left.
    """
    reach = np.empty(len(now))
    _largest(slope, tables, reach)
    for p in range(len(now)):
        table = tables[p % len(tables)]
        base, paid = _gain(slope, p, table, token[now[p]]), price[now[p]]
        most = reach[p] - base
        scores[p], places[p] = 0.0, now[p]
        for at in range(start[p], start[p + 1]):
            change = price[at] - paid
            if change > left or most <= scores[p] * change:
                break
            score = (_gain(slope, p, table, token[at]) - base) / max(change, 1e-12)
            if at != now[p] and score > scores[p]:
                scores[p], places[p] = score, at


@njit(cache=True, nogil=True)
def best_flips(slope, now, left, start, token, price, tables, scores, places, patches):
    """Fill the best single flips (width,) of all patches by gain per price, the best first.

    Scores are -inf where there are no more.
    """
    width, reach = len(scores), np.empty(len(now))
    _largest(slope, tables, reach)
    scores[:] = -np.inf
    places[:], patches[:] = now[0], 0
    for p in range(len(now)):
        table = tables[p % len(tables)]
        base, paid = _gain(slope, p, table, token[now[p]]), price[now[p]]
        for at in range(start[p], start[p + 1]):
            change = price[at] - paid
            if change > left or reach[p] - base <= scores[width - 1] * change:
                break
            gain = _gain(slope, p, table, token[at]) - base
            score = gain / max(change, 1e-12)
            if at == now[p] or gain <= 0 or score <= scores[width - 1]:
                continue
            k = width - 1
            while k > 0 and scores[k - 1] < score:
                scores[k], places[k], patches[k] = scores[k - 1], places[k - 1], patches[k - 1]
                k -= 1
            scores[k], places[k], patches[k] = score, at, p
