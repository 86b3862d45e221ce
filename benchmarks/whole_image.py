"""Certified predictions of whole images, beside attacks, smoothing and the literature.

    python benchmarks/whole_image.py [--images 1000] [--data mnist fashion_mnist cifar10]
                                     [--models NAME ...] [--sigmas 0.25 ...] [--copies 1000]

Shows, on the first test images, pixels in [0, 1] and L2 over the whole image, the part classified
correctly with a certified radius of at least eps, for
- prototypes: 2,000 tokens that are whole images, 4,000 for MNIST, trained for their certificates on
  images that are moved a little in every step (of MNIST, 85 % of them), and of these also a quick
  lower bound on all test images, and the certificate against attackers whose pixels stay in [0, 1];
- 16 tokens of a few pixels with a residual network that sees flipped tokens in training: by the
  smallest patch radius and by enumeration;
- of CIFAR-10, a 1-Lipschitz network, by its margins, and prototypes among its embeddings, whose
  distances in that space hold for images (lipschitz.py);
- networks additive over blocks of patches, trained with noise and trained on the bound;
- randomized smoothing of that residual network, of a network without tokens that was trained on the
  noise, and of CIFAR-10 also of the same network behind tokens of single pixels, trained on the
  tokens of noisy images (probabilistic, alpha 0.001, n noisy copies).
Upper bounds: of networks what the attacks leave, of prototypes only the
adversarial images of the certificate.  Successes of attacks below a certified radius are counted.
`--data` and `--models` measure some rows only and leave the others as they are.
Everything was chosen on the last 10,000 training images of MNIST, the 1-Lipschitz network on the
last 5,000 of CIFAR-10, none of which is trained on; one seed.

Result: benchmarks/results/whole_image.json, which benchmarks/pictures.py draws.
"""

import argparse
import json
import os
import time
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import joblib
import lipschitz
import numpy as np
import torch
from common import RESULTS, environment, save, share, stages
from prototypes import lower_bounds
from smoothed import LABELS, LEVELS, ON_TOKENS, ROWS, noisy_network, smoothed
from whole_image_models import AMONG_EMBEDDINGS, LIPSCHITZ, RESIDUAL, models

from sklearn_patchcert.attacks import run_attack
from sklearn_patchcert.datasets import load_images

RADII = {
    "mnist": (0.25, 0.5, 0.75, 1.0, 1.58),
    "fashion_mnist": (0.25, 0.5, 0.75, 1.0, 1.58),
    "cifar10": (36 / 255, 72 / 255, 108 / 255, 0.25, 0.5),
}
HELD_OUT = {"mnist": 10_000, "fashion_mnist": 10_000, "cifar10": 5_000}
PUBLISHED = {
    "mnist": {
        "smoothing, sigma .25 (Cohen et al. 2019)": (99.3, 98.5, 96.8, 93.1, 0.0, None),
        "smoothing, sigma .5 (Cohen et al. 2019)": (99.2, 98.4, 96.9, 94.4, 89.9, None),
        "SmoothAdv, sigma .5 (Salman et al. 2019)": (99.0, 98.4, 97.4, 95.7, 92.9, None),
        "deterministic: Wong et al. 2018": (None, None, None, None, None, 44.5),
        "deterministic: Lee et al. 2020": (None, None, None, None, None, 47.95),
        "deterministic: GloRo (Leino et al. 2021)": (None, None, None, None, None, 51.9),
        "deterministic: Singla and Feizi": (None, None, None, None, None, 69.8),
        "deterministic: Voracek and Hein 2022": (None, None, None, None, None, 73.0),
    },
    "cifar10": {
        "smoothing, sigma .25 (Cohen et al. 2019), at .14": (74.8, 66.4, None, None, 60.0, 42.8),
        "deterministic: LiResNet": (87.0, 78.1, 66.6, 53.5, None, None),
    },
}
TRAINED_BY = ("configurations.py", "lipschitz.py", "prototypes.py", "smoothed.py",
              "whole_image_models.py")  # fmt: skip
CODE = [Path(__file__).with_name(name).read_text() for name in TRAINED_BY]
WITHIN_BOUNDS = "prototypes, pixels within [0, 1]"
ATTACKS = {
    "search over tokens": ("flips", {}),
    "Auto-PGD, cross-entropy": ("apgd-ce", {"steps": 50}),
    "Auto-PGD, cross-entropy, soft gradient": (
        "apgd-ce", {"steps": 50, "gradient": "soft", "temperature": 0.1}),
    "Auto-PGD, DLR": ("apgd-dlr", {"steps": 50}),
    "Square, 300 queries": ("square", {"steps": 300}),
}  # fmt: skip


def fitted(data, name, model, X, y):
    """A model and the seconds of its fit, kept between runs for the same options and images."""
    key = joblib.hash((model, X, y, CODE))[:12]
    path = RESULTS / f"whole_image.{data}.{name.replace(' ', '_')}.{key}.partial.joblib"
    if not path.exists():
        start = time.perf_counter()
        model.fit(X, y)
        fresh = path.with_suffix(".new")
        joblib.dump((model, time.perf_counter() - start), fresh)
        fresh.replace(path)
    return joblib.load(path)


def certified(model, X, y, options):
    """Radii of the images, and where the time went."""
    spent, clock = [0.0], [0.0]
    alone = hasattr(model, "certify")
    net = getattr(model[-1], "module_", None) if alone else None
    hooks = []
    if net is not None:
        hooks = [
            net.register_forward_pre_hook(lambda *_: clock.__setitem__(0, time.perf_counter())),
            net.register_forward_hook(
                lambda *_: spent.__setitem__(0, spent[0] + time.perf_counter() - clock[0])
            ),
        ]
    start = time.perf_counter()
    found = model.certify_prediction(X, **options)
    seconds = time.perf_counter() - start
    for hook in hooks:
        hook.remove()
    change = (found.adversarial - X).astype(float).reshape(len(X), -1)
    norms = np.linalg.norm(change, axis=1)
    just_inside = X + (0.9999 * found.radius / norms)[:, None, None, None] * change.reshape(X.shape)
    there = np.isfinite(norms)
    changed = 0
    if there.any():
        changed = int((model.predict(just_inside[there]) != found.prediction[there]).sum())
    return {
        "prediction": found.prediction.tolist(),
        "radius": found.radius.tolist(),
        "adversarial_norm": np.where(there, norms, np.inf).tolist(),
        "patch_radius": model.certify(X).reshape(len(X), -1).min(1).tolist() if alone else None,
        "exact": float(found.exact.mean()),
        "limited": float(found.limited.mean()),
        "configurations": float(found.n_configurations.mean()),
        "changed_just_inside": changed,
        "seconds_per_image": seconds / len(X),
        "seconds_besides_the_network": (seconds - spent[0]) / spent[0] if spent[0] else None,
    }


def attacked(model, X, y, radii):
    """Smallest norm of a successful perturbation of each image, over all attacks and radii."""
    smallest = np.full(len(X), np.inf)
    by_attack = {}
    for name, (attack, extra) in ATTACKS.items():
        if not hasattr(model, "certify") and (attack == "flips" or "gradient" in extra):
            continue  # there are no tokens
        mine = np.full(len(X), np.inf)
        for eps in radii:
            found = run_attack(model, X, y, attack, eps=eps, **extra)
            mine = np.minimum(mine, np.where(found.success, found.norms, np.inf))
        by_attack[name] = mine.tolist()
        smallest = np.minimum(smallest, mine)
    return {"norm": smallest.tolist(), "by_attack": by_attack}


def table_row(radius, clean, radii, **extra):
    """Clean accuracy, certified accuracies and average radius; radius -1 where it is wrong."""
    radius = np.asarray(radius)
    shares = [share(radius >= eps) for eps in radii]
    return {
        "clean": 100 * clean,
        "certified": [100 * found["share"] for found in shares],
        "intervals": [[100 * found["from"], 100 * found["to"]] for found in shares],  # of 95 %
        "average_radius": float(np.maximum(radius, 0).mean()),
        **extra,
    }


def of_all(radius, radii):
    """Shares of all test images; radius -1 where the prediction is wrong."""
    radius = np.asarray(radius)
    return {
        "images": len(radius),
        "clean": 100 * float((radius >= 0).mean()),
        "certified": [100 * float((radius >= eps).mean()) for eps in radii],
    }


def checked(parser, options, kept):
    """Stop at names, sigmas and numbers of images that would leave a table of two kinds of rows."""
    for data in options.data:
        known = {*models(data, options.quick), *dict(ROWS[data])}
        if unknown := set(options.models or ()) - known:
            parser.error(f"{data} has no rows {sorted(unknown)}; choose from {sorted(known)}")
        sigmas = {sigma for _, sigma in ROWS[data]}
        if unknown := set(options.sigmas or ()) - sigmas:
            parser.error(f"{data} has no rows of sigma {sorted(unknown)}, only {sorted(sigmas)}")
        if kept is None or options.quick or options.validation:
            continue
        before = kept["data"].get(data, {}).get("images", options.images)
        if before != options.images:
            parser.error(f"the other rows of {data} are of {before} images, not {options.images}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion_mnist"], choices=RADII)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--copies", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="a few epochs and images only")
    parser.add_argument("--epochs", type=int, default=60, help="of the 1-Lipschitz network")
    parser.add_argument("--models", nargs="+", metavar="NAME",
                        help=f"these rows only; smoothing: {', '.join(LEVELS)}")  # fmt: skip
    parser.add_argument("--sigmas", type=float, nargs="+", help="of smoothing")
    parser.add_argument("--validation", action="store_true", help="on held-out images")
    options = parser.parse_args()
    path, part = RESULTS / "whole_image.json", options.models or options.sigmas
    kept = json.loads(path.read_text()) if path.exists() else None
    checked(parser, options, kept if part else None)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))

    @lru_cache(1)
    def every(name):
        """Images to train on, and all test images, or those held out for validation."""
        images = load_images(name)
        shape = (-1, *images.X_train.shape[1:3], (*images.X_train.shape, 1)[3])
        X, X_test = ((part / 255).astype(np.float32).reshape(shape)
                     for part in (images.X_train, images.X_test))  # fmt: skip
        last, few = len(X) - HELD_OUT[name], 5000 if options.quick else None
        held_out = (X[last:], images.y_train[last:])
        train = X[:last][:few], images.y_train[:last][:few]
        return train, held_out if options.validation else (X_test, images.y_test)

    def pixels(name):
        train, test = every(name)
        return train, tuple(part[: options.images] for part in test)

    def run(data, name, what):
        (X, y), (X_test, y_test) = pixels(data)
        if name in LEVELS:
            net = noisy_network(X, y, float(what), data, options.quick, LEVELS[name])
            return smoothed(net, X_test, y_test, float(what), options.copies)
        if name in (LIPSCHITZ, AMONG_EMBEDDINGS):
            net = lipschitz.network(data, 1 if options.quick else options.epochs)
            net, fit_seconds = fitted(data, LIPSCHITZ, net, X, y)
            if what == "attacks":
                return attacked(net, X_test, y_test, RADII[data])
            if what == "all images":
                X_test, y_test = every(data)[1]
                found = lipschitz.certified(net, X_test, y_test)
                right = np.array(found["prediction"]) == y_test
                return {"radius": np.where(right, found["radius"], -1.0).tolist()}
            model = None
            if name != LIPSCHITZ:
                model = lipschitz.prototypes()
                Z = lipschitz.embedded(net, X)
                model, more = fitted(data, name, model, Z, y)
                fit_seconds += more
            found = lipschitz.certified(net, X_test, y_test, model)
            return {**found, "fit_seconds": fit_seconds}
        model, certificate = models(data, options.quick)[name]
        model, fit_seconds = fitted(data, name, model, X, y)
        if what == "certificate":
            return {**certified(model, X_test, y_test, certificate), "fit_seconds": fit_seconds}
        if what == "attacks":
            return attacked(model, X_test, y_test, RADII[data])
        if what == "all images":
            return {"radius": lower_bounds(model, *every(data)[1]).tolist()}
        if what == "within bounds":
            found = certified(model, X_test, y_test, {**certificate, "bounds": (0, 1)})
            bounds = lower_bounds(model, *every(data)[1], bounds=(0.0, 1.0))
            return {**found, "of_all": bounds.tolist(), "fit_seconds": fit_seconds}
        return smoothed(model, X_test, y_test, float(what), options.copies)

    work = []
    for data in options.data:
        for name in options.models or models(data, options.quick):
            if name in LEVELS:
                continue
            work.append((data, name, "certificate"))
            if "network" in name and name != AMONG_EMBEDDINGS:
                work.append((data, name, "attacks"))
            if name in ("prototypes", LIPSCHITZ):
                work.append((data, name, "all images"))
            if name == "prototypes":
                work.append((data, name, "within bounds"))
        if RESIDUAL in (options.models or [RESIDUAL]):
            work.append((data, RESIDUAL, str(ROWS[data][0][1])))
        for name, sigma in ROWS[data]:
            if name in (options.models or LEVELS) and sigma in (options.sigmas or [sigma]):
                work.append((data, name, str(sigma)))
    apart = ("data", "models", "sigmas")
    settings = {key: value for key, value in vars(options).items() if key not in apart}
    start = {"images": options.images, "rows": {}}
    results = {data: {"radii": RADII[data], **deepcopy(start)} for data in options.data}
    curves = {data: ({}, {}) for data in options.data}
    label = "whole_image_validation" if options.validation else f"whole_image_{options.images}"
    code = joblib.hash(CODE)
    for (data, name, what), found in stages(label, {**settings, "code": code}, work, run):
        y_test, radii = pixels(data)[1][1], RADII[data]
        rows = results[data]["rows"]
        if what in ("certificate", "within bounds"):
            name = WITHIN_BOUNDS if what == "within bounds" else name
            right = np.array(found["prediction"]) == y_test
            radius = np.where(right, found["radius"], -1.0)
            kept = ("exact", "limited", "configurations", "changed_just_inside", "fit_seconds",
                    "seconds_per_image", "seconds_besides_the_network")  # fmt: skip
            rows[name] = table_row(radius, right.mean(), radii, **{k: found[k] for k in kept})
            upper = np.where(right, found["adversarial_norm"], 0.0)
            curves[data][0][name] = radius
            if name != AMONG_EMBEDDINGS:  # whose adversarial images are no images
                curves[data][1][name] = upper
            if "additive" in name:  # its network is asked once, for a table
                del rows[name]["seconds_besides_the_network"]
            if "of_all" in found:
                rows[name]["all_images"] = of_all(found["of_all"], radii)
            if name.startswith("16"):
                patch = np.where(right, found["patch_radius"], -1.0)
                rows["the same, smallest patch radius"] = table_row(patch, right.mean(), radii)
        elif what == "all images":
            rows[name]["all_images"] = of_all(found["radius"], radii)
        elif what == "attacks":
            norm = np.asarray(found["norm"])
            radius = curves[data][0][name]
            rows[name]["successes_below_the_certified_radius"] = int((norm < radius).sum())
            for attack, norms in found["by_attack"].items():
                left = [
                    100 * float(((radius >= 0) & (np.asarray(norms) > e)).mean()) for e in radii
                ]
                rows[name].setdefault("left_by", {})[attack] = left
            curves[data][1][name] = np.minimum(curves[data][1][name], norm)
        else:
            label = f"smoothing of {LABELS.get(name, ON_TOKENS)}, sigma {what}"
            rows[label] = table_row(
                found["radius"], found["clean"], radii, smoothing=True,
                seconds_per_image=found["seconds_per_image"], copies=found["copies"],
            )  # fmt: skip
            curves[data][0][label] = np.array(found["radius"])
    for data in options.data:
        radii, uppers = curves[data]
        for name, upper in uppers.items():
            row, eps = results[data]["rows"][name], np.array(RADII[data])
            row["upper"] = (100 * (upper[:, None] > eps).mean(0)).tolist()
            row["lower_above_upper"] = int((radii[name] > upper * (1 + 1e-9)).sum())
        results[data]["published"] = PUBLISHED.get(data, {})
    for data, found in results.items():
        for name, row in found["rows"].items():
            numbers = " ".join(f"{v:5.1f}" for v in row["certified"])
            print(f"{data:14} {name:48} {row['clean']:5.1f} {numbers} {row['average_radius']:.3f}")
    if options.quick or options.validation:
        return
    made = {}
    if path.exists():
        kept = json.loads(path.read_text())  # as it is by now
    if kept is not None and (part or set(options.data) != set(RADII)):  # the rest stays
        for data, found in results.items():
            for row in found["rows"].values():
                row["environment"] = environment()
            if part and data in kept["data"]:
                found["rows"] = {**kept["data"][data]["rows"], **found["rows"]}
        settings, results = kept["settings"], {**kept["data"], **results}
        made = {"environment": kept["environment"]}
    save("whole_image", {"settings": settings, "data": results, **made})


if __name__ == "__main__":
    main()
