r"""Projection of patches onto the Voronoi cells of other tokens: small quadratic programs.

The cell of token b is :math:`\{z : (c - b) z \le (|c|^2 - |b|^2) / 2 \text{ for all } c\}`.  The
shortest L2 step :math:`\delta`, in the user's units, with :math:`x + w \delta` in it is found in
the dual by Hildreth's method: one multiplier :math:`\lambda_c \ge 0` for each wall, each made
optimal in turn, those that are not 0 more often.  The step is
:math:`\delta = -\sum_c \lambda_c\, w (c - b)`, and for *any* multipliers the value of the dual,

.. math:: \sum_c \lambda_c v_c - \tfrac12 |\delta|^2, \quad v_c = (c - b) x - (|c|^2 - |b|^2) / 2,

is at most half the squared distance to the cell, which is what makes it a sound cost.  Where steps
must stay between limits, because pixels must stay pixels, the step is :math:`\delta`, clipped to
:math:`\delta'`, and :math:`|\delta|^2` in the value becomes
:math:`\sum_j \delta'_j (2 \delta_j - \delta'_j)`, the least that is left over steps between them.

In floating point the tokenizer may answer b a little beyond the wall of c, which for tokens that
nearly coincide is far beyond.  By the bound of :mod:`sklearn_patchcert.voronoi`, after a step of at
most :math:`\rho` it does so only where

.. math:: v_c \le 2 \gamma (D_b + D_c + \kappa^2 \rho^2) + 4 d\, \mathrm{tiny},

with :math:`D` the squared distances before the step.  A sound cost takes that from every
:math:`v_c = (D_b - D_c) / 2`, for :math:`\rho` twice the distance of the token, beyond which it
claims nothing; and from the value of the dual what its own sums may have rounded.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sklearn_patchcert.voronoi.engines.measure import TINY, squared_distance

_INNER = 50  # rounds over the walls that matter, between rounds over all
_REACH = 1e4  # times the distance of the token
_ROOTS = 8  # slopes of the dual that are looked at to make one multiplier optimal within limits


@njit(cache=True, nogil=True)
def _root(c, b, tokens, weights, limits, reach, violation, squares, multipliers, step):
    """Change of the multiplier of one wall that makes it optimal if steps are clipped to limits.

    The slope of the dual falls as the multiplier grows, in straight pieces; its root is found by
    regula falsi (Illinois).  No wall alone moves the step by more than `reach`, or those of a cell
    that is out of it would grow until nothing but rounding is left.
    """
    least, most = -multipliers[c], reach / np.sqrt(squares[c]) - multipliers[c]
    left, right, change, rises = np.nan, np.nan, 0.0, 0.0
    for number in range(_ROOTS):
        slope, free = violation[c], 0.0
        for j in range(len(step)):
            normal = weights[j] * (tokens[c, j] - tokens[b, j])
            moved = step[j] - change * normal
            if limits[0, j] < moved < limits[1, j]:
                free += normal * normal
            slope += normal * min(max(moved, limits[0, j]), limits[1, j])
        if slope > 0.0:
            least, left, right = change, slope, right if number < 2 else 0.5 * right
        else:
            most, right, left = change, slope, left if number < 2 else 0.5 * left
        if np.isnan(left) or np.isnan(right):
            new = change + slope / (free if number > 0 and free > 0.0 else squares[c])
            new = min(max(new, least), most)
        else:
            new = (least * right - most * left) / (right - left)
        found = abs(new - change) <= 1e-9 * abs(new)
        if found or change * slope > 0.0:  # the dual rises all the way to there
            rises = change
        if found:
            break
        change = new
    return rises


@njit(cache=True, nogil=True, inline="always")
def _improve(c, b, tokens, weights, limits, i, reach, violation, squares, multipliers, step):
    """Make the multiplier of one wall optimal; by how much the step moves, before it is clipped."""
    if len(limits):
        change = _root(c, b, tokens, weights, limits[i], reach, violation, squares, multipliers,
                       step)  # fmt: skip
    else:
        value = violation[c]
        for j in range(len(step)):
            value += weights[j] * (tokens[c, j] - tokens[b, j]) * step[j]
        change = max(value / squares[c], -multipliers[c])
    if change == 0.0:
        return 0.0
    multipliers[c] += change
    for j in range(len(step)):
        step[j] -= change * weights[j] * (tokens[c, j] - tokens[b, j])
    return abs(change) * np.sqrt(squares[c])


@njit(cache=True, nogil=True)
def project(X, tokens, weights, targets, limits, sweeps, tolerance, sound, steps, lower):
    """Fill the steps (m, dim) onto the cells of `targets` (m,), and lower bounds of their norms.

    Parameters
    ----------
    X : ndarray (m, dim), float64
    tokens : ndarray (n_tokens, dim), float64
    weights : ndarray (m, dim)
        How far a patch moves where its user moves by one.
    targets : ndarray of int64 (m,)
    limits : ndarray (m, 2, dim), or (0, 2, dim) for none
        Smallest and largest steps of each coordinate.
    sweeps : int
        Rounds over all walls, at most.
    tolerance : float
        Stop when no wall is violated by more, in units of the user.
    sound : bool
        Whether the lower bounds are of all that the tokenizer may answer, as it rounds.
    steps : ndarray (m, dim), lower : ndarray (m,)
    """
    n, dim = tokens.shape
    multipliers, violation = np.zeros(n), np.zeros(n)
    squares, step, walls = np.zeros(n), np.zeros(dim), np.empty(n, np.int64)
    gamma = (dim + 8) * 2.0**-52
    for i in range(X.shape[0]):
        b = targets[i]
        near = squared_distance(X[i], tokens, b)
        reach = _REACH * np.sqrt(near)
        for c in range(n):
            multipliers[c], squares[c] = 0.0, 0.0
            total = 0.0
            for j in range(dim):
                normal = tokens[c, j] - tokens[b, j]
                total += normal * (X[i, j] - 0.5 * (tokens[c, j] + tokens[b, j]))
                squares[c] += (weights[i, j] * normal) ** 2
            violation[c] = total
            if sound:
                far = squared_distance(X[i], tokens, c)
                slack = 2 * gamma * (5 * near + far) + 4 * dim * TINY
                violation[c] = (near - far) / 2 - slack
        for j in range(dim):
            step[j] = 0.0
        for _ in range(sweeps):
            worst, active = 0.0, 0
            for c in range(n):
                if c == b or squares[c] == 0.0:
                    continue
                worst = max(worst, _improve(c, b, tokens, weights[i], limits, i, reach, violation,
                                            squares, multipliers, step))  # fmt: skip
                if multipliers[c] > 0.0:
                    walls[active] = c
                    active += 1
            if worst <= tolerance:
                break
            for _ in range(_INNER):
                within = 0.0
                for at in range(active):
                    within = max(within, _improve(walls[at], b, tokens, weights[i], limits, i,
                                                  reach, violation, squares, multipliers,
                                                  step))  # fmt: skip
                if within <= 0.1 * tolerance:
                    break
        dual, size, rounded, error = 0.0, 0.0, 0.0, 0.0
        for c in range(n):
            dual += multipliers[c] * violation[c]
            rounded += abs(multipliers[c] * violation[c])
        for j in range(dim):
            total, part = 0.0, 0.0
            for c in range(n):
                if multipliers[c] > 0.0:
                    normal = multipliers[c] * weights[i, j] * (tokens[c, j] - tokens[b, j])
                    total += normal
                    part += abs(normal)
            steps[i, j], kept = step[j], -total
            if len(limits):
                steps[i, j] = min(max(step[j], limits[i, 0, j]), limits[i, 1, j])
                kept = min(max(-total, limits[i, 0, j]), limits[i, 1, j])
            size += kept * (-2 * total - kept)
            error += part * (2 * abs(total) + part * (n + 4) * 2.0**-52)
        error = (n + 4) * 2.0**-52 * (error + 2 * rounded)
        lower[i] = np.sqrt(max(0.0, 2 * dual - size * (1 + gamma) - error)) * (1 - gamma)
        if sound and weights[i].max() > 0:
            lower[i] = min(lower[i], 2 * np.sqrt(near) / weights[i].max() * (1 - gamma))
