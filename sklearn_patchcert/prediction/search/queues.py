"""The configurations of one image, in the order of their cost."""

from __future__ import annotations

import numpy as np

from sklearn_patchcert.prediction.search.assignments import Assignments


def _enumeration():
    from sklearn_patchcert.prediction.search import enumeration  # numba: only where it is used

    return enumeration


class Queue:
    """The configurations of an image in the order of their cost, enumerated when asked for.

    Parameters
    ----------
    changes : Changes
        The `most` cheapest, at least.
    norm : {"l2", "linf", "l0"}
    most : int
        How many configurations are taken at most.
    """

    def __init__(self, changes, norm, most):
        own, places, tokens, costs = changes
        self.base = own[None]
        prices = np.square(costs) if norm == "l2" else costs
        order = np.lexsort((tokens, prices, places))
        places, tokens, prices = places[order], tokens[order], prices[order]
        there, begin, counts = np.unique(places, return_index=True, return_counts=True)
        order = np.argsort(prices[begin], kind="stable")  # by the step to the second choice
        there, begin, counts = there[order], begin[order], counts[order]
        shape = len(there), 1 + int(counts.max(initial=0))
        self.prices, self.tokens = np.full(shape, np.inf), np.zeros(shape, dtype=np.int64)
        self.prices[:, 0], self.tokens[:, 0] = 0, own[there]
        row = np.repeat(np.arange(len(there)), counts)
        rank = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        at = begin[row] + rank
        self.prices[row, 1 + rank], self.tokens[row, 1 + rank] = prices[at], tokens[at]
        self.first, self.largest, self.most = there, norm == "linf", int(most) + 1
        self.room = 0
        self.state: tuple = _enumeration().start(0)

    def _ahead(self, count):
        """Have `count` configurations in order, or all; the cost of the next, and how many."""
        if count > self.room:
            self.room = min(max(256, 4 * count), self.most)
            self.state = _enumeration().start(self.room)
        following = _enumeration().cheapest(self.prices, count, self.largest, self.state)
        return following, int(self.state[0][2])

    def take(self, begin, end):
        """Configurations from `begin` to `end`, or to the last, as Assignments."""
        _, count = self._ahead(min(end, self.most - 1))
        end = max(begin, min(end, self.most - 1, count))
        found = _enumeration().differences(begin, end, self.tokens, self.first, self.state)
        return Assignments(self.base, np.zeros(end - begin, dtype=np.int64), *found)

    def cost(self, at):
        """Cost of the configuration `at`; inf where there are fewer."""
        following, count = self._ahead(at)
        return following if count <= at else self.state[1][self.state[7][at]]
