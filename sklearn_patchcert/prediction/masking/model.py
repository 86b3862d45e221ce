"""What classifiers and regressors behind masks share: options, masked images, a memory."""

from __future__ import annotations

from functools import partial
from itertools import compress
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert._layouts import as_batch
from sklearn_patchcert._ranges import quiet
from sklearn_patchcert._state import VersionedState
from sklearn_patchcert._validation import (
    HasMethods,
    Integral,
    Interval,
    Real,
    check_images,
)
from sklearn_patchcert.prediction.fingerprints import fingerprint
from sklearn_patchcert.prediction.masking.deciding import Setting, check_one_at_a_time, in_parts
from sklearn_patchcert.prediction.masking.fitting import MaskedFit
from sklearn_patchcert.prediction.masking.remembered import keys_of
from sklearn_patchcert.prediction.masking.views import MaskedView, images_of

_VALUES_AT_ONCE = 2**24  # of masked images, whatever the batch size


class MaskedModel(MaskedFit, VersionedState, MetaEstimatorMixin, BaseEstimator):
    """Base of :class:`StickerCertifiedClassifier` and :class:`StickerCertifiedRegressor`."""

    _made_by_fit: tuple[str, ...] = (
        "estimator_", "mask_values_", "mask_plan_", "given_shape_", "grid_", "cell_size_",
        "mask_space_", "image_shape_",
    )  # fmt: skip

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"])],
        "sticker_size": [Integral, tuple, list],
        "mask": [str, Real, "array-like"],
        "n_masks": [None, Interval(Integral, 1, None, closed="left"), tuple],
        "n_stickers": [Interval(Integral, 1, 2, closed="both")],
        "mask_training": ["boolean", Interval(Integral, 1, None, closed="left")],
        "image_shape": [None, tuple, list],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator,
        sticker_size=5,
        *,
        mask="mean",
        n_masks=None,
        n_stickers=1,
        mask_training=True,
        image_shape=None,
        batch_size=512,
        n_jobs=None,
        verbose=0,
    ) -> None:
        self.estimator = estimator
        self.sticker_size = sticker_size
        self.mask = mask
        self.n_masks = n_masks
        self.n_stickers = n_stickers
        self.mask_training = mask_training
        self.image_shape = image_shape
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _checked(self, X):
        """X as something that has a shape, and as images (n, H, W, C)."""
        check_is_fitted(self)
        self._validate_params()  # what was set since the fit
        self._check_cells(self._view())
        X = self._batch(X)
        return X, check_images(self, X, reset=False, image_shape=self.image_shape_)

    def _batch(self, X):
        """X as something that has a shape; the estimator may read files."""
        check_is_fitted(self)
        return as_batch(images_of(self.estimator_, X))

    def _check_cells(self, view):
        """Refuse an estimator that was fitted again and has other patches than the masks."""
        own = self.mask_space_, self.grid_, self.cell_size_
        if (view.space, view.grid, view.patch_size) != own:
            raise ValueError(
                f"The masks are for a grid of {self.grid_} patches, but the estimator, which was "
                f"fitted again, has one of {view.grid}: fit {type(self).__name__} again."
            )

    def _view(self):
        return MaskedView(self.estimator_, self.image_shape_, getattr(self, "classes_", None))

    def _given(self, view, X, images):
        """What is masked, in the layout that the steps after the masks were fitted with."""
        with quiet():
            given = view.given(X, images)
        as_fitted = given.shape[1:] == self.given_shape_
        return given if as_fitted else np.asarray(given).reshape(len(given), *self.given_shape_)

    def _given_tokens(self, ids):
        """The same of token ids."""
        check_is_fitted(self)
        view = self._view()
        self._check_cells(view)
        if view.vocabulary is None:
            raise TypeError("predict_tokens is for a pipeline with a vocabulary.")
        return view.of_tokens(ids, self.given_shape_)

    def _setting(self):
        most = max(1, _VALUES_AT_ONCE // len(self.mask_values_))
        size = min(int(self.batch_size), most)
        return Setting(self._view(), self._made_plan, self.mask_values_, size)

    def _key(self):
        """Of all that a decision depends on."""
        return fingerprint((self.estimator_, self.mask_values_, self.masks_))

    def _ask(self, X, images, work, *, width=None, certify=False, complete=None):
        """Columns of what some work of :mod:`deciding` finds, also of what is remembered.

        Parameters
        ----------
        X, images
            What :meth:`_checked` returns.
        work : callable
            Of :func:`in_parts`.
        width : int or None
            How many columns to return; decisions that are remembered may have more.
        certify : bool
            Whether to remember the decisions, and to refuse an estimator whose answers depend on
            chance or on other images.
        complete : callable, columns -> ndarray of bool (m,), or None
            Which decisions are worth remembering.  None: all.

        Returns
        -------
        columns : list of ndarray (n, ...)
        """
        kept: list[Any] = [None] * len(images)
        if certify or len(self._decisions):
            keys = keys_of(self._key(), X)
            kept = self._decisions.get(keys)
        left = [at for at, one in enumerate(kept) if one is None]
        if left:
            given = self._given(self._view(), _safe_indexing(X, left), images[left])
            setting, keep = self._setting(), None
            if certify:
                check_one_at_a_time(setting, given)
                keep = partial(self._keep, [keys[at] for at in left], complete)
            label = ("certifying" if certify else "predicting") if self.verbose else None
            columns = in_parts(work, setting, given, self.n_jobs, label, keep)
            for at, *found in zip(left, *columns, strict=True):
                kept[at] = tuple(found)
        return [np.array(column) for column in zip(*(one[:width] for one in kept), strict=True)]

    def _keep(self, keys, complete, part, columns):
        found = list(zip(keys[part], zip(*columns, strict=True), strict=True))
        if complete is not None:
            found = list(compress(found, complete(columns)))
        if found:
            self._decisions.put(*zip(*found, strict=True))
