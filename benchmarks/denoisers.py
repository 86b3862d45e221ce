"""Which denoiser makes the best exemplar tokens: the choice behind `strategy="denoised"`.

    python benchmarks/denoisers.py [--images 8000] [--epochs 2]

Shows, for 512 exemplar tokens of 4x4 pixels of MNIST and CIFAR-10 (standardised, one channel at a
time), reconstruction error, mean radius and the accuracy of a small network, all on validation
images, with denoisers of SciPy and scikit-image and with none, the baseline.  One seed.

Result: benchmarks/results/denoisers.json.
"""

import argparse
import time

import numpy as np
from common import save, stages
from scipy import ndimage
from skimage import restoration

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchVocabulary,
)
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.scorers import neg_reconstruction_error, patch_certificate
from sklearn_patchcert.vocabulary import denoise


def nl_means(images):
    made = [
        restoration.denoise_nl_means(x, patch_size=3, patch_distance=5, h=0.4, channel_axis=-1)
        for x in images
    ]
    return np.stack(made).reshape(images.shape)


DENOISERS = {
    "none": lambda images: images,
    "median 3x3": lambda images: ndimage.median_filter(images, size=(1, 3, 3, 1)),
    "gaussian 0.5": lambda images: ndimage.gaussian_filter(images, (0, 0.5, 0.5, 0)),
    "gaussian 1": lambda images: ndimage.gaussian_filter(images, (0, 1, 1, 0)),
    "total variation 0.1": denoise,
    "total variation 0.3": lambda images: denoise(images, 0.3),
    "non-local means": nl_means,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    data = {}

    def run(name, denoiser):
        if name not in data:
            images, some, held = load_images(name), slice(options.images), slice(-3000, None)
            scaler = ChannelStandardizer().fit(images.X_train[some])
            X = scaler.transform(images.X_train).astype(np.float32)
            data[name] = X[some], images.y_train[some], X[held], images.y_train[held]
        X, y, X_val, y_val = data[name]
        vocabulary = PatchVocabulary(
            512,
            4,
            per_channel=name == "cifar10" and "shared",
            strategy="denoised",
            denoiser=DENOISERS[denoiser],
            random_state=0,
        )
        start = time.perf_counter()
        vocabulary.fit(X)
        seconds = time.perf_counter() - start
        net = PatchNetClassifier(max_epochs=options.epochs, random_state=0, autocast="auto")
        net.fit(vocabulary.transform(X), y)
        model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)])
        return {
            "error": -neg_reconstruction_error(vocabulary, X_val),
            "mean_radius": patch_certificate(vocabulary, X_val),
            "accuracy": 100 * model.score(X_val, y_val),
            "fit_seconds": seconds,
        }

    work = [(name, denoiser) for name in ("mnist", "cifar10") for denoiser in DENOISERS]
    rows = {}
    for (name, denoiser), found in stages("denoisers", vars(options), work, run):
        rows.setdefault(name, {})[denoiser] = found
        shown = "  ".join(f"{key} {value:.3f}" for key, value in found.items())
        print(f"{name:8} {denoiser:20} {shown}")
    save("denoisers", {"settings": vars(options), "rows": rows})


if __name__ == "__main__":
    main()
