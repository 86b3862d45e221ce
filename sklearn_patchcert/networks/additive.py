r"""Additive networks: logits that are sums over blocks of patches, and their certificates.

A block of few patches has few token assignments m, so its term is a table :math:`f_B(m)`.  The
smallest lead of class y over a rival k, for assignments that cost at most :math:`\epsilon`, is a
multiple-choice knapsack problem.  Its dual is a lower bound for any :math:`\lambda \ge 0`:

.. math:: \sum_B \min_m [(f_B(m)_y - f_B(m)_k) + \lambda c_B(m)^2] - \lambda \epsilon^2 .
"""

from __future__ import annotations

import numpy as np
import torch

MOST_CHOICES = 2**17


class Blocks:
    """The patches of each block, and all token assignments of a block.

    Parameters
    ----------
    grid : tuple (rows, cols, groups)
        Of the patches.
    block : tuple (int, int)
        Patches of a block along each side.
    n_tokens : int

    Raises
    ------
    ValueError
        If a block has more configurations than a table can hold.

    Examples
    --------
    >>> from sklearn_patchcert.networks.additive import Blocks
    >>> blocks = Blocks(grid=(4, 4, 1), block=(2, 2), n_tokens=3)
    >>> blocks.images().shape  # 3 ** 4 configurations of a block
    (81, 4, 4, 1)
    """

    def __init__(self, grid, block, n_tokens):
        rows, cols, groups = grid
        size = block[0] * block[1] * groups
        if n_tokens**size > MOST_CHOICES:
            raise ValueError(
                f"A block of {size} patches has {n_tokens}^{size} configurations, more than "
                f"{MOST_CHOICES}: use fewer tokens or smaller blocks."
            )
        self.grid, self.block = grid, block
        self.shape = -(-rows // block[0]), -(-cols // block[1])
        choices = np.stack(np.unravel_index(np.arange(n_tokens**size), (n_tokens,) * size), axis=1)
        self.choices = choices  # (n_choices, patches of a block)
        ids = np.arange(rows * cols * groups).reshape(grid)
        border = (0, -rows % block[0]), (0, -cols % block[1]), (0, 0)
        ids = np.pad(ids, border, constant_values=-1)  # patches beyond the grid
        ids = ids.reshape(self.shape[0], block[0], self.shape[1], block[1], groups)
        self.members = ids.transpose(0, 2, 1, 3, 4).reshape(-1, size)  # (blocks, patches)

    def images(self):
        """Ids with every block in the same configuration.

        Returns
        -------
        ids : ndarray of int64 (n_choices, rows, cols, groups)
        """
        ids = np.zeros((len(self.choices), self.grid[0] * self.grid[1] * self.grid[2]), np.int64)
        for member in self.members:
            there = member >= 0
            ids[:, member[there]] = self.choices[:, there]
        return ids.reshape(-1, *self.grid)

    def prices(self, squares):
        """Prices of the configurations of the blocks.

        Parameters
        ----------
        squares : ndarray (..., positions, n_tokens)
            Squared costs of the tokens.

        Returns
        -------
        prices : ndarray (..., blocks, n_choices)
        """
        found = 0.0
        for at in range(self.members.shape[1]):
            member, choice = self.members[:, at], self.choices[:, at]
            part = squares[..., np.maximum(member, 0), :][..., choice]
            beyond = member < 0  # where there is no patch, one choice stands for all
            part[..., beyond, :] = np.where(choice == 0, 0.0, np.inf)
            found = found + part
        return found

    def tokens(self, chosen):
        """Tokens of a choice for every block.

        Parameters
        ----------
        chosen : ndarray of int (blocks,)

        Returns
        -------
        ids : ndarray of int64 (positions,)
        """
        ids = np.zeros(self.grid[0] * self.grid[1] * self.grid[2], dtype=np.int64)
        for member, choice in zip(self.members, chosen, strict=True):
            ids[member[member >= 0]] = self.choices[choice][member >= 0]
        return ids


def additive_radius(table, prices, label, least=0.0):
    """Lower bound of the radius within which an additive network keeps its answer.

    Parameters
    ----------
    table : ndarray (n_choices, blocks, n_classes)
        The terms.
    prices : ndarray (blocks, n_choices)
        Squared costs.
    label : int
        The answer.
    least : float
        A lead that small counts as none.

    Returns
    -------
    radius : float
        L2, over the whole image; inf where nothing can change the answer.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.networks.additive import additive_radius
    >>> table = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])  # one block, of two configurations
    >>> prices = np.array([[0.0, 4.0]])
    >>> radius = additive_radius(table, prices, label=0)
    >>> round(radius**2, 6)  # half of the way to the other one would do, for half of its price
    2.0
    """
    others = np.delete(np.arange(table.shape[2]), label)
    gaps = np.ascontiguousarray((table[:, :, label, None] - table[:, :, others]).transpose(2, 1, 0))
    order = np.argsort(prices, axis=1, kind="stable")
    from sklearn_patchcert.networks import knapsack  # numba: only where it is used

    found = knapsack.price_of_change(gaps.astype(np.float64), prices, order, least)
    return float(np.sqrt(found)) * (1 - 1e-9)


def exact_price(table, prices, label, least=0.0, most=np.inf):
    """Smallest total cost at which the answer changes, by dynamic programming.

    Parameters
    ----------
    table, prices, label, least
        As for :func:`additive_radius`.
    most : float
        Where it is certainly more, the answer is inf.

    Returns
    -------
    price : float
        Not a radius but its square.

    Notes
    -----
    Goes from block to block with all pairs of price and lead that no other beats in both, of which
    there may be very many: for checks, on small cases.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.networks.additive import exact_price
    >>> table = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])  # one block, of two configurations
    >>> prices = np.array([[0.0, 4.0]])
    >>> float(exact_price(table, prices, label=0))
    4.0
    """
    best = np.inf
    for rival in range(table.shape[2]):
        if rival == label:
            continue
        front = np.zeros((1, 2))
        for block, gaps in enumerate((table[:, :, label] - table[:, :, rival]).T):
            pairs = np.stack([prices[block], gaps], axis=1)
            pairs = (front[:, None] + pairs[prices[block] <= most]).reshape(-1, 2)
            pairs = pairs[pairs[:, 0] <= most]
            pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
            lowest = np.minimum.accumulate(pairs[:, 1])
            front = pairs[np.append(True, pairs[1:, 1] < lowest[:-1])]
        reached = front[front[:, 1] <= least, 0]
        best = min(best, reached.min(initial=np.inf))
    return best


def dual_leads(table, prices, labels, radius, *, few=96, halvings=8):
    """Differentiable lower bounds of the leads over all classes within a radius.

    Parameters
    ----------
    table : Tensor (n_choices, blocks, n_classes)
    prices : Tensor (n, blocks, n_choices)
        Squared costs.
    labels : Tensor of int64 (n,)
    radius : float
    few : int
        Choices of a block that are looked at, the cheapest; with all of them the leads are lower
        bounds.
    halvings : int
        Of the interval of the multipliers, which are the best ones then, but for that.

    Returns
    -------
    leads : Tensor (n, n_classes)
        0 for the label itself.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks.additive import dual_leads
    >>> table = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # one block, of two configurations
    >>> prices = torch.tensor([[[0.0, 4.0]]])
    >>> leads = dual_leads(table, prices, torch.tensor([0]), radius=1.0, halvings=30)
    >>> [round(lead, 3) for lead in leads[0].tolist()]
    [0.0, 0.5]
    """
    n, blocks, choices = prices.shape
    budget = radius**2
    few = min(choices, few)  # what costs more is hardly ever the worst: near enough to train on
    cheap, chosen = prices.topk(few, dim=2, largest=False)
    cheap = cheap.clamp_max(1e6)
    terms = table[chosen, torch.arange(blocks, device=table.device)[:, None]]  # n, B, few, classes
    mine = terms.gather(3, labels.view(-1, 1, 1, 1).expand(-1, blocks, few, 1))
    gaps = mine - terms
    with torch.no_grad():
        low = torch.full((n, table.shape[2]), -4.0, device=table.device)
        high = torch.full_like(low, 6.0)
        for _ in range(halvings):
            middle = (low + high) / 2
            total = gaps + (10**middle)[:, None, None] * cheap[..., None]
            spent = cheap[..., None].expand_as(total).gather(2, total.argmin(2, keepdim=True))
            over = spent.sum((1, 2)) > budget
            low, high = torch.where(over, middle, low), torch.where(over, high, middle)
        multipliers = 10**high
        total = gaps + multipliers[:, None, None] * cheap[..., None]
        best = total.argmin(2, keepdim=True)
    leads = gaps.gather(2, best) + (multipliers[:, None, None] * cheap[..., None]).gather(2, best)
    leads = leads.sum((1, 2)) - multipliers * budget
    return leads.scatter(1, labels[:, None], 0.0)
