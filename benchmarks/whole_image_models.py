"""The models of benchmarks/whole_image.py that it fits itself, and how each is certified.

Nothing is measured here.
"""

from functools import partial

from prototypes import prototypes

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.networks import AdditivePatchNet, PatchResNet, random_affine

RESIDUAL = "16 tokens, residual network"
LIPSCHITZ = "1-Lipschitz network"
AMONG_EMBEDDINGS = "prototypes behind a 1-Lipschitz network"


def network(data, module, epochs, n_tokens, patch_size, **options):
    """A network behind k-means tokens, trained with noise and shifted images."""
    augment = partial(random_affine, degrees=10, translate=1.5, scale=0.08, shear=0.1)
    colour = data == "cifar10"
    net = PatchNetClassifier(
        module, max_epochs=epochs, batch_size=500, noise_std=0.1 if colour else 0.3,
        augment=augment if data == "mnist" else None, random_state=0, **options,
    )  # fmt: skip
    vocabulary = PatchVocabulary(n_tokens, patch_size, strategy="kmeans", random_state=0)
    return CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)])


def tokens(data, epochs):
    size = {"module__width": 64, "module__depth": 2, "autocast": "auto"}
    radius = 0.2 if data == "cifar10" else 0.5
    patch_size = 4 if data == "cifar10" else 5
    return network(data, PatchResNet, epochs, 16, patch_size, flip_radius=radius, **size)


def additive(data, epochs, radius):
    return network(
        data, AdditivePatchNet, epochs, 8, 4, module__block=2, certified_radius=radius
    )  # fmt: skip


def models(data, quick):
    """Name to what is fitted, and the options of its certificate."""
    epochs = 1 if quick else 12
    bound = 0.25 if data == "cifar10" else 0.7
    more = {LIPSCHITZ: None, AMONG_EMBEDDINGS: None} if data == "cifar10" else {}
    return {
        RESIDUAL: (tokens(data, epochs), {"max_configurations": 8000}),
        "additive network": (additive(data, 1 if quick else 5, 0.0), {"method": "additive"}),
        "additive network, trained on the bound": (
            additive(data, 1 if quick else 4, bound),
            {"method": "additive"},
        ),
        "prototypes": (prototypes(data, quick), {"cells": True}),
        **more,
    }
