"""Candidates for the tables of the poster, compared on images held out from training.

    python benchmarks/choices.py --dataset mnist|cifar10 [--only NAME ...] [--images 45000]

Shows accuracy, mean radius of a patch (L2), its sum over an image (no radius) and what one step of
projected gradient descent leaves, the lowest of the straight-through and some soft gradients, what
the search over tokens leaves, and all attacks but the transfer together, on validation images and
in standardised pixels; one seed.  Candidates differ by the patch, the strategy, the numbers of
tokens and the training with flips or on attacked images.  SSPGD and radii are of the first 1,000
images, the attacks of the first 200 or 40.  The test set is not used.
What was chosen stands in benchmarks/configurations.py.  The results have no rows yet of the
candidates trained on attacked images, which were chosen from shorter runs on validation images, nor
of three tokens of single pixels.

Result: benchmarks/results/choices_<data set>.json.
"""

import argparse
import json
import time

from common import RESULTS, environment, save
from configurations import EPS, ROBUST, discrete, standardised
from poster_tables import one_step, worst

SEARCHED = {"mnist": 200, "cifar10": 40}  # images
CANDIDATES = {
    "mnist": {
        f"{strategy}, {n} tokens, flips {radius:g}": {
            "n_tokens": n, "strategy": strategy, "flip_radius": radius,
        }
        for n, strategy, radius in (
            *((20, "learned", radius) for radius in (0.0, 2.0, 4.0)),
            (18, "learned", 2.0),
            *((1024, "denoised", radius) for radius in (0.0, 2.0, 4.0)),
        )
    }
    | {
        f"{size}x{size}, learned, {n} tokens, flips {radius:g}": {
            "n_tokens": n, "patch_size": size, "flip_radius": radius,
            **({"module__patch_size": 4} if size == 1 else {}),
        }
        for n, size, radius in (
            *((n, 2, 2.0) for n in (2, 3, 4)), (2, 1, 2.0), (2, 1, 4.0), (3, 1, 2.0),
        )
    }
    | {
        f"{size}x{size}, learned, {n} tokens, attacks {radius:g}": {
            **ROBUST, "n_tokens": n, "patch_size": size, "adversarial_radius": radius,
        }
        for n, size, radius in ((256, 2, 5.0), (32, 1, 5.0))
    },
    "cifar10": {  # luminance and two differences of colours
        f"{strategy}, {sizes} tokens, flips {radius:g}": {
            "n_tokens": sizes, "strategy": strategy, "flip_radius": radius, "max_epochs": 20,
        }
        for sizes, strategy, radius in (
            ((8000, 3, 4), "learned", 0.5),
            ((30_000, 1000, 1000), "denoised", 0.0),
            ((30_000, 1000, 1000), "denoised", 0.5),
            ((15_000, 1500, 1500), "denoised", 0.5),
        )
    },
}  # fmt: skip


def figures(dataset, options, data):
    """Train a candidate and measure it on the validation images."""
    start = time.perf_counter()
    model = discrete(dataset, 0, **options).fit(*data["train"])
    seconds = time.perf_counter() - start
    X, y = data["validation"]
    some = slice(1000)
    radii = model.certify(X[some])
    found = one_step(model, X[some], y[some], EPS[dataset])
    few = slice(SEARCHED[dataset])
    attacks = worst(model, None, X[few], y[few], EPS[dataset], (X[some], y[some]))
    return {
        "options": options,
        "accuracy": 100 * float(model.score(X, y)),
        "mean_radius": float(radii.mean()),
        "summed_radius": float(radii.reshape(len(radii), -1).sum(1).mean()),
        "accuracy_of_the_attacked": 100 * float(model.score(X[some], y[some])),
        "sspgd": found["sspgd"],
        "sspgd_by_gradient": found["left"],
        "search_over_tokens": attacks["left"]["search over tokens"],
        "worst_case": attacks["worst_case"],
        "attacks": attacks,
        "fit_seconds": seconds,
        "environment": environment(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist", choices=[*CANDIDATES])
    parser.add_argument("--only", nargs="*", help="names of candidates; others are kept")
    parser.add_argument("--images", type=int, help="to train on; all by default")
    options = parser.parse_args()
    candidates, data = CANDIDATES[options.dataset], dict(standardised(options.dataset))
    data["train"] = tuple(part[: options.images] for part in data["train"])
    path = RESULTS / f"choices_{options.dataset}.json"
    for name in options.only or candidates:
        row = figures(options.dataset, candidates[name], data)
        shown = ("accuracy", "mean_radius", "summed_radius", "sspgd", "worst_case")
        print(f"{name:50}" + "".join(f"{row[k]:9.3f}" for k in shown), flush=True)
        row["images"] = len(data["train"][0])
        units = {"eps": EPS[options.dataset], "searched": SEARCHED[options.dataset]}
        kept = json.loads(path.read_text()) if path.exists() else {}
        rows = {**kept.get("rows", {}), name: row}
        ordered = {name: rows[name] for name in (*candidates, *rows) if name in rows}
        result = {**kept, "environment": environment(), **units, "rows": ordered}
        save(f"choices_{options.dataset}", result)


if __name__ == "__main__":
    main()
