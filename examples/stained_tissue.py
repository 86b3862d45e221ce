"""Which parts of a tissue section may change
==========================================

Slides have dust, folds and scanner artifacts.  If a model reads a slide for you, this script tells
you three things about every answer, and each of them is proved and not estimated:

* **Where to look.**  About two fifths of a tile may become anything, such as dust or a fold, and
  the model still decides the same.  The rest decides the answer, and the picture shows it.
* **How much noise is harmless.**  Every patch may change by some gray levels, all patches at once,
  without any effect on the answer.
* **How wrong a measurement can get.**  If any four patches of a tile are spoiled, the stained share
  moves by about 8 points of 100 at most.

The slide shows colon tissue, in which a protein is brown and cell nuclei are blue.  A classifier
decides whether more than half of a tile is stained, and a regressor estimates the stained share.

How it works
------------

Both models receive a tile as a bag of tokens.  A vocabulary replaces every patch of 4 x 4 pixels by
one of 24 tokens, and a linear model weighs how often each token occurs.  Then two things can be
proved:

* `certify` gives each patch a radius.  While its pixels change by less, its token stays the same.
* The largest effect of a patch on the answer, for any pixels, is a difference of two weights.
  Patches whose largest effects sum to less than the margin may become *anything*, all at once.
  Sorting finds them.

Together, a tile keeps its answer if those patches are replaced by anything and every other patch
changes by less than its radius.  At the end the script checks this claim: with noise, with the
worst possible content, and with one more patch, which must be enough to break it.

The slide comes with scikit-image.  Color deconvolution (Ruifrok, Johnston, Anal. Quant. Cytol.
Histol. 2001) decides which pixels count as stained, as in slide software.  The left half is for
training, and the models read the right half.  This is an illustration, not a diagnosis. ::

    pip install -e ".[plot,denoise]" && python examples/stained_tissue.py
"""

# sphinx_gallery_thumbnail_path = "images/stained_tissue.png"

import time

import numpy as np
from skimage.color import rgb2hed
from skimage.data import immunohistochemistry
from skimage.filters import threshold_otsu
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import FunctionTransformer

from sklearn_patchcert import CertifiedPatchClassifier, CertifiedPatchRegressor, PatchVocabulary

TILE, PATCH, TOKENS = 32, 4, 24
ALLOWED = 0.05  # by how much a share may change

start = time.perf_counter()


def tiles(image, step):
    """Square tiles (n, TILE, TILE, ...) of an image, every `step` pixels."""
    rows, cols = ((size - TILE) // step + 1 for size in image.shape[:2])
    corners = [(step * r, step * c) for r in range(rows) for c in range(cols)]
    return np.stack([image[r : r + TILE, c : c + TILE] for r, c in corners])


def bags(ids):
    """Share of each token among the patches of a tile, an array (n, TOKENS)."""
    return np.stack([np.bincount(row, minlength=TOKENS) for row in ids]) / ids.shape[1]


def alterable(worst, margin):
    """The most patches (n, patches) whose worst effects sum to less than a margin (n,)."""
    order = np.argsort(worst, axis=1, kind="stable")
    total = np.take_along_axis(worst, order, axis=1).cumsum(1)
    free = np.zeros(worst.shape, dtype=bool)
    np.put_along_axis(free, order, total < margin[:, None] * (1 - 1e-9), axis=1)
    return free


def replaced(images, which, content):
    """Tiles whose patches `which` (n, patches) are taken from `content`, an array of tiles."""
    rows = TILE // PATCH
    pixels = which.reshape(-1, rows, rows).repeat(PATCH, axis=1).repeat(PATCH, axis=2)
    return np.where(pixels[..., None], content, images)


slide = immunohistochemistry()  # 512 x 512 pixels, red, green and blue in 0..255
brown = rgb2hed(slide)[..., 2]
stained = brown > threshold_otsu(brown)
half = slide.shape[1] // 2
X_train, X = tiles(slide[:, :half], step=8), tiles(slide[:, half:], step=TILE)
share_train = tiles(stained[:, :half], step=8).mean((1, 2))
share = tiles(stained[:, half:], step=TILE).mean((1, 2))

vocabulary = PatchVocabulary(TOKENS, PATCH, strategy="kmeans", output="ids", random_state=0)
steps = [("vocab", vocabulary), ("bag", FunctionTransformer(bags))]
reader = CertifiedPatchClassifier([*steps, ("clf", LogisticRegression(C=100))])
reader.fit(X_train, share_train > 0.5)
meter = CertifiedPatchRegressor([*steps, ("reg", Ridge(1e-3))]).fit(X_train, share_train)

decision, read = reader.predict(X), meter.predict(X)
radii, witness = reader.certify(X, return_witness=True)
ids = reader["vocab"].transform(X)
# The decision: its margin, and the largest part of it that each patch can take away.
weights, sign = reader["clf"].coef_[0] / ids.shape[1], np.where(decision, 1, -1)
margin = sign * reader.decision_function(X)
worst_token = np.where(decision, weights.argmin(), weights.argmax())
loss = sign[:, None] * (weights[ids] - weights[worst_token][:, None])
free = alterable(loss, margin)

# The share: the largest effect of each patch, up or down.
slopes = meter["reg"].coef_ / ids.shape[1]
effect = np.maximum(slopes.max() - slopes[ids], slopes[ids] - slopes.min())
loose = alterable(effect, np.full(len(X), ALLOWED))
four = np.sort(effect, axis=1)[:, -4:].sum(1).max()

print("What you learn about the answers of the model, all of it proved")
print(f"  where to look: {100 * free.mean():.0f} % of a tile, on average, may become anything, and")
print("    the decision stays; the rest of the tile decides")
print(f"    (in {100 * np.mean(free.mean(1) > 0.25):.0f} % of the tiles, more than a quarter may)")
print(f"  harmless noise: half of the patches may change by {np.median(radii):.0f} gray levels or")
print("    more (L2 over 48 values), all at once, without any effect on the answer")
print("  a wrong measurement: if any four patches of a tile become anything, its stained share")
print(f"    moves by {100 * four + 0.005:.2f} points of 100 at most")
print(f"    ({100 * loose.mean():.0f} % of a tile may, and it moves by under {100 * ALLOWED:.0f})")

print(f"\n{len(X)} tiles of {TILE} x {TILE} pixels, {ids.shape[1]} patches each, {TOKENS} tokens")
print(f"more than half stained? accuracy {100 * np.mean(decision == (share > 0.5)):.1f} %")
print(f"share that is stained: mean error {100 * np.abs(read - share).mean():.1f} points of 100")
found = reader.certify_prediction(X, max_configurations=500)
token, answer = np.median(radii.reshape(len(X), -1).min(1)), np.median(found.radius)
print(f"a whole tile may change by {token:.1f} (L2 over the tile, median) before the first of its")
print(f"tokens can change, and by {answer:.1f} before the decision can\n")

# Check the claim with noise, the worst content and exhausted radii, all at once.
model_tokens = reader["vocab"].vocabulary_.reshape(TOKENS, PATCH, PATCH, 3)
worst = np.tile(model_tokens[worst_token], (1, TILE // PATCH, TILE // PATCH, 1))
moved = X + (1 - 1e-6) * witness.perturbation  # every patch to the edge of its radius
for name, content in {
    "noise": np.random.default_rng(0).integers(0, 256, X.shape),
    "black": np.zeros_like(X),
    "tissue of another tile": X[::-1],
    "the worst content": worst,
}.items():
    same = reader.predict(replaced(moved, free, content)) == decision
    wrong = np.abs(meter.predict(replaced(moved, loose, content)) - read).max()
    print(f"altered to {name:23}{100 * same.mean():6.2f} % of the decisions stay, ", end="")
    print(f"shares move by at most {100 * wrong:.2f} points")
    assert same.all(), "a decision changed that was certified"
    assert wrong < ALLOWED, "a share moved further than was certified"
one_more = free | (np.where(free, np.inf, loss).argmin(1)[:, None] == np.arange(ids.shape[1]))
changed = (reader.predict(replaced(X, one_more, worst)) != decision) | free.all(1)
print(f"with the worst content in one patch more, {100 * changed.mean():.2f} % change")
assert changed.all(), "the certificate was not tight"

try:
    import matplotlib.pyplot as plt

    def whole(values):
        """One picture of the half slide from values (n, rows, cols, ...) of its tiles."""
        cols = half // TILE
        grid = values.reshape(-1, cols, *values.shape[1:]).swapaxes(1, 2)
        return grid.reshape(-1, cols * values.shape[2], *values.shape[3:])

    side = TILE // PATCH
    noise = np.random.default_rng(0).integers(0, 256, X.shape)
    kept = ~whole(free.reshape(-1, side, side)).repeat(PATCH, axis=0).repeat(PATCH, axis=1)
    faded = (0.25 * slide[:, half:] + 0.75 * 255).astype(np.uint8)
    panels = {
        "The slide; framed: tiles\nread as more than half stained": slide[:, half:],
        "How far each patch may change\nbefore its token can change": whole(radii),
        "What decides the answer;\nfaded: may become anything": np.where(
            kept[..., None], slide[:, half:], faded
        ),
        "Faded parts replaced by noise:\nthe same decisions": whole(replaced(X, free, noise)),
    }
    figure, axes = plt.subplots(1, 4, figsize=(12, 7), layout="constrained")
    figure.suptitle(
        f"All decisions stay if the faded {100 * free.mean():.0f} % of the slide become anything"
    )
    for ax, (title, picture) in zip(axes, panels.items(), strict=True):
        extent = (0, half, slide.shape[0], 0)
        drawn = ax.imshow(
            picture, extent=extent, interpolation="nearest", cmap="magma",
            vmin=0, vmax=np.percentile(radii, 99.5),
        )  # fmt: skip
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[])
        if picture.ndim == 2:
            scale = ax.inset_axes((0.06, 0.045, 0.5, 0.015))
            figure.colorbar(drawn, cax=scale, orientation="horizontal")
            scale.set_title("L2, gray levels", color="white", fontsize=8)
            scale.tick_params(colors="white", labelsize=7, top=True, bottom=False)
            scale.tick_params(labeltop=False, labelbottom=True)
    for index in np.flatnonzero(decision):
        corner = TILE * (index % (half // TILE)), TILE * (index // (half // TILE))
        for ax in (axes[0], axes[3]):
            box = {"fill": False, "edgecolor": "black", "linewidth": 1.2}
            ax.add_patch(plt.Rectangle(corner, TILE, TILE, **box))
    figure.savefig("stained_tissue.png", dpi=100, bbox_inches="tight")
    print("the maps are in stained_tissue.png")
except ImportError:
    print("no picture: matplotlib is not installed")
print(f"{time.perf_counter() - start:.0f} s")
