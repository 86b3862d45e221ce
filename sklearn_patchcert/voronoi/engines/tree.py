r"""Search in a large vocabulary: a tree of boxes around the patch, in float32, then float64.

A token is of interest only in a ball around the *patch*.  From
:math:`|x-b|^2 - |x-a|^2 = (|x-b| - |x-a|)(|x-b| + |x-a|) \ge (|x-b| - |x-a|)\, |a-b|` and
:math:`|w (a-b)|_* \le \kappa |a-b|`, the distance of its wall is

.. math:: h_b \ge (|x - b| - |x - a|) / (2 \kappa),

so that no token beyond :math:`|x - a| + 2 \kappa r` can lower a radius :math:`r` already found;
with noise, beyond :math:`|x - a| + 2 \kappa r + 2\, \mathrm{blur}`.  That ball holds four or five
tokens at any size of the vocabulary, where the ball around :math:`a` that triangle inequalities
give holds hundreds.  No table of neighbors is needed.

The tree is one of ranges (low, high) of four numbers that are 1-Lipschitz in the token: its first
three principal components, and the norm of the others.  Leaves have 16 tokens, groups 16 leaves.

Rounding.  Let a patch and a token be :math:`x` and :math:`b` in units in which the tokens fill a
unit ball around their mean, and :math:`u = 2^{-24}`.  Rounding both to float32, rotating the patch,
and the patch's four numbers shift a distance by at most :math:`\delta`; the sum of squares and a
rotation that is not quite one change it by a factor within :math:`1 \pm \epsilon`.  All that is not
collected is therefore truly further away than :math:`\sqrt{bound} (1-\epsilon) - \delta`, and the
search ends when this covers the ball above, widened by :math:`\tau = 10^{-5}`: far more than the
definition of the radius allows for float64.  Of the collected tokens those are measured whose
float32 values do not show, by the same bounds, that their wall is further away.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from sklearn_patchcert.voronoi.engines.lanes import (
    LANES,
    apart16,
    below16,
    boxes16,
    distances16,
    first_bit,
    rotate16,
)
from sklearn_patchcert.voronoi.engines.measure import (
    L1,
    L2,
    dual_norm,
    measure_all,
    radius,
    squared_distance,
)

_FAR = 1e15
_TAU = 1e-5
_GROW = np.float32(1.5)  # how far beyond the nearest leaf to look at once
_GROW_IDS = np.float32(1.1)  # where no walls are wanted
_KEEP = np.float32(0)
_CACHE = 2**18  # floats; with larger trees, patches that need the same leaves take turns


class Tables(NamedTuple):
    """The tree; flat float32 arrays but for the first and the names."""

    skew: float  # of the rotation: how far it changes a squared distance, relatively
    weighted: np.ndarray  # w b, rows of a multiple of 16
    rotation: np.ndarray
    leaves: np.ndarray  # rotated tokens, leaf after leaf, coordinate after coordinate
    names: np.ndarray  # int32, the tokens' indices in the leaves, -1 for empty places
    low: np.ndarray  # boxes of the leaves, 16 together
    high: np.ndarray
    group_low: np.ndarray  # boxes of the groups of 16 leaves
    group_high: np.ndarray


def prepare(exact, unit_tokens, unit_weights):
    """Tree over tokens (n_tokens, dim) in the unit ball, with weights (dim,) of at most 1."""
    n, dim = unit_tokens.shape
    four, sixteen = -(-dim // 4) * 4, -(-dim // LANES) * LANES
    _, axes = np.linalg.eigh(unit_tokens.T @ unit_tokens)
    rotation = np.zeros((four, sixteen), np.float32)
    rotation[:dim, :dim] = axes[:, ::-1]
    turn = rotation[:dim, :dim].astype(np.float64)
    skew = float(np.linalg.norm(turn.T @ turn - np.eye(dim))) + 1e-12
    rotated = (unit_tokens @ turn).astype(np.float32)
    few = min(3, dim)
    numbers = np.zeros((n, 4))
    numbers[:, :few] = rotated[:, :few]
    numbers[:, 3] = np.sqrt((rotated[:, few:].astype(np.float64) ** 2).sum(1))
    members = _leaves(numbers)
    n_leaves = -(-len(members) // LANES) * LANES
    names = np.full((n_leaves, LANES), -1, np.int32)
    for row, leaf in zip(names, members, strict=False):
        row[: len(leaf)] = leaf
    there = names >= 0
    places = np.full((n_leaves, four, LANES), np.float32(_FAR))
    places[:, dim:] = 0
    places[:, :dim] = np.where(there[:, None], rotated[names].transpose(0, 2, 1), places[:, :dim])
    inside = np.where(there[..., None], numbers[names], np.nan)
    n_groups = n_leaves // LANES
    padded = -(-n_groups // LANES) * LANES
    groups = np.full((padded, LANES * LANES, 4), np.nan)
    groups[:n_groups] = inside.reshape(n_groups, -1, 4)
    weighted = np.zeros((n, sixteen), np.float32)
    weighted[:, :dim] = unit_tokens * unit_weights
    return Tables(
        skew,
        weighted.ravel(),
        rotation.ravel(),
        places.ravel(),
        names.ravel(),
        *_boxes(inside, (dim + 8) * 1e-16),
        *_boxes(groups, (dim + 8) * 1e-16),
    )


def _leaves(numbers):
    """Split the tokens in halves, along the widest of their numbers, down to leaves of 16."""
    leaves, stack = [], [np.arange(len(numbers))]
    while stack:
        some = stack.pop()
        if len(some) <= LANES:
            leaves.append(some)
            continue
        values = numbers[some]
        axis = np.ptp(values, axis=0).argmax()
        some = some[np.argsort(values[:, axis], kind="stable")]
        unit = LANES * LANES if len(some) > LANES * LANES else LANES
        half = max(1, round(len(some) / 2 / unit)) * unit
        half = half if half < len(some) else half - unit
        stack += [some[half:], some[:half]]
    return leaves


def _boxes(numbers, margin):
    """Ranges (flat, 16 boxes together) of numbers (m, n, 4), rounded outwards; NaN for none."""
    empty = np.isnan(numbers[..., :1]).all(1)
    low = np.where(np.isnan(numbers), np.inf, numbers).min(1) - margin
    high = np.where(np.isnan(numbers), -np.inf, numbers).max(1) + margin
    low = np.where(empty, _FAR, np.nextafter(low.astype(np.float32), np.float32(-np.inf)))
    high = np.where(empty, _FAR, np.nextafter(high.astype(np.float32), np.float32(np.inf)))
    return tuple(
        np.ascontiguousarray(
            bound.astype(np.float32).reshape(-1, LANES, 4).transpose(0, 2, 1)
        ).ravel()
        for bound in (low, high)
    )


@njit(cache=True, nogil=True)
def _look(point, places, leaf, wide, bound, grow, floor, squares, seen, n):
    """Distances to the tokens of a leaf, kept; a bound, lowered where `grow` is not zero."""
    near = distances16(point, places, leaf * 16 * wide, wide, squares, n * 16)
    seen[n] = leaf
    if grow > 0:
        bound = min(bound, grow * near + floor)
    return bound, n + 1


@njit(cache=True, nogil=True)
def _look_group(point, key, places, low, high, group, wide, bound, grow, floor,
                near, squares, seen, stamp, i, n):  # fmt: skip
    """The leaves of a group that are not seen yet and not beyond the bound."""
    boxes16(key, low, high, group * 64, near, 0)
    hits = below16(near, 0, bound)
    while hits:
        t = first_bit(hits)
        hits &= hits - np.uint64(1)
        leaf = group * 16 + t
        if near[t] <= bound and stamp[leaf] != i:
            stamp[leaf] = i
            bound, n = _look(point, places, leaf, wide, bound, grow, floor, squares, seen, n)
    return bound, n


@njit(cache=True, nogil=True)
def _look_around(point, key, places, low, high, groups, wide, bound, grow, floor,
                 near, squares, seen, stamp, i, n):  # fmt: skip
    """All leaves that are not seen yet and not beyond the bound, which may shrink on the way."""
    for o in range(0, groups.shape[0], 16):
        hits = below16(groups, o, bound)
        while hits:
            group = o + first_bit(hits)
            hits &= hits - np.uint64(1)
            if group * 16 < stamp.shape[0] and groups[group] <= bound:
                bound, n = _look_group(point, key, places, low, high, group, wide, bound, grow,
                                       floor, near, squares, seen, stamp, i, n)  # fmt: skip
    return bound, n


@njit(cache=True, nogil=True)
def _rotated(x, centre, scale, rotation, wide, values, point, key):
    """Fill the point and its four numbers; returns its squared length."""
    dim, sixteen = x.shape[0], point.shape[0]
    for j in range(dim):
        values[j] = np.float32((np.float64(x[j]) - centre[j]) * scale)
    for o in range(0, sixteen, 16):
        rotate16(values, rotation, o, sixteen, wide, point)
    few = min(3, dim)
    rest = np.float32(0)
    for j in range(few, dim):
        rest += point[j] * point[j]
    length = rest
    for j in range(few):
        key[j] = point[j]
        length += point[j] * point[j]
    key[3] = np.sqrt(rest)
    return length


@njit(cache=True, nogil=True)
def _home(key, low, high, groups):
    """Distances to the boxes of all groups; the nearest group."""
    best, home = np.float32(np.inf), 0
    for o in range(0, groups.shape[0], 16):
        nearest_box = boxes16(key, low, high, o * 4, groups, o)
        if nearest_box < best:
            best, home = nearest_box, o
    return home + first_bit(below16(groups, home, best))


@njit(cache=True, nogil=True)
def _turns(X, centre, scale, rotation, low, high, wide, values, point, key, groups):
    """Indices of the patches, those with the same nearest group one after the other."""
    homes = np.zeros(X.shape[0], np.int32)
    for i in range(X.shape[0]):
        if _rotated(X[i], centre, scale, rotation, wide, values, point, key) < 1e12:
            homes[i] = _home(key, low, high, groups)
    return np.argsort(homes)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _size(weighted, a, b, wide, norm):
    """float32 dual norm of w (a - b)."""
    total = np.float32(0)
    if norm == L2:
        return np.sqrt(apart16(weighted, a * wide, b * wide, wide))
    for j in range(wide):
        part = abs(weighted[a * wide + j] - weighted[b * wide + j])
        total = max(total, part) if norm == L1 else total + part
    return total


@njit(cache=True, nogil=True, inline="always")
def _wall(square, own_square, size):
    """About how far a wall is."""
    return (square - own_square) / (np.float32(2) * size) if size > 0 else np.float32(0)


@njit(cache=True, nogil=True, inline="always")
def _ball(own, reach, wall):
    """About the square of the distance beyond which no token has a nearer wall."""
    furthest = own + 2 * reach * max(np.float64(wall), 0.0)
    return np.float32(min(furthest * furthest, 3e38))


@njit(cache=True, nogil=True)
def search(X, exact, unit, tables, noise, growth, walls, ids, radii, witnesses):
    """Fill ids, and if `walls` radii, and if there is room witnesses, of patches X (n, dim)."""
    tokens, weights, ones, norm, motion = exact
    centre, scale, wscale = unit
    skew, weighted, rotation, places, names, low, high, group_low, group_high = tables
    count, dim = tokens.shape
    wide, sixteen = (dim + 3) // 4 * 4, (dim + 15) // 16 * 16
    u = 2.0**-24
    reach = motion * wscale  # kappa, in units of the unit weights
    epsilon = (dim + 12) * u + skew
    shift = 1.05 * u
    shift_growth = 1.05 * u * (dim + 3 + (dim + 1) * math.sqrt(dim))
    size_error = 2.2 * u * reach
    n_leaves = names.shape[0] // 16
    values, point = np.zeros(wide, np.float32), np.zeros(sixteen, np.float32)
    key, near = np.zeros(4, np.float32), np.zeros(16, np.float32)
    groups = np.zeros(group_low.shape[0] // 4, np.float32)
    squares = np.zeros(n_leaves * 16, np.float32)
    seen, stamp = np.zeros(n_leaves, np.int64), np.full(n_leaves, -1, np.int64)
    square, size = np.zeros(count, np.float32), np.zeros(count, np.float32)
    who = np.zeros(count, np.int64)
    found, sizes, gaps = np.zeros(count, np.int64), np.zeros(count), np.zeros(count)
    infinite, grow = np.float32(np.inf), _GROW if walls else _GROW_IDS
    turns = np.arange(X.shape[0])
    if places.shape[0] > _CACHE:
        turns = _turns(X, centre, scale, rotation, group_low, group_high, wide,
                       values, point, key, groups)  # fmt: skip
    for i in turns:
        x = X[i]
        sound = noise[i] if noise.shape[0] else -1.0
        length = _rotated(x, centre, scale, rotation, wide, values, point, key)
        if not length < 1e12 or not scale * max(sound, 0.0) < 1:
            ids[i], radii[i], witness = measure_all(
                x, tokens, weights, ones, norm, motion, sound, growth, walls, found, sizes, gaps
            )
            if witnesses.shape[0]:
                witnesses[i] = witness
            continue
        delta = shift + shift_growth * math.sqrt(np.float64(length))
        floor = np.float32(64 * delta * delta)
        # Start in the group with the nearest box, then look at everything within the bound.
        home = _home(key, group_low, group_high, groups)
        best = boxes16(key, low, high, home * 64, near, 0)
        leaf = home * 16 + first_bit(below16(near, 0, best))
        stamp[leaf] = i
        bound, n_seen = _look(point, places, leaf, wide, infinite, grow, floor, squares, seen, 0)
        bound, n_seen = _look_group(point, key, places, low, high, home, wide, bound, grow, floor,
                                    near, squares, seen, stamp, i, n_seen)  # fmt: skip
        bound, n_seen = _look_around(point, key, places, low, high, groups, wide, bound, grow,
                                     floor, near, squares, seen, stamp, i, n_seen)  # fmt: skip
        a, nearest, own, own_square = -1, np.inf, 0.0, np.float32(0)
        n_found, first, lowest = 0, -1, infinite
        while True:
            n, least = 0, infinite
            for k in range(n_seen):
                hits = below16(squares, k * 16, bound)
                while hits:
                    t = first_bit(hits)
                    hits &= hits - np.uint64(1)
                    b = names[seen[k] * 16 + t]
                    if b >= 0:
                        square[n], who[n] = squares[k * 16 + t], b
                        least = min(least, square[n])
                        n += 1
            cover = math.sqrt(np.float64(bound)) * (1 - epsilon) - delta
            if a < 0:
                # bound >= 1.1 least + 64 delta^2 exceeds this, so all who may be nearest are there
                within = (math.sqrt(np.float64(least)) * (1 + epsilon) + 2 * delta) / (1 - epsilon)
                within = within * within * (1 + 1e-6)
                for k in range(n):
                    if square[k] <= within:
                        gap = squared_distance(x, tokens, who[k])
                        if gap < nearest or (gap == nearest and who[k] < a):
                            nearest, a = gap, who[k]
                own = math.sqrt(nearest) * scale
                own_square = np.float32(own * own)
                if not walls:
                    break
            if n == 1 and bound < infinite:  # a wall to start with: any token of the first leaf
                for t in range(16):
                    b = names[seen[0] * 16 + t]
                    if b >= 0 and b != who[0]:
                        square[n], who[n] = squares[t], b
                        n += 1
            # Start with the wall of the second nearest; only tokens near it may have a nearer one.
            if first < 0:
                second, distance = -1, infinite
                for k in range(n):
                    if who[k] != a and (square[k] < distance or second < 0):
                        second, distance = k, square[k]
                if second >= 0:
                    first = who[second]
                    lowest = _wall(distance, own_square, _size(weighted, a, first, sixteen, norm))
            limit = _ball(own, reach, lowest)
            for k in range(n):
                size[k] = -1
                if square[k] <= limit and who[k] != a:
                    size[k] = _size(weighted, a, who[k], sixteen, norm)
                    wall = _wall(square[k], own_square, size[k])
                    if wall < lowest:
                        lowest, first = wall, who[k]
                        limit = _ball(own, reach, lowest)
            if first < 0:
                if not bound < infinite:
                    break
                bound, n_seen = _look_around(point, key, places, low, high, groups, wide, infinite,
                                             _KEEP, floor, near, squares, seen, stamp, i,
                                             n_seen)  # fmt: skip
                continue
            if n_found == 0 or found[0] != first:
                found[0], gaps[0] = first, squared_distance(x, tokens, first)
                sizes[0] = dual_norm(tokens, weights, a, first, norm)
            n_found = 1
            # The least wall so far, in the units of the tables; the ball that it leaves open.
            wall = (gaps[0] - nearest) / (2 * sizes[0]) * (scale / wscale)
            blur = 0.0 if sound < 0 else 2 * sound * scale + growth * reach * wall
            need = (own + 2 * reach * wall + 2 * blur) * (1 + _TAU)
            if need > cover and bound < infinite:
                open_ball = ((need + delta) / (1 - epsilon)) ** 2 * (1 + 1e-6)
                bound = np.float32(open_ball) if open_ball < 1e30 else infinite
                bound, n_seen = _look_around(point, key, places, low, high, groups, wide, bound,
                                             _KEEP, floor, near, squares, seen, stamp, i,
                                             n_seen)  # fmt: skip
                continue
            within = (need + delta) / (1 - epsilon)
            error = 2 * within * (epsilon * within + delta) + 4 * within * blur
            for k in range(n):
                b = who[k]
                if b in (first, a) or not square[k] <= within * within * (1 + 1e-6):
                    continue
                if size[k] < 0:
                    size[k] = _size(weighted, a, b, sixteen, norm)
                gap = square[k] * (1 - 1e-7) - error - own * own
                if gap <= 2 * wall * (1 + _TAU) * (size[k] * (1 + epsilon) + size_error):
                    found[n_found], gaps[n_found] = b, squared_distance(x, tokens, b)
                    sizes[n_found] = dual_norm(tokens, weights, a, b, norm)
                    measured = (gaps[n_found] - nearest) / (2 * sizes[n_found])
                    wall = min(wall, measured * (scale / wscale))
                    n_found += 1
            break
        ids[i] = a
        if walls:
            radii[i], witness = radius(
                tokens, ones, motion, sound, growth, a, nearest, found, sizes, gaps, n_found
            )
            if witnesses.shape[0]:
                witnesses[i] = witness
