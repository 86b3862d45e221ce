"""The pictures of README.md and docs/, from MNIST and from benchmarks/results/*.json.

    python benchmarks/pictures.py

`certificate_map.png` is a test digit, 16 k-means tokens, the digit made of them, and its radii.
`pareto.png` shows the vocabularies of pareto.json, the rows of the poster's tables and the poster,
and `certified_accuracy.png` the certificates of whole images in whole_image.json beside published
ones.  Takes about half a minute.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import numpy as np
from common import RESULTS
from matplotlib import pyplot as plt
from tables_models import limits

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.datasets import load_images

DOCS = Path(__file__).parents[1] / "docs"
PATCH = 4
RED, GRAY = "#D55E00", "#777777"
NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
SIZES = {"1x1": ("#0072B2", "s"), "2x2": ("#E69F00", "D"), "4x4": ("#009E73", "^"),
         "7x7 and 8x8": ("#CC79A7", "v")}  # fmt: skip
LIMITS = {"mnist": (94.8, 99.8), "cifar10": (58, 95)}
REACH = {"mnist": (0.065, 3.3), "cifar10": (0.05, 0.85)}
TICKS = {"mnist": (0.1, 0.2, 0.5, 1, 2), "cifar10": (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)}
MODELS = {  # rows of the poster's tables: side of the label
    "mnist": {"learned": "right", "denoised": "left", "pixels": "right"},
    "cifar10": {"learned": "right", "denoised": "above", "pixels": "left",
                "small patches": "left", "pixels, fine": "right", "3x3 patches": "right",
                "2x3 patches": "above"},
}  # fmt: skip
OURS = {  # names in the JSON file: label, color, marker
    "prototypes": ("prototypes", "#0072B2", "o"),
    "1-Lipschitz network": ("1-Lipschitz network", "#56B4E9", "D"),  # of CIFAR-10 alone
    "16 tokens, residual network": ("16 tokens, residual network", "#009E73", "^"),
    "additive network, trained on the bound": ("additive network", "#CC79A7", "v"),
    "smoothing of a network without tokens": (
        "our smoothing, sigma 0.5 and 0.25",
        "#E69F00",
        "s",
    ),
}
SIGMA = {"mnist": 0.5, "cifar10": 0.25}  # of our smoothing
COHEN = "smoothing, the same sigma (Cohen et al. 2019)"
PUBLISHED = {
    "mnist": {
        "smoothing, sigma .5 (Cohen et al. 2019)": (COHEN, "s"),
        "SmoothAdv, sigma .5 (Salman et al. 2019)": (
            "SmoothAdv, sigma 0.5 (Salman et al. 2019)", "D"),
        "deterministic: GloRo (Leino et al. 2021)": ("GloRo (Leino et al. 2021)", "P"),
        "deterministic: Singla and Feizi": ("Singla and Feizi", "X"),
    },
    "cifar10": {
        "smoothing, sigma .25 (Cohen et al. 2019), at .14": (COHEN, "s"),
        "deterministic: LiResNet": ("LiResNet, with generated data", "P"),
    },
}  # fmt: skip
POINTS = {  # as in the headline of tables_models.py
    "mnist": [(1.58, 73.0, "nearest prototypes (Voráček and Hein 2022)", "*")],
    "cifar10": [(36 / 255, 73.2, "LipNeXt (Hu et al. 2026)", "p")],
}


def certificate_map(index=1, n_tokens=16):
    """One digit from pixels to radii."""
    data = load_images("mnist")
    vocabulary = PatchVocabulary(
        n_tokens, patch_size=PATCH, strategy="kmeans", random_state=0
    ).fit(data.X_train[:10_000])  # fmt: skip
    digit = data.X_test[index : index + 1]
    radii, made = vocabulary.certify(digit)[0], vocabulary.transform(digit)[0]
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.3), layout="constrained")
    titles = ("a digit and its patches", f"{n_tokens} tokens", "the digit made of tokens",
              "certified radius of each patch")  # fmt: skip
    tokens = vocabulary.vocabulary_.reshape(-1, PATCH, PATCH)
    tokens = tokens[np.argsort(tokens.mean((1, 2)))].reshape(-1, 4, PATCH, PATCH)
    sheet = tokens.transpose(0, 2, 1, 3).reshape(-1, 4 * PATCH)
    for ax, title, picture in zip(axes, titles, (digit[0], sheet, made, radii), strict=True):
        ax.set(title=title, xticks=[], yticks=[])
        if picture is not radii:
            ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
    for ax, picture, width in ((axes[0], digit[0], 0.6), (axes[1], sheet, 3)):
        for edge in np.arange(PATCH, len(picture), PATCH) - 0.5:
            ax.axhline(edge, color="tab:orange", lw=width)
            ax.axvline(edge, color="tab:orange", lw=width)
    shown = axes[3].imshow(radii, cmap="viridis", vmin=0)
    for (row, column), radius in np.ndenumerate(radii):
        color = "white" if radius < 0.6 * radii.max() else "black"
        axes[3].text(
            column, row, f"{radius:.0f}", ha="center", va="center", color=color, fontsize=8
        )
    figure.colorbar(shown, ax=axes[3], label="L2 in a patch, gray levels (0 to 255)")
    figure.savefig(DOCS / "certificate_map.png", dpi=100)


def style():
    """Letters and colors of the figures; the colors are those of Okabe and Ito."""
    plt.rcParams.update({
        "font.size": 10, "axes.titlesize": 11, "legend.fontsize": 9, "lines.markersize": 6,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.color": "#e6e6e6", "grid.linewidth": 0.6, "axes.axisbelow": True,
    })  # fmt: skip


def below(figure, axes, first):
    """One legend for all panels, under them, some labels first."""
    handles: dict = {}
    for ax in axes:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    ordered = sorted(handles, key=lambda label: label not in first)
    figure.legend([handles[label] for label in ordered], ordered, loc="outside lower center",
                  ncols=3, frameon=False)  # fmt: skip


def pareto():
    """Accuracy against the mean patch radius: candidates, the tables of the poster, the poster."""
    candidates = json.loads((RESULTS / "pareto.json").read_text())["rows"]
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for ax, (data, names) in zip(axes, MODELS.items(), strict=True):
        found = json.loads((RESULTS / f"poster_{data}.json").read_text())
        for size, (color, marker) in SIZES.items():
            rows = [row for row in candidates[data] if "module" not in row["options"]
                    and row["group"].split(",")[0] in size]  # fmt: skip
            ax.plot([row["mean_radius"] for row in rows], [row["accuracy"] for row in rows],
                    marker, color=color, ms=4.5, alpha=0.6, mew=0,
                    label=f"{size} patches, 5 epochs, validation")  # fmt: skip
        for name, side in names.items():
            row = found["rows"][name]
            radius, accuracy = row["mean_radius"], row["test_accuracy"]
            mean, across = accuracy["mean"], accuracy["std"]
            if len(accuracy["values"]) == 1:  # one seed: the interval over test images
                across = np.abs(np.array(limits(mean, 10_000))[:, None] - mean)
            ax.errorbar(radius["mean"], mean, xerr=radius["std"], yerr=across, fmt="o", ms=5,
                        color="black", capsize=3, elinewidth=1.2, zorder=3,
                        label="this library, whole training, test")  # fmt: skip
            named(ax, name, (radius["mean"], mean), side)
        for name in ("learned", "denoised"):
            accuracy, radius, *_ = found["poster"][name]
            ax.plot(radius, accuracy, "*", color=RED, ms=13, mec="white", mew=0.5,
                    label="poster, test")  # fmt: skip
            named(ax, name, (radius, accuracy), "below", color=RED)
        for accuracy, color, label in (
            (found["rows"]["undefended"]["test_accuracy"]["mean"], "black", "this library"),
            (found["poster"]["undefended"][0], RED, "poster"),
        ):
            ax.axhline(accuracy, color=color, lw=1, ls=":", label=f"undefended, {label}")
        ax.set(title=NAMES[data], xscale="log", ylim=LIMITS[data], ylabel="accuracy [%]")
        ax.set_xlabel("mean patch radius (L2, standardized pixels)")
        ax.set_xlim(*REACH[data])
        ax.set_xticks(TICKS[data], map(str, TICKS[data]))
        ax.minorticks_off()
    below(figure, axes, first=("this library, whole training, test", "poster, test"))
    figure.savefig(DOCS / "pareto.png", dpi=120)


def named(ax, text, place, side, color="black"):
    """A name beside a point."""
    x, y, align = {"above": (0, 8, "center"), "below": (0, -16, "center"),
                   "left": (-9, -4, "right"), "right": (9, -4, "left")}[side]  # fmt: skip
    ax.annotate(text, place, (x, y), textcoords="offset points", ha=align, fontsize=9, color=color)


def certified_accuracy():
    """Certified accuracy at the radii of the JSON file, with 95 % intervals, beside published."""
    result = json.loads((RESULTS / "whole_image.json").read_text())
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for ax, data in zip(axes, ("mnist", "cifar10"), strict=True):
        found = result["data"][data]
        radii = np.array([0.0, *found["radii"]])
        order, images = np.argsort(radii), found.get("images", result["settings"]["images"])
        for name, (label, color, marker) in OURS.items():
            sigma = f", sigma {SIGMA[data]}" if "smoothing" in name else ""
            if (row := found["rows"].get(name + sigma)) is None:
                continue
            values = np.array([row["clean"], *row["certified"]])[order]
            ends = np.array([limits(value, images) for value in values])
            ax.errorbar(radii[order], values, yerr=np.abs(ends.T - values), color=color,
                        marker=marker, capsize=2, elinewidth=1, label=label)  # fmt: skip
        for name, (label, marker) in PUBLISHED[data].items():
            row = found["published"][name]
            values = np.array(row, dtype=float)[order]
            there = np.isfinite(values)
            ax.plot(radii[order][there], values[there], marker=marker, ls="--", lw=1.2, color=GRAY,
                    mfc="white", label=label)  # fmt: skip
        for radius, value, label, marker in POINTS[data]:
            ax.plot(radius, value, marker, color=RED, ms=11, mec="white", mew=0.5, label=label)
        ax.set(title=NAMES[data], xlabel="L2 radius of the whole image ([0, 1] pixels)",
               ylabel="certified accuracy [%]", ylim=(-2, 102))  # fmt: skip
    below(figure, axes, first=[label for label, *_ in OURS.values()])
    figure.savefig(DOCS / "certified_accuracy.png", dpi=120)


if __name__ == "__main__":
    style()
    certificate_map()
    pareto()
    certified_accuracy()
