"""From images to certified patches in a minute
============================================

On scikit-learn's digits, a vocabulary of tokens is learned from the training images, a network is
trained on the images made of tokens, and every patch of the test images gets the exact radius
inside which its token, and so the prediction, cannot change.  At the end the claim is checked
again: each patch is moved just inside its radius, and just past it. ::

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
for what, value in {
    "mean radius of a patch": radii.mean(),
    "median radius of a patch": np.median(radii),
    "smallest radius of an image, on average": radii.min(axis=(1, 2)).mean(),
    "sum over an image (slack, not a radius)": radii.sum(axis=(1, 2)).mean(),
}.items():
    print(f"{what:44}{value:8.2f} gray levels (L2)")

# %%
# Check the claim
# ---------------
# Move every patch towards its nearest wall, up to it and past it.
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
# The colour is the radius: inside it, a patch keeps its token whatever the attacker does to it, and
# to the other patches inside theirs.
try:
    display = CertificateDisplay.from_estimator(model, data.X_test[:4], units="gray levels")
    display.figure_.savefig("quickstart.png", dpi=100)
    print("the maps of four images are in quickstart.png")
except ImportError:
    print("no picture: matplotlib is not installed")
print(f"{time.perf_counter() - start:.0f} s")
