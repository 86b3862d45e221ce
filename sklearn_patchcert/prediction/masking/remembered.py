"""Decisions that are kept, so that nothing is certified twice: by the content of the images."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

import numpy as np

_MOST = 20_000  # images


class Decisions:
    """The latest decisions about images, for one fitted model.

    Threads may share it.  No copy and no pickle has its content.
    """

    def __init__(self):
        self.lock, self.kept = threading.Lock(), OrderedDict()

    def __reduce__(self):
        return Decisions, ()

    def __deepcopy__(self, memo):
        return Decisions()

    def __len__(self):
        return len(self.kept)

    def get(self, keys):
        """What is kept for each key, None for those of which nothing is known."""
        with self.lock:
            return [self.kept.get(key) for key in keys]

    def put(self, keys, values):
        """Keep some decisions, and forget the oldest where there are too many."""
        with self.lock:
            for key, value in zip(keys, values, strict=True):
                self.kept[key] = value
                self.kept.move_to_end(key)
            while len(self.kept) > _MOST:
                self.kept.popitem(last=False)


def keys_of(model_key, X):
    """One key for each image of an array or a frame (n, ...), of its content and of the model's."""
    kinds, X = getattr(X, "dtypes", ""), np.asarray(X)
    start = f"{model_key} {X.dtype} {X.shape[1:]}"
    if X.dtype.hasobject:  # whose bytes are addresses
        start += " ".join(map(str, kinds))
        X = X.astype(np.float64)
    X, told = np.ascontiguousarray(X), start.encode()
    return [hashlib.blake2b(told + image.tobytes(), digest_size=16).digest() for image in X]
