"""Masks in the training of a network inside an estimator that is to be certified."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from sklearn_patchcert._validation import check_patch_size, clip_patch
from sklearn_patchcert.networks.estimators import PatchNetClassifier, PatchNetRegressor
from sklearn_patchcert.networks.fitting.mask_training import RandomMasks
from sklearn_patchcert.patches import grid_shape
from sklearn_patchcert.prediction.masking.masks import mask_plan
from sklearn_patchcert.prediction.masking.views import tokens_of


def with_masks(estimator, plan, options):
    """Let the network inside an unfitted estimator train with masks.

    Parameters
    ----------
    estimator : classifier or regressor
        Changed in place if it, or its last step, is a PatchNetClassifier or a PatchNetRegressor.
    plan : callable, (grid, cell, space) -> arguments of mask_plan
    options : StickerCertifiedClassifier or StickerCertifiedRegressor
        Has the shape of the images, what replaces hidden parts, and how many sets of masks are
        drawn for an image.

    Returns
    -------
    net : PatchNetClassifier, PatchNetRegressor or None
        The one that was changed.
    """
    net = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    nets = PatchNetClassifier, PatchNetRegressor
    if not isinstance(net, nets) or net.mask_training is not None:
        return None
    if net.certified_radius:
        raise ValueError(
            "certified_radius of the network never trains on masks: set mask_training=False of the "
            f"{type(options).__name__}, or certified_radius=0."
        )
    image_shape, mask = options.image_shape_, options.mask
    parts, cell, space = tokens_of(estimator), (1, 1), "pixels"
    if parts is not None:
        own = getattr(parts[1], "patch_size_", parts[1].patch_size)
        cell, space = clip_patch(check_patch_size(own), image_shape), "tokens"
    grid = grid_shape(image_shape, cell)
    masks = mask_plan(grid, *plan(grid, cell, space)).masks
    pixels = masks.repeat(cell[0], 1).repeat(cell[1], 2)[:, : image_shape[0], : image_shape[1]]
    values: Any = None
    if isinstance(mask, Integral) and parts is not None:
        values = int(mask)
    elif not isinstance(mask, str):
        made = np.asarray(mask, dtype=np.float32)
        made = made[..., None] if made.ndim == 2 else made
        values = np.moveaxis(np.broadcast_to(made, image_shape), 2, 0)
    drawn = RandomMasks(pixels, values, candidates=int(options.mask_training))
    return net.set_params(mask_training=drawn)
