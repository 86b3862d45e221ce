"""Options of attacks, scorers and reports: each check returns the value, or names the option.

A TypeError means a value of another kind, a ValueError one that is out of range.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

NORMS = ("l2", "linf")
_SPELLINGS: dict = {
    "1": "l1", 1.0: "l1", "2": "l2", 2.0: "l2",
    "inf": "linf", "linfty": "linf", "linfinity": "linf", math.inf: "linf",
}  # fmt: skip


def check_norm(norm, known=NORMS):
    """Return the one spelling of a norm that this package uses.

    Parameters
    ----------
    norm : str or number
        "L2", "l_2" and 2 are "l2"; "Linf", "l_inf", "inf" and np.inf are "linf".
    known : tuple of str
        The norms that the caller has.

    Returns
    -------
    norm : str

    Raises
    ------
    ValueError
        If the norm is not among the known ones.
    """
    found = norm
    if isinstance(norm, str):
        name = norm.strip().lower().replace("_", "")
        found = _SPELLINGS.get(name, name)
    elif isinstance(norm, Real) and not isinstance(norm, bool):
        found = _SPELLINGS.get(float(norm), norm)
    if not isinstance(found, str) or found not in known:
        raise ValueError(f"norm must be one of {known}, got {norm!r}.")
    return found


def check_number(name, value, *, positive=False, finite=True):
    """Return a number as a float, at least 0 or, with `positive`, above it."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    found = float(value)
    if not (found > 0 if positive else found >= 0) or (finite and math.isinf(found)):
        kind = ("finite and " if finite else "") + ("positive" if positive else "at least 0")
        raise ValueError(f"{name} must be {kind}, got {value!r}.")
    return found


def check_count(name, value, least=1):
    """Return a whole number as an int that is not too small."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
    return int(value)


def check_choice(name, value, known):
    """Return a name that is among the known ones."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {tuple(known)}, got {value!r}.")
    return value


def check_bounds(bounds):
    """Return a pair (low, high) of floats, or None."""
    if bounds is None:
        return None
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise TypeError(f"bounds must be a pair (low, high) or None, got {bounds!r}.") from None
    for value in (low, high):
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"bounds must be two numbers, got {bounds!r}.")
    low, high = float(low), float(high)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"bounds must be finite, the lower one first, got {bounds!r}.")
    return low, high


def wide_bounds(bounds, X):
    """Bounds (low, high) as far apart as they may be rounded in the dtype of X, or None.

    Raises
    ------
    TypeError, ValueError
        If they are no bounds, or not all of X, an array, is between them.
    """
    bounds = check_bounds(bounds)
    if bounds is None:
        return None
    rounded = float if X.dtype.kind != "f" else X.dtype.type
    low, high = (float(rounded(bound)) for bound in bounds)
    bounds = min(low, bounds[0]), max(high, bounds[1])
    if X.size:
        check_inside(bounds, float(X.min()), float(X.max()))
    return bounds


def check_inside(bounds, lowest, highest, what="X"):
    """Refuse images beyond the bounds: an attack would begin by moving them out of its ball."""
    if bounds is not None and not (bounds[0] <= lowest and highest <= bounds[1]):
        raise ValueError(
            f"bounds={bounds} do not hold {what}, which has values from {lowest:g} to {highest:g}: "
            "give the bounds in the units of the images."
        )


def sticker_sizes(sticker_size: Any) -> list[tuple[int, int]]:
    """Heights and widths of the stickers that are meant.

    Parameters
    ----------
    sticker_size : int, tuple (height, width), or list of these
        In pixels.

    Returns
    -------
    sizes : list of tuple (height, width)

    Raises
    ------
    ValueError
        If it is anything else.

    Examples
    --------
    >>> from sklearn_patchcert.checks import sticker_sizes
    >>> sticker_sizes([5, (2, 8)])
    [(5, 5), (2, 8)]
    """
    several = sticker_size if isinstance(sticker_size, list) else [sticker_size]
    found = [pair for pair in map(_pair, several) if pair is not None]
    if not found or len(found) < len(several):
        raise ValueError(
            "sticker_size must be a positive number of pixels, a tuple (height, width), or a list "
            f"of these, got {sticker_size!r}."
        )
    return found


def _pair(size):
    """(height, width) of a positive integer or a pair of them, else None."""
    pair: Any = (size, size) if isinstance(size, Integral) else size
    pair = tuple(pair.tolist()) if getattr(pair, "ndim", 0) == 1 else pair
    if not isinstance(pair, tuple) or len(pair) != 2:
        return None
    whole = all(isinstance(one, Integral) and not isinstance(one, bool) for one in pair)
    return tuple(map(int, pair)) if whole and min(pair) >= 1 else None
