"""The engine that looks only at the tokens that can matter: numba, on the CPU, exact.

It computes the same bits as :mod:`sklearn_patchcert.voronoi.engines.dense`.  Small vocabularies are
compared in float32 as a whole, large ones through a tree; in both, float64 decides among the few
tokens that the float32 bounds leave open.
"""

from __future__ import annotations

import math

import numpy as np

from sklearn_patchcert.voronoi.engines.dense import largest_motion

_SMALL_VOCABULARY = 512
_LARGEST_DIM = 2**20  # beyond, neither sums of float32 nor of integers are within their bounds


def prepare(tokens, weights, norm, device, small_vocabulary=_SMALL_VOCABULARY):
    """What the searches below need of the tokens (n_tokens, dim) and weights (dim,)."""
    from sklearn_patchcert.voronoi.engines import (  # numba: only where it is used
        measure,
        small,
        tree,
    )

    kind = {"l2": measure.L2, "linf": measure.LINF, "l1": measure.L1}[norm]
    ones = np.ones_like(weights)
    exact = np.ascontiguousarray(tokens), weights, ones, kind, largest_motion(weights, norm)
    # Units in which float32 can bound distances: the mean is 0, the furthest token within 1.
    centre = tokens.mean(0)
    apart = tokens - centre
    largest = float(np.abs(apart).max())
    rough = 2.0**-20 * float(np.abs(tokens).max())  # below, the differences have lost digits
    beyond = len(tokens) < 2 or tokens.shape[1] > _LARGEST_DIM
    if beyond or not max(rough, 1e-140) < largest:  # squares would underflow
        return measure.search, exact, (centre, 1.0, 1.0), None
    far = largest * float(np.sqrt(np.square(apart / largest).sum(1).max()))
    scale, wscale = 2.0 ** -math.frexp(far)[1], 2.0 ** -math.frexp(weights.max())[1]
    room = small if len(tokens) <= small_vocabulary else tree
    tables = room.prepare(exact, apart * scale, weights * wscale)
    return room.search, exact, (centre, scale, wscale), tables


def tokenize(patches, prepared):
    """Index of the nearest token of every patch (n, dim): ids (n,)."""
    return _search(patches, prepared, None, 0.0, False, False)[0]


def certify(patches, prepared, noise=None, noise_growth=0.0, witnesses=True):
    """Ids (n,), radii (n,) and the tokens behind the nearest walls of patches (n, dim).

    The last are (n,) or, where nobody asks for them, (0,).
    """
    return _search(patches, prepared, noise, noise_growth, True, witnesses)


def fill(patches, prepared, ids, radii, walls):
    """Write the ids and, if `walls`, the radii (n,) of contiguous float patches (n, dim)."""
    search, exact, unit, tables = prepared
    none = np.empty(0)
    search(patches, exact, unit, tables, none, 0.0, walls, ids, radii, none.astype(np.int64))


def _search(patches, prepared, noise, noise_growth, walls, witnesses):
    search, exact, unit, tables = prepared
    patches = np.ascontiguousarray(patches)
    if patches.dtype not in (np.float32, np.float64):
        patches = patches.astype(np.float64)
    n = len(patches)
    ids, radii, others = np.empty(n, np.int64), np.empty(n), np.empty(n * witnesses, np.int64)
    noise = np.empty(0) if noise is None else np.asarray(noise, dtype=np.float64)
    search(patches, exact, unit, tables, noise, float(noise_growth), walls, ids, radii, others)
    return ids, radii, others
