"""No content of a sticker, and no moved patch, takes the value of a regressor out of its interval.

By brute force: all token contents of the patches that a sticker touches, at all places.
"""

import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_for_tests import CELL, SHAPE, contents, images, sizes_of, tokens, vocabulary
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline

from sklearn_patchcert import (
    CertifiedPatchRegressor,
    PatchNetRegressor,
    StickerCertifiedClassifier,
    StickerCertifiedRegressor,
    certify,
)
from sklearn_patchcert.attacks import run_sticker_attack
from sklearn_patchcert.displays import StickerDisplay
from sklearn_patchcert.prediction.masking.intervals import lower_bounds, middle, spans
from sklearn_patchcert.prediction.masking.masks import mask_plan, places_of, window_of
from sklearn_patchcert.scorers import sticker_accuracy

PLANS = [
    mask_plan((1, 4), [(1, 1)]),
    mask_plan((3, 3), [(2, 2)]),
    mask_plan((2, 4), [(1, 2), (2, 1)]),
    mask_plan((1, 4), [(1, 1)], None, 2),
]
REGRESSORS = {
    "images": lambda: [("vocab", vocabulary(image_shape=SHAPE)), ("reg", Ridge())],
    "ids": lambda: [
        ("vocab", vocabulary(output="ids")), ("reg", KNeighborsRegressor(2)),
    ],
    "network": lambda: [
        ("vocab", vocabulary()),
        ("reg", PatchNetRegressor(max_epochs=3, module__width=4, module__hidden=8,
                                  random_state=0)),
    ],
}  # fmt: skip
CASES = [
    ("images", {"sticker_size": 2, "n_masks": 2}),
    ("images", {"sticker_size": [1, (1, 3)], "mask": 0}),
    ("ids", {"sticker_size": (1, 2)}),
]


def laid_out(kind, X):
    return X.reshape(len(X), -1) if kind == "images" else X


def fitted(kind, **options):
    X, y = images(90, 0)
    model = StickerCertifiedRegressor(CertifiedPatchRegressor(REGRESSORS[kind]()), **options)
    return model.fit(laid_out(kind, X), y + X.mean((1, 2)))


@given(st.sampled_from(PLANS), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_what_a_mask_does_not_hide_cannot_take_the_value_out_of_its_span(plan, seed):
    rng = np.random.default_rng(seed)
    clean, mask = rng.normal(size=len(plan.unions)), rng.integers(len(plan.masks))
    low, high = (ends[mask] for ends in spans(clean, plan.pairs))
    for wild in ([-1, 0, 1], [-np.inf, np.inf], [clean.min() - 1], [clean.max() + 1]):
        other = np.where(plan.holds[:, mask], clean, rng.choice(wild, size=len(clean)))
        assert low <= middle(other, plan.pairs) <= high


@pytest.mark.parametrize("plan", PLANS[:2])
def test_no_smaller_interval_holds_and_a_plain_median_leaves_it(plan):
    values = np.random.default_rng(0).normal(size=len(plan.unions))
    left = 0
    for mask in range(len(plan.masks)):
        for other in set(range(len(plan.masks))) - {mask}:
            attacked, aim = values.copy(), values[plan.pairs[mask, other]]
            free = plan.holds[:, other] & ~plan.holds[:, mask]
            attacked[free] = aim
            assert middle(attacked, plan.pairs) == aim
        attacked[~plan.holds[:, mask]] = 9
        left += np.median(attacked[np.diagonal(plan.pairs)]) > values.max()
    assert left


def values_at(model, X, places):
    """Lowest and highest value over all contents of stickers at all places, by brute force."""
    ids = model.estimator_[0].tokenize(X)
    low, high = np.full(places.shape, np.inf), np.full(places.shape, -np.inf)
    for size in {window_of(one, CELL, (3, 4)) for one in sizes_of(model)}:
        made = contents(size)
        for top, left in np.ndindex(3, 4):
            attacked = ids[:, None].repeat(len(made), 1)
            part = attacked[:, :, top : top + size[0], left : left + size[1]]
            part[:] = made[:, : part.shape[2], : part.shape[3]]
            answers = model.predict_tokens(attacked.reshape(-1, 3, 4)).reshape(len(X), -1)
            low[:, top, left] = np.minimum(low[:, top, left], answers.min(1))
            high[:, top, left] = np.maximum(high[:, top, left], answers.max(1))
    return low, high


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_no_content_of_a_sticker_takes_the_value_out_of_the_interval(kind, options):
    model, X = fitted(kind, **options), laid_out(kind, images(9, 1)[0][7:])
    found = model.certify(X)
    low, high = values_at(model, X, found.places_lower)
    assert (found.places_lower <= low).all()
    assert (high <= found.places_upper).all()
    np.testing.assert_array_equal(found.lower, found.places_lower.min((1, 2)))
    np.testing.assert_array_equal(found.upper, found.places_upper.max((1, 2)))
    forgetful = pickle.loads(pickle.dumps(model))
    for one in (model, forgetful):
        np.testing.assert_array_equal(one.predict(X), found.prediction)
    assert (low < high).any()
    reached = high.max((1, 2)) - low.min((1, 2))
    assert (reached > 0.2 * (found.upper - found.lower)).any()  # so that the law can fail


@pytest.mark.parametrize("kind", REGRESSORS)
def test_every_other_patch_may_move_within_its_radius_at_the_same_time(kind):
    model, rng = fitted(kind, sticker_size=2, n_masks=2), np.random.default_rng(2)
    X = laid_out(kind, images(4, 1)[0])
    found = model.certify(X)
    np.testing.assert_array_equal(certify(model, X), found.radii)
    rows, tops, lefts = (at.ravel() for at in np.indices(found.places_lower.shape))
    attacked = X[rows].reshape(-1, *SHAPE)
    for r, c in np.ndindex(3, 4):
        block = attacked[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
        step = rng.normal(size=block.shape)
        step /= np.sqrt(np.square(step).sum((1, 2), keepdims=True))
        block += step * found.radii[rows, r, c][:, None, None] * 0.999
    for image, top, left in zip(attacked, tops, lefts, strict=True):
        image[2 * top : 2 * top + 2, 2 * left : 2 * left + 2] = rng.choice([-9.0, 0, 1, 9])
    answers = model.predict(attacked.reshape(-1, *X.shape[1:]))
    assert (found.places_lower[rows, tops, lefts] <= answers).all()
    assert (answers <= found.places_upper[rows, tops, lefts]).all()
    assert (answers != found.prediction[rows]).any()


def test_two_stickers_at_once():
    model = fitted("ids", n_stickers=2, sticker_size=1, n_masks=2)
    X = images(9, 1)[0][8:]
    found, changed = model.certify(X), 0
    ids, made = model.estimator_[0].tokenize(X), contents((1, 2))[:, 0]
    for first, second in itertools.combinations(list(np.ndindex(3, 4)), 2):
        attacked = ids[:, None].repeat(len(made), 1)
        for cell, some in zip((first, second), made.T, strict=True):
            attacked[:, :, cell[0], cell[1]] = some
        answers = model.predict_tokens(attacked.reshape(-1, 3, 4)).reshape(len(X), -1)
        changed += (answers != found.prediction[:, None]).sum()
        for cell in (first, second):
            assert (found.places_lower[:, cell[0], cell[1]] <= answers.min(1)).all()
            assert (answers.max(1) <= found.places_upper[:, cell[0], cell[1]]).all()
    assert changed


def test_a_place_has_the_best_bound_of_the_masks_that_hide_both_stickers():
    plan = mask_plan((1, 4), [(1, 2)], None, 2)
    low = np.random.default_rng(0).normal(size=(2, len(plan.masks)))
    base = plan.base[:, 0]
    hiding = [np.flatnonzero(base[:, at : at + 2].all(1)) for at in range(4)]
    for at, found in enumerate(lower_bounds(plan, low)[:, 0].T):
        every = [low[:, plan.joined[np.ix_(hiding[at], other)].ravel()].max(1) for other in hiding]
        np.testing.assert_array_equal(found, np.min(every, axis=0))


def test_two_stickers_on_many_places_take_no_memory_for_pairs_of_places():
    plan = mask_plan((64, 64), [(5, 5)], 3, 2)
    low = np.random.default_rng(0).normal(size=(1, len(plan.masks)))
    for bounds in (lambda: lower_bounds(plan, low), lambda: places_of(plan, low > 0)):
        tracemalloc.start()
        assert bounds().shape == (1, 64, 64)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64**4  # bytes


class Fragile(RegressorMixin, BaseEstimator):
    """Says how bright an image is, and something wild where it is very bright."""

    def __init__(self, wild=np.nan):
        self.wild = wild

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        return np.where(X.max(1) > 5, self.wild, X.mean(1))


@pytest.mark.parametrize("wild", [np.nan, np.finfo(float).max, np.finfo(float).min])
def test_pixels_are_sound_too_and_so_are_values_that_are_none(wild):
    X, y = images(20, 0)
    X = X.reshape(len(X), -1)
    model = StickerCertifiedRegressor(Fragile(wild), 2, n_masks=2, image_shape=SHAPE).fit(X, y)
    found = model.certify(X[:4])
    assert found.radii is None
    assert np.isfinite([found.lower, found.upper]).all()
    for top, left in np.ndindex(SHAPE):
        for value in (-9.0, 3, 9):
            attacked = X[:4].copy()
            attacked.reshape(-1, *SHAPE)[:, top : top + 2, left : left + 2] = value
            answers = model.predict(attacked)
            assert (found.places_lower[:, top, left] <= answers).all()
            assert (answers <= found.places_upper[:, top, left]).all()
    broken = X[:4].copy()
    broken[:, [0, 39]] = 9  # no mask hides both
    bare = model.certify(broken)
    assert (bare.upper == np.inf).all() or (bare.lower == -np.inf).all()


@pytest.mark.parametrize("kind", ["images", "network"])
def test_neither_jobs_nor_memory_change_anything(kind):
    model = fitted(kind, sticker_size=2, n_masks=2)
    X = laid_out(kind, images(12, 1)[0])
    found = model.certify(X)
    other = pickle.loads(pickle.dumps(model)).set_params(n_jobs=2, batch_size=7)
    for one in (other.certify(X), model.certify(X)):
        assert (np.abs(one.prediction - found.prediction) <= 1e-5).all()
        assert (one.lower <= found.prediction).all()
        assert (found.prediction <= one.upper).all()
    np.testing.assert_array_equal(model.certify(X[3:5]).lower, found.lower[3:5])
    with pytest.raises(ValueError, match="Fit the model again"):
        model.set_params(n_stickers=2).certify(X)


def test_other_tasks_are_refused():
    X, y = images(20, 0)
    X = X.reshape(len(X), -1)
    with pytest.raises(TypeError, match=r"is a classifier.*StickerCertifiedClassifier"):
        StickerCertifiedRegressor(LogisticRegression(), 2).fit(X, y)
    with pytest.raises(TypeError, match=r"is a regressor.*StickerCertifiedRegressor"):
        StickerCertifiedClassifier(FrozenEstimator(Ridge().fit(X, y)), 2).fit(X, y)
    with pytest.raises(TypeError, match=r"is a classifier"):
        StickerCertifiedRegressor(tokens(), 2).fit(X, y)
    with pytest.raises(ValueError, match="several values for each image"):
        StickerCertifiedRegressor(Ridge(), 2).fit(X, np.stack([y, y], 1))
    both = Ridge().fit(X, np.stack([y, y], 1))
    for made in (both, make_pipeline(vocabulary(image_shape=SHAPE), both).fit(X, both.predict(X))):
        with pytest.raises(ValueError, match="one number for each"):
            StickerCertifiedRegressor(FrozenEstimator(made), 2, image_shape=SHAPE).fit(X, y)


class Years(RegressorMixin, BaseEstimator):
    """Brightness plus a large value, and a bit of something else."""

    def __init__(self, more="nothing"):
        self.more = more

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        noise = {"nothing": 0.0, "chance": np.random.random(len(X)), "the other": X.mean()}
        return 2000 + X.mean(1) + 0.05 * noise[self.more]


@pytest.mark.parametrize("more", ["chance", "the other"])
def test_a_bit_of_chance_or_of_other_images_is_refused_beside_large_values(more):
    X, y = images(20, 0)
    X = X.reshape(len(X), -1)
    model = StickerCertifiedRegressor(Years(), 2, n_masks=2, image_shape=SHAPE).fit(X, y)
    assert (model.certify(X[:2]).lower > 2000).all()
    with pytest.raises(ValueError, match=f"depends on {more}"):
        model.set_params(estimator__more=more).fit(X, y).certify(X[:2])


def test_tools_for_classes_refuse_a_regressor():
    model, X = fitted("images", sticker_size=2, n_masks=2), laid_out("images", images(3, 1)[0])
    for tool in (sticker_accuracy, run_sticker_attack, StickerDisplay.from_estimator):
        with pytest.raises(TypeError, match=r"StickerCertifiedRegressor has no .*class"):
            tool(model, X, np.arange(3))
