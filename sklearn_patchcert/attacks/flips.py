"""The attack that knows the tokens: which patches to change to which tokens.

The attack chooses tokens instead of pixels.  Each token change has a cost, the squared distance of
the patch to the cell of its new token (:mod:`voronoi.projections`), and the costs of an image add
up.  A changed patch moves by the shortest step into its new cell.  All others do not move.
"""

from __future__ import annotations

import numpy as np
import torch

from sklearn_patchcert.attacks.perturbations import _gradient, losses_of
from sklearn_patchcert.checks import check_count, check_number


def search(network, decode, start, costs, labels, *, eps, tokens, steps=30, greedy=24):
    """Search token assignments that are misclassified and cost at most eps.

    First all at once: the gain of each flip is linear in the gradient at a mixture of the tokens
    chosen so far, the price of a flip its squared cost, and for each image the multiplier is
    found at which the best flips just spend the budget (a Frank-Wolfe method on the knapsack).
    Then, for what is left, the best single flip by exact loss per squared cost, again and again.

    Parameters
    ----------
    network : callable, images (n, C, H, W) -> logits (n, n_classes)
    decode : callable, tokens (n, positions, dim) -> images (n, C, H, W), differentiable
    start : ndarray of int (n, positions)
        The tokens of the images, or others to start from, as another attack has reached them;
        where these cost too much, the images' own.
    costs : ndarray (n, positions, n_tokens)
        As :func:`voronoi.cell_costs` gives them.
    labels : Tensor of int64 (n,)
    eps : float
    tokens : Tensor (positions, n_tokens, dim)
        The vocabulary of each position.
    steps : int
        Of the first method.
    greedy : int
        Single flips that are tried in each step of the second; 0 for none.

    Returns
    -------
    ids : ndarray of int (n, positions)
        The start where nothing was found.
    found : ndarray of bool (n,)

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_patchcert.attacks.flips import search
    >>> def network(tokens):  # class 1 where both tokens are 1
    ...     total = tokens.sum((1, 2)) - 1.5
    ...     return torch.stack([-total, total], dim=1)
    >>> ids, found = search(
    ...     network, lambda tokens: tokens, np.array([[0, 1]]),
    ...     costs=np.array([[[0.0, 0.2], [0.9, 0.0]]]), labels=torch.tensor([0]), eps=0.3,
    ...     tokens=torch.tensor([[[0.0], [1.0]]] * 2),
    ... )
    >>> ids, found
    (array([[1, 1]]), array([ True]))
    """
    eps = check_number("eps", eps)
    steps, greedy = check_count("steps", steps, 0), check_count("greedy", greedy, 0)
    device = tokens.device
    start, labels = torch.as_tensor(start, device=device), labels.to(device)
    prices = torch.as_tensor(np.square(costs), dtype=torch.float32, device=device)
    own = prices.argmin(-1)
    budget = eps**2
    best, found = start.clone(), torch.zeros(len(start), dtype=torch.bool, device=device)

    def made(ids):
        return tokens[torch.arange(ids.shape[1], device=device), ids]

    def spent(ids):
        return prices.gather(-1, ids[..., None]).sum((1, 2))

    def judge(ids, rows):
        with torch.no_grad():
            fooled = network(decode(made(ids))).argmax(1) != labels[rows]
        good = fooled & (spent_rows(ids, rows) <= budget) & ~found[rows]
        best[rows[good]], found[rows[good]] = ids[good], True

    def spent_rows(ids, rows):
        return prices[rows].gather(-1, ids[..., None]).sum((1, 2))

    def whole(patches):
        return network(decode(patches))

    everyone = torch.arange(len(start), device=device)
    start = torch.where((spent(start) <= budget)[:, None], start, own)
    judge(start, everyone)
    for loss in ("margin", "ce"):
        mixture = made(start)
        for step in range(steps):
            rows = everyone[~found]
            if not len(rows):
                break
            gradient, _, _ = _gradient(
                lambda x: network(decode(x)), mixture[rows], labels[rows], loss
            )
            gain = torch.einsum("npd,pkd->npk", gradient, tokens)
            gain -= gain.gather(-1, own[rows][..., None])
            ids = knapsack(gain, prices[rows], budget)
            judge(ids, rows)
            share = 2 / (step + 2)
            mixture[rows] = (1 - share) * mixture[rows] + share * made(ids)
    if greedy:
        _greedy(network, decode, made, start, prices, labels, budget, tokens, best, found, greedy)
    return best.cpu().numpy(), found.cpu().numpy()


def knapsack(gain, prices, budget, halvings=25):
    """Choose tokens of large total gain whose costs sum to at most a budget.

    Parameters
    ----------
    gain : Tensor (n, positions, n_tokens)
    prices : Tensor (n, positions, n_tokens)
        0 for the own token.
    budget : float
    halvings : int
        Of the interval of the multiplier.

    Returns
    -------
    ids : Tensor of int64 (n, positions)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.attacks.flips import knapsack
    >>> gain, prices = torch.tensor([[[0.0, 1.0], [0.0, 2.0]]]), torch.tensor([[[0.0, 1.0]] * 2])
    >>> knapsack(gain, prices, budget=1.5)
    tensor([[0, 1]])
    """
    prices = prices.clamp_max(1e30)
    low = torch.zeros(len(gain), device=gain.device)
    high = torch.full_like(low, 1e-12)
    ratio = (gain / prices.clamp_min(1e-20)).clamp_min(0)
    high = torch.maximum(high, 2 * ratio.flatten(1).amax(1))
    chosen = prices.argmin(-1)
    for _ in range(halvings):
        middle = (low + high) / 2
        ids = (gain - middle[:, None, None] * prices).argmax(-1)
        fits = prices.gather(-1, ids[..., None]).sum((1, 2)) <= budget
        chosen = torch.where(fits[:, None], ids, chosen)
        high, low = torch.where(fits, middle, high), torch.where(fits, low, middle)
    return chosen


def _greedy(network, decode, made, start, prices, labels, budget, tokens, best, found, width):
    """Single flips by exact margin gained per price, for the images that are left."""
    ids = start.clone()
    active = ~found
    for _ in range(ids.shape[1]):
        rows = active.nonzero()[:, 0]
        if not len(rows):
            return
        with torch.no_grad():
            logits = network(decode(made(ids[rows])))
        before = losses_of(logits, labels[rows], "margin")
        gradient, _, _ = _gradient(
            lambda x: network(decode(x)), made(ids[rows]), labels[rows], "margin"
        )
        gain = torch.einsum("npd,pkd->npk", gradient, tokens)
        gain -= gain.gather(-1, ids[rows][..., None])
        left = budget - prices[rows].gather(-1, ids[rows][..., None]).sum((1, 2))
        change = prices[rows] - prices[rows].gather(-1, ids[rows][..., None])
        score = gain / change.clamp_min(1e-12)
        score[(change > left[:, None, None]) | (gain <= 0)] = -torch.inf
        score = score.scatter(-1, ids[rows][..., None], -torch.inf)
        top = score.flatten(1).topk(min(width, score[0].numel()), dim=1)
        trials = ids[rows][:, None].repeat(1, top.indices.shape[1], 1)
        position, token = top.indices // score.shape[-1], top.indices % score.shape[-1]
        trials.scatter_(2, position[..., None], token[..., None])
        flat = trials.flatten(0, 1)
        with torch.no_grad():
            logits = torch.cat([network(decode(made(part))) for part in flat.split(512)])
        repeated = labels[rows].repeat_interleave(top.indices.shape[1])
        after = losses_of(logits, repeated, "margin").reshape(len(rows), -1)
        price = change.flatten(1).gather(1, top.indices).clamp_min(1e-12)
        worth = torch.where(top.values > -torch.inf, (after - before[:, None]) / price, -torch.inf)
        fooled = (after > 0) & (top.values > -torch.inf)
        worth = torch.where(fooled, torch.inf, worth)
        pick = worth.argmax(1)
        ids[rows] = trials[torch.arange(len(rows), device=rows.device), pick]
        done = fooled.any(1)
        best[rows[done]], found[rows[done]] = ids[rows[done]], True
        stuck = ~(worth.amax(1) > 0)
        active[rows[done | stuck]] = False


def undo(network, decode, ids, own, costs, labels, tokens):
    """Undo token changes that are not needed for misclassification, the dearest first.

    Parameters
    ----------
    network, decode : callable
        As for :func:`search`.
    ids, own : ndarray of int (n, positions)
        Tokens that are misclassified, and the images' own.
    costs, labels, tokens
        As for :func:`search`.

    Returns
    -------
    ids : ndarray of int (n, positions)

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_patchcert.attacks.flips import undo
    >>> def network(tokens):  # class 1 where any token is 1
    ...     total = tokens.sum((1, 2)) - 0.5
    ...     return torch.stack([-total, total], dim=1)
    >>> undo(
    ...     network, lambda tokens: tokens, np.array([[1, 1]]), np.array([[0, 0]]),
    ...     costs=np.array([[[0.0, 0.2], [0.0, 0.9]]]), labels=torch.tensor([0]),
    ...     tokens=torch.tensor([[[0.0], [1.0]]] * 2),
    ... )
    array([[1, 0]])
    """
    device = tokens.device
    paid = np.take_along_axis(costs, ids[..., None], -1)[..., 0]
    prices = torch.as_tensor(paid, dtype=torch.float32, device=device)
    ids, own = torch.tensor(ids, device=device), torch.as_tensor(own, device=device)
    labels, places = labels.to(device), torch.arange(ids.shape[1], device=device)
    order = prices.argsort(1, descending=True)
    for rank in range(ids.shape[1]):
        at = order[:, rank]
        rows = (ids.gather(1, at[:, None]) != own.gather(1, at[:, None]))[:, 0].nonzero()[:, 0]
        if not len(rows):
            break
        trial = ids[rows].clone()
        trial.scatter_(1, at[rows, None], own[rows].gather(1, at[rows, None]))
        with torch.no_grad():
            still = network(decode(tokens[places, trial])).argmax(1) != labels[rows]
        ids[rows[still]] = trial[still]
    return ids.cpu().numpy()
