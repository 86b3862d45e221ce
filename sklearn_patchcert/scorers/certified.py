"""Scorers of certified predictions, as :mod:`scorers` has them for radii of patches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sklearn_patchcert.attacks.evaluation import agreed, evaluated, seed_of
from sklearn_patchcert.attacks.stickers.attack import run_sticker_attack
from sklearn_patchcert.checks import check_count, check_norm, check_number

_NORMS = ("l2", "linf", "l0", "sticker")


def certified_accuracy(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    radius: float,
    norm: str | float = "l2",
    max_configurations: int = 1000,
    n_samples: int | None = None,
    random_state: int = 0,
) -> float:
    """Share of images that are classified correctly and certified at a radius.

    Parameters
    ----------
    estimator : fitted estimator with a `certify_prediction`, or a search over such
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
    y : array-like (n,)
    radius : float
        Over a whole image, in units of X.  Of "l0" it is a number of values and of "sticker" a
        side, both of which an attacker may use up: certified are images whose radius is larger.
    norm : {"l2", "linf", "l0", "sticker"}
    max_configurations : int
        See :meth:`CertifiedPatchClassifier.certify_prediction`.
    n_samples : int or None
        Score this many images, drawn once for all estimators.  None: all.
    random_state : int
        Draws them.

    Returns
    -------
    accuracy : float

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.naive_bayes import CategoricalNB
    >>> from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary
    >>> from sklearn_patchcert.scorers.functions import certified_accuracy
    >>> X, y = load_digits(return_X_y=True)
    >>> vocabulary = PatchVocabulary(8, 4, strategy="kmeans", output="ids", random_state=0)
    >>> model = CertifiedPatchClassifier(
    ...     [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=8))]
    ... )
    >>> _ = model.fit(X[:500], y[:500])
    >>> 0 < certified_accuracy(model, X[500:520], y[500:520], radius=1.0) <= 1
    True
    """
    radius = check_number("radius", radius, finite=False)
    found = _certified(estimator, X, y, norm, max_configurations, n_samples, random_state)
    if norm in ("l0", "sticker"):  # "no fewer than this" leaves this number itself open
        return float(((found > radius) | np.isposinf(found)).mean())
    return float((found >= radius).mean())


def average_certified_radius(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    norm: str | float = "l2",
    max_configurations: int = 1000,
    n_samples: int | None = None,
    random_state: int = 0,
) -> float:
    """Mean certified radius, with 0 for a wrong prediction.

    Parameters
    ----------
    estimator, X, y, norm, max_configurations, n_samples, random_state
        As for :func:`certified_accuracy`.

    Returns
    -------
    radius : float
        inf where an image cannot be misclassified at all.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.naive_bayes import CategoricalNB
    >>> from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary
    >>> from sklearn_patchcert.scorers.functions import average_certified_radius
    >>> X, y = load_digits(return_X_y=True)
    >>> vocabulary = PatchVocabulary(8, 4, strategy="kmeans", output="ids", random_state=0)
    >>> model = CertifiedPatchClassifier(
    ...     [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=8))]
    ... )
    >>> _ = model.fit(X[:500], y[:500])
    >>> average_certified_radius(model, X[500:520], y[500:520]) > 0
    True
    """
    found = _certified(estimator, X, y, norm, max_configurations, n_samples, random_state)
    return float(np.maximum(found, 0).mean())


def sticker_accuracy(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    n_samples: int | None = None,
    random_state: int = 0,
) -> float:
    """Share of images that are classified correctly and certified against stickers.

    Parameters
    ----------
    estimator : fitted StickerCertifiedClassifier, or a search over such
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
    y : array-like (n,)
    n_samples : int or None
        Score this many images, drawn once for all estimators.  None: all.
    random_state : int
        Draws them.

    Returns
    -------
    accuracy : float
        No sticker of the estimator's size, wherever it is, can bring the accuracy on these images
        below this.

    Raises
    ------
    TypeError
        If the estimator has no certificate against stickers.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_patchcert import StickerCertifiedClassifier
    >>> from sklearn_patchcert.scorers import sticker_accuracy
    >>> X, y = load_digits(return_X_y=True)
    >>> model = StickerCertifiedClassifier(LogisticRegression(max_iter=200), sticker_size=1)
    >>> _ = model.fit(X[:500] / 16, y[:500])
    >>> 0 < sticker_accuracy(model, X[500:520] / 16, y[500:520]) <= 1
    True
    """
    model, X, y = evaluated(estimator, X, y, n_samples=n_samples, random_state=random_state)
    masked = hasattr(model, "sticker_size") and hasattr(model, "certify")
    if not masked or not hasattr(model, "classes_"):
        raise TypeError(
            f"{type(model).__name__} has no certificate against stickers for classes: score a "
            "StickerCertifiedClassifier."
        )
    prediction, certified = model._certified_everywhere(X)
    return float((certified & agreed(prediction, y)).mean())


def sticker_attack_accuracy(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    sticker_size: Any = None,
    n_samples: int | None = None,
    random_state: int = 0,
    **options: Any,
) -> float:
    """Accuracy under an attack with a sticker; see :func:`attacks.run_sticker_attack`.

    Parameters
    ----------
    estimator : fitted classifier, or a search over such
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
    y : array-like (n,)
    sticker_size : int, tuple (height, width), list of these, or None
        In pixels.  None: that of the estimator, a StickerCertifiedClassifier.
    n_samples : int or None
        Score this many images, drawn once for all estimators.  None: all.
    random_state : int
        Draws them and the start of the attack.
    **options
        Go to :func:`attacks.run_sticker_attack`.

    Returns
    -------
    accuracy : float
        Share of the images that are classified correctly and withstand the attack.  On the same
        images it is at least :func:`sticker_accuracy`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchNetClassifier
    >>> from sklearn_patchcert.scorers import sticker_attack_accuracy
    >>> X, y = load_digits(return_X_y=True)
    >>> net = PatchNetClassifier(max_epochs=2, random_state=0).fit(X[:500], y[:500])
    >>> options = {"sticker_size": 3, "steps": 10, "n_places": 2}
    >>> sticker_attack_accuracy(net, X[500:510], y[500:510], **options) < 0.9
    True
    """
    seed = seed_of(random_state)
    model, X, y = evaluated(estimator, X, y, n_samples=n_samples, random_state=seed)
    found = run_sticker_attack(model, X, y, sticker_size, random_state=seed, **options)
    return float((found.correct & ~found.success).mean())


def _certified(estimator, X, y, norm, max_configurations, n_samples, random_state):
    """Certified radii of the images drawn; -1 where the prediction is wrong."""
    norm = check_norm(norm, _NORMS)
    most = check_count("max_configurations", max_configurations)
    model, X, y = evaluated(estimator, X, y, n_samples=n_samples, random_state=random_state)
    if not hasattr(model, "certify_prediction"):
        raise TypeError(
            f"{type(model).__name__} has no certify_prediction: score a CertifiedPatchClassifier."
        )
    found = model.certify_prediction(X, norm=norm, max_configurations=most)
    return np.where(agreed(found.prediction, y), found.radius, -1.0)
