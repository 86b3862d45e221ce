r"""Costs of other tokens: distances of patches to single walls of their cells, from below.

To have token b, a patch must cross the wall between b and every other token a, so that the farthest
of some walls is a lower bound of what it costs.  Each wall is lowered by the bound of
:mod:`sklearn_patchcert.voronoi.certificate`, operation by operation as its formula has it.
Distances are summed one coordinate after the other, many tokens at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sklearn_patchcert.voronoi.engines.measure import TINY, dual_norm


@njit(cache=True, nogil=True, error_model="numpy")
def _squares(x, columns, out):
    """Squared distances to all tokens; `columns` (dim, n_tokens) are the tokens' coordinates."""
    out[:] = 0.0
    for j in range(columns.shape[0]):
        value = np.float64(x[j])
        for b in range(columns.shape[1]):
            difference = value - columns[j, b]
            out[b] += difference * difference


@njit(cache=True, nogil=True)
def _nearest(squares, many, chosen):
    """The `many` nearest tokens, of equally near ones the first, in order."""
    count = 0
    for b in range(squares.shape[0]):
        if count == many and not squares[b] < squares[chosen[count - 1]]:
            continue
        at = count if count < many else many - 1
        while at > 0 and squares[b] < squares[chosen[at - 1]]:
            chosen[at] = chosen[at - 1]
            at -= 1
        chosen[at] = b
        count = min(count + 1, many)


@njit(cache=True, nogil=True)
def _never_apart(tokens, weights, a, b):
    """Whether two tokens agree wherever a patch can move."""
    for j in range(tokens.shape[1]):
        if weights[j] > 0 and tokens[a, j] != tokens[b, j]:
            return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _wall(square, near, size, apart, motion, noise, growth, dim):
    gamma = (dim + 8) * 2.0**-52
    gap = square - near
    move = motion * (abs(gap) / (2 * size))
    blur = 2 * noise + growth * move if noise >= 0 else 0.0
    moved = move + blur
    left = gap - 4 * gamma * (square + near + moved * moved)
    left -= 8 * dim * TINY
    if noise >= 0:
        left -= 2 * apart * blur * (1 + gamma)
    return left / (2 * size) * (1 - 4 * gamma)


@njit(cache=True, nogil=True, error_model="numpy")
def _walls_of(a, squares, sizes, aparts, motion, noise, growth, dim, out):
    """The walls between token a and all others."""
    near = squares[a]
    if noise >= 0:
        for b in range(out.shape[0]):
            out[b] = _wall(squares[b], near, sizes[b], aparts[b], motion, noise, growth, dim)
    else:
        for b in range(out.shape[0]):
            out[b] = _wall(squares[b], near, sizes[b], 0.0, motion, -1.0, 0.0, dim)


@njit(cache=True, nogil=True)
def _rows(a, tokens, weights, ones, kind, tables, apart, norm, noise, sizes, aparts):
    """Rows of the tables of token a: dual norms of its walls and, for noise, distances."""
    if tables.shape[0]:
        sizes = tables[kind, a]
    else:
        for b in range(tokens.shape[0]):
            sizes[b] = dual_norm(tokens, weights, a, b, norm)
    if noise >= 0:
        if apart.shape[0]:
            aparts = apart[a]
        else:
            for b in range(tokens.shape[0]):
                aparts[b] = dual_norm(tokens, ones, a, b, 2)
    return sizes, aparts


@njit(cache=True, nogil=True)
def _farthest(x, own, tokens, columns, weights, ones, kind, tables, apart, norm, motion, noise,
              growth, n_walls, limit, squares, sizes, aparts, walls, chosen, out):  # fmt: skip
    """Fill `out` with the farthest walls; whether any but the own token is below the limit.

    Tokens whose wall to the own token is at or above the limit are not looked at any further.
    """
    count, dim = tokens.shape
    flat = 2 * dim * TINY
    _squares(x, columns, squares)
    size, between = _rows(own, tokens, weights, ones, kind, tables, apart, norm, noise, sizes,
                          aparts)  # fmt: skip
    _walls_of(own, squares, size, between, motion, noise, growth, dim, walls)
    least = np.inf
    for b in range(count):
        wall = walls[b] if walls[b] > 0 else 0.0  # also what no number can bound
        if size[b] <= flat and _never_apart(tokens, weights, own, b):
            wall = np.inf  # no wall between them: the own one stays
        out[b] = wall
        if b != own and wall < least:
            least = wall
    out[own] = 0.0
    if n_walls == 1 or not least < limit:
        return least < limit
    _nearest(squares, n_walls, chosen)
    for rank in range(n_walls):
        a = chosen[rank]
        if a == own:
            continue
        if limit < np.inf:  # few are left: each by itself
            for b in range(count):
                if b in (own, a) or not out[b] < limit:
                    continue
                wide = dual_norm(tokens, weights, a, b, norm)
                if wide <= flat and _never_apart(tokens, weights, a, b):
                    continue
                far = dual_norm(tokens, ones, a, b, 2) if noise >= 0 else 0.0
                wall = _wall(squares[b], squares[a], wide, far, motion, noise, growth, dim)
                if wall > out[b]:
                    out[b] = wall
            continue
        size, between = _rows(a, tokens, weights, ones, kind, tables, apart, norm, noise, sizes,
                              aparts)  # fmt: skip
        _walls_of(a, squares, size, between, motion, noise, growth, dim, walls)
        for b in range(count):
            if walls[b] > out[b] and b != own:
                if size[b] <= flat and _never_apart(tokens, weights, a, b):
                    continue
                out[b] = walls[b]
    return True


@njit(cache=True, nogil=True)
def every(X, own, tables, scale, noise, growth, n_walls, costs):
    """Fill the costs (n, n_tokens) of all tokens for patches X (n, dim).

    Parameters
    ----------
    X : ndarray (n, dim)
    own : ndarray of int64 (n,)
    tables : tuple
        tokens (n_tokens, dim), the same transposed, norm, dual norms (kinds, n_tokens, n_tokens)
        and L2 distances (n_tokens, n_tokens); without kinds, and tokens, they are computed here.
    scale : tuple
        kind of each patch (n,), weights (kinds, dim) and largest motions (kinds,).
    noise : ndarray (n,) or (0,)
    growth : float
    n_walls : int
    costs : ndarray (n, n_tokens)
    """
    tokens, columns, norm, sizes_of, apart = tables
    kinds, weights, motions = scale
    count = tokens.shape[0]
    squares, sizes, aparts = np.empty(count), np.empty(count), np.empty(count)
    walls = np.empty(count)
    chosen, ones = np.zeros(n_walls, np.int64), np.ones(tokens.shape[1])
    for i in range(X.shape[0]):
        kind, blur = kinds[i], noise[i] if noise.shape[0] else -1.0
        _farthest(X[i], own[i], tokens, columns, weights[kind], ones, kind, sizes_of, apart, norm,
                  motions[kind], blur, growth, n_walls, np.inf, squares, sizes, aparts, walls,
                  chosen, costs[i])  # fmt: skip


@njit(cache=True, nogil=True)
def _keep(most, n, costs, places):
    """Move the `most` cheapest of n to the front, in their order; the dearest of them."""
    dearest = np.partition(costs[:n], most - 1)[most - 1]
    ties = most
    for k in range(n):
        if costs[k] < dearest:
            ties -= 1
    kept = 0
    for k in range(n):
        if costs[k] < dearest or (costs[k] == dearest and ties > 0):
            ties -= costs[k] == dearest
            costs[kept], places[kept] = costs[k], places[k]
            kept += 1
    return dearest


@njit(cache=True, nogil=True)
def cheapest(X, own, tables, scale, noise, growth, n_walls, count, most, costs, places):
    """Fill in the `most` cheapest changes of the patches of one image; how many there are.

    Parameters
    ----------
    X, own, tables, scale, noise, growth, n_walls
        As for :func:`every`.
    count : int
        Only the first so many tokens are given to patches.
    most : int
    costs : ndarray (room,), places : ndarray of int64 (room,)
        Of the changes, ``patch * n_tokens + token``, in this order; of equally dear ones the first.
        There must be room for all or for 2 `most` + n_tokens.
    """
    tokens, columns, norm, sizes_of, apart = tables
    kinds, weights, motions = scale
    n_tokens = tokens.shape[0]
    squares, sizes, aparts = np.empty(n_tokens), np.empty(n_tokens), np.empty(n_tokens)
    walls, found = np.empty(n_tokens), np.empty(n_tokens)
    chosen, ones = np.zeros(n_walls, np.int64), np.ones(tokens.shape[1])
    n, limit = 0, np.inf
    for i in range(X.shape[0]):
        kind, blur = kinds[i], noise[i] if noise.shape[0] else -1.0
        if not _farthest(X[i], own[i], tokens, columns, weights[kind], ones, kind, sizes_of, apart,
                         norm, motions[kind], blur, growth, n_walls, limit, squares, sizes, aparts,
                         walls, chosen, found):  # fmt: skip
            continue
        for b in range(count):
            if found[b] < limit and b != own[i]:
                costs[n], places[n] = found[b], i * n_tokens + b
                n += 1
        if n >= 2 * most:
            limit = _keep(most, n, costs, places)
            n = most
    if n > most:
        _keep(most, n, costs, places)
        n = most
    return n
