"""The tokenizer: the estimator, how its tokens are trained, and images to ids and back.

Images are cut into patches, `encoding` turns patches into ids and radii, and `training` makes the
tokens, with `kmeans`, `exemplars` and `prototypes`.  `estimator` gives it the manners of
scikit-learn.
"""

from sklearn_patchcert.vocabulary.denoising import denoise
from sklearn_patchcert.vocabulary.estimator import PatchVocabulary
from sklearn_patchcert.vocabulary.losses import (
    Batch,
    margin_loss,
    negentropy_loss,
    reconstruction_loss,
    structure_loss,
)

__all__ = [
    "Batch",
    "PatchVocabulary",
    "denoise",
    "margin_loss",
    "negentropy_loss",
    "reconstruction_loss",
    "structure_loss",
]
