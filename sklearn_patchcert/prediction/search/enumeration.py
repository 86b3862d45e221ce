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


def start(room):
    """State of an enumeration of at most `room` configurations, before the first.

    Returns
    -------
    state : tuple of ndarray
        counters (n_nodes, heap size, count), then of each node its cost, the cost without its last
        position, last position, rank and parent, then the heap, and the nodes in order.
    """
    nodes = 3 * room + 4
    counters = np.array([1, 1, 0], dtype=np.int64)
    sums, base = np.empty(nodes), np.empty(nodes)
    last, rank, before, heap = (np.empty(nodes, dtype=np.int32) for _ in range(4))
    sums[0], base[0], last[0], rank[0], before[0], heap[0] = 0.0, 0.0, -1, 0, -1, 0
    return counters, sums, base, last, rank, before, heap, np.empty(room, dtype=np.int32)


@njit(cache=True, nogil=True)
def cheapest(prices, upto, largest, state):
    """Go on until `upto` configurations are in order, or all there are.

    Parameters
    ----------
    prices : ndarray (positions, n_choices), sorted by row, inf where there is no choice
        Of the positions in the order of their second entry; the first entries are 0.
    upto : int
        At most what the state has room for.
    largest : bool
        Whether the cost of a configuration is its dearest choice instead of the sum.
    state : tuple
        Of :func:`start`; changed.

    Returns
    -------
    following : float
        Cost of the first configuration that is not in order yet; inf where there is none.
    """
    counters, sums, base, last, rank, before, heap, order = state
    positions, choices = prices.shape
    nodes, size, count = counters[0], counters[1], counters[2]
    while size > 0 and count < upto:
        node, size = _pop(heap, sums, size)
        order[count] = node
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
    counters[0], counters[1], counters[2] = nodes, size, count
    return sums[heap[0]] if size > 0 else np.inf


@njit(cache=True, nogil=True)
def differences(begin, end, tokens, first, state):
    """Where the configurations from `begin` to `end` in order differ from all first choices.

    Parameters
    ----------
    begin, end : int
    tokens : ndarray of int (positions, n_choices)
        What is chosen.
    first : ndarray of int (positions,)
        Where the positions lie in a configuration.
    state : tuple
        After :func:`cheapest`.

    Returns
    -------
    row, place, token : ndarray of int64 (m,)
        In the order of the rows, the first of which is that of `begin`.
    """
    last, rank, before, order = state[3], state[4], state[5], state[7]
    count = 0
    for number in range(begin, end):
        step = order[number]
        while last[step] >= 0:
            count += 1
            step = before[step]
    row, place = np.empty(count, np.int64), np.empty(count, np.int64)
    token = np.empty(count, np.int64)
    at = 0
    for number in range(begin, end):
        step = order[number]
        while last[step] >= 0:
            row[at], place[at] = number - begin, first[last[step]]
            token[at] = tokens[last[step], rank[step]]
            at += 1
            step = before[step]
    return row, place, token
