"""Fingerprints of fitted objects, to tell whether a result is of the same one."""

from __future__ import annotations

import io
import os
import pickle

import joblib
import numpy as np
import torch

from sklearn_patchcert.networks.base import PatchNet


def fingerprint(value):
    """Hash of what pickle writes of an object, the same after the object has been to a file.

    All that an object is counts but for its code, of which there is only the name.

    Parameters
    ----------
    value : object

    Returns
    -------
    fingerprint : str
        Random where the object cannot be pickled: nothing can be told of it, so that it is never
        taken for another.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.prediction.fingerprints import fingerprint
    >>> fingerprint([np.zeros(2)]) == fingerprint([np.zeros(2)])
    True
    >>> fingerprint([np.zeros(2)]) == fingerprint([np.zeros(2, dtype=np.float32)])
    False
    >>> fingerprint(lambda: 0) == fingerprint(lambda: 0)
    False
    """
    try:
        # Once there and back first: what has been loaded is written unlike what was fitted.
        return joblib.hash(_written(pickle.loads(pickle.dumps(value))))
    except Exception:  # of any kind: the object's own code runs
        return os.urandom(16).hex()


def _written(value):
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Writes by their values what pickle writes with addresses, arbitrary bytes or orders."""

    def persistent_id(self, thing):  # reducer_override isn't asked for sets
        if type(thing) in (set, frozenset):  # their order is another in each process
            return type(thing).__name__, sorted(_written(item) for item in thing)
        return None

    def reducer_override(self, thing):
        if isinstance(thing, PatchNet):
            return tuple, ((type(thing), vars(thing)),)
        if type(thing) in (torch.Tensor, torch.nn.Parameter):
            if thing.is_quantized or vars(thing):
                raise pickle.PicklingError("a tensor that is more than its values")
            raw = thing.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            return tuple, ((type(thing), str(thing.dtype), tuple(thing.shape), raw.tobytes()),)
        if type(thing) is np.ndarray and thing.dtype.names:
            return dict, ([(name, np.array(thing[name])) for name in thing.dtype.names],)
        return NotImplemented
