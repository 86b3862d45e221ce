"""Attacks with stickers against double masking: an upper bound beside the certified accuracy.

    python benchmarks/sticker_attacks.py [--data mnist fashion_mnist] [--images 50] [--threads 1]
                                         [--models "no tokens" ...]

Shows, for the models that stickers.py keeps and with the numbers of masks that it chose, the
accuracy that `run_sticker_attack` leaves.  The certified accuracy is a lower bound of the accuracy
under any attack, and this is an upper bound.  The attack is against double masking itself.  Over
tokens, all other patches move within their radii at the same time.  Places that are not certified
are tried first.  The baseline is the same attack against the same network without masks.  The run
asserts that no certified place is broken.

Run stickers.py first; a network whose file is gone is trained again.  Every ten images are a stage
that is kept, so a run that was stopped continues.  Fewer places and steps than by default make
MNIST a matter of minutes.  No option of the attack was searched for.  One seed.

Result: benchmarks/results/sticker_attacks.json (95 % intervals of Clopper and Pearson, versions).
"""

import argparse
import json
import time
from functools import lru_cache

import numpy as np
import torch
from common import RESULTS, environment, save, share, stages
from sklearn.frozen import FrozenEstimator
from stickers import MODELS, fitted, images, side_of

from sklearn_patchcert import StickerCertifiedClassifier
from sklearn_patchcert.attacks import run_sticker_attack

AT_ONCE = 10  # images of a stage
ATTACK = {"n_places": 4, "steps": 20, "random_state": 0}


@lru_cache(1)
def masked(data, name, size, count):
    """A model of stickers.py behind its masks."""
    side = side_of(MODELS[data][name])
    largest = -(-(size - 1) // side) * side + 1  # sticker that touches as many patches
    model, _ = fitted(data, name, quick=False)
    model = StickerCertifiedClassifier(FrozenEstimator(model), largest, n_masks=count)
    return model.fit(*images(data)[0]["train"])


def attacked(data, name, size, count, start, stop):
    """Which of some test images are right, certified, and right after an attack."""
    model = masked(data, name, size, count)
    X, y = (values[start:stop] for values in images(data)[0]["test"])
    bounds = (float(images(data)[0]["train"][0].min()), float(images(data)[0]["train"][0].max()))
    bounds = min(bounds[0], float(X.min())), max(bounds[1], float(X.max()))
    certificate = model.certify(X)
    began = time.process_time()
    found = run_sticker_attack(
        model, X, y, size, certified_places=certificate.places, bounds=bounds, **ATTACK
    )
    seconds = time.process_time() - began
    broken = found.success
    rows, cols = found.places[broken].T // np.reshape(model.cell_size_, (2, 1))
    assert not certificate.places[broken, rows, cols].any(), "a certified place was broken"
    right = certificate.prediction == y
    assert not (broken & certificate.certified).any()
    plain = run_sticker_attack(model.estimator_, X, y, size, bounds=bounds, **ATTACK)
    return {
        "clean": right.tolist(),
        "certified": (right & certificate.certified).tolist(),
        "attacked": (right & ~broken).tolist(),
        "without_masks": (plain.correct & ~plain.success).tolist(),
        "queries": found.n_queries.tolist(),
        "seconds": seconds,
    }


def as_certified(row, certificate):
    """Whether the attack was against the masks that the certificate has."""
    counts = {size: one["count"] for size, one in certificate.items()}
    return all(one.get("count", counts[size]) == counts[size] for size, one in row.items())


def run(data, n_images, certificates, models=None, kept=None):
    """Yield the rows of a data set, whenever there is a new one; what is `kept` of others stays."""
    settings = {"images": n_images, **ATTACK}
    known, rows = certificates["rows"], {}
    if kept and kept["settings"] == settings:
        rows = {name: row for name, row in kept["rows"].items() if as_certified(row, known[name])}
    for name, sizes in known.items():
        if models and name not in models:
            continue
        new = {}
        for size, row in sizes.items():
            work = [
                (name, int(size), row["count"], at, min(at + AT_ONCE, n_images))
                for at in range(0, n_images, AT_ONCE)
            ]
            parts = [
                part
                for _, part in stages(
                    f"sticker_attacks_{data}", settings, work, lambda *key: attacked(data, *key)
                )
            ]
            shares = {
                part: share(np.concatenate([one[part] for one in parts]))
                for part in ("clean", "certified", "attacked", "without_masks")
            }
            assert shares["certified"]["share"] <= shares["attacked"]["share"]
            new[size] = {
                "count": row["count"],
                **shares,
                "queries": float(np.mean(np.concatenate([one["queries"] for one in parts]))),
                "seconds": sum(one["seconds"] for one in parts) / n_images,
                "environment": environment(),
            }
            print(f"{data:14}{name:34}{size}", {k: v["share"] for k, v in shares.items()})
        rows[name] = new
        ordered = {key: rows[key] for key in MODELS[data] if key in rows}
        yield {"settings": settings, "rows": ordered, "environment": environment()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion_mnist"], choices=[*MODELS])
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--models", nargs="+", help="some of the rows; the others are kept")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    known = json.loads((RESULTS / "stickers.json").read_text())["data"]
    path = RESULTS / "sticker_attacks.json"
    for data in options.data:
        kept = json.loads(path.read_text())["data"] if path.exists() else {}
        for found in run(data, options.images, known[data], options.models, kept.get(data)):
            kept = json.loads(path.read_text())["data"] if path.exists() else {}
            kept[data] = found
            order = {name: kept[name] for name in MODELS if name in kept}
            save("sticker_attacks", {"seed": 0, "data": order})


if __name__ == "__main__":
    main()
