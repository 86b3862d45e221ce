"""Tokens that an attacker can pay for, patch by patch, in order of their price."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from sklearn_patchcert.parallel import over_parts

_VALUES_AT_ONCE = 2**20  # costs in each thread
_MOST = 2**26  # offers of an image, of 8 bytes each; beyond, the dearest are left out


class Offers(NamedTuple):
    """The offers of the patches (n, positions); those of a patch begin with its own token."""

    start: np.ndarray  # int64 (n * positions + 1,)
    token: np.ndarray  # int32 (m,)
    price: np.ndarray  # float32 (m,), the squared costs
    shape: tuple  # (n, positions)

    def own(self):
        """Places (n, positions) of the images' own tokens."""
        return self.start[:-1].reshape(self.shape).copy()

    def image(self, row):
        """Start, tokens and prices of an image, views of these."""
        positions = self.shape[1]
        start = self.start[row * positions : (row + 1) * positions + 1]
        part = slice(start[0], start[-1])
        return start - start[0], self.token[part], self.price[part]

    def rows(self, rows):
        """The offers of some images."""
        if len(rows) == self.shape[0]:
            return self
        parts = [self.image(row) for row in rows]
        counts = [np.diff(start) for start, _, _ in parts]
        token, price = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
        return Offers(_starts(counts), token, price, (len(rows), self.shape[1]))

    def places(self, ids):
        """Places of tokens (n, positions), -1 where they are not offered."""
        from sklearn_patchcert.attacks.offers import engine  # numba: only where it is used

        found = np.empty(ids.size, np.int64)
        ids = np.ascontiguousarray(ids, dtype=np.int64).ravel()
        engine.places_of(ids, self.start, self.token, found)
        return found.reshape(self.shape)

    def reprice(self, ids, costs, at_least=False):
        """Give tokens (n, positions), where they are offered, other costs, or higher ones only."""
        from sklearn_patchcert.attacks.offers import engine

        prices = np.square(costs).astype(np.float32).ravel()
        if at_least:
            places = self.places(ids).ravel()
            prices = np.where(places < 0, prices, np.maximum(prices, self.price[places]))
        ids = np.ascontiguousarray(ids, dtype=np.int64).ravel()
        engine.reprice(ids, prices, self.start, self.token, self.price)


def offered(costs, limit=np.inf):
    """Offers from costs (n, positions, n_tokens), those above a limit left out."""
    if isinstance(costs, Offers):
        return costs
    costs = np.asarray(costs, dtype=np.float64)
    flat = np.where(costs <= limit, costs, np.inf).reshape(-1, costs.shape[2])
    return made(lambda rows: flat[rows], costs.shape[:2], costs.shape[2])


def made(costs_of, shape, n_tokens, tick=lambda share: None):
    """Offers from a function that computes costs (m, n_tokens) of some of all patches.

    Parameters
    ----------
    costs_of : callable, slice of the n * positions patches -> costs, inf where none are offered
    shape : tuple (n, positions)
    n_tokens : int
    tick : callable
        Is told after each part what share of the work is done.

    Returns
    -------
    offers : Offers
    """
    total, most = shape[0] * shape[1], max(2, _MOST // max(1, shape[1]))
    size = max(1, _VALUES_AT_ONCE // n_tokens)
    parts = [(slice(at, min(at + size, total)),) for at in range(0, total, size)]
    found = []
    jobs = torch.get_num_threads()  # as many as the network has
    for part in over_parts(_Packed(costs_of, most), parts, jobs):
        found.append(part)
        tick(1 / len(parts))
    counts, token, price = zip(*found, strict=True)
    return Offers(_starts(counts), np.concatenate(token), np.concatenate(price), tuple(shape))


class _Packed:
    """Numbers, tokens and prices of the offers of some patches."""

    def __init__(self, costs_of, most):
        self.costs_of, self.most = costs_of, most

    def __call__(self, rows):
        from sklearn_patchcert.attacks.offers import engine

        costs = np.ascontiguousarray(self.costs_of(rows), dtype=np.float64)
        count = np.empty(len(costs), np.int64)
        token, price = np.empty(costs.size, np.int32), np.empty(costs.size, np.float32)
        total = engine.pack(costs, self.most, count, token, price)
        return count, token[:total].copy(), price[:total].copy()


def _starts(counts):
    return np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
