"""Differentiable stand-ins for what :mod:`voronoi` computes exactly, to train and to attack by.

Nothing here certifies anything: distances are expanded, in the dtype that they are given.
"""

from __future__ import annotations

import torch


def squared_distances(patches, tokens):
    """Squared L2 distances of patches (..., dim) to tokens (n_tokens, dim): (..., n_tokens)."""
    squares = patches.square().sum(-1, keepdim=True) + tokens.square().sum(-1)
    return (squares - 2 * patches @ tokens.T).clamp_min(0)


def nearest(patches, tokens):
    """Nearest tokens (...) of patches (..., dim)."""
    return (tokens.square().sum(-1) - 2 * patches @ tokens.T).argmin(-1)


def soft_assignment(squares, temperature):
    r"""Weights of the tokens in a soft discretisation.

    .. math:: w_b = \frac{\exp(-|x - b|_2 / T)}{\sum_{c} \exp(-|x - c|_2 / T)}

    Parameters
    ----------
    squares : Tensor (..., n_tokens)
        Squared distances.
    temperature : float
        :math:`T`, in the units of a distance; the smaller, the harder.

    Returns
    -------
    weights : Tensor (..., n_tokens), summing to 1
    """
    return (-root(squares) / temperature).softmax(-1)


def root(squares):
    """Square roots whose gradient is finite, zero, where the squares vanish."""
    return squares.clamp_min(torch.finfo(squares.dtype).tiny ** 0.5).sqrt()


def walls(squares, tokens):
    r"""Signed L2 distances of patches to the walls of their own cells, inf at the own token.

    .. math:: h_b = (|x - b|_2^2 - |x - a|_2^2) / (2 |a - b|_2)

    Parameters
    ----------
    squares : Tensor (..., n_tokens)
        Squared distances of the patches to the tokens.
    tokens : Tensor (n_tokens, dim)

    Returns
    -------
    walls : Tensor (..., n_tokens)
    """
    own_square, own = squares.min(-1, keepdim=True)
    between = root(squared_distances(tokens, tokens))[own[..., 0]]
    found = (squares - own_square) / (2 * between)
    return found.scatter(-1, own, torch.inf)
