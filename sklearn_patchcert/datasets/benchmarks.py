"""Image data sets by name: one comes with scikit-learn, three are cached or downloaded."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import get_data_home, load_digits
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

_SHAPES = {"mnist": (28, 28), "fashion_mnist": (28, 28), "cifar10": (32, 32, 3)}
_TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}
_ARRAYS = ("X_train", "y_train", "X_test", "y_test")


def load_images(name: str, data_home: str | os.PathLike[str] | None = None) -> Bunch:
    """Load a data set of images with its usual split.

    "digits" comes with scikit-learn.  The others are read from the cache,
    ``<data home>/patchcert/<name>.npz``, which torchvision's download fills where it is empty.

    Parameters
    ----------
    name : {"digits", "mnist", "fashion_mnist", "cifar10"}
    data_home : path-like or None
        None: scikit-learn's, :func:`sklearn.datasets.get_data_home`.

    Returns
    -------
    data : Bunch
        X_train, X_test : ndarray of uint8 (n, H, W) or (n, H, W, C)
        y_train, y_test : ndarray of uint8 (n,)
        pixel_max : int, the value of white: 16 for digits, else 255
        sha256 : str, checksum of the pixels and labels that were read

    Raises
    ------
    ValueError
        If the name is unknown or the cached file is not what it should be.
    OSError
        If the data set is neither cached nor can be downloaded.

    Examples
    --------
    >>> from sklearn_patchcert.datasets import load_images
    >>> load_images("digits").X_train.shape
    (1347, 8, 8)
    """
    if name == "digits":
        digits = load_digits()
        parts = train_test_split(
            digits.images.astype(np.uint8),
            digits.target.astype(np.uint8),
            test_size=0.25,
            random_state=0,
            stratify=digits.target,
        )
        arrays = dict(zip(("X_train", "X_test", "y_train", "y_test"), parts, strict=True))
        return _bunch(arrays, 16)
    if name not in _SHAPES:
        raise ValueError(f"name must be 'digits' or one of {sorted(_SHAPES)}, got {name!r}.")
    path = Path(get_data_home(data_home)) / "patchcert" / f"{name}.npz"
    if not path.exists():
        _download(name, path)
    return _bunch(_read(path, _SHAPES[name]), 255)


def _bunch(arrays, pixel_max):
    digest = hashlib.sha256()
    for key in _ARRAYS:
        digest.update(np.ascontiguousarray(arrays[key]).tobytes())
    return Bunch(**arrays, pixel_max=pixel_max, sha256=digest.hexdigest())


def _read(path, shape):
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {key: file[key] for key in _ARRAYS}
    except Exception as error:
        raise ValueError(f"{path} is no readable cache of images ({error}); delete it.") from error
    for split in ("train", "test"):
        X, y = arrays[f"X_{split}"], arrays[f"y_{split}"]
        if (
            X.dtype != np.uint8
            or y.dtype != np.uint8
            or y.shape != X.shape[:1]
            or X.shape[1:] != shape
            or not len(X)
        ):
            raise ValueError(
                f"{path} holds {split} images {X.dtype} {X.shape} with labels {y.dtype} "
                f"{y.shape}, not uint8 (n, {', '.join(map(str, shape))}) and (n,); delete it."
            )
    return arrays


def _download(name, path):
    from torchvision import datasets

    arrays: dict = {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            for split in ("train", "test"):
                source = getattr(datasets, _TORCHVISION[name])(
                    folder, train=split == "train", download=True
                )
                arrays[f"X_{split}"] = np.asarray(source.data, dtype=np.uint8)
                arrays[f"y_{split}"] = np.asarray(source.targets, dtype=np.uint8)
            partial = Path(folder) / "partial.npz"
            np.savez_compressed(partial, **arrays)
            os.replace(partial, path)
    except Exception as error:
        raise OSError(
            f"The data set {name!r} is not cached at {path} and could not be downloaded "
            f"({error}). Put an .npz file with the uint8 arrays {', '.join(_ARRAYS)} there."
        ) from error
