"""MNIST beside the poster: accuracy, mean patch radius, summed radius, in standardised units.

    python benchmarks/mnist.py [--epochs 4] [--seeds 3]

Shows that 16 tokens of 4x4 pixels and a small network reach a higher accuracy and a larger radius
than the poster's learned vocabulary, with the same network on the images themselves, the
undefended baseline, in the same run.  Images are standardised first, (x - mean) / std over all
training pixels, and radii are in those units, L2 within a patch.  Nothing is tuned here: the
number of tokens is the poster's order of magnitude, the rest are defaults.  The last 10,000
training images are not trained on and reported as validation, the test set is used once per model.
The sum over an image is the poster's "image certificate"; it is not a radius.

Result: benchmarks/results/mnist.json (mean and spread over seeds, versions, hardware).
"""

import argparse
import time

import numpy as np
from common import save, spread, stages

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchVocabulary,
)
from sklearn_patchcert.datasets import load_images

POSTER = {"accuracy": 97.64, "mean_radius": 0.83, "summed_radius": 40.58}
POSTER_BASELINE = 98.48


def run(data, strategy, seed, epochs):
    """Train the discrete model and the baseline of one seed; return their figures."""
    X, y, X_val, y_val, X_test, y_test = data
    net = PatchNetClassifier(max_epochs=epochs, random_state=seed, autocast="auto")
    start = time.perf_counter()
    if strategy == "baseline":
        model = net.fit(X, y)
    else:
        vocabulary = PatchVocabulary(16, 4, strategy=strategy, random_state=seed)
        model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(X, y)
    figures = {
        "fit_seconds": time.perf_counter() - start,
        "validation_accuracy": 100 * model.score(X_val, y_val),
        "accuracy": 100 * model.score(X_test, y_test),
    }
    if strategy == "baseline":
        return figures
    start = time.perf_counter()
    radii = model.certify(X_test)
    figures["certify_seconds"] = time.perf_counter() - start
    figures["mean_radius"] = float(radii.mean())
    figures["smallest_radius_of_an_image"] = float(radii.min(axis=(1, 2)).mean())
    figures["summed_radius"] = float(radii.sum(axis=(1, 2)).mean())
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    images = load_images("mnist")
    standardizer = ChannelStandardizer().fit(images.X_train[:50_000])
    X = standardizer.transform(images.X_train)
    y = images.y_train
    data = X[:50_000], y[:50_000], X[50_000:], y[50_000:]
    data = *data, standardizer.transform(images.X_test), images.y_test

    rows = {}
    work = [(s, seed) for s in ("learned", "kmeans", "baseline") for seed in range(options.seeds)]
    settings = {**vars(options), "n_tokens": 16, "patch_size": 4}
    for (strategy, _), figures in stages(
        "mnist", settings, work, lambda *key: run(data, *key, options.epochs)
    ):
        for name, value in figures.items():
            rows.setdefault(strategy, {}).setdefault(name, []).append(value)
    rows = {
        strategy: {name: spread(values) for name, values in figures.items()}
        for strategy, figures in rows.items()
    }
    save(
        "mnist",
        {
            "settings": settings,
            "units": "standardised pixels, L2 within a patch",
            "sha256": images.sha256,
            "poster": {"learned": POSTER, "baseline": {"accuracy": POSTER_BASELINE}},
            "rows": rows,
        },
    )
    print(f"{'':22}accuracy   mean radius   summed radius (a slack statistic, not a radius)")
    shown = {"poster, learned": POSTER, "poster, baseline": {"accuracy": POSTER_BASELINE}}
    for strategy, figures in rows.items():
        shown[f"ours, {strategy}"] = {name: value["mean"] for name, value in figures.items()}
    for name, row in shown.items():
        cells = [row.get(key, np.nan) for key in ("accuracy", "mean_radius", "summed_radius")]
        print(f"{name:22}{cells[0]:8.2f} {cells[1]:13.2f} {cells[2]:15.2f}")


if __name__ == "__main__":
    main()
