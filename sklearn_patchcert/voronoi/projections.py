"""Steps of patches into the cells of other tokens, and what they cost.

An L2 attacker of a discrete model reaches exactly the configurations of tokens whose cells lie
near enough: the squared distances of the patches to the cells of their new tokens add up, and
nothing else counts.  Distances of cells are those of walls, of the farthest wall or of a
projection, each a bound of the next from below.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from sklearn_patchcert.voronoi import certificate, engines

_NEIGHBOURS = 64  # of a token, whose walls bound the distance of its cell
_INSIDE = 1e-5  # how far beyond a wall to go, relative to the step


def steps_into_cells(
    patches: ArrayLike,
    tokens: ArrayLike,
    targets: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    sweeps: int = 3000,
    sound: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shortest L2 steps of patches into the cells of other tokens.

    Parameters
    ----------
    patches : ndarray (m, dim)
    tokens : ndarray (n_tokens, dim)
    targets : ndarray of int (m,)
    weights : ndarray (m, dim) or None
        How far a patch moves where the user's input moves by one.
    sweeps : int
        Of the solver; more bring it nearer to the shortest step.
    sound : bool
        Whether the lower bounds are of all steps after which the tokenizer, as it rounds, answers
        the targets.

    Returns
    -------
    steps : ndarray (m, dim)
        In the user's units, as far as the wall.
    lower : ndarray (m,)
        Lower bounds of the norms of all steps that lead there; but for rounding, unless `sound`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.voronoi import steps_into_cells
    >>> tokens = np.array([[0.0, 0.0], [2.0, 0.0]])
    >>> steps, lower = steps_into_cells(np.array([[0.5, 1.0]]), tokens, np.array([1]))
    >>> steps.round(6), lower.round(6)
    (array([[0.5, 0. ]]), array([0.5]))
    """
    patches = np.ascontiguousarray(patches, dtype=np.float64)
    tokens = np.ascontiguousarray(tokens, dtype=np.float64)
    weights = np.ones_like(patches) if weights is None else np.array(weights, dtype=np.float64)
    steps, lower = np.empty_like(patches), np.empty(len(patches))
    targets = np.ascontiguousarray(targets, dtype=np.int64)
    reach = float(np.abs(tokens).max()) or 1.0
    solver = engines.projection.project
    solver(patches, tokens, weights, targets, sweeps, 1e-9 * reach, sound, steps, lower)
    return steps, lower


def cell_costs(
    patches: NDArray[Any],
    tokens: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    limit: float = np.inf,
    exact: bool = True,
    sweeps: int = 60,
) -> NDArray[np.float64]:
    """Costs of moving every patch into the cell of every token.

    Parameters
    ----------
    patches : ndarray (n, positions, dim)
    tokens : ndarray (n_tokens, dim)
    weights : ndarray (positions, dim) or None
    limit : float
        Costs that are certainly above it are inf.
    exact : bool
        Whether to project onto the cells; otherwise the costs are those of a single wall, the
        farthest one among those to the patch's own token and to the 64 neighbors of the other
        one, which are smaller.
    sweeps : int
        Of the solver that projects.

    Returns
    -------
    costs : ndarray (n, positions, n_tokens)
        L2 distances in the user's units, 0 for the patch's own token.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.voronoi import cell_costs
    >>> cell_costs(np.array([[[0.25]]]), np.array([[0.0], [1.0], [3.0]])).round(6)
    array([[[0.  , 0.25, 1.75]]])
    """
    n, positions, dim = patches.shape
    weights = np.ones((positions, dim)) if weights is None else weights
    costs = np.empty((n, positions, len(tokens)))
    tokens = np.asarray(tokens, dtype=np.float64)
    near = KDTree(tokens).query(tokens, min(_NEIGHBOURS + 1, len(tokens)))[1]
    near = near.reshape(len(tokens), -1)[:, 1:]
    for p in range(positions):
        block = patches[:, p].astype(np.float64)
        squares = np.square(block[:, None] - tokens).sum(-1)
        own = squares.argmin(1)
        owners, owner = np.unique(own, return_inverse=True)
        between = np.linalg.norm((tokens[owners, None] - tokens) * weights[p], axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            walls = (squares - squares.min(1, keepdims=True)) / (2 * between[owner])
        walls[np.arange(n), own] = 0
        farthest = _farthest_walls(squares, walls, limit, tokens * weights[p], near)
        costs[:, p] = np.where(farthest <= limit, farthest, np.inf)
    if exact and dim > 1:  # in one dimension the walls to the neighbors are the cell
        at = np.argwhere(np.isfinite(costs) & (costs > 0))
        if len(at):
            _, lower = steps_into_cells(
                patches[at[:, 0], at[:, 1]], tokens, at[:, 2], weights=weights[at[:, 1]],
                sweeps=sweeps,
            )  # fmt: skip
            costs[tuple(at.T)] = np.maximum(costs[tuple(at.T)], lower)
            costs[costs > limit] = np.inf
    return costs


def _farthest_walls(squares, walls, limit, tokens, near):
    """Walls (n, n_tokens) of cells, or those between them and their neighbors' if farther."""
    farthest = walls.copy()
    apart = np.linalg.norm(tokens[:, None] - tokens[near], axis=-1)
    row, token = np.nonzero((walls <= limit) & (walls > 0))
    size = max(1, 2**22 // max(1, near.shape[1]))
    for start in range(0, len(row), size):
        i, b = row[start : start + size], token[start : start + size]
        ahead = squares[i, b][:, None] - squares[i[:, None], near[b]]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.nan_to_num(ahead / (2 * apart[b]), nan=0.0, posinf=np.inf, neginf=0.0)
        farthest[i, b] = np.maximum(farthest[i, b], found.max(1, initial=0.0))
    return farthest


def realised(
    patches: NDArray[Any],
    tokens: NDArray[Any],
    ids: NDArray[np.integer[Any]],
    *,
    weights: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Steps that move patches into the cells of their new tokens, zero for their own tokens.

    Parameters
    ----------
    patches : ndarray (n, positions, dim), of the dtype that the model will be asked with
    tokens : ndarray (n_tokens, dim)
    ids : ndarray of int (n, positions)
    weights : ndarray (positions, dim) or None

    Returns
    -------
    steps : ndarray (n, positions, dim), float64
        In the user's units; just beyond the wall, towards the new token.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.voronoi import realised
    >>> steps = realised(np.array([[[0.25]]]), np.array([[0.0], [1.0]]), np.array([[1]]))
    >>> steps.round(3), bool(0.25 + steps.item() > 0.5)
    (array([[[0.25]]]), True)
    """
    weights = np.ones(patches.shape[1:]) if weights is None else weights
    own = certificate.tokenize(patches, tokens)
    steps = np.zeros(patches.shape)
    at = np.argwhere(ids != own)
    if not len(at):
        return steps
    x, w, b = patches[tuple(at.T)].astype(np.float64), weights[at[:, 1]], ids[tuple(at.T)]
    step, _ = steps_into_cells(x, tokens, b, weights=w)
    tokens = np.asarray(tokens, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        inward = np.nan_to_num((tokens[b] - x) / w - step, posinf=0.0, neginf=0.0)
    part, left = _INSIDE, np.arange(len(at))
    while len(left) and part < 0.5:  # a step that the solver or rounding leaves short goes on
        trial = step[left] + part * inward[left]
        reached = (x[left] + w[left] * trial).astype(patches.dtype)
        good = certificate.tokenize(reached[:, None], tokens)[:, 0] == b[left]
        steps[tuple(at[left[good]].T)] = trial[good]
        left, part = left[~good], part * 4
    return steps
