"""What a fitted vocabulary does: tokenize, transform and certify, as a scikit-learn transformer."""

from __future__ import annotations

import math

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import gen_batches
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from sklearn_patchcert import encoding, voronoi
from sklearn_patchcert._validation import (
    VersionedState,
    _check_feature_names_in,
    check_device,
    check_images,
    shape_of,
)
from sklearn_patchcert.patches import grid_shape

_IMAGES_AT_ONCE = 1024


class PatchTokenizer(VersionedState, TransformerMixin, BaseEstimator):
    """Base of the vocabularies: everything that needs tokens, nothing that learns them.

    A subclass has the parameters `image_shape`, `per_channel`, `output`, `device`, `n_jobs` and
    `verbose` and sets `vocabulary_`, `patch_size_` and, where they are known, `image_shape_` and
    `sample_shape_`, the shape in which it was given an image.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if self.output == "ids":
            tags.transformer_tags.preserves_dtype = []
        return tags

    def transform(self, X):
        """Discretise images.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        X_out : ndarray
            With `output="images"` images made of tokens, of the shape of X.  With `output="ids"`
            the token ids, int64, (n, n_patches).
        """
        images, ids = self._encode(X)
        if self.output == "ids":
            return ids.reshape(len(ids), -1)
        made = encoding.decode(ids, image_shape=images.shape[1:], **self._code())
        return made.astype(images.dtype, copy=False).reshape(shape_of(X))

    def tokenize(self, X):
        """Index of the nearest token of every patch.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        ids : ndarray of int64 (n, rows, cols) or, with tokens by channel, (n, rows, cols, C)
            The first index where several tokens are equally near.
        """
        return self._map(self._encode(X)[1])

    def inverse_transform(self, ids):
        """Images made of the tokens named by their ids.

        Parameters
        ----------
        ids : array-like of int
            As :meth:`tokenize` or, with `output="ids"`, :meth:`transform` return them.

        Returns
        -------
        images : ndarray
            In the layout, rows or images, that fit was given.

        Raises
        ------
        ValueError
            If the ids are no integers, out of range, or not as many as the image has patches.
        """
        check_is_fitted(self, "vocabulary_")
        ids = np.asarray(ids)
        if ids.dtype.kind not in "iu":
            raise ValueError(f"Token ids must be integers, got {ids.dtype}.")
        if ids.size and not (ids.min() >= 0 and ids.max() < self.vocabulary_.shape[-2]):
            raise ValueError(
                f"Token ids must lie in 0..{self.vocabulary_.shape[-2] - 1}, "
                f"got {ids.min()}..{ids.max()}."
            )
        shape = getattr(self, "image_shape_", None)
        if shape is None:
            if ids.ndim < 3:
                raise ValueError("Without an image_shape the ids must be a map (n, rows, cols).")
            sides = np.multiply(ids.shape[1:3], self.patch_size_)
            channels = self._channels() or ids.shape[-1]
            shape = int(sides[0]), int(sides[1]), channels
        grid = *grid_shape(shape, self.patch_size_), count_groups(shape, self.per_channel)
        if ids.ndim < 2 or ids.size != len(ids) * math.prod(grid):
            raise ValueError(f"An image has {grid} patches (rows, cols, groups), got {ids.shape}.")
        images = encoding.decode(ids.reshape(-1, *grid), image_shape=shape, **self._code())
        return images.reshape(len(ids), *getattr(self, "sample_shape_", shape))

    def certify(self, X, norm="l2"):
        """Radius inside which every patch keeps its token, whatever comes after.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        norm : {"l2", "linf", "l1"}, default="l2"
            The norm, within a patch, of the perturbation.

        Returns
        -------
        radii : ndarray of float64, the shape of :meth:`tokenize`'s ids
            In the units of X, exact but for rounding, and always rounded down: for every float
            array within the radii, :meth:`transform` returns the same tokens.  The map certifies
            the product of the balls, that is, all patches together.  The largest ball of the whole
            image inside it has the smallest of an image's radii as its radius; their sum is a
            slack statistic, not a radius.

        Raises
        ------
        ValueError
            If the norm is unknown or X is not what the vocabulary was fitted to.
        """
        return self._radii(X, norm)

    def get_feature_names_out(self, input_features=None):
        """Names of the columns that :meth:`transform` makes of rows.

        Parameters
        ----------
        input_features : array-like of str or None

        Returns
        -------
        names : ndarray of str
            The input's names, or with `output="ids"` "patch_{row}_{col}" (and "_{channel}").
        """
        check_is_fitted(self, "vocabulary_")
        names = _check_feature_names_in(self, input_features)
        if self.output == "images":
            return names
        rows, cols = grid_shape(self.image_shape_, self.patch_size_)
        grid = np.ndindex(rows, cols, count_groups(self.image_shape_, self.per_channel))
        axes = 3 if self.per_channel else 2
        return np.array(["patch_" + "_".join(map(str, at[:axes])) for at in grid], dtype=object)

    def _check(self, X):
        check_is_fitted(self, "vocabulary_")
        images = check_images(self, X, reset=False, image_shape=self.image_shape)
        self._check_channels(images.shape[3])
        return images

    def _channels(self):
        """How many channels the tokens speak of; None where any number shares them."""
        if self.per_channel == "shared":
            return None
        if self.per_channel:
            return len(self.vocabulary_)
        return self.vocabulary_.shape[-1] // math.prod(self.patch_size_)

    def _check_channels(self, channels):
        if self._channels() not in (None, channels):
            raise ValueError(
                f"The images have {channels} channels, the tokens are made for {self._channels()}."
            )

    def _encode(self, X):
        images, device = self._check(X), check_device(self.device)

        def compute(batch):
            return encoding.encode(images[batch], device=device, **self._code())

        return images, self._over_batches(compute, len(images))

    def _radii(self, X, norm, *, scale=1.0, error=None, error_growth=0.0):
        """Radii in the units of an input from which X was computed: see encoding.certify."""
        voronoi.check_norm(norm)
        images, device = self._check(X), check_device(self.device)

        def compute(batch):
            return encoding.certify(
                images[batch],
                norm=norm,
                scale=scale,
                error=None if error is None else error[batch],
                error_growth=error_growth,
                device=device,
                **self._code(),
            )

        return self._map(self._over_batches(compute, len(images)))

    def _code(self):
        return {
            "vocabulary": self.vocabulary_,
            "patch_size": self.patch_size_,
            "per_channel": bool(self.per_channel),
        }

    def _over_batches(self, compute, n):
        batches = list(gen_batches(n, _IMAGES_AT_ONCE))
        bar = tqdm(batches, desc=type(self).__name__, disable=not self.verbose)
        return np.concatenate(
            Parallel(n_jobs=self.n_jobs, prefer="threads")(delayed(compute)(b) for b in bar)
        )

    def _map(self, values):
        """(n, rows, cols, groups) as users see it: the last axis where channels are apart."""
        return values if self.per_channel else values[..., 0]


def count_groups(image_shape, per_channel):
    """Number of parts into which the channels of a patch fall: each by itself, or all as one."""
    return image_shape[2] if per_channel else 1
