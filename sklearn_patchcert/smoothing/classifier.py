"""SmoothedClassifier: randomized smoothing of any scikit-learn classifier."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score
from sklearn.utils import check_consistent_length, column_or_1d, gen_batches
from sklearn.utils.validation import check_array, check_is_fitted
from tqdm.auto import tqdm

from sklearn_patchcert._layouts import as_batch, check_layout
from sklearn_patchcert._ranges import judge, range_of, remember
from sklearn_patchcert._state import VersionedState, all_or_nothing
from sklearn_patchcert._validation import (
    HasMethods,
    Integral,
    Interval,
    Real,
    _check_feature_names,
    _fit_context,
    random_seed,
)
from sklearn_patchcert.parallel import over_parts
from sklearn_patchcert.smoothing.bounds import (
    ABSTAIN,
    certified_radius,
    is_decided,
    lower_bound,
)
from sklearn_patchcert.smoothing.counting import counted, label_indices

_COPIES_AT_ONCE = 16_000
_ROUNDED = 0.01  # of sigma, that rounding a noisy copy may change at most


class SmoothedClassifier(VersionedState, MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Predict the class that a classifier predicts most often for noisy copies of an image.

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
    input_range_ : tuple (low, high)
        Smallest and largest value of the images fitted on, without noise.
    input_dtype_ : str
        Name of their dtype.
    n_features_in_ : int
        Where the estimator has it.

    Notes
    -----
    :meth:`predict` abstains, that is, answers ``ABSTAIN = -1``, if the counts do not tell the first
    class from the second at level alpha.  In :meth:`score` that is a mistake.  scikit-learn's own
    scorers, such as ``scoring="accuracy"``, refuse to compare -1 with labels that are texts or
    booleans; leave `scoring` to :meth:`score` there.

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
    _made_by_fit = ("estimator_", "classes_", "seed_")

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
    @all_or_nothing
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
            If -1, the answer that abstains, is one of the classes, or there are several outputs, or
            a frozen classifier was fitted on other columns or should be trained on noise.
        """
        seed = random_seed(self.random_state)
        _check_feature_names(self, X, reset=True)
        X = _checked(X)
        limits, dtype = range_of(X), X.dtype
        if self.augment and isinstance(self.estimator, FrozenEstimator):
            raise ValueError(
                "augment=True trains on noisy images, but a FrozenEstimator is not trained: set "
                "augment=False, or pass the estimator itself."
            )
        if self.augment:
            rng = np.random.default_rng(np.random.SeedSequence((seed, 2)))
            X = X + (self.sigma * rng.standard_normal(X.shape)).astype(_float_of(X))
        shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
        if len(shape) > 1 and shape[1] > 1:
            raise ValueError("Only one output can be smoothed, and y has several outputs.")
        estimator = clone(self.estimator).fit(X, y, **fit_params)
        classes = np.asarray(estimator.classes_)
        if label_indices(classes, [ABSTAIN])[0] >= 0:
            raise ValueError("The class -1 is what a smoothed classifier answers when it abstains.")
        inner = getattr(estimator, "feature_names_in_", None)
        if inner is not None:  # of one that is frozen: the noisy copies have no names
            named = getattr(self, "feature_names_in_", inner)
            if not np.array_equal(named, inner):
                raise ValueError(
                    "X has columns of other names, or in another order, than the estimator was "
                    "fitted on."
                )
            self.feature_names_in_ = inner
        self.estimator_, self.classes_, self.seed_ = estimator, classes, seed
        if hasattr(estimator, "n_features_in_"):
            self.n_features_in_ = estimator.n_features_in_
        remember(self, limits, dtype)
        return self

    def predict(self, X) -> NDArray[Any]:
        """The most frequent class among `n` noisy copies, or ABSTAIN.

        Parameters
        ----------
        X : array-like (n_images, n_features), (n_images, H, W) or (n_images, H, W, C)

        Returns
        -------
        classes : ndarray (n_images,)
            An array of objects, such as "a", True and -1, if the classes are not numbers.

        Raises
        ------
        ValueError
            If the classifier predicts a label that is not among its classes.
        """
        return self._answer(*self._decisions(X))

    def score(self, X, y, sample_weight=None):
        """Accuracy of :meth:`predict`, for which abstaining is a mistake.

        Parameters
        ----------
        X : array-like (n_images, n_features), (n_images, H, W) or (n_images, H, W, C)
        y : array-like (n_images,) or (n_images, 1)
            A label that the classifier does not know counts as a mistake.
        sample_weight : array-like (n_images,), default=None

        Returns
        -------
        score : float

        Raises
        ------
        ValueError
            If y is not one label for each image, or has numbers where the classes are texts or the
            other way round.
        """
        check_is_fitted(self)
        X, truth = as_batch(X), column_or_1d(y)
        check_consistent_length(X, truth)
        if {_kind(truth), _kind(self.classes_)} == {"text", "number"}:
            raise ValueError(
                f"y has labels of another kind, {truth[0]!r}, than the classes {self.classes_}."
            )
        index, decided = self._decisions(X)
        right = decided & (index == label_indices(self.classes_, truth))
        return float(accuracy_score(np.ones(len(right)), right, sample_weight=sample_weight))

    def _decisions(self, X):
        """Index of the most frequent class of each image, and whether the counts show it."""
        counts = self._counts(X, self.n, stage=1)
        order = np.argsort(-counts, axis=1, kind="stable")
        ranked = np.take_along_axis(counts, order, axis=1)
        second = ranked[:, 1] if ranked.shape[1] > 1 else np.zeros(len(ranked), dtype=int)
        return order[:, 0], is_decided(ranked[:, 0], second, self.alpha)

    def certify(self, X) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Compute the class of each image and its smoothed radius.

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
            If the noise is too small for float32 to add it to X, or the classifier predicts a label
            that is not among its classes.
        """
        chosen = self._counts(X, self.n0, stage=0).argmax(1)
        counts = self._counts(X, self.n, stage=1)[np.arange(len(chosen)), chosen]
        p = lower_bound(counts, self.n, self.alpha)
        radii = certified_radius(p, self.sigma)
        return self._answer(chosen, p > 0.5), radii

    def _answer(self, index, decided):
        classes = np.asarray(self.classes_)
        if classes.dtype.kind == "u" and classes.max() <= np.iinfo(np.int64).max:
            classes = classes.astype(np.int64)
        elif classes.dtype.kind not in "if":
            classes = classes.astype(object)
        classes = classes[index]
        classes[~decided] = ABSTAIN
        return classes

    def _counts(self, X, n, stage):
        check_is_fitted(self)
        self._validate_params()  # what was set since the fit
        if hasattr(X, "columns"):
            _check_feature_names(self, X, reset=False)
        X = _checked(X)
        inside = self.estimator_, *(step for _, step in getattr(self.estimator_, "steps", ()))
        fitted = next((s.image_shape_ for s in inside if hasattr(s, "image_shape_")), None)
        check_layout(X.shape, owner=type(self).__name__, fitted=fitted, outright=True)
        judge(self, range_of(X), len(X), X)
        images = X.astype(np.float32)
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
        count = partial(counted, self.estimator_, *settings)
        label = ("choosing a class", "counting")[stage]
        found = over_parts(count, [(images[part], part.start) for part in parts], self.n_jobs)
        bar = tqdm(total=total * n, unit="copy", desc=label, disable=not self.verbose)
        with bar, closing(found):
            return np.concatenate([_ticked(counts, bar) for counts in found])


def _kind(labels):
    """Whether labels are texts or numbers, booleans included; None for others."""
    values = np.asarray(labels).tolist()
    if all(isinstance(value, str) for value in values):
        return "text"
    return "number" if all(isinstance(value, Real) for value in values) else None


def _ticked(counts, bar):
    bar.update(counts.sum())
    return counts


def _checked(X):
    return check_array(as_batch(X), dtype="numeric", allow_nd=True, estimator="SmoothedClassifier")


def _float_of(X):
    return X.dtype if X.dtype.kind == "f" else np.float64
