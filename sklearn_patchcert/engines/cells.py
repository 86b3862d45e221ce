r"""Projection of patches onto the Voronoi cells of other tokens: small quadratic programs.

The cell of token b is :math:`\{z : (c - b) z \le (|c|^2 - |b|^2) / 2 \text{ for all } c\}`.  The
shortest L2 step :math:`\delta`, in the user's units, with :math:`x + w \delta` in it is found in
the dual by Hildreth's method: one multiplier :math:`\lambda_c \ge 0` for each wall, each made
optimal in turn, those that are not 0 more often.  The step is
:math:`\delta = -\sum_c \lambda_c\, w (c - b)`, and for *any* multipliers the value of the dual,

.. math:: \sum_c \lambda_c v_c - \tfrac12 |\delta|^2, \quad v_c = (c - b) x - (|c|^2 - |b|^2) / 2,

is at most half the squared distance to the cell, which is what makes it a sound cost.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_INNER = 50  # rounds over the walls that matter, between rounds over all


@njit(cache=True, nogil=True, inline="always")
def _improve(c, b, tokens, weights, violation, squares, multipliers, step):
    """Make the multiplier of one wall optimal; by how much the step moves."""
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
def project(X, tokens, weights, targets, sweeps, tolerance, steps, lower):
    """Fill the steps (m, dim) onto the cells of `targets` (m,), and lower bounds of their norms.

    Parameters
    ----------
    X : ndarray (m, dim), float64
    tokens : ndarray (n_tokens, dim), float64
    weights : ndarray (m, dim)
        How far a patch moves where its user moves by one.
    targets : ndarray of int64 (m,)
    sweeps : int
        Rounds over all walls, at most.
    tolerance : float
        Stop when no wall is violated by more, in units of the user.
    steps : ndarray (m, dim), lower : ndarray (m,)
    """
    n, dim = tokens.shape
    multipliers, violation = np.zeros(n), np.zeros(n)
    squares, step, walls = np.zeros(n), np.zeros(dim), np.empty(n, np.int64)
    for i in range(X.shape[0]):
        b = targets[i]
        for c in range(n):
            multipliers[c], squares[c] = 0.0, 0.0
            total = 0.0
            for j in range(dim):
                normal = tokens[c, j] - tokens[b, j]
                total += normal * (X[i, j] - 0.5 * (tokens[c, j] + tokens[b, j]))
                squares[c] += (weights[i, j] * normal) ** 2
            violation[c] = total
        for j in range(dim):
            step[j] = 0.0
        for _ in range(sweeps):
            worst, active = 0.0, 0
            for c in range(n):
                if c == b or squares[c] == 0.0:
                    continue
                worst = max(worst, _improve(c, b, tokens, weights[i], violation, squares,
                                            multipliers, step))  # fmt: skip
                if multipliers[c] > 0.0:
                    walls[active] = c
                    active += 1
            if worst <= tolerance:
                break
            for _ in range(_INNER):
                within = 0.0
                for at in range(active):
                    within = max(within, _improve(walls[at], b, tokens, weights[i], violation,
                                                  squares, multipliers, step))  # fmt: skip
                if within <= 0.1 * tolerance:
                    break
        dual, size = 0.0, 0.0
        for c in range(n):
            dual += multipliers[c] * violation[c]
        for j in range(dim):
            size += step[j] * step[j]
            steps[i, j] = step[j]
        lower[i] = np.sqrt(max(0.0, 2 * dual - size))
