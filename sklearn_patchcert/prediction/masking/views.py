"""What is masked: the tokens of a certified pipeline, or the pixels of any other classifier.

Both are rows of values, each of which belongs to a cell of a grid.  A masked image is such a row
whose values in the hidden cells are replaced by fixed ones.

In a pipeline the row is what the vocabulary hands on.  A sticker changes only the tokens of the
patches that it touches, and a patch that moves by less than its radius keeps its token.  So an
attacked image and the clean one are the same row behind a mask that covers the sticker, although
all other patches have moved.  For that, the steps before the vocabulary must treat every pixel by
itself.
"""

from __future__ import annotations

from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing

from sklearn_patchcert._validation import BaseSearchCV
from sklearn_patchcert.datasets.readers import holds_paths, reader_of
from sklearn_patchcert.patches import grid_shape
from sklearn_patchcert.prediction.answers import reader
from sklearn_patchcert.prediction.estimator_tree import inner, is_pipeline, real_steps
from sklearn_patchcert.preprocessing import scaled
from sklearn_patchcert.vocabulary import encoding
from sklearn_patchcert.vocabulary.estimator import PatchVocabulary

_LARGEST = float(np.finfo(np.float32).max)
_ENOUGH = 4096  # images for the mean color of tokens


def images_of(estimator, X, y=None):
    """X, or what a reader of files at the beginning of a pipeline makes of paths."""
    steps = [step for _, step in real_steps(estimator)] if isinstance(estimator, Pipeline) else []
    found = reader_of(steps) if steps and holds_paths(X) else None
    return X if found is None else found.fit_transform(X, y)


def tokens_of(estimator):
    """Steps before the vocabulary but for a reader of files, the vocabulary, and what comes after.

    Parameters
    ----------
    estimator : classifier
        A pipeline with a vocabulary among its steps, or a search or FrozenEstimator around one.

    Returns
    -------
    before : list of transformers
    vocabulary : PatchVocabulary
    after : Pipeline
        Or None, instead of all three, for any other classifier.
    """
    while not _is_new_search(estimator) and (inside := inner(estimator)) is not None:
        estimator = inside
    if not is_pipeline(estimator, "predict_proba"):
        return None
    for at, (_, step) in enumerate(estimator.steps):
        found = step.estimator if isinstance(step, FrozenEstimator) else step
        if isinstance(found, PatchVocabulary) and at + 1 < len(estimator.steps):
            before = [step for _, step in real_steps(Pipeline(estimator.steps[: at + 1]))[:-1]]
            before = before[reader_of(before) is not None :]
            return before, found, Pipeline(estimator.steps[at + 1 :])
    return None


def _is_new_search(estimator):
    return isinstance(estimator, BaseSearchCV) and not hasattr(estimator, "best_estimator_")


class MaskedView:
    """A fitted classifier as a function of masked rows.

    Parameters
    ----------
    estimator : fitted classifier
    image_shape : tuple (H, W, C)
    classes : ndarray (n_classes,)

    Attributes
    ----------
    space : {"tokens", "pixels"}
        What is masked.
    grid : tuple (rows, cols)
        Of the cells: patches or pixels.
    patch_size : tuple (height, width)
        Of a cell, in pixels.
    cells : ndarray of int (n_values,)
        The cell of each value of a row.
    """

    def __init__(self, estimator, image_shape, classes):
        self.classes, self.image_shape = classes, image_shape
        parts = tokens_of(estimator)
        self.before: list = []
        self.vocabulary: Any = None
        self.rest: Any = Pipeline([("estimator", estimator)])
        self.space, self.patch_size = "pixels", (1, 1)
        if parts is not None:
            self.before, self.vocabulary, self.rest = parts
            self.vocabulary._check_own_tokens()
            self.space, self.patch_size = "tokens", self.vocabulary.patch_size_
        self.grid = grid_shape(image_shape, self.patch_size)
        rows, cols = self.grid
        at = np.arange(rows * cols).reshape(self.grid)
        if self.images:
            at = at.repeat(self.patch_size[0], 0).repeat(self.patch_size[1], 1)
            at, groups = at[: image_shape[0], : image_shape[1]], image_shape[2]
        else:
            groups = image_shape[2] if self.vocabulary.per_channel_ else 1
        self.cells = at.reshape(-1).repeat(groups)

    @property
    def images(self):
        """Whether rows are images."""
        return self.vocabulary is None or self.vocabulary.output == "images"

    def given(self, X, images):
        """What is masked, as the steps after it are given it; X, and the same as checked images.

        Returns
        -------
        given : array or frame (n, ...)
        """
        if self.vocabulary is not None:
            return self.vocabulary.transform(self._scaled(X)[0])
        given = images.astype(np.float64).reshape(len(images), *np.shape(X)[1:])  # of any dtype
        return type(X)(given, columns=X.columns) if hasattr(X, "columns") else given

    def of_tokens(self, ids, shape):
        """What is masked, in a shape, for token ids (n, rows, cols) or (n, rows, cols, C)."""
        groups = self.image_shape[2] if self.vocabulary.per_channel_ else 1
        n_tokens = self.vocabulary.vocabulary_.shape[-2]
        made = encoding.checked_ids(ids, n_tokens, (*self.grid, groups))
        if self.images:
            made = encoding.decode(made, image_shape=self.image_shape, **self.vocabulary._code())
        made = made.reshape(len(made), *shape)
        names = getattr(real_steps(self.rest)[0][1], "feature_names_in_", None)
        if names is None:
            return made
        import pandas as pd  # there is such a frame: the vocabulary has made one in fit

        return pd.DataFrame(made, columns=names)

    def radii(self, X, norm):
        """Patch radii in the units of X, or None for pixels."""
        if self.vocabulary is None:
            return None
        before = partial(scaled, self.before, self.vocabulary) if self.before else None
        return self.vocabulary._radii(X, norm, before=before)

    def check(self, X):
        """Refuse steps before the vocabulary that do not treat every pixel by itself."""
        self._scaled(_safe_indexing(X, [0]))

    def _scaled(self, X):
        copy = X.copy() if hasattr(X, "copy") else np.array(X)  # a step may work in place
        return scaled(self.before, self.vocabulary, copy) if self.before else (copy, {})

    def values(self, mask, X, images):
        """The fixed values (n_values,) that replace hidden ones.

        Parameters
        ----------
        mask : "mean", token id, or array-like that broadcasts to an image (H, W, C)
        X : array-like (n, ...)
            Training images, for the mean.
        images : ndarray (n, H, W, C)
            The same, checked.
        """
        if self.vocabulary is None:
            return _constant(mask, images, self.image_shape)
        ids: Any
        if isinstance(mask, Integral):
            mask = int(mask)
            tokens = self.vocabulary._own(self.vocabulary.vocabulary_)
            sizes = [encoding.count_own(part) for part in tokens]
            if not 0 <= mask < min(sizes):
                raise ValueError(f"mask={mask} is not one of the tokens 0 to {min(sizes) - 1}.")
            groups = self.image_shape[2] if self.vocabulary.per_channel_ else 1
            ids = np.full((1, *self.grid, groups), mask)
        elif self.images:
            made = None
            if isinstance(mask, str):
                made = np.asarray(self.given(_some(X), images)).reshape(-1, *self.image_shape)
            return _constant(mask, made, self.image_shape)
        elif isinstance(mask, str):
            before = self.vocabulary._check(self._scaled(_some(X))[0])
            mean = _constant(mask, before, self.image_shape)
            ids = self.vocabulary.tokenize(mean.reshape(1, *self.image_shape))
            return ids.reshape(-1)
        else:
            raise ValueError(
                'With output="ids" of the vocabulary, mask must be "mean" or a token id, got '
                f"{mask!r}."
            )
        if not self.images:
            return ids.reshape(-1)
        made = encoding.decode(ids, image_shape=self.image_shape, **self.vocabulary._code())
        return made.reshape(-1)

    def masked(self, given, values, rows, hidden):
        """Some masked images, as the steps after are given them.

        Parameters
        ----------
        given : array or frame (n, ...)
            What :meth:`given` returns.
        values : ndarray (n_values,)
            What :meth:`values` returns.
        rows : ndarray of int (m,)
            Which images.
        hidden : ndarray of bool (m, rows * cols)
            Which cells of each are hidden.

        Returns
        -------
        masked : array or frame (m, ...)
        """
        flat = np.asarray(given).reshape(len(given), -1)
        made = np.where(hidden[:, self.cells], values.astype(flat.dtype), flat[rows])
        return _in_layout(made, given)

    def predict(self, masked):
        """Index of the class of each of some masked images."""
        return self._codes(self.rest.predict(masked))

    def numbers(self, masked):
        """The value (m,) of a regressor for each of some masked images."""
        found, count = np.asarray(self.rest.predict(masked)), len(masked)
        if found.shape not in ((count,), (count, 1)) or found.dtype.kind not in "biufO":
            raise ValueError(
                f"The regressor predicts an array of shape {found.shape} and dtype {found.dtype} "
                f"for {count} images, but it must predict one number for each: fit one model for "
                "each target."
            )
        return found.reshape(count).astype(np.float64)

    def read(self):
        """A function of masked images: class indices, and which of them rounding cannot change."""
        ask = reader(self.rest)

        def read(masked):
            labels, sure = ask(masked)
            return self._codes(labels), sure

        return read

    def _codes(self, labels):
        labels = np.asarray(labels)
        if labels.ndim != 1:
            raise ValueError(
                f"The classifier predicts arrays of shape {labels.shape[1:]} for an image: double "
                "masking is for one output."
            )
        order = np.argsort(self.classes, kind="stable")
        at = np.searchsorted(self.classes, labels, sorter=order).clip(max=len(order) - 1)
        codes = order[at]
        if (self.classes[codes] != labels).any():
            strange = list(dict.fromkeys(labels[self.classes[codes] != labels].tolist()))
            raise ValueError(
                f"The classifier predicts {strange!r:.80}, not among its classes_ "
                f"{self.classes.tolist()!r:.80}."
            )
        return codes


def _constant(mask, images, shape):
    """The values of an image (H, W, C): the mean color of some images, or what is given."""
    if isinstance(mask, str):
        made = images.mean((0, 1, 2), dtype=np.float64).astype(images.dtype)
    else:
        made = np.asarray(mask)
        if made.ndim == 2 and made.shape == shape[:2]:
            made = made[..., None]
    try:
        made = np.broadcast_to(made, shape)
    except ValueError:
        raise ValueError(
            f"mask of shape {np.shape(mask)} does not broadcast to an image {shape}."
        ) from None
    return made.reshape(-1)


def _some(X):
    """Images that are enough for a mean color."""
    return _safe_indexing(X, np.arange(0, len(X), -(-len(X) // _ENOUGH)))


def check_mask(mask):
    """Refuse what is not "mean", a number or an array of numbers that float32 holds."""
    if isinstance(mask, str) and mask == "mean":
        return
    numbers = np.asarray(mask) if not isinstance(mask, str | bool | None) else None
    if (
        numbers is None
        or numbers.dtype.kind not in "iuf"
        or not (np.abs(numbers) <= _LARGEST).all()
    ):
        raise ValueError(
            'mask must be "mean", a token id, or numbers that are finite in float32 and broadcast '
            f"to an image, got {mask!r:.80}."
        )


def _in_layout(rows, like):
    """Rows (m, n_values) in the layout of a batch, a frame with the same columns if it is one."""
    made = rows.reshape(len(rows), *np.shape(like)[1:])
    return type(like)(made, columns=like.columns) if hasattr(like, "columns") else made
