"""Randomized smoothing for benchmarks/whole_image.py: what is trained on noise, and its radii.

Nothing is measured here, and nothing was chosen on validation images: networks are first guesses.
That of CIFAR-10 is the undefended one of the poster's tables with half of its channels.  It
replaced a residual network after that one's rows were published, being the more accurate one.
"""

import time

import numpy as np
from configurations import FAST
from prototypes import MOVES
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchVocabulary,
    SmoothedClassifier,
)
from sklearn_patchcert.networks import PatchResNet

WITHOUT, ON_LEVELS = "no tokens", "pixel tokens"
LEVELS = {WITHOUT: None, ON_LEVELS: 8}
LABELS = {WITHOUT: "a network without tokens", ON_LEVELS: "a network on pixel tokens"}
ON_TOKENS = "the 16 tokens' network"
ROWS = {  # what is smoothed, and sigma
    "mnist": [(WITHOUT, 0.25), (WITHOUT, 0.5), (WITHOUT, 1.0)],
    "fashion_mnist": [(WITHOUT, 0.25), (WITHOUT, 0.5), (WITHOUT, 1.0)],
    "cifar10": [(WITHOUT, 0.12), (WITHOUT, 0.25), (ON_LEVELS, 0.25)],
}
SMALL = {
    "module": PatchResNet, "module__width": 64, "module__depth": 2, "module__patch_size": 4,
    "max_epochs": 5, "batch_size": 500,
}  # fmt: skip
NETWORKS = {
    "mnist": SMALL,
    "fashion_mnist": SMALL,
    "cifar10": {  # a network on pixels is the stronger baseline there
        **FAST, "module__width": 32, "module__mirror": False, "max_epochs": 5,
        "augment": MOVES["cifar10"],
    },
}  # fmt: skip


def smoothed(classifier, X, y, sigma, copies):
    """Certified radii by randomized smoothing; -1 where it is wrong or abstains."""
    model = SmoothedClassifier(FrozenEstimator(classifier), sigma, n=copies, random_state=0)
    model.fit(X, y)
    start = time.perf_counter()
    classes, radius = model.certify(X)
    seconds = (time.perf_counter() - start) / len(X)
    few = model.set_params(n=min(copies, 1000))  # all that a prediction needs
    return {
        "radius": np.where(classes == y, radius, -1.0).tolist(),
        "clean": float((few.predict(X) == y).mean()),
        "seconds_per_image": seconds,
        "copies": copies,
    }


def noisy_network(X, y, sigma, data, quick, levels=None):
    """A network trained on three noisy copies of each image.

    Behind tokens of single pixels and channels, with so many levels, or behind none.
    """
    net = PatchNetClassifier(**NETWORKS[data], autocast="auto", random_state=0)
    net.set_params(max_epochs=1 if quick else net.max_epochs)
    if levels is not None:
        tokens = PatchVocabulary(levels, 1, strategy="kmeans", per_channel=True, random_state=0)
        net = CertifiedPatchClassifier([("vocab", tokens), ("clf", net)])
    times = 1 if quick else 3
    model = SmoothedClassifier(net, sigma, augment=True, random_state=0)
    model.fit(np.concatenate([X] * times), np.concatenate([y] * times))
    return model.estimator_
