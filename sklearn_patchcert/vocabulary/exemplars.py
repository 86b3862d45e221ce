"""Vocabularies of real patches, thinned to a minimum distance: an r-net."""

from __future__ import annotations

import numpy as np
import torch
from tqdm.auto import tqdm

from sklearn_patchcert.vocabulary.clustering.assignment import nearest
from sklearn_patchcert.vocabulary.clustering.distinct import distinct_patches

_FEW = 512  # patches that are compared with one another
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
    n_jobs=None,
    progress=False,
):
    """Some of the patches, no two of them nearer than a distance.

    Patches come in random order, and each becomes a token unless a token is nearer than
    `min_distance` already, until there are `n_tokens`.  So a token's own wall is at least half of
    `min_distance` away; and if fewer tokens are enough, no patch is further from a token.  Of
    more than 500,000 distinct patches, so many are drawn first.

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
    n_jobs : int or None
        Threads.  The result does not depend on it.
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
    options = {"device": device, "n_jobs": n_jobs}
    if min_distance is not None:
        return _net(candidates, n_tokens, min_distance, start, options)[0]
    if len(start) >= n_tokens:
        return start
    if len(candidates) + len(start) <= n_tokens:
        return _net(candidates, n_tokens, 0.0, start, options)[0]
    low, high = 0.0, float(np.linalg.norm(np.ptp(candidates, axis=0))) * 1.01
    found = _net(candidates, n_tokens, high, start, options)[0]
    for _ in tqdm(range(_HALVINGS), desc="distance", disable=not progress):
        middle = (low + high) / 2
        net, complete = _net(candidates, n_tokens, middle, start, options)
        if complete:
            found, high = net, middle
        else:
            low = middle
    return found


def _net(candidates, n_tokens, distance, start, options):
    """Tokens, and whether every candidate is within the distance of one of them."""
    threshold, most = distance * distance, n_tokens - len(start)
    free = np.arange(len(candidates))
    if len(start):
        free = _uncovered(candidates, free, start, threshold, options)
    chosen = _select(candidates, free, threshold, most, options)
    return np.concatenate([start, candidates[chosen]]), len(chosen) < most or most == len(free)


def _select(candidates, free, threshold, most, options):
    """Indices, at most so many, of candidates that none before them is nearer to than allowed.

    Those of the first half thin out the second, through the tree of the nearest-token search, so
    that the effort is about n log n.
    """
    if len(free) <= _FEW or most <= 0:
        return _greedy(candidates, free, threshold, most)
    half = len(free) // 2
    first = _select(candidates, free[:half], threshold, most, options)
    if len(first) == most:
        return first
    rest = _uncovered(candidates, free[half:], candidates[first], threshold, options)
    second = _select(candidates, rest, threshold, most - len(first), options)
    return np.concatenate([first, second])


def _uncovered(candidates, free, tokens, threshold, options):
    """Those of the indices whose patches no token is nearer to than the threshold."""
    left = []
    for part, ids, _ in nearest(candidates[free], tokens, **options):
        apart = candidates[free[part]].astype(np.float64) - tokens[ids]
        squares = np.square(apart, out=apart).sum(1)
        left.append(free[part][squares >= threshold if threshold else squares > 0])
    return np.concatenate(left) if left else free


def _greedy(candidates, free, threshold, most):
    """The plain loop: the first of those left is chosen, and what is too near to it goes."""
    values = candidates[free].astype(np.float64)
    chosen: list[int] = []
    while len(free) and len(chosen) < most:
        chosen.append(free[0])
        squares = np.square(values[1:] - values[0]).sum(1)
        left = np.flatnonzero(squares >= threshold if threshold else squares > 0) + 1
        free, values = free[left], values[left]
    return np.array(chosen, dtype=int)
