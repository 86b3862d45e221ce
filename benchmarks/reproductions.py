"""Reduced versions of the tables about classifiers, each compared with its published figures.

A function returns checks, as in `agreement.py`.  `benchmarks/reproduce.py` calls one function in
one process and gives it a results folder of its own.  Radii of a vocabulary do not depend on the
network, so vocabularies are trained at full size and compared closely.  Networks get fewer epochs
or images, and only what such a network shares with the published one is compared.
"""

import json
import sys
from functools import cache, partial

import numpy as np
from agreement import apart, close, equal, near, none, ordered, shares
from common import PUBLISHED, RESULTS
from configurations import EPS, data_of, discrete, models, standardised
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert import ChannelStandardizer
from sklearn_patchcert.datasets import load_images

TRAINED_ON = 10_000  # images of a reduced training
SAME_SEED = "the same images, options and seed; libraries and processors may round differently"
OTHER_CHIP = "the published vocabulary was trained on a GPU, whose random numbers differ"
FEWER = "the training has fewer images and epochs"


def published(name):
    return json.loads((PUBLISHED / f"{name}.json").read_text())


def measured(script, *options):
    """Run the main function of a script with these options; what it wrote."""
    module, before = __import__(script), sys.argv
    sys.argv = [script, *options]
    try:
        module.main()
    finally:
        sys.argv = before
    return json.loads((RESULTS / f"{script}.json").read_text())


@cache
def vocabulary(dataset, name):
    """The vocabulary of a row of the poster's tables, trained on all training images."""
    return models(dataset, 0)[name]["vocab"].fit(data_of(dataset, name)["train"][0])


def summary(radii):
    flat = radii.reshape(len(radii), -1)
    return {
        "mean_radius": float(flat.mean()),
        "smallest_radius": float(flat.min(1).mean()),
        "summed_radius": float(flat.sum(1).mean()),
    }


LABELS = {
    "mean_radius": "patch radius",
    "smallest_radius": "smallest patch radius",
    "summed_radius": "sum of patch radii",
}


def radii_of(dataset, names):
    """Radii of seed 0 of rows of the poster's tables, on the whole test set."""
    rows, checks = published(f"poster_{dataset}")["rows"], []
    for name in names:
        radii = vocabulary(dataset, name).certify(data_of(dataset, name)["test"][0])
        gpu = (rows[name].get("environment") or {}).get("gpu")
        for key, found in summary(radii).items():
            values = rows[name][key]["values"]
            figure = f"{name}: {LABELS[key]}, seed 0"
            if gpu:
                checks.append(close(figure, values[0], found, 10, OTHER_CHIP))
            else:
                checks.append(close(figure, values[0], found, 2, SAME_SEED))
        if radii.ndim == 4:
            before = rows[name]["radius_by_channel"][0]
            for channel, (old, new) in enumerate(
                zip(before, radii.mean((0, 1, 2)).tolist(), strict=True)
            ):
                why = OTHER_CHIP if gpu else SAME_SEED
                figure = f"{name}: patch radius of channel {channel}, seed 0"
                checks.append(close(figure, old, new, 10 if gpu else 2, why))
    return checks


def reduced(dataset, name, epochs):
    """A model of the poster's tables with its whole vocabulary and a network trained less."""
    X, y = (part[:TRAINED_ON] for part in data_of(dataset, name)["train"])
    model = models(dataset, 0)[name]
    if not hasattr(model, "steps"):
        return model.set_params(max_epochs=epochs).fit(X, y)
    model.steps[0] = ("vocab", FrozenEstimator(vocabulary(dataset, name)))
    return model.set_params(clf__max_epochs=epochs).fit(X, y)


def poster_mnist(images=60, epochs=3):
    """All radii; a reduced training and all attacks for two rows and the undefended network."""
    from poster_tables import one_step, smoothing, worst

    names = ("learned", "pixels", "pixels, trained on attacks", "denoised")
    checks = radii_of("mnist", names)
    rows, eps = published("poster_mnist")["rows"], EPS["mnist"]
    data = standardised("mnist")
    X, y = (part[:images] for part in data["test"])
    found, undefended = {}, reduced("mnist", "undefended", epochs)
    for name in ("undefended", "learned", "pixels"):
        model = undefended if name == "undefended" else reduced("mnist", name, epochs)
        accuracy = 100 * float(model.score(*data["test"]))
        validation = [part[:images] for part in data["validation"]]
        found[name] = {
            "test_accuracy": accuracy,
            "sspgd": one_step(model, X, y, eps)["sspgd"],
            **worst(model, undefended, X, y, eps, validation),
        }
        mean = rows[name]["test_accuracy"]["mean"]
        checks.append(near(f"{name}: accuracy %", mean, accuracy, 5, 0.5, FEWER))
        below = found[name]["successes_below_the_certified_radius"]
        before = rows[name]["attacks"]["successes_below_the_certified_radius"]
        checks.append(none(f"{name}: attacks below a certified radius", before, below, "a proof"))

    def order(figure, low, high, of):
        pairs = [[of(source[name]) for name in (low, high)] for source in (rows, found)]
        checks.append(ordered(figure, *pairs, f"{FEWER}, and {images} images"))

    def step(row):
        return row["sspgd"]["mean"] if isinstance(row["sspgd"], dict) else row["sspgd"]

    def all_attacks(row):
        return row.get("attacks", row)["worst_case"]

    order("one step %: undefended below learned", "undefended", "learned", step)
    order("all attacks %: undefended below learned", "undefended", "learned", all_attacks)
    order("all attacks %: learned below pixels", "learned", "pixels", all_attacks)
    for name in ("learned", "pixels"):
        pairs = [
            [row["left"]["search over tokens"], row["left"]["Auto-PGD, cross-entropy"]]
            for row in (rows[name]["attacks"], found[name])
        ]
        figure = f"{name}: the search over tokens leaves less than Auto-PGD"
        checks.append(ordered(figure, *pairs, f"{FEWER}, and {images} images"))
    for name, row in found.items():
        for key, label in (("sspgd", "one step %"), ("worst_case", "all attacks %")):
            before = step(rows[name]) if key == "sspgd" else all_attacks(rows[name])
            why = f"{FEWER}, which changes what attacks find"
            checks.append(apart(f"{name}: {label}", before, row[key], why))
    few = smoothing(undefended, X[:20], y[:20], 2.0, 200)
    before = rows["undefended"]["smoothing_accuracy"]["mean"]
    figure = "undefended: smoothing %"
    checks.append(apart(figure, before, few["smoothing_accuracy"], "20 images, 200 copies"))
    return checks


def poster_fashion_mnist():
    """Radii of the vocabularies that were trained on a CPU, without the slow one."""
    return radii_of("fashion_mnist", ("learned", "pixels"))


def poster_cifar10():
    """Radii of the vocabularies; networks take hours on two cores."""
    return radii_of("cifar10", ("pixels", "small patches", "learned"))


def choices_mnist():
    """Radii of candidates on validation images."""
    from choices import CANDIDATES

    return _choices("mnist", CANDIDATES, (
        "learned, 20 tokens, flips 0", "learned, 18 tokens, flips 2",
        "1x1, learned, 2 tokens, flips 2", "2x2, learned, 3 tokens, flips 2",
    ))  # fmt: skip


def choices_cifar10():
    """Radii of the learned vocabulary on validation images."""
    from choices import CANDIDATES

    return _choices("cifar10", CANDIDATES, list(CANDIDATES["cifar10"])[:1])


def _choices(dataset, candidates, names):
    rows, data, checks = published(f"choices_{dataset}")["rows"], standardised(dataset), []
    for name in names:
        options = dict(candidates[dataset][name])
        X = data["train"][0][: rows[name]["images"]]
        tokens = discrete(dataset, 0, **options)["vocab"].fit(X)
        found = summary(tokens.certify(data["validation"][0][:1000]))
        for key in ("mean_radius", "summed_radius"):
            figure, old = f"{name}: {LABELS[key]}", rows[name][key]
            checks.append(close(figure, old, found[key], 10, OTHER_CHIP))
    return checks


def mnist(epochs=1):
    """Radii of both strategies, and one epoch instead of four."""
    found = measured("mnist", "--seeds", "1", "--epochs", str(epochs))["rows"]
    checks, why = [], f"{epochs} epoch instead of 4"
    for name, row in published("mnist")["rows"].items():
        mean, again = row["accuracy"]["mean"], found[name]["accuracy"]["mean"]
        checks.append(near(f"{name}: accuracy %", mean, again, 2.5, 0.5, why))
        for key in ("mean_radius", "summed_radius"):
            if key in row:
                figure, value = f"{name}: {LABELS[key]}, seed 0", found[name][key]["mean"]
                checks.append(close(figure, row[key]["values"][0], value, 2, SAME_SEED))
    for name in ("learned", "kmeans"):
        pairs = [[source[n]["accuracy"]["mean"] for n in (name, "baseline")]
                 for source in (published("mnist")["rows"], found)]  # fmt: skip
        checks.append(ordered(f"accuracy %: {name} below undefended", *pairs, why))
    return checks


def whole_image(data, epochs=None, images=200):
    """The additive network in full; fewer epochs of prototypes; the map of 16 tokens.

    Without `epochs` only the map of 16 tokens is measured.
    """
    import whole_image as script
    from prototypes import PROTOTYPES

    rows, radii = published("whole_image")["data"][data]["rows"], script.RADII[data]
    raw = load_images(data)
    shape = (-1, *raw.X_train.shape[1:3], raw.X_train.shape[3] if raw.X_train.ndim == 4 else 1)
    X, X_test = ((part / 255).astype(np.float32).reshape(shape)
                 for part in (raw.X_train[: -script.HELD_OUT[data]], raw.X_test))  # fmt: skip
    y, y_test = raw.y_train[: len(X)], raw.y_test
    all_images = published("whole_image")["data"][data].get("images", 1000)
    row, checks = rows["the same, smallest patch radius"], []
    model = script.models(data, False)
    tokens = model["16 tokens, residual network"][0]["vocab"].fit(X)
    smallest = tokens.certify(X_test[:all_images]).reshape(all_images, -1).min(1).mean()
    why = "the map without the network, times the published accuracy: errors count as 0 there"
    figure, again = "16 tokens: average smallest patch radius", float(smallest) * row["clean"] / 100
    checks.append(close(figure, row["average_radius"], again, 15, why))
    if epochs is None:
        return checks
    name = "additive network"
    additive, options = model[name]
    found = script.certified(additive.fit(X, y), X_test[:1000], y_test[:1000], options)
    right = np.array(found["prediction"]) == y_test[:1000]
    radius = np.where(right, found["radius"], -1.0)
    why = "the whole training and the same images; other processors train another network"
    checks.append(near(f"{name}: clean", rows[name]["clean"], 100 * right.mean(), 3, 3, why))
    for eps, old in zip(radii, rows[name]["certified"], strict=True):
        new = 100 * float((radius >= eps).mean())
        checks.append(near(f"{name}: certified at {eps:.2f}", old, new, 5, 5, why))
    checks.append(none(f"{name}: changes just inside", rows[name]["changed_just_inside"],
                       found["changed_just_inside"], "a proof"))  # fmt: skip
    name = "prototypes"
    whole, options = model[name]
    whole.set_params(vocab__max_iter=epochs).fit(X, y)
    found = script.certified(whole, X_test[:images], y_test[:images], options)
    right = np.array(found["prediction"]) == y_test[:images]
    radius = np.where(right, found["radius"], -1.0)
    why = f"{epochs} epochs instead of {PROTOTYPES[data][2]}, and {images} images"
    checks.append(near(f"{name}: clean", rows[name]["clean"], 100 * right.mean(), 6, 3, why))
    for eps, old in zip(radii, rows[name]["certified"], strict=True):
        new = 100 * float((radius >= eps).mean())
        checks.append(near(f"{name}: certified at {eps:.2f}", old, new, 15, 8, why))
    checks.append(close(f"{name}: share of exact radii", rows[name]["exact"], found["exact"], 1,
                        "a property of the certificate"))  # fmt: skip
    checks.append(none(f"{name}: changes just inside", rows[name]["changed_just_inside"],
                       found["changed_just_inside"], "a proof"))  # fmt: skip
    return checks


def stickers(data):
    """Masks, and radii of the vocabularies; the training with masks takes hours."""
    import stickers as script

    from sklearn_patchcert.prediction import covering_masks

    result, checks = published("stickers")["data"][data], []
    parts, scale = script.images(data)
    n = result["settings"]["images"]
    for name, options in script.MODELS[data].items():
        if name not in result["rows"]:
            continue
        side, pixels = script.side_of(options), parts["test"][0].shape[1]
        cells = -(-pixels // side)
        for size, several in result["masks"][name].items():
            window = -(-(int(size) - 1) // side) + 1
            for row in several:
                masks = covering_masks((cells, cells), [(window, window)], row["count"])
                figure = f"{name}, sticker {size}x{size}: masks of {row['masks']}"
                checks.append(equal(figure, row["masks"], len(masks), "geometry"))
                hidden = int(masks.sum((1, 2)).max()) * side**2
                figure = f"{name}, sticker {size}x{size}, {row['masks']} masks: largest mask"
                checks.append(equal(figure, row["mask_pixels"], hidden, "geometry"))
        if "n_tokens" not in options:  # masks over pixels have no radii
            continue
        tokens = script.made(data, options)["vocab"].fit(parts["train"][0])
        radii = tokens.certify(parts["test"][0][:n])
        radii = radii.min(3) if radii.ndim == 4 else radii
        old = next(iter(result["rows"][name].values()))["radius"]
        checks.append(close(f"{name}: joint patch radius", old, float(scale * radii.mean()), 2,
                            SAME_SEED))  # fmt: skip
    return checks


def attacks(images=100, epochs=1):
    """Every attack, on fewer images and networks of one epoch."""
    result = measured("attacks", "--images", str(images), "--epochs", str(epochs))["models"]
    checks = []
    for name, row in published("attacks")["models"].items():
        again, before = result[name]["accuracy"], row["accuracy"]
        why = f"{epochs} epoch instead of 3, {images} images"
        checks.append(near(f"{name}: clean", before["clean"], again["clean"], 5, 2, why))
        for attack in before:
            if attack != "clean":
                figure = f"{name}: {attack}"
                if name == "undefended":  # a network that is trained less is attacked differently
                    checks.append(apart(figure, before[attack], again[attack], why))
                else:
                    checks.append(near(figure, before[attack], again[attack], 15, 15, why))
        for soft in ("search over tokens", "Auto-PGD, cross-entropy, soft gradient"):
            if soft in before:
                pairs = [[left[soft], left["Auto-PGD, cross-entropy"]] for left in (before, again)]
                figure = f"{name}: {soft} leaves less than the straight-through gradient"
                checks.append(ordered(figure, *pairs, why))
        key = "successes_below_the_certified_radius"
        checks.append(none(f"{name}: attacks below a certified radius", row[key],
                           result[name][key], "a proof"))  # fmt: skip
        old, new = (found["smoothing"]["average_certified_radius"] for found in (row, result[name]))
        checks.append(apart(f"{name}: smoothed radius", old, new, why))
    return checks


def others(images=20):
    """Two models of one epoch, attacked on fewer images; smoothing with fewer copies."""
    import others as script

    raw, before, checks = load_images("mnist"), published("others"), []
    scaler = ChannelStandardizer().fit(raw.X_train[:50_000])
    X, y = scaler.transform(raw.X_test[:images]).astype(np.float32), raw.y_test[:images]
    why = f"1 epoch instead of 3, {images} images"
    for name in ("undefended", "16 k-means tokens"):
        row = before["models"][name]
        new = script.compare(name, script.trained(raw, script.MODELS[name], 1), X, y)
        of = before["settings"]["images"]
        for side, label in (("theirs", "all attacks of the others"), ("ours", "all our attacks")):
            pair = row["left_by_all"][side], of, new["left_by_all"][side], images
            checks.append(shares(f"{name}: {label}", *pair, why))
        pair = 100 * row["theirs_only"] / of, of, 100 * new["theirs_only"] / images, images
        checks.append(shares(f"{name}: % that only others change", *pair, why))
        for key in ("below_the_patch_radius", "below_the_radius_of_the_prediction"):
            if key in row:
                figure = f"{name}: attacks {key.replace('_', ' ')}"
                checks.append(none(figure, row[key], new[key], "a proof"))
    old, new = before["smoothing"], script.smoothing(raw, X, y, 1, n=1000)
    pair = old["furthest_from_the_formula"], new["furthest_from_the_formula"]
    figure = "smoothing: difference from the formula of Cohen et al."
    checks.append(near(figure, *pair, 1e-9, 1e-9, "the same formula, rounded"))
    pair = [found["art"]["rms_difference_in_standard_errors"] for found in (old, new)]
    figure = "smoothing: difference from ART, in standard errors"
    checks.append(near(figure, *pair, 0.6, 0.6, "both draw their own noise"))
    figure = "smoothing: average smoothed radius"
    pair = old["average_certified_radius"], new["average_certified_radius"]
    checks.append(apart(figure, *pair, "1,000 copies allow radii below those of 10,000"))
    return checks


TABLES = {
    "poster_mnist": poster_mnist,
    "mnist": mnist,
    "poster_fashion_mnist": poster_fashion_mnist,
    "poster_cifar10": poster_cifar10,
    "whole_image:mnist": partial(whole_image, "mnist", 4),
    "whole_image:fashion_mnist": partial(whole_image, "fashion_mnist", 4),
    "whole_image:cifar10": partial(whole_image, "cifar10"),
    "stickers:mnist": partial(stickers, "mnist"),
    "stickers:fashion_mnist": partial(stickers, "fashion_mnist"),
    "attacks": attacks,
    "others": others,
    "choices_mnist": choices_mnist,
    "choices_cifar10": choices_cifar10,
}
