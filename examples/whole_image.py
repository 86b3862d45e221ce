"""How far the prediction of a whole image can be trusted
======================================================

A map of radii certifies tokens.  The prediction survives much larger changes.  This script compares
four certificates of the same digits, all in L2 over the whole image and in gray levels: the
smallest patch radius, a search through the token assignments that an attacker can reach, a
committee of three, and randomized smoothing.  Only the last one may be wrong, here with a
probability of 0.001 for each image. ::

    python examples/whole_image.py
"""

import numpy as np
from matplotlib import pyplot
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import CategoricalNB

from sklearn_patchcert import (
    CertifiedAccuracyDisplay,
    CertifiedCommittee,
    CertifiedPatchClassifier,
    PatchVocabulary,
    SmoothedClassifier,
)
from sklearn_patchcert.datasets import load_images

data = load_images("digits")
X, y = data.X_test[:150], data.y_test[:150]


def pipeline(patch_size):
    """Naive Bayes on token ids, with 8 tokens at each position."""
    vocabulary = PatchVocabulary(8, patch_size, strategy="kmeans", output="ids", random_state=0)
    return CertifiedPatchClassifier(
        [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=8))]
    )


model = pipeline((2, 2)).fit(data.X_train, data.y_train)

# %%
# The smallest patch radius
# -------------------------
# While no patch leaves its cell, nothing changes.
right = model.predict(X) == y
smallest = np.where(right, model.certify(X).reshape(len(X), -1).min(1), -1.0)

# %%
# Certified predictions
# ---------------------
# `certify_prediction` classifies token assignments from the cheapest to the dearest, until one
# changes the class.  `upper` is the norm of a perturbation that does change it.  If one is found,
# the truth lies between the certified radius and this norm.
found = model.certify_prediction(X, max_configurations=20_000)
enumerated = np.where(right, found.radius, -1.0)
norms = np.linalg.norm((found.adversarial - X).reshape(len(X), -1), axis=1)
upper = np.where(right, np.where(np.isnan(norms), np.inf, norms), 0.0)
print(f"accuracy {100 * right.mean():.1f} %")
print(f"mean of the smallest patch radii  {np.maximum(smallest, 0).mean():.2f} gray levels")
print(f"mean certified radius             {np.maximum(enumerated, 0).mean():.2f} gray levels")
assert (enumerated >= smallest - 1e-9).all()  # both are rounded down
assert (upper >= enumerated).all()

# %%
# A committee
# -----------
# Three pipelines with different patch shapes vote.  A member cannot change its vote while the
# perturbation is smaller than that member's certified radius.
shapes = [(2, 2), (4, 2), (2, 4)]
committee = CertifiedCommittee([(f"{h} x {w}", pipeline((h, w))) for h, w in shapes])
vote = committee.fit(data.X_train, data.y_train).certify_prediction(X, max_configurations=20_000)
voted = np.where(vote.prediction == y, vote.radius, -1.0)

# %%
# Randomized smoothing
# --------------------
smoothed = SmoothedClassifier(FrozenEstimator(model), sigma=2.0, n=1000, random_state=0)
classes, radii = smoothed.fit(X, y).certify(X)

# %%
# Side by side
# ------------
display = CertifiedAccuracyDisplay.from_results(
    {
        "smallest patch radius": smallest,
        "certified prediction": enumerated,
        "committee": voted,
        "randomized smoothing": np.where(classes == y, radii, -1.0),
    },
    {"certified prediction": upper},
    units="gray levels, L2 of the whole image",
)
display.figure_.savefig("whole_image.png", dpi=100)
pyplot.show()
