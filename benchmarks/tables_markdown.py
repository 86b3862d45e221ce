"""Tables of README.md from benchmarks/results/*.json: functions of a result, to lines."""

import numpy as np


def mnist(result):
    """Accuracy and radii on MNIST beside the poster's."""
    poster, seeds = result["poster"], result["settings"]["seeds"]
    lines = [
        "| MNIST test set, standardised pixels | accuracy % | mean patch radius (L2) "
        "| sum over an image (no radius) |",
        "|---|---|---|---|",
        f"| poster, learned vocabulary | {poster['learned']['accuracy']:.2f} "
        f"| {poster['learned']['mean_radius']:.2f} | {poster['learned']['summed_radius']:.2f} |",
        f"| poster, undefended network | {poster['baseline']['accuracy']:.2f} | | |",
    ]
    names = {
        "learned": f'`strategy="learned"`, {result["settings"]["n_tokens"]} tokens',
        "kmeans": f'`strategy="kmeans"`, {result["settings"]["n_tokens"]} tokens',
        "baseline": "the same network, undefended",
    }
    for key, name in names.items():
        row = result["rows"][key]
        cells = [_cell(row.get(k)) for k in ("accuracy", "mean_radius", "summed_radius")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    machine = result["environment"]
    lines += [
        "",
        f"Mean ± standard deviation over {seeds} seeds, {result['settings']['epochs']} epochs; "
        f"`python benchmarks/mnist.py`, {machine['processor']}, "
        f"torch {machine['torch']}, scikit-learn {machine['scikit-learn']}.",
    ]
    return lines


def certify(result):
    """Time of tokens and radii beside that of nearest-neighbour searches."""
    lines = [
        "| tokens | threads | ours, µs a patch | faiss, nearest token | faiss, two nearest "
        "| scikit-learn, nearest | naive torch, radii |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        if row["dim"] == 16:
            times = {k: t["median"] for k, t in row["microseconds_per_patch"].items()}
            ours = times["ours"]
            cells = [f"{row['n_tokens']:,}", str(row["threads"]), f"{ours:.3f}"]
            for name in ("top1", "top2", "argmin", "naive"):
                cells.append(f"{times[name] / ours:.3g} x" if name in times else "")
            lines.append(f"| {' | '.join(cells)} |")
    fit = ", ".join(
        f"{np.median(row['seconds']):.2f} s against {np.median(row['minibatch_seconds']):.2f} s "
        f"(faiss {np.median(row['faiss_seconds']):.2f} s) with {n_tokens} tokens"
        for n_tokens, row in result["fit"].items()
    )
    memory, machine = result["memory"], result["environment"]
    lines += [
        "",
        "Others' times are multiples of ours, which include the exact radii; 4x4 patches of "
        "CIFAR-10. k-means of 200,000 patches to the error of scikit-learn's MiniBatchKMeans: "
        f"{fit}. Working memory for {memory['patches']:,} patches: {memory['megabytes']:.0f} MB. "
        f"`python benchmarks/certify.py --rounds {result['settings']['rounds']}`, "
        f"{machine['processor']}, faiss {result['faiss']}, "
        f"torch {machine['torch']}, scikit-learn {machine['scikit-learn']}.",
    ]
    return lines


def soundness(result):
    """Attacks on the certificate, in a sentence."""
    rows = result["rows"]
    tightest = {
        dtype: np.median([r["median_part_of_the_radius"] for r in rows if r["dtype"] == dtype])
        for dtype in ("float32", "float64")
    }
    return [
        f"{result['inside']:,} perturbations inside a radius, adversarial and random, in all norms,"
        f" dtypes and engines, reaching to within {1 - tightest['float64']:.0e} (float64) or "
        f"{1 - tightest['float32']:.0e} (float32) of it: {result['changed']} tokens changed. "
        f"One part in a thousand beyond it, {100 * result['changed_beyond'] / result['beyond']:.2f}"
        " % do (`python benchmarks/soundness.py`).",
    ]


def ablations(result):
    """What each option of a learned vocabulary does, beside what the poster says of it."""
    said = {
        "tokens by channel": "better preservation of fine structure",
        "soft discretisation": "slightly more diverse token usage",
        "entropy": "slightly more diverse token usage",
        "structure": "faster convergence, reconstructions not significantly better",
        "noise": "slightly more diverse token usage",
    }
    lines = [
        "| data | option | error | perplexity | from random patches | Sobel error "
        "| mean radius | accuracy % | steps | the poster |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    keys = ("error", "perplexity", "random_perplexity", "sobel_error", "mean_radius")
    for name, variants in result["rows"].items():
        for variant, row in variants.items():
            cells = [_cell(row.get(key)) for key in keys]
            cells.append(_cell(row["accuracy"], 1))
            steps = row.get("steps")
            cells.append("" if steps is None else _cell(steps, 0) if np.isfinite(steps["mean"])
                         else "not reached")  # fmt: skip
            lines.append(f"| {name} | {variant} | {' | '.join(cells)} | {said.get(variant, '')} |")
    settings = result["settings"]
    lines += [
        "",
        f"{settings['n_tokens']} tokens of 4x4 pixels of one channel, {settings['images']:,} "
        f"training images, validation images, {settings['seeds']} seeds, `python "
        "benchmarks/ablations.py`. Options start from k-means, where perplexity is that of the use "
        "of tokens; the two columns about random patches start from those: their perplexity, and "
        "the steps until the error is within 5 % of the plain one's last.",
    ]
    return lines


def pareto(result):
    """The fronts of accuracy against mean and summed radii, and other networks."""
    lines = [
        "| data | vocabulary | accuracy % | mean radius | sum (no radius) | on the front of |",
        "|---|---|---|---|---|---|",
    ]
    fronts = {"front_mean_radius": "mean", "front_summed_radius": "sum"}
    for name, rows in result["rows"].items():
        radius, total, accuracy = result["poster"][name]
        lines.append(
            f"| {name} | the poster's, learned (test set) | {accuracy} | {radius} | {total} | |"
        )
        for row in sorted(rows, key=lambda row: row["mean_radius"]):
            on = [label for key, label in fronts.items() if row.get(key)]
            if on or "module" in row["options"]:
                lines.append(
                    f"| {name} | {row['group']}, {row['options']['n_tokens']} tokens "
                    f"| {row['accuracy']:.2f} | {row['mean_radius']:.3f} "
                    f"| {row['summed_radius']:.1f} | {', '.join(on)} |"
                )
    settings = result["settings"]
    counts = ", ".join(f"{len(rows)} of {name}" for name, rows in result["rows"].items())
    lines += [
        "",
        f"Validation images, {settings['images']:,} training images, {settings['epochs']} epochs, "
        f"one seed, standardised units; {counts} were compared, of which the JSON has all. Rows "
        "that name a network are on no front: they show what the network alone changes. Mean radii "
        "of patches of different sizes are not comparable; where every patch has the same radius, "
        "smaller patches promise more. `python benchmarks/pareto.py`.",
    ]
    return lines


def attacks(result):
    """Accuracy under every attack."""
    models = result["models"]
    names = dict.fromkeys(what for model in models.values() for what in model["accuracy"])
    lines = [f"| accuracy % under | {' | '.join(models)} |", "|---|" + "---|" * len(models)]
    for what in names:
        cells = [model["accuracy"].get(what) for model in models.values()]
        shown = " | ".join("" if cell is None else f"{cell:.1f}" for cell in cells)
        lines.append(f"| {what} | {shown} |")
    smooth = [model["smoothing"] for model in models.values()]
    shown = " | ".join(f"{s['accuracy']:.0f}, {s['average_certified_radius']:.2f}" for s in smooth)
    lines.append(f"| smoothing, sigma {result['sigma']:g}: accuracy, mean radius | {shown} |")
    below = sum(model["successes_below_the_certified_radius"] for model in models.values())
    cost = np.median([s["seconds_per_copy"] / s["seconds_per_bare_prediction"] for s in smooth])
    lines += [
        "",
        f"MNIST, {result['settings']['images']:,} test images, standardised, L2 norm of the whole "
        f"image at most {result['eps']:g}, one seed, {result['settings']['epochs']} epochs; "
        f"smoothing on {smooth[0]['images']} images with {smooth[0]['copies']:,} copies each, at "
        f"{cost:.2f} times the cost of bare predictions. Successes below the certified radius, "
        f"over all attacks: {below}. `python benchmarks/attacks.py`.",
    ]
    return lines


def others(result):
    """Attacks and smoothing of other libraries."""
    lines, models, settings = [], result["models"], result["settings"]
    eps, versions = result["eps"], result["versions"]
    lines += [
        f"| accuracy % left of {settings['images']} images | {' | '.join(models)} |",
        "|---|" + "---|" * len(models),
    ]

    def row(label, cells):
        shown = ("" if cell is None else f"{cell:.1f}" for cell in cells)
        lines.append(f"| {label} | {' | '.join(shown)} |")

    row("clean", [m["clean"] for m in models.values()])
    for attack in dict.fromkeys(a for m in models.values() for a in m["left"]):
        ours = not attack.startswith(("foolbox", "adv-lib"))
        row(f"ours: {attack}" if ours else attack,
            [m["left"].get(attack) for m in models.values()])  # fmt: skip
    for side, label in (("theirs", "all of theirs"), ("ours", "all of ours")):
        row(label, [m["left_by_all"][side] for m in models.values()])
    last = len(next(iter(models.values()))["restarts"]["ours"])
    for side in ("foolbox", "ours"):
        row(f"PGD, 40 steps, {last} restarts, {side}",
            [m["restarts"][side][-1] for m in models.values()])  # fmt: skip
    smooth = result["smoothing"]
    art = smooth["art"]
    only = ", ".join(str(m["theirs_only"]) for m in models.values())
    below = sum(
        m.get("below_the_patch_radius", 0) + m.get("below_the_radius_of_the_prediction", 0)
        for m in models.values()
    )
    lines += [
        "",
        f"MNIST test images, standardised, L2 at most {eps:g}, straight-through gradient unless "
        f"said otherwise; images that only others' attacks change: {only}; successes of anybody's "
        f"attack below a certified radius: {below}. Smoothing of a network trained on the noise "
        f"(sigma {result['sigma']:g}, {smooth['copies']:,} copies, {smooth['images']} images): "
        f"{smooth['accuracy']:.0f} % and a mean radius of {smooth['average_certified_radius']:.2f} "
        f"at {smooth['seconds_per_image']:.1f} s an image; our radii differ from Cohen's formula "
        f"by at most {smooth['furthest_from_the_formula']:.0e}, from ART's ({art['copies']:,} "
        f"copies, draws of its own) by {art['rms_difference_in_standard_errors']:.2f} standard "
        f"errors (root mean square). `python benchmarks/others.py --images {settings['images']}`, "
        f"foolbox {versions['foolbox']}, adv-lib {versions['adv-lib']}, ART "
        f"{versions['adversarial-robustness-toolbox']}.",
    ]
    return lines


def whole_image(result):
    """Certified accuracies of whole images, with the upper bounds of attacks, and smoothing's."""
    lines, settings, machine = [], result["settings"], result["environment"]
    for data, found in result["data"].items():
        order = sorted(range(len(found["radii"])), key=found["radii"].__getitem__)
        radii = [f"{found['radii'][i]:.2f}" for i in order]
        n_images = found.get("images", settings["images"])
        lines += [
            f"| {data}, {n_images:,} images | clean | {' | '.join(radii)} "
            "| average radius | s an image |",
            "|---|---|" + "---|" * len(radii) + "---|---|",
        ]
        for name, row in found["rows"].items():
            upper = row.get("upper", [None] * len(radii))
            cells = [
                f"{low:.1f}" + ("" if high is None or high < low + 0.05 else f" ≤ {high:.1f}")
                for low, high in ((row["certified"][i], upper[i]) for i in order)
            ]
            seconds = row.get("seconds_per_image")
            last = "" if seconds is None else f"{seconds:.2f}"
            lines.append(
                f"| {name} | {row['clean']:.1f} | {' | '.join(cells)} "
                f"| {row['average_radius']:.2f} | {last} |"
            )
        for name, row in found["published"].items():
            row = [row[0], *(row[1 + i] for i in order)]
            cells = ["" if value is None else f"{value:.1f}" for value in row]
            lines.append(f"| *{name}* | {' | '.join(cells)} | | |")
        lines.append("")
    rows = [row for found in result["data"].values() for row in found["rows"].values()]
    below = sum(row.get("successes_below_the_certified_radius", 0) for row in rows)
    lines += [
        "Certified accuracy in %, L2 in [0, 1] pixels, first test images, one seed; behind ≤ what "
        "the strongest attack leaves (of prototypes: the adversarial images of the certificate), "
        "where that is more. Smoothing is "
        f"probabilistic (alpha 0.001, {settings['copies']:,} copies), the others are proofs. Rows "
        f"in italics are published figures. Successes of attacks on the networks below a certified "
        f"radius: {below}."
        f" `python benchmarks/whole_image.py`, {machine['processor']}, torch {machine['torch']}.",
    ]
    return lines


def poster(result):
    """The poster's columns, its own rows in italics, and the worst case of all attacks."""
    lines = [
        "| model | accuracy % | patch radius | smallest of an image | sum (no radius) | SSPGD % "
        "| worst attack % | smoothing % | smoothing's radius |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    columns = ("test_accuracy", "mean_radius", "smallest_radius", "summed_radius", "sspgd")
    for name, row in result["rows"].items():
        cells = [_cell(row.get(key), 4 if key == "smallest_radius" else 2) for key in columns]
        cells.append(f"{row['attacks']['worst_case']:.1f}" if "attacks" in row else "")
        cells += [_cell(row.get(key)) for key in ("smoothing_accuracy", "smoothing_radius")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        if name in result["poster"]:
            accuracy, patch, total, smooth, radius, step = result["poster"][name]
            shown = [accuracy, patch, None, total, step, None, smooth, radius]
            cells = ["" if value is None else f"{value:.2f}" for value in shown]
            lines.append(f"| *the poster's* | {' | '.join(cells)} |")
    settings, machine = result["settings"], result["environment"]
    below = sum(
        row["attacks"]["successes_below_the_certified_radius"]
        for row in result["rows"].values()
        if "attacks" in row
    )
    channels = {
        name: ", ".join(f"{radius:.2f}" for radius in row["radius_by_channel"][0])
        for name, row in result["rows"].items()
        if "radius_by_channel" in row
    }
    by_channel = "; ".join(f"“{name}” {radii}" for name, radii in channels.items())
    counts = {name: len(row["test_accuracy"]["values"]) for name, row in result["rows"].items()}
    seeds, one_step = max(counts.values()), settings.get("one_step", 5 * settings["images"])
    over = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    over += _but(counts, seeds)
    attacked = {
        name: row["attacks"]["images"] for name, row in result["rows"].items() if "attacks" in row
    }
    images = f"{settings['images']:,} images{_but(attacked, settings['images'])}"
    places = {name: row.get("environment", machine) for name, row in result["rows"].items()}
    fitted: dict = {}
    for name, place in places.items():
        fitted.setdefault(place["gpu"] or place["processor"], []).append(name)
    where = "; ".join(f"{_quoted(names)} on {place}" for place, names in fitted.items())
    noise = " --noise" if any("noise" in name for name in result["rows"]) else ""
    without = [
        name
        for name, row in result["rows"].items()
        if "search over tokens" in row.get("attacks", {}).get("left", {})
        and "transfer from the undefended network" not in row["attacks"]["left"]
    ]
    lines += [
        "",
        f"{settings['dataset']}, test set, standardised pixels, {over}; SSPGD (the lower of "
        f"straight-through and soft gradient) and all attacks at L2 "
        f"{result['eps']:g}, on {one_step:,} and {images}; "
        f"smoothing at sigma {result['sigma']:g} on {settings['smoothed']} images, "
        f"{settings['copies']:,} copies, of models not trained on noise unless their name says so. "
        f"Successes below the certified radius: {below}. "
        + (f"Patch radii by channel: {by_channel}. " if by_channel else "")
        + (f"Not attacked from the undefended network: {_quoted(without)}. " if without else "")
        + "`python benchmarks/poster_tables.py "
        f"--dataset {settings['dataset']} --seeds {seeds} --images {settings['images']} --one-step "
        f"{one_step} --smoothed {settings['smoothed']}{noise}`, {machine['processor']}, "
        f"torch {machine['torch']}; seed 0 fitted: {where}.",
    ]
    return lines


def choices(result):
    """What validation images say of candidates for the poster's tables."""
    lines = [
        "| tokens, L2 of the flips or attacks in training | accuracy % | patch radius "
        "| sum (no radius) | SSPGD % | search over tokens % | all attacks % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        last = [row.get(key) for key in ("search_over_tokens", "worst_case")]
        lines.append(
            f"| {name} | {row['accuracy']:.2f} | {row['mean_radius']:.2f} "
            f"| {row['summed_radius']:.2f} | {row['sspgd']:.1f} "
            + "".join(f"| {'' if value is None else f'{value:.1f}'} " for value in last)
            + "|"
        )
    places = {row["environment"]["gpu"] or row["environment"]["processor"]: None
              for row in result["rows"].values()}  # fmt: skip
    lines += [
        "",
        f"Validation images, one seed, L2 {result['eps']:g}; radii and SSPGD on the first 1,000, "
        f"attacks, all but the transfer, on the first {result['searched']}. `python "
        "benchmarks/choices.py`, "
        f"{', '.join(places)}." + (f" {result['note']}" if "note" in result else ""),
    ]
    return lines


def _quoted(names):
    return ", ".join(f"“{name}”" for name in names)


def _but(counts, usual):
    """Rows with another count than the usual one, in parentheses."""
    others: dict = {}
    for name, count in counts.items():
        if count != usual:
            others.setdefault(count, []).append(name)
    said = "; ".join(f"{count}: {_quoted(names)}" for count, names in others.items())
    return f" ({said})" if said else ""


def _cell(value, digits=2):
    if value is None:
        return ""
    mean = f"{value['mean']:.{digits}f}"
    return mean if len(value["values"]) == 1 else f"{mean} ± {value['std']:.{digits}f}"
