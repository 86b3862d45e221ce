"""Models of many kinds, each with how its images are brought, for the tests of model files."""

import functools

import numpy as np
import pandas as pd
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import CategoricalNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)

from sklearn_patchcert import (
    CertifiedCommittee,
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
    SmoothedClassifier,
    StickerCertifiedClassifier,
    StickerCertifiedRegressor,
)
from sklearn_patchcert.networks.fast_modules import WhiteningConvNet
from sklearn_patchcert.networks.fitting.flip_training import random_affine, random_crop
from sklearn_patchcert.networks.modules import AdditivePatchNet, ImageResNet, PatchResNet
from sklearn_patchcert.vocabulary.denoising import denoise

N = 200


def vocabulary(**options):
    options = {"strategy": "kmeans", "random_state": 0, "patch_size": 4, **options}
    return PatchVocabulary(8, **options)


def network(kind=PatchNetClassifier, **options):
    small = {} if "module" in options else {"module__width": 4, "module__hidden": 8}
    return kind(max_epochs=1, random_state=0, **small, **options)


def classifier(*before, net=None, **options):
    steps = [(f"scale{i}", step) for i, step in enumerate(before)]
    return CertifiedPatchClassifier(
        [*steps, ("vocab", vocabulary(**options)), ("clf", net or network())]
    )


def colours(X):
    return np.stack([X, X[:, ::-1], X**2], axis=-1).reshape(len(X), 8, 8, 3)


def frame(X):
    return pd.DataFrame(X).add_prefix("x")


def words(y):
    return np.array(["digit " + str(label) for label in y])


def committee(shapes=((4, 4), (8, 2), (2, 8))):
    return CertifiedCommittee(
        [
            (
                str(shape),
                CertifiedPatchClassifier(
                    [
                        ("vocab", vocabulary(patch_size=shape, output="ids")),
                        ("clf", CategoricalNB(min_categories=8)),
                    ]
                ),
            )
            for shape in shapes
        ]
    )


def ids_model():
    return Pipeline(
        [
            ("vocab", vocabulary(output="ids")),
            ("onehot", OneHotEncoder(handle_unknown="ignore", dtype=np.float32)),
            ("clf", LogisticRegression(max_iter=50, tol=1.0)),
        ]
    )


CASES = {  # name: (model, how X and y are brought)
    "kmeans": (vocabulary(), None, None),
    "learned": (vocabulary(strategy="learned", max_iter=1, noise_std=0.5), None, None),
    "denoised": (vocabulary(strategy="denoised", denoiser=denoise), colours, None),
    "supervised": (
        PatchVocabulary(12, 8, strategy="supervised", random_state=0, max_iter=1), None, None,
    ),
    "by channel": (vocabulary(per_channel=True), colours, None),
    "shared": (vocabulary(per_channel="shared", patch_size=(3, 5)), colours, None),
    "ids": (vocabulary(output="ids", image_shape=(4, 16)), None, None),
    "frame": (vocabulary().set_output(transform="pandas"), frame, None),
    "classifier": (classifier(), None, None),
    "words": (classifier(), None, words),
    "objects": (classifier(), None, lambda y: words(y).astype(object)),
    "standardized": (classifier(StandardScaler(with_std=False)), None, None),
    "min and max": (classifier(MinMaxScaler((-1, 1))), None, None),
    "max": (classifier(MaxAbsScaler()), lambda X: X + 1, None),
    "robust": (classifier(RobustScaler(with_centering=False)), None, None),
    "by colour": (classifier(ChannelStandardizer()), colours, None),
    "frames": (classifier(StandardScaler().set_output(transform="pandas")), frame, None),
    "frozen": (
        CertifiedPatchClassifier([("vocab", FrozenEstimator(vocabulary())), ("clf", network())]),
        None, None,
    ),
    "residual": (
        classifier(net=network(module=PatchResNet, module__width=4, module__hidden=8)), None, None,
    ),
    "residual on pixels": (
        classifier(
            net=network(module=ImageResNet, module__width=2, module__mirror=True, autocast="auto",
                        augment=functools.partial(random_crop, pixels=1, mirror=True)),
        ),
        None, None,
    ),
    "whitening": (
        classifier(net=network(module=WhiteningConvNet, module__width=2, lr_schedule="triangle")),
        None, None,
    ),
    "additive": (
        classifier(
            net=network(module=AdditivePatchNet, module__block=1, certified_radius=1.0,
                        augment=functools.partial(random_affine, translate=1)),
        ),
        None, None,
    ),
    "weighted": (
        classifier(net=network(criterion__weight=torch.arange(1.0, 11.0), optimizer=torch.optim.SGD,
                               optimizer__momentum=0.5, criterion=torch.nn.CrossEntropyLoss)),
        None, None,
    ),
    "regressor": (
        CertifiedPatchRegressor([("vocab", vocabulary()), ("clf", network(PatchNetRegressor))]),
        None, lambda y: y / 3,
    ),
    "two outputs": (network(PatchNetRegressor), None, lambda y: np.stack([y, -y / 7], axis=1)),
    "network": (network(), None, lambda y: y % 2 == 0),
    "ids model": (ids_model(), None, None),
    "two classes": (ids_model(), None, lambda y: y % 2),
    "committee": (committee(), None, words),
    "smoothed": (
        SmoothedClassifier(classifier(), sigma=1.0, n0=5, n=20, random_state=0), None, None,
    ),
    "stickers": (StickerCertifiedClassifier(classifier(), 1, mask=3, n_masks=(2, 1)), None, words),
    "stickers on ids": (StickerCertifiedClassifier(ids_model(), [1, (2, 1)]), None, None),
    "stickers on a frozen model": (None, None, words),
    "stickers on pixels": (
        StickerCertifiedClassifier(network(), 1, n_masks=2, n_stickers=2), colours, None,
    ),
    "stickers on a regressor": (
        StickerCertifiedRegressor(
            CertifiedPatchRegressor([("vocab", vocabulary()), ("clf", network(PatchNetRegressor))]),
            1, n_masks=2,
        ),
        None, lambda y: y / 3,
    ),
}  # fmt: skip
