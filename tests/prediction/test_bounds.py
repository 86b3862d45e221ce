"""Radii against attackers whose pixels stay within bounds: sound, tight, never smaller."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.naive_bayes import CategoricalNB

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary
from sklearn_patchcert.checks import wide_bounds
from sklearn_patchcert.prediction.token_costs import TokenCosts
from sklearn_patchcert.voronoi import certificate, steps_into_cells


def prototypes(X, y, n_tokens=10, shape=None):
    """Nearest prototypes: one patch, as large as the image."""
    vocabulary = PatchVocabulary(
        n_tokens, 100, strategy="kmeans", output="ids", image_shape=shape, random_state=0
    )
    last = CategoricalNB(min_categories=n_tokens)
    return CertifiedPatchClassifier([("vocab", vocabulary), ("clf", last)]).fit(X, y)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 8), st.sampled_from([1, 3, 60]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_no_step_between_the_limits_is_shorter_than_the_bound(seed, dim, n_tokens, sweeps):
    rng = np.random.default_rng(seed)
    tokens = rng.uniform(-0.3, 1.3, size=(n_tokens, dim))
    x = rng.choice([0.0, 1.0, rng.random()], size=(n_tokens, dim))
    targets = np.arange(n_tokens)
    limits = (-x, 1 - x)
    _, lower = steps_into_cells(x, tokens, targets, limits=limits, sweeps=sweeps, sound=True)
    _, free = steps_into_cells(x, tokens, targets, sweeps=3000)
    if sweeps == 60:
        assert (lower >= free * (1 - 1e-3) - 1e-6).all()  # it is not less than without limits
    places = rng.random((20_000, dim)) ** rng.choice([0.2, 1.0, 3.0], size=(20_000, 1))
    places[:9_000] = places[:9_000].round(1)  # with many values at the bounds
    own = certificate.tokenize(places[:, None], tokens)[:, 0]
    for target in targets:
        inside = places[own == target]
        if len(inside):
            assert np.linalg.norm(inside - x[target], axis=1).min() >= lower[target]


def test_steps_between_limits_are_shortest():
    """Each step is in the box and in the cell, and as long as its lower bound."""
    rng = np.random.default_rng(0)
    for dim in (1, 2, 6, 30):
        tokens = rng.random((12, dim))
        x = np.where(rng.random((12, dim)) < 0.5, rng.integers(0, 2, (12, dim)), rng.random(dim))
        weights = rng.integers(0, 2, size=(12, dim)) if dim > 6 else np.ones((12, dim))
        options = {"weights": weights, "limits": (-x, 1 - x), "sweeps": 20_000}
        steps, lower = steps_into_cells(x, tokens, np.arange(12), **options)
        if dim <= 6:  # all tokens are in the box, so that all cells are in reach
            assert (x + steps >= -1e-12).all()
            assert (x + steps <= 1 + 1e-12).all()
            squares = ((x + steps)[:, None] - tokens) ** 2
            gaps = squares.sum(-1)[np.arange(12), np.arange(12)] - squares.sum(-1).min(1)
            assert gaps.max() < 1e-6
        np.testing.assert_allclose(lower, np.linalg.norm(steps, axis=1), atol=1e-5)


def test_limits_that_are_far_away_change_nothing():
    rng = np.random.default_rng(0)
    x, tokens, targets = rng.random((9, 4)), rng.random((7, 4)), rng.integers(7, size=9)
    free = steps_into_cells(x, tokens, targets)
    limited = steps_into_cells(x, tokens, targets, limits=(-9.0, np.inf))
    for one, other in zip(free, limited, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("limits", [(0.5, -0.5), (np.nan, 1.0)])
def test_limits_in_the_wrong_order_are_refused(limits):
    with pytest.raises(ValueError, match="limits"):
        steps_into_cells(np.zeros((1, 2)), np.eye(2), np.array([0]), limits=limits)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
def test_limits_are_never_too_narrow(dtype):
    """Differences are taken in float64, whatever the images are, and rounded outwards."""
    top = 255 if dtype == np.uint8 else 1
    X = (top * np.random.default_rng(0).random((200, 6, 6))).astype(dtype)
    vocabulary = PatchVocabulary(5, 4, strategy="kmeans", random_state=0).fit(X)
    costs, wide = (
        TokenCosts(vocabulary._check(Z), vocabulary, {}, "l2", (0.1, 0.9 * top))
        for Z in (X, X.astype(np.float64))
    )
    patches = costs.patches.reshape(-1, 16)
    for found, bound, side in zip(costs._limits(patches), costs.bounds, (-1, 1), strict=True):
        assert found.dtype == np.float64
        for limit, value in zip(found.ravel().tolist(), patches.ravel().tolist(), strict=True):
            exact = side * (Fraction(bound) - Fraction(value))
            assert side * Fraction(limit) >= max(0, exact)
    for row in range(10):
        ids = (costs.own[row] + 1) % 5
        np.testing.assert_allclose(costs.cell(row, ids), wide.cell(row, ids), rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_radius_is_the_distance_to_the_nearest_image_of_another_class(seed):
    rng = np.random.default_rng(seed)
    X = rng.random((60, 2)).round(1)
    model = prototypes(X, rng.integers(3, size=60), shape=(1, 2))
    line = np.linspace(0, 1, 301)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    answers = model.predict(grid)
    found = model.certify_prediction(X, cells=True, bounds=(0, 1))
    free = model.certify_prediction(X, cells=True)
    assert (found.radius >= free.radius).all()
    for x, label, radius in zip(X, found.prediction, found.radius, strict=True):
        nearest = np.linalg.norm(grid[answers != label] - x, axis=1).min()
        assert radius <= nearest
        assert nearest < radius + 0.01  # nodes are .0033 apart; cells may be thin
    made = found.adversarial
    assert np.isfinite(made).all()
    assert (made >= 0).all()
    assert (made <= 1).all()
    assert (model.predict(made) != found.prediction).all()


@pytest.mark.parametrize("per_channel", [False, True])
def test_images_of_several_patches(digits, per_channel):
    X, y = digits
    X = np.stack([X.reshape(-1, 8, 8), X.reshape(-1, 8, 8)[:, ::-1]], -1) if per_channel else X
    vocabulary = PatchVocabulary(
        6, 5, strategy="kmeans", output="ids", per_channel=per_channel, random_state=0
    )
    steps = [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=6))]
    model = CertifiedPatchClassifier(steps).fit(X[:300], y[:300])
    bounds, some = (0, X.max()), X[300:330]
    found = model.certify_prediction(some, cells=True, bounds=bounds)
    free = model.certify_prediction(some, cells=True)
    assert (found.radius >= free.radius).all()
    assert (found.radius > 1.001 * free.radius).any()
    made = found.adversarial
    seen = np.isfinite(made).all(tuple(range(1, made.ndim)))
    assert seen.any()
    assert made[seen].min() >= bounds[0]
    assert made[seen].max() <= bounds[1]
    norms = np.linalg.norm((made - some)[seen].reshape(seen.sum(), -1), axis=1)
    assert (norms >= found.radius[seen]).all()
    assert np.median(norms / found.radius[seen]) < 1.01
    assert (model.predict(made[seen]) != found.prediction[seen]).all()


@pytest.mark.parametrize("form", ["float32", "uint8", "frame"])
def test_every_form_of_input_has_the_same_bounds(digits, form):
    X, y = digits[0][:120].round(), digits[1][:120]
    model = prototypes(X, y)
    given = pd.DataFrame(X) if form == "frame" else X.astype(form)
    if form == "frame":
        model = prototypes(given, y)
    wanted = prototypes(X, y).certify_prediction(X[:20], cells=True, bounds=(0, 16))
    found = model.certify_prediction(given[:20], cells=True, bounds=(0, 16))
    np.testing.assert_allclose(found.radius, wanted.radius, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
def test_bounds_hold_what_the_dtype_rounds_them_to(dtype):
    """A pixel of 0.1 in float32 is larger than 0.1, and an attacker may have it."""
    X = np.ones((1, 2), dtype=dtype)
    for low, high in np.random.default_rng(0).uniform((0, 1), (1, 2), size=(50, 2)).tolist():
        found = wide_bounds((low, high), X)
        inner = [float(np.float64(bound).astype(dtype)) for bound in (low, high)]
        inner = (low, high) if dtype == np.uint8 else inner  # which has none of these values
        assert found[0] <= min(low, inner[0])
        assert found[1] >= max(high, inner[1])
        np.testing.assert_allclose(found, (low, high), rtol=1e-3, atol=1e-3)


def test_bounds_that_cannot_be_kept_are_refused(digits):
    X, y = digits[0][:60], digits[1][:60]
    model = prototypes(X, y)
    for bounds, error in (((0, 1), ValueError), ((16, 0), ValueError), (3, TypeError)):
        with pytest.raises(error, match="bounds"):
            model.certify_prediction(X[:5], cells=True, bounds=bounds)
    with pytest.raises(ValueError, match="cells=True"):
        model.certify_prediction(X[:5], bounds=(0, 16))
    before = model.certify_prediction(X[:5], cells=True)
    with pytest.raises(ValueError, match="previous"):
        model.certify_prediction(X[:5], cells=True, bounds=(0, 16), previous=before)
