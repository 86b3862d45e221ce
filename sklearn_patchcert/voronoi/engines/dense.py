"""The engine that compares every patch with every token: torch, on any device, in float64.

Its float64 operations, one after the other, define the tokenization in
:mod:`sklearn_patchcert.voronoi`.  :mod:`sklearn_patchcert.voronoi.engines.measure` repeats them.
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
    ids = [_squared_distances(chunk, prepared[0]).argmin(1) for chunk in _chunks(patches, prepared)]
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
        found.append(_certify_chunk(chunk, prepared, blur, noise_growth))
        start += len(chunk)
    return tuple(torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))


def _chunks(patches, prepared):
    tokens = prepared[0]
    elements = _CHUNK_ELEMENTS if tokens.is_cpu else _LARGE_CHUNK
    size = max(1, elements // len(tokens))
    for start in range(0, len(patches), size):
        chunk = patches[start : start + size].astype(np.float64)
        yield torch.as_tensor(chunk, device=tokens.device)


def _squared_distances(patches, tokens):
    """Squared distances (m, n_tokens), one coordinate after the other: the definition of t.

    Every operation is rounded on its own, so that all devices and chunk sizes agree to the bit.
    """
    total = torch.zeros(len(patches), len(tokens), dtype=tokens.dtype, device=tokens.device)
    for x, v in zip(patches.T, tokens.T, strict=True):
        difference = x[:, None] - v
        total += difference.mul_(difference)
    return total


def _dual_norms(own, others, weights, norm):
    """|w (a - b)|_* for all pairs (m, n_tokens), neither under- nor overflowing."""
    columns = list(zip(own.T, others.T, weights, strict=True))

    def sizes():
        return ((a[:, None] - b).mul_(w).abs_() for a, b, w in columns)

    total = torch.zeros(len(own), len(others), dtype=own.dtype, device=own.device)
    largest = torch.zeros_like(total)
    for size in sizes():
        torch.maximum(largest, size, out=largest)
        total += size.mul_(size) if norm == "l2" else size
    if norm == "l1":
        return largest + _TINY
    if norm == "linf":
        return total + len(columns) * _TINY
    largest += _TINY
    scaled = torch.zeros_like(total)
    for size in sizes():
        part = size.div_(largest)
        scaled += part.mul_(part)
    scaled = largest * _sqrt(scaled) + len(columns) * _TINY
    return torch.where((total > _SMALL) & (total < _LARGE), _sqrt(total), scaled)


def _sqrt(values):
    """Correctly rounded square roots, which torch's on a CPU are not."""
    return torch.from_numpy(np.sqrt(values.numpy())) if values.is_cpu else values.sqrt()


def _certify_chunk(patches, prepared, noise, noise_growth):
    tokens, weights, norm = prepared
    distances = _squared_distances(patches, tokens)
    nearest, own = distances.min(1, keepdim=True)
    if len(tokens) == 1:
        return own[:, 0], torch.full_like(nearest[:, 0], torch.inf), own[:, 0] - 1
    used, which = torch.unique(own, return_inverse=True)
    spread = 2 * _dual_norms(tokens[used], tokens, weights, norm)[which[:, 0]]
    gap = distances - nearest
    unrounded = (gap / spread).scatter_(1, own, torch.inf).amin(1, keepdim=True)

    dim = tokens.shape[1]
    gamma = (dim + 8) * np.finfo(np.float64).eps
    motion = largest_motion(weights.cpu().numpy(), norm) * unrounded
    blur = 0.0 if noise is None else 2 * noise[:, None] + noise_growth * motion
    gap -= 4 * gamma * (distances + nearest + (motion + blur) ** 2) + 8 * dim * _TINY
    if noise is not None:
        ones = torch.ones_like(weights)
        apart = _dual_norms(tokens[used], tokens, ones, "l2")[which[:, 0]]
        gap -= 2 * apart * blur * (1 + gamma)
    radii, other = (gap / spread).scatter_(1, own, torch.inf).nan_to_num_(0.0, torch.inf).min(1)
    return own[:, 0], (radii * (1 - gamma)).clamp_(min=0), other


def largest_motion(weights, norm):
    """How far, in L2, a patch moves at most under a perturbation of norm 1."""
    largest = weights.max()  # apart, so that no square vanishes
    return float(largest * np.linalg.norm(weights / largest) if norm == "linf" else largest)
