"""The fit of a classifier behind masks: a network trains with masks, then the plan is made."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import (
    _safe_indexing,
    check_array,
    check_consistent_length,
    column_or_1d,
    get_tags,
)
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.multiclass import check_classification_targets

from sklearn_patchcert._layouts import as_batch
from sklearn_patchcert._ranges import quiet
from sklearn_patchcert._state import all_or_nothing
from sklearn_patchcert._validation import (
    Integral,
    _fit_context,
    check_image_shape,
    check_images,
)
from sklearn_patchcert.checks import sticker_sizes
from sklearn_patchcert.prediction.estimator_tree import nested
from sklearn_patchcert.prediction.masking.masks import hides_all, mask_plan, window_of
from sklearn_patchcert.prediction.masking.remembered import Decisions
from sklearn_patchcert.prediction.masking.training import with_masks
from sklearn_patchcert.prediction.masking.views import check_mask, images_of

if TYPE_CHECKING:
    _Base: Any = BaseEstimator
else:
    _Base = object

_OF_PIXELS = 6  # masks along each axis, where pixels are masked
_DERIVED = "masks_", "_made_plan", "_decisions"


class MaskedFit(_Base):
    """Mixin of what is certified against stickers: its fit, and what of it a pickle holds."""

    @_fit_context(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(self, X, y, **fit_params) -> Any:
        """Fit the estimator, a network with masks in its training.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
            Or paths (n,), if the pipeline begins with an :class:`ImageReader`.
        y : array-like (n,)
        **fit_params
            Go to the estimator's fit, by metadata routing if that is enabled.  `sample_weight`
            goes to the last step of a pipeline.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If a classifier is given where a regressor is wanted, or the other way round, or a step
            before the vocabulary does not treat every pixel by itself.
        ValueError
            If there are several outputs, an option is out of range, or the estimator takes images
            in another shape than `image_shape`.

        Warns
        -----
        UserWarning
            If a mask hides whole images.
        """
        y = self._check_task(y)
        sizes = sticker_sizes(self.sticker_size)
        check_mask(self.mask)
        read = images_of(self.estimator, X, y)
        batch = as_batch(read)
        images = check_images(self, batch, reset=True, image_shape=self._shape(self.estimator))
        check_consistent_length(images, y)
        estimator = clone(self.estimator)
        with quiet():
            plan, params = partial(self._plan_of, sizes), self._routed(estimator, fit_params)
            net = with_masks(estimator, plan, self) if self.mask_training else None
            estimator.fit(X, y, **params)
            if net is not None:
                net.set_params(mask_training=None)  # only training has them
        shape = self._shape(estimator)
        if self.image_shape is not None and shape != check_image_shape(self.image_shape):
            raise ValueError(
                f"image_shape is {tuple(self.image_shape)}, but the estimator took the images as "
                f"{shape}: set image_shape of its step that reads rows, too."
            )
        self.estimator_ = estimator
        self._take_outputs()
        if shape is not None and shape != self.image_shape_:
            images = check_images(self, batch, reset=True, image_shape=shape)
        view = self._view()
        view.check(batch)
        self.mask_space_, self.grid_, self.cell_size_ = view.space, view.grid, view.patch_size
        with quiet():
            self.mask_values_ = view.values(self.mask, batch, images)
            like = view.given(_safe_indexing(batch, [0]), images[:1])
            self._check_answers(view, like)
        self.given_shape_ = tuple(like.shape[1:])
        self.mask_plan_ = self._plan_of(sizes, view.grid, view.patch_size, view.space)
        if hides_all(view.grid, *self.mask_plan_[:2]):
            warnings.warn(
                f"A mask for sticker_size={self.sticker_size} hides all {view.grid[0]} x "
                f"{view.grid[1]} {view.space}, so every image gets the same answer behind it, and "
                "what is certified says nothing about images: take smaller stickers, more masks, "
                "or more patches.",
                UserWarning,
                stacklevel=4,
            )
        self._make_plan()
        return self

    def _take_outputs(self):
        """What the fitted estimator can answer."""

    def _check_answers(self, view, given):
        """Refuse a fitted estimator that answers an image with anything but one value."""

    def _make_plan(self):
        """What follows from the other attributes of a fitted one."""
        self._made_plan = mask_plan(self.grid_, *self.mask_plan_)
        self.masks_, self._decisions = self._made_plan.masks, Decisions()

    def __getstate__(self):
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in _DERIVED}

    def __setstate__(self, state):
        super().__setstate__(state)
        if hasattr(self, "mask_plan_"):
            self._make_plan()

    def _check_task(self, y):
        """Targets (n,), if there is one for each image and the estimator can predict such."""
        name, kind = type(self).__name__, get_tags(self).estimator_type
        given = get_tags(self.estimator).estimator_type
        if {kind, given} == {"classifier", "regressor"}:
            raise TypeError(
                f"{type(self.estimator).__name__} is a {given}, but {name} is for a {kind}. Use "
                f"StickerCertified{given.title()}."
            )
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
        if len(shape) > 1 and shape[1] > 1:
            raise ValueError(
                f"y of shape {shape} has several {'labels' if kind == 'classifier' else 'values'} "
                f"for each image, but {name} is for one: fit one model for each column."
            )
        y = column_or_1d(y, warn=True)
        if kind == "classifier":
            check_classification_targets(y)
            return y
        return check_array(y, ensure_2d=False, input_name="y")

    def _shape(self, estimator):
        """Shape (H, W, C) of images as a part of the estimator, or the user, has it, else None."""
        parts = nested(estimator)
        told = [getattr(part, "image_shape_", None) for part in parts]
        told += [self.image_shape, *(getattr(part, "image_shape", None) for part in parts)]
        said = next((one for one in told if one is not None), None)
        return None if said is None else check_image_shape(said)

    def _sticker_sizes(self):
        """Heights and widths of the stickers that the masks of a fitted one are made for."""
        sizes = sticker_sizes(self.sticker_size)
        windows, _, n_stickers = self.mask_plan_
        if (_windows(sizes, self.cell_size_, self.grid_), self.n_stickers) != (windows, n_stickers):
            raise ValueError(
                "The masks are made for other stickers than sticker_size and n_stickers say: they "
                "were changed after fit. Fit the model again."
            )
        return sizes

    def _plan_of(self, sizes, grid, cell, space):
        """Windows, masks along each axis and number of stickers, as mask_plan takes them."""
        counts = self.n_masks if self.n_masks or space == "tokens" else _OF_PIXELS
        if isinstance(counts, tuple) and not (
            len(counts) == 2 and all(isinstance(one, Integral) and one >= 1 for one in counts)
        ):
            raise ValueError(f"n_masks must be a positive int or a pair of them, got {counts}.")
        windows = _windows(sizes, cell, grid)
        pair = counts if isinstance(counts, tuple) else (counts, counts)
        pair = tuple(None if one is None else int(one) for one in pair)
        return windows, None if None in pair else pair, int(self.n_stickers)

    def _routed(self, estimator, params):
        """Parameters for the fit of the estimator."""
        if get_config()["enable_metadata_routing"]:
            return process_routing(self, "fit", **params).estimator.fit if params else {}
        if "sample_weight" in params and isinstance(estimator, Pipeline):
            params[f"{estimator.steps[-1][0]}__sample_weight"] = params.pop("sample_weight")
        return params

    def get_metadata_routing(self) -> Any:
        """Where metadata such as `sample_weight` goes.

        Returns
        -------
        routing : MetadataRouter
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self).add(estimator=self.estimator, method_mapping=mapping)


def _windows(sizes, cell, grid):
    """The windows of cells that stickers of some sizes touch, each once."""
    return tuple(dict.fromkeys(window_of(size, cell, grid) for size in sizes))
