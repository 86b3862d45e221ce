"""Configurations of tokens in the order of their cost: the k smallest sums, one choice a position.

Position by position the costs are sorted, the cheapest first, and positions are ordered by the step
to their second choice.  A configuration is a path: the last position that left its first choice,
the rank it is at, and the configuration without that.  Its successors raise that rank, or let the
next position take its second choice too, or instead; so every configuration comes once, and never
before a cheaper one (Lawler's scheme).
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def _push(heap, keys, size, node):
    at = size
    heap[at] = node
    while at > 0:
        up = (at - 1) // 2
        if keys[heap[up]] <= keys[heap[at]]:
            break
        heap[up], heap[at] = heap[at], heap[up]
        at = up
    return size + 1


@njit(cache=True, nogil=True, inline="always")
def _pop(heap, keys, size):
    top = heap[0]
    size -= 1
    heap[0] = heap[size]
    at = 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        if down + 1 < size and keys[heap[down + 1]] < keys[heap[down]]:
            down += 1
        if keys[heap[at]] <= keys[heap[down]]:
            break
        heap[at], heap[down] = heap[down], heap[at]
        at = down
    return top, size


@njit(cache=True, nogil=True)
def cheapest(prices, tokens, first, most, largest, sums, ids, costs):
    """Fill ids (most, positions) and costs (most + 1,) of the cheapest configurations, in order.

    Parameters
    ----------
    prices : ndarray (positions, n_choices), sorted by row, inf where there is no choice
        Of the positions in the order of their second entry; the first entries are 0.
    tokens : ndarray of int (positions, n_choices)
        What is chosen.
    first : ndarray of int (positions,)
        Where the positions lie in a row of `ids`.
    most : int
    largest : bool
        Whether the cost of a configuration is its dearest choice instead of the sum.
    sums : ndarray (3 * most + 4,), scratch
    ids : ndarray of int (most, positions)
    costs : ndarray (most + 1,)
        The last is that of the first configuration that is not there; inf where there is none.

    Returns
    -------
    count : int
    """
    positions, choices = prices.shape
    room = sums.shape[0]
    heap = np.empty(room, np.int64)
    last, rank = np.empty(room, np.int64), np.empty(room, np.int64)
    before = np.empty(room, np.int64)
    base = np.empty(room)  # cost without the last position
    nodes, size = 1, 0
    sums[0], last[0], rank[0], before[0], base[0] = 0.0, -1, 0, -1, 0.0
    size = _push(heap, sums, size, 0)
    count = 0
    while size > 0:
        node, size = _pop(heap, sums, size)
        costs[count] = sums[node]
        if count == most:
            return count
        for p in range(positions):
            ids[count, first[p]] = tokens[p, 0]
        step = node
        while last[step] >= 0:
            ids[count, first[last[step]]] = tokens[last[step], rank[step]]
            step = before[step]
        count += 1
        p, j = last[node], rank[node]
        for kind in range(3):
            if kind == 0:
                position, choice, rest, parent = p, j + 1, base[node], before[node]
            elif kind == 1:
                position, choice, rest, parent = p + 1, 1, sums[node], node
            else:
                position, choice, rest, parent = p + 1, 1, base[node], before[node]
            if kind != 1 and p < 0:
                continue
            if kind == 2 and j != 1:
                continue
            if position >= positions or choice >= choices:
                continue
            price = prices[position, choice]
            if not price < np.inf:
                continue
            sums[nodes] = max(rest, price) if largest else rest + price
            last[nodes], rank[nodes], before[nodes], base[nodes] = position, choice, parent, rest
            size = _push(heap, sums, size, nodes)
            nodes += 1
    costs[count] = np.inf
    return count
