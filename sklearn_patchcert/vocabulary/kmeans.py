"""K-means: Lloyd's steps on the distinct patches, and running means over batches."""

from __future__ import annotations

import numpy as np
import torch
from tqdm.auto import tqdm

from sklearn_patchcert.voronoi import certificate

_SEED_SAMPLE = 2**14


def kmeans_tokens(
    patches,
    n_tokens,
    *,
    counts=None,
    max_iter=100,
    tol=1e-4,
    generator=None,
    device="cpu",
    progress=False,
):
    """Tokens by k-means: k-means++ seeds (Arthur, Vassilvitskii, SODA 2007), then Lloyd's steps.

    Works on the distinct patches, each weighted by how often it occurs: images repeat themselves.

    Parameters
    ----------
    patches : ndarray (n, dim)
    n_tokens : int
    counts : ndarray (n,) or None
        How often each patch was seen; once by default.
    max_iter : int
        Lloyd's steps at most.
    tol : float
        Stop when a step lowers the error by less than this part of it.
    generator : torch.Generator or None
    device : str or torch.device
    progress : bool
        Whether to show a bar.

    Returns
    -------
    tokens : ndarray (<= n_tokens, dim), distinct
        Fewer than `n_tokens` where there are fewer distinct patches.
    history : list of float
        Mean squared L2 error before each step.
    """
    counts = np.ones(len(patches)) if counts is None else np.asarray(counts, dtype=float)
    distinct, weights = distinct_patches(patches, counts)
    if len(distinct) <= n_tokens:
        return distinct, [0.0]
    centre = distinct.mean(0)
    data, history = distinct - centre, []
    tokens = _kmeans_plus_plus(data, weights, n_tokens, generator)
    for _ in tqdm(range(max_iter), desc="k-means", unit="step", disable=not progress):
        ids = certificate.tokenize(data[:, None], tokens, device=device)[:, 0]
        errors = weights * np.square(data - tokens[ids]).sum(1)
        history.append(float(errors.sum() / weights.sum()))
        if len(history) > 1 and history[-2] - history[-1] <= tol * history[-1]:
            break
        tokens = _means(data, weights, ids, errors, n_tokens)
    return distinct_tokens(tokens + centre), history


def distinct_patches(patches, counts):
    """Distinct rows (m, dim) and the sum of the counts (n,) of each, sorted by a hash."""
    patches = np.ascontiguousarray(patches) + 0  # so that -0 has the bits of 0
    words = patches.view(f"u{patches.dtype.itemsize}")
    hashes = np.zeros(len(patches), dtype=np.uint64)
    for column in words.T:
        hashes = (hashes ^ column) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    order = np.argsort(hashes)
    hashes, patches, counts = hashes[order], patches[order], counts[order]
    first = np.append(True, hashes[1:] != hashes[:-1])
    if (patches[1:][~first[1:]] != patches[:-1][~first[1:]]).any():  # two rows with one hash
        distinct, inverse = np.unique(patches, axis=0, return_inverse=True)
        return distinct, np.bincount(inverse.ravel(), counts)
    first = np.flatnonzero(first)
    return patches[first], np.add.reduceat(counts, first)


def _kmeans_plus_plus(data, weights, n_tokens, generator):
    """Seeds (n_tokens, dim) drawn one by one, by the squared distance to those drawn before."""
    size = min(len(data), max(_SEED_SAMPLE, 16 * n_tokens))
    some = torch.randperm(len(data), generator=generator)[:size].numpy()
    data, weights = data[some], weights[some]
    squares = np.square(data).sum(1)
    draws = torch.rand(n_tokens, generator=generator, dtype=torch.float64).numpy()
    chosen: list[int] = []
    distances = np.ones_like(weights)
    for draw in draws:
        mass = (weights * distances).cumsum()
        index = min(int(np.searchsorted(mass, draw * mass[-1], side="right")), size - 1)
        reached = np.maximum(squares + squares[index] - 2 * data @ data[index], 0)
        distances = np.minimum(distances, reached) if chosen else reached
        distances[index] = 0
        chosen.append(index)
    return data[chosen]


def _means(data, weights, ids, errors, n_tokens):
    """Weighted mean of each token's patches; a token without any moves to the worst-served one."""
    mass = np.bincount(ids, weights, n_tokens)
    sums = [np.bincount(ids, column * weights, n_tokens) for column in data.T]
    means = (np.stack(sums, axis=1) / np.maximum(mass, 1e-300)[:, None]).astype(data.dtype)
    empty = np.flatnonzero(mass == 0)
    if len(empty):
        means[empty] = data[np.argsort(-errors, kind="stable")[: len(empty)]]
    return means


def distinct_tokens(tokens):
    """Drop the copies of a token (n_tokens, dim), keeping the order of first occurrence."""
    _, first = np.unique(tokens, axis=0, return_index=True)
    return tokens[np.sort(first)]


def running_means(tokens, counts, patches, ids):
    """Move every token to the mean of the patches it has stood for: online k-means.

    Parameters
    ----------
    tokens : ndarray (n_tokens, dim)
    counts : ndarray (n_tokens,)
        How many patches each token has stood for so far.
    patches : ndarray (n, dim)
    ids : ndarray of int (n,)

    Returns
    -------
    tokens : ndarray (n_tokens, dim)
    """
    new = np.bincount(ids, minlength=len(tokens))
    sums = np.stack([np.bincount(ids, column, len(tokens)) for column in patches.T], axis=1)
    total = np.maximum(counts + new, 1)[:, None]
    moved = tokens + (sums - new[:, None] * tokens) / total
    return moved.astype(tokens.dtype)
