"""Reduced versions of the tables about vocabularies, time and soundness, as in `reproductions`."""

from argparse import Namespace
from functools import partial
from itertools import pairwise, product

import numpy as np
import torch
from ablations import OPTIONS, measure
from agreement import apart, close, equal, factor, near, none, ordered, shares
from common import save
from configurations import discrete, standardised
from reproductions import LABELS, SAME_SEED, measured, published, summary
from scipy.fft import idct

from sklearn_patchcert import ChannelStandardizer
from sklearn_patchcert.datasets import load_images

MACHINE = "times of another machine, beside other work"


def pareto(data, candidates):
    """Radii of candidates on the front, each vocabulary trained on as many images."""
    result, checks, found = published("pareto"), [], {}
    parts = standardised(data)
    count = result["settings"]["images"]
    for row in result["rows"][data]:
        options = dict(row["options"])
        label = f"{row['group']}, {options['n_tokens']} tokens"
        if label not in candidates:
            continue
        X, X_val = parts["train"][0][:count], parts["validation"][0]
        if options.pop("colours", None) == "rgb":
            X, X_val = (idct(part, axis=-1, norm="ortho") for part in (X, X_val))
        n_tokens = options.pop("n_tokens")
        n_tokens = tuple(n_tokens) if isinstance(n_tokens, list) else n_tokens
        strategy = options.pop("strategy", "learned")
        tokens = discrete(data, 0, n_tokens, strategy=strategy)["vocab"]
        tokens.set_params(**{"patch_size": 4, "per_channel": data == "cifar10", **options})
        found[label] = row, summary(tokens.fit(X).certify(X_val))
    for label, (row, again) in found.items():
        for key in ("mean_radius", "summed_radius"):
            checks.append(close(f"{label}: {LABELS[key]}", row[key], again[key], 3, SAME_SEED))
        checks.append(apart(f"{label}: accuracy %", row["accuracy"], None, "no network is trained"))
    pairs = list(found.items())
    for (a, (row_a, new_a)), (b, (row_b, new_b)) in pairwise(pairs):
        figure = f"patch radius: {a} against {b}"
        both = [[old["mean_radius"] for old in pair] for pair in ((row_a, row_b), (new_a, new_b))]
        checks.append(ordered(figure, *both, "the order of candidates"))
    return checks


def ablations(data, variants):
    """Some options in full, with one seed instead of three."""
    rows, checks = published("ablations")["rows"][data], []
    raw, settings = load_images(data), published("ablations")["settings"]
    some, held = slice(settings["images"]), slice(-2000, None)
    X = ChannelStandardizer().fit(raw.X_train[some]).transform(raw.X_train).astype(np.float32)
    X = X if X.ndim == 4 else X[..., None]
    images = X[some], raw.y_train[some], X[held], raw.y_train[held]
    found = {name: measure(images, OPTIONS[name], 0) for name in variants}
    keys = {"error": 1, "perplexity": 3, "sobel_error": 1, "mean_radius": 3, "random_perplexity": 3}
    for name, again in found.items():
        for key, percent in keys.items():
            if key in again:
                old = rows[name][key]["values"][0]
                figure = f"{name}: {key.replace('_', ' ')}, seed 0"
                checks.append(close(figure, old, again[key], percent, SAME_SEED))
        old, new = rows[name]["accuracy"], again["accuracy"]
        why = "the whole training, on another processor"
        checks.append(near(f"{name}: accuracy %", old["values"][0], new, 2.5, 2.5, why))
    pairs = [[source(name) for name in ("none", "margin")] for source in (
        lambda name: rows[name]["mean_radius"]["values"][0],
        lambda name: found[name]["mean_radius"],
    )]  # fmt: skip
    checks.append(ordered("the margin loss enlarges radii", *pairs, "seed 0 of both"))
    return checks


def pretrained(crops=10):
    """Three vocabularies, fewer crops of each photograph."""
    import pretrained as script

    names = ("8 levels", "32 levels", "256 colors")
    script.VOCABULARIES = {name: script.VOCABULARIES[name] for name in names}
    result = measured("pretrained", "--crops", str(crops))
    before, checks = published("pretrained"), []
    why = f"the first {crops} crops of each photograph, which also teach the vocabularies"
    for name in names:
        old, new = before["rows"][name], result["rows"][name]
        for key, label in (("all", "same answer %"), ("confident", "of the confident %")):
            checks.append(shares(f"{name}: {label}", 100 * old[key]["share"], old[key]["of"],
                                 100 * new[key]["share"], new[key]["of"], why))  # fmt: skip
        checks.append(close(f"{name}: mean patch radius", old["radius"], new["radius"], 15, why))
    pairs = [[source["rows"][name]["radius"] for name in ("32 levels", "8 levels")]
             for source in (before, result)]  # fmt: skip
    checks.append(ordered("32 levels have smaller radii than 8", *pairs, why))
    return checks


def certify(n_tokens=(64, 512), patches=200_000, rounds=3):
    """Ratios of times for 4x4 patches on one thread."""
    import certify as script

    rows, checks = published("certify")["rows"], []
    names = {"top1": "faiss, nearest", "top2": "faiss, two nearest", "argmin": "scikit-learn",
             "naive": "plain torch"}  # fmt: skip
    for count in n_tokens:
        new = script.compare(16, count, 1, patches, rounds)["microseconds_per_patch"]
        old = next(row["microseconds_per_patch"] for row in rows
                   if (row["dim"], row["threads"], row["n_tokens"]) == (16, 1, count))  # fmt: skip
        for key, label in names.items():
            pair = [times[key]["median"] / times["ours"]["median"] for times in (old, new)]
            checks.append(factor(f"{count} tokens: {label}, of our time", *pair, 2, MACHINE))
        pairs = [[t["ours"]["median"], t["argmin"]["median"]] for t in (old, new)]
        checks.append(ordered(f"{count} tokens: ours is faster than scikit-learn", *pairs, MACHINE))
        pair = [times["ours"]["median"] for times in (old, new)]
        checks.append(apart(f"{count} tokens: µs per patch", *pair, MACHINE))
    return checks


def certify_images(images=300, rounds=5):
    """Ratios of times of calls on images with 64 tokens."""
    import certify_images as script

    raw = load_images("cifar10").X_train[:images]
    torch.set_num_threads(1)
    new = script.compare(raw, 64, rounds)["rows"]
    old, checks = published("certify_images")["sizes"][0]["rows"], []
    for name in ("certify", "certify uint8", "tokenize", "scikit-learn"):
        pair = [rows[name]["of engine"]["median"] for rows in (old, new)]
        checks.append(factor(f"64 tokens, {name}: of the engine's time", *pair, 1.5, MACHINE))
    return checks


def photo_attacks():
    """Small pictures only; the factor over the former way."""
    result = measured("photo_attacks", "--rounds", "1", "--sides", "32", "64")
    before, checks = published("photo_attacks"), []
    for n, part in before["tokens"].items():
        new = result["tokens"][n]
        pair = [found["former_by_new"]["median"] for found in (part, new)]
        checks.append(factor(f"{n} tokens: patch by patch, of our time", *pair, 2.5, MACHINE))
        for old, again in zip(part["rows"][:2], new["rows"], strict=True):
            figure = f"{n} tokens, {old['side']} pixels: seconds"
            pair = old["attack"]["median"], again["attack"]["median"]
            checks.append(apart(figure, *pair, MACHINE))
    return checks


def training_memory():
    """Two of the trainings that are quick."""
    import training_memory as script

    rows, checks = published("training_memory")["rows"], []
    for name in ("224 pixels, 60 pictures", "64 pixels, 256 pictures"):
        peak, seconds, at_once = script.measured(script.CASES[name])
        row = rows[name]
        why = "the same batches; libraries in memory differ"
        checks.append(close(f"{name}: peak, GiB", row["peak_gib"], peak, 20, why))
        checks.append(equal(f"{name}: below {script.LIMIT:g} GiB", row["peak_gib"] < script.LIMIT,
                            peak < script.LIMIT, "the limit"))  # fmt: skip
        if row["images_at_once"] is not None or at_once is not None:
            checks.append(equal(f"{name}: images at once", row["images_at_once"], at_once,
                                "decided by sizes alone"))  # fmt: skip
        checks.append(apart(f"{name}: seconds", row["seconds"], seconds, MACHINE))
    return checks


def layouts():
    """Fewer turns of two of the networks."""
    import layouts as script

    options, checks = Namespace(repeats=5, batch=250), []
    torch.set_num_threads(1)
    for row in published("layouts")["rows"]:
        if (name := row["network"]).startswith("CIFAR-10, WhiteningConvNet, 64"):
            continue
        what = getattr(script, row["step"])
        again = script.compared(*script.NETWORKS[name], row["half"], what, options)
        figure = f"{name}, {'bfloat16' if row['half'] else 'float32'}, {row['step']}: ratio"
        checks.append(factor(figure, row["ratio"], again["ratio"], 1.5, MACHINE))
    return checks


def flip_choice():
    """Fewer turns."""
    import flip_choice as script

    settings = published("flip_choice")["settings"]
    options, checks = Namespace(**{**settings, "repeats": 3}), []
    torch.set_num_threads(options.threads)
    for name, row in published("flip_choice")["rows"].items():
        again = script.compared(*script.CASES[name], options)
        checks.append(factor(f"{name}: time", row["ratio"], again["ratio"], 2, MACHINE))
        checks.append(factor(f"{name}: gain", row["gain"], again["gain"], 1.001, MACHINE))
    return checks


def soundness(patches=2000):
    """Fewer perturbations of patches, of 500 images, in both engines, all norms and dtypes."""
    import soundness as script

    images = load_images("cifar10").X_train[:500].astype(np.float64)
    cases = product(("dense", "walk"), script.NORMS, ("float32", "float64"), script.SCALES)
    found = [script.attack(images, *case, 64, patches, seed=1) for case in cases]
    before, again = published("soundness"), {}
    for key in ("inside", "changed", "beyond", "changed_beyond"):
        again[key] = sum(row[key] for row in found)
    old, new = (100 * part["changed_beyond"] / part["beyond"] for part in (before, again))
    why = f"{again['inside']:,} perturbations, from another seed, instead of {before['inside']:,}"
    return [
        none("tokens changed inside a radius", before["changed"], again["changed"], why),
        near("% of tokens changed just beyond a radius", old, new, 0.01, 0.01, why),
    ]


def predictions(each=60, every=4):
    """Every fourth model and those that are refused, fewer perturbations, the same 40 images."""
    import soundness as script
    from compositions import table

    names = {one.name if one else "committee": one for one in [*table(), None]}
    rows, checks = published("predictions")["rows"], []
    tries = changed = 0
    for row in [row for at, row in enumerate(rows) if at % every == 0 or row["refused"]]:
        name = row["composition"]
        if name not in names:
            checks.append(apart(f"{name}: certified images", row["certified"], None,
                                "the model is no longer in the table"))  # fmt: skip
            continue
        found = script._predictions(names[name], row["images"], each)
        tries, changed = tries + found["tries"], changed + found["changed"]
        why = "the same model and images"
        checks.append(equal(f"{name}: refused", row["refused"], found["refused"], why))
        checks.append(near(f"{name}: certified images", row["certified"], found["certified"], 2, 2,
                           f"{why}; rounding decides some"))  # fmt: skip
        old, new = row["median_radius"], found["median_radius"]
        checks.append(close(f"{name}: median radius", old, new, 5, why))
    checks.append(none(f"predictions changed by {tries:,} perturbations",
                       published("predictions")["changed"], changed, "a proof"))  # fmt: skip
    save("predictions", {"tries": tries, "changed": changed})
    return checks


FRONT = {
    "mnist": ("1x1, 8 tokens", "1x1, 4 tokens", "1x1, 3 tokens", "1x1, 2 tokens",
              "4x4, denoised, 128 tokens", "4x4, denoised, 32 tokens", "2x2, 4 tokens"),
    "cifar10": ("1x1, [8, 2, 2] tokens", "1x1, [4, 2, 2] tokens", "2x2, [8, 2, 2] tokens",
                "4x4, [2048, 3, 4] tokens"),
}  # fmt: skip
TABLES = {
    "pareto:mnist": partial(pareto, "mnist", FRONT["mnist"]),
    "pareto:cifar10": partial(pareto, "cifar10", FRONT["cifar10"]),
    "ablations:mnist": partial(
        ablations, "mnist", ("none", "soft discretisation", "entropy", "noise", "margin")
    ),
    "ablations:cifar10": partial(ablations, "cifar10", ("none", "noise", "margin")),
    "pretrained": pretrained,
    "certify": certify,
    "certify_images": certify_images,
    "photo_attacks": photo_attacks,
    "training_memory": training_memory,
    "layouts": layouts,
    "flip_choice": flip_choice,
    "soundness": soundness,
    "predictions": predictions,
}
