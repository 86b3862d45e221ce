"""What a search needs of the tokens, prepared once for the positions that are alike."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from sklearn_patchcert.voronoi.engines import dense, devices, two_pass, walk

NORMS = ("l2", "linf", "l1")
LARGEST = 1e150
_FEW_KINDS = 8
_ENGINES = {"dense": dense, "two_pass": two_pass, "walk": walk}


def check_norm(norm: str) -> str:
    """Return the norm if perturbations of a patch can be certified in it.

    Parameters
    ----------
    norm : str

    Returns
    -------
    norm : {"l2", "linf", "l1"}

    Raises
    ------
    ValueError
        If it is another.

    Examples
    --------
    >>> from sklearn_patchcert.voronoi import check_norm
    >>> check_norm("linf")
    'linf'
    """
    if not isinstance(norm, str) or norm not in NORMS:
        raise ValueError(f"norm must be one of {NORMS}, got {norm!r}.")
    return norm


class Cell(NamedTuple):
    """The tokens as the patches of some positions see them."""

    names: np.ndarray  # indices of the tokens that take part
    order: np.ndarray  # of the coordinates: the padding first
    all_of_them: bool
    engine: Any
    tables: Any

    def named(self, ids):
        """Indices among all tokens of indices among those that take part."""
        return ids if self.all_of_them else self.names[ids]


def cells(patches, tokens, weights, norm, device, engine):
    """Yield (patches (m, dim), their positions, their cell), by positions of equal weights."""
    n, positions, dim = patches.shape
    tokens = check_tokens(tokens, dim)
    check_norm(norm)
    if not n:
        return
    check_size(patches, "images")
    device = devices.resolved(device, n * positions, dim, len(tokens))
    weights = np.ones((min(positions, 1), dim)) if weights is None else np.abs(weights)
    if (weights == weights[:1]).all():  # sorting them takes long
        kinds, kind_of = weights[:1], np.zeros(len(weights), np.intp)
    else:
        kinds, kind_of = np.unique(weights, axis=0, return_inverse=True)
    for kind, weight in enumerate(kinds):
        members = np.flatnonzero(kind_of.ravel() == kind) if len(kinds) > 1 else slice(None)
        # +0.0 elsewhere, never -0.0: these bytes are a key
        padding = np.where(weight == 0, np.asarray(patches[0, members][0], dtype=np.float64), 0.0)
        name = _engine_name(engine, device, len(kinds))
        cell = cell_of(tokens, weight, padding, norm, name, device)
        block = patches[:, members].reshape(-1, dim)
        if not weight.all():
            block = block[:, cell.order]
        yield block, members, cell


def check_tokens(tokens, dim):
    """Tokens (n_tokens, dim) in float64, which must be finite and of as many values as patches."""
    tokens = np.ascontiguousarray(tokens, dtype=np.float64)
    if tokens.shape[1] != dim:
        raise ValueError(f"patches have {dim} values each but the tokens have {tokens.shape[1]}.")
    check_size(tokens, "tokens")
    return tokens


def cell_of(tokens, weight, padding, norm, engine, device):
    """The cell of float64 tokens (n_tokens, dim) for a weight and a padding (dim,).

    The padding is +0.0, never -0.0, in the coordinates that have a weight: its bytes are a key.
    """
    return _prepare(tokens.tobytes(), weight.tobytes(), padding.tobytes(), norm, engine, device)


def passing_cell(tokens, dim, device, n):
    """The cell of tokens that nobody will ask for again, as in a step of k-means on n patches."""
    tokens = check_tokens(tokens, dim)
    device = devices.resolved(device, n, dim, len(tokens))
    padding, weight = np.zeros(dim).tobytes(), np.ones(dim).tobytes()
    engine = _engine_name("auto", device, 1)
    return _prepare.__wrapped__(tokens.tobytes(), weight, padding, "l2", engine, device)


def check_size(values, what):
    """Refuse arrays with values that are not finite or whose squares overflow."""
    if values.dtype.kind == "f":
        flat = values.ravel(order="K")
        with np.errstate(over="ignore", invalid="ignore"):
            square = float(np.dot(flat, flat))
        if square <= LARGEST:
            return  # one quick pass, after which no value can be too large
    if not max(float(values.max()), -float(values.min())) <= LARGEST:
        raise ValueError(f"{what} must be finite and at most {LARGEST:g} in magnitude.")


def _engine_name(engine, device, n_kinds):
    if engine not in ("auto", *_ENGINES):
        raise ValueError(f"engine must be 'auto' or one of {tuple(_ENGINES)}, got {engine!r}.")
    walks = device == "cpu" or getattr(device, "type", None) == "cpu"
    if engine == "walk" and not walks:
        raise ValueError(f"The engine 'walk' runs on the CPU, not on device={device!r}.")
    if not walks:
        devices.check_float64(device)
    if engine == "auto":  # tables for many kinds of positions would cost more than they save
        small = "walk" if n_kinds <= _FEW_KINDS else "dense"
        return small if walks else "two_pass"
    return engine


@functools.lru_cache(maxsize=8)
def _prepare(tokens, weights, padding, norm, engine, device):
    """The cell of tokens, weights and padding given as bytes; kept, since it takes a while."""
    weights, padding = np.frombuffer(weights), np.frombuffer(padding)
    tokens = np.frombuffer(tokens).reshape(-1, len(weights))
    order = np.argsort(weights > 0, kind="stable")
    tokens, weights, padding = tokens[:, order], weights[order], padding[order]
    fixed = np.count_nonzero(weights == 0)
    base = np.zeros(len(tokens))
    for value, column in zip(padding[:fixed], tokens.T[:fixed], strict=True):
        base += (value - column) ** 2
    # Of tokens that agree in all that can be reached, the one nearest to the padding wins.
    nearest = np.lexsort((np.arange(len(tokens)), base))
    _, first = np.unique(tokens[nearest][:, fixed:], axis=0, return_index=True)
    names = np.sort(nearest[first])
    tables = _ENGINES[engine].prepare(tokens[names], weights, norm, device)
    return Cell(names, order, len(names) == len(base), _ENGINES[engine], tables)
