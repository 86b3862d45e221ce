"""The first tokens of k-means: k-means++, one by one or, if they are many, in rounds."""

from __future__ import annotations

import numpy as np
import torch
from tqdm.auto import tqdm

from sklearn_patchcert.vocabulary.clustering.assignment import nearest

_SAMPLE = 2**14
_ONE_BY_ONE = 1024  # so many cost less than a step of Lloyd's; the effort grows with their square


def seeds(data, weights, n_tokens, *, generator=None, device="cpu", n_jobs=None, progress=False):
    """Seeds (n_tokens, dim), distinct rows of the data, drawn by their squared distances.

    Up to 1,024 are drawn one by one, each by the squared distances to those before (k-means++).
    From there on, each round draws as many as there are already.

    Parameters
    ----------
    data : ndarray (n, dim)
        More than `n_tokens` distinct rows.
    weights : ndarray (n,)
    n_tokens : int
    generator : torch.Generator or None
    device : str or torch.device
    n_jobs : int or None
    progress : bool
        Whether to show a bar.
    """
    size = min(len(data), max(_SAMPLE, 16 * n_tokens))
    some = torch.randperm(len(data), generator=generator)[:size].numpy()
    data, weights = data[some], weights[some]
    with tqdm(total=n_tokens, desc="seeds", unit="token", disable=not progress) as bar:
        most = size if n_tokens <= _ONE_BY_ONE else _SAMPLE
        first = min(n_tokens, _ONE_BY_ONE)
        chosen = _one_by_one(data[:most], weights[:most], first, generator, bar)
        chosen = chosen if first == n_tokens else np.unique(chosen)
        free = np.ones(size, dtype=bool)
        while len(chosen) < n_tokens:
            free[chosen] = False
            left = np.flatnonzero(free)
            found = nearest(data[left], data[chosen], device=device, n_jobs=n_jobs)
            mass = weights[left] * np.concatenate([squares for _, _, squares in found])
            draws = torch.rand(len(left), generator=generator, dtype=torch.float64).numpy()
            with np.errstate(
                divide="ignore", invalid="ignore"
            ):  # the first of exponential clocks of these rates
                clocks = -np.log1p(-draws) / mass
            more = min(n_tokens - len(chosen), len(chosen))
            new = left[np.argpartition(clocks, more - 1)[:more]]
            chosen = np.concatenate([chosen, np.sort(new)])
            bar.update(more)
    return data[chosen]


def _one_by_one(data, weights, n_tokens, generator, bar):
    """Indices (n_tokens,) of seeds by k-means++."""
    squares = np.square(data).sum(1)
    draws = torch.rand(n_tokens, generator=generator, dtype=torch.float64).numpy()
    chosen: list[int] = []
    distances = np.ones_like(weights)
    for draw in draws:
        mass = (weights * distances).cumsum()
        index = min(int(np.searchsorted(mass, draw * mass[-1], side="right")), len(data) - 1)
        reached = np.maximum(squares + squares[index] - 2 * data @ data[index], 0)
        distances = np.minimum(distances, reached) if chosen else reached
        distances[index] = 0
        chosen.append(index)
        bar.update()
    return np.array(chosen)
