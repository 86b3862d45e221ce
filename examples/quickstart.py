"""From images to certified patches in a minute
============================================

The script learns a vocabulary of tokens from scikit-learn's digits and trains a network on images
made of tokens.  Every patch of the test images gets its exact radius: within it, the token of the
patch cannot change, and so the prediction cannot change.  At the end the script checks this claim.
It moves each patch just inside its radius and just beyond it. ::

    python examples/quickstart.py
"""

import time

import numpy as np

from sklearn_patchcert import CertificateDisplay, CertifiedPatchClassifier
from sklearn_patchcert.datasets import load_images

start = time.perf_counter()
data = load_images("digits")  # 8 x 8 pixels, 0 is black and 16 is white

model = CertifiedPatchClassifier().set_params(
    vocab__n_tokens=32,
    vocab__patch_size=2,
    vocab__random_state=0,
    clf__random_state=0,
)
model.fit(data.X_train, data.y_train)
radii, witness = model.certify(data.X_test, return_witness=True)  # in gray levels

n, rows, cols = radii.shape
print(f"{n} test images, each of {rows} x {cols} patches of 2 x 2 pixels, 32 tokens")
print(f"{'accuracy on the test images':44}{100 * model.score(data.X_test, data.y_test):8.2f} %")
for name, value in {
    "mean radius of a patch": radii.mean(),
    "median radius of a patch": np.median(radii),
    "smallest radius of an image, on average": radii.min(axis=(1, 2)).mean(),
    "sum over an image (not a certificate)": radii.sum(axis=(1, 2)).mean(),
}.items():
    print(f"{name:44}{value:8.2f} gray levels (L2)")

# %%
# Check the claim
# ---------------
# Move every patch toward the nearest boundary of its cell, up to it and beyond it.
vocabulary = model["vocab"]
ids, prediction = vocabulary.tokenize(data.X_test), model.predict(data.X_test)
just_inside = data.X_test + (1 - 1e-9) * witness.perturbation
just_outside = data.X_test + (1 + 1e-3) * witness.perturbation
inside = (vocabulary.tokenize(just_inside) != ids).mean()
outside = (vocabulary.tokenize(just_outside) != ids).mean()
print(f"moved to 0.999999999 times the radius, {100 * inside:6.2f} % of the tokens change")
print(f"moved to 1.001 times the radius,       {100 * outside:6.2f} % of the tokens change")
assert inside == 0, "a certificate was broken"
assert outside > 0.999, "a certificate was not tight"
assert (model.predict(just_inside) == prediction).all()

# %%
# Look at the maps
# ----------------
# The color is the radius.  A patch keeps its token while it changes by less than its radius, no
# matter how the other patches change within theirs.
try:
    display = CertificateDisplay.from_estimator(model, data.X_test[:4], units="gray levels")
    display.figure_.savefig("quickstart.png", dpi=100)
    print("the maps of four images are in quickstart.png")
except ImportError:
    print("no picture: matplotlib is not installed")
print(f"{time.perf_counter() - start:.0f} s")
