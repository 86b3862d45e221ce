"""Fingerprints of fitted objects: the same after a file, others for whatever may answer otherwise.

An object is taken apart as pickle would (PEP 307) and hashed by what it holds, not by how it holds
it: no identity of objects, order of attributes, stride or padding of an array counts.
"""

from __future__ import annotations

import copyreg
import hashlib
import os
import pickle
import types

import numpy as np
import torch

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_SILENT = {"n_jobs", "verbose"}  # parameters that change no result
_OF_A_NET = (
    "module_", "criterion_", "predict_nonlinearity", "autocast", "image_shape_", "classes_",
)  # fmt: skip


def fingerprint(value):
    """Hash of all that a fitted object has, but for `n_jobs` and `verbose`.

    Of a skorch network it is what predictions need, not the optimizer or the history.

    Parameters
    ----------
    value : object

    Returns
    -------
    fingerprint : str
        Of 32 characters; random where the object cannot be taken apart, so that it is never
        mistaken for another.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.fingerprints import fingerprint
    >>> fingerprint({"a": 1, "b": np.zeros(2)}) == fingerprint({"b": np.zeros(2), "a": 1})
    True
    >>> fingerprint(np.zeros(2)) == fingerprint(np.zeros(2, dtype=np.float32))
    False
    >>> fingerprint(lambda: 0) == fingerprint(lambda: 0)
    False
    """
    try:
        return _digest(value, {}, 0).hex()
    except Exception:  # of any kind: the object's own code runs when it is taken apart
        return os.urandom(16).hex()


def _digest(value, known, depth):
    """Hash of an object; `known` has those of the objects seen, and keeps these alive."""
    if id(value) in known:
        return known[id(value)][0]
    known[id(value)] = f"{depth} objects further in".encode(), value  # if it holds itself
    head, parts = _apart(value)
    digests = [_digest(part, known, depth + 1) for part in parts]
    if type(value) in (dict, set, frozenset):
        digests.sort()
    found = hashlib.blake2b(repr(head).encode(), digest_size=16)
    for digest in digests:
        found.update(b"%d:" % len(digest) + digest)
    known[id(value)] = found.digest(), value
    return found.digest()


def _apart(value):
    """What an object is, to be told by its repr, and the objects that it is made of."""
    if isinstance(value, np.generic) and type(value.item()) in _PLAIN:
        value = value.item()
    kind = type(value)
    name = kind.__module__, kind.__qualname__
    if kind in _PLAIN:
        return (name, value), ()
    if kind in (np.ndarray, np.memmap):
        return _array(value)
    if isinstance(value, torch.Tensor):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return (name, str(value.dtype), tuple(value.shape), _bytes(raw.numpy())), ()
    if kind is dict:
        return name, value.items()
    if kind in (list, tuple, set, frozenset):
        return name, value
    if _is_global(value):
        if "<" in value.__qualname__:
            raise pickle.PicklingError(f"{value!r} has no name of its own.")
        return (name, value.__module__, value.__qualname__), ()
    if hasattr(value, "module_") and hasattr(value, "predict_nonlinearity"):
        return name, [getattr(value, attribute, None) for attribute in _OF_A_NET]
    reducer = copyreg.dispatch_table.get(kind)
    reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
    if isinstance(reduced, str):
        return (name, reduced), ()
    make, args, state, items, pairs = (*reduced, None, None, None)[:5]
    if isinstance(state, dict):
        silent = _SILENT | ({"training"} if isinstance(value, torch.nn.Module) else set())
        state = {key: part for key, part in state.items() if key not in silent}
    return name, (make, args, state, list(items or ()), list(pairs or ()))


def _array(value):
    if value.dtype.names:  # by field, since what lies between the fields is arbitrary
        return value.dtype.names, [np.asarray(value[field]) for field in value.dtype.names]
    if value.dtype.hasobject:
        return value.shape, value.ravel().tolist()
    return (str(value.dtype), value.shape, _bytes(value)), ()


def _bytes(array):
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.blake2b(flat.data, digest_size=16).hexdigest()


def _is_global(value):
    """Whether pickle knows it by its name alone."""
    if isinstance(value, types.BuiltinFunctionType):
        return isinstance(value.__self__, (types.ModuleType, type(None)))
    return isinstance(value, (type, types.FunctionType))
