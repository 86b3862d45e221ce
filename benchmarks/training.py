"""What each option of a network's training does to certified predictions, by itself.

    python benchmarks/training.py [--images 300] [--epochs 4] [--configurations 4000]

Shows, for 16 k-means tokens of 5x5 pixels of MNIST and a small residual network, pixels in [0, 1],
on images held out from training: accuracy, the part certified at L2 radii of the whole image and
the average certified radius, for plain training, the baseline, and for label smoothing, noise
before the tokens, shifted and turned images, random and adversarial flips of tokens, each added
alone, and for all of them together with adversarial flips.  One seed; every certificate looks at
the same number of configurations at most, and the part that this limit stopped is reported.

Result: benchmarks/results/training.json.
"""

import argparse
import time
from functools import partial

import numpy as np
from common import save, stages

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.networks import PatchResNet, random_affine

RADII = (0.25, 0.5, 0.75)
SMOOTHING = {"criterion__label_smoothing": 0.1}
NOISE = {"noise_std": 0.3}
SHIFTS = {"augment": partial(random_affine, degrees=10, translate=1.5, scale=0.08, shear=0.1)}
FLIPS = {"flip_radius": 0.5, "flip_share": 0.5}
OPTIONS = {
    "plain": {},
    "label smoothing": SMOOTHING,
    "noise": NOISE,
    "shifts and turns": SHIFTS,
    "random flips": {**FLIPS, "flip_kind": "random"},
    "adversarial flips": {**FLIPS, "flip_kind": "adversarial"},
    "noise, shifts, turns and adversarial flips": {**NOISE, **SHIFTS, **FLIPS},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--configurations", type=int, default=4000)
    options = parser.parse_args()
    images = load_images("mnist")
    X, y = (images.X_train / 255).astype(np.float32)[..., None], images.y_train
    held = slice(50_000, 50_000 + options.images)

    def run(name):
        net = PatchNetClassifier(
            PatchResNet, module__width=32, module__depth=2, max_epochs=options.epochs,
            batch_size=250, autocast="auto", random_state=0, **OPTIONS[name],
        )  # fmt: skip
        vocabulary = PatchVocabulary(16, 5, strategy="kmeans", random_state=0)
        model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)])
        start = time.perf_counter()
        model.fit(X[:50_000], y[:50_000])
        seconds = time.perf_counter() - start
        found = model.certify_prediction(X[held], max_configurations=options.configurations)
        right = found.prediction == y[held]
        radius = np.where(right, found.radius, -1)
        return {
            "clean": 100 * float(right.mean()),
            "certified": [100 * float((radius >= eps).mean()) for eps in RADII],
            "average_radius": float(radius.clip(0).mean()),
            "stopped_by_the_limit": 100 * float(found.limited.mean()),
            "fit_seconds": seconds,
        }

    rows = {}
    for (name,), found in stages("training", vars(options), [(n,) for n in OPTIONS], run):
        rows[name] = found
        print(f"{name:44}", found, flush=True)
    save("training", {"settings": vars(options), "radii": RADII, "rows": rows})


if __name__ == "__main__":
    main()
