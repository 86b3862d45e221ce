"""What the parameters of PatchVocabulary may be, and what becomes of them."""

from __future__ import annotations

import math
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from sklearn_patchcert._validation import (
    Integral,
    Interval,
    Real,
    StrOptions,
    check_patch_size,
    clip_patch,
    own_or_shared,
)

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
_NUMBERS = {
    "n_tokens": (Integral, 1, "a positive number"),
    "margin_weight": (Real, 0, "a number from 0 on"),
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


def warn_of_few_patches(n_tokens, sizes, tokens, stacklevel):
    """Warn where there are fewer tokens than were asked for, since patches are equal."""
    fewer = [len(part) for part, size in zip(tokens, sizes, strict=True) if len(part) < size]
    if fewer:
        warnings.warn(
            f"X has only {min(fewer)} distinct patches, fewer than {n_tokens=}: so many tokens are "
            "all that there are.",
            ConvergenceWarning,
            stacklevel=stacklevel + 1,
        )


def by_channel(vocabulary, name, n_parts):
    """An option of each vocabulary: `n_tokens` or `margin_weight`, a number or one per channel."""
    value, per_channel = getattr(vocabulary, name), vocabulary.per_channel_
    kind, least, allowed = _NUMBERS[name]
    if isinstance(value, kind):
        return [value] * n_parts
    right = all(isinstance(number, kind) and least <= number < math.inf for number in value)
    if per_channel is not True or len(value) != n_parts or not right:
        raise ValueError(
            f"{name} must be {allowed} or, with per_channel=True, one for each channel; got "
            f"{value!r} with {per_channel=}."
            + (f"  X has {n_parts} channel(s)." if per_channel is True else "")
        )
    return list(value)


def check_unchanged(vocabulary):
    """What partial_fit cannot change any more: how images are cut into patches."""
    patch_size = check_patch_size(vocabulary.patch_size)
    if hasattr(vocabulary, "image_shape_"):
        patch_size = clip_patch(patch_size, vocabulary.image_shape_)
    now = {"patch_size": patch_size, "per_channel": own_or_shared(vocabulary.per_channel)}
    for name, value in now.items():
        known = getattr(vocabulary, f"{name}_")
        if value != known:
            raise ValueError(
                f"partial_fit continues tokens made with {name}={known!r}, and {name} is "
                f"{getattr(vocabulary, name)!r} now: set it back, or call fit to start anew."
            )


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
