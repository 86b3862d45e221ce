"""The pictures of README.md and docs/, from MNIST and from benchmarks/results/*.json.

    python benchmarks/pictures.py

`certificate_map.png` is a test digit, 16 k-means tokens, the digit made of them, and its radii.
`pareto.png` shows the vocabularies of pareto.json, and `certified_accuracy.png` the certificates of
whole images in whole_image.json beside published ones.  Takes about half a minute.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import numpy as np
from common import RESULTS
from matplotlib import pyplot as plt

from sklearn_patchcert import ParetoDisplay, PatchVocabulary
from sklearn_patchcert.datasets import load_images

DOCS = Path(__file__).parents[1] / "docs"
PATCH = 4
CURVES = {  # names in the JSON file to labels
    "prototypes": "prototypes (deterministic)",
    "16 tokens, residual network": "16 tokens, residual network (deterministic)",
    "additive network, trained on the bound": "additive network (deterministic)",
    "smoothing of a residual network without tokens, sigma 0.5": "our smoothing, sigma 0.5",
    "SmoothAdv, sigma .5 (Salman et al. 2019)": "SmoothAdv, sigma 0.5 (Salman et al. 2019)",
}
PNPC = 1.58, 73.0  # Voráček and Hein, ICML 2022, arXiv:2207.07208


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


def pareto():
    """Accuracy against the mean patch radius of all vocabularies that were compared."""
    result = json.loads((RESULTS / "pareto.json").read_text())
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for ax, (data, name) in zip(
        axes, {"mnist": "MNIST", "cifar10": "CIFAR-10"}.items(), strict=True
    ):
        rows = [row for row in result["rows"][data] if "module" not in row["options"]]
        sizes = np.array([f"{row['group'].split(',')[0]} patches" for row in rows])
        order = np.argsort(sizes, kind="stable")
        ParetoDisplay.from_scores(
            np.array([row["mean_radius"] for row in rows])[order],
            np.array([row["accuracy"] for row in rows])[order],
            x_name="mean patch radius (L2, standardized)", y_name="validation accuracy [%]",
            groups=sizes[order], ax=ax,
        )  # fmt: skip
        radius, _, accuracy = result["poster"][data]
        ax.plot(radius, accuracy, "k*", ms=10, label="poster (test set)")
        ax.set_title(name)
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.15), ncols=3, frameon=False)
    figure.savefig(DOCS / "pareto.png", dpi=100)


def certified_accuracy(data="mnist"):
    """Certified accuracy at the radii of the JSON file, which lines connect."""
    found = json.loads((RESULTS / "whole_image.json").read_text())["data"][data]
    radii = np.array([0.0, *found["radii"]])
    rows = {name: [row["clean"], *row["certified"]] for name, row in found["rows"].items()}
    rows |= found["published"]
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, label in CURVES.items():
        values = np.array(rows[name], dtype=float)
        there = np.isfinite(values)
        dashed = "--" if name in found["published"] else "-"
        ax.plot(radii[there], values[there], marker="o", ls=dashed, label=label)
    ax.plot(*PNPC, "k*", ms=10, label="PNPC (Voráček and Hein 2022)")
    ax.set(xlabel="L2 radius, [0, 1] pixels", ylabel="certified accuracy [%]", ylim=(0, 101))
    ax.legend(fontsize=8, loc="lower left")
    figure.savefig(DOCS / "certified_accuracy.png", dpi=100)


if __name__ == "__main__":
    certificate_map()
    pareto()
    certified_accuracy()
