"""Additive networks: bounds below exact minima, and what enumeration finds."""

import copy
import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
)
from sklearn_patchcert.networks.additive import Blocks, additive_radius, dual_leads, exact_price
from sklearn_patchcert.networks.modules import AdditivePatchNet, PatchResNet


def brute(table, prices, label, least):
    best = np.inf
    for chosen in itertools.product(*(range(len(table)) for _ in prices)):
        total = table[list(chosen), range(len(chosen))].sum(0)
        lead = total[label] - np.delete(total, label).max()
        if lead <= least:
            best = min(best, prices[range(len(chosen)), list(chosen)].sum())
    return best


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 5), st.booleans())
@settings(max_examples=120, deadline=None, derandomize=True)
def test_the_bound_is_below_the_exact_price_which_is_brute_force(seed, blocks, choices, ties):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(choices, blocks, 3))
    if ties:
        table = rng.integers(-2, 3, size=table.shape).astype(float)
    prices = rng.integers(0, 4, (blocks, choices)).astype(float) if ties else rng.random(
        (blocks, choices))  # fmt: skip
    prices[np.arange(blocks), rng.integers(choices, size=blocks)] = 0
    prices[rng.random(prices.shape) < 0.1] = np.inf
    prices[:, 0] = np.where(np.isinf(prices).all(1), 0, prices[:, 0])
    least = 1.0 if ties else 0.1  # of whole numbers some leads are just that
    truth = brute(table, prices, 0, least)
    exact = exact_price(table, prices, 0, least)
    assert exact == truth or exact == pytest.approx(truth)
    radius = additive_radius(table, prices, 0, least)
    assert radius**2 <= truth
    if blocks == 1 and choices == 1:
        assert radius == (0 if truth == 0 else np.inf)


def test_one_block_of_two_choices_is_a_straight_line():
    table, prices = np.array([[[1.0, 0.0]], [[0.0, 3.0]]]), np.array([[0.0, 4.0]])
    assert additive_radius(table, prices, 0) == pytest.approx(1.0)  # a quarter of the way
    assert exact_price(table, prices, 0) == 4.0


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_the_radius_is_rounded_down_where_the_bound_is_exact(blocks):
    """Every block loses a tenth of the lead at its price, and all together just lose it."""
    for prices in np.random.default_rng(0).random((50, blocks, 1)):
        table = np.array([[[0.1, 0.0]] * blocks, [[0.0, 0.0]] * blocks])
        radius = additive_radius(table, np.concatenate([0 * prices, prices], axis=1), 0)
        truth = sum(map(Fraction, prices.ravel()))
        assert truth * (1 - Fraction(1e-8)) < Fraction(radius) ** 2 < truth


@given(st.integers(0, 10**6), st.floats(0.1, 2.0))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_dual_leads_are_below_what_can_happen_and_agree_with_the_sort(seed, radius):
    rng = np.random.default_rng(seed)
    table, prices = rng.normal(size=(4, 3, 3)), rng.random((5, 3, 4))
    prices[:, :, 0] = 0
    labels = rng.integers(3, size=5)
    leads = dual_leads(
        torch.tensor(table, requires_grad=True), torch.tensor(prices), torch.tensor(labels), radius,
        halvings=40,
    )  # fmt: skip
    assert leads.requires_grad
    leads = leads.detach().numpy()
    for row in range(5):
        least = np.full(3, np.inf)
        for chosen in itertools.product(range(4), repeat=3):
            if prices[row, range(3), list(chosen)].sum() <= radius**2:
                total = table[list(chosen), range(3)].sum(0)
                least = np.minimum(least, total[labels[row]] - total)
        assert (leads[row] <= least + 1e-9).all()
        lowest = np.delete(leads[row], labels[row]).min()
        certified = additive_radius(table, prices[row], labels[row])
        if abs(lowest) > 1e-6:  # both are the linear bound: one at a radius, one for all radii
            assert (lowest > 0) == (certified > radius)


@pytest.mark.parametrize("grid", [(2, 2, 1), (3, 5, 1), (3, 2, 2), (1, 1, 1)])
def test_blocks_cover_every_patch_once(grid):
    blocks = Blocks(grid, (2, 2) if grid[2] == 1 else (1, 2), 2)
    members = blocks.members[blocks.members >= 0]
    assert sorted(members) == list(range(np.prod(grid)))
    ids = blocks.images().reshape(len(blocks.choices), -1)
    rng = np.random.default_rng(0)
    squares = rng.random((ids.shape[1], 2))
    prices = blocks.prices(squares)
    chosen = rng.integers(len(ids), size=len(blocks.members))
    chosen = np.array([c if np.isfinite(p[c]) else 0 for c, p in zip(chosen, prices, strict=True)])
    tokens = blocks.tokens(chosen)
    total = squares[np.arange(len(tokens)), tokens].sum()
    assert prices[np.arange(len(chosen)), chosen].sum() == pytest.approx(total)
    with pytest.raises(ValueError, match="fewer tokens"):
        Blocks(grid, (9, 9), 16)


@pytest.fixture(scope="module")
def model(digits):
    net = PatchNetClassifier(
        AdditivePatchNet, module__block=2, module__width=16, max_epochs=8, lr=0.02, random_state=0,
    )  # fmt: skip
    vocabulary = PatchVocabulary(4, 2, strategy="kmeans", random_state=0)
    return CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(
        digits[0][:800], digits[1][:800]
    )


def test_terms_add_up_whatever_the_other_blocks_are(model, digits):
    made = model["vocab"].transform(digits[0][:50])
    terms = model["clf"].terms(made)
    logits = np.log(model["clf"].predict_proba(made))
    total = terms.sum(1)
    difference = (total - total[:, :1]) - (logits - logits[:, :1])
    assert np.abs(difference).max() < 1e-3
    other = made.copy().reshape(-1, 8, 8)
    other[:, 4:] = 3.0  # the second row of blocks
    np.testing.assert_allclose(model["clf"].terms(other.reshape(50, -1))[:, 0], terms[:, 0])


def test_the_radius_is_below_the_exact_one_and_every_found_one(model, digits):
    X = digits[0][800:840]
    fast, slow = (model.certify_prediction(X, method=m) for m in ("additive", "enumeration"))
    assert slow.exact.mean() > 0.9
    assert (fast.radius <= slow.radius * (1 + 1e-9))[slow.exact].all()
    assert fast.radius.mean() > 0.5 * slow.radius.mean()
    assert (fast.radius > model.certify(X).reshape(40, -1).min(1)).mean() > 0.5
    np.testing.assert_array_equal(fast.prediction, slow.prediction)


def test_training_on_the_bound_enlarges_it(model, digits):
    X, y = digits[0][800:1000], digits[1][800:1000]
    trained = copy.deepcopy(model)
    trained.set_params(clf__certified_radius=3.0)
    trained.fit(digits[0][:800], digits[1][:800])

    def certified(pipeline):
        found = pipeline.certify_prediction(X, method="additive")
        return np.where(found.prediction == y, found.radius, 0).mean()

    assert certified(trained) > 1.05 * certified(model)
    assert trained.score(X, y) > 0.5


def test_bad_use(model, digits):
    X, y = digits[0][:100], digits[1][:100]
    with pytest.raises(ValueError, match="method"):
        model.certify_prediction(X, method="dual")
    with pytest.raises(ValueError, match="l2"):
        model.certify_prediction(X, method="additive", norm="linf")
    vocabulary = PatchVocabulary(4, 4, random_state=0)
    net = PatchNetClassifier(PatchResNet, max_epochs=1)
    plain = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(X, y)
    with pytest.raises(TypeError, match="not additive"):
        plain.certify_prediction(X, method="additive")
    with pytest.raises(TypeError, match="not additive"):
        plain.set_params(clf__certified_radius=1.0).fit(X, y)
    other = clone(model).set_params(clf__module__patch_size=4, clf__max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="leave module__patch_size to the pipeline"):
        other.certify_prediction(X, method="additive")
    with pytest.raises(ValueError, match="certified_radius is for classifiers"):
        PatchNetRegressor(certified_radius=1.0).fit(X, y)
