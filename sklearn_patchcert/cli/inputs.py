"""From paths to batches of images as a model takes them; what cannot be read is listed."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sklearn_patchcert.cli.options import Impossible
from sklearn_patchcert.datasets.folders import find_pictures
from sklearn_patchcert.datasets.pictures import picture_suffixes
from sklearn_patchcert.datasets.readers import ImageReader
from sklearn_patchcert.files.archive import MAX_BYTES, ModelFileError
from sklearn_patchcert.files.model_files import load

_VALUES_AT_ONCE = 2**22  # of a batch of images


class LeftOut:
    """What was not done, and why; a bar and messages above it.

    Parameters
    ----------
    quiet : bool
    """

    def __init__(self, quiet):
        self.reasons: dict = {}
        self.quiet = quiet
        self.bar: Any = None

    @contextlib.contextmanager
    def progress(self, total, description):
        """A bar over images, with their rate."""
        with tqdm(
            total=total, desc=description, unit="image", disable=self.quiet, file=sys.stderr
        ) as self.bar:
            yield self.bar

    def add(self, name, error):
        """Leave a file out, and say so."""
        self.reasons[name] = first_line(error)
        tqdm.write(f"patchcert: left out {shown(name)}: {self.reasons[name]}", file=sys.stderr)

    def summary(self):
        """How many files were left out, by reason."""
        counts = collections.Counter(self.reasons.values())
        listed = "; ".join(f"{count} {reason}" for reason, count in counts.most_common())
        return f"{len(self.reasons)} left out" + (f" ({listed})" if listed else "")

    def end(self, done):
        """Say what was done, and how much was not."""
        if not self.quiet:
            print(f"patchcert: {done}; {self.summary()}", file=sys.stderr)

    @property
    def status(self):
        """Exit status."""
        return 1 if self.reasons else 0


def shown(name):
    """A name of a file for a terminal, which no control character can take over."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(name))


def first_line(error):
    """The first line of what an error says."""
    return shown(next(iter(str(error).splitlines()), "") or type(error).__name__)


def find_files(places, left_out, apart_from=None):
    """Pictures that are meant by files and folders.

    Parameters
    ----------
    places : list of Path
        Folders are searched with all that is below them; what is hidden is passed over.
    left_out : LeftOut
        Is told of files that are no pictures by their names.
    apart_from : Path or None
        The folder that is written to: nothing below it is read.

    Returns
    -------
    found : dict of str to Path
        By the name below the folder, or below the folder of all places; sorted.

    Raises
    ------
    Impossible
        If there are none.
    """
    parents = [os.path.abspath(p if p.is_dir() else p.parent) for p in places]
    root = os.path.commonpath(parents)
    apart = None if apart_from is None else Path(os.path.realpath(apart_from))
    found: dict = {}
    for place in places:
        if place.is_dir():
            pictures, others = find_pictures(place)
            own = [path for path in pictures if not _is_below(path, apart)]
            others = {path: why for path, why in others.items() if not _is_below(path, apart)}
        elif place.suffix.lower() in picture_suffixes() or not place.exists():
            own, others = [str(place)], {}
        else:
            own, others = [], {str(place): "not the name of a picture"}
        for path in own:
            found[below(path, root)] = Path(path)
        for path, why in others.items():
            left_out.add(below(path, root), why)
    if not found:
        raise Impossible("there are no pictures")
    return dict(sorted(found.items()))


def below(path, folder):
    """The name of a file below a folder."""
    return Path(os.path.relpath(os.path.abspath(path), os.path.abspath(folder))).as_posix()


def _is_below(path, folder):
    return folder is not None and folder in Path(os.path.realpath(path)).parents


class Opened:
    """A model from a file, and how pictures are read for it.

    Attributes
    ----------
    model : estimator
        With maps: a vocabulary or a certified pipeline.
    vocabulary : PatchVocabulary
    reader : ImageReader
    factor : float
        What the images of the reader are multiplied by.
    shape : tuple (H, W, C) or None
        Of an image.
    """

    def __init__(self, path, *, scale=None, max_bytes=None, jobs=None):
        try:
            self.model = load(path, max_bytes=max_bytes or MAX_BYTES)
        except ModelFileError as error:
            raise Impossible(error) from None
        hush(self.model)
        self.vocabulary = vocabulary_of(self.model)
        self.shape = getattr(self.vocabulary, "image_shape_", None)
        own = getattr(self.model, "steps", [(None, None)])[0][1]
        self.has_reader = isinstance(own, ImageReader)
        if self.has_reader:
            if scale is not None:
                raise Impossible("--scale is for models without a reader; this one has its own")
            self.reader, self.factor = own, 1.0
        else:
            self.reader, self.factor = self._made(scale)
        self.reader.set_params(n_jobs=jobs, on_error="warn")

    def _made(self, scale):
        """A reader for a model that was fitted on arrays, and what its images are multiplied by."""
        if self.shape is None:
            channels = self.vocabulary._channels()
            size = None
        else:
            *size, channels = self.shape
        if channels not in (1, 3, None):
            raise Impossible(f"the model takes images of {channels} channels, pictures have 1 or 3")
        low, high = getattr(self.model, "input_range_", None) or (-1.0, 0.0)
        if scale is not None:
            factor = 255 / scale
        elif low >= 0 and high <= 1:
            factor = 1.0
        elif low >= 0 and 1 < high <= 255:
            factor = 255.0
        else:
            raise Impossible(
                "the model does not say what range its images have: say with --scale what values "
                "of 0..255 are to be divided by, 1 for a model of 0..255, 255 for one of 0..1"
            )
        mode = "RGB" if channels == 3 else "L"
        return ImageReader(None if size is None else tuple(size), mode=mode, resize=None), factor

    def batches(self, files, left_out, at_once=None):
        """Names and images of the files, a few at once, as the model takes them.

        Parameters
        ----------
        files : dict of str to Path
        left_out : LeftOut
        at_once : int or None
            Images of a batch at most; None: as many as take little memory.

        Yields
        ------
        names : list of str
        X : ndarray (m, H, W[, C])
            Of one shape.
        """
        names, waiting = list(files), []  # type: list[str], list
        for at, found in self.reader._each(list(files.values())):
            if isinstance(found, ValueError):
                left_out.add(names[at], _without(files[names[at]], found))
                left_out.bar.update()
                continue
            most = at_once or max(1, _VALUES_AT_ONCE // found.size)
            if waiting and (found.shape != waiting[0][1].shape or len(waiting) >= most):
                yield self._batch(waiting)
                waiting = []
            waiting.append((names[at], found))
        if waiting:
            yield self._batch(waiting)

    def _batch(self, waiting):
        names, images = zip(*waiting, strict=True)
        X = np.stack(images)
        if self.factor != 1:
            X = (X * np.float32(self.factor)).astype(np.float32)
        return list(names), self.laid_out(X)

    def picture(self, image):
        """One image of a batch as uint8 (H, W, 3)."""
        shape = self.shape if self.shape is not None else (*image.shape, 1)[:3]
        pixels = np.clip(image.reshape(shape) / self.factor, 0, 1) * 255
        return np.broadcast_to(pixels.round().astype(np.uint8), (*shape[:2], 3))

    def laid_out(self, X):
        """Images in the layout of the model's training, if that is another than the reader's."""
        sample = getattr(self.vocabulary, "sample_shape_", X.shape[1:])
        whole = int(np.prod(X.shape[1:])) == int(np.prod(sample))
        return X.reshape(len(X), *sample) if whole and not self.has_reader else X


def hush(model):
    """Let a model show no bars of its own."""
    for step in [model, *(step for _, step in getattr(model, "steps", []))]:
        step = getattr(step, "estimator", step)
        if hasattr(step, "verbose"):
            step.verbose = type(step.verbose)()


def _without(path, error):
    return str(error).removeprefix(f"{os.fspath(path)}: ")


def vocabulary_of(model):
    """The vocabulary of a model that has maps."""
    kind = type(model).__name__
    if hasattr(model, "tokenize"):
        vocabulary = model
    elif hasattr(model, "certify") and hasattr(model, "_split"):
        try:
            _, vocabulary = model._split()
        except ValueError as error:
            raise Impossible(error) from None
    else:
        raise Impossible(
            f"the model is a {kind}, which has no map of radii: only vocabularies and certified "
            "pipelines have"
        )
    if not hasattr(vocabulary, "vocabulary_"):
        raise Impossible("the model is not fitted")
    return vocabulary


@contextlib.contextmanager
def spoken_warnings():
    """Warnings as lines of the command, each once."""
    with warnings.catch_warnings():
        said = set()

        def say(message, category, filename, lineno, file=None, line=None):
            text = first_line(message)
            if text not in said:
                said.add(text)
                tqdm.write(f"patchcert: warning: {text}", file=sys.stderr)

        warnings.showwarning = say
        yield


def told(result, as_json, text):
    """Print a result, as JSON or as text."""
    print(json.dumps(result, indent=2, default=_plain) if as_json else text)


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


def open_model(options):
    """The model that the options of a command name."""
    with spoken_warnings():
        return Opened(
            options.model, scale=options.scale, max_bytes=options.max_bytes, jobs=options.jobs
        )


def one_by_one(answers, model, names, X, left_out):
    """What a function of a model and images says of each; what the model refuses is left out."""
    try:
        found = list(answers(model, X))
    except TypeError as error:  # of a step before the vocabulary: so it is for all images
        raise Impossible(first_line(error)) from None
    except ValueError as error:
        if len(names) == 1:
            left_out.add(names[0], error)
            left_out.bar.update()
            return
        for at, name in enumerate(names):  # which one is it?
            yield from one_by_one(answers, model, [name], X[at : at + 1], left_out)
        return
    yield from zip(names, found, strict=True)
