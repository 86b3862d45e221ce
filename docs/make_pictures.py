"""Pictures of the documentation that no example draws when the gallery is built.

    python docs/make_pictures.py [--from FOLDER]

Writes docs/images/*.png, the thumbnails of examples that are not run and a picture of the guide.
`--from` names the folder where examples/stained_tissue.py and examples/mnist.py have left their
pictures, which become thumbnails.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image
from sklearn.datasets import load_sample_images

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.datasets import load_images

FOLDER = Path(__file__).parent / "images"


def one_map(path):
    """A digit, its tokens, and its map with the numbers written into it."""
    data = load_images("digits")
    vocabulary = PatchVocabulary(16, patch_size=2, strategy="kmeans", random_state=0)
    image = data.X_test[:1]
    radii = vocabulary.fit(data.X_train).certify(image)[0]
    made = vocabulary.transform(image)[0]
    titles = "Image, cut into patches", "The same image made of tokens", "Radius of each patch"
    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.5), layout="constrained")
    for ax, title, picture in zip(axes, titles, (image[0], made, radii), strict=True):
        is_map = picture is radii
        drawn = ax.imshow(
            picture, extent=(0, 8, 8, 0), cmap="viridis" if is_map else "gray",
            vmin=0, vmax=None if is_map else 16,
        )  # fmt: skip
        ax.set_title(title, fontsize=11)
        ax.set(xticks=range(0, 9, 2), yticks=range(0, 9, 2))
        ax.tick_params(length=0, labelbottom=False, labelleft=False)
        ax.grid(color="#e0a030" if not is_map else "white", linewidth=1)
    for (row, col), radius in np.ndenumerate(radii):
        dark = radius < 0.6 * radii.max()
        axes[2].text(
            2 * col + 1, 2 * row + 1, f"{radius:.1f}", ha="center", va="center",
            color="white" if dark else "black",
        )  # fmt: skip
    figure.colorbar(drawn, ax=axes[2], label="gray levels, L2")
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def out_of_core(path):
    """Details of photographs and their maps, as examples/out_of_core.py certifies them."""
    photos = load_sample_images().images
    tiles = np.stack(
        [photo[t : t + 64, c : c + 64] for photo in photos for t, c in [(150, 200), (250, 420)]]
    )
    vocabulary = PatchVocabulary(64, 4, strategy="kmeans", random_state=0).fit(tiles)
    radii = vocabulary.certify(tiles)
    figure, axes = pyplot.subplots(2, 4, figsize=(4, 2.8), layout="constrained")
    figure.suptitle("16,384 images → radii.npy", fontsize=12)
    for column, image, found in zip(axes.T, tiles, radii, strict=True):
        column[0].imshow(image)
        column[1].imshow(found, vmin=0, vmax=np.percentile(radii, 98))
    for ax in axes.flat:
        ax.set_axis_off()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def dask_cluster(path):
    """A client, a scheduler and two workers."""
    figure, ax = pyplot.subplots(figsize=(4, 2.8))
    ax.set(xlim=(0, 4), ylim=(0, 2.8))
    ax.set_axis_off()
    boxes = {"your script": (0.85, 1.4), "worker 1": (3.1, 2.1), "worker 2": (3.1, 0.7)}
    for name, (x, y) in boxes.items():
        box = FancyBboxPatch(
            (x - 0.6, y - 0.35), 1.2, 0.7, boxstyle="round,pad=0.06", fc="#e8eef7", ec="#4a6fa5"
        )
        ax.add_patch(box)
        ax.text(x, y, name, ha="center", va="center", fontsize=12)
    for y in (2.1, 0.7):
        ax.add_patch(
            FancyArrowPatch(
                (1.55, 1.4), (2.4, y), arrowstyle="<->", mutation_scale=14, color="#555"
            )
        )
    ax.text(2, 0.12, "equal to the last bit", ha="center", fontsize=11, color="#333")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def smaller(source, path, width=340):
    """A copy of a picture, of few colors and at most as wide."""
    picture = Image.open(source).convert("RGB")
    picture.thumbnail((width, width))
    picture.quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="folder", type=Path, help="where the examples were run")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    one_map(FOLDER / "one_map.png")
    for draw in (out_of_core, dask_cluster):
        path = FOLDER / f"{draw.__name__}.png"
        draw(path)
        smaller(path, path, 1000)
    if options.folder is not None:
        for name in ("stained_tissue.png", "mnist.png"):
            smaller(options.folder / name, FOLDER / name)
