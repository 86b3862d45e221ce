"""Accuracy against mean patch radius: which vocabularies no other vocabulary beats in both.

    python benchmarks/pareto.py [--images 20000] [--epochs 3]

Shows, on MNIST and CIFAR-10 (standardised; CIFAR-10 one channel at a time), the accuracy of a small
network and the mean radius of a patch, L2, on validation images that neither saw, for learned
vocabularies with and without the margin loss, for k-means and for denoised exemplars, of 8 to 1024
tokens.  The baseline beside them is what the poster reports for its learned vocabularies.  One
seed; the test set is not used.

Result: benchmarks/results/pareto.json and pareto_<data set>.png.
"""

import argparse

import numpy as np
from common import RESULTS, save, stages

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ChannelStandardizer,
    ParetoDisplay,
    PatchNetClassifier,
    PatchVocabulary,
)
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.model_selection import pareto_front

POSTER = {"mnist": (0.83, 97.64), "cifar10": (0.46, 73.06)}
CANDIDATES = [
    *(("kmeans", {"strategy": "kmeans", "n_tokens": n}) for n in (8, 16, 32, 64)),
    *(("learned", {"n_tokens": n}) for n in (8, 16, 64)),
    *(
        ("learned, margin", {"n_tokens": n, "margin_weight": w})
        for n in (8, 16, 32, 64, 128)
        for w in (3.0, 10.0)
    ),
    *(("denoised", {"strategy": "denoised", "n_tokens": n}) for n in (32, 64, 128, 256, 512, 1024)),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    data = {}

    def run(name, index):
        if name not in data:
            images, some, held = load_images(name), slice(options.images), slice(-5000, None)
            scaler = ChannelStandardizer().fit(images.X_train[some])
            X = scaler.transform(images.X_train).astype(np.float32)
            data[name] = X[some], images.y_train[some], X[held], images.y_train[held]
        X, y, X_val, y_val = data[name]
        settings = {"per_channel": name == "cifar10" and "shared", **CANDIDATES[index][1]}
        vocabulary = PatchVocabulary(patch_size=4, random_state=0, **settings)
        net = PatchNetClassifier(max_epochs=options.epochs, random_state=0, autocast="auto")
        model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(X, y)
        radii = model.certify(X_val)
        return {
            "accuracy": 100 * model.score(X_val, y_val),
            "mean_radius": float(radii.mean()),
            "summed_radius": float(radii.reshape(len(radii), -1).sum(1).mean()),
            "smallest_radius": float(radii.reshape(len(radii), -1).min(1).mean()),
            "perplexity": model["vocab"].perplexity_,
        }

    work = [(name, index) for name in POSTER for index in range(len(CANDIDATES))]
    rows = {name: [] for name in POSTER}
    for (name, index), found in stages("pareto", vars(options), work, run):
        group, settings = CANDIDATES[index]
        rows[name].append({"group": group, "options": settings, **found})
    for name, found in rows.items():
        radius, accuracy = ([row[k] for row in found] for k in ("mean_radius", "accuracy"))
        for row, best in zip(found, pareto_front(radius, accuracy), strict=True):
            row["front"] = bool(best)
            shown = f"{row['accuracy']:6.2f} % {row['mean_radius']:.3f}  {row['options']}"
            print(f"{name:8} {'*' if best else ' '} {shown}")
        display = ParetoDisplay.from_scores(
            radius,
            accuracy,
            x_name="mean radius of a patch (L2, standardised)",
            y_name="validation accuracy [%]",
            groups=[row["group"] for row in found],
        )
        display.ax_.plot(*POSTER[name], "k*", label="poster, learned")
        display.ax_.legend()
        display.figure_.savefig(RESULTS / f"pareto_{name}.png", dpi=100)
    save("pareto", {"settings": vars(options), "poster": POSTER, "rows": rows})


if __name__ == "__main__":
    main()
