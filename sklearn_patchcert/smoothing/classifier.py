"""SmoothedClassifier: randomized smoothing of any scikit-learn classifier."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_array, check_is_fitted
from tqdm.auto import tqdm

from sklearn_patchcert._validation import (
    HasMethods,
    Integral,
    Interval,
    Real,
    VersionedState,
    _fit_context,
    random_seed,
)
from sklearn_patchcert.parallel import over_parts
from sklearn_patchcert.smoothing.bounds import (
    ABSTAIN,
    certified_radius,
    class_counts,
    is_decided,
    lower_bound,
)

_COPIES_AT_ONCE = 16_000
_ROUNDED = 0.01  # of sigma, that rounding a noisy copy may change at most


class SmoothedClassifier(VersionedState, MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Answer what a classifier answers most often for noisy copies of an image.

    The answer comes with a radius, L2 over the whole image, inside which it holds with probability
    at least 1 - alpha over the draw of the noise (Cohen, Rosenfeld, Kolter, ICML 2019).  Unlike the
    certificate of a vocabulary it is neither deterministic nor sound in floating point
    (arXiv:2207.07209), and it costs `n` predictions an image.

    Parameters
    ----------
    estimator : classifier
        Fitted by :meth:`fit`.  To smooth one that is fitted already, wrap it in scikit-learn's
        FrozenEstimator and call fit.
    sigma : float, default=0.25
        Standard deviation of the noise, in units of X.
    n0 : int, default=100
        Noisy copies that choose the class to certify.
    n : int, default=10_000
        Noisy copies that certify it, and that predict.
    alpha : float, default=0.001
        Probability with which a certificate may be wrong.
    augment : bool, default=False
        Whether fit adds the noise to the images that it trains on, each once.
    batch_size : int, default=1000
        Noisy copies that are predicted at once.
    random_state : int, RandomState instance or None, default=None
        Seeds the noise, which depends on it and on the index of an image in X.
    n_jobs : int or None, default=None
        Threads over images.  Results do not depend on it.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    estimator_ : classifier
        The fitted one.
    classes_ : ndarray (n_classes,)
    n_features_in_ : int
        Where the estimator has it.

    Notes
    -----
    :meth:`predict` abstains, answers ``ABSTAIN = -1``, where the counts do not tell the first class
    from the second at level alpha.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn_patchcert import SmoothedClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = SmoothedClassifier(RidgeClassifier(), sigma=1.0, n=1000, random_state=0)
    >>> classes, radii = model.fit(X, y).certify(X[:5])
    >>> classes
    array([0, 1, 2, 3, 4])
    >>> bool((radii > 0).all())
    True
    """

    _depends_on_place = True  # of an image in its batch, by its noise

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"])],
        "sigma": [Interval(Real, 0, None, closed="neither")],
        "n0": [Interval(Integral, 1, None, closed="left")],
        "n": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "augment": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator,
        sigma=0.25,
        n0=100,
        n=10_000,
        alpha=0.001,
        *,
        augment=False,
        batch_size=1000,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ) -> None:
        self.estimator = estimator
        self.sigma = sigma
        self.n0 = n0
        self.n = n
        self.alpha = alpha
        self.augment = augment
        self.batch_size = batch_size
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, **fit_params) -> SmoothedClassifier:
        """Fit the classifier, on noisy images where `augment` says so.

        Parameters
        ----------
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        y : array-like (n,)
        **fit_params
            Go to the classifier's fit.

        Returns
        -------
        self : SmoothedClassifier

        Raises
        ------
        ValueError
            If -1, the answer that abstains, is one of the classes.
        """
        seed, X = random_seed(self.random_state), _checked(X)
        if self.augment:
            rng = np.random.default_rng(np.random.SeedSequence((seed, 2)))
            X = X + (self.sigma * rng.standard_normal(X.shape)).astype(_float_of(X))
        estimator = clone(self.estimator).fit(X, y, **fit_params)
        if np.asarray(estimator.classes_).dtype.kind in "iuf" and ABSTAIN in estimator.classes_:
            raise ValueError("The class -1 is what a smoothed classifier answers when it abstains.")
        self.estimator_, self.classes_, self.seed_ = estimator, estimator.classes_, seed
        if hasattr(estimator, "n_features_in_"):
            self.n_features_in_ = estimator.n_features_in_
        return self

    def predict(self, X) -> NDArray[Any]:
        """The most frequent class among `n` noisy copies, or ABSTAIN.

        Parameters
        ----------
        X : array-like (n_images, n_features), (n_images, H, W) or (n_images, H, W, C)

        Returns
        -------
        classes : ndarray (n_images,)
            Of objects where the classes are no numbers.
        """
        counts = self._counts(X, self.n, stage=1)
        order = np.argsort(-counts, axis=1, kind="stable")
        ranked = np.take_along_axis(counts, order, axis=1)
        second = ranked[:, 1] if ranked.shape[1] > 1 else np.zeros(len(ranked), dtype=int)
        return self._answer(order[:, 0], is_decided(ranked[:, 0], second, self.alpha))

    def certify(self, X) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """The class of each image and the radius inside which it is the smoothed answer.

        Parameters
        ----------
        X : array-like (n_images, n_features), (n_images, H, W) or (n_images, H, W, C)

        Returns
        -------
        classes : ndarray (n_images,)
            ABSTAIN where no radius can be certified.
        radii : ndarray of float64 (n_images,)
            L2 over the whole image, in units of X; each holds with probability 1 - alpha.

        Raises
        ------
        ValueError
            If the noise is too small for float32 to add it to X.
        """
        chosen = self._counts(X, self.n0, stage=0).argmax(1)
        counts = self._counts(X, self.n, stage=1)[np.arange(len(chosen)), chosen]
        p = lower_bound(counts, self.n, self.alpha)
        radii = certified_radius(p, self.sigma)
        return self._answer(chosen, p > 0.5), radii

    def _answer(self, index, decided):
        classes = self.classes_[index]
        if classes.dtype.kind not in "iuf":
            classes = classes.astype(object)
        elif classes.dtype.kind == "u":
            classes = classes.astype(np.int64)
        classes[~decided] = ABSTAIN
        return classes

    def _counts(self, X, n, stage):
        check_is_fitted(self)
        images = _checked(X).astype(np.float32)
        largest = float(np.abs(images).max())
        if largest * np.finfo(np.float32).eps > _ROUNDED * self.sigma:
            raise ValueError(
                f"sigma={self.sigma:g} is lost beside values of {largest:g} in float32, in which "
                "noise is added: take the mean from X, or use a larger sigma."
            )
        total = len(images)
        labels = np.asarray(self.classes_)

        parts = list(gen_batches(total, max(1, max(_COPIES_AT_ONCE, self.batch_size) // n)))
        settings = (labels, n, self.sigma, self.seed_, stage, self.batch_size)
        count = partial(_counted, self.estimator_, *settings)
        label = ("choosing a class", "counting")[stage]
        found = over_parts(count, [(images[part], part.start) for part in parts], self.n_jobs)
        bar = tqdm(total=total * n, unit="copy", desc=label, disable=not self.verbose)
        with bar, closing(found):
            return np.concatenate([_ticked(counts, bar) for counts in found])


def _counted(estimator, labels, n, sigma, seed, stage, batch_size, images, start):
    """Counts of the classes for the copies of some images, `start` the index of the first."""
    return class_counts(
        lambda copies: np.searchsorted(labels, estimator.predict(copies)),
        images,
        n,
        sigma,
        n_classes=len(labels),
        seed=seed,
        stage=stage,
        indices=range(start, start + len(images)),
        batch_size=batch_size,
    )


def _ticked(counts, bar):
    bar.update(counts.sum())
    return counts


def _checked(X):
    return check_array(X, dtype="numeric", allow_nd=True, estimator="SmoothedClassifier")


def _float_of(X):
    return X.dtype if X.dtype.kind == "f" else np.float64
