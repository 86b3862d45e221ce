"""What the parameters of PatchVocabulary may be, and what becomes of them."""

from __future__ import annotations

import math
import warnings

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from sklearn_patchcert._validation import Integral, Interval, Real, StrOptions

CONSTRAINTS: dict = {
    "n_tokens": [Interval(Integral, 1, None, closed="left"), tuple, list],
    "patch_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
    "image_shape": [None, tuple, list],
    "per_channel": ["boolean", StrOptions({"shared"})],
    "strategy": [StrOptions({"learned", "kmeans", "denoised", "supervised"})],
    "soft_temperature": [None, Interval(Real, 0, None, closed="neither"), tuple, list],
    "entropy_weight": [Interval(Real, 0, None, closed="left")],
    "structure_weight": [Interval(Real, 0, None, closed="left")],
    "margin_weight": [Interval(Real, 0, None, closed="left"), tuple, list],
    "noise_std": [Interval(Real, 0, None, closed="left")],
    "loss": [None, callable],
    "min_token_distance": [None, Interval(Real, 0, None, closed="left")],
    "target_radius": [None, Interval(Real, 0, None, closed="neither")],
    "augment": [None, callable],
    "denoiser": [None, callable],
    "output": [StrOptions({"images", "ids"})],
    "subsample": [None, Interval(Integral, 1, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "device": "no_validation",  # check_device says more
    "random_state": ["random_state"],
    "n_jobs": [None, Integral],
    "verbose": ["verbose"],
}
_OF_STRATEGY = {
    "learned": (
        "soft_temperature",
        "entropy_weight",
        "structure_weight",
        "margin_weight",
        "noise_std",
        "loss",
    ),
    "denoised": ("min_token_distance", "denoiser"),
    "supervised": ("target_radius", "augment"),
}
OF_TRAINING = (
    *_OF_STRATEGY["learned"],
    *_OF_STRATEGY["supervised"],
    "batch_size",
    "learning_rate",
)


def warn_of_idle_options(vocabulary, stacklevel):
    """Warn of options that were set, but belong to another strategy."""
    for strategy, names in _OF_STRATEGY.items():
        values = {name: getattr(vocabulary, name) for name in names}
        idle = [name for name, value in values.items() if value is not None and np.any(value)]
        if idle and strategy != vocabulary.strategy:
            warnings.warn(
                f"{', '.join(idle)} of strategy={strategy!r} has no effect on "
                f"strategy={vocabulary.strategy!r}: choose that strategy, or leave it out.",
                UserWarning,
                stacklevel=stacklevel + 1,
            )


def numbers_of_tokens(n_tokens, per_channel, n_parts):
    """Numbers of tokens of the vocabularies."""
    if isinstance(n_tokens, Integral):
        return [n_tokens] * n_parts
    whole = all(isinstance(size, Integral) and size >= 1 for size in n_tokens)
    if per_channel is not True or len(n_tokens) != n_parts or not whole:
        raise ValueError(
            "n_tokens must be a positive number or, with per_channel=True, one for each channel; "
            f"got {n_tokens!r} with {per_channel=}."
            + (f"  X has {n_parts} channel(s)." if per_channel is True else "")
        )
    return list(n_tokens)


def weights_of_margins(margin_weight, per_channel, n_parts):
    """Weights of the margin loss of the vocabularies."""
    if isinstance(margin_weight, Real):
        return [margin_weight] * n_parts
    real = all(isinstance(weight, Real) and 0 <= weight < math.inf for weight in margin_weight)
    if per_channel is not True or len(margin_weight) != n_parts or not real:
        raise ValueError(
            "margin_weight must be a number from 0 on or, with per_channel=True, one for each "
            f"channel; got {margin_weight!r} with {per_channel=}."
            + (f"  X has {n_parts} channel(s)." if per_channel is True else "")
        )
    return list(margin_weight)


def class_labels(X, y):
    """Classes from 0 on."""
    if y is None:
        raise ValueError('strategy="supervised" requires y to be passed, but the target y is None')
    y = column_or_1d(y)
    check_consistent_length(X, y)
    check_classification_targets(y)
    return np.unique(y, return_inverse=True)[1]


def drawn_labels(labels, owners):
    """The classes of the images that were drawn."""
    missing = labels.max() + 1 - len(np.unique(labels[owners]))
    if missing:
        raise ValueError(
            f"{missing} classes have no image among those drawn: subsample is too small for "
            f"{labels.max() + 1} classes, make it larger or None."
        )
    return labels[owners]


def check_temperature(temperature):
    if not isinstance(temperature, tuple | list):
        return  # a number or None: its constraint says the rest
    real = all(isinstance(t, Real) and 0 < t < math.inf for t in temperature)
    if len(temperature) != 2 or not real:
        raise ValueError(
            f"soft_temperature must be a positive number or a pair of them, got {temperature!r}."
        )
