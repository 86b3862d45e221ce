"""Candidates for the tables of the poster, compared on images held out from training.

    python benchmarks/choices.py --dataset mnist|fashion_mnist|cifar10 [--only NAME ...]
                                 [--images 45000]

Shows accuracy, mean radius of a patch (L2), its sum over an image (no radius) and what one step of
projected gradient descent leaves, the lower of the straight-through and the soft gradient, all on
validation images and in standardised pixels; one seed.  The test set is not used.  What was chosen
from it stands in benchmarks/configurations.py.

Result: benchmarks/results/choices_<data set>.json.
"""

import argparse
import json
import time

import numpy as np
from common import RESULTS, save
from configurations import EPS, discrete, standardised

from sklearn_patchcert.robustness import run_attack

SOFT = [{"gradient": "soft", "temperature": t} for t in (0.5, 1.0, 4.0)]
DENOISED = {"strategy": "denoised"}
CANDIDATES = {
    "mnist": {
        "20 tokens": {"n_tokens": 20},
        "20 tokens, noise": {"n_tokens": 20, "noise_std": 1.0},
        "1024 denoised": {**DENOISED, "n_tokens": 1024},
    },
    "fashion_mnist": {
        "20 tokens": {"n_tokens": 20},
        "1024 denoised": {**DENOISED, "n_tokens": 1024},
    },
    "cifar10": {  # luminance and two differences of colours
        f"{sizes} tokens": {"n_tokens": sizes, "max_epochs": 3}
        for sizes in (20, (256, 4, 3), (1024, 4, 3), (2048, 3, 4))
    },
}


def figures(dataset, options, data):
    """Train a candidate and measure it on the validation images."""
    start = time.perf_counter()
    model = discrete(dataset, 0, **options).fit(*data["train"])
    seconds = time.perf_counter() - start
    X, y = data["validation"]
    radii = model.certify(X)
    some = slice(2000)
    left = []
    for gradient in ({"gradient": "bpda"}, *SOFT):
        found = run_attack(model, X[some], y[some], "sspgd", eps=EPS[dataset], **gradient)
        left.append(100 * float((found.correct & ~found.success).mean()))
    return {
        "options": options,
        "accuracy": 100 * float(model.score(X, y)),
        "mean_radius": float(radii.mean()),
        "summed_radius": float(radii.reshape(len(radii), -1).sum(1).mean()),
        "sspgd": min(left),
        "sspgd_by_gradient": left,
        "fit_seconds": seconds,
        "tokens": int(np.prod(model["vocab"].vocabulary_.shape[:-1])),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist", choices=[*CANDIDATES])
    parser.add_argument("--only", nargs="*", help="names of candidates; others are kept")
    parser.add_argument("--images", type=int, help="to train on; all by default")
    options = parser.parse_args()
    candidates, data = CANDIDATES[options.dataset], standardised(options.dataset)
    data["train"] = tuple(part[: options.images] for part in data["train"])
    path = RESULTS / f"choices_{options.dataset}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for name in options.only or candidates:
        rows[name] = figures(options.dataset, candidates[name], data)
        cells = [rows[name][k] for k in ("accuracy", "mean_radius", "summed_radius", "sspgd")]
        print(f"{name:40}" + "".join(f"{c:9.3f}" for c in cells), flush=True)
        rows[name]["images"] = len(data["train"][0])
        save(f"choices_{options.dataset}", {"eps": EPS[options.dataset], "rows": rows})


if __name__ == "__main__":
    main()
