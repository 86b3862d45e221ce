"""Both tables of the poster, reproduced for one data set, and what the poster does not show.

    python benchmarks/poster_tables.py --dataset mnist|fashion_mnist|cifar10 [--seeds 3]
                                       [--images 1000] [--one-step 5000] [--quick]
                                       [--models NAME ...] [--skip sspgd|attacks|smoothing ...]
                                       [--jobs 1]

Shows, for an undefended network, a learned vocabulary, a denoised one, vocabularies of small
patches and others: accuracy, mean radius of a patch (L2), the smallest one of an image (its mean
over images; within it no token changes), the sum over an image (a slack statistic, not a radius),
accuracy under one step of projected gradient descent (SSPGD; through the straight-through and the
soft gradient, the lower counts), and accuracy and average certified radius of randomized smoothing,
with `--noise` also of an undefended network trained on the noise.  And what the poster lacks: the
worst case over the attacks of this library, the search over tokens among them, on the first test
images.  Units are standardised pixels, L2 over a whole image for attacks and smoothing.  The models
are those of benchmarks/configurations.py, which benchmarks/choices.py compares with others on
images held out from training; the test set is used once per model.

Every stage is written as it ends, models are kept, and a run that was stopped goes on.  `--models`
measures some rows only, without the attack that comes from the undefended network unless that is
among them and sees the same channels, and leaves the others as they are; `--jobs` runs so many
stages at once.  `--quick` is a smoke test on scikit-learn's digits.

Result: benchmarks/results/poster_<data set>.json.
"""

import argparse
import json
import time
from functools import partial

import joblib
import numpy as np
import torch
from common import RESULTS, environment, save, spread, stages
from configurations import (
    EPS,
    HELD_OUT,
    IN_RGB,
    ON_NOISE,
    POSTER,
    SIGMA,
    data_of,
    models,
    standardised,
)
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert import PatchNetClassifier, SmoothedClassifier
from sklearn_patchcert.attacks import run_attack
from sklearn_patchcert.attacks.robustness import ATTACKS as ATTACK_FUNCTIONS

SOFT = [  # temperatures of distances between patches
    {"gradient": "soft", "temperature": t} for t in (0.05, 0.1, 0.2, 0.5, 1.0, 4.0)
]
ATTACKS = {
    "PGD, 40 steps": ("pgd", {"steps": 40}),
    "Auto-PGD, cross-entropy": ("apgd-ce", {"steps": 40}),
    "Auto-PGD, DLR": ("apgd-dlr", {"steps": 40}),
    "Square, 300 queries": ("square", {"steps": 300}),
    "Auto-PGD, cross-entropy, soft gradient": ("apgd-ce", {"steps": 40}),
    "transfer from the undefended network": ("apgd-ce", {"steps": 40}),
    "search over tokens": ("flips", {}),
}
OF_TOKENS = ("soft", "transfer", "tokens")
MORE = ("sspgd", "attacks", "smoothing")  # measurements of a model besides its accuracy and radii
NO_TRANSFER = "attacks without transfer"


def estimate(dataset, names, data):
    """Seconds that the training of one seed takes, from one step of each network."""
    X, y = data["train"]
    total = 0.0
    for name, model in models(dataset, 0).items():
        if name not in names or kept_at(dataset, name, 0).exists():
            continue
        net = model if isinstance(model, PatchNetClassifier) else model[-1]
        if not isinstance(net, PatchNetClassifier):
            continue
        epochs, size = net.max_epochs, min(len(X), 2 * net.batch_size)
        probe = PatchNetClassifier(
            net.module, batch_size=net.batch_size, max_epochs=1, autocast=net.autocast
        )
        probe.set_params(**{k: v for k, v in net.get_params().items() if k.startswith("module__")})
        probe.partial_fit(X[:size], y[:size])  # the first steps prepare much
        start = time.perf_counter()
        probe.partial_fit(X[:size], y[:size])
        total += (time.perf_counter() - start) * epochs * len(X) / size
    return total


def kept_at(dataset, name, seed):
    return RESULTS / f"poster.{dataset}.{name}.{seed}.partial.joblib"


def fitted(dataset, name, seed):
    """A model, the seconds of its fit and where it ran, kept between runs."""
    path, model = kept_at(dataset, name, seed), models(dataset, seed)[name]
    wanted = joblib.hash(model)
    if path.exists():
        *found, configuration = joblib.load(path)
        if configuration == wanted:
            return found
    start = time.perf_counter()
    model.fit(*data_of(dataset, name)["train"])
    found = model, time.perf_counter() - start, environment()
    joblib.dump((*found, wanted), path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    return found


def clean(model, data):
    """Accuracies and radii."""
    found = {
        f"{part}_accuracy": 100 * float(model.score(*data[part])) for part in ("validation", "test")
    }
    if hasattr(model, "certify"):
        radii = model.certify(data["test"][0])
        if radii.ndim == 4:
            found["radius_by_channel"] = radii.mean((0, 1, 2)).tolist()
        radii = radii.reshape(len(radii), -1)
        found["mean_radius"] = float(radii.mean())
        found["summed_radius"] = float(radii.sum(1).mean())
        found["smallest_radius"] = float(radii.min(1).mean())
    return found


def has_network(model):
    """Whether attacks find a gradient; prototypes have none, but distances, which have."""
    return isinstance(model, PatchNetClassifier) or isinstance(model[-1], PatchNetClassifier)


def distances_of(model):
    """Prototypes as a torch module: minus the squared distance to the nearest of each class."""
    tokens = torch.tensor(model["vocab"].vocabulary_)
    owners = model[1:].predict(np.arange(len(tokens))[:, None])
    classes = [tokens[torch.as_tensor(owners == label)] for label in model.classes_]

    def logits(images):
        flat = images.permute(0, 2, 3, 1).flatten(1)
        return torch.stack([-torch.cdist(flat, c).square().amin(1) for c in classes], 1)

    return logits


def attacked(model, X, y, attack, eps, **options):
    """Success and norms of an attack, judged by the model."""
    if has_network(model) or attack == "square" or "source" in options:
        choices = 1
        if hasattr(model, "certify"):
            tokens = model["vocab"]
            choices = tokens.tokenize(X[:1]).size * tokens.vocabulary_.shape[-2]
        most = 10**9 if torch.cuda.is_available() and attack != "flips" else 5 * 10**7
        batch_size = max(1, min(500, most // choices))  # for the memory
        found = run_attack(model, X, y, attack, eps=eps, batch_size=batch_size, **options)
        return found.success, found.norms
    images, labels = torch.from_numpy(X).permute(0, 3, 1, 2), torch.from_numpy(y.astype(np.int64))
    generator = torch.Generator().manual_seed(0)
    run = ATTACK_FUNCTIONS[attack]
    made = run(distances_of(model), images, labels, eps=eps * (1 - 1e-6),
               generator=generator, **options)  # fmt: skip
    made = made.permute(0, 2, 3, 1).numpy()
    norms = np.linalg.norm((made.astype(float) - X).reshape(len(X), -1), axis=1)
    return (model.predict(X) == y) & (model.predict(made) != y) & (norms <= eps), norms


def one_step(model, X, y, eps):
    """Accuracy that SSPGD leaves, by gradient, and the lowest."""
    gradients = [{}]
    if has_network(model) and hasattr(model, "certify"):
        gradients += SOFT
    correct, left = model.predict(X) == y, {}
    for options in gradients:
        success, _ = attacked(model, X, y, "sspgd", eps, **options)
        left[label(options)] = 100 * float((correct & ~success).mean())
    return {"left": left, "sspgd": min(left.values())}


def label(options):
    return " ".join(map(str, options.values())) or "straight-through"


def worst(model, undefended, X, y, eps, validation):
    """Accuracy that all attacks together leave, and each.

    The soft gradient is the one through which one step fools most on validation images.
    """
    standing, left = model.predict(X) == y, {}
    correct = standing.copy()
    smallest, discrete = np.full(len(X), np.inf), hasattr(model, "certify")
    result = {"clean": 100 * float(correct.mean()), "images": len(X)}
    for name, (attack, options) in ATTACKS.items():
        of_tokens = any(word in name for word in OF_TOKENS)
        if of_tokens and not (discrete and (has_network(model) or name.startswith("transfer"))):
            continue
        if name.startswith("transfer") and undefended is None:
            continue
        extra = {"source": undefended} if name.startswith("transfer") else {}
        if "soft" in name:
            by_gradient = one_step(model, *validation, eps)["left"]
            extra = min(SOFT, key=lambda options: by_gradient[label(options)])
            result["temperature"] = extra["temperature"]
        success, norms = attacked(model, X, y, attack, eps, **options, **extra)
        left[name] = 100 * float((correct & ~success).mean())
        standing &= ~success
        smallest = np.minimum(smallest, np.where(success, norms, np.inf))
    if discrete and not has_network(model):
        found = model.certify_prediction(X, cells=True)
        made = np.where(np.isfinite(found.adversarial), found.adversarial, X)
        norms = np.linalg.norm((made.astype(float) - X).reshape(len(X), -1), axis=1)
        success = correct & (model.predict(made) != y) & (norms <= eps)
        left["the certificate's own images"] = 100 * float((correct & ~success).mean())
        standing &= ~success
        smallest = np.minimum(smallest, np.where(success, norms, np.inf))
        result["certified"] = 100 * float((correct & (found.radius >= eps)).mean())
        result["below_the_radius_of_the_prediction"] = int((smallest < found.radius).sum())
    below = 0
    if discrete:
        below = int((smallest < model.certify(X).reshape(len(X), -1).min(1)).sum())
    return {
        **result,
        "left": left,
        "worst_case": 100 * float(standing.mean()),
        "successes_below_the_certified_radius": below,
    }


def smoothing(model, X, y, sigma, copies):
    """Accuracy and average certified radius of randomized smoothing, as it is trained."""
    smoothed = SmoothedClassifier(FrozenEstimator(model), sigma, n=copies, random_state=0)
    classes, radii = smoothed.fit(X, y).certify(X)
    return {
        "smoothing_accuracy": 100 * float((classes == y).mean()),
        "smoothing_radius": float(np.where(classes == y, radii, 0).mean()),
    }


def stage(options, name, seed, what, configuration):
    """One measurement of one model, which is fitted first where it is not yet.

    The configuration, a hash, is there for the caller, who keeps results by all arguments.
    """
    dataset, most = options.dataset, options.images
    data, eps = data_of(dataset, name), EPS[dataset]
    X, y = data["test"]
    model, seconds, where = fitted(dataset, name, seed)
    if what == "fit":
        return {"fit_seconds": seconds, "environment": where, **clean(model, data)}
    if what == "sspgd":
        return one_step(model, X[: options.one_step], y[: options.one_step], eps)
    if what.startswith("attacks"):
        undefended = None if what == NO_TRANSFER else fitted(dataset, "undefended", seed)[0]
        validation = [part[:500] for part in data["validation"]]
        return worst(model, undefended, X[:most], y[:most], eps, validation)
    some = slice(options.smoothed)
    return smoothing(model, X[some], y[some], SIGMA[dataset], options.copies)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist", choices=[*HELD_OUT])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000, help="attacked by the whole suite")
    parser.add_argument("--one-step", type=int, default=5000, help="images of SSPGD")
    parser.add_argument("--smoothed", type=int, default=200, help="images that are smoothed")
    parser.add_argument("--copies", type=int, default=1000)
    parser.add_argument("--noise", action="store_true", help="also a network trained on noise")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="measure these rows only")
    parser.add_argument("--skip", nargs="+", default=[], choices=MORE, help="leave cells empty")
    parser.add_argument("--jobs", type=int, default=1, help="stages that run at once")
    parser.add_argument("--quick", action="store_true", help="a smoke test on digits")
    options = parser.parse_args()
    if options.quick:
        options.dataset, options.seeds, options.images = "digits", 1, 30
        options.one_step, options.smoothed, options.copies = 150, 10, 100
        for kept in RESULTS.glob("poster*digits.*partial*"):
            kept.unlink()
    dataset = options.dataset
    names = [
        name for name in models(dataset, 0) if name != ON_NOISE or options.noise or options.quick
    ]
    names = [name for name in names if name in (options.models or names)]
    seconds = estimate(dataset, names, standardised(dataset))
    print(f"training takes about {seconds / 60:.0f} minutes a seed, without flips")
    # Fits come first: the others need the undefended network, too.
    keys = [(name, seed) for seed in range(options.seeds) for name in names]
    keys = [(name, seed) for name, seed in keys if name != ON_NOISE or seed == 0]
    attacks = "attacks" if "undefended" in names else NO_TRANSFER
    fits = [(*key, "fit") for key in keys]
    more = [(*key, "sspgd") for key in keys if key[0] != ON_NOISE]
    attacks = {name: NO_TRANSFER if name in IN_RGB else attacks for name in names}
    more += [(name, 0, attacks[name]) for name in names if name != ON_NOISE]
    more += [(name, 0, "smoothing") for name in names]
    more = [work for work in more if work[2].split()[0] not in options.skip]
    rows = {name: {} for name in names}
    variable = ("seeds", "noise", "models", "skip", "jobs")  # adds to what there is
    settings = {name: value for name, value in vars(options).items() if name not in variable}
    for work in (fits, more):
        work = [(*key, joblib.hash(models(dataset, key[1])[key[0]])) for key in work]
        found = stages(f"poster_{dataset}", settings, work, partial(stage, options), options.jobs)
        for (name, _, what, _), values in found:
            if what == attacks[name]:
                rows[name]["attacks"] = values
            for key, value in values.items() if what != attacks[name] else ():
                rows[name].setdefault(key, []).append(value)
    for name, row in rows.items():
        for key, values in row.items():
            if key == "environment":
                row[key] = values[0]
            elif key not in ("attacks", "left", "radius_by_channel"):
                row[key] = spread(values)
        cells = [
            row[k]["mean"] if k in row else np.nan
            for k in ("test_accuracy", "mean_radius", "summed_radius", "sspgd",
                      "smoothing_accuracy", "smoothing_radius")
        ]  # fmt: skip
        worst_case = row.get("attacks", {}).get("worst_case", np.nan)
        print(f"{name:32}" + "".join(f"{c:9.2f}" for c in (*cells, worst_case)))
    if not options.quick:
        units = {"eps": EPS[dataset], "sigma": SIGMA[dataset]}
        result = {"settings": vars(options), **units, "rows": rows}
        result["poster"] = POSTER.get(dataset, {})
        path = RESULTS / f"poster_{dataset}.json"
        if options.models and path.exists():
            kept = {**json.loads(path.read_text())["rows"], **rows}
            ordered = (*models(dataset, 0), *kept)
            result["rows"] = {name: kept[name] for name in ordered if name in kept}
        save(f"poster_{dataset}", result)


if __name__ == "__main__":
    main()
