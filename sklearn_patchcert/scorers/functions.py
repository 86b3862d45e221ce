"""Scorers for cross-validation and searches: functions ``(estimator, X, y) -> float``.

Larger is better for all of them.  Options are bound with :func:`functools.partial`, which keeps a
scorer picklable::

    GridSearchCV(model, grid, scoring={"accuracy": "accuracy", "radius": patch_certificate})
    GridSearchCV(model, grid, scoring=partial(patch_certificate, norm="linf", n_samples=500))

A radius is in the units of the X that is scored, also behind scaling steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert.attacks.evaluation import (
    agreed,
    asked,
    evaluated,
    seed_of,
    steps_of,
    unwrapped,
)
from sklearn_patchcert.attacks.robustness import knows_flips, worst_case
from sklearn_patchcert.checks import check_norm
from sklearn_patchcert.scorers.certified import average_certified_radius, certified_accuracy
from sklearn_patchcert.smoothing.classifier import SmoothedClassifier

__all__ = [
    "attack_accuracy",
    "average_certified_radius",
    "certified_accuracy",
    "image_certificate",
    "min_patch_certificate",
    "neg_reconstruction_error",
    "patch_certificate",
    "smoothing_accuracy",
    "smoothing_radius",
    "sspgd_accuracy",
]


def patch_certificate(
    estimator: Any, X: ArrayLike, y: Any = None, *, norm: str | float = "l2",
    n_samples: int | None = None, random_state: int = 0,
) -> float:  # fmt: skip
    """Mean radius of a patch.

    Parameters
    ----------
    estimator : fitted estimator with a `certify`, or a search over such
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
    y : ignored
    norm : {"l2", "linf", "l1"}
        The norm, within a patch, of the perturbation.
    n_samples : int or None
        Score this many images, drawn once for all estimators.  None: all.
    random_state : int
        Draws them.

    Returns
    -------
    radius : float
        inf where a vocabulary has one token only.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchVocabulary
    >>> from sklearn_patchcert.scorers import patch_certificate
    >>> X = load_digits().images[:200]
    >>> vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0).fit(X)
    >>> bool(patch_certificate(vocabulary, X) == vocabulary.certify(X).mean())
    True
    """
    return float(_radii(estimator, X, norm, n_samples, random_state).mean())


def image_certificate(
    estimator: Any, X: ArrayLike, y: Any = None, *, norm: str | float = "l2",
    n_samples: int | None = None, random_state: int = 0,
) -> float:  # fmt: skip
    """Mean over images of the sum of patch radii, which is not a certificate.

    The literature shows this sum; no ball of this size is certified.  Use
    :func:`min_patch_certificate` for a radius of the whole image.

    Parameters
    ----------
    estimator, X, y, norm, n_samples, random_state
        As for :func:`patch_certificate`.

    Returns
    -------
    slack : float

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchVocabulary
    >>> from sklearn_patchcert.scorers import image_certificate, patch_certificate
    >>> X = load_digits().images[:200]
    >>> vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0).fit(X)
    >>> round(image_certificate(vocabulary, X) / patch_certificate(vocabulary, X), 6)  # patches
    4.0
    """
    radii = _radii(estimator, X, norm, n_samples, random_state)
    return float(radii.reshape(len(radii), -1).sum(1).mean())


def min_patch_certificate(
    estimator: Any, X: ArrayLike, y: Any = None, *, norm: str | float = "l2",
    n_samples: int | None = None, random_state: int = 0,
) -> float:  # fmt: skip
    """Mean over images of their smallest patch radius.

    That is the radius, in the same norm over the whole image, of the largest ball in which no
    token of the image changes.

    Parameters
    ----------
    estimator, X, y, norm, n_samples, random_state
        As for :func:`patch_certificate`.

    Returns
    -------
    radius : float

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchVocabulary
    >>> from sklearn_patchcert.scorers import min_patch_certificate, patch_certificate
    >>> X = load_digits().images[:200]
    >>> vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0).fit(X)
    >>> min_patch_certificate(vocabulary, X) < patch_certificate(vocabulary, X)
    True
    """
    radii = _radii(estimator, X, norm, n_samples, random_state)
    return float(radii.reshape(len(radii), -1).min(1).mean())


def neg_reconstruction_error(
    estimator: Any,
    X: ArrayLike,
    y: Any = None,
    *,
    n_samples: int | None = None,
    random_state: int = 0,
) -> float:
    """Negative mean squared L2 distance of the patches to their tokens.

    Parameters
    ----------
    estimator : fitted PatchVocabulary, pipeline with one, or a search over such
    X, y, n_samples, random_state
        As for :func:`patch_certificate`.

    Returns
    -------
    score : float
        At most 0; in the units of the vocabulary step's input.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchVocabulary
    >>> from sklearn_patchcert.scorers import neg_reconstruction_error
    >>> X = load_digits().images[:200]
    >>> vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0).fit(X)
    >>> few = PatchVocabulary(2, 4, strategy="kmeans", random_state=0).fit(X)
    >>> neg_reconstruction_error(few, X) < neg_reconstruction_error(vocabulary, X) < 0
    True
    """
    _, Z, _ = evaluated(estimator, X, labels=False, n_samples=n_samples, random_state=random_state)
    steps = steps_of(estimator)
    known = [hasattr(step, "tokenize") for step in steps]
    if not any(known):
        raise TypeError(f"There is no PatchVocabulary in {estimator!r}.")
    *before, vocabulary = steps[: known.index(True) + 1]
    for step in before:
        Z = step.transform(Z)
    ids = asked(vocabulary.tokenize, Z)
    Z = np.asarray(Z, dtype=np.float64)
    made = vocabulary.inverse_transform(ids).reshape(Z.shape)
    return -float(np.square(Z - made).sum() / ids.size)


def smoothing_accuracy(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    sigma: float,
    n: int = 1000,
    alpha: float = 0.001,
    n_samples: int | None = None,
    random_state: int = 0,
) -> float:
    """Accuracy of the smoothed classifier, randomized smoothing of an estimator that is fitted.

    Abstaining counts as wrong.

    Parameters
    ----------
    estimator : fitted classifier, or a search over such
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
    y : array-like (n,)
    sigma : float
        Standard deviation of the noise, in units of X.
    n : int
        Noisy copies of each image.
    alpha : float
        Level at which the answer has to be decided.
    n_samples : int or None
        Score this many images, drawn once for all estimators.  None: all.
    random_state : int
        Draws them and the noise, the same for all estimators.

    Returns
    -------
    accuracy : float

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn_patchcert.scorers import smoothing_accuracy
    >>> X, y = load_digits(return_X_y=True)
    >>> model = RidgeClassifier().fit(X[:1000], y[:1000])
    >>> smoothing_accuracy(model, X[1000:1020], y[1000:1020], sigma=1.0, n=200) > 0.5
    True
    """
    options = {"sigma": sigma, "n": n, "alpha": alpha}
    smoothed, X, y = _smoothed(estimator, X, y, n_samples, random_state, options)
    return float(smoothed.score(X, y))


def smoothing_radius(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    sigma: float,
    n: int = 1000,
    n0: int = 100,
    alpha: float = 0.001,
    n_samples: int | None = None,
    random_state: int = 0,
) -> float:
    """Average certified radius of randomized smoothing: 0 where the class is wrong.

    Parameters
    ----------
    estimator, X, y, sigma, n, n0, alpha, n_samples, random_state
        As for :func:`smoothing_accuracy` and :class:`SmoothedClassifier`.

    Returns
    -------
    radius : float
        L2 over a whole image, in units of X; each holds with probability 1 - alpha.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn_patchcert.scorers import smoothing_radius
    >>> X, y = load_digits(return_X_y=True)
    >>> model = RidgeClassifier().fit(X[:1000], y[:1000])
    >>> 0 < smoothing_radius(model, X[1000:1020], y[1000:1020], sigma=1.0, n=200) < 3
    True
    """
    options = {"sigma": sigma, "n": n, "n0": n0, "alpha": alpha}
    smoothed, X, y = _smoothed(estimator, X, y, n_samples, random_state, options)
    classes, radii = smoothed.certify(X)
    return float(np.where(agreed(classes, y), radii, 0.0).mean())


def sspgd_accuracy(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    eps: float,
    n_samples: int | None = None,
    random_state: int = 0,
    **options: Any,
) -> float:
    """Accuracy under single-step projected gradient descent; see :func:`attacks.run_attack`.

    One step is not evidence of robustness: use :func:`attack_accuracy`.

    Parameters
    ----------
    estimator : fitted skorch classifier, pipeline that ends in one, or a search over such
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
    y : array-like (n,)
    eps : float
        L2 norm, unless `norm` says otherwise, of the perturbation in units of X.
    n_samples : int or None
        Score this many images, drawn once for all estimators.  None: all.
    random_state : int
        Draws them and the start of the attack.
    **options
        Go to :func:`attacks.run_attack`.

    Returns
    -------
    accuracy : float

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchNetClassifier
    >>> from sklearn_patchcert.scorers import sspgd_accuracy
    >>> X, y = load_digits(return_X_y=True)
    >>> net = PatchNetClassifier(max_epochs=2, random_state=0).fit(X[:500], y[:500])
    >>> sspgd_accuracy(net, X[500:], y[500:], eps=4.0, n_samples=100) < net.score(X[500:], y[500:])
    True
    """
    options = {"attack_list": ["sspgd"], "random_state": random_state, **options}
    return attack_accuracy(estimator, X, y, eps=eps, n_samples=n_samples, **options)


def attack_accuracy(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    eps: float,
    attack_list: Sequence[Any] | None = None,
    n_samples: int | None = None,
    random_state: int = 0,
    **options: Any,
) -> float:
    """Accuracy in the worst case over several attacks; see :func:`attacks.worst_case`.

    Parameters
    ----------
    estimator, X, y, eps
        As for :func:`sspgd_accuracy`.
    attack_list : sequence of str, callable, (str, dict) or (callable, dict), default=None
        Attacks, with options for each.  None: "apgd-ce", "apgd-dlr" and, for tokens and for what
        it knows (L2 without bounds), the search over tokens "flips".  Without it, accuracies of
        models with tokens are much too high.
    n_samples, random_state
        As for :func:`sspgd_accuracy`.
    **options
        Options for all of them.

    Returns
    -------
    accuracy : float
        Part of the images that withstand all attacks.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchNetClassifier
    >>> from sklearn_patchcert.scorers import attack_accuracy
    >>> X, y = load_digits(return_X_y=True)
    >>> net = PatchNetClassifier(max_epochs=2, random_state=0).fit(X[:500], y[:500])
    >>> attack_accuracy(net, X[500:550], y[500:550], eps=4.0, attack_list=["pgd"], steps=10) < 0.5
    True
    """
    seed = seed_of(random_state)
    model, X, y = evaluated(estimator, X, y, n_samples=n_samples, random_state=seed)
    if attack_list is None:
        given = {name: options[name] for name in ("norm", "bounds") if name in options}
        flips = knows_flips(options.get("source") or model, **given)
        attack_list = ["apgd-ce", "apgd-dlr", *["flips"] * flips]
    found = worst_case(model, X, y, attack_list, eps=eps, random_state=seed, **options)
    return float(found.robust.mean())


def _smoothed(estimator, X, y, n_samples, random_state, options):
    """The smoothed classifier, and the images and labels that it is scored on."""
    seed = seed_of(random_state)
    model, X, y = evaluated(estimator, X, y, n_samples=n_samples, random_state=seed)
    smoothed = SmoothedClassifier(FrozenEstimator(model), random_state=seed, **options)
    return smoothed.fit(X, y), X, y


def _radii(estimator, X, norm, n_samples, random_state):
    norm, model = check_norm(norm, ("l2", "linf", "l1")), unwrapped(estimator)
    masked = hasattr(model, "sticker_size")
    if not hasattr(model, "certify") or isinstance(model, SmoothedClassifier) or masked:
        raise TypeError(
            f"{type(model).__name__} has no certify of patches: score a PatchVocabulary, a "
            "CertifiedPatchClassifier or a CertifiedPatchRegressor."
        )
    if n_samples is not None or not isinstance(X, np.memmap):  # that is read piece by piece
        options = {"labels": False, "n_samples": n_samples, "random_state": random_state}
        _, X, _ = evaluated(model, X, **options)
    return model.certify(X, norm)
