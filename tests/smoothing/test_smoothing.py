"""Randomized smoothing: the formula, the coverage, and what noise depends on."""

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary, SmoothedClassifier
from sklearn_patchcert.scorers.functions import smoothing_accuracy, smoothing_radius
from sklearn_patchcert.smoothing.bounds import ABSTAIN, certified_radius, is_decided, lower_bound


class Halfspace(ClassifierMixin, BaseEstimator):
    """Class 1 where the first value is positive: its smoothed form is known."""

    def fit(self, X, y):
        self.classes_, self.n_features_in_ = np.array([0, 1]), X.shape[1]
        return self

    def predict(self, X):
        return (X[:, 0] > 0).astype(int)


def smoothed(estimator=None, **options):
    options = {"sigma": 0.5, "n": 500, "random_state": 0, **options}
    X, y = np.zeros((4, 3)), np.array([0, 1, 0, 1])
    return SmoothedClassifier(estimator or Halfspace(), **options).fit(X, y)


def test_lower_bound_is_that_of_scipys_exact_interval():
    for n, k in [(10, 3), (100, 99), (1000, 1000), (5, 0)]:
        test = stats.binomtest(k, n, alternative="greater")
        wanted = test.proportion_ci(confidence_level=0.999, method="exact").low
        np.testing.assert_allclose(lower_bound(k, n, 0.001), wanted)


@pytest.mark.parametrize("p", [0.5, 0.7, 0.99])
def test_the_bound_covers(p):
    alpha, n = 0.05, 200
    counts = np.random.default_rng(0).binomial(n, p, size=20_000)
    wrong = (lower_bound(counts, n, alpha) > p).mean()
    assert wrong <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / 20_000)


def test_radius_is_cohens_formula():
    p = np.array([0.4, 0.5, 0.9, 1 - 1e-9])
    wanted = [0, 0, 2 * stats.norm.ppf(0.9), 2 * stats.norm.ppf(1 - 1e-9)]
    np.testing.assert_allclose(certified_radius(p, 2.0), wanted)


def test_a_halfspace_has_its_distance_as_radius():
    """P(x + noise on its side) = Phi(x / sigma), so the true radius is the distance x itself."""
    X = np.linspace(0.1, 1.0, 10)[:, None] * np.array([1.0, 0.0, 0.0])
    classes, radii = smoothed(n=20_000).certify(X)
    np.testing.assert_array_equal(classes, 1)
    assert (radii <= X[:, 0]).all()
    np.testing.assert_allclose(radii, X[:, 0], atol=0.05)


def test_abstains_where_it_cannot_tell():
    model = smoothed()
    X = np.array([[0.0, 0, 0], [5.0, 0, 0], [-5.0, 0, 0]])
    np.testing.assert_array_equal(model.predict(X), [ABSTAIN, 1, 0])
    classes, radii = model.certify(X)
    np.testing.assert_array_equal(classes, [ABSTAIN, 1, 0])
    assert radii[0] == 0
    assert (radii[1:] > 0).all()
    assert is_decided([60], [40], 0.05) == [False]
    assert is_decided([61], [39], 0.05) == [True]


def test_noise_depends_on_the_index_alone():
    X = np.random.default_rng(0).normal(scale=0.3, size=(37, 3))
    wanted = smoothed().certify(X)
    for options in ({"batch_size": 7}, {"n_jobs": 2}, {"batch_size": 10**6, "n_jobs": 3}):
        found = smoothed(**options).certify(X)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
    first = smoothed().certify(X[:20])
    np.testing.assert_array_equal(first[1], wanted[1][:20])
    assert not np.array_equal(smoothed(random_state=1).certify(X)[1], wanted[1])


def test_over_discrete_pipelines_and_labels_of_any_kind(digits):
    X, y = digits[0][:300], np.array(list("abcdefghij"))[digits[1][:300]]
    vocabulary = PatchVocabulary(8, 2, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", RidgeClassifier())]).fit(X, y)
    frozen = SmoothedClassifier(FrozenEstimator(model), sigma=1.0, n=200, random_state=0).fit(X, y)
    assert frozen.estimator_.estimator is model
    answers = frozen.predict(X[:50])
    assert answers.dtype == object
    assert (answers == y[:50]).mean() > 0.8
    accuracy = smoothing_accuracy(model, X, y, sigma=1.0, n=200, n_samples=50)
    radius = smoothing_radius(model, X, y, sigma=1.0, n=200, n_samples=50)
    assert 0.8 < accuracy <= 1
    assert 0.2 < radius < 1.0 * stats.norm.ppf(0.001 ** (1 / 200)) + 1e-9


def test_augmentation_adds_noise_to_what_is_fitted(digits):
    X, y = digits[0][:200], digits[1][:200]
    plain, noisy = (
        SmoothedClassifier(RidgeClassifier(), 4.0, augment=a, random_state=0).fit(X, y)
        for a in (False, True)
    )
    assert not np.allclose(plain.estimator_.coef_, noisy.estimator_.coef_)


def test_bad_input():
    with pytest.raises(ValueError, match="-1"):
        SmoothedClassifier(RidgeClassifier()).fit(np.eye(2), [-1, 1])
    with pytest.raises(ValueError, match="NaN"):
        smoothed().predict(np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="sigma"):
        smoothed(sigma=0.0)
    far = np.full((2, 3), 1e8)  # where float32 counts by eights
    with pytest.raises(ValueError, match="is lost"):
        smoothed().certify(far)


EXPECTED = {
    "check_classifiers_classes": "-1 is a class there, and the answer that abstains here",
}


@parametrize_with_checks(
    [SmoothedClassifier(RidgeClassifier(), n=50, n0=10, random_state=0)],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)
