"""Randomized smoothing, the probabilistic baseline: its mathematics and its estimator."""

from sklearn_patchcert.smoothing.bounds import (
    ABSTAIN,
    certified_radius,
    class_counts,
    is_decided,
    lower_bound,
    noisy_copies,
)
from sklearn_patchcert.smoothing.classifier import SmoothedClassifier

__all__ = [
    "ABSTAIN",
    "SmoothedClassifier",
    "certified_radius",
    "class_counts",
    "is_decided",
    "lower_bound",
    "noisy_copies",
]
