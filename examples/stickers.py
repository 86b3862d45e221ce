"""A sticker anywhere cannot change the prediction
===============================================

An attacker who may put a sticker on an object changes a small window of the image by any amount.
This script fits a network whose prediction such a sticker provably cannot change on most digits,
wherever it is, while all other patches move within their radius at the same time.  It draws the
places that are certified, and compares three numbers of masks. ::

    python examples/stickers.py
"""

import time

from matplotlib import pyplot
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchVocabulary,
    StickerCertifiedClassifier,
    StickerDisplay,
)
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.scorers import sticker_accuracy

data = load_images("digits")
X, y = data.X_test[:100], data.y_test[:100]

# %%
# The model
# ---------
# Each pixel of the 8 x 8 images is a patch with 8 tokens.  Masks hide tokens, such that each
# sticker of 2 x 2 pixels, 6 % of the image, lies inside one of them.  `fit` trains the network with
# masks.
pipeline = CertifiedPatchClassifier(
    [
        ("vocab", PatchVocabulary(8, patch_size=1, strategy="kmeans", random_state=0)),
        ("clf", PatchNetClassifier(max_epochs=15, random_state=0)),
    ]
)
model = StickerCertifiedClassifier(pipeline, sticker_size=2, n_masks=4)
model.fit(data.X_train, data.y_train)

# %%
# The certificate
# ---------------
# `places` tells for each patch whether a sticker whose upper left pixel lies in it could change the
# prediction.  `radii` hold at the same time, for all patches that the sticker does not touch.
start = time.perf_counter()
found = model.certify(X)
seconds = time.perf_counter() - start
print(f"accuracy                     {100 * model.score(X, y):.0f} %")
print(f"right and certified          {100 * sticker_accuracy(model, X, y):.0f} %")
print(f"certified places             {100 * found.places.mean():.0f} %")
print(f"mean radius of other patches {found.radii.mean():.2f} gray levels, of 16")
print(f"time of an image             {seconds / len(X):.3f} s")

# %%
# The picture
# -----------
# Six digits that are certified at some places only, and two that are certified everywhere.  At
# places that are marked nothing is proved: a sticker there may change the prediction or not.
partly = (~found.certified).nonzero()[0][:6].tolist()
chosen = [*partly, *found.certified.nonzero()[0][: 8 - len(partly)].tolist()]
StickerDisplay.from_estimator(model, X[chosen], y[chosen], figsize=(7.5, 5))
pyplot.savefig("stickers.png", dpi=120)
print("wrote stickers.png")

# %%
# Fewer masks
# -----------
# Fewer masks are larger, so each hides more of the digit, and there are fewer pairs to classify.
# The network that was trained for 4 x 4 masks is used as it is.
for n_masks in (4, 3, 2):
    other = StickerCertifiedClassifier(
        FrozenEstimator(model.estimator_), sticker_size=2, n_masks=n_masks
    ).fit(data.X_train, data.y_train)
    found = other.certify(X)
    right = 100 * (found.certified & (found.prediction == y)).mean()
    count = found.n_predictions.mean()
    print(f"{n_masks} x {n_masks} masks: {count:4.0f} predictions, {right:.0f} % certified")
pyplot.show()
