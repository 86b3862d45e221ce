"""The changes of tokens that gain the most for a budget, for many images at once, in training."""

from __future__ import annotations

import numpy as np
import torch

from sklearn_patchcert.parallel import in_threads

_MOST = 1e38  # of a rate of exchange, in float32
_OCTAVES = 250.0  # from the first rate to the lowest
_HALVINGS = 32  # of that interval


def knapsack(gains, prices, budget):
    """Choose tokens of large total gain whose costs sum to at most a budget.

    Parameters
    ----------
    gains : list of Tensor (n, positions, n_tokens)
        One for each group of positions that share a table of tokens.
    prices : list of Tensor (n, positions, n_tokens)
        0 for the own token.
    budget : float
        For all groups together.

    Returns
    -------
    ids : list of Tensor of int64 (n, positions)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.attacks.offers.buying import knapsack
    >>> gains = [torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.0, 2.0, 1.0]]])]
    >>> prices = [torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.0, 1.0, 1.0]]])]
    >>> knapsack(gains, prices, budget=1.5)
    [tensor([[0]]), tensor([[1]])]
    """
    return (looped if gains[0].device.type == "cpu" else exchanged)(gains, prices, budget)


def exchanged(gains, prices, budget):
    """What :func:`knapsack` chooses, by operations on whole tensors."""
    prices = [part.clamp_max(1e30) for part in prices]
    high = torch.zeros(len(gains[0]), device=gains[0].device)
    chosen = [part.argmin(-1) for part in prices]
    for gain, price in zip(gains, prices, strict=True):
        ratio = (gain / price.clamp_min(1e-30)).clamp_min(0)
        high = torch.maximum(high, 2 * ratio.flatten(1).amax(1))
    high = high.clamp_max(_MOST).log2()  # of rates: a patch at its wall makes the first one huge
    low = high - _OCTAVES
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        ids, spent = [], 0
        for gain, price in zip(gains, prices, strict=True):
            ids.append((gain - middle.exp2()[:, None, None] * price).argmax(-1))
            spent = spent + price.gather(-1, ids[-1][..., None]).sum((1, 2))
        fits = spent <= budget
        chosen = [torch.where(fits[:, None], *pair) for pair in zip(ids, chosen, strict=True)]
        high, low = torch.where(fits, middle, high), torch.where(fits, low, middle)
    return chosen


def looped(gains, prices, budget):
    """What :func:`knapsack` chooses, by a compiled loop."""
    from sklearn_patchcert.attacks.offers import spending  # numba: only where it is used

    counts = [part.shape[1:] for part in gains]
    start = np.concatenate([[0], *(np.full(*count) for count in counts)]).cumsum()
    gains, prices = (
        torch.cat([part.flatten(1) for part in parts], 1).detach().numpy()
        for parts in (gains, prices)
    )
    chosen = np.empty((len(gains), len(start) - 1), np.int64)

    def part(rows):
        spending.spend(gains[rows], prices[rows], start, budget, chosen[rows])

    jobs = torch.get_num_threads()  # as many as the network has
    size = -(-len(gains) // jobs)
    rows = [slice(at, at + size) for at in range(0, len(gains), max(1, size))]
    in_threads(part, rows)
    places = torch.from_numpy(chosen - start[:-1])
    return list(places.split([positions for positions, _ in counts], 1))
