r"""Certificate of the prediction of a whole image, by enumeration of token configurations.

With disjoint patches a perturbation of L2 norm below :math:`\epsilon` reaches exactly the token
configurations b with :math:`\sum_p c_p(b_p)^2 < \epsilon^2`, where :math:`c_p(b)` is the distance
of patch p to the cell of token b; in Linf those with :math:`\max_p c_p(b_p) < \epsilon`.  So all
configurations are classified in the order of their cost, from below by the distance of a single
wall: the radius is the cost of the first that changes the class, or of the first that was not
looked at.  (GeoCert, Jordan et al., NeurIPS 2019, walks the cells of a network in a like manner.)
"""

from __future__ import annotations

import numpy as np

from sklearn_patchcert import voronoi
from sklearn_patchcert.engines import enumeration

_DOWN = 1 - 1e-12  # for the rounding of sums and roots


def wall_costs(patches, tokens, norm="l2", *, weights=None, noise=None, noise_growth=0.0):
    """Lower bounds of what it costs to bring every patch into every token's cell.

    Parameters
    ----------
    patches : ndarray (n, positions, dim)
    tokens : ndarray (n_tokens, dim)
    norm : {"l2", "linf", "l1"}
        Of the perturbation of a patch.
    weights : ndarray (positions, dim) or None
        How far each coordinate moves when the user's own moves by one.
    noise : ndarray (n, positions) or None
        Bound on the L2 error with which a step before the tokeniser computed each patch.
    noise_growth : float
        By how much that bound grows per unit of the L2 perturbation of a patch.

    Returns
    -------
    costs : ndarray of float64 (n, positions, n_tokens)
        In the user's units, rounded down by the bound of :func:`voronoi.certify`: no perturbation
        of a smaller norm makes the tokeniser, as it computes, answer that token.  0 for the own
        token, inf for those out of reach.
    """
    voronoi.check_norm(norm)
    n, positions, dim = patches.shape
    weights = np.ones((positions, dim)) if weights is None else np.abs(weights)
    tokens = np.asarray(tokens, dtype=np.float64)
    own = voronoi.tokenize(patches, tokens, weights=weights)
    gamma, tiny = (dim + 8) * 2.0**-52, np.finfo(np.float64).tiny
    costs = np.empty((n, positions, len(tokens)))
    for p in range(positions):
        x = patches[:, p].astype(np.float64)
        squares = np.zeros((n, len(tokens)))
        for j in range(dim):
            squares += np.square(x[:, j, None] - tokens[:, j])
        nearest = np.take_along_axis(squares, own[:, p, None], 1)
        normal = np.abs(weights[p] * (tokens[:, None] - tokens))
        if norm == "l2":
            size, motion = np.linalg.norm(normal, axis=-1), weights[p].max()
        elif norm == "linf":
            size, motion = normal.sum(-1), np.linalg.norm(weights[p])
        else:
            size, motion = normal.max(-1), weights[p].max()
        size = size[own[:, p]]
        with np.errstate(divide="ignore", invalid="ignore"):
            move = motion * (squares - nearest) / (2 * size)
            blur = 0.0 if noise is None else 2 * noise[:, p, None] + noise_growth * move
            left = squares - nearest - 4 * gamma * (squares + nearest + (move + blur) ** 2)
            left -= 8 * dim * tiny
            if noise is not None:
                apart = np.linalg.norm(tokens[own[:, p], None] - tokens, axis=-1)
                left -= 2 * apart * blur * (1 + gamma)
            found = left / (2 * size) * (1 - 4 * gamma)
        found = np.where(size > 0, np.maximum(found, 0), np.inf)
        found[np.arange(n), own[:, p]] = 0
        costs[:, p] = found
    return costs


def certify_configurations(
    changes, costs, norm="l2", *, max_configurations=10_000, batch_size=2048
):
    """Radius inside which no configuration of tokens changes the class, for each image.

    Parameters
    ----------
    changes : callable, (rows (m,), ids (m, positions)) -> ndarray of bool (m,)
        Whether a configuration of the image `row` may have another class than the image itself.
    costs : ndarray (n, positions, n_tokens)
        0 for the own token of each patch; others at most what it costs to reach them.
    norm : {"l2", "linf"}
        Over the whole image; how the costs of patches come together.
    max_configurations : int
        How many are looked at for an image.
    batch_size : int
        Configurations that `changes` is given at once, at most.

    Returns
    -------
    radius : ndarray (n,)
        Rounded down; inf where every configuration has been looked at.
    exact : ndarray of bool (n,)
        Whether a configuration that changes was found; the radius is its cost.
    looked : ndarray of int (n,)
    changing : ndarray of int (n, positions)
        That configuration; the own tokens where there is none.

    Raises
    ------
    ValueError
        If the norm is another.
    """
    if norm not in ("l2", "linf"):
        raise ValueError(f'norm must be "l2" or "linf" for a whole image, got {norm!r}.')
    n, positions, _ = costs.shape
    radius, exact = np.zeros(n), np.zeros(n, dtype=bool)
    looked, changing = np.zeros(n, dtype=np.int64), costs.argmin(-1)
    sums = np.empty(3 * max_configurations + 4)
    ids = np.empty((max_configurations, positions), dtype=np.int64)
    totals = np.empty(max_configurations + 1)
    for row in range(n):
        prices = np.square(costs[row]) if norm == "l2" else costs[row].copy()
        prices[np.arange(positions), changing[row]] = 0
        order = np.argsort(prices, axis=1, kind="stable")
        own_first = order[:, 0] != changing[row]
        for p in np.flatnonzero(own_first):  # another token costs nothing either
            order[p] = np.concatenate([[changing[row, p]], order[p][order[p] != changing[row, p]]])
        ranked = np.take_along_axis(prices, order, axis=1)
        ranked[:, 0] = 0
        second = ranked[:, 1] if ranked.shape[1] > 1 else np.full(positions, np.inf)
        first = np.argsort(second, kind="stable")
        count = enumeration.cheapest(
            ranked[first],
            order[first],
            first,
            max_configurations,
            norm == "linf",
            sums,
            ids,
            totals,
        )
        looked[row] = count
        start, size = 0, 32  # what changes soon is found soon
        while start < count:
            part = ids[start : min(start + size, count)]
            bad = np.flatnonzero(changes(np.full(len(part), row), part))
            if len(bad):
                at = start + int(bad[0])
                changing[row], exact[row], looked[row] = ids[at], True, at + 1
                radius[row] = totals[at]
                break
            start, size = start + size, min(2 * size, batch_size)
        else:
            radius[row] = totals[count]
    radius = (np.sqrt(radius) if norm == "l2" else radius) * _DOWN
    return radius, exact, looked, changing
