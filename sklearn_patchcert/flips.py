"""The attack that knows tokens: which patches to flip to which tokens, at which price.

An L2 attacker of a discrete model reaches exactly the configurations of tokens whose cells lie
near enough: the squared distances of the patches to the cells of their new tokens add up, and
nothing else counts.  So the attack chooses tokens, not pixels, and moves each flipped patch by the
shortest step into its new cell, all others not at all.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import KDTree

from sklearn_patchcert import engines, voronoi
from sklearn_patchcert.perturbations import _gradient, losses_of

_NEIGHBOURS = 64  # of a token, whose walls bound the distance of its cell
_INSIDE = 1e-5  # how far beyond a wall to go, relative to the step


def steps_into_cells(patches, tokens, targets, *, weights=None, sweeps=3000, sound=False):
    """Shortest L2 steps of patches into the cells of other tokens.

    Parameters
    ----------
    patches : ndarray (m, dim)
    tokens : ndarray (n_tokens, dim)
    targets : ndarray of int (m,)
    weights : ndarray (m, dim) or None
        How far a patch moves where the user's input moves by one.
    sweeps : int
        Of the solver; more bring it nearer to the shortest step.
    sound : bool
        Whether the lower bounds are of all steps after which the tokeniser, as it rounds, answers
        the targets.

    Returns
    -------
    steps : ndarray (m, dim)
        In the user's units, as far as the wall.
    lower : ndarray (m,)
        Lower bounds of the norms of all steps that lead there; but for rounding, unless `sound`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.flips import steps_into_cells
    >>> tokens = np.array([[0.0, 0.0], [2.0, 0.0]])
    >>> steps, lower = steps_into_cells(np.array([[0.5, 1.0]]), tokens, np.array([1]))
    >>> steps.round(6), lower.round(6)
    (array([[0.5, 0. ]]), array([0.5]))
    """
    patches = np.ascontiguousarray(patches, dtype=np.float64)
    tokens = np.ascontiguousarray(tokens, dtype=np.float64)
    weights = np.ones_like(patches) if weights is None else np.array(weights, dtype=np.float64)
    steps, lower = np.empty_like(patches), np.empty(len(patches))
    targets = np.ascontiguousarray(targets, dtype=np.int64)
    reach = float(np.abs(tokens).max()) or 1.0
    solver = engines.cells.project
    solver(patches, tokens, weights, targets, sweeps, 1e-9 * reach, sound, steps, lower)
    return steps, lower


def cell_costs(patches, tokens, *, weights=None, limit=np.inf, exact=True, sweeps=60):
    """What it costs to bring every patch into every token's cell.

    Parameters
    ----------
    patches : ndarray (n, positions, dim)
    tokens : ndarray (n_tokens, dim)
    weights : ndarray (positions, dim) or None
    limit : float
        Costs that are certainly above it are inf.
    exact : bool
        Whether to project onto the cells; otherwise the costs are those of a single wall, the
        farthest one among those to the patch's own token and to the 64 neighbours of the other
        one, which are smaller.
    sweeps : int
        Of the solver that projects.

    Returns
    -------
    costs : ndarray (n, positions, n_tokens)
        L2 distances in the user's units, 0 for the patch's own token.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.flips import cell_costs
    >>> cell_costs(np.array([[[0.25]]]), np.array([[0.0], [1.0], [3.0]])).round(6)
    array([[[0.  , 0.25, 1.75]]])
    """
    n, positions, dim = patches.shape
    weights = np.ones((positions, dim)) if weights is None else weights
    costs = np.empty((n, positions, len(tokens)))
    tokens = np.asarray(tokens, dtype=np.float64)
    near = KDTree(tokens).query(tokens, min(_NEIGHBOURS + 1, len(tokens)))[1]
    near = near.reshape(len(tokens), -1)[:, 1:]
    for p in range(positions):
        block = patches[:, p].astype(np.float64)
        squares = np.square(block[:, None] - tokens).sum(-1)
        own = squares.argmin(1)
        owners, owner = np.unique(own, return_inverse=True)
        between = np.linalg.norm((tokens[owners, None] - tokens) * weights[p], axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            walls = (squares - squares.min(1, keepdims=True)) / (2 * between[owner])
        walls[np.arange(n), own] = 0
        farthest = _farthest_walls(squares, walls, limit, tokens * weights[p], near)
        costs[:, p] = np.where(farthest <= limit, farthest, np.inf)
    if exact and dim > 1:  # in one dimension the walls to the neighbours are the cell
        at = np.argwhere(np.isfinite(costs) & (costs > 0))
        if len(at):
            _, lower = steps_into_cells(
                patches[at[:, 0], at[:, 1]], tokens, at[:, 2], weights=weights[at[:, 1]],
                sweeps=sweeps,
            )  # fmt: skip
            costs[tuple(at.T)] = np.maximum(costs[tuple(at.T)], lower)
            costs[costs > limit] = np.inf
    return costs


def _farthest_walls(squares, walls, limit, tokens, near):
    """Walls (n, n_tokens) of cells, or those between them and their neighbours' if farther."""
    farthest = walls.copy()
    apart = np.linalg.norm(tokens[:, None] - tokens[near], axis=-1)
    row, token = np.nonzero((walls <= limit) & (walls > 0))
    size = max(1, 2**22 // max(1, near.shape[1]))
    for start in range(0, len(row), size):
        i, b = row[start : start + size], token[start : start + size]
        ahead = squares[i, b][:, None] - squares[i[:, None], near[b]]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.nan_to_num(ahead / (2 * apart[b]), nan=0.0, posinf=np.inf, neginf=0.0)
        farthest[i, b] = np.maximum(farthest[i, b], found.max(1, initial=0.0))
    return farthest


def search(network, decode, start, costs, labels, *, eps, tokens, steps=30, greedy=24):
    """Configurations of tokens that are misclassified and cost at most eps.

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
        As :func:`cell_costs` gives them.
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
    >>> from sklearn_patchcert.flips import search
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
    """Choose tokens of large total gain whose prices add up to at most a budget.

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
    >>> from sklearn_patchcert.flips import knapsack
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
    """Take back flips, dearest first, that are not needed to be misclassified.

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
    >>> from sklearn_patchcert.flips import undo
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


def realised(patches, tokens, ids, *, weights=None):
    """Patches moved into the cells of their new tokens, and not at all where these are their own.

    Parameters
    ----------
    patches : ndarray (n, positions, dim), of the dtype that the model will be asked with
    tokens : ndarray (n_tokens, dim)
    ids : ndarray of int (n, positions)
    weights : ndarray (positions, dim) or None

    Returns
    -------
    steps : ndarray (n, positions, dim), float64
        In the user's units; just beyond the wall, towards the new token.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.flips import realised
    >>> steps = realised(np.array([[[0.25]]]), np.array([[0.0], [1.0]]), np.array([[1]]))
    >>> steps.round(3), bool(0.25 + steps.item() > 0.5)
    (array([[[0.25]]]), True)
    """
    weights = np.ones(patches.shape[1:]) if weights is None else weights
    own = voronoi.tokenize(patches, tokens)
    steps = np.zeros(patches.shape)
    at = np.argwhere(ids != own)
    if not len(at):
        return steps
    x, w, b = patches[tuple(at.T)].astype(np.float64), weights[at[:, 1]], ids[tuple(at.T)]
    step, _ = steps_into_cells(x, tokens, b, weights=w)
    tokens = np.asarray(tokens, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        inward = np.nan_to_num((tokens[b] - x) / w - step, posinf=0.0, neginf=0.0)
    part, left = _INSIDE, np.arange(len(at))
    while len(left) and part < 0.5:  # a step that the solver or rounding leaves short goes on
        trial = step[left] + part * inward[left]
        reached = (x[left] + w[left] * trial).astype(patches.dtype)
        good = voronoi.tokenize(reached[:, None], tokens)[:, 0] == b[left]
        steps[tuple(at[left[good]].T)] = trial[good]
        left, part = left[~good], part * 4
    return steps
