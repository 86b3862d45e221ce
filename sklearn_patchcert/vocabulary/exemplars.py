"""Vocabularies of real patches, thinned to a minimum distance: an r-net."""

from __future__ import annotations

import numpy as np
import torch
from tqdm.auto import tqdm

from sklearn_patchcert.vocabulary.kmeans import distinct_patches
from sklearn_patchcert.voronoi import certificate

_BLOCK = 4096
_HALVINGS = 12
_CANDIDATES = 500_000


def exemplar_tokens(
    patches,
    n_tokens,
    min_distance=None,
    *,
    tokens=None,
    generator=None,
    device="cpu",
    progress=False,
):
    """Some of the patches, no two of them nearer than a distance.

    Patches come in random order, and each becomes a token unless a token is nearer than
    `min_distance` already, until there are `n_tokens`.  So a token's own wall is at least half of
    `min_distance` away; and if fewer tokens are enough, no patch is further from a token.

    Parameters
    ----------
    patches : ndarray (n, dim)
    n_tokens : int
        How many tokens there are at most.
    min_distance : float or None
        L2, in the units of the patches.  None: the smallest, but for a few per cent, that leaves
        no more than `n_tokens`.
    tokens : ndarray (m, dim) or None
        Tokens to start with, which stay.
    generator : torch.Generator or None
    device : str or torch.device
    progress : bool
        Whether to show a bar.

    Returns
    -------
    tokens : ndarray (<= n_tokens, dim)
    """
    distinct = distinct_patches(patches, np.ones(len(patches)))[0]
    order = torch.randperm(len(distinct), generator=generator).numpy()
    candidates = distinct[order[:_CANDIDATES]]
    start = candidates[:0] if tokens is None else tokens
    if min_distance is not None:
        return _net(candidates, n_tokens, min_distance, start, device)[0]
    if len(start) >= n_tokens:
        return start
    if len(candidates) + len(start) <= n_tokens:
        return _net(candidates, n_tokens, 0.0, start, device)[0]
    low, high = 0.0, float(np.linalg.norm(np.ptp(candidates, axis=0))) * 1.01
    found = _net(candidates, n_tokens, high, start, device)[0]
    for _ in tqdm(range(_HALVINGS), desc="distance", disable=not progress):
        middle = (low + high) / 2
        net, complete = _net(candidates, n_tokens, middle, start, device)
        if complete:
            found, high = net, middle
        else:
            low = middle
    return found


def _net(candidates, n_tokens, distance, start, device):
    """Tokens, and whether every candidate is within the distance of one of them."""
    net, threshold = [start], distance * distance
    size = len(start)
    for at in range(0, len(candidates), _BLOCK):
        block = candidates[at : at + _BLOCK]
        if size:
            tokens = np.concatenate(net)
            net = [tokens]
            ids = certificate.tokenize(block[:, None], tokens, device=device)[:, 0]
            squares = np.square(block.astype(np.float64) - tokens[ids]).sum(1)
            block = block[squares >= threshold] if threshold else block[squares > 0]
        chosen = _greedy(block, threshold, n_tokens - size)
        net.append(block[chosen])
        size += len(chosen)
        if size == n_tokens:
            rest = len(chosen) < len(block) or at + _BLOCK < len(candidates)
            return np.concatenate(net), not rest
    return np.concatenate(net), True


def _greedy(block, threshold, most):
    """Indices of patches that no patch chosen before them is nearer to than the threshold."""
    values = block.astype(np.float64)
    free = np.arange(len(block))
    chosen: list[int] = []
    while len(free) and len(chosen) < most:
        first, free = free[0], free[1:]
        chosen.append(first)
        squares = np.square(values[free] - values[first]).sum(1)
        free = free[squares >= threshold] if threshold else free[squares > 0]
    return np.array(chosen, dtype=int)
