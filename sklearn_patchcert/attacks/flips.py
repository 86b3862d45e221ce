"""The attack that knows the tokens: which patches to change to which tokens.

The attack chooses tokens instead of pixels.  Each token change has a cost, the squared distance of
the patch to the cell of its new token (:mod:`voronoi.projections`), and the costs of an image add
up.  A changed patch moves by the shortest step into its new cell.  All others do not move.
"""

from __future__ import annotations

import numpy as np
import torch

from sklearn_patchcert.attacks.offers.tables import offered
from sklearn_patchcert.attacks.perturbations import _gradient, losses_of
from sklearn_patchcert.checks import check_count, check_number

_VALUES_AT_ONCE = 2**22  # of images that are tried together
_SINGLY = 256  # patches whose flips are tried and undone one by one
_PARTS = 32  # of the budget, and of the flips, of an image of more patches
_TRIALS = 4


def search(network, decode, start, costs, labels, *, eps, tokens, steps=30, greedy=24):
    """Search token assignments that are misclassified and cost at most eps.

    First all at once: the gain of each flip is linear in the gradient at a mixture of the tokens
    chosen so far, the price of a flip its squared cost, and the best flips by gain per price spend
    the budget (a Frank-Wolfe method on the knapsack).  Then, for what is left, the best single flip
    by exact loss per squared cost, again and again; with more than 256 patches, in 32 rounds of
    many flips each.

    Parameters
    ----------
    network : callable, images (n, C, H, W) -> logits (n, n_classes)
    decode : callable, tokens (n, positions, dim) -> images (n, C, H, W), differentiable
    start : ndarray of int (n, positions)
        The tokens of the images, or others to start from, as another attack has reached them;
        where these cost too much, the images' own.
    costs : ndarray (n, positions, n_tokens) or Offers
        As :func:`voronoi.cell_costs` gives them, or :mod:`attacks.offers.tables` made of them.
    labels : Tensor of int64 (n,)
    eps : float
    tokens : Tensor (groups, n_tokens, dim)
        The vocabularies that positions have in turn: one for all, or one for each channel.
    steps : int
        Of the first method.
    greedy : int
        Flips that are tried in each step of the second; 0 for none.

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
    state = _Search(network, decode, offered(costs, eps), labels, tokens, eps**2)
    places = state.offers.places(start)
    missing = (places < 0).any(1)
    places[missing] = state.offers.own()[missing]
    places = np.where((state.spent(places) <= state.budget)[:, None], places, state.offers.own())
    begin, start = places.copy(), np.array(start)
    everyone = np.arange(len(places))
    state.judge(places, everyone)
    for loss in ("margin", "ce"):
        mixture = state.made(begin)
        for step in range(steps):
            rows = everyone[~state.found]
            if not len(rows):
                break
            gradient = state.gradient(mixture[rows], rows, loss)
            places = state.choose(gradient, rows)
            state.judge(places, rows)
            share = 2 / (step + 2)
            mixture[rows] = (1 - share) * mixture[rows] + share * state.made(places)
    if greedy and begin.shape[1] <= _SINGLY:
        _one_by_one(state, begin, greedy)
    elif greedy:
        for row in everyone[~state.found]:
            _many_at_once(state, row, begin[row], greedy)
    ids = np.where(state.found[:, None], state.ids(state.best), start)
    return ids, state.found


def _engine():
    """The compiled loops; numba is imported where it is used."""
    from sklearn_patchcert.attacks.offers import engine

    return engine


class _Search:
    """A search under way: the network, what is offered, and the best found for each image."""

    def __init__(self, network, decode, offers, labels, tokens, budget):
        self.network, self.decode, self.offers, self.budget = network, decode, offers, budget
        self.tokens, self.device, self.labels = tokens, tokens.device, labels.to(tokens.device)
        wide = tokens.detach().cpu().double()
        low, high = wide.amin(1, keepdim=True), wide.amax(1, keepdim=True)
        # A little more than half the range: a bound of products also as they round.
        half = (high - low) / 2 + 1e-9 * (high.abs() + low.abs())
        self.tables = torch.cat([wide, half, (high + low) / 2], dim=1).numpy()
        self.best, self.found = offers.own(), np.zeros(offers.shape[0], dtype=bool)
        self.lengths: dict = {}
        self.rates = np.zeros(offers.shape[0])  # of exchange, from which the next choice begins

    def ids(self, places):
        return self.offers.token[places].astype(np.int64)

    def made(self, places):
        return _made(self.tokens, torch.from_numpy(self.ids(places)).to(self.device))

    def spent(self, places):
        return self.offers.price[places].sum(-1, dtype=np.float64)

    def logits(self, places):
        """Of some images (m, positions), not too many at once."""
        size = max(1, min(512, _VALUES_AT_ONCE // (places.shape[1] * self.tokens.shape[2])))
        with torch.no_grad():
            return torch.cat([
                self.network(self.decode(self.made(places[at : at + size])))
                for at in range(0, len(places), size)
            ])  # fmt: skip

    def judge(self, places, rows):
        fooled = (self.logits(places).argmax(1) != self.labels[rows]).cpu().numpy()
        good = fooled & (self.spent(places) <= self.budget) & ~self.found[rows]
        self.keep(rows[good], places[good])

    def keep(self, rows, places):
        self.best[rows], self.found[rows] = places, True

    def gradient(self, made, rows, loss):
        return self.slope(made, rows, loss)[0]

    def slope(self, made, rows, loss):
        """Gradient (m, positions, dim) of a loss, and the loss."""
        found, _, values = _gradient(
            lambda x: self.network(self.decode(x)), made, self.labels[rows], loss
        )
        return found.double().cpu().numpy(), values.double().cpu().numpy()

    def choose(self, gradient, rows):
        """Places (m, positions) of the tokens of most gain that the budget pays for."""
        places = np.empty((len(rows), self.offers.shape[1]), np.int64)
        for row, slope, out in zip(rows, gradient, places, strict=True):
            _engine().choose(
                slope,
                *self.offers.image(row),
                self.tables,
                self.budget,
                self.rates[row : row + 1],
                self.lengths_of(row),
                out,
            )
        return places + self.first(rows)

    def lengths_of(self, row):
        """How far the offers of an image lead per price (positions,), computed once."""
        if row not in self.lengths:
            self.lengths[row] = np.empty(self.offers.shape[1])
            _engine().lengths(*self.offers.image(row), self.tables, self.lengths[row])
        return self.lengths[row]

    def first(self, rows):
        """Where the offers of images begin (m, 1)."""
        return self.offers.start[np.asarray(rows) * self.offers.shape[1]][..., None]

    def margins(self, places, rows):
        repeated = self.labels[torch.as_tensor(rows, device=self.device)]
        return losses_of(self.logits(places), repeated, "margin").double().cpu().numpy()


def _made(tokens, ids):
    """Tokens (n, positions, dim) of the tables that positions take in turn."""
    if len(tokens) == 1:
        return tokens[0][ids]
    group = torch.arange(ids.shape[1], device=ids.device) % len(tokens)
    return tokens[group, ids]


def _one_by_one(state, places, width):
    """Single flips by exact margin gained per price, for the images that are left."""
    offers, active = state.offers, ~state.found
    for _ in range(places.shape[1]):
        rows = np.flatnonzero(active)
        if not len(rows):
            return
        now = places[rows]
        gradient, before = state.slope(state.made(now), rows, "margin")
        left, begin = state.budget - state.spent(now), state.first(rows)
        score, place, patch = _best_flips(state, gradient, now - begin, left, rows, width)
        place += begin
        trials = np.repeat(now[:, None], score.shape[1], axis=1)
        np.put_along_axis(trials, patch[..., None], place[..., None], axis=2)
        after = state.margins(trials.reshape(-1, now.shape[1]), rows.repeat(score.shape[1]))
        after = after.reshape(score.shape)
        old = np.take_along_axis(now, patch, axis=1)
        price = np.maximum(offers.price[place] - offers.price[old], 1e-12)
        fooled = (after > 0) & (score > -np.inf)
        worth = np.where(score > -np.inf, (after - before[:, None]) / price, -np.inf)
        worth[fooled] = np.inf
        places[rows] = trials[np.arange(len(rows)), worth.argmax(1)]
        done = fooled.any(1)
        state.keep(rows[done], places[rows[done]])
        active[rows[done | ~(worth.max(1) > 0)]] = False


def _best_flips(state, gradient, now, left, rows, width):
    shape = len(rows), width
    score, place, patch = np.empty(shape), np.empty(shape, np.int64), np.empty(shape, np.int64)
    for k, row in enumerate(rows):
        _engine().best_flips(
            gradient[k], now[k], left[k], *state.offers.image(row), state.tables, score[k],
            place[k], patch[k],
        )  # fmt: skip
    return score, place, patch


def _many_at_once(state, row, now, width):
    """Flips of an image of many patches, in rounds that divide the budget evenly.

    A round tries the best flips that its part pays for, a quarter of them, and so on, and keeps
    what gained the most.
    """
    start, token, price = state.offers.image(row)
    begin, rows = int(state.first([row])[0, 0]), np.array([row])
    score, place = np.empty(len(now)), np.empty(len(now), np.int64)
    for part in range(_PARTS, 0, -1):
        gradient, before = state.slope(state.made(now[None]), rows, "margin")
        left = state.budget - state.spent(now)
        _engine().steepest(
            gradient[0], now - begin, left, start, token, price, state.tables, score, place
        )
        order = np.flatnonzero(score)
        order = order[np.argsort(-score[order], kind="stable")]
        if not len(order):
            return
        paid = np.cumsum(price[place[order]].astype(np.float64) - price[now[order] - begin])
        most = max(1, int(np.searchsorted(paid, left / part, side="right")))
        sizes = [-(-most // 4**k) for k in range(_TRIALS)]
        trials = np.repeat(now[None], min(_TRIALS, width), axis=0)
        for trial, size in zip(trials, sizes, strict=False):
            trial[order[:size]] = place[order[:size]] + begin
        after = state.margins(trials, rows.repeat(len(trials)))
        pick = after.argmax()
        if not after[pick] > before[0]:
            return
        now = trials[pick]
        if after[pick] > 0 and state.spent(now) <= state.budget:
            state.keep(rows, now[None])
            return


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
    state = _Search(network, decode, offered(costs), labels, tokens, np.inf)
    prices = np.where(ids == own, -1.0, state.offers.price[state.offers.places(ids)])
    order = np.argsort(-prices, axis=1, kind="stable")
    ids, changed = np.array(ids), (np.asarray(ids) != own).sum(1)
    few = np.flatnonzero(changed <= _SINGLY)

    def still(trial, rows):
        with torch.no_grad():
            made = _made(tokens, torch.from_numpy(trial).to(tokens.device))
            return (network(decode(made)).argmax(1) != state.labels[rows]).cpu().numpy()

    for rank in range(changed[few].max(initial=0)):
        rows = few[rank < changed[few]]
        at = order[rows, rank]
        trial = ids[rows]
        trial[np.arange(len(rows)), at] = own[rows, at]
        good = still(trial, rows)
        ids[rows[good]] = trial[good]
    for row in np.flatnonzero(changed > _SINGLY):
        _undo_blocks(ids[row], own[row], order[row, : changed[row]],
                     lambda trial, row=row: still(trial[None], [row])[0])  # fmt: skip
    return ids


def _undo_blocks(ids, own, order, still):
    """Undo blocks of changes, and halves of those that are needed."""
    blocks, tries = np.array_split(order, _PARTS), 0
    while blocks and tries < _SINGLY:
        left = []
        for block in blocks[: _SINGLY - tries]:
            trial = ids.copy()
            trial[block] = own[block]
            tries += 1
            if still(trial):
                ids[:] = trial
            elif len(block) > 1:
                left += np.array_split(block, 2)
        blocks = left
