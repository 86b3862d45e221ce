r"""Search by comparing a patch with all tokens in float32 or integers, a few in float64.

In units in which the tokens fill a unit ball around their mean, a patch is compared with all tokens
by the scores :math:`S_b = |b|^2 / 2 - x b = (|x - b|^2 - |x|^2) / 2`, computed in float32 by fused
multiplications and additions.  With :math:`u = 2^{-24}` and :math:`|b| \le 1`, what is computed
errs by at most

.. math:: (d + 5)\, u\, (|x| + 1/2) < e = 1.1\, (d + 6)\, u\, (|x| + 1/2):

:math:`d` additions of partial sums below :math:`|x| + 1/2`, a rounding of each product where they
are not fused, and one each of the patch, the tokens and :math:`|b|^2 / 2`.  The difference of the
two bounds is more than what the float64 definition itself rounds, as long as :math:`e < 1` and the
radius is not so large, by unequal weights, that its own square counts; other patches are
measured against every token.

Processors that add products of 16-bit integers do so faster.  There the patch is rounded to
multiples of :math:`|x| / G`, :math:`G = 32000`, and the tokens to multiples of :math:`1 / F`,
:math:`F \le 2 G`, which moves them by at most :math:`o`.  Sums of products stay below
:math:`2^{31}` by Cauchy and Schwarz, for up to :math:`2^{20}` coordinates, and have no rounding,
so that :math:`e` grows by

.. math:: |x|\, \left(\frac{\sqrt{d}}{2 G} + o\right)

and by 4 % for second terms.  Tokens that are too crowded for these steps are compared in float32.

- *Nearest token.*  Only tokens with :math:`S_b \le \min S + 2 e` can be it.
- *Nearest wall.*  Its distance is :math:`h_b = (S_b - S_a) / |w (a - b)|_*`.  With the table of
  :math:`1 / |w (a - b)|_*`, whose largest entry in the row of :math:`a` is :math:`m`, it is known
  to :math:`2 e m`; so only tokens with a computed :math:`h_b \le (\min h + 5 e m)(1.008)` can
  have the nearest wall: :math:`4 e m` for both errors, the rest for roundings relative to
  :math:`h`, above all the table's to 8 bits, and for what the definition of the radius allows for
  float64.  Noise of a step before takes at most
  :math:`|a - b|_2 / |w (a - b)|_* \cdot` blur :math:`\le 2 m \cdot` blur from a wall, which is
  added.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numba.extending import overload

from sklearn_patchcert.voronoi.engines.lanes import (
    BLOCK,
    LANES,
    below,
    blocks_below,
    first_bit,
    least,
    least_wall,
    walls_below,
)
from sklearn_patchcert.voronoi.engines.measure import (
    L1,
    L2,
    dual_norm,
    dual_norms,
    lowered,
    measure_all,
)
from sklearn_patchcert.voronoi.engines.pairs import norms4, squares4
from sklearn_patchcert.voronoi.engines.products import INTEGERS, scaled16, scores4

_AT_ONCE = 64  # patches in a stage, whose scores stay in the cache
_FAR = np.float32(1e30)
_CUT = 1.01 * 2.0**-7  # of numbers without the lower 16 bits, relatively
_STEPS = 32000.0  # G, below 2^15
_CROWD = 4.0  # tokens within the error of integers, on average, that cost more than they save
_SAMPLE = 256


class Tables(NamedTuple):
    """What is known of the tokens before any patch comes; flat arrays."""

    tokens: np.ndarray  # negated, block after block of 64; as `scores4` wants them
    steps: float  # F, of integers in the unit
    off: float  # by how much rounding the tokens to integers moved one of them at most
    half: np.ndarray  # float32, |b|^2 / 2
    inverse: np.ndarray  # upper half of float32, 1 / |w (a - b)|_*, a row for each a
    largest: np.ndarray  # of each row; inf where float32 does not hold them
    sizes: np.ndarray  # float64, (n_tokens, n_tokens): |w (a - b)|_* in the user's units


def prepare(exact, unit_tokens, unit_weights, integers=None):
    """Tables of tokens (n_tokens, dim) in the unit ball and weights (dim,) of at most 1."""
    tokens, weights, _, norm, _ = exact
    n, dim = unit_tokens.shape
    if integers is None:
        integers = INTEGERS and _crowd(unit_tokens) <= _CROWD
    wide, padded = -(-dim // 4) * 4, -(-n // BLOCK) * BLOCK
    blocks = np.zeros((padded, wide))
    blocks[:n, :dim] = -unit_tokens
    half = np.full(padded, _FAR, np.float32)
    half[:n] = (unit_tokens**2).sum(1) / 2
    steps, off = 1.0, 0.0
    if integers:
        steps = min(2 * _STEPS, 32767 / max(float(np.abs(unit_tokens).max()), 1e-3))
        whole = np.rint(steps * blocks)
        off = float(np.sqrt(np.square(whole / steps - blocks).sum(1).max()))
        blocks = whole.astype(np.int16).reshape(-1, BLOCK, wide // 2, 2).transpose(0, 2, 1, 3)
    else:
        blocks = blocks.astype(np.float32).reshape(-1, BLOCK, wide).transpose(0, 2, 1)
    blocks = np.ascontiguousarray(blocks).ravel()
    weighted = unit_tokens * unit_weights
    inverse = np.ones((n, padded), np.float32)
    largest = np.empty(n, np.float32)
    known = max(1e-10, 1e-12 * dim)  # from where on roundings of the unit do not matter
    for a in range(n):
        size = np.abs(weighted[a] - weighted)
        if norm == L2:
            size = np.sqrt((size * size).sum(1))
        else:
            size = size.max(1) if norm == L1 else size.sum(1)
        size[a] = 1.0
        largest[a] = 1 / size.min() if size.min() > known else np.inf
        inverse[a, :n] = 1 / np.maximum(size, 1e-10)
    sizes = dual_norms(tokens, weights, np.arange(n), norm)
    inverse = (inverse.view(np.uint32) >> 16).astype(np.uint16)  # rounded down
    return Tables(blocks, steps, off, half, inverse.ravel(), largest, sizes)


def _crowd(tokens):
    """How many tokens, on average, are so near to a token that integers do not tell them apart."""
    some = tokens[:: -(-len(tokens) // _SAMPLE)]
    norms = np.square(tokens).sum(1)
    size = np.sqrt(np.square(some).sum(1))
    apart = size[:, None] ** 2 + norms - 2 * some @ tokens.T
    error = np.sqrt(tokens.shape[1]) / _STEPS * (size + float(np.sqrt(norms.mean()))) / 2
    return float(np.count_nonzero(apart / 2 <= 4 * error[:, None])) / len(some)


def _room(points, table):
    """The points themselves, or room for them as integers, if the tokens are."""


@overload(_room)
def _room_of_the_type(points, table):
    if table.dtype == points.dtype:
        return lambda points, table: points
    return lambda points, table: np.zeros(points.shape[0], table.dtype)


@njit(cache=True, nogil=True)
def search(X, exact, unit, tables, noise, growth, walls, ids, radii, witnesses):
    """Fill ids, and if `walls` radii, and if there is room witnesses, of patches X (n, dim)."""
    tokens, weights, ones, norm, motion = exact
    centre, scale, wscale = unit
    table, fine, off, half, inverse, largest, dual = tables
    count, dim = tokens.shape
    wide, padded = (dim + 3) // 4 * 4, half.shape[0]
    float_error = np.float32(1.1 * (dim + 6) * 2.0**-24)
    integers = table.itemsize == 2
    step_error = np.float32(1.02 * (0.51 * np.sqrt(dim) / _STEPS + off))
    one = np.uint64(1)
    flat, flat_tokens = X.reshape(X.size), tokens.reshape(tokens.size)
    centres = np.empty(_AT_ONCE * dim)
    for k in range(_AT_ONCE * dim):
        centres[k] = centre[k % dim]
    points = np.zeros(_AT_ONCE * wide + LANES, np.float32)
    compared = _room(points, table)
    steps, factors = np.ones(_AT_ONCE, np.float32), np.ones(_AT_ONCE, np.float32)
    scores = np.empty(_AT_ONCE * padded, np.float32)
    blocks = padded // BLOCK
    lows = np.zeros(_AT_ONCE * blocks * LANES, np.float32)  # of scores, then of walls
    squares = np.zeros(_AT_ONCE, np.float32)
    error, hard = np.zeros(_AT_ONCE, np.float32), np.zeros(_AT_ONCE, np.bool_)
    own, nearest = np.zeros(_AT_ONCE, np.int64), np.zeros(_AT_ONCE)
    base, bounds = np.zeros(_AT_ONCE, np.float32), np.zeros(_AT_ONCE, np.float32)
    unrounded, lowest = np.zeros(_AT_ONCE), np.zeros(_AT_ONCE)
    witness = np.zeros(_AT_ONCE, np.int64)
    pairs = _AT_ONCE * padded + 4  # the last three may be there for nothing
    who, found = np.empty(pairs, np.int64), np.empty(pairs, np.int64)
    sizes, gaps = np.empty(pairs), np.empty(pairs)
    spare = np.zeros(count, np.int64), np.zeros(count), np.zeros(count)
    for start in range(0, X.shape[0], _AT_ONCE):
        m = min(_AT_ONCE, X.shape[0] - start)
        if wide == dim:  # one long loop, which the compiler makes a vector's
            values = flat[start * dim : (start + m) * dim]
            for k in range(m * dim):
                value = np.float64(values[k])
                points[k] = np.float32((value - centres[k]) * scale)
        else:
            for q in range(m):
                for j in range(dim):
                    value = np.float64(X[start + q, j])
                    points[q * wide + j] = np.float32((value - centre[j]) * scale)
        for q in range(0, m, 4):
            norms4(points, q, wide, squares)
        for q in range(_AT_ONCE):
            length = np.sqrt(squares[q])
            error[q] = float_error * (length + np.float32(0.5))
            if integers:
                length = max(length, np.float32(2.0**-10))
                error[q] += step_error * length
                steps[q] = length * np.float32(1 / (_STEPS * fine))
                factors[q] = np.float32(_STEPS) / length
        for q in range(m if integers else 0):
            for o in range(q * wide, (q + 1) * wide, LANES):  # what is too many comes anew
                scaled16(points, factors[q], compared, o)
        for q in range(0, m, 4):
            scores4(compared, steps, table, half, wide, blocks, q, scores, lows)
        # Stage by stage, not patch by patch: what one patch waits for overlaps with the others.
        for q in range(m):
            nearest[q], hard[q] = np.inf, not error[q] < 1
            bounds[q] = least(lows, q * blocks * LANES, blocks * LANES) + 2 * error[q]
            if hard[q]:
                bounds[q] = -_FAR
        n = 0
        for q in range(m):  # which tokens may be nearest
            some = one if blocks == 1 else blocks_below(lows, q * blocks * LANES, blocks, bounds[q])
            while some:
                o = BLOCK * first_bit(some)
                some &= some - one
                hits = below(scores, q * padded + o, bounds[q])
                while hits:
                    who[n], found[n] = q, o + first_bit(hits)
                    n += found[n] < count
                    hits &= hits - one
        who[n : n + 3], found[n : n + 3] = 0, 0
        for k in range(0, n, 4):
            squares4(flat, start, flat_tokens, who, found, k, dim, gaps)
        for k in range(n):  # and which is
            q = who[k]
            if gaps[k] < nearest[q]:
                nearest[q], own[q] = gaps[k], found[k]
        for q in range(m):  # long before the walls are measured: a store delays what reads it
            a = q * padded + own[q]
            base[q], scores[a] = scores[a], _FAR
            unrounded[q], lowest[q], witness[q] = np.inf, np.inf, -1
        for q in range(m if walls else 0):
            a, low = own[q], q * blocks * LANES
            bound = least_wall(scores, q * padded, inverse, a * padded, padded, base[q], lows, low)
            bound += 5 * error[q] * largest[a]
            if noise.shape[0]:
                blur = 2 * scale * noise[start + q] + growth * motion * wscale * max(bound, 0)
                bound += np.float32(2 * blur * (1 + 1e-6)) * largest[a]
                if not blur < 1:
                    hard[q] = True
            bound *= np.float32(1 + _CUT + 1e-5)
            move = motion * wscale * bound
            if not 8 * (dim + 8) * 2.0**-52 * move * move < error[q]:
                hard[q] = True
            bounds[q] = -_FAR if hard[q] else bound
        n = 0
        for q in range(m if walls else 0):  # whose walls may be nearest
            row = own[q] * padded
            some = one if blocks == 1 else blocks_below(lows, q * blocks * LANES, blocks, bounds[q])
            while some:
                o = BLOCK * first_bit(some)
                some &= some - one
                hits = walls_below(scores, q * padded + o, inverse, row + o, base[q], bounds[q])
                while hits:
                    who[n], found[n] = q, o + first_bit(hits)
                    n += found[n] < count
                    hits &= hits - one
        who[n : n + 3], found[n : n + 3] = 0, 0
        for k in range(0, n, 4):
            squares4(flat, start, flat_tokens, who, found, k, dim, gaps)
        for k in range(n):
            q = who[k]
            sizes[k] = dual[own[q], found[k]]
            unrounded[q] = min(unrounded[q], (gaps[k] - nearest[q]) / (2 * sizes[k]))
        for k in range(n):
            q, b = who[k], found[k]
            move, blur, apart = motion * unrounded[q], 0.0, 0.0
            if noise.shape[0]:
                blur = 2 * noise[start + q] + growth * move
                apart = dual_norm(tokens, ones, own[q], b, L2)
            wall = lowered(gaps[k], nearest[q], sizes[k], move, blur, apart, dim)
            if wall < lowest[q] or witness[q] < 0:  # in the order of the tokens
                lowest[q], witness[q] = wall, b
        for q in range(m):
            i = start + q
            ids[i] = own[q]
            radii[i] = max(0.0, lowest[q] * (1 - (dim + 8) * 2.0**-52))
            if hard[q]:
                sound = noise[i] if noise.shape[0] else -1.0
                ids[i], radii[i], witness[q] = measure_all(
                    X[i], tokens, weights, ones, norm, motion, sound, growth, walls, *spare
                )
            if witnesses.shape[0]:
                witnesses[i] = witness[q]
