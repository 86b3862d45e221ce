"""Torch modules that classify images, and the skorch estimators around them.

`modules` and `fast_modules` use only torch.  `estimators` train them, and `fitting` disturbs the
training images before they become tokens.  `transfer` is for networks that come with weights.
`additive` bounds networks that are sums over patches.
"""

from sklearn_patchcert.networks.estimators import PatchNetClassifier, PatchNetRegressor
from sklearn_patchcert.networks.fast_modules import WhiteningConvNet
from sklearn_patchcert.networks.fitting.flip_training import random_affine, random_crop
from sklearn_patchcert.networks.fitting.mask_training import RandomMasks
from sklearn_patchcert.networks.modules import (
    AdditivePatchNet,
    ImageResNet,
    PatchConvNet,
    PatchResNet,
)
from sklearn_patchcert.networks.transfer.features import TorchFeatures
from sklearn_patchcert.networks.transfer.preprocessed import Preprocessed

__all__ = [
    "AdditivePatchNet",
    "ImageResNet",
    "PatchConvNet",
    "PatchNetClassifier",
    "PatchNetRegressor",
    "PatchResNet",
    "Preprocessed",
    "RandomMasks",
    "TorchFeatures",
    "WhiteningConvNet",
    "random_affine",
    "random_crop",
]
