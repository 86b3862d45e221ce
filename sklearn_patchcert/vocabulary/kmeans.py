"""K-means: Lloyd's steps on the distinct patches, and running means over batches."""

from __future__ import annotations

import numpy as np
from tqdm.auto import tqdm

from sklearn_patchcert.vocabulary.clustering.assignment import nearest
from sklearn_patchcert.vocabulary.clustering.distinct import distinct_patches, distinct_tokens
from sklearn_patchcert.vocabulary.clustering.seeding import seeds


def kmeans_tokens(
    patches,
    n_tokens,
    *,
    counts=None,
    max_iter=100,
    tol=1e-4,
    generator=None,
    device="cpu",
    n_jobs=None,
    progress=False,
):
    """Tokens by k-means: k-means++ seeds (Arthur, Vassilvitskii, SODA 2007), then Lloyd's steps.

    Works on the distinct patches, each weighted by how often it occurs: images repeat themselves.
    These are the only copy of the patches; a step needs 8 bytes for each of them besides.

    Parameters
    ----------
    patches : ndarray (n, dim)
        May be memory-mapped.
    n_tokens : int
    counts : ndarray (n,) or None
        How often each patch was seen; once by default.
    max_iter : int
        Lloyd's steps at most.
    tol : float
        Stop when a step lowers the error by less than this part of it.
    generator : torch.Generator or None
    device : str or torch.device
    n_jobs : int or None
        Threads.  The result does not depend on it.
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
    data, weights = distinct_patches(patches, counts)
    if len(data) <= n_tokens:
        return data, [0.0]
    centre = data.mean(0)
    data -= centre
    options = {"device": device, "n_jobs": n_jobs}
    tokens = seeds(data, weights, n_tokens, generator=generator, progress=progress, **options)
    history: list[float] = []
    errors, total = np.empty(len(data)), weights.sum()
    most = max_iter * len(data)
    with tqdm(
        total=most, desc="k-means", unit="patch", unit_scale=True, disable=not progress
    ) as bar:
        for step in range(max_iter):
            bar.set_postfix(step=step + 1, error=history[-1] if history else None)
            means = _step(data, weights, tokens, errors, bar, options)
            history.append(float(errors.sum() / total))
            if len(history) > 1 and history[-2] - history[-1] <= tol * history[-1]:
                break
            tokens = means
    return distinct_tokens(tokens + centre), history


def _step(data, weights, tokens, errors, bar, options):
    """Weighted mean of each token's patches; a token without any moves to the worst-served one.

    Fills in the errors (n,).
    """
    from sklearn_patchcert.vocabulary.clustering.sums import add_up  # numba: only where it is used

    mass, sums = np.zeros(len(tokens)), np.zeros(tokens.shape)
    for part, ids, squares in nearest(data, tokens, **options):
        errors[part] = weights[part] * squares
        add_up(data[part], weights[part], ids, mass, sums)
        bar.update(len(ids))
    means = (sums / np.maximum(mass, 1e-300)[:, None]).astype(data.dtype)
    empty = np.flatnonzero(mass == 0)
    if len(empty):
        means[empty] = data[_largest(errors, len(empty))]
    return means


def _largest(values, count):
    """Indices of the largest values in falling order, of equal ones the first."""
    least = np.partition(values, len(values) - count)[len(values) - count]
    some = np.flatnonzero(values >= least)
    return some[np.argsort(-values[some], kind="stable")[:count]]


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
