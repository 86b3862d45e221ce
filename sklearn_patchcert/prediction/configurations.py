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

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from sklearn_patchcert.voronoi import certificate, engines
from sklearn_patchcert.voronoi.engines.dense import largest_motion

_DOWN = 1 - 1e-12  # for the rounding of sums and roots
_TABLE, _TABLES = 1024, 8  # tokens of which, and weights for which, all distances are kept


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
    weights = np.ones((positions, dim)) if weights is None else np.abs(weights)
    tokens = np.ascontiguousarray(tokens, dtype=np.float64)
    own = certificate.tokenize(patches, tokens, weights=weights)
    gamma, tiny = (dim + 8) * 2.0**-52, np.finfo(np.float64).tiny
    n_walls = min(n_walls, len(tokens))
    costs = np.zeros((n, positions, len(tokens)))
    sizes, distances = _DualNorms(tokens, norm), _DualNorms(tokens, "l2")
    for p in range(positions):
        squares = _squares(patches[:, p], tokens)
        ranks = np.argpartition(squares, n_walls - 1, axis=1)[:, :n_walls]
        motion, movable = largest_motion(weights[p], norm), tokens[:, weights[p] > 0]
        for rank in range(n_walls + 1):  # the own token, and then the nearest, this one again
            near = own[:, p] if rank == 0 else ranks[:, rank - 1]
            some, rows = np.unique(near, return_inverse=True)
            size = sizes(weights[p], some)[rows]
            nearest = np.take_along_axis(squares, near[:, None], 1)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                move = motion * (np.abs(squares - nearest) / (2 * size))
                blur = 0.0 if noise is None else 2 * noise[:, p, None] + noise_growth * move
                left = squares - nearest - 4 * gamma * (squares + nearest + (move + blur) ** 2)
                left -= 8 * dim * tiny
                if noise is not None:
                    apart = distances(np.ones(dim), some)[rows]
                    left -= 2 * apart * blur * (1 + gamma)
                found = left / (2 * size) * (1 - 4 * gamma)
            # Tokens that differ where nothing moves have no wall between them: the own one stays.
            same = size <= 2 * dim * tiny
            if same.sum() > n:  # not only each token and itself: underflow, or really the same
                same &= np.array([(movable[a] == movable).all(1) for a in some])[rows]
            found = np.where(same, np.inf if rank == 0 else 0, found)
            costs[:, p] = np.fmax(costs[:, p], found)  # 0 where the bound is beyond all numbers
            if n_walls == 1:
                break
        costs[np.arange(n), p, own[:, p]] = 0
    return costs


class _DualNorms:
    """|w (a - b)|_* of some tokens and all, the difference first: near ones lose no digits."""

    def __init__(self, tokens, norm):
        self.tokens = tokens
        measure = engines.measure
        self.norm = {"l2": measure.L2, "linf": measure.LINF, "l1": measure.L1}[norm]
        self.tables: dict = {}  # most positions have the same weights

    def __call__(self, weights, some):
        weights, n = np.ascontiguousarray(weights), len(self.tokens)
        key = weights.tobytes()
        if n > _TABLE or (len(self.tables) == _TABLES and key not in self.tables):
            return engines.measure.dual_norms(self.tokens, weights, some, self.norm)
        if key not in self.tables:
            every = np.arange(n)
            self.tables[key] = engines.measure.dual_norms(self.tokens, weights, every, self.norm)
        return self.tables[key][some]


def _enumeration():
    from sklearn_patchcert.prediction import enumeration  # numba: only where it is used

    return enumeration


def _squares(patches, tokens):
    """Squared distances (n, n_tokens) in the difference form."""
    return cdist(np.ascontiguousarray(patches, dtype=np.float64), tokens, "sqeuclidean")


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
        After so much time no new batch is begun for an image.
    looked : ndarray of int (n,) or None
        So many configurations of each image are known not to change it, from an earlier call.
    known : ndarray (n,) or None
        Costs of configurations that are known to change, from an earlier call; inf where none is.
    refine : callable or None, (row, ids (positions,)) -> float
        A better bound of the cost of a configuration, asked for those that change.
    batch_size : int
        Configurations that `changes` is given at once, at most.

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
    n = len(costs)
    looked = np.zeros(n, dtype=np.int64) if looked is None else np.array(looked, dtype=np.int64)
    most = np.maximum(looked, max_configurations)
    queues = [_Queue(cost, norm, m) for cost, m in zip(costs, most, strict=True)]

    def power(cost):
        return cost**2 if norm == "l2" else cost

    radius, exact = np.zeros(n), np.zeros(n, dtype=bool)
    best = np.full(n, np.inf) if known is None else power(np.asarray(known, dtype=np.float64))
    changing = costs.argmin(-1)

    def look(rows, size):
        """Take the next configurations of some images; which of the images go on after that."""
        parts = [queues[row].take(looked[row], looked[row] + size) for row in rows]
        lengths = [len(part) for part in parts]
        bad = np.zeros(sum(lengths), dtype=bool)
        if len(bad):
            bad = changes(np.repeat(rows, lengths), np.concatenate(parts))
        found = np.split(bad, np.cumsum(lengths)[:-1])
        for row, part, those in zip(rows, parts, found, strict=True):
            judge(row, part, np.flatnonzero(those))
        going = (looked[rows] < max_configurations) & ~np.isinf(radius[rows])
        return rows[going & (best[rows] > radius[rows])]

    def judge(row, part, those):
        queue, begin = queues[row], looked[row]
        for at in those:
            cost = queue.cost(begin + at)
            if cost >= best[row]:
                break
            finer = cost if refine is None else max(cost, power(refine(row, part[at])))
            if finer < best[row]:
                best[row], changing[row] = finer, part[at]
            if refine is None:
                part = part[: at + 1]
        looked[row] += len(part)
        radius[row] = min(best[row], queue.cost(looked[row]))
        exact[row] = best[row] <= radius[row] < np.inf

    size = 32  # what changes soon is found soon, for many images at once
    at_once = max(1, batch_size // size)
    left = [look(np.arange(at, min(at + at_once, n)), size) for at in range(0, n, at_once)]
    for row in np.concatenate(left) if left else []:
        clock, part, rows = time.monotonic(), size, np.array([row])
        while len(rows) and time.monotonic() - clock < max_seconds:
            part = min(2 * part, batch_size)
            rows = look(rows, part)
        queues[row].close()
    if norm == "l2":
        radius, best = np.sqrt(radius), np.sqrt(best)
    down = 1.0 if norm == "l0" else _DOWN  # numbers of patches are exact
    return radius * down, exact, looked, changing, best


class _Queue:
    """The configurations of an image in the order of their cost, enumerated when asked for."""

    def __init__(self, costs, norm, most):
        positions = len(costs)
        prices = np.square(costs) if norm == "l2" else costs.astype(np.float64)
        prices[np.arange(positions), costs.argmin(-1)] = -1  # first, also where others are free
        order = np.argsort(prices, axis=1, kind="stable")
        prices = np.take_along_axis(prices, order, axis=1)
        prices[:, 0] = 0
        second = prices[:, 1] if prices.shape[1] > 1 else np.full(positions, np.inf)
        self.first = np.argsort(second, kind="stable")
        self.prices, self.tokens = prices[self.first], order[self.first]
        self.largest, self.most = norm == "linf", int(most) + 1
        self.room = 0
        self.state: tuple = _enumeration().start(0)

    def _ahead(self, count):
        """Have `count` configurations in order, or all; the cost of the next, and how many."""
        if count > self.room:
            self.room = min(max(256, 4 * count), self.most)
            self.state = _enumeration().start(self.room)
        following = _enumeration().cheapest(self.prices, count, self.largest, self.state)
        return following, int(self.state[0][2])

    def take(self, begin, end):
        """Configurations (m, positions) from `begin` to `end`, or to the last."""
        _, count = self._ahead(min(end, self.most - 1))
        end = max(begin, min(end, self.most - 1, count))
        return _enumeration().configurations(begin, end, self.tokens, self.first, self.state)

    def cost(self, at):
        """Cost of the configuration `at`; inf where there are fewer."""
        following, count = self._ahead(at)
        return following if count <= at else self.state[1][self.state[7][at]]

    def close(self):
        """Free the memory."""
        self.room, self.state = 0, _enumeration().start(0)
