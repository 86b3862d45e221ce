"""Tables about classifiers: functions of a result, to a header, rows of cells and a note."""

from itertools import chain

from scipy.stats import binomtest

DATA = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
PNPC = "[Voráček and Hein 2022](https://arxiv.org/abs/2207.07208)"
LIPNEXT = "[Hu et al. 2026](https://arxiv.org/abs/2601.18513)"
MARGINS = "95 % intervals (Clopper and Pearson)"
TABLE = "`python benchmarks/poster_tables.py --dataset "


ACCURATE = {"2x3 patches": "2x3 patches"}  # rows that stand beside the learned tokens
ROBUST = {
    "pixels, flips 5, convolutions": "single pixels trained on token changes",
    "pixels, all greens, flips 0.6": "single pixels trained on token changes",
}


def headline(mnist, cifar, whole, sound):
    """Ten figures of this library beside those of the poster and of the literature."""
    rows = []
    for result in (mnist, cifar):
        data, row = DATA[result["settings"]["dataset"]], result["rows"]["learned"]
        accuracy, radius, *_, step = result["poster"]["learned"]
        budget = f"L2 budget {result['eps']:g}"
        clean, mean, worst = spread(row["test_accuracy"]), spread(row["mean_radius"]), _left(row)
        for name in [name for name in ACCURATE if name in result["rows"]]:
            other, told = result["rows"][name], ACCURATE[name]
            clean += f"; {spread(other['test_accuracy'])} for {told}"
            mean += f"; {spread(other['mean_radius'])} for {told}"
        for name in [name for name in ROBUST if name in result["rows"]]:
            worst += f"; {_left(result['rows'][name])} for {ROBUST[name]}"
        rows += [
            (data, "accuracy %, learned tokens", clean, f"{accuracy:.2f}"),
            (data, "mean patch radius", mean, f"{radius:.2f}"),
            (data, f"accuracy % after one attack step, {budget}", spread(row["sspgd"]),
             f"{step:.2f}"),
            (data, f"accuracy % after all our attacks, {budget}", worst, "not reported"),
        ]  # fmt: skip
    for name, radius, shown, figure, source in (
        ("mnist", 1.58, "1.58", 73.0, PNPC),
        ("cifar10", 36 / 255, "36/255", 73.2, LIPNEXT),
    ):
        found = whole["data"][name]
        certified = _of_most(found, "prototypes", radius, whole["settings"])
        for other, told in (
            ("prototypes, pixels within [0, 1]", "if pixels stay within [0, 1]"),
            ("1-Lipschitz network", "for a 1-Lipschitz network in benchmarks/"),
        ):
            if other in found["rows"]:
                certified += f"; {_of_most(found, other, radius, whole['settings'])} {told}"
        rows.append(
            (DATA[name], f"certified accuracy % at L2 {shown}, prototypes", certified,
             f"{figure:.1f}, {source}")
        )  # fmt: skip
    header = ("data", "measure", "this library", "poster or literature")
    note = (
        "The first eight rows are in standardized pixels and compare with the poster, the last two "
        "are in [0, 1] pixels and compare with the best deterministic certificates without "
        "extra data that we know of. Mean ± standard deviation over 3 seeds, or one seed with a "
        "95 % interval over test images. Certificates are of all test images unless their number "
        "is given, by lower bounds for prototypes. In a separate test "
        f"{sound['inside']:,} perturbations inside a patch radius changed {sound['changed']} "
        "tokens."
    )
    return header, rows, note


def poster(result):
    """The columns of the poster, its own rows in italics, and the accuracy after all attacks."""
    header = ("model", "accuracy %", "patch radius", "smallest patch radius", "sum of patch radii",
              "one step %", "all attacks %", "smoothing %", "smoothed radius")  # fmt: skip
    columns = ("test_accuracy", "mean_radius", "smallest_radius", "summed_radius", "sspgd")
    rows = []
    for name, row in result["rows"].items():
        cells = [spread(row.get(key), 4 if key == "smallest_radius" else 2) for key in columns]
        cells.append(_left(row))
        cells += [spread(row.get(key)) for key in ("smoothing_accuracy", "smoothing_radius")]
        rows.append((name, *cells))
        if name in result["poster"]:
            accuracy, patch, total, smooth, radius, step = result["poster"][name]
            shown = (accuracy, patch, None, total, step, None, smooth, radius)
            rows.append((f"*poster, {name}*", *(number(value, 2) for value in shown)))
    return header, rows, _how_poster(result)


def _how_poster(result):
    settings, machine, models = result["settings"], result["environment"], result["rows"]
    attacked = {name: row["attacks"] for name, row in models.items() if "attacks" in row}
    counts = {name: len(row["test_accuracy"]["values"]) for name, row in models.items()}
    seeds, one_step = max(counts.values()), settings.get("one_step", 5 * settings["images"])
    over = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    images = {name: attacks["images"] for name, attacks in attacked.items()}
    fitted: dict = {}
    for name, row in models.items():
        place = row.get("environment", machine)
        fitted.setdefault(place["gpu"] or place["processor"], []).append(name)
    below = sum(attacks["successes_below_the_certified_radius"] for attacks in attacked.values())
    alone = [
        name
        for name, attacks in attacked.items()
        if "mean_radius" in models[name] and not any("transfer" in a for a in attacks["left"])
    ]
    alone = f"; those on {_quoted(alone)} have no transfer from the undefended network" * any(alone)
    text = (
        f"{DATA[settings['dataset']]} test set, standardized pixels, {over}{_but(counts, seeds)}. "
        f"The one-step attack ran on {one_step:,} images, all attacks on {settings['images']:,} "
        f"images{_but(images, settings['images'])}, both with an L2 budget of {result['eps']:g}"
        f"{alone}. "
        f"Smoothing used sigma {result['sigma']:g}, {settings['copies']:,} copies and "
        f"{settings['smoothed']} images. Successful attacks below a certified radius: {below}. "
        f"Intervals are of Clopper and Pearson, 95 %. {_one_seed(models, one_step)}Those of the "
        f"smoothing % {margin(_values(models, 'smoothing_accuracy'), settings['smoothed'])}. The "
        "smoothed radius has one seed and no interval. "
    )
    channels = [
        f"{_quoted([name])} {', '.join(f'{radius:.2f}' for radius in row['radius_by_channel'][0])}"
        for name, row in models.items()
        if "radius_by_channel" in row
    ]
    if channels:
        text += f"Patch radii by channel: {'; '.join(channels)}. "
    noise = " --noise" if any("noise" in name for name in models) else ""
    where = "; ".join(f"{place}: {_quoted(names)}" for place, names in fitted.items())
    return text + (
        f"{TABLE}{settings['dataset']} --seeds {seeds} --images {settings['images']} --one-step "
        f"{one_step} --smoothed {settings['smoothed']}{noise}`, {machine['processor']}, torch "
        f"{machine['torch']}. Hardware of the fits of seed 0: {where}."
    )


def choices(result):
    """Candidates for the tables of the poster on validation images."""
    header = ("tokens, L2 budget in training", "accuracy %", "patch radius",
              "sum of patch radii", "one step %", "search over tokens %", "all attacks %",
    )  # fmt: skip
    rows = [
        (name, number(row["accuracy"], 2), number(row["mean_radius"], 2),
         number(row["summed_radius"], 2),
         *(number(row.get(key)) for key in ("sspgd", "search_over_tokens", "worst_case")))
        for name, row in result["rows"].items()
    ]  # fmt: skip
    places = [row["environment"] for row in result["rows"].values()]
    places = dict.fromkeys(place["gpu"] or place["processor"] for place in places)
    note = (
        f"Validation images, one seed, L2 budget {result['eps']:g}. Radii and the one-step attack "
        f"use the first 1,000 images, the other attacks the first {result['searched']}; transfer "
        "attacks are left out. An empty cell was not measured, or only by a weaker search. The "
        f"fits on the GPU ran side by side, up to 15 at once. {_choices_margins(result)}"
        "`python benchmarks/choices.py`, "
        f"{', '.join(places)}."
    )
    return header, rows, note


def mnist(result):
    """Accuracy and radii of small networks on MNIST beside the poster."""
    published, settings, machine = result["poster"], result["settings"], result["environment"]
    header = ("model", "accuracy %", "patch radius", "sum of patch radii")
    keys = ("accuracy", "mean_radius", "summed_radius")
    rows = [
        (label, *(number(published[name].get(key), 2) for key in keys))
        for name, label in (("learned", "*poster, learned*"), ("baseline", "*poster, undefended*"))
    ]
    tokens = f"{settings['n_tokens']} tokens"
    names = {
        "learned": f'`strategy="learned"`, {tokens}',
        "kmeans": f'`strategy="kmeans"`, {tokens}',
        "baseline": "the same network, undefended",
    }
    for name, label in names.items():
        rows.append((label, *(spread(result["rows"][name].get(key)) for key in keys)))
    note = (
        f"MNIST test set, standardized pixels, mean ± standard deviation over {settings['seeds']} "
        f"seeds, {settings['epochs']} epochs. `python benchmarks/mnist.py`, "
        f"{machine['processor']}, torch {machine['torch']}, scikit-learn {machine['scikit-learn']}."
    )
    return header, rows, note


def whole_image(result, data):
    """Certified accuracy of whole images of one data set, with the upper bounds of attacks."""
    found, settings, machine = result["data"][data], result["settings"], result["environment"]
    order = sorted(range(len(found["radii"])), key=found["radii"].__getitem__)
    header = ("model", "clean", *(f"{found['radii'][i]:.2f}" for i in order),
              "average radius", "seconds per image")  # fmt: skip
    rows = []
    for name, row in found["rows"].items():
        upper = row.get("upper", [None] * len(order))
        cells = [
            number(low) + ("" if high is None or high < low + 0.05 else f" ≤ {high:.1f}")
            for low, high in ((row["certified"][i], upper[i]) for i in order)
        ]
        label = "16 tokens, smallest patch radius" if name.startswith("the same") else name
        rows.append((label, number(row["clean"]), *cells, number(row["average_radius"], 2),
                     number(row.get("seconds_per_image"), 2)))  # fmt: skip
    for name, row in found["published"].items():
        cells = [number(value) for value in (row[0], *(row[1 + i] for i in order))]
        rows.append((f"*{name}*", *cells, "", ""))
    attacked, images = found["rows"].values(), found.get("images", settings["images"])
    measured = chain.from_iterable([row["clean"], *row["certified"]] for row in attacked)
    below = sum(row.get("successes_below_the_certified_radius", 0) for row in attacked)
    copies = settings["copies"]
    other = [f" ({row['copies']:,} for “{name}”)" for name, row in found["rows"].items()
             if row.get("copies", copies) != copies]  # fmt: skip
    eps = order[0] if data == "cifar10" else order[-1]
    whole = [f" Of all {more['images']:,} test images, “{name}” certifies "
             f"{number(more['certified'][eps])} % at {found['radii'][eps]:.2f}"
             f"{', by a lower bound of the same certificate' * name.startswith('prototypes')}."
             for name, row in found["rows"].items() if (more := row.get("all_images"))]  # fmt: skip
    note = (
        f"{DATA[data]}, the first {images:,} test images, one seed.{''.join(whole)} "
        f"{MARGINS} {margin(measured, images)}. Smoothing used {copies:,} copies"
        f"{''.join(other)} and alpha 0.001. Attacks on networks that succeed below a certified "
        f"radius: {below}. `python benchmarks/whole_image.py`, {machine['processor']}, torch "
        f"{machine['torch']}."
    )
    return header, rows, note


def attacks(result):
    """Accuracy under every attack."""
    models, settings = result["models"], result["settings"]
    names = dict.fromkeys(chain.from_iterable(model["accuracy"] for model in models.values()))
    rows = [(name, *(number(model["accuracy"].get(name)) for model in models.values()))
            for name in sorted(names, key="worst case".__eq__)]  # fmt: skip
    smooth = [model["smoothing"] for model in models.values()]
    for label, key, digits in (("accuracy", "accuracy", 0),
                               ("smoothed radius", "average_certified_radius", 2)):  # fmt: skip
        cells = (number(row[key], digits) for row in smooth)
        rows.append((f"smoothing, sigma {result['sigma']:g}: {label}", *cells))
    below = sum(model["successes_below_the_certified_radius"] for model in models.values())
    shares = chain.from_iterable(model["accuracy"].values() for model in models.values())
    costs = sorted(row["seconds_per_copy"] / row["seconds_per_bare_prediction"] for row in smooth)
    note = (
        f"MNIST, {settings['images']:,} test images, standardized pixels, L2 budget "
        f"{result['eps']:g}, one seed, {settings['epochs']} epochs. Smoothing used "
        f"{smooth[0]['images']} images and {smooth[0]['copies']:,} copies; a copy takes "
        f"{costs[len(costs) // 2]:.2f} times as long as a plain prediction. {MARGINS} "
        f"{margin(shares, settings['images'])}, for smoothing "
        f"{margin((row['accuracy'] for row in smooth), smooth[0]['images'])}. Successful attacks "
        f"below a certified radius: {below}. `python benchmarks/attacks.py --images "
        f"{settings['images']}`."
    )
    return ("accuracy % after", *models), rows, note


def others(result):
    """Attacks and smoothing of other libraries."""
    models, settings, versions = result["models"], result["settings"], result["versions"]
    found = models.values()

    def row(label, cells):
        return (label, *map(number, cells))

    rows = [row("clean", (model["clean"] for model in found))]
    for name in dict.fromkeys(chain.from_iterable(model["left"] for model in found)):
        foreign = name.startswith(("foolbox", "adv-lib"))
        cells = (model["left"].get(name) for model in found)
        rows.append(row(name if foreign else f"ours: {name}", cells))
    for side, label in (("theirs", "all attacks of the others"), ("ours", "all our attacks")):
        rows.append(row(label, (model["left_by_all"][side] for model in found)))
    last = len(next(iter(found))["restarts"]["ours"])
    for side in ("foolbox", "ours"):
        cells = (model["restarts"][side][-1] for model in found)
        rows.append(row(f"{side}: PGD, 40 steps, {last} restarts", cells))
    shares = ([model["clean"], *model["left"].values()] for model in found)
    smooth, art = result["smoothing"], result["smoothing"]["art"]
    below = sum(
        model.get("below_the_patch_radius", 0) + model.get("below_the_radius_of_the_prediction", 0)
        for model in found
    )
    note = (
        f"{settings['images']} MNIST test images, standardized pixels, L2 budget "
        f"{result['eps']:g}, straight-through gradient unless a row says otherwise. Images that "
        "only attacks of the other libraries change: "
        f"{', '.join(str(model['theirs_only']) for model in found)}. {MARGINS} "
        f"{margin(chain.from_iterable(shares), settings['images'])}. Successes of any attack "
        f"below a certified radius: {below}. Smoothing of a network trained on noise (sigma "
        f"{result['sigma']:g}, {smooth['copies']:,} copies, {smooth['images']} images) has "
        f"{smooth['accuracy']:.0f} % accuracy and an average smoothed radius of "
        f"{smooth['average_certified_radius']:.2f}, and takes {smooth['seconds_per_image']:.1f} "
        "seconds per image. Our radii differ from the formula of Cohen et al. by at most "
        f"{smooth['furthest_from_the_formula']:.0e}. They differ from those of ART, which draws "
        f"its own {art['copies']:,} copies, by {art['rms_difference_in_standard_errors']:.2f} "
        "standard errors (root mean square). `python benchmarks/others.py --images "
        f"{settings['images']}`, foolbox {versions['foolbox']}, adv-lib {versions['adv-lib']}, "
        f"ART {versions['adversarial-robustness-toolbox']}."
    )
    return ("accuracy % after", *models), rows, note


def number(value, digits=1):
    """A cell of a number; empty for None."""
    return "" if value is None else f"{value:.{digits}f}"


def interval(part):
    """A cell of a share in per cent, with its 95 % interval."""
    low, high = 100 * part["from"], 100 * part["to"]
    return f"{100 * part['share']:.1f} ({low:.1f} to {high:.1f})"


def limits(percent, n):
    """The 95 % interval of Clopper and Pearson of a share of n images, in %."""
    found = binomtest(round(percent * n / 100), n).proportion_ci(0.95, method="exact")
    return 100 * found.low, 100 * found.high


def interval_of(percent, n):
    """A cell of a share of n images in %, with its 95 % interval."""
    low, high = limits(percent, n)
    return f"{percent:.1f} ({low:.1f} to {high:.1f})"


def margin(percents, n):
    """How far the 95 % intervals of these shares of n images reach at most, in words."""
    widest = max(abs(end - p) for p in percents if p is not None for end in limits(p, n))
    return f"reach at most {widest:.1f} points"


def at_radius(found, name, radius):
    """Certified accuracy of a row of a data set of whole_image.json at the nearest radius."""
    return found["rows"][name]["certified"][_nearest(found, radius)]


def _of_most(found, name, radius, settings):
    """Certified accuracy of all test images where all were certified, else of the first ones."""
    first = {"images": found.get("images", settings["images"]), **found["rows"][name]}
    most = first.get("all_images", first)
    share = interval_of(most["certified"][_nearest(found, radius)], most["images"])
    return share if most is not first else f"{share} of {most['images']} images"


def _nearest(found, radius):
    return min(range(len(found["radii"])), key=lambda i: abs(found["radii"][i] - radius))


def _left(row):
    """What all attacks leave, with the interval over the images."""
    attacks = row.get("attacks")
    return "" if attacks is None else interval_of(attacks["worst_case"], attacks["images"])


def _values(rows, key):
    return chain.from_iterable(row[key]["values"] for row in rows.values() if key in row)


def _one_seed(rows, one_step):
    """Intervals of the rows of one seed, which have no standard deviation."""
    alone = {name: row for name, row in rows.items() if len(row["test_accuracy"]["values"]) == 1}
    if not alone:
        return ""
    text = f"Those of accuracies of one seed {margin(_values(alone, 'test_accuracy'), 10_000)}, "
    steps = list(_values(alone, "sspgd"))
    return f"{text}after one step {margin(steps, one_step)}. " if steps else f"{text[:-2]}. "


def _choices_margins(result):
    rows, parts = result["rows"].values(), []
    keys = {"one step": ("sspgd", 1000), "all attacks": ("worst_case", result["searched"])}
    for label, (key, n) in keys.items():
        values = [row[key] for row in rows if row.get(key) is not None]
        if values:
            parts.append(f"for {label} {margin(values, n)}")
    return f"{MARGINS} {', '.join(parts)}. "


def spread(value, digits=2):
    """A cell of a mean, with its standard deviation if there are several seeds."""
    if value is None:
        return ""
    mean = number(value["mean"], digits)
    return mean if len(value["values"]) == 1 else f"{mean} ± {value['std']:.{digits}f}"


def _quoted(names):
    return ", ".join(f"“{name}”" for name in names)


def _but(counts, usual):
    """Models with another count than the usual one, in parentheses."""
    others: dict = {}
    for name, count in counts.items():
        if count != usual:
            others.setdefault(count, []).append(name)
    listed = "; ".join(f"{count} for {_quoted(names)}" for count, names in others.items())
    return f" ({listed})" if listed else ""
