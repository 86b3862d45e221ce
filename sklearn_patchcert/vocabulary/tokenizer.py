"""What a fitted vocabulary does: tokenize, transform and certify, as a scikit-learn transformer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from sklearn_patchcert._layouts import as_batch
from sklearn_patchcert._ranges import quiet, range_of
from sklearn_patchcert._state import VersionedState
from sklearn_patchcert._validation import (
    LARGEST,
    _check_feature_names_in,
    check_image_shape,
    check_options,
    check_output_of_images,
    check_patch_size,
    clip_patch,
    images_and_range,
    own_or_shared,
    search_device,
    shape_of,
)
from sklearn_patchcert.parallel import alone, over_parts
from sklearn_patchcert.patches import grid_shape
from sklearn_patchcert.vocabulary import encoding
from sklearn_patchcert.vocabulary.batches import batches_of, gathered, judged
from sklearn_patchcert.vocabulary.clustering.distinct import distinct_tokens
from sklearn_patchcert.voronoi import certificate
from sklearn_patchcert.voronoi.engines.devices import resolved

_VALUES_AT_ONCE = 2**20
_UNLESS_COPIED = 4  # times as many


class PatchTokenizer(VersionedState, TransformerMixin, BaseEstimator):
    """Base of the vocabularies: everything that needs tokens, nothing that learns them.

    A subclass has the parameters `image_shape`, `output`, `device`, `n_jobs` and `verbose` and sets
    `vocabulary_`, `patch_size_`, `per_channel_` and, where they are known, `image_shape_` and
    `sample_shape_`, the shape in which it was given an image.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    @classmethod
    def from_tokens(cls, tokens, *, patch_size, image_shape=None, per_channel=False) -> Any:
        """Make a fitted vocabulary from your own tokens.

        Parameters
        ----------
        tokens : array-like (n_tokens, patch_dim) or (n_channels, n_tokens, patch_dim)
            Each token is a flattened patch, channels last.  Copies of a token are dropped.
        patch_size : int or tuple of (int, int)
        image_shape : tuple (H, W) or (H, W, C), default=None
            None: images of any size are accepted.
        per_channel : bool or "shared", default=False

        Returns
        -------
        vocabulary : PatchVocabulary

        Raises
        ------
        ValueError
            If the tokens are not finite or do not fit `patch_size` and `image_shape`.

        Examples
        --------
        >>> from sklearn_patchcert import PatchVocabulary
        >>> black_white = PatchVocabulary.from_tokens([[0.0], [1.0]], patch_size=1)
        >>> black_white.certify([[[0.1, 0.7]]]).round(6)
        array([[[0.4, 0.2]]])
        """
        tokens = np.asarray(tokens)
        if tokens.dtype.kind not in "fiub":
            raise ValueError(f"tokens must be numbers, got {tokens.dtype}.")
        tokens = tokens if tokens.dtype == np.float32 else tokens.astype(np.float64)
        self = cls(1, patch_size, image_shape=image_shape, per_channel=per_channel)
        self._validate_params()
        self.per_channel_ = own_or_shared(per_channel)
        if tokens.ndim != (3 if self.per_channel_ is True else 2) or 0 in tokens.shape:
            axes = "(C, n_tokens, patch_dim)" if per_channel is True else "(n_tokens, patch_dim)"
            raise ValueError(f"tokens must be {axes} and not empty, got {tokens.shape}.")
        if not float(np.abs(tokens).max()) <= LARGEST:
            raise ValueError(f"tokens must be finite and at most {LARGEST:g} in magnitude.")
        self.patch_size_ = check_patch_size(patch_size)
        area, dim = math.prod(self.patch_size_), tokens.shape[-1]
        if dim % area or (per_channel and dim != area):
            raise ValueError(f"tokens of {dim} values do not fit patch_size={patch_size!r}.")
        if image_shape is not None:
            self.image_shape_ = check_image_shape(image_shape)
            self.sample_shape_ = self.image_shape_[: len(tuple(image_shape))]
            self.n_features_in_ = math.prod(self.image_shape_)
            if self.patch_size_ != clip_patch(self.patch_size_, self.image_shape_):
                raise ValueError(f"patch_size={patch_size!r} is larger than {image_shape=}.")
        parts = [distinct_tokens(part) for part in self._own(tokens)]
        self._set_tokens(parts, [np.zeros(len(part), dtype=np.int64) for part in parts])
        sizes = tuple(map(len, parts))  # what partial_fit goes on with
        self.n_tokens = sizes if len(set(sizes)) > 1 else sizes[0]
        self.history_, self.n_iter_ = [], 0
        if image_shape is not None:
            self._check_channels(self.image_shape_[2])
        return self

    def transform(self, X) -> NDArray[Any]:
        """Discretize images.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        X_out : ndarray
            With `output="images"` images made of tokens, of the shape of X and the dtype of
            `vocabulary_`, so that what comes after sees the tokens alone, whatever the dtype of X.
            With `output="ids"` the token ids, int64, (n, n_patches).
        """
        if isinstance(X, Iterator):
            raise TypeError(
                "transform needs all images at once; tokenize and certify do not. Put the batches "
                "together, np.concatenate(list(batches))."
            )
        X = as_batch(X)
        if self.output == "images":
            check_output_of_images(self, X)

        if self.output == "ids":
            (ids,) = self._over_batches(X, self._encoded)
            return ids.reshape(len(ids), -1)
        return self._over_batches(X, self._encoded, join=True)[0].reshape(tuple(X.shape))

    def tokenize(self, X) -> NDArray[np.int64]:
        """Find the index of the nearest token of every patch.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C), or iterator of such batches

        Returns
        -------
        ids : ndarray of int64 (n, rows, cols) or, with tokens by channel, (n, rows, cols, C)
            The first index where several tokens are equally near.
        """
        return self._map(*self._over_batches(X, self._encoded))

    def inverse_transform(self, ids) -> NDArray[Any]:
        """Make images of the tokens with the given ids.

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
        shape = getattr(self, "image_shape_", None)
        if shape is None:
            if ids.ndim < 3:
                raise ValueError("Without an image_shape the ids must be a map (n, rows, cols).")
            sides = np.multiply(ids.shape[1:3], self.patch_size_)
            channels = self._channels() or ids.shape[-1]
            shape = int(sides[0]), int(sides[1]), channels
        grid = *grid_shape(shape, self.patch_size_), count_groups(shape, self.per_channel_)
        ids = encoding.checked_ids(ids, self.vocabulary_.shape[-2], grid)
        images = encoding.decode(ids, image_shape=shape, **self._code())
        return images.reshape(len(ids), *getattr(self, "sample_shape_", shape))

    def certify(self, X, norm="l2", *, return_witness=False) -> Any:
        """Compute the patch radii: within its radius, a patch keeps its token.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C), or iterator of such batches
            A memory-mapped array is read piece by piece, an iterator is never held as a whole.
        norm : {"l2", "linf", "l1"}, default="l2"
            The norm, within a patch, of the perturbation.
        return_witness : bool, default=False
            Whether to return, too, what shows that the radii are tight.

        Returns
        -------
        radii : ndarray of float64, the shape of :meth:`tokenize`'s ids
            In the units of X, exact but for rounding, and always rounded down: for every float32
            or float64 array within the radii and without values beyond 1e150, :meth:`transform`
            returns the same tokens.  Every patch may change at once, each by less than its own
            radius.  For one budget over the whole image, only the smallest radius is guaranteed.
            The sum of patch radii is not a certificate.
        witness : Bunch
            With `return_witness` only.  ``tokens``, the ids of the tokens behind the nearest walls,
            -1 where there is none; ``perturbation``, of the shape of X, the smallest one that takes
            every patch onto its nearest wall, NaN where there is none.  Moved by 1.001 times as
            much, a patch has another token.

        Raises
        ------
        ValueError
            If the norm is unknown or X is not what the vocabulary was fitted to.
        TypeError
            If a subclass has its own `tokenize` or `transform`.
        """
        return self._radii(X, norm, return_witness=return_witness)

    def get_feature_names_out(self, input_features=None) -> NDArray[Any]:
        """Get the names of the columns that :meth:`transform` returns for rows.

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
        grid = np.ndindex(rows, cols, count_groups(self.image_shape_, self.per_channel_))
        axes = 3 if self.per_channel_ else 2
        return np.array(["patch_" + "_".join(map(str, at[:axes])) for at in grid], dtype=object)

    def _check(self, X):
        return self._checked(X)[0]

    def _checked(self, X, as_given=False):
        """Images (n, H, W, C), and the range of their values; None if these are yet to be seen."""
        images, limits, _ = images_and_range(
            self, X, image_shape=self.image_shape, channels=self._channels(), as_given=as_given
        )
        self._check_channels(images.shape[3])
        return images, limits

    def _check_own_tokens(self):
        """Refuse to certify what a subclass computes in its own way."""
        for name in ("transform", "tokenize"):
            if getattr(type(self), name) is not getattr(PatchTokenizer, name):
                raise TypeError(
                    f"{type(self).__name__} has a {name} of its own, of which nothing is known: "
                    "certify a PatchVocabulary."
                )

    def _channels(self):
        """How many channels the tokens speak of; None where any number shares them."""
        if self.per_channel_ == "shared":
            return None
        if self.per_channel_:
            return len(self.vocabulary_)
        return self.vocabulary_.shape[-1] // math.prod(self.patch_size_)

    def _check_channels(self, channels):
        if self._channels() not in (None, channels):
            raise ValueError(
                f"The images have {channels} channels, the tokens are made for {self._channels()}."
            )

    def _radii(self, X, norm, *, before=None, owner=None, return_witness=False):
        """What :meth:`certify` returns.

        `before` is what a pipeline, the `owner`, does first: from a batch of its own input it
        computes a batch of ours, and the keyword arguments of encoding.certify that describe the
        way.  The range of X is judged by that of the owner.
        """
        certificate.check_norm(norm)
        self._check_own_tokens()

        def compute(images, **description):
            found = encoding.certify(
                images,
                norm=norm,
                return_witness=return_witness,
                **description,
                **self._code(),
            )
            return found if return_witness else (found,)

        X = X if isinstance(X, Iterator) else as_batch(X)
        radii, *witness = self._over_batches(
            X, compute, norm=norm, before=before, owner=owner,
            plain=before is None and not return_witness,
        )  # fmt: skip
        if not return_witness:
            return self._map(radii)
        others, steps = witness
        layout = steps.shape if isinstance(X, Iterator) else shape_of(X)
        return self._map(radii), Bunch(tokens=self._map(others), perturbation=steps.reshape(layout))

    def _code(self):
        return {
            "vocabulary": self.vocabulary_,
            "patch_size": self.patch_size_,
            "per_channel": bool(self.per_channel_),
        }

    def _encoded(self, images, device):
        return (encoding.encode(images, device=device, **self._code()),)

    def _over_batches(
        self, X, compute, *, norm=None, join=False, before=None, owner=None, plain=True
    ):
        """Arrays that compute(images) makes of a bounded number of images at once, put together.

        With `join`, images are made of the ids that it computes.  On the CPU, where X is not scaled
        before, `plain` ids or radii are found without a copy of the images.
        """
        check_is_fitted(self, "vocabulary_")
        check_options(self, "output", "n_jobs", "verbose")

        def checked(batch):
            given, description, device = batch, {}, self._search_device(batch)
            if before is not None:
                with quiet():
                    given, description = before(batch)
            images, limits = self._checked(given, as_given=plain and encoding.is_cpu(device))
            if limits is None:
                return self._ranged(given, images, norm, device)
            if before is not None:
                limits = range_of(np.asarray(batch))
            return limits, compute(images, device=device, **description)

        X = X if isinstance(X, Iterator) else as_batch(X)
        several = not alone(self.n_jobs)
        values = _VALUES_AT_ONCE * (1 if several or not plain else _UNLESS_COPIED)
        batches, n = batches_of(X, values, copied=several and isinstance(X, Iterator))
        pieces = over_parts(checked, batches, self.n_jobs)
        bar = tqdm(desc=type(self).__name__, total=n, unit="image", disable=not self.verbose)
        with bar, closing(pieces):
            arrays = judged(pieces, self if owner is None else owner, X)
            return self._joined(arrays, X, bar) if join else gathered(arrays, n, bar)

    def _search_device(self, batch):
        device, parts = search_device(self.device), self._own(self.vocabulary_)
        return resolved(device, np.size(batch) if device == "auto" else 0, 1, max(map(len, parts)))

    def _ranged(self, given, images, norm, device):
        """The range, and the ids or radii, of images whose values nobody has looked at."""
        try:
            found, limits = encoding.ranged(images, norm=norm, device=device, **self._code())
        except ValueError:
            self._checked(given)  # tells what is wrong as everywhere else
            raise
        return limits, (found,)

    def _joined(self, pieces, X, bar):
        """Images made of all ids of X, each written once, into its place."""
        images, start = np.empty(0), 0
        for (ids,) in pieces:
            if not start:  # now X is known to be right
                shape = getattr(self, "image_shape_", None) or self._check(X[:1]).shape[1:]
                images = np.empty((len(X), *shape), self.vocabulary_.dtype)
            stop = start + len(ids)
            encoding.join(ids, images=images[start:stop], **self._code())
            bar.update(stop - start)
            start = stop
        return (images,)

    def _map(self, values):
        """(n, rows, cols, groups) as users see it: the last axis where channels are apart."""
        return values if self.per_channel_ else values[..., 0]

    def _own(self, array):
        """One entry for each vocabulary, whether there is one or one for each channel."""
        return array if self.per_channel_ is True else array[None]

    def _set_tokens(self, tokens, counts):
        size = max(map(len, tokens))
        tokens = [np.pad(t, ((0, size - len(t)), (0, 0)), mode="edge") for t in tokens]
        counts = [np.pad(c, (0, size - len(c))) for c in counts]
        by_channel = self.per_channel_ is True
        self.vocabulary_ = np.stack(tokens) if by_channel else tokens[0]
        self.token_counts_ = np.stack(counts) if by_channel else counts[0]


def count_groups(image_shape, per_channel):
    """Number of parts into which the channels of a patch fall: each by itself, or all as one."""
    return image_shape[2] if per_channel else 1
