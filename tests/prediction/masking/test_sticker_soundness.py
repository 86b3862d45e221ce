"""No content of a sticker, and no moved patch, changes an answer at a certified place.

By brute force: all token contents of the patches that a sticker touches, at all places.
"""

import itertools

import numpy as np
import pytest
from masked_for_tests import CELL, SHAPE, TOKENS, contents, images, sizes_of, vocabulary
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import CategoricalNB
from sklearn.preprocessing import StandardScaler

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    StickerCertifiedClassifier,
)
from sklearn_patchcert.prediction.masking.masks import window_of

CLASSIFIERS = {
    "images": lambda: [("vocab", vocabulary()), ("clf", LogisticRegression(C=0.1))],
    "ids": lambda: [
        ("vocab", vocabulary(output="ids")),
        ("clf", CategoricalNB(min_categories=TOKENS)),
    ],
    "scaled": lambda: [
        ("scale", StandardScaler()), ("vocab", vocabulary()), ("clf", LogisticRegression(C=0.1)),
    ],
    "network": lambda: [
        ("vocab", vocabulary()),
        ("clf", PatchNetClassifier(max_epochs=3, module__width=4, module__hidden=8,
                                   random_state=0)),
    ],
}  # fmt: skip
ROWS = "images", "scaled"  # kinds whose steps of scikit-learn take rows
OPTIONS = [
    {"sticker_size": 1},
    {"sticker_size": (1, 2)},
    {"sticker_size": 2, "n_masks": 2},
    {"sticker_size": [1, (1, 3)]},
    {"sticker_size": 1, "n_masks": (2, 3), "mask": 0},
]


def fitted(kind, **options):
    X, y = images(90, 0)
    model = StickerCertifiedClassifier(CertifiedPatchClassifier(CLASSIFIERS[kind]()), **options)
    if kind in ROWS:
        model.set_params(estimator__vocab__image_shape=SHAPE)
    return model.fit(laid_out(kind, X), y)


def laid_out(kind, X):
    return X.reshape(len(X), -1) if kind in ROWS else X


def broken_places(model, X, found):
    """Whether some content of a sticker at a place changes the answer, by brute force on ids."""
    vocab = model.estimator_.named_steps["vocab"]
    Z = model.estimator_[:-2].transform(X) if len(model.estimator_) > 2 else X
    ids = vocab.tokenize(Z)
    broken = np.zeros(found.places.shape, dtype=bool)
    for size in {window_of(one, CELL, (3, 4)) for one in sizes_of(model)}:
        made = contents(size)
        for top, left in np.ndindex(3, 4):
            attacked = ids[:, None].repeat(len(made), 1)
            part = attacked[:, :, top : top + size[0], left : left + size[1]]
            part[:] = made[:, : part.shape[2], : part.shape[3]]
            answers = model.predict_tokens(attacked.reshape(-1, 3, 4)).reshape(len(X), -1)
            broken[:, top, left] |= (answers != found.prediction[:, None]).any(1)
    return broken


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["images", "ids"])
def test_no_content_of_a_sticker_changes_the_answer_at_a_certified_place(kind, options):
    model = fitted(kind, **options)
    X = laid_out(kind, images(12, 1)[0])
    found = model.certify(X)
    broken = broken_places(model, X, found)
    assert found.places.any()
    assert not (broken & found.places).any()
    np.testing.assert_array_equal(found.certified, found.places.all((1, 2)))


def test_at_places_that_are_not_certified_answers_do_change():
    count = 0
    for kind in ("images", "ids"):
        model = fitted(kind, sticker_size=2)
        X = laid_out(kind, images(12, 1)[0])
        found = model.certify(X)
        count += (broken_places(model, X, found) & ~found.places).sum()
    assert count > 10


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_every_other_patch_may_move_within_its_radius_at_the_same_time(kind):
    model, rng = fitted(kind, sticker_size=2, n_masks=2), np.random.default_rng(2)
    X = laid_out(kind, images(8, 1)[0])
    found = model.certify(X)
    assert found.places.any()
    rows, tops, lefts = np.nonzero(found.places)
    attacked = X[rows].reshape(-1, *SHAPE)
    for r, c in np.ndindex(3, 4):
        block = attacked[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
        step = rng.normal(size=block.shape)
        step /= np.sqrt(np.square(step).sum((1, 2), keepdims=True))
        block += step * found.radii[rows, r, c][:, None, None] * 0.999
    for image, top, left in zip(attacked, tops, lefts, strict=True):
        at = min(2 * top + rng.integers(2), SHAPE[0] - 1), 2 * left + rng.integers(2)
        part = image[at[0] : at[0] + 2, at[1] : at[1] + 2]
        part[:] = rng.choice([-9.0, -1, 0, 1, 2, 3, 9], size=part.shape)
    assert (np.abs(attacked - X[rows].reshape(attacked.shape)).reshape(len(rows), -1) > 0).all()
    answers = model.predict(attacked.reshape(-1, *X.shape[1:]))
    np.testing.assert_array_equal(answers, found.prediction[rows])


def test_two_stickers_at_once():
    options = {"sticker_size": 1, "n_masks": (3, 2)}
    model, X = fitted("ids", n_stickers=2, **options), images(8, 1)[0]
    found = model.certify(X)
    assert not (found.places & ~fitted("ids", **options).certify(X).places).any()
    ids, cells = model.estimator_[0].tokenize(X), list(np.ndindex(3, 4))
    made = contents((1, 2))[:, 0]
    broken = np.zeros(found.places.shape, dtype=bool)
    for first, second in itertools.combinations(cells, 2):
        attacked = ids[:, None].repeat(len(made), 1)
        for cell, tokens in zip((first, second), made.T, strict=True):
            attacked[:, :, cell[0], cell[1]] = tokens
        answers = model.predict_tokens(attacked.reshape(-1, 3, 4)).reshape(len(X), -1)
        changed = (answers != found.prediction[:, None]).any(1)
        for cell in (first, second):
            broken[:, cell[0], cell[1]] |= changed
    assert found.places.any()
    assert not (broken & found.places).any()
    assert (broken & ~found.places).any()


@pytest.mark.parametrize("size", [1, (1, 2), 3])
def test_pixels_are_sound_too(size):
    X, y = images(90, 0)
    net = PatchNetClassifier(max_epochs=3, module__width=4, module__hidden=8, random_state=0)
    model = StickerCertifiedClassifier(net, size, n_masks=3).fit(X, y)
    X, _ = images(6, 1)
    found, rng = model.certify(X), np.random.default_rng(0)
    assert found.radii is None
    assert found.places.shape == X.shape
    assert found.places.any()
    height, width = (size, size) if isinstance(size, int) else size
    attacked = X[:, None, None].repeat(5, 1).repeat(8, 2)
    for top, left in np.ndindex(SHAPE):
        part = attacked[:, top, left, top : top + height, left : left + width]
        part[:] = rng.choice([-9.0, 9], size=(len(X), 1, 1))
    answers = model.predict(attacked.reshape(-1, *SHAPE)).reshape(found.places.shape)
    different = answers != found.prediction[:, None, None]
    assert not (different & found.places).any()
    assert different.any() or found.places.all()


def test_smaller_stickers_are_certified_wherever_larger_ones_are_with_the_same_masks():
    X, _ = images(24, 1)
    small, large = (fitted("ids", sticker_size=size, n_masks=2) for size in (1, (2, 1)))
    np.testing.assert_array_equal(small.masks_, large.masks_)
    small, large = small.certify(X).places, large.certify(X).places
    assert not (large & ~small).any()
    assert (small & ~large).any()
