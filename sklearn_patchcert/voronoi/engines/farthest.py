"""Distances of patches to the farthest walls of other tokens' cells, one patch after the other."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def farthest(X, kind, kinds, tokens, near, limit, costs):
    """Fill lower bounds (m, n_tokens) of the distances of patches to the cells of all tokens.

    A bound is the farthest of a cell's walls among that to the patch's own token and those to the
    neighbors of the cell's token.

    Parameters
    ----------
    X : ndarray (m, dim), float64
    kind : ndarray of int64 (m,)
        Row of `kinds`.  It is fastest if equal ones follow each other.
    kinds : ndarray (n_kinds, dim), float64
        How far a patch moves where its user moves by one.
    tokens : ndarray (n_tokens, dim), float64
    near : ndarray of int64 (n_tokens, n_neighbors)
    limit : float
        Costs above it are inf.
    costs : ndarray (m, n_tokens), float64
        0 for the own token.
    """
    n, dim = tokens.shape
    apart, squares, now = np.empty(near.shape), np.empty(n), -1
    for i in range(X.shape[0]):
        if kind[i] != now:
            now = kind[i]
            for b in range(n):
                for k in range(near.shape[1]):
                    apart[b, k] = 2 * _between(tokens, kinds[now], b, near[b, k])
        own = 0
        for b in range(n):
            squares[b] = 0.0
            for j in range(dim):
                squares[b] += (X[i, j] - tokens[b, j]) ** 2
            if squares[b] < squares[own]:
                own = b
        for b in range(n):
            if b == own:
                costs[i, b] = 0.0
                continue
            size = 2 * _between(tokens, kinds[now], own, b)
            wall = (squares[b] - squares[own]) / size if size > 0 else np.inf
            if 0 < wall <= limit:
                for k in range(near.shape[1]):
                    ahead = squares[b] - squares[near[b, k]]
                    if ahead > wall * apart[b, k]:
                        wall = ahead / apart[b, k] if apart[b, k] > 0 else np.inf
                        if wall > limit:
                            break
            costs[i, b] = wall if wall <= limit else np.inf


@njit(cache=True, nogil=True, inline="always")
def _between(tokens, weights, a, b):
    total = 0.0
    for j in range(tokens.shape[1]):
        total += (weights[j] * (tokens[a, j] - tokens[b, j])) ** 2
    return np.sqrt(total)
