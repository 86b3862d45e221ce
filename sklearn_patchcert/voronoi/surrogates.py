"""Differentiable stand-ins for what :mod:`voronoi` computes exactly, to train and to attack by.

Nothing here certifies anything: distances are expanded, in the dtype that they are given.
"""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distances(patches: Tensor, tokens: Tensor) -> Tensor:
    """Squared L2 distances of patches (..., dim) to tokens (n_tokens, dim): (..., n_tokens)."""
    squares = patches.square().sum(-1, keepdim=True) + tokens.square().sum(-1)
    return (squares - 2 * patches @ tokens.T).clamp_min(0)


def nearest(patches: Tensor, tokens: Tensor) -> Tensor:
    """Nearest tokens (...) of patches (..., dim)."""
    centre = tokens.mean(0)  # distances are differences of squares: small ones round less
    tokens = tokens - centre
    return (tokens.square().sum(-1) - 2 * (patches - centre) @ tokens.T).argmin(-1)


def soft_assignment(squares: Tensor, temperature: float) -> Tensor:
    r"""Weights of the tokens in a soft discretization.

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


def root(squares: Tensor) -> Tensor:
    """Square roots whose gradient is finite, zero, where the squares vanish."""
    return squares.clamp_min(torch.finfo(squares.dtype).tiny ** 0.5).sqrt()


def walls(squares: Tensor, tokens: Tensor) -> Tensor:
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


def cut(
    images: Tensor,
    patch_size: tuple[int, int],
    *,
    per_channel: bool = False,
    pad_value: float = 0.0,
) -> Tensor:
    """Patches (n, rows, cols, groups, dim) of images (n, C, H, W), as patches.images_to_patches."""
    n, channels, height, width = images.shape
    ph, pw = patch_size
    border = 0, -width % pw, 0, -height % ph
    if any(border):
        images = torch.nn.functional.pad(images, border, value=pad_value)
    rows, cols = images.shape[2] // ph, images.shape[3] // pw
    groups = channels if per_channel else 1
    blocks = images.reshape(n, groups, channels // groups, rows, ph, cols, pw)
    return blocks.permute(0, 3, 5, 1, 4, 6, 2).flatten(4)


def join(patches: Tensor, patch_size: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """Images (n, C, H, W) of patches (n, rows, cols, groups, dim), without the padding."""
    n, rows, cols, groups, dim = patches.shape
    ph, pw = patch_size
    each = dim // (ph * pw)
    blocks = patches.reshape(n, rows, cols, groups, ph, pw, each).permute(0, 3, 6, 1, 4, 2, 5)
    images = blocks.reshape(n, groups * each, rows * ph, cols * pw)
    return images[..., : image_size[0], : image_size[1]]
