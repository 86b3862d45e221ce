"""Changes of single patches to other tokens, and the cheapest of them.

The n cheapest assignments of an image consist of its n cheapest changes: an assignment with any
other change costs as much as that change, at least, and there are n cheaper ones without it.  So a
search needs no table of all costs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_patchcert.voronoi import engines
from sklearn_patchcert.voronoi.engines.dense import largest_motion

_TABLE, _FEW_KINDS = 1024, 8  # tokens of which, and weights for which, all distances are kept


class Changes(NamedTuple):
    """Changes of one image: which patch gets which token, at what cost.

    own : ndarray of int (positions,), the tokens of the image;  places, tokens, costs : (m,), with
    costs that are finite, in the order of places and tokens.
    """

    own: np.ndarray
    places: np.ndarray
    tokens: np.ndarray
    costs: np.ndarray


def prepared(tokens, weights, norm):
    """What the engine needs of the tokens (n_tokens, dim) and weights (positions, dim).

    Returns
    -------
    tables : tuple
        As :func:`voronoi.engines.walls.every` takes them.
    scale : tuple
    """
    measure = engines.measure
    tokens = np.ascontiguousarray(tokens, dtype=np.float64)
    weights = np.ascontiguousarray(np.abs(weights), dtype=np.float64)
    kinds = np.zeros(len(weights), dtype=np.int64)
    if (weights[1:] == weights[:1]).all():
        weights = weights[:1]
    else:
        weights, kinds = np.unique(weights, axis=0, return_inverse=True)
        kinds = kinds.ravel()
    number = {"l2": measure.L2, "linf": measure.LINF, "l1": measure.L1}[norm]
    if len(weights) <= _FEW_KINDS:
        motions = np.array([largest_motion(weight, norm) for weight in weights])
    else:  # the same formula
        motions = weights.max(1)
        if norm == "linf":
            motions = motions * np.sqrt(np.square(weights / motions[:, None]).sum(1))
    every, dim = np.arange(len(tokens)), tokens.shape[1]
    sizes, apart = np.empty((0, 0, 0)), np.empty((0, 0))
    if len(tokens) <= _TABLE:
        apart = measure.dual_norms(tokens, np.ones(dim), every, measure.L2)
        if len(weights) <= _FEW_KINDS:
            sizes = np.stack([measure.dual_norms(tokens, w, every, number) for w in weights])
    tables = tokens, np.ascontiguousarray(tokens.T), number, sizes, apart
    return tables, (kinds, weights, motions)


def cheapest(patches, own, tables, scale, noise, growth, n_walls, count, most):
    """The `most` cheapest changes of the patches (positions, dim) of an image.

    Parameters
    ----------
    patches : ndarray (positions, dim)
    own : ndarray of int (positions,)
    tables, scale : tuple
        Of :func:`prepared`.
    noise : ndarray (positions,) or None
    growth : float
    n_walls : int
    count : int
        Tokens that patches get; the rest of the table are copies.
    most : int

    Returns
    -------
    changes : Changes
        Of equally dear ones, the first.  They take at most 32 bytes each, or 16 for every cost.
    """
    n_tokens = len(tables[0])
    room = min(2 * most, own.size * n_tokens) + n_tokens
    costs, places = np.empty(room), np.empty(room, dtype=np.int64)
    n = engines.walls.cheapest(
        np.ascontiguousarray(patches, dtype=np.float64), np.ascontiguousarray(own), tables, scale,
        np.empty(0) if noise is None else np.ascontiguousarray(noise, dtype=np.float64),
        float(growth), min(n_walls, n_tokens), count, most, costs, places,
    )  # fmt: skip
    at, token = np.divmod(places[:n], n_tokens)
    return Changes(own, at, token, costs[:n].copy())


def of_costs(costs, most):
    """The `most` cheapest changes among all costs (positions, n_tokens) of an image."""
    own = costs.argmin(-1)
    there = np.isfinite(costs)
    there[np.arange(len(own)), own] = False
    if there.sum() > most:  # quickly, before they are put in order
        there &= costs <= np.partition(costs[there], most - 1)[most - 1]
    at, token = np.nonzero(there)
    return fewest(Changes(own, at, token, costs[at, token].astype(np.float64)), most)


def fewest(changes, most):
    """The `most` cheapest of some changes; of equally dear ones, the first."""
    own, at, token, costs = changes
    if len(costs) > most:
        kept = np.sort(np.argsort(costs, kind="stable")[:most])
        at, token, costs = at[kept], token[kept], costs[kept]
    return Changes(own, at, token, costs)
