"""Write the tables of README and docs from benchmarks/results/*.json, or check that they agree.

    python benchmarks/report.py [--check]

A table stands between ``<!-- table:NAME -->`` and ``<!-- end -->``, in reStructuredText between
``.. begin NAME`` and ``.. end NAME``; nothing in it is typed.
"""

import argparse
import json
import re
import sys
import textwrap

import numpy as np
from common import RESULTS

README = RESULTS.parents[1] / "README.md"
SCALE = RESULTS.parents[1] / "docs" / "scale.rst"


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
        f"with {n_tokens} tokens"
        for n_tokens, row in result["fit"].items()
    )
    memory, machine = result["memory"], result["environment"]
    lines += [
        "",
        "Others' times are multiples of ours, which include the exact radii; 4x4 patches of "
        "CIFAR-10. k-means of 200,000 patches to the error of scikit-learn's MiniBatchKMeans: "
        f"{fit}. Working memory for {memory['patches']:,} patches: {memory['megabytes']:.0f} MB. "
        f"`python benchmarks/certify.py`, {machine['processor']}, faiss {result['faiss']}, "
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
    """The front of accuracy against mean radius."""
    lines = ["| data | vocabulary | accuracy % | mean radius |", "|---|---|---|---|"]
    for name, rows in result["rows"].items():
        radius, accuracy = result["poster"][name]
        lines.append(f"| {name} | the poster's, learned (test set) | {accuracy} | {radius} |")
        for row in sorted(rows, key=lambda row: row["mean_radius"]):
            if row["front"]:
                options = ", ".join(f"{k}={v!r}" for k, v in row["options"].items())
                lines.append(
                    f"| {name} | `{options}` | {row['accuracy']:.2f} | {row['mean_radius']:.3f} |"
                )
    settings = result["settings"]
    lines += [
        "",
        f"Validation images, {settings['images']:,} training images, {settings['epochs']} epochs, "
        "one seed, standardised units; `python benchmarks/pareto.py`.",
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


def whole_image(result):
    """Certified accuracies of whole images, with the upper bounds of attacks, and smoothing's."""
    lines = []
    for data, found in result["data"].items():
        radii = [f"{r:.2f}" for r in found["radii"]]
        lines += [
            f"| {data} | clean | {' | '.join(radii)} | average radius | s an image |",
            "|---|---|" + "---|" * len(radii) + "---|---|",
        ]
        for name, row in found["rows"].items():
            upper = row.get("upper", [None] * len(radii))
            cells = [
                f"{low:.1f}" + ("" if high is None or high < low + 0.05 else f" ≤ {high:.1f}")
                for low, high in zip(row["certified"], upper, strict=True)
            ]
            seconds = row.get("seconds_per_image")
            last = "" if seconds is None else f"{seconds:.2f}"
            lines.append(
                f"| {name} | {row['clean']:.1f} | {' | '.join(cells)} "
                f"| {row['average_radius']:.2f} | {last} |"
            )
        for name, row in found["published"].items():
            cells = ["" if value is None else f"{value:.1f}" for value in row]
            lines.append(f"| *{name}* | {' | '.join(cells)} | | |")
        lines.append("")
    rows = [row for found in result["data"].values() for row in found["rows"].values()]
    below = sum(row.get("successes_below_the_certified_radius", 0) for row in rows)
    settings, machine = result["settings"], result["environment"]
    lines += [
        f"Certified accuracy in %, L2 in [0, 1] pixels, first {settings['images']:,} test images, "
        "one seed; behind ≤ what the strongest attack leaves (of prototypes and the committee: "
        "the adversarial images of the certificate), where that is more. Smoothing is "
        f"probabilistic (alpha 0.001, {settings['copies']:,} copies), the others are proofs. Rows "
        f"in italics are published figures. Successes of attacks on the networks below a certified "
        f"radius: {below}."
        f" `python benchmarks/whole_image.py`, {machine['processor']}, torch {machine['torch']}.",
    ]
    return lines


def poster(result):
    """The poster's columns, its own rows in italics, and the worst case of all attacks."""
    lines = [
        "| model | accuracy % | patch radius | sum (no radius) | SSPGD % | worst attack % "
        "| smoothing % | smoothing's radius |",
        "|---|---|---|---|---|---|---|---|",
    ]
    columns = ("test_accuracy", "mean_radius", "summed_radius", "sspgd")
    for name, row in result["rows"].items():
        cells = [_cell(row.get(key)) for key in columns]
        cells.append(f"{row['attacks']['worst_case']:.1f}" if "attacks" in row else "")
        cells += [_cell(row.get(key)) for key in ("smoothing_accuracy", "smoothing_radius")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        if name in result["poster"]:
            accuracy, patch, total, smooth, radius, step = result["poster"][name]
            shown = [accuracy, patch, total, step, None, smooth, radius]
            cells = ["" if value is None else f"{value:.2f}" for value in shown]
            lines.append(f"| *the poster's* | {' | '.join(cells)} |")
    settings, machine = result["settings"], result["environment"]
    below = sum(
        row["attacks"]["successes_below_the_certified_radius"]
        for row in result["rows"].values()
        if "attacks" in row
    )
    seeds = settings["seeds"]
    lines += [
        "",
        f"{settings['dataset']}, test set, standardised pixels, "
        + ("one seed" if seeds == 1 else f"mean ± standard deviation over {seeds} seeds")
        + f"; SSPGD (the lower of straight-through and soft gradient) and all attacks at L2 "
        f"{result['eps']:g}, on {5 * settings['images']:,} and {settings['images']:,} images; "
        f"smoothing at sigma {result['sigma']:g} on {settings['smoothed']} images, "
        f"{settings['copies']:,} copies. Successes below "
        f"the certified radius: {below}. `python benchmarks/poster_tables.py --dataset "
        f"{settings['dataset']}`, {machine['processor']}, torch {machine['torch']}.",
    ]
    return lines


def scale_out(result):
    """What all of ImageNet would cost, in reStructuredText."""
    every, settings, disk = result["all"], result["settings"], result["out_of_core"]
    lines = [".. list-table::", "   :header-rows: 1", ""]

    def row(*cells):
        lines.extend(f"   {'* -' if not index else '  -'} {c}" for index, c in enumerate(cells))

    def costs(seconds):
        hours = seconds * every["images"] / 3600
        return f"{hours:,.0f}" if hours < 1e4 else f"{hours:,.0f} ({hours / 8766:,.0f} years)"

    row("for all images", "patches", "seconds an image", "core-hours", "radii on the disk")
    for case in result["certificates"]:
        kind = "tokens" if case["per_channel"] == "False" else "tokens for all channels' patches"
        row(
            f"patch radii, {case['n_tokens']:,} {kind}",
            f"{case['patches']:,}",
            f"{case['seconds']:.3f}",
            costs(case["seconds"]),
            f"{case['bytes'] * every['images'] / 1e9:,.0f} GB",
        )
    for name, key, count in (
        ("smoothed predictions", "copy", every["copies"]),
        ("certified predictions", "configuration", every["configurations"]),
    ):
        seconds = result["predictions"][key] * count
        kind = "noisy copies" if key == "copy" else "configurations"
        row(f"{name}, {count:,} {kind} each", "", f"{seconds:,.0f}", costs(seconds), "")
    machine = result["environment"]
    extra = disk["out_of_core"] / disk["in_memory"] - 1
    raw = every["images"] * settings["side"] ** 2 * 3 / 1e9
    checked = every["images"] * disk["checksums"] / 3600
    text = (
        f"{every['images']:,} images of {settings['side']} x {settings['side']} pixels in "
        f"{settings['patch_size']} x {settings['patch_size']} patches ({raw:,.0f} GB as bytes), on "
        f"one core of {machine['processor']}: the CPU time of {settings['images']} details of "
        "photographs, the smallest of three repeats, multiplied.  Core-hours divide by the number "
        "of cores as long as the images arrive fast enough.  Predictions are those of a "
        "PatchResNet on the grid of patches; other networks cost what their forward passes "
        f"cost.  Out of core, in chunks of {disk['chunk_size']} images and with "
        f"{disk['megabytes']:,.0f} MB for "
        f"arrays, the CPU time is {100 * abs(extra):.0f} % {'more' if extra > 0 else 'less'} than "
        f"in memory; to look at all checksums of a finished output takes {checked:.1f} hours. "
        f"``python benchmarks/scale_out.py``, torch {machine['torch']}."
    )
    return ["", *lines, "", *textwrap.wrap(text, 98, break_on_hyphens=False), ""]


TABLES = {
    "poster_mnist": poster,
    "poster_fashion_mnist": poster,
    "poster_cifar10": poster,
    "whole_image": whole_image,
    "scale_out": scale_out,
    "mnist": mnist,
    "certify": certify,
    "soundness": soundness,
    "ablations": ablations,
    "pareto": pareto,
    "attacks": attacks,
}


def _cell(value, digits=2):
    if value is None:
        return ""
    mean = f"{value['mean']:.{digits}f}"
    return mean if len(value["values"]) == 1 else f"{mean} ± {value['std']:.{digits}f}"


def filled(text):
    """A page's text with every table made anew."""

    def table(match):
        begin, name, end = match.groups()
        result = json.loads((RESULTS / f"{name}.json").read_text())
        return "\n".join([begin, *TABLES[name](result), end])

    for begin, end in (
        (r"<!-- table:(\w+) -->", "<!-- end -->"),
        (r"\.\. begin (\w+)", r"\.\. end \2"),
    ):
        text = re.sub(rf"({begin})\n.*?({end})", table, text, flags=re.DOTALL)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail where the README differs")
    check = parser.parse_args().check
    for page in (README, SCALE):
        text = page.read_text()
        wanted = filled(text)
        if check and wanted != text:
            sys.exit(f"{page} differs from benchmarks/results: run python benchmarks/report.py")
        if not check:
            page.write_text(wanted)


if __name__ == "__main__":
    main()
