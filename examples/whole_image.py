"""How far the prediction of a whole image can be trusted
======================================================

A map of radii certifies tokens; the prediction can stand much larger changes.  Four certificates of
the same digits, all L2 over the whole image and in gray levels: the smallest patch radius, the
enumeration of what an attacker can reach, a committee of three, and randomized smoothing, which
alone of the four may be wrong (here with a probability of 0.001 for each image). ::

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
    """Naive Bayes on token ids: 8 tokens at each place."""
    vocabulary = PatchVocabulary(8, patch_size, strategy="kmeans", output="ids", random_state=0)
    return CertifiedPatchClassifier(
        [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=8))]
    )


model = pipeline((2, 2)).fit(data.X_train, data.y_train)

# %%
# The smallest patch radius
# -------------------------
# Nothing changes at all while no patch leaves its cell.
right = model.predict(X) == y
smallest = np.where(right, model.certify(X).reshape(len(X), -1).min(1), -1.0)

# %%
# Enumeration
# -----------
# The configurations of tokens that an attacker can reach are classified in the order of what they
# cost him, until one of them changes the class.  `upper` is the norm of a change that does: where
# one is found, the truth lies between the two.
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
# Three pipelines that see different patches vote; who is certified cannot change its vote.
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
        "enumeration": enumerated,
        "committee": voted,
        "randomized smoothing": np.where(classes == y, radii, -1.0),
    },
    {"enumeration": upper},
    units="gray levels, L2 of the whole image",
)
display.figure_.savefig("whole_image.png", dpi=100)
pyplot.show()
