"""Steps before a vocabulary: a per-channel standardizer, and the affine map of a step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert._layouts import as_batch
from sklearn_patchcert._state import VersionedState, all_or_nothing
from sklearn_patchcert._validation import (
    _fit_context,
    check_images,
    check_output_of_images,
    images_and_range,
)


class ChannelStandardizer(VersionedState, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Give every channel of the images mean 0 and standard deviation 1.

    Parameters
    ----------
    image_shape : tuple (H, W) or (H, W, C), default=None
        Shape of the images; None as in :class:`PatchVocabulary`.

    Attributes
    ----------
    mean_, scale_ : ndarray (C,)
        Mean and standard deviation of each channel; the scale of a constant channel is 1.
    image_shape_ : tuple (H, W, C)
    input_range_ : tuple (low, high)
        Smallest and largest value of the images fitted on.
    input_dtype_ : str
        Name of their dtype.
    n_features_in_ : int
    feature_names_in_ : ndarray of str (n_features,)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert import ChannelStandardizer
    >>> X = np.random.default_rng(0).random((10, 8, 8, 3))
    >>> Z = ChannelStandardizer().fit_transform(X)
    >>> Z.std(axis=(0, 1, 2)).round(6)
    array([1., 1., 1.])
    """

    _parameter_constraints: dict = {"image_shape": [None, tuple, list]}
    _made_by_fit = ("mean_", "scale_", "image_shape_", "n_features_in_")

    def __init__(self, image_shape=None) -> None:
        self.image_shape = image_shape

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X, y=None) -> ChannelStandardizer:
        """Compute the mean and the standard deviation of every channel.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        y : ignored

        Returns
        -------
        self : ChannelStandardizer
        """
        images = check_images(self, X, reset=True, image_shape=self.image_shape)
        self.mean_ = images.mean(axis=(0, 1, 2), dtype=np.float64)
        scale = images.std(axis=(0, 1, 2), dtype=np.float64)
        # A channel that is constant but for rounding has no scale to speak of.
        small = 10 * np.finfo(np.float64).eps * np.abs(images).max(axis=(0, 1, 2))
        self.scale_ = np.where(scale <= small, 1.0, scale)
        return self

    def transform(self, X) -> NDArray[Any]:
        """Standardize images: ``(X - mean_) / scale_``.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        Z : ndarray, the shape of X
        """
        check_is_fitted(self)
        X = as_batch(X)
        check_output_of_images(self, X)
        images = check_images(self, X, reset=False, image_shape=self.image_shape)
        return _as_given((images - self.mean_) / self.scale_, images, X)

    def inverse_transform(self, X) -> NDArray[Any]:
        """Undo :meth:`transform`.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

        Returns
        -------
        X_out : ndarray, the shape of X
        """
        check_is_fitted(self)
        X = as_batch(X)
        images, _, _ = images_and_range(self, X, image_shape=self.image_shape)
        return _as_given(images * self.scale_ + self.mean_, images, X)


def _as_given(made, images, X):
    """What was made of images, in their dtype and the layout of X."""
    return made.astype(images.dtype, copy=False).reshape(tuple(X.shape))


class Affine(NamedTuple):
    r"""A map z = scale x + shift of every value, as floating point computes it.

    The computed value differs from the true one by at most ``slope |x| + base``.  All fields are
    arrays that broadcast against one image as the map's input lays it out.
    """

    scale: np.ndarray
    shift: np.ndarray
    slope: np.ndarray
    base: np.ndarray


IDENTITY = Affine(*map(np.asarray, (1.0, 0.0, 0.0, 0.0)))


def then(first, step, image_shape, dtype):
    """Follow an affine map by a fitted scaling step.

    Parameters
    ----------
    first : Affine
        From the user's input to the input of the step.
    step : fitted transformer
        StandardScaler, MinMaxScaler or MaxAbsScaler (without clip), RobustScaler or
        ChannelStandardizer, or one of these in a FrozenEstimator.
    image_shape : tuple (H, W, C)
    dtype : dtype
        In which the step returned its result, at least as coarse as what it computed in.

    Returns
    -------
    whole : Affine

    Raises
    ------
    TypeError
        If the step is another: what it does to distances is not known.
    ValueError
        If its parameters are not of the images' shape, or too small or large for `dtype`.
    """
    info = np.finfo(dtype)
    for part in _scale_shift(step, image_shape):
        sizes = np.abs(part[part != 0])
        if sizes.size and not (sizes.min() >= info.tiny and sizes.max() <= info.max):
            raise ValueError(
                f"{type(step).__name__} shifts or scales by {sizes.min():g} to {sizes.max():g}, "
                f"beyond what {info.dtype} holds to full precision: certify cannot bound its "
                "rounding. Rescale the data."
            )
    scale, shift = (np.broadcast_to(part, image_shape) for part in _scale_shift(step, image_shape))
    # A step rounds four times at most (its two parameters, a sum, a product), by eps / 2 each.
    unit, tiny = 4 * float(info.eps), 4 * float(info.tiny)
    size = np.abs(scale)
    return Affine(
        scale=scale * first.scale,
        shift=scale * first.shift + shift,
        slope=size * (first.slope + unit * (np.abs(first.scale) + first.slope)),
        base=size * (first.base + unit * (np.abs(first.shift) + first.base))
        + unit * np.abs(shift)
        + tiny,
    )


def _scale_shift(step, image_shape):
    """The fitted map of a known step, z = scale x + shift, as arrays that broadcast to an image."""
    kind = type(step)  # not isinstance: a subclass may transform otherwise
    if kind is FrozenEstimator:
        return _scale_shift(step.estimator, image_shape)
    if kind is ChannelStandardizer:
        return 1 / step.scale_, -step.mean_ / step.scale_
    if kind in (MinMaxScaler, MaxAbsScaler) and getattr(step, "clip", False):
        raise TypeError(f"{step!r} clips, which is no affine map: certify cannot see through it.")
    if kind is StandardScaler:
        centre = step.mean_ if step.with_mean else 0.0
        scale = step.scale_ if step.with_std else 1.0
    elif kind is RobustScaler:
        centre = step.center_ if step.with_centering else 0.0
        scale = step.scale_ if step.with_scaling else 1.0
    elif kind is MaxAbsScaler:
        centre, scale = 0.0, step.scale_
    elif kind is MinMaxScaler:
        parts = (step.scale_, step.min_)  # of float16 data in float16, where rounding vanishes
        return [np.asarray(v, dtype=np.float64).reshape(image_shape) for v in parts]
    else:
        raise TypeError(
            f"certify cannot see through {kind.__name__} before the vocabulary: only per-feature "
            "affine steps are known (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, "
            "ChannelStandardizer). Put the step after the vocabulary, or apply it before and "
            "certify in its units."
        )
    # Of float32 data scikit-learn keeps float32 parameters, but the step may meet float64.
    scale = np.asarray(scale, dtype=np.float64)
    shift, scale = -np.asarray(centre, dtype=np.float64) / scale, 1 / scale
    return (v.reshape(image_shape) if v.ndim else v for v in (scale, shift))


def scaled(steps, vocabulary, X):
    """Take a batch to the vocabulary, and tell what encoding.certify has to know of the way.

    Parameters
    ----------
    steps : sequence of fitted transformers
        As :func:`then` takes them.
    vocabulary : fitted PatchVocabulary
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

    Returns
    -------
    Z : array-like
        As it reaches the vocabulary.
    description : dict
        ``scale``, ``error`` and ``error_growth``.

    Raises
    ------
    TypeError, ValueError
        As for :func:`then`; if the vocabulary does not know its image_shape, or a scale vanishes.
    """
    shape = getattr(vocabulary, "image_shape_", None)
    if shape is None:
        raise ValueError(
            "A vocabulary behind a scaling step must know its image_shape to certify: pass "
            "image_shape to from_tokens."
        )
    affine, Z = IDENTITY, X.copy() if hasattr(X, "copy") else np.array(X)  # some work in place
    for step in steps:
        Z = step.transform(Z)
        affine = then(affine, step, shape, np.asarray(Z).dtype)
    if not np.abs(affine.scale).min() >= np.finfo(np.float64).tiny:
        raise ValueError("The steps before the vocabulary scale a feature to nothing.")
    values = np.abs(np.asarray(X, dtype=np.float64)).reshape(-1, *shape)
    return Z, {
        "scale": affine.scale,
        "error": affine.slope * values + affine.base,
        "error_growth": float(np.max(affine.slope / np.abs(affine.scale))),
    }
