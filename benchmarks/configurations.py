"""What the tables of the poster are made of: the data in its units, and the models.

The figures of a model are those of the test set; all of this was chosen by benchmarks/choices.py
on images that are held out from training.
"""

from functools import partial

import numpy as np
from sklearn.naive_bayes import CategoricalNB

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchVocabulary,
)
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.flip_training import random_affine, random_crop
from sklearn_patchcert.networks import ImageResNet

EPS = {"digits": 2.0, "mnist": 4.0, "fashion_mnist": 4.0, "cifar10": 0.5}
SIGMA = {"digits": 1.0, "mnist": 2.0, "fashion_mnist": 2.0, "cifar10": 1.0}
HELD_OUT = {"digits": 300, "mnist": 10_000, "fashion_mnist": 10_000, "cifar10": 5_000}
AUGMENT = {
    "mnist": partial(random_affine, degrees=10, translate=1.5, scale=0.08, shear=0.1),
    "fashion_mnist": partial(random_crop, pixels=1, mirror=True, fill=-0.81),  # black
    "cifar10": partial(random_crop, pixels=4, mirror=True),
}
NETWORKS = {
    "digits": {"module__width": 4, "max_epochs": 2},
    "mnist": {"module__width": 12, "max_epochs": 6},
    "fashion_mnist": {"module__width": 16, "max_epochs": 8},
    "cifar10": {"module__width": 32, "max_epochs": 10},
}


def standardised(dataset):
    """Train, validation and test parts, (x - mean) / std by channel, float32 (n, H, W, C)."""
    data = load_images(dataset)
    X, X_test = (part.reshape(*part.shape[:3], -1) for part in (data.X_train, data.X_test))
    last = len(X) - HELD_OUT[dataset]
    scaler = ChannelStandardizer().fit(X[:last])
    X, X_test = (scaler.transform(part).astype(np.float32) for part in (X, X_test))
    return {
        "train": (X[:last], data.y_train[:last]),
        "validation": (X[last:], data.y_train[last:]),
        "test": (X_test, data.y_test),
    }


def network(dataset, seed, **options):
    """A residual network on pixels."""
    mirror = {"module__mirror": True} if dataset in ("cifar10", "fashion_mnist") else {}
    settings = {
        "batch_size": 250, "lr": 0.004, "autocast": "auto", "augment": AUGMENT.get(dataset),
        "optimizer__weight_decay": 0.05, "criterion__label_smoothing": 0.1, "random_state": seed,
        **mirror, **NETWORKS[dataset], **options,
    }  # fmt: skip
    return PatchNetClassifier(ImageResNet, **settings)


def discrete(dataset, seed, n_tokens, *, strategy="learned", vocabulary=None, **options):
    """The network behind tokens of 4x4 pixels of one channel."""
    size = 2 if dataset == "digits" else 4
    tokens = PatchVocabulary(
        n_tokens, size, strategy=strategy, per_channel=dataset == "cifar10" and "shared",
        random_state=seed, **(vocabulary or {}),
    )  # fmt: skip
    return CertifiedPatchClassifier([("vocab", tokens), ("clf", network(dataset, seed, **options))])


def prototypes(seed, n_tokens, target, epochs):
    """Tokens that are whole images, trained for their certificates, each with a class."""
    tokens = PatchVocabulary(
        n_tokens, 10**4, strategy="supervised", target_radius=target, output="ids",
        max_iter=epochs, subsample=None, random_state=seed,
    )  # fmt: skip
    naive_bayes = CategoricalNB(min_categories=n_tokens)
    return CertifiedPatchClassifier([("vocab", tokens), ("clf", naive_bayes)])
