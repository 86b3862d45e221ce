"""ImageReader: the transformer that turns the paths of picture files into images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert._layouts import of_torch
from sklearn_patchcert._state import VersionedState
from sklearn_patchcert._validation import StrOptions, _fit_context
from sklearn_patchcert.datasets.pictures import INTERPOLATIONS, MODES, RESIZES, read_picture
from sklearn_patchcert.parallel import over_parts

_AT_ONCE = 8  # files that a thread reads before it takes more
_OF_A_BATCH = 64


class ImageReader(VersionedState, TransformerMixin, BaseEstimator):
    """Read picture files, bring them to one size, and hand on images from 0 to 1.

    As the first step of a :class:`CertifiedPatchClassifier` it lets `fit`, `predict` and `certify`
    take paths, and it is saved with the model, so that new pictures are read as those of training
    were.  Radii are then about the image that the reader hands on, in units of [0, 1]: the file is
    resized before the certificate.

    Pillow decodes: JPEG, PNG, TIFF, WebP, BMP, GIF and many more.  Pictures are turned upright as
    their EXIF data say, what is transparent is laid on `background`, palettes and CMYK are
    converted (without color profiles), 16-bit pictures are divided by 65535, and of an animation
    the first frame counts.  Arrays in ``.npy`` files are pictures, too: uint8, uint16, or floats
    in [0, 1].

    Parameters
    ----------
    image_size : int, tuple (H, W) or None, default=None
        Size of the images in pixels; one number means a square.  None: all pictures must have the
        size of the first.
    mode : {"RGB", "L"}, default="RGB"
        Color, or gray as ``0.299 R + 0.587 G + 0.114 B``.
    resize : {"crop", "pad", "stretch"} or None, default="crop"
        "crop" scales the picture until it covers the image and cuts off what sticks out on both
        sides; "pad" scales it until it fits and fills the rest with `background`; "stretch"
        changes the ratio of its sides; None refuses a picture of another size.
    interpolation : str, default="bilinear"
        "nearest", "box", "bilinear", "hamming", "bicubic" or "lanczos", with antialiasing but for
        "nearest".
    background : str, default="white"
        A color by name or as "#rrggbb".
    n_jobs : int or None, default=None
        Threads that read, as joblib has it.
    on_error : {"raise", "warn"}, default="raise"
        What a file that can't be read does.  "warn" leaves it out, so that there are fewer images
        than paths, and warns with its name and the reason.  It can't be left out of training,
        where every image has a label: :func:`datasets.load_image_folder` leaves out both.

    See Also
    --------
    datasets.load_image_folder : Read a folder of pictures with a subfolder for each class.

    Examples
    --------
    >>> from pathlib import Path
    >>> import sklearn.datasets
    >>> from sklearn_patchcert import ImageReader
    >>> folder = Path(sklearn.datasets.__file__).parent / "images"
    >>> ImageReader(image_size=64).transform(sorted(folder.glob("*.jpg"))).shape
    (2, 64, 64, 3)
    """

    _parameter_constraints: dict = {
        "image_size": [Integral, tuple, list, None],
        "mode": [StrOptions(set(MODES))],
        "resize": [StrOptions({way for way in RESIZES if way}), None],
        "interpolation": [StrOptions(set(INTERPOLATIONS))],
        "background": [str],
        "n_jobs": [Integral, None],
        "on_error": [StrOptions({"raise", "warn"})],
    }

    def __init__(
        self,
        image_size=None,
        *,
        mode="RGB",
        resize="crop",
        interpolation="bilinear",
        background="white",
        n_jobs=None,
        on_error="raise",
    ) -> None:
        self.image_size = image_size
        self.mode = mode
        self.resize = resize
        self.interpolation = interpolation
        self.background = background
        self.n_jobs = n_jobs
        self.on_error = on_error

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None) -> ImageReader:
        """Check the options; there is nothing to learn.

        Parameters
        ----------
        X : array-like of paths (n,)
        y : ignored

        Returns
        -------
        self : ImageReader
        """
        self._options()
        if not is_images(X):
            paths_of(X)
        return self

    def fit_transform(self, X, y=None) -> NDArray[Any]:
        """Read the files; with `y`, none of them can be left out.

        Parameters
        ----------
        X : array-like of paths (n,)
        y : array-like (n,) or None

        Returns
        -------
        images : ndarray of float32 (n, H, W, 3), or (n, H, W) with mode "L"

        Raises
        ------
        ValueError
            As :meth:`transform` does, and where a file of a labeled picture can't be read.
        """
        if y is None or self.on_error == "raise":
            return self.fit(X, y).transform(X)
        images, failed = self.fit(X, y).read(X)
        if failed:
            raise ValueError(
                f"{_told(failed)}  Their labels would be left over: use "
                "datasets.load_image_folder, or take them out of X and y."
            )
        return images

    def transform(self, X) -> NDArray[Any]:
        """Read the files.

        Parameters
        ----------
        X : array-like of paths (n,)
            A list, an array, a column of a frame; str or path-like objects.  Images, an array of
            numbers (n, H, W, C) or (n, H, W), are handed on as they are.

        Returns
        -------
        images : ndarray of float32 (n, H, W, 3), or (n, H, W) with mode "L"
            From 0 (black) to 1.  With ``on_error="warn"`` there are fewer than paths where files
            can't be read.

        Raises
        ------
        ValueError
            If a file can't be read, sizes differ, or an option is out of range.
        TypeError
            If X holds something else than paths.
        """
        images, failed = self.read(X)
        if failed:
            warnings.warn(_told(failed), UserWarning, stacklevel=2)
        return images

    def read(self, X) -> tuple[NDArray[Any], dict[int, str]]:
        """Read the files, and say which could not be read.

        Parameters
        ----------
        X : array-like of paths (n,), or of images

        Returns
        -------
        images : ndarray of float32 (m, H, W, 3), or (m, H, W) with mode "L"
        failed : dict of int to str
            By its place in X, why a file could not be read.  Empty with ``on_error="raise"``.
        """
        self._validate_params()
        if is_images(X):
            return X, {}
        images, failed = self._read(paths_of(X))
        if not len(images):
            raise ValueError(f"None of the files can be read.  {_told(failed)}")
        return images, failed

    def batches(self, X) -> Iterator[NDArray[Any]]:
        """Read the files, and hand on some images at a time.

        Parameters
        ----------
        X : array-like of paths (n,)

        Yields
        ------
        images : ndarray of float32 (m, H, W, 3), or (m, H, W) with mode "L"
            All of one size.

        Raises
        ------
        ValueError, TypeError
            As :meth:`transform` does.
        """
        self._validate_params()
        paths, like, told = paths_of(X), None, {}
        for start in range(0, len(paths), _OF_A_BATCH):
            images, failed = self._read(paths[start : start + _OF_A_BATCH], like)
            told.update({start + at: why for at, why in failed.items()})
            if len(images):
                like = images.shape[1:]
                yield images
        if like is None:
            raise ValueError(f"None of the files can be read.  {_told(told)}")
        if told:
            warnings.warn(_told(told), UserWarning, stacklevel=2)

    def _each(self, paths):
        """The place of each path, and its image or the ValueError that says what is wrong."""
        options = self._options()
        return _read_all(paths, options.pop("size"), options, self.n_jobs)

    def _read(self, paths, like=None, bar=None):
        """As `read`; `like` is the shape that images must have.  There may be none."""
        images, kept, failed = None, 0, {}
        for at, found in self._each(paths):
            if bar is not None:
                bar.update()
            if isinstance(found, ValueError):
                if self.on_error == "raise":
                    raise found
                failed[at] = str(found)
                continue
            like = found.shape if like is None else like
            if found.shape != like:
                raise ValueError(
                    f"{os.fspath(paths[at])}: it has {_sides(found.shape)}, the pictures before "
                    f"it have {_sides(like)}: set image_size."
                )
            if images is None:
                images = np.empty((len(paths), *found.shape), dtype=np.float32)
            images[kept] = found
            kept += 1
        return np.empty((0, 0, 0)) if images is None else images[:kept], failed

    def _options(self):
        """How to read one picture, checked."""
        from PIL import ImageColor

        size = self.image_size
        if size is not None:
            pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
            if len(pair) != 2 or not all(_is_side(n) for n in pair):
                raise ValueError(
                    f"image_size must be a positive integer or (H, W), got {self.image_size!r}."
                )
            size = (int(pair[0]), int(pair[1]))  # NumPy integers, too
        try:
            ImageColor.getrgb(self.background)
        except ValueError as error:
            raise ValueError(
                f"background must be the name of a color or '#rrggbb', got {self.background!r}."
            ) from error
        names = ("mode", "resize", "interpolation", "background")
        return {"size": size, **{name: getattr(self, name) for name in names}}

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.input_tags.one_d_array = True
        return tags


def reader_of(steps):
    """The reader of files, frozen or not, that steps begin with, or None."""
    first = next(iter(steps), None)
    first = first.estimator if isinstance(first, FrozenEstimator) else first
    return first if isinstance(first, ImageReader) else None


def in_batches(reader, X):
    """What a reader makes of paths or of an iterator of batches of them; all else as it is."""
    if holds_paths(X):
        return reader.batches(X)
    if isinstance(X, Iterator):
        return (reader.transform(part) if holds_paths(part) else part for part in X)
    return X


def is_images(X):
    """Whether X is an array of images already, and not of paths."""
    return isinstance(X, np.ndarray) and X.dtype.kind in "biuf" and X.ndim in (3, 4)


def holds_paths(X):
    """Whether X, or its first entry, is a path."""
    if isinstance(X, (str, os.PathLike)):
        return True
    if isinstance(X, (list, tuple)):
        return bool(X) and isinstance(X[0], (str, os.PathLike))
    if not hasattr(X, "shape") or not hasattr(X, "__array__"):
        return False
    if isinstance(X, np.ndarray) and X.dtype.kind in "biufc":
        return False
    first = np.asarray(of_torch(X[:1])).ravel()[:1].tolist()
    return bool(first) and isinstance(first[0], (str, os.PathLike))


def paths_of(X):
    """A list of paths.

    Raises
    ------
    TypeError
        If there is something else among them.
    ValueError
        If there are none, or several columns.
    """
    if isinstance(X, (str, bytes, os.PathLike)):
        raise TypeError(f"X must be a list of paths, got one path: pass [{os.fspath(X)!r}].")
    shape: tuple = np.shape(X) if hasattr(X, "shape") else ()
    if shape[2:] or shape[1:] not in ((), (1,)):
        raise ValueError(f"X must be paths (n,) or (n, 1), got an array of {shape}.")
    paths = np.asarray(X, dtype=object).ravel().tolist() if len(shape) > 1 else list(X)
    for at, path in enumerate(paths):
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(
                f"X must hold paths, str or path-like, got {type(path).__name__} at {at}."
            )
    if not paths:
        raise ValueError("X holds no paths: give one at least.")
    return paths


def _read_all(paths, size, options, n_jobs):
    """The place of each path, and its image or the ValueError that says what is wrong."""
    starts = range(0, len(paths), _AT_ONCE)
    parts = ((paths[at : at + _AT_ONCE], size, options) for at in starts)
    at = 0
    for images in over_parts(_read_some, parts, n_jobs):
        for image in images:
            yield at, image
            at += 1


def _read_some(paths, size, options):
    found: list = []
    for path in paths:
        try:
            found.append(read_picture(path, size, **options))
        except ValueError as error:
            found.append(error)
    return found


def _told(failed):
    """What could not be read, the first of many by name."""
    named = "; ".join(list(failed.values())[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    return f"{len(failed)} picture(s) could not be read: {named}{more}."


def _is_side(n):
    return isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n > 0


def _sides(shape):
    return f"{shape[0]} x {shape[1]} pixels (height x width)"
