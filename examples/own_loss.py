"""A loss of your own
==================

This loss makes tokens keep the brightness of an image.  A loss is a function of a
:class:`~sklearn_patchcert.vocabulary.Batch`, which has the patches and their reconstructions and,
through `batch.images`, whole images.  It replaces the reconstruction error.  The other options of
:class:`~sklearn_patchcert.PatchVocabulary` are added to it. ::

    python examples/own_loss.py
"""

import numpy as np

from sklearn_patchcert import PatchVocabulary, VocabularyDisplay
from sklearn_patchcert.datasets import load_images
from sklearn_patchcert.scorers import neg_reconstruction_error
from sklearn_patchcert.vocabulary import reconstruction_loss


def brightness(batch):
    """Reconstruction error plus a hundred times the error of the mean of each image."""
    made, images = batch.images(batch.reconstruction), batch.images(batch.patches)
    means = (made.mean((1, 2, 3)) - images.mean((1, 2, 3))).square().mean()
    return reconstruction_loss(batch.reconstruction, batch.patches) + 100 * means


data = load_images("digits")
errors, fitted = {}, {}
for name, loss in {"reconstruction": None, "brightness": brightness}.items():
    vocabulary = PatchVocabulary(16, patch_size=4, loss=loss, max_iter=15, random_state=0)
    fitted[name] = vocabulary.fit(data.X_train)
    made = vocabulary.transform(data.X_test)
    errors[name] = float(np.abs(made.mean((1, 2)) - data.X_test.mean((1, 2))).mean())
    squared = -neg_reconstruction_error(vocabulary, data.X_test)
    print(f"{name:15} squared error of a patch {squared:7.2f}, brightness error {errors[name]:.4f}")
assert errors["brightness"] < errors["reconstruction"]

# %%
# The tokens
# ----------
try:
    from matplotlib import pyplot

    _, axes = pyplot.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    for ax, (name, vocabulary) in zip(axes, fitted.items(), strict=True):
        VocabularyDisplay.from_estimator(vocabulary, ax=ax).ax_.set_xlabel(name)
except ImportError:
    print("no picture: matplotlib is not installed")
