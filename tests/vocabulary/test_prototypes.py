"""Tokens with classes: farther from each other's than they start, and exactly certified."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import CategoricalNB
from sklearn.neighbors import KNeighborsClassifier

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary
from sklearn_patchcert.networks.fitting.flip_training import random_affine
from sklearn_patchcert.vocabulary.prototypes import class_tokens, wrong_walls

OPTIONS = {"patch_size": 8, "strategy": "supervised", "random_state": 0}


def whole(n_tokens=40, **options):
    vocabulary = PatchVocabulary(n_tokens, output="ids", **{**OPTIONS, **options})
    return CertifiedPatchClassifier(
        [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=n_tokens))]
    )


def test_walls_are_those_of_the_pair_that_decides():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(20, 5)), rng.integers(3, size=20)
    tokens, owners = rng.normal(size=(9, 5)), np.arange(9) % 3
    tensors = [*map(torch.tensor, (x, labels, tokens, owners))]
    found = wrong_walls(*tensors)
    for row in range(20):
        squares = np.square(x[row] - tokens).sum(1)
        walls = [
            max(
                (squares[b] - squares[a]) / (2 * np.linalg.norm(tokens[a] - tokens[b]))
                for a in np.flatnonzero(owners == labels[row])
            )
            for b in np.flatnonzero(owners != labels[row])
        ]
        assert found[row].item() == pytest.approx(min(walls))
    few = wrong_walls(*tensors, candidates=(3, 2))
    assert (few >= found - 1e-12).all()  # all three right ones, so no wall seems nearer
    one = wrong_walls(tensors[0], torch.zeros(20, dtype=torch.int64), tensors[2], 0 * tensors[3])
    assert (one == torch.inf).all()


def test_a_ball_of_that_size_holds_no_other_class():
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(30, 2)), rng.integers(2, size=30)
    tokens, owners = rng.normal(size=(12, 2)), np.arange(12) % 2
    walls = wrong_walls(*map(torch.tensor, (x, labels, tokens, owners))).numpy()
    steps = rng.normal(size=(30, 500, 2))
    steps *= 0.999 * np.maximum(walls, 0)[:, None, None] / np.linalg.norm(steps, axis=2)[..., None]
    moved = x[:, None] + steps
    nearest = np.square(moved[:, :, None] - tokens).sum(-1).argmin(-1)
    right = owners[nearest] == labels[:, None]
    assert right[walls > 0].all()


def test_classes_share_the_tokens():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(100, 3)), np.arange(100) % 3
    tokens, owners = class_tokens(x, labels, 10, generator=torch.Generator().manual_seed(0))
    assert np.bincount(owners).tolist() == [4, 3, 3]
    assert tokens.shape == (10, 3)
    with pytest.raises(ValueError, match="n_tokens=2"):
        class_tokens(x, labels, 2)


def test_training_enlarges_the_certified_radius(digits):
    X, y = digits[0][800:1000], digits[1][800:1000]

    def average(**options):
        model = whole(**options).fit(digits[0][:800], digits[1][:800])
        found = model.certify_prediction(X)
        return np.where(found.prediction == y, found.radius, 0).mean(), model.score(X, y)

    (before, first), (after, second) = average(learning_rate=1e-9), average(max_iter=20)
    assert after > 1.03 * before
    assert second > first - 0.02
    far, _ = average(target_radius=20.0, max_iter=20)
    near, _ = average(target_radius=0.5, max_iter=20)
    assert far > near


def test_augmented_images_are_those_that_are_learned(digits):
    X, y = digits[0][:300], digits[1][:300]
    seen = []

    def turned(images):
        assert images.shape[1:] == (1, 8, 8)
        seen.append(images)
        return images.flip(-1)

    one = PatchVocabulary(20, **OPTIONS, augment=turned, target_radius=9.0, max_iter=3).fit(X, y)
    assert torch.cat(seen).shape[0] == 3 * 300
    np.testing.assert_allclose(torch.cat(seen[:2]).sum(), X.sum(), rtol=1e-5)  # in units of X
    plain = PatchVocabulary(20, **OPTIONS, target_radius=9.0, max_iter=3).fit(X, y)
    assert np.abs(one.vocabulary_ - plain.vocabulary_).max() > 0.1
    shifted = partial(random_affine, translate=1.0)
    first, again = (
        PatchVocabulary(20, **OPTIONS, augment=shifted, max_iter=2).fit(X, y) for _ in range(2)
    )
    np.testing.assert_array_equal(first.vocabulary_, again.vocabulary_)


def test_whole_images_have_exact_certificates(digits):
    model = whole().fit(digits[0][:800], digits[1][:800])
    X = digits[0][800:830]
    found = model.certify_prediction(X, cells=True)
    assert found.exact.all()
    norms = np.linalg.norm(found.adversarial - X, axis=1)
    assert (norms >= found.radius).all()
    assert np.median(norms / found.radius) < 1.001  # nothing is lost
    walls = model.certify_prediction(X)
    assert (found.radius >= walls.radius * (1 - 1e-5)).all()


def test_any_labels_any_classifier_and_the_same_again(digits):
    names = np.array([f"digit {label}" for label in digits[1]])
    model = CertifiedPatchClassifier(
        [("vocab", PatchVocabulary(30, **OPTIONS)), ("clf", KNeighborsClassifier(1))]
    )
    first = model.fit(digits[0][:500], names[:500]).predict(digits[0][500:600])
    again = model.fit(digits[0][:500], names[:500]).predict(digits[0][500:600])
    np.testing.assert_array_equal(first, again)
    assert (first == names[500:600]).mean() > 0.8
    small = PatchVocabulary(20, 4, strategy="supervised", random_state=0)  # patches, too
    assert small.fit(digits[0][:300], names[:300]).vocabulary_.shape[1] == 16


def test_scaling_scales(digits):
    X, y = digits[0][:300], digits[1][:300]
    one = PatchVocabulary(20, **OPTIONS, target_radius=8.0).fit(X, y)
    two = PatchVocabulary(20, **OPTIONS, target_radius=16.0).fit(2 * X, y)
    np.testing.assert_allclose(two.vocabulary_, 2 * one.vocabulary_, rtol=1e-6, atol=1e-6)


def test_errors(digits):
    X, y = digits[0][:100], digits[1][:100]
    vocabulary = PatchVocabulary(20, **OPTIONS)
    with pytest.raises(ValueError, match="requires y"):
        vocabulary.fit(X)
    with pytest.raises(ValueError, match="inconsistent"):
        vocabulary.fit(X, y[:50])
    with pytest.raises(ValueError, match="Unknown label type"):
        vocabulary.fit(X, y + 0.5)
    with pytest.raises(ValueError, match="less than one for each"):
        PatchVocabulary(5, **OPTIONS).fit(X, y)
    with pytest.raises(ValueError, match="partial_fit"):
        vocabulary.partial_fit(X, y)
    assert not hasattr(vocabulary, "vocabulary_")
