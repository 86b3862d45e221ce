"""Scorer functions ``(estimator, X, y) -> float`` for searches, and reports of all of them.

Larger is better.  :func:`functools.partial` binds options and keeps a scorer picklable::

    GridSearchCV(model, grid, scoring=partial(patch_certificate, norm="linf", n_samples=500))
"""

from sklearn_patchcert.scorers.certified import (
    average_certified_radius,
    certified_accuracy,
    sticker_accuracy,
    sticker_attack_accuracy,
)
from sklearn_patchcert.scorers.functions import (
    attack_accuracy,
    image_certificate,
    min_patch_certificate,
    neg_reconstruction_error,
    patch_certificate,
    smoothing_accuracy,
    smoothing_radius,
    sspgd_accuracy,
)
from sklearn_patchcert.scorers.reports import robustness_report

__all__ = [
    "attack_accuracy",
    "average_certified_radius",
    "certified_accuracy",
    "image_certificate",
    "min_patch_certificate",
    "neg_reconstruction_error",
    "patch_certificate",
    "robustness_report",
    "smoothing_accuracy",
    "smoothing_radius",
    "sspgd_accuracy",
    "sticker_accuracy",
    "sticker_attack_accuracy",
]
