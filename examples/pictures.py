"""Pictures of certificates and vocabularies
=========================================

Two photographs that come with scikit-learn, their patches replaced by 256 tokens, and all that can
be drawn of it: maps of radii, their distribution, the tokens and their use. ::

    python examples/pictures.py
"""

import numpy as np
from matplotlib import pyplot
from sklearn.datasets import load_sample_images

from sklearn_patchcert import (
    CertificateDisplay,
    PatchVocabulary,
    TokenUsageDisplay,
    VocabularyDisplay,
)

images = np.stack(load_sample_images().images)  # (2, 427, 640, 3), 0 to 255
vocabulary = PatchVocabulary(256, patch_size=8, strategy="kmeans", random_state=0).fit(images)

# %%
# Maps
# ----
# Where the map is dark, a small change moves the patch into another token's cell.  Some patches are
# far from all tokens but one; the colours end before them.  The sides of the photographs are no
# multiples of the patch: what is padded at the border does not count.
display = CertificateDisplay.from_estimator(
    vocabulary,
    images,
    columns=("image", "discretised", "overlay"),
    vmax=200,
    alpha=0.7,
    units="of 0 to 255",
)
display.figure_.savefig("pictures.png", dpi=100)

# %%
# The distribution of the radii
# -----------------------------
# All patches may move at once, each within its own radius, but the largest L2 ball of a whole image
# has the smallest of its radii.  The small photographs that it takes to see a distribution of both
# are cut from the two.
tiles = images[:, :416].reshape(2, 13, 32, 20, 32, 3).swapaxes(2, 3).reshape(-1, 32, 32, 3)
of_any_size = PatchVocabulary.from_tokens(vocabulary.vocabulary_, patch_size=8)
CertificateDisplay.from_estimator(of_any_size, tiles, kind="histogram", units="of 0 to 255")

# %%
# The tokens, from the most used to the least
# -------------------------------------------
VocabularyDisplay.from_estimator(vocabulary)

# %%
# How evenly tokens are used
# --------------------------
# Exemplars that keep a distance from each other have rarer patches among them than means have.
distinct = PatchVocabulary(
    256,
    patch_size=8,
    strategy="denoised",
    denoiser=np.copy,
    min_token_distance=200,
    random_state=0,
)
_, ax = pyplot.subplots(layout="constrained")
for name, some in {"k-means": vocabulary, "exemplars": distinct.fit(images)}.items():
    TokenUsageDisplay.from_estimator(some, images, name=name, ax=ax)
pyplot.show()
