"""Torch modules that classify images, and the skorch estimators around them.

`modules` and `fast_modules` use only torch.  `estimators` train them, and `fitting` disturbs the
training images before they become tokens.  `additive` bounds networks that are sums over patches.
"""

from sklearn_patchcert.networks.estimators import PatchNetClassifier, PatchNetRegressor
from sklearn_patchcert.networks.fast_modules import WhiteningConvNet
from sklearn_patchcert.networks.fitting.flip_training import random_affine, random_crop
from sklearn_patchcert.networks.modules import (
    AdditivePatchNet,
    ImageResNet,
    PatchConvNet,
    PatchResNet,
)

__all__ = [
    "AdditivePatchNet",
    "ImageResNet",
    "PatchConvNet",
    "PatchNetClassifier",
    "PatchNetRegressor",
    "PatchResNet",
    "WhiteningConvNet",
    "random_affine",
    "random_crop",
]
