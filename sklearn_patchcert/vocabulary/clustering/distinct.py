"""Rows without their copies: patches, a chunk at a time, and tokens."""

from __future__ import annotations

import numpy as np

_VALUES_AT_ONCE = 2**18


def distinct_patches(patches, counts):
    """Distinct rows (m, dim), a copy, and the sum of the counts (n,) of each, sorted by a hash."""
    hashes = np.concatenate([_hashes(patches[part]) for part in _parts(len(patches), patches)])
    # By their first bytes, then each of these groups: faster than at once, and Ctrl-C is heard.
    heads = (hashes >> np.uint64(56)).astype(np.uint8)
    order = np.argsort(heads, kind="stable")
    ends = np.bincount(heads, minlength=256).cumsum()
    for start, end in zip(ends - np.bincount(heads, minlength=256), ends, strict=True):
        group = order[start:end]
        order[start:end] = group[np.argsort(hashes[group])]
    hashes = hashes[order]
    new = np.append(True, hashes[1:] != hashes[:-1])
    copies = np.flatnonzero(~new)
    for part in _parts(len(copies), patches):
        here = copies[part]
        if (patches[order[here]] != patches[order[here - 1]]).any():  # two rows with one hash
            distinct, inverse = np.unique(patches, axis=0, return_inverse=True)
            return distinct, np.bincount(inverse.ravel(), counts)
    first = np.flatnonzero(new)
    distinct = np.empty((len(first), patches.shape[1]), patches.dtype)
    for part in _parts(len(first), patches):
        distinct[part] = patches[order[first[part]]] + 0
    return distinct, np.add.reduceat(counts[order], first)


def _parts(n, patches):
    """Slices of n rows, each of few values."""
    size = max(1, _VALUES_AT_ONCE // patches.shape[1])
    return (slice(at, at + size) for at in range(0, n, size))


def _hashes(patches):
    patches = np.ascontiguousarray(patches) + 0  # so that -0 has the bits of 0
    hashes = np.zeros(len(patches), dtype=np.uint64)
    for column in patches.view(f"u{patches.dtype.itemsize}").T:
        hashes = (hashes ^ column) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes


def distinct_tokens(tokens):
    """Drop the copies of a token (n_tokens, dim), keeping the order of first occurrence."""
    _, first = np.unique(tokens, axis=0, return_index=True)
    return tokens[np.sort(first)]
