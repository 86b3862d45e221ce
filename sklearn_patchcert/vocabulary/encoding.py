"""Images to token ids, ids to images, images to radii: geometry and tokens brought together.

A vocabulary is an array ``(n_tokens, dim)`` that all patches share, or ``(C, n_tokens, dim)`` with
tokens of its own for each channel.  `per_channel` says whether channels are cut by themselves; it
must be true for the latter.
"""

from __future__ import annotations

import math

import numpy as np

from sklearn_patchcert.patches import images_to_patches, patch_weights, patches_to_images
from sklearn_patchcert.voronoi import bands, certificate


def encode(images, vocabulary, patch_size, *, per_channel=False, device="cpu"):
    """Index of the nearest token of every patch.

    Parameters
    ----------
    images : ndarray (n, H, W, C)
    vocabulary : ndarray (n_tokens, dim) or (C, n_tokens, dim)
    patch_size : tuple (ph, pw)
    per_channel : bool
    device : str or torch.device

    Returns
    -------
    ids : ndarray of int64 (n, rows, cols, groups)
        With one group, or one for each channel.
    """
    if is_cpu(device):
        return ranged(images, vocabulary, patch_size, per_channel=per_channel, device=device)[0]
    patches, weights = _cut(images, patch_size, per_channel, 1.0)
    ids = np.empty(patches.shape[:-1], dtype=np.int64)
    for part, tokens in _parts(vocabulary):
        block = patches[:, :, :, part]
        ids[..., part] = certificate.tokenize(
            _flat(block), tokens, weights=_flat(weights[:, :, :, part])[0], device=device
        ).reshape(block.shape[:-1])
    return ids


def ranged(images, vocabulary, patch_size, norm=None, *, per_channel=False, device="cpu"):
    """Ids or, with a norm, radii of images, and the range of their values; on the CPU."""
    parts = _parts(vocabulary)
    return bands.search(images, parts, patch_size, norm, per_channel=per_channel, device=device)


def decode(ids, vocabulary, image_shape, patch_size, *, per_channel=False):
    """Images made of the tokens that the ids name.

    Parameters
    ----------
    ids : ndarray of int (n, rows, cols, groups)
    vocabulary : ndarray (n_tokens, dim) or (C, n_tokens, dim)
    image_shape : tuple (H, W, C)
    patch_size : tuple (ph, pw)
    per_channel : bool

    Returns
    -------
    images : ndarray (n, H, W, C), of the vocabulary's dtype
    """
    images = np.empty((len(ids), *image_shape), dtype=vocabulary.dtype)
    join(ids, vocabulary, patch_size, per_channel=per_channel, images=images)
    return images


def join(ids, vocabulary, patch_size, *, images, per_channel=False):
    """Fill C-contiguous images (n, H, W, C) as :func:`decode` makes them."""
    bands.join(ids, _parts(vocabulary), patch_size, per_channel=per_channel, images=images)


def certify(
    images,
    vocabulary,
    patch_size,
    norm="l2",
    *,
    per_channel=False,
    scale=None,
    error=None,
    error_growth=0.0,
    device="cpu",
    return_witness=False,
):
    """Radius inside which every patch keeps its token.

    Parameters
    ----------
    images : ndarray (n, H, W, C)
    vocabulary : ndarray (n_tokens, dim) or (C, n_tokens, dim)
    patch_size : tuple (ph, pw)
    norm : {"l2", "linf", "l1"}
    per_channel : bool
    scale : ndarray (H, W, C), float or None
        How far `images` move when the user's input, from which they were computed, moves by one.
        None: they are that input.
    error : ndarray (n, H, W, C) or None
        Bound on the rounding error of that computation.
    error_growth : float
        By how much that bound grows for every unit by which `images` move.
    device : str or torch.device
    return_witness : bool
        Whether to return what shows that the radii are tight, too.

    Returns
    -------
    radii : ndarray of float64 (n, rows, cols, groups)
        In the units of the user's input, rounded down.
    others : ndarray of int64 (n, rows, cols, groups)
        With `return_witness` only: the token behind the nearest wall; -1 where there is none.
    steps : ndarray of float64 (n, H, W, C)
        With `return_witness` only: the smallest perturbation, in the user's units, that takes
        every patch onto its nearest wall; NaN where there is none.
    """
    if is_cpu(device) and scale is None and error is None and not return_witness:
        return ranged(images, vocabulary, patch_size, norm, per_channel=per_channel, device=device)[
            0
        ]
    scale = 1.0 if scale is None else scale
    patches, weights = _cut(images, patch_size, per_channel, scale)
    noise = None
    if error is not None:
        noise = np.linalg.norm(_cut(error, patch_size, per_channel, 1.0)[0], axis=-1)
    radii = np.empty(patches.shape[:-1], dtype=np.float64)
    if return_witness:
        others, steps = np.empty(radii.shape, dtype=np.int64), np.empty(patches.shape)
    for part, tokens in _parts(vocabulary):
        block, shape = _flat(patches[:, :, :, part]), radii[..., part].shape
        weight = _flat(weights[:, :, :, part])[0]
        ids, found, *other = certificate.certify(
            block,
            tokens,
            norm,
            weights=weight,
            noise=None if noise is None else noise[..., part].reshape(len(block), -1),
            noise_growth=error_growth,
            device=device,
            return_witness=return_witness,
        )
        radii[..., part] = found.reshape(shape)
        if return_witness:
            others[..., part] = other[0].reshape(shape)
            step = certificate.step_to_wall(block, tokens, ids, other[0], norm, weights=weight)
            steps[:, :, :, part] = step.reshape(*shape, -1)
    if not return_witness:
        return radii
    moves = patches_to_images(steps, images.shape[1:], patch_size, per_channel=per_channel)
    return radii, others, moves * np.sign(scale)


def checked_ids(ids, n_tokens, grid):
    """Token ids (n, rows, cols, groups), if they are integers of that range and number."""
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise ValueError(f"Token ids must be integers, got {ids.dtype}.")
    if ids.size and not (ids.min() >= 0 and ids.max() < n_tokens):
        raise ValueError(f"Token ids must lie in 0..{n_tokens - 1}, got {ids.min()}..{ids.max()}.")
    if ids.ndim < 2 or ids.size != len(ids) * math.prod(grid):
        raise ValueError(f"An image has {grid} patches (rows, cols, groups), got {ids.shape}.")
    return ids.reshape(-1, *grid)


def split_channels(patches, own_tokens):
    """Patches (n, rows, cols, groups, dim) by the vocabulary that they are fitted to.

    Returns
    -------
    parts : list of ndarray (n, positions, dim)
        One for each channel where `own_tokens`, else one for all.
    """
    groups = range(patches.shape[3]) if own_tokens else [slice(None)]
    return [_flat(patches[:, :, :, part]) for part in groups]


def is_cpu(device):
    return getattr(device, "type", device) == "cpu"


def _cut(images, patch_size, per_channel, scale):
    """Patches (n, rows, cols, groups, dim) and their weights (1, rows, cols, groups, dim)."""
    weights = patch_weights(scale, images.shape[1:], patch_size, per_channel=per_channel)
    return images_to_patches(images, patch_size, per_channel=per_channel), weights[None]


def count_own(tokens):
    """How many tokens (n_tokens, dim) there are before the last is repeated to fill the table."""
    others = (tokens != tokens[-1]).any(-1).tolist()
    return len(others) + 1 - others[::-1].index(True) if any(others) else 1


def _parts(vocabulary):
    """Pairs of the groups of patches and the tokens (n_tokens, dim) that serve them."""
    if vocabulary.ndim == 2:
        return [(slice(None), vocabulary)]
    return [(slice(c, c + 1), tokens) for c, tokens in enumerate(vocabulary)]


def _flat(block):
    """(n, rows, cols, ..., dim) -> (n, positions, dim)."""
    return block.reshape(len(block), -1, block.shape[-1])
