"""Nearest tokens of many patches, a chunk at a time: little memory, and Ctrl-C is soon heard."""

from __future__ import annotations

from functools import partial

import numpy as np

from sklearn_patchcert.parallel import over_parts
from sklearn_patchcert.voronoi import preparation

_VALUES_AT_ONCE = 2**18  # values of a chunk: 1 MiB in float32, at most some tenths of a second
_MANY_VALUES = 2**19  # for a tree so large that patches take turns in it
_LARGE_TREE = 8192


def nearest(patches, tokens, *, device="cpu", n_jobs=None):
    """Yield the slice of each chunk of patches, its token ids and its squared L2 distances.

    Parameters
    ----------
    patches : ndarray (n, dim), floating point
        May be memory-mapped.
    tokens : ndarray (n_tokens, dim)
    device : str or torch.device
    n_jobs : int or None
        Threads over the chunks.

    Yields
    ------
    part : slice
    ids : ndarray of int64 (m,)
    squares : ndarray (m,), of the dtype of the patches
        Neither they nor the ids depend on the size of the chunks.
    """
    dim = patches.shape[1]
    cell = preparation.passing_cell(tokens, dim, device, len(patches))
    size = max(1, (_VALUES_AT_ONCE if len(tokens) <= _LARGE_TREE else _MANY_VALUES) // dim)
    parts = [slice(at, at + size) for at in range(0, len(patches), size)]
    blocks = ((patches[part],) for part in parts)
    found = over_parts(partial(_nearest, cell, tokens), blocks, n_jobs)
    for part, (ids, squares) in zip(parts, found, strict=True):
        yield part, ids, squares


def _nearest(cell, tokens, block):
    preparation.check_size(block, "patches")
    ids = cell.named(cell.engine.tokenize(block, cell.tables))
    apart = block - tokens[ids]
    return ids, np.square(apart, out=apart).sum(1)


def count_and_error(patches, tokens, *, device="cpu", n_jobs=None):
    """How many patches each token has (n_tokens,), and their mean squared L2 error."""
    counts, total = np.zeros(len(tokens), dtype=np.int64), 0.0
    for _, ids, squares in nearest(patches, tokens, device=device, n_jobs=n_jobs):
        counts += np.bincount(ids, minlength=len(tokens))
        total += float(squares.sum(dtype=np.float64))
    return counts, total / max(1, len(patches))


def carried_counts(counts, tokens, made, **where):
    """Counts (m,) of tokens (>= m, dim), given to the nearest of those that were made of them.

    The sum stays what it was.  `where` goes to :func:`nearest`.
    """
    ids = np.concatenate([ids for _, ids, _ in nearest(tokens[: len(counts)], made, **where)])
    return np.bincount(ids, counts, len(made)).astype(counts.dtype)
