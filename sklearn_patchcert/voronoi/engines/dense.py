"""The engine that compares every patch with every token: torch, in float64.

Its float64 operations, one after the other, define the tokenization in
:mod:`sklearn_patchcert.voronoi`.  :mod:`sklearn_patchcert.voronoi.engines.measure` repeats them,
and :mod:`sklearn_patchcert.voronoi.engines.two_pass` applies them to shortlists.
"""

from __future__ import annotations

import numpy as np
import torch

_TINY = float(np.finfo(np.float64).tiny)
_SMALL, _LARGE = 1e-250, 1e250  # squares between are far from under- and overflow
_CHUNK_ELEMENTS = 2**18  # what a CPU's caches hold
_LARGE_CHUNK = 2**24  # elsewhere, where a call costs more than its work on less


def prepare(tokens, weights, norm, device):
    """What the searches below need of the tokens (n_tokens, dim) and weights (dim,)."""
    return (
        torch.as_tensor(tokens, device=device),
        torch.as_tensor(weights, device=device),
        norm,
    )


def tokenize(patches, prepared):
    """Index of the nearest token of every patch (n, dim): ids (n,)."""
    ids = [_all_distances(chunk, prepared[0]).argmin(1) for chunk in _chunks(patches, prepared)]
    return torch.cat(ids).cpu().numpy()


def certify(patches, prepared, noise=None, noise_growth=0.0, witnesses=True):
    """Ids (n,), radii (n,) and the tokens behind the nearest walls (n,) of patches (n, dim).

    The last are there in any case: they cost nothing more.
    """
    found, start = [], 0
    for chunk in _chunks(patches, prepared):
        blur = None
        if noise is not None:
            blur = torch.as_tensor(noise[start : start + len(chunk)], device=chunk.device)
        found.append(certify_chunk(chunk, prepared, blur, noise_growth))
        start += len(chunk)
    return tuple(torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))


def _chunks(patches, prepared):
    tokens = prepared[0]
    elements = _CHUNK_ELEMENTS if tokens.is_cpu else _LARGE_CHUNK
    size = max(1, elements // len(tokens))
    for start in range(0, len(patches), size):
        chunk = patches[start : start + size].astype(np.float64)
        yield torch.as_tensor(chunk, device=tokens.device)


def squared_distances(columns):
    """Squared distances, one coordinate after the other: the definition of t.

    `columns` are pairs of tensors of one coordinate each, of points and of tokens, that broadcast.
    Every operation is rounded on its own, so that all devices and chunk sizes agree to the bit.
    """
    total = None
    for x, v in columns:
        difference = x - v
        difference.mul_(difference)
        total = difference if total is None else total.add_(difference)
    return total


def dual_norms(columns, norm):
    """|w (a - b)|_*, neither under- nor overflowing.

    `columns()` yields a, b and w of one coordinate after the other, tensors that broadcast.
    """

    def sizes():
        return ((a - b).mul_(w).abs_() for a, b, w in columns())

    total = largest = torch.zeros(())
    for dim, size in enumerate(sizes(), 1):
        largest = size.clone() if dim == 1 else torch.maximum(largest, size, out=largest)
        part = size.mul_(size) if norm == "l2" else size
        total = part if dim == 1 else total.add_(part)
    if norm == "l1":
        return largest + _TINY
    if norm == "linf":
        return total + dim * _TINY
    inside = (total > _SMALL) & (total < _LARGE)
    if inside.all():
        return _sqrt(total)
    largest += _TINY
    scaled = torch.zeros_like(total)
    for size in sizes():
        part = size.div_(largest)
        scaled += part.mul_(part)
    scaled = largest * _sqrt(scaled) + dim * _TINY
    return torch.where(inside, _sqrt(total), scaled)


def _all_distances(patches, tokens):
    """Squared distances (m, n_tokens)."""
    return squared_distances(zip(patches.T[:, :, None], tokens.T, strict=True))


def all_norms(own, others, weights, norm):
    """|w (a - b)|_* for all pairs (m, n_tokens)."""
    return dual_norms(lambda: zip(own.T[:, :, None], others.T, weights, strict=True), norm)


def _sqrt(values):
    """Correctly rounded square roots, which torch's on a CPU are not."""
    return torch.from_numpy(np.sqrt(values.numpy())) if values.is_cpu else values.sqrt()


def lowered(distances, nearest, spread, motion, blur, apart, dim):
    """Distances of walls, less what rounding, and the noise of a step before, may take from them.

    `spread` is twice the dual norms, `apart` the L2 distances of the tokens; None without noise.
    """
    gamma = gamma_of(dim)
    gap = distances - nearest
    gap -= 4 * gamma * (distances + nearest + (motion + blur) ** 2) + 8 * dim * _TINY
    if apart is not None:
        gap -= 2 * apart * blur * (1 + gamma)
    return gap.div_(spread).nan_to_num_(0.0, torch.inf)


def gamma_of(dim):
    """Bound on the relative errors of a squared distance, with room for all that follows."""
    return (dim + 8) * float(np.finfo(np.float64).eps)


def certify_chunk(patches, prepared, noise, noise_growth):
    """Ids, radii and the tokens behind the nearest walls of patches (m, dim): tensors (m,)."""
    tokens, weights, norm = prepared
    distances = _all_distances(patches, tokens)
    nearest, own = distances.min(1, keepdim=True)
    if len(tokens) == 1:
        return own[:, 0], torch.full_like(nearest[:, 0], torch.inf), own[:, 0] - 1
    used, which = torch.unique(own, return_inverse=True)
    spread = 2 * all_norms(tokens[used], tokens, weights, norm)[which[:, 0]]
    unrounded = ((distances - nearest) / spread).scatter_(1, own, torch.inf).amin(1, keepdim=True)
    motion = largest_motion(weights.cpu().numpy(), norm) * unrounded
    blur, apart = 0.0, None
    if noise is not None:
        blur = 2 * noise[:, None] + noise_growth * motion
        apart = all_norms(tokens[used], tokens, torch.ones_like(weights), "l2")[which[:, 0]]
    dim = tokens.shape[1]
    walls = lowered(distances, nearest, spread, motion, blur, apart, dim)
    radii, other = walls.scatter_(1, own, torch.inf).min(1)
    return own[:, 0], (radii * (1 - gamma_of(dim))).clamp_(min=0), other


def largest_motion(weights, norm):
    """How far, in L2, a patch moves at most under a perturbation of norm 1."""
    largest = weights.max()  # apart, so that no square vanishes
    return float(largest * np.linalg.norm(weights / largest) if norm == "linf" else largest)
