"""Pictures of certificates and vocabularies
=========================================

This script replaces the patches of two photographs from scikit-learn by 256 tokens.  It draws the
maps of radii, their distribution, the tokens and how often each token is used. ::

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
# In dark regions of the map, a small change moves the patch into the cell of another token.  A few
# patches are far from all tokens but one, and their radii are beyond the color scale.  The sides
# of the photographs are not multiples of the patch, so the border is padded, and the padding does
# not count.
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
# All patches may change at once, each by less than its own radius.  For one L2 budget over the
# whole image, only the smallest radius is guaranteed.  To show a distribution of both, we cut the
# two photographs into many small ones.
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
# Exemplars keep a minimum distance from each other, so rarer patches are among them than among
# means.
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
