r"""Certificate of the prediction of a whole image, by enumeration of token assignments.

Patches are disjoint, so a perturbation of L2 norm below :math:`\epsilon` reaches exactly the token
assignments b with :math:`\sum_p c_p(b_p)^2 < \epsilon^2`, where :math:`c_p(b)` is the distance of
patch p to the cell of token b.  In Linf the condition is :math:`\max_p c_p(b_p) < \epsilon`.
Assignments are classified in the order of a lower bound of their cost, from distances to single
cell boundaries.  The radius is the cost of the first assignment that changes the class, or of the
first one that was not classified.  (GeoCert, Jordan et al., NeurIPS 2019, walks through the linear
regions of a network in a similar way.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_patchcert.prediction.search import budgets
from sklearn_patchcert.prediction.search import changes as single
from sklearn_patchcert.prediction.search.assignments import Assignments
from sklearn_patchcert.prediction.search.budgets import Pace
from sklearn_patchcert.prediction.search.queues import Queue
from sklearn_patchcert.voronoi import certificate, engines

_DOWN = 1 - 1e-12  # for the rounding of sums and roots
_MOST = 2**40  # configurations; no search comes that far, and indices hold it
_FIRST = 32  # configurations of each image that are looked at first


def wall_costs(
    patches: NDArray[Any],
    tokens: ArrayLike,
    norm: str = "l2",
    *,
    weights: NDArray[Any] | None = None,
    noise: NDArray[Any] | None = None,
    noise_growth: float = 0.0,
    n_walls: int = 1,
) -> NDArray[np.float64]:
    """Lower bounds of the costs of moving every patch into the cell of every token.

    To have token b, a patch must cross the wall between b and every other token: its own, and
    those that lie near, too.

    Parameters
    ----------
    patches : ndarray (n, positions, dim)
    tokens : ndarray (n_tokens, dim)
    norm : {"l2", "linf", "l1"}
        Of the perturbation of a patch.
    weights : ndarray (positions, dim) or None
        How far each coordinate moves when the user's own moves by one.
    noise : ndarray (n, positions) or None
        Bound on the L2 error with which a step before the tokenizer computed each patch.
    noise_growth : float
        By how much that bound grows per unit of the L2 perturbation of a patch.
    n_walls : int
        To how many tokens, the nearest of the patch, the walls are measured.

    Returns
    -------
    costs : ndarray of float64 (n, positions, n_tokens)
        In the user's units, rounded down by the bound of :func:`voronoi.certify`: no perturbation
        of a smaller norm makes the tokenizer, as it computes, answer that token.  0 for the own
        token, inf for those out of reach.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.prediction import wall_costs
    >>> wall_costs(np.array([[[0.25]]]), np.array([[0.0], [1.0], [3.0]])).round(6)
    array([[[0.  , 0.25, 1.25]]])
    """
    certificate.check_norm(norm)
    n, positions, dim = patches.shape
    weights = np.ones((positions, dim)) if weights is None else weights
    own = certificate.tokenize(patches, tokens, weights=weights)
    tables, (kinds, *scale) = single.prepared(tokens, weights, norm)
    costs = np.empty((n, positions, len(tables[0])))
    blur = np.empty(0) if noise is None else np.asarray(noise, dtype=np.float64).ravel()
    engines.walls.every(
        np.ascontiguousarray(patches, dtype=np.float64).reshape(-1, dim), own.ravel(), tables,
        (np.tile(kinds, n), *scale), np.ascontiguousarray(blur), float(noise_growth),
        min(n_walls, len(tables[0])), costs.reshape(n * positions, -1),
    )  # fmt: skip
    return costs


def certify_configurations(
    changes: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]],
    costs: NDArray[Any],
    norm: str = "l2",
    *,
    max_configurations: int = 10_000,
    max_seconds: float = np.inf,
    looked: NDArray[np.int64] | None = None,
    known: ArrayLike | None = None,
    refine: Callable[[int, NDArray[np.int64]], float] | None = None,
    batch_size: int = 2048,
) -> tuple[
    NDArray[np.float64],
    NDArray[np.bool_],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.float64],
]:
    """Radius within which no token assignment changes the class, for each image.

    Parameters
    ----------
    changes : callable, (rows (m,), ids (m, positions)) -> ndarray of bool (m,)
        Whether a configuration of the image `row` may have another class than the image itself.
    costs : ndarray (n, positions, n_tokens)
        0 for the own token of each patch; others at most what it costs to reach them.
    norm : {"l2", "linf", "l0"}
        Over the whole image; how the costs of patches come together.
    max_configurations : int
        How many are looked at for an image.
    max_seconds : float
        For an image: after the first configuration, none are begun that are not expected to be
        classified by then.
    looked : ndarray of int (n,) or None
        So many configurations of each image are known not to change it, from an earlier call.
    known : ndarray (n,) or None
        Costs of configurations that are known to change, from an earlier call; inf where none is.
    refine : callable or None, (row, ids (positions,)) -> float
        A better bound of the cost of a configuration, asked for those that change.
    batch_size : int
        Configurations that `changes` is given at once, at most; fewer of large images.

    Returns
    -------
    radius : ndarray (n,)
        Rounded down; inf where every configuration has been looked at.
    exact : ndarray of bool (n,)
        Whether a configuration that changes was found and the radius is its cost.
    looked : ndarray of int (n,)
        With those of the earlier call.
    changing : ndarray of int (n, positions)
        The cheapest configuration found that changes; the own tokens where there is none.
    upper : ndarray (n,)
        Its cost; inf where there is none.

    Raises
    ------
    ValueError
        If the norm is another.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.prediction import certify_configurations
    >>> def changes(rows, ids):  # where both patches have another token
    ...     return ids.sum(1) == 2
    >>> costs = np.array([[[0.0, 3.0], [0.0, 4.0]]])
    >>> radius, exact, looked, changing, upper = certify_configurations(changes, costs)
    >>> radius.round(6), changing
    (array([5.]), array([[1, 1]]))
    """
    if norm not in ("l2", "linf", "l0"):
        raise ValueError(f'norm must be "l2", "linf" or "l0" for a whole image, got {norm!r}.')

    def cheapest(row, most):
        return single.of_costs(costs[row], most)

    return searched(
        lambda rows, some: changes(rows, some.whole()), cheapest, costs.argmin(-1), norm,
        max_configurations=max_configurations,
        pace_of=None if max_seconds == np.inf else lambda row: Pace(max_seconds, always=True),
        looked=looked, known=known, refine=refine,
        batch_size=budgets.at_once(costs.shape[1], batch_size),
    )  # fmt: skip


def searched(
    changes,
    cheapest,
    own,
    norm,
    *,
    max_configurations,
    pace_of=None,
    looked=None,
    known=None,
    refine=None,
    batch_size=2048,
):
    """As :func:`certify_configurations`, for costs that are computed image by image.

    Parameters
    ----------
    changes : callable, (rows (m,), Assignments) -> ndarray of bool (m,)
    cheapest : callable, (row, most) -> Changes
        The `most` cheapest changes of an image.
    own : ndarray of int (n, positions)
    pace_of : callable, row -> Pace, or None
        Asked when the turn of an image comes.
    batch_size : int
    """
    n, max_configurations = len(own), min(int(max_configurations), _MOST)
    looked = np.zeros(n, dtype=np.int64) if looked is None else np.array(looked, dtype=np.int64)
    most = np.maximum(looked, max_configurations)
    queues: dict = {}

    def power(cost):
        return cost**2 if norm == "l2" else cost

    radius, exact = np.zeros(n), np.zeros(n, dtype=bool)
    best = np.full(n, np.inf) if known is None else power(np.asarray(known, dtype=np.float64))
    changing = np.array(own)

    def look(rows, size):
        """Take the next configurations of some images; which of the images go on after that."""
        parts = [queues[row].take(looked[row], looked[row] + size) for row in rows]
        lengths = [len(part) for part in parts]
        bad = np.zeros(sum(lengths), dtype=bool)
        if len(bad):
            bad = changes(np.repeat(rows, lengths), Assignments.joined(parts))
        found = np.split(bad, np.cumsum(lengths)[:-1])
        for row, part, those in zip(rows, parts, found, strict=True):
            judge(row, part, np.flatnonzero(those))
        going = (looked[rows] < max_configurations) & ~np.isinf(radius[rows])
        return rows[going & (best[rows] > radius[rows])]

    def judge(row, part, those):
        queue, begin, count = queues[row], looked[row], len(part)
        for at in those:
            cost = queue.cost(begin + at)
            if cost >= best[row]:
                break
            ids = part[at : at + 1].whole()[0]
            finer = cost if refine is None else max(cost, power(refine(row, ids)))
            if finer < best[row]:
                best[row], changing[row] = finer, ids
            if refine is None:
                count = at + 1
        looked[row] += count
        radius[row] = min(best[row], queue.cost(looked[row]))
        exact[row] = best[row] <= radius[row] < np.inf

    first = min(_FIRST, batch_size)  # what changes soon is found soon, for many images at once
    at_once = max(1, batch_size // first) if pace_of is None else 1
    for at in range(0, n, at_once):
        rows = np.arange(at, min(at + at_once, n))
        pace = Pace() if pace_of is None else pace_of(at)
        if not pace.next(1):
            continue
        for row in rows:
            queues[row] = Queue(cheapest(row, int(most[row])), norm, most[row])
        size = pace.next(first)
        going = look(rows, size) if size else rows[:0]
        pace.done(size)
        for row in going:
            alone, size = np.array([row]), first
            while len(alone):
                plan = min(2 * size, batch_size)
                size = pace.next(plan)
                if not size:
                    break
                alone = look(alone, size)
                pace.done(size)
        queues.clear()
    if norm == "l2":
        radius, best = np.sqrt(radius), np.sqrt(best)
    down = 1.0 if norm == "l0" else _DOWN  # numbers of patches are exact
    return radius * down, exact, looked, changing, best
