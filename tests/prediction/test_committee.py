"""Votes with certificates: no perturbation that members survive can change them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import CategoricalNB

from sklearn_patchcert import CertifiedCommittee, CertifiedPatchClassifier, PatchVocabulary
from sklearn_patchcert.prediction.voting import committee_radius, plurality
from sklearn_patchcert.scorers.functions import certified_accuracy


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 3))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_radius_is_where_the_votes_that_are_loose_could_win(seed, members, n_classes):
    rng = np.random.default_rng(seed)
    votes = rng.integers(n_classes, size=(members, 1))
    radii = rng.integers(0, 4, size=(members, 1)).astype(float)
    winners, radius = committee_radius(votes, radii, n_classes)
    assert winners == np.bincount(votes[:, 0], minlength=n_classes).argmax()

    def stands(eps):
        """Whether every perturbation of a norm just below eps leaves the winner."""
        free = [
            [v] if r >= eps else range(n_classes)
            for v, r in zip(votes[:, 0], radii[:, 0], strict=True)
        ]
        return all(
            plurality(np.array(new)[:, None], n_classes) == winners
            for new in itertools.product(*free)
        )  # fmt: skip

    assert stands(radius[0])
    larger = [r for r in radii[:, 0] if r > radius[0]]
    assert not any(map(stands, larger))
    assert radius[0] >= radii.min()


def member(shape, n_tokens=8):
    vocabulary = PatchVocabulary(n_tokens, shape, strategy="kmeans", output="ids", random_state=0)
    return CertifiedPatchClassifier(
        [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=n_tokens))]
    )


@pytest.fixture(scope="module")
def committee(digits):
    members = [(str(shape), member(shape)) for shape in [(4, 4), (8, 2), (2, 8), (3, 3)]]
    labels = np.array(list("zyxwvutsrq"))[digits[1]]  # neither numbers nor in their order
    return CertifiedCommittee(members).fit(digits[0][:800], labels[:800]), labels


def test_the_certificate_of_a_vote(committee, digits):
    model, labels = committee
    X, y = digits[0][800:850], labels[800:850]
    found = model.certify_prediction(X)
    np.testing.assert_array_equal(found.prediction, model.predict(X))
    assert model.score(X, y) > 0.7
    alone = np.stack([m.certify_prediction(X).radius for m in model.estimators_])
    assert (found.radius >= alone.min(0)).all()
    assert (found.radius <= np.sort(alone, axis=0)[-2] * (1 + 1e-12)).all()
    assert (found.upper >= found.radius).all()
    there = np.isfinite(found.upper)
    assert there.any()
    assert (model.predict(found.adversarial[there]) != found.prediction[there]).all()
    rng = np.random.default_rng(0)
    for _ in range(20):
        step = rng.normal(size=X.shape)
        step *= (np.minimum(found.radius, 100) / np.linalg.norm(step, axis=1))[:, None]
        np.testing.assert_array_equal(model.predict(X + step), found.prediction)
    for other in digits[0][900:920]:  # the last image with the same class on the way to another
        low, high = np.zeros(50), np.ones(50)
        for _ in range(20):
            middle = (low + high) / 2
            same = model.predict(X + middle[:, None] * (other - X)) == found.prediction
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        changed = model.predict(X + high[:, None] * (other - X)) != found.prediction
        norms = high * np.linalg.norm(other - X, axis=1)
        assert (norms >= found.radius)[changed].all()


def test_it_is_an_ordinary_ensemble(committee, digits):
    model, labels = committee
    other = clone(model).set_params(**{"(4, 4)__vocab__n_tokens": 6})
    assert other.get_params()["(4, 4)"].named_steps["vocab"].n_tokens == 6
    assert cross_val_score(other, digits[0][:300], labels[:300], cv=2).min() > 0.5
    score = certified_accuracy(model, digits[0][800:820], labels[800:820], radius=1.0)
    assert 0 < score < 1


def test_bad_members(digits):
    X, y = digits[0][:200], digits[1][:200]
    plain = CertifiedCommittee([("a", LogisticRegression(max_iter=5000))]).fit(X, y)
    with pytest.raises(TypeError, match="certify_prediction"):
        plain.certify_prediction(X)
    whole = CertifiedCommittee([("a", member(4))]).fit(X, y)
    with pytest.raises(TypeError, match="previous"):
        whole.certify_prediction(X, previous=None)


def test_a_member_that_is_dropped(digits):
    X, y = digits[0][:200], digits[1][:200]
    model = CertifiedCommittee([("a", member(4)), ("b", "drop")]).fit(X, y)
    found = model.certify_prediction(X[:5])
    np.testing.assert_array_equal(
        found.radius, model.estimators_[0].certify_prediction(X[:5]).radius
    )


@pytest.mark.parametrize("norm", ["l2", "linf", "l0", "sticker"])
def test_a_vote_that_cannot_change_has_no_image_of_another_class(digits, norm):
    X, y = digits[0][:100], digits[1][:100] % 2
    members = [
        (str(n), CertifiedPatchClassifier([("vocab", vocabulary), ("clf", DummyClassifier())]))
        for n in (3, 4)
        for vocabulary in [PatchVocabulary(n, 4, strategy="kmeans", random_state=0)]
    ]
    found = CertifiedCommittee(members).fit(X, y).certify_prediction(X[:4], norm=norm)
    assert np.isinf(found.radius).all()
    assert np.isinf(found.upper).all()
    assert not found.exact.any()
