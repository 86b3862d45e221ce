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
_AT_ONCE = 2**14  # steps, between which Ctrl-C is heard
_INSIDE = 1e-5  # how far beyond a wall to go, relative to the step


def steps_into_cells(
    patches: ArrayLike,
    tokens: ArrayLike,
    targets: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    limits: tuple[ArrayLike, ArrayLike] | None = None,
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
    limits : pair of arrays that broadcast to (m, dim), or None
        Smallest and largest step of each coordinate, in the user's units.  Only steps between
        them count.  Where they are `sound`, 0 must be one.
    sweeps : int
        Of the solver; more bring it nearer to the shortest step.
    sound : bool
        Whether the lower bounds are of all steps after which the tokenizer, as it rounds, answers
        the targets.

    Returns
    -------
    steps : ndarray (m, dim)
        In the user's units, as far as the wall; not so far where the limits keep the cell out of
        reach.
    lower : ndarray (m,)
        Lower bounds of the norms of all steps that lead there; but for rounding, unless `sound`.

    Raises
    ------
    ValueError
        If a smallest step is larger than the largest, or no step is none where they are `sound`.

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
    between = np.empty((0, 2, patches.shape[1]))
    if limits is not None:
        between = np.stack([np.broadcast_to(limit, patches.shape) for limit in limits], axis=1)
        between = between.astype(np.float64)
        if not (between[:, 0] <= between[:, 1]).all():
            raise ValueError("limits must be the smallest steps and then the largest, without NaN.")
        if sound and not ((between[:, 0] <= 0).all() and (between[:, 1] >= 0).all()):
            raise ValueError("limits must hold 0, a patch that stays, for sound bounds.")
    solver = engines.projection.project
    solver(patches, tokens, weights, targets, between, sweeps, 1e-9 * reach, sound, steps, lower)
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
    kinds, kind = np.unique(weights, axis=0, return_inverse=True)
    order = np.argsort(kind.ravel(), kind="stable")  # positions that are alike follow each other
    where = np.repeat(order, n)
    found = costs_of_rows(
        patches[:, order].swapaxes(0, 1).reshape(-1, dim), kinds, kind.ravel()[where],
        prepared(tokens), limit=limit, exact=exact, sweeps=sweeps,
    )  # fmt: skip
    costs = np.empty((n, positions, found.shape[1]))
    costs[:, order] = found.reshape(positions, n, -1).swapaxes(0, 1)
    return costs


def prepared(tokens):
    """Tokens in float64, and the neighbors (n_tokens, k) to which walls of their cells are seen."""
    tokens = np.ascontiguousarray(tokens, dtype=np.float64)
    if tokens.shape[1] == 1:  # the walls to the next on both sides are the cell
        values, place = np.unique(tokens[:, 0], return_index=True)
        at = np.searchsorted(values, tokens[:, 0])
        beside = np.stack([at - 1, at + 1], axis=1).clip(0, len(values) - 1)
        return tokens, np.ascontiguousarray(place[beside])
    near = KDTree(tokens).query(tokens, min(_NEIGHBOURS + 1, len(tokens)))[1]
    return tokens, np.ascontiguousarray(near.reshape(len(tokens), -1)[:, 1:])


def costs_of_rows(patches, kinds, kind, prepared, *, limit=np.inf, exact=True, sweeps=60):
    """Costs as :func:`cell_costs` has them, of patches one by one.

    Parameters
    ----------
    patches : ndarray (m, dim)
    kinds : ndarray (n_kinds, dim)
        Weights that occur.
    kind : ndarray of int (m,)
        Which of them a patch has; quickest where equal ones follow each other.
    prepared : tuple
        The tokens, as :func:`prepared` returns them.
    limit, exact, sweeps
        As of :func:`cell_costs`.

    Returns
    -------
    costs : ndarray (m, n_tokens)
    """
    tokens, near = prepared
    patches = np.ascontiguousarray(patches, dtype=np.float64)
    kinds = np.ascontiguousarray(kinds, dtype=np.float64)
    kind = np.ascontiguousarray(kind, dtype=np.int64)
    costs = np.empty((len(patches), len(tokens)))
    engines.farthest.farthest(patches, kind, kinds, tokens, near, float(limit), costs)
    if exact and tokens.shape[1] > 1:
        row, token = np.nonzero(np.isfinite(costs) & (costs > 0))
        for start in range(0, len(row), _AT_ONCE):
            i, b = row[start : start + _AT_ONCE], token[start : start + _AT_ONCE]
            _, lower = steps_into_cells(
                patches[i], tokens, b, weights=kinds[kind[i]], sweeps=sweeps
            )
            costs[i, b] = np.maximum(costs[i, b], lower)
        costs[costs > limit] = np.inf
    return costs


def realised(
    patches: NDArray[Any],
    tokens: NDArray[Any],
    ids: NDArray[np.integer[Any]],
    *,
    weights: NDArray[Any] | None = None,
    limits: tuple[ArrayLike, ArrayLike] | None = None,
) -> NDArray[np.float64]:
    """Steps that move patches into the cells of their new tokens, zero for their own tokens.

    Parameters
    ----------
    patches : ndarray (n, positions, dim), of the dtype that the model will be asked with
    tokens : ndarray (n_tokens, dim)
    ids : ndarray of int (n, positions)
    weights : ndarray (positions, dim) or None
    limits : pair of arrays that broadcast to (n, positions, dim), or None
        Smallest and largest steps, as of :func:`steps_into_cells`.

    Returns
    -------
    steps : ndarray (n, positions, dim), float64
        In the user's units; just beyond the wall, towards the new token.  Zero where no step that
        was tried arrives.

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
    low, high = (
        np.broadcast_to(limit, patches.shape)[tuple(at.T)]
        for limit in ((-np.inf, np.inf) if limits is None else limits)
    )
    between = None if limits is None else (low, high)
    step, _ = steps_into_cells(x, tokens, b, weights=w, limits=between)
    tokens = np.asarray(tokens, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        inward = np.nan_to_num((tokens[b] - x) / w - step, posinf=0.0, neginf=0.0)
    part, left = _INSIDE, np.arange(len(at))
    while len(left) and part < 0.5:  # a step that the solver or rounding leaves short goes on
        trial = (step[left] + part * inward[left]).clip(low[left], high[left])
        reached = (x[left] + w[left] * trial).astype(patches.dtype)
        good = certificate.tokenize(reached[:, None], tokens)[:, 0] == b[left]
        steps[tuple(at[left[good]].T)] = trial[good]
        left, part = left[~good], part * 4
    return steps
