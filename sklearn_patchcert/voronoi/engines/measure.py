r"""The exact side of the searches: float64, one patch against one token, as the claim defines it.

Operation by operation, these functions compute the same as
:mod:`sklearn_patchcert.voronoi.engines.dense` does for all tokens, which defines the tokenization
and the radius.  The searches use them for the few tokens that their float32 bounds cannot exclude.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

L2, LINF, L1 = 2, 1, 0  # which dual norm measures a wall's normal: L2, L1, Linf
TINY = float(np.finfo(np.float64).tiny)
_SMALL, _LARGE = 1e-250, 1e250


@njit(cache=True, nogil=True, inline="always")
def squared_distance(x, tokens, b):
    """Squared distance to token b, coordinate by coordinate, each step rounded on its own."""
    total = 0.0
    for j in range(tokens.shape[1]):
        difference = np.float64(x[j]) - tokens[b, j]
        total += difference * difference
    return total


@njit(cache=True, nogil=True)
def dual_norm(tokens, weights, a, b, norm):
    """|w (a - b)|_*, neither under- nor overflowing, not below the true value but for rounding."""
    total, largest = 0.0, 0.0
    for j in range(tokens.shape[1]):
        size = abs(weights[j] * (tokens[a, j] - tokens[b, j]))
        largest = max(largest, size)
        total += size * size if norm == L2 else size
    if norm == L1:
        return largest + TINY
    if norm == LINF:
        return total + tokens.shape[1] * TINY
    if _SMALL < total < _LARGE:
        return math.sqrt(total)
    largest += TINY
    total = 0.0
    for j in range(tokens.shape[1]):
        part = weights[j] * (tokens[a, j] - tokens[b, j]) / largest
        total += part * part
    return largest * math.sqrt(total) + tokens.shape[1] * TINY


@njit(cache=True, nogil=True)
def dual_norms(tokens, weights, some, norm):
    """|w (a - b)|_* of some tokens (m,) and all: (m, n_tokens)."""
    table = np.empty((len(some), tokens.shape[0]))
    for row, a in enumerate(some):
        for b in range(tokens.shape[0]):
            table[row, b] = dual_norm(tokens, weights, a, b, norm)
    return table


@njit(cache=True, nogil=True, inline="always")
def lowered(gap, nearest, size, move, blur, apart, dim):
    """Distance of a wall, less what rounding, and the noise of a step before, may take from it."""
    gamma = (dim + 8) * 2.0**-52
    moved = move + blur
    left = gap - nearest
    left -= 4 * gamma * (gap + nearest + moved * moved) + 8 * dim * TINY
    left -= 2 * apart * blur * (1 + gamma)
    wall = left / (2 * size)
    return 0.0 if math.isnan(wall) else wall


@njit(cache=True, nogil=True)
def radius(tokens, ones, motion, noise, growth, a, nearest, found, sizes, gaps, n):
    """Radius and witness from the walls of n tokens, the only ones that can matter.

    `found` holds these tokens, `sizes` their dual norms and `gaps` their squared distances; a
    negative `noise` says that no step before the tokenizer rounds.
    """
    dim = tokens.shape[1]
    unrounded = np.inf
    for k in range(n):
        if found[k] != a:
            unrounded = min(unrounded, (gaps[k] - nearest) / (2 * sizes[k]))
    move = motion * unrounded
    blur = 2 * noise + growth * move if noise >= 0 else 0.0
    least, witness = np.inf, -1
    for k in range(n):
        b = found[k]
        if b != a:
            apart = dual_norm(tokens, ones, a, b, L2) if noise >= 0 else 0.0
            wall = lowered(gaps[k], nearest, sizes[k], move, blur, apart, dim)
            if wall < least or (wall == least and (witness < 0 or b < witness)):
                least, witness = wall, b
    return max(0.0, least * (1 - (dim + 8) * 2.0**-52)), witness


@njit(cache=True, nogil=True)
def measure_all(x, tokens, weights, ones, norm, motion, noise, growth, walls, found, sizes, gaps):
    """Nearest token, radius and witness by the definition, for what float32 cannot bound."""
    n = tokens.shape[0]
    a = 0
    for b in range(n):
        found[b] = b
        gaps[b] = squared_distance(x, tokens, b)
        if gaps[b] < gaps[a]:
            a = b
    if not walls or n == 1:
        return a, np.inf, -1
    for b in range(n):
        sizes[b] = dual_norm(tokens, weights, a, b, norm)
    nearest = gaps[a]
    reach, witness = radius(tokens, ones, motion, noise, growth, a, nearest, found, sizes, gaps, n)
    return a, reach, witness


@njit(cache=True, nogil=True)
def search(X, exact, unit, tables, noise, growth, walls, ids, radii, witnesses):
    """Fill ids, radii and, if there is room, witnesses of the patches X (n, dim)."""
    tokens, weights, ones, norm, motion = exact
    n = tokens.shape[0]
    found, sizes, gaps = np.zeros(n, np.int64), np.zeros(n), np.zeros(n)
    for i in range(X.shape[0]):
        sound = noise[i] if noise.shape[0] else -1.0
        ids[i], radii[i], witness = measure_all(
            X[i], tokens, weights, ones, norm, motion, sound, growth, walls, found, sizes, gaps
        )
        if witnesses.shape[0]:
            witnesses[i] = witness
