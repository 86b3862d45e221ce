"""Certified accuracy of the prediction of whole images, beside the attack's upper bound.

    python benchmarks/certified_accuracy.py [--images 100] [--configurations 20000]

Shows, for test images of MNIST in [0, 1] pixels and the L2 norm of the whole image, the part that
is classified correctly with a certified radius of at least eps: by the smallest patch radius, the
baseline, and by `certify_prediction`, with the price of a flip from one wall and from its whole
cell; and the part that the search over tokens leaves at that eps, which no certificate can exceed.
Tokens: 8, by k-means, 4x4 pixels; the network is trained on images with noise, as tokens of that,
and on images without.  The choice of 8 tokens and of the noise is not tuned.  One seed.

Result: benchmarks/results/certified_accuracy.json.
"""

import argparse
import time

import numpy as np
from common import save, stages

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.robustness import run_attack

EPS = (0.25, 0.5, 0.75, 1.0, 1.5)
NOISE = 0.2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--configurations", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    images = load_images("mnist")
    X, y = (images.X_train[:50_000] / 255).astype(np.float32), images.y_train[:50_000]
    X_test = (images.X_test[: options.images] / 255).astype(np.float32)
    y_test = images.y_test[: options.images]

    def run():
        vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0).fit(X)
        noisy = X + NOISE * np.random.default_rng(0).standard_normal(X.shape, dtype=np.float32)
        made = np.concatenate([vocabulary.transform(X), vocabulary.transform(noisy)])
        net = PatchNetClassifier(max_epochs=options.epochs, random_state=0, autocast=True)
        net.fit(made, np.concatenate([y, y]))
        model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)])
        right = model.predict(X_test) == y_test
        smallest = model.certify(X_test).reshape(len(X_test), -1).min(1)
        certified = {
            "smallest patch radius": [float((right & (smallest >= e)).mean()) for e in EPS]
        }
        radii, seconds, limited = {}, {}, {}
        for name, cells in (("one wall", False), ("whole cell", True)):
            start = time.perf_counter()
            found = model.certify_prediction(
                X_test, max_configurations=options.configurations, cells=cells
            )
            seconds[name] = (time.perf_counter() - start) / len(X_test)
            limited[name] = float((~found.exact).mean())
            radii[name] = found.radius
            certified[name] = [float((right & (found.radius >= e)).mean()) for e in EPS]
        upper, broken = [], 0
        for eps in EPS:
            attacked = run_attack(model, X_test, y_test, "flips", eps=eps)
            upper.append(float((right & ~attacked.success).mean()))
            for found in radii.values():
                broken += int((attacked.success & (attacked.norms < found)).sum())
        return {
            "clean": float(right.mean()),
            "eps": EPS,
            "certified": certified,
            "attack": upper,
            "attacks_below_a_certificate": broken,
            "seconds_per_image": seconds,
            "limited_by_the_number_of_configurations": limited,
            "average_radius": {k: float(np.where(right, r, 0).mean()) for k, r in radii.items()},
        }

    ((_, found),) = stages("certified_accuracy", vars(options), [()], run)
    print(found)
    save("certified_accuracy", {"settings": {**vars(options), "noise": NOISE}, **found})


if __name__ == "__main__":
    main()
