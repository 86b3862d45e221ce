"""A model from a file, and images as it takes them."""

from __future__ import annotations

import itertools
import math
import os
from typing import Any

import numpy as np

from sklearn_patchcert._ranges import _is_another
from sklearn_patchcert.cli.options import Impossible
from sklearn_patchcert.cli.stickers.images import is_masked
from sklearn_patchcert.cli.talking import first_line, spoken_warnings
from sklearn_patchcert.datasets.readers import ImageReader
from sklearn_patchcert.files.archive import MAX_BYTES, ModelFileError
from sklearn_patchcert.files.model_files import load


class Opened:
    """A model from a file, and how pictures are read for it.

    Parameters
    ----------
    path : Path
    scale : float or None
    max_bytes : int or None
    jobs : int or None

    Attributes
    ----------
    model : estimator
        With maps: a vocabulary, a certified pipeline, or one that is certified against stickers.
    vocabulary : PatchVocabulary or None
        None if a model masks pixels.
    masked : bool
        Whether the model decides by double masking.
    reader : ImageReader
        The model's own, or one that is made for it.
    factor : float or None
        What the images of the reader are multiplied by; None if that is not known.
    shape : tuple (H, W, C) or None
        Of an image.
    """

    def __init__(self, path, *, scale=None, max_bytes=None, jobs=None):
        self.model = read_model(path, max_bytes)
        hush(self.model)
        self.vocabulary, self.masked = vocabulary_of(self.model), is_masked(self.model)
        of = self.model if self.vocabulary is None else self.vocabulary
        self.shape = getattr(of, "image_shape_", None)
        self.sample = getattr(of, "sample_shape_", getattr(of, "given_shape_", None))
        self.limits = getattr(self.model, "input_range_", None)
        pipeline = getattr(self.model, "estimator_", self.model)
        own: Any = pipeline._reader() if hasattr(pipeline, "_reader") else None
        self.has_reader = own is not None
        if self.has_reader:
            if scale is not None:
                raise Impossible("--scale is for models without a reader; this one has its own")
            self.reader, self.factor = own, 1.0
        else:
            self.channels = self.vocabulary._channels() if self.shape is None else self.shape[2]
            size = None if self.shape is None else tuple(self.shape[:2])
            mode = "RGB" if self.channels == 3 else "L"
            self.reader = ImageReader(size, mode=mode, resize=None)
            self.factor = self._factor(scale)
        self.reader.set_params(n_jobs=jobs, on_error="warn")

    def _factor(self, scale):
        """How bright white is for a model that was fitted on arrays."""
        if scale is None:
            if self.limits is None or self.limits[0] < 0:
                return None
            high = self.limits[1]
            return 1.0 if 0.5 <= high <= 1 else 255.0 if 127.5 <= high <= 255 else None
        white = 255 / scale
        low, high = self.limits or (0.0, white)
        standardized = low < -0.05 * (high - low)
        if standardized or _is_another((low, high), (0.0, white), 10**6, None):
            raise Impossible(
                f"with --scale {scale:g}, pictures have values from 0 to {white:g}, and the model "
                f"was fitted on {_said(self.limits)}: radii would mean nothing"
            )
        return white

    def check(self, files):
        """Refuse pictures whose values cannot be brought to those of the model's training.

        Parameters
        ----------
        files : dict of str to Path

        Raises
        ------
        Impossible
        """
        if self.has_reader or all(_is_array(path) for path in files.values()):
            return
        if self.channels not in (1, 3, None):
            raise Impossible(
                f"the model takes images of {self.channels} channels, and pictures have 1 or 3: "
                "give .npy arrays"
            )
        if self.factor is None:
            known = "does not say which values its images have"
            if self.limits is not None:
                known = f"was fitted on arrays with {_said(self.limits)}"
            raise Impossible(
                f"the model {known}, so pictures need --scale, what their values 0..255 are to be "
                "divided by: 1 for a model of 0..255, 255 for one of 0..1. For a model of "
                "standardized images give .npy arrays, in its own units"
            )

    def each(self, files, left_out):
        """The name and the image of every file that can be read, as the model takes it.

        Parameters
        ----------
        files : dict of str to Path
        left_out : LeftOut

        Yields
        ------
        name : str
        X : ndarray (1, H, W[, C])
        """
        for name, found in self._read(files):
            if isinstance(found, ValueError):
                why = str(found).removeprefix(f"{os.fspath(files[name])}: ")
                left_out.add(name, why.partition(': resize="crop"')[0])
                left_out.bar.update()
            else:
                yield name, found[None]

    def _read(self, files):
        """Names, and images or the ValueErrors that say what is wrong."""
        if self.has_reader:
            names = list(files)
            for at, found in self.reader._each(list(files.values())):
                yield names[at], found
            return
        for arrays, some in itertools.groupby(files, lambda name: _is_array(files[name])):
            names = list(some)
            if arrays:
                for name in names:
                    yield name, self._array(files[name])
                continue
            for at, found in self.reader._each([files[name] for name in names]):
                if not isinstance(found, ValueError):
                    found = self._laid_out(found * np.float32(self.factor))
                yield names[at], found

    def _array(self, path):
        """An array in the model's own units, or the ValueError that says what is wrong."""
        shape = (None, None, self.channels) if self.shape is None else self.shape
        try:
            array = read_array(path, shape)
        except (ValueError, OSError, EOFError, SyntaxError) as error:
            return ValueError(first_line(error))
        limits = float(array.min()), float(array.max())
        if self.limits is not None and _is_another(self.limits, limits, 1, array):
            return ValueError(
                f"it has {_said(limits)}, and the model was fitted on {_said(self.limits)}: "
                "radii would mean nothing"
            )
        return self._laid_out(array)

    def _laid_out(self, image):
        """An image in the layout of the model's training."""
        sample = self.sample
        fits = sample is not None and math.prod(sample) == image.size
        return image.reshape(sample) if fits else image

    def picture(self, X):
        """An image as uint8 (H, W, 3), stretched from black to white if its range is not known."""
        shape = self.shape if self.shape is not None else (*X.shape[1:], 1)[:3]
        image = X.reshape(shape).astype(np.float64)
        if self.factor is not None:
            image = image / self.factor
        elif (wide := np.ptp(image)) > 0:
            image = (image - image.min()) / wide
        if shape[2] not in (1, 3):
            image = image.mean(-1, keepdims=True)
        pixels = np.clip(image, 0, 1) * 255
        return np.broadcast_to(pixels.round().astype(np.uint8), (*shape[:2], 3))


def read_array(path, shape):
    """One image from an array in a file, with its own values.

    Parameters
    ----------
    path : Path
    shape : tuple (H, W, C)
        What the image must have; None in it stands for any.

    Returns
    -------
    image : ndarray (H, W, C)

    Raises
    ------
    ValueError, OSError, EOFError
        If it can't be read, has another shape, or values that are not finite.
    """
    array = np.load(path, mmap_mode="r", allow_pickle=False)  # whose values are not read yet
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError("it is an archive of arrays")
    if None not in shape and array.shape == (math.prod(shape),):
        array = array.reshape(shape)
    if array.ndim == 2 and shape[2] in (1, None):
        array = array[..., None]
    fits = array.ndim == 3 and array.size > 0
    if not fits or any(n not in (None, own) for own, n in zip(array.shape, shape, strict=True)):
        sides = " x ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"an array {array.shape} is not one image of {sides}")
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8 or not np.isfinite(array).all():
        raise ValueError("its values are not all finite numbers")
    return np.array(array)


def _is_array(path):
    return path.suffix.lower() == ".npy"


def _said(limits):
    return f"values from {limits[0]:g} to {limits[1]:g}"


def read_model(path, max_bytes=None):
    """A model from a file; what is no model is refused."""
    try:
        return load(path, max_bytes=max_bytes or MAX_BYTES)
    except ModelFileError as error:
        raise Impossible(error) from None


def open_model(options):
    """The model that the options of a command name."""
    with spoken_warnings():
        return Opened(
            options.model, scale=options.scale, max_bytes=options.max_bytes, jobs=options.jobs
        )


def hush(model):
    """Let a model show no bars of its own."""
    inside = getattr(model, "estimator_", model)
    for step in [model, *(step for _, step in getattr(inside, "steps", []))]:
        step = getattr(step, "estimator", step)
        if hasattr(step, "verbose"):
            step.verbose = type(step.verbose)()


def vocabulary_of(model):
    """The fitted vocabulary of a model that has maps; None if a model masks pixels."""
    if is_masked(model):
        return model._view().vocabulary
    if hasattr(model, "tokenize"):
        vocabulary = model
    elif hasattr(model, "certify") and hasattr(model, "_split"):
        try:
            _, vocabulary = model._split()
        except ValueError as error:
            raise Impossible(error) from None
    else:
        raise Impossible(
            f"the model is a {type(model).__name__}, which has no map of radii: only vocabularies, "
            "certified pipelines and sticker-certified classifiers have"
        )
    if not hasattr(vocabulary, "vocabulary_"):
        raise Impossible("the model is not fitted")
    return vocabulary


def answered(answer, model, name, X, left_out):
    """What a function of a model and an image says; None, and listed, if the model refuses it."""
    try:
        return answer(model, X)
    except TypeError as error:  # of a step before the vocabulary: so it is for all images
        raise Impossible(first_line(error)) from None
    except ValueError as error:
        left_out.add(name, error)
        left_out.bar.update()
        return None
