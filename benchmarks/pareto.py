"""Accuracy against mean patch radius: which vocabularies no other vocabulary beats in both.

    python benchmarks/pareto.py [--images 20000] [--epochs 3]

Shows, on MNIST and CIFAR-10 (standardised; CIFAR-10 one channel at a time), the accuracy of a small
network and the mean radius of a patch, L2, on validation images that neither saw, for learned
vocabularies with and without the margin loss, for k-means and for denoised exemplars, of 8 to 1024
tokens of 4x4 pixels; for learned ones of 2x2 and 8x8 pixels, of all channels together, and such
that are trained, straight through their nearest tokens, to keep what another network answers to the
image.  The same against the sum of the radii of an image (a slack statistic, not a radius), which
patches of different sizes can be compared by.  The baseline beside them is what the poster reports
for its learned vocabularies.  One seed; the test set is not used.

Result: benchmarks/results/pareto.json, pareto_<data set>.png and pareto_<data set>_summed.png.
"""

import argparse
from functools import cache, partial

import numpy as np
import torch
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
from sklearn_patchcert.networks import PatchResNet

POSTER = {"mnist": (0.83, 40.58, 97.64), "cifar10": (0.46, 87.67, 73.06)}
CANDIDATES = [
    *(("kmeans", {"strategy": "kmeans", "n_tokens": n}) for n in (8, 16, 32, 64)),
    *(("learned", {"n_tokens": n}) for n in (8, 16, 64)),
    *(
        ("learned, margin", {"n_tokens": n, "margin_weight": w})
        for n in (8, 16, 32, 64, 128)
        for w in (3.0, 10.0)
    ),
    *(("denoised", {"strategy": "denoised", "n_tokens": n}) for n in (32, 64, 128, 256, 512, 1024)),
    *(("2x2 pixels", {"patch_size": 2, "n_tokens": n}) for n in (4, 8, 32)),
    *(("8x8 pixels", {"patch_size": 8, "n_tokens": n}) for n in (32, 256)),
    *(("all channels", {"per_channel": False, "n_tokens": n}) for n in (32, 256)),
    *(("a network's answers", {"loss": "answers", "n_tokens": n}) for n in (8, 16, 64)),
]
COLOUR = ("all channels",)  # of CIFAR-10 alone


def answers(module, batch):
    """Cross-entropy of what a network says of an image made of tokens and of the image itself."""
    with torch.no_grad():
        wanted = module(batch.images(batch.patches)).softmax(1)
    return torch.nn.functional.cross_entropy(module(batch.images(batch.reconstruction)), wanted)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()

    @cache
    def standardised(name):
        images, some, held = load_images(name), slice(options.images), slice(-5000, None)
        scaler = ChannelStandardizer().fit(images.X_train[some])
        X = scaler.transform(images.X_train).astype(np.float32)
        return X[some], images.y_train[some], X[held], images.y_train[held]

    @cache
    def undefended(name):
        net = PatchNetClassifier(PatchResNet, max_epochs=options.epochs, random_state=0)
        return net.fit(*standardised(name)[:2]).module_.eval().requires_grad_(False)

    def run(name, index):
        X, y, X_val, y_val = standardised(name)
        settings = {"patch_size": 4, "per_channel": name == "cifar10" and "shared"}
        settings |= CANDIDATES[index][1]
        if settings.get("loss") == "answers":
            settings["loss"] = partial(answers, undefended(name))
        vocabulary = PatchVocabulary(random_state=0, **settings)
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

    work = [
        (name, index)
        for name in POSTER
        for index, (group, _) in enumerate(CANDIDATES)
        if name == "cifar10" or group not in COLOUR
    ]
    rows = {name: [] for name in POSTER}
    for (name, index), found in stages("pareto", vars(options), work, run):
        group, settings = CANDIDATES[index]
        rows[name].append({"group": group, "options": settings, **found})
    for name, found in rows.items():
        for number, (kind, of) in enumerate((("mean", "a patch"), ("summed", "an image"))):
            other = {"patch_size", "per_channel"} if kind == "mean" else set()  # not comparable
            some = [row for row in found if not other & row["options"].keys()]
            radius, accuracy = ([row[k] for row in some] for k in (f"{kind}_radius", "accuracy"))
            for row, best in zip(some, pareto_front(radius, accuracy), strict=True):
                row["front" if kind == "mean" else "front_of_sums"] = bool(best)
            display = ParetoDisplay.from_scores(
                radius,
                accuracy,
                x_name=f"{kind} radius of {of} (L2, standardised)",
                y_name="validation accuracy [%]",
                groups=[row["group"] for row in some],
            )
            display.ax_.plot(POSTER[name][number], POSTER[name][2], "k*", label="poster, learned")
            display.ax_.legend(fontsize=7)
            suffix = "" if kind == "mean" else "_summed"
            display.figure_.savefig(RESULTS / f"pareto_{name}{suffix}.png", dpi=100)
        for row in found:
            stars = "".join("*" if row.get(k) else " " for k in ("front", "front_of_sums"))
            shown = f"{row['accuracy']:6.2f} % {row['mean_radius']:.3f} {row['summed_radius']:6.1f}"
            print(f"{name:8} {stars} {shown}  {row['options']}")
    save("pareto", {"settings": vars(options), "poster": POSTER, "rows": rows})


if __name__ == "__main__":
    main()
