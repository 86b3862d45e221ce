"""Weighted sums of the patches of each token, compiled: one pass instead of one per coordinate."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def add_up(patches, weights, ids, mass, sums):
    """Add weights (n,) to mass (n_tokens,) and weighted patches (n, dim) to sums (n_tokens, dim).

    In the order of the patches and in float64, so that chunks do not change the result.
    """
    for i in range(patches.shape[0]):
        token, weight = ids[i], weights[i]
        mass[token] += weight
        for j in range(patches.shape[1]):
            sums[token, j] += patches[i, j] * weight
