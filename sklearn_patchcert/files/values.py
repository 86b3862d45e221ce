"""Values as JSON and arrays, and back: numbers, text, arrays, and tuples, lists and dicts of them.

What JSON has stands for itself; anything else is an object of one entry, whose name says its kind.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from sklearn_patchcert.files.budgets import MOST_LEVELS

_FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_KINDS = "biuf"  # of arrays: booleans, integers, floating point
_CHARACTERS = 2**24  # of an array of text, filled up to the longest


def encode(value, arrays, where, other=None):
    """JSON of a value; its arrays are put into `arrays`.

    Parameters
    ----------
    value : object
    arrays : dict of str to ndarray
        Filled with contiguous copies; equal ones, bit for bit, are kept once.
    where : str
        Its place, for names of arrays and for errors.
    other : callable (value, where) -> JSON or None, or None
        Asked first; None from it means that it does not know the value.

    Returns
    -------
    found : JSON
        NumPy's scalars become Python's.

    Raises
    ------
    TypeError
        If there is something in it that cannot be written.
    """

    def inner(part, at):
        return encode(part, arrays, at, other)

    found = None if other is None else other(value, where)
    if found is not None:
        return found
    if isinstance(value, np.generic) and value.dtype.kind in _KINDS + "U":
        value = value.item()
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is list:
        return [inner(part, f"{where}[{i}]") for i, part in enumerate(value)]
    if type(value) is tuple:
        return {"tuple": [inner(part, f"{where}[{i}]") for i, part in enumerate(value)]}
    if type(value) is dict and all(type(key) in (str, int) for key in value):
        return {"dict": [[key, inner(part, f"{where}.{key}")] for key, part in value.items()]}
    if isinstance(value, torch.Tensor) and value.dtype != torch.bfloat16:
        return {"tensor": _put(value.detach().cpu().numpy(), arrays, where)}
    if type(value) is np.ndarray and value.dtype.kind in _KINDS and value.dtype.itemsize <= 8:
        return {"array": _put(value, arrays, where)}
    if type(value) is np.ndarray and value.ndim == 1:
        width = value.dtype.itemsize // 4 if value.dtype.kind == "U" else None
        texts = value.tolist()
        if all(type(text) is str for text in texts) and (width or 0) * len(texts) <= _CHARACTERS:
            return {"texts": [width, texts]}
    raise TypeError(f"{where} is {value!r:.80}, which a safe file cannot hold.")


def _put(array, arrays, where):
    """Name of an array in `arrays`."""
    array = np.array(array, order="C", dtype=array.dtype.newbyteorder("="))
    for name, known in arrays.items():
        alike = known.dtype == array.dtype and known.shape == array.shape
        if alike and known.tobytes() == array.tobytes():
            return name
    arrays[where] = array
    return where


def decode(found, supply, other=None, level=0):
    """The value that :func:`encode` was given.

    Parameters
    ----------
    found : JSON
    supply : Supply
        The arrays, and the budget for what is made of the file.
    other : callable (kind, content) -> value, or None
        Asked for kinds that are not known here.
    level : int
        How many lists and dicts it is in.

    Returns
    -------
    value : object
        Made of built-in types, ndarrays and tensors on the CPU, and of what `other` returns.

    Raises
    ------
    ValueError, TypeError, LookupError
        If it is not what :func:`encode` returns, too large or too deep.
    """

    def inner(part):
        return decode(part, supply, other, level + 1)

    if level > MOST_LEVELS:
        raise ValueError(f"values are nested deeper than {MOST_LEVELS} levels")
    supply.spend()
    if found is None or isinstance(found, bool | int | float | str):
        return found
    if isinstance(found, list):
        return [inner(part) for part in found]
    ((kind, content),) = found.items()
    if kind == "float":
        return _FLOATS[content]
    if kind == "tuple":
        return tuple(inner(part) for part in content)
    if kind == "dict":
        made = {key: inner(part) for key, part in content}
        if len(made) < len(content) or not all(type(key) in (str, int) for key in made):
            raise ValueError("a dict has the same key twice, or one that is no text or integer")
        return made
    if kind in ("array", "tensor"):
        array = supply.take(content)
        if array.dtype.kind not in _KINDS:
            raise TypeError(f"{content} is an array of {array.dtype}")
        return array if kind == "array" else torch.from_numpy(array)
    if kind == "texts":
        width, texts = content
        return _texts(width, texts, supply)
    if other is None:
        raise LookupError(f"unknown kind of value: {kind!r:.40}")
    return other(kind, content)


def _texts(width, texts, supply):
    if not all(type(text) is str for text in texts):
        raise TypeError("an array of text holds something else")
    if width is None:
        supply.spend(8 * len(texts))
        return np.array(texts, dtype=object)
    if type(width) is not int or not 0 < width * max(1, len(texts)) <= _CHARACTERS:
        raise ValueError(
            f"an array of text is too large: {len(texts)} of {shown(width)} characters"
        )
    if max(map(len, texts), default=0) > width:
        raise ValueError(f"a text has more characters than {width}")
    supply.spend(4 * width * len(texts))
    return np.array(texts, dtype=f"U{width}")


def shown(value):
    """A value for an error: itself where it is plain and short, else the name of its type.

    The repr of an estimator takes twice the time for each estimator that it is in.

    Parameters
    ----------
    value : object

    Returns
    -------
    text : str
    """
    plain = value is None or type(value) in (bool, int, float, str)
    return f"{value!r:.80}" if plain else f"of type {type(value).__name__}"
