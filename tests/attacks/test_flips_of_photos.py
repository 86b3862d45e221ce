"""The search over tokens of images of many patches: as before, but not patch after patch."""

import itertools
import signal
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tqdm.auto import tqdm

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.attacks import ATTACKS, flips, gradients, runs
from sklearn_patchcert.attacks.offers import buying, tables
from sklearn_patchcert.attacks.robustness import run_attack
from sklearn_patchcert.attacks.token_attack import Tokens, flipped
from sklearn_patchcert.voronoi import projections


@pytest.fixture(scope="module")
def fitted(digits):
    X, y = digits[0][:300].astype(np.float32), digits[1][:300]
    vocabulary = PatchVocabulary(8, 2, strategy="kmeans", random_state=0)
    net = PatchNetClassifier(
        max_epochs=4, batch_size=16, module__width=4, module__hidden=16, random_state=0
    )
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(X, y)
    right = np.flatnonzero(model.predict(X) == y)[:8]
    return model, X[right], y[right]


# ---------------------------------------------------------------------------- prices


def plain_costs(patch, tokens, weights, limit, n_near=64):
    """The costs of one patch, token by token."""
    squares = np.square(patch - tokens).sum(-1)
    own, costs = squares.argmin(), np.zeros(len(tokens))

    def wall(of, to):
        size = np.linalg.norm(weights * (of - to))
        ahead = np.square(patch - of).sum() - np.square(patch - to).sum()
        return ahead / (2 * size) if size else np.inf * ahead if ahead else 0.0

    for b, token in enumerate(tokens):
        near = np.square(token - tokens).sum(-1).argsort(kind="stable")[: n_near + 1]
        if b != own:
            first = wall(token, tokens[own])
            farthest = max(wall(token, tokens[c]) for c in near if c != b)
            costs[b] = first if first in (0, np.inf) else max(first, farthest)
    return np.where(costs <= limit, costs, np.inf)


@pytest.mark.parametrize("dim", [1, 3, 9])
@pytest.mark.parametrize("limit", [np.inf, 1.0])
def test_prices_are_those_of_patch_after_patch(dim, limit):
    rng = np.random.default_rng(dim)
    tokens, patches = rng.normal(size=(40, dim)), rng.normal(size=(2, 9, dim))
    weights = rng.choice([0.5, 1.0, 2.0], size=(9, dim))
    weights[:2, 1:] = 0  # padding, but for the first value
    found = projections.cell_costs(patches, tokens, weights=weights, limit=limit, exact=False)
    for image, costs in zip(patches, found, strict=True):
        for patch, weight, row in zip(image, weights, costs, strict=True):
            plain = plain_costs(patch, tokens, weight, limit)
            np.testing.assert_allclose(row, plain, rtol=1e-9, atol=1e-9)


def test_offers_are_what_can_be_paid_for_in_order_of_price():
    rng = np.random.default_rng(0)
    costs = rng.random((2, 5, 7))
    np.put_along_axis(costs, costs.argmin(-1)[..., None], 0.0, -1)
    found = tables.offered(costs, 0.5)
    for row, cost in enumerate(costs.reshape(-1, 7)):
        part = slice(*found.start[row : row + 2])
        order = cost.argsort()
        np.testing.assert_array_equal(found.token[part], order[cost[order] <= 0.5])
        np.testing.assert_allclose(found.price[part], np.sort(cost[cost <= 0.5]) ** 2, rtol=1e-6)
    ids = found.token[found.own()]
    np.testing.assert_array_equal(ids, costs.argmin(-1))
    dearest = np.array([found.token[end - 1] for end in found.start[1:]]).reshape(2, 5)
    found.reprice(dearest, np.full((2, 5), 1e-9))
    assert all(np.all(np.diff(found.price[a:b]) >= 0) for a, b in itertools.pairwise(found.start))
    np.testing.assert_array_equal(found.token[found.own()], ids)


@pytest.mark.parametrize("share", [0.02, 0.3, 2.0])
def test_what_a_budget_buys_gains_as_much_as_by_trying_all_tokens(share):
    rng = np.random.default_rng(0)
    costs = rng.random((3, 50, 20)) * 10 ** rng.uniform(-2, 0, (3, 50, 1))
    np.put_along_axis(costs, costs.argmin(-1)[..., None], 0.0, -1)
    tokens = torch.tensor(rng.normal(size=(2, 20, 3))).float()
    slope = rng.normal(size=(3, 50, 3))
    budget = share * float(np.square(costs).mean(-1).sum(1).min())
    labels = torch.zeros(3, dtype=torch.int64)
    state = flips._Search(None, None, tables.offered(costs), labels, tokens, budget)
    chosen = state.ids(state.choose(slope, np.arange(3)))
    gain = torch.einsum("npd,pkd->npk", torch.tensor(slope).float(), tokens.repeat(25, 1, 1))
    gain -= gain.gather(-1, torch.tensor(costs.argmin(-1))[..., None])
    [plain] = buying.knapsack([gain], [torch.tensor(costs).float() ** 2], budget)

    def total(values, ids):
        return np.take_along_axis(np.asarray(values), ids[..., None], -1).sum((1, 2))

    assert (total(np.square(costs), chosen) <= budget * (1 + 1e-6)).all()
    assert (total(gain, chosen) >= total(gain, plain.numpy()) * (1 - 1e-4)).all()


@pytest.mark.parametrize("budget", [0.1, 1.0, 30.0])
def test_a_choice_in_groups_is_that_of_one_table_filled_up(budget):
    rng = np.random.default_rng(0)
    gain, price = (torch.tensor(rng.random((4, 9, 7))) for _ in range(2))
    price[..., 0] = 0
    filled_gain, filled_price = gain.clone(), price.clone()
    filled_gain[:, 5:, 3:], filled_price[:, 5:, 3:] = -torch.inf, torch.inf
    [whole] = buying.knapsack([filled_gain], [filled_price], budget)
    groups = buying.knapsack(
        [gain[:, :5], gain[:, 5:, :3]], [price[:, :5], price[:, 5:, :3]], budget
    )
    assert torch.equal(torch.cat(groups, 1), whole)


@pytest.mark.parametrize("buy", [buying.looped, buying.exchanged])
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.floats(-9, 1))
@settings(max_examples=60, deadline=None)
def test_what_training_buys_misses_the_best_choice_by_less_than_one_flip(
    buy, seed, patches, most, wealth
):
    """Also where the first flip costs nearly nothing, so that the first rate is huge."""
    rng = np.random.default_rng(seed)
    gain = torch.tensor(rng.normal(size=(2, patches, most))).float()
    price = torch.tensor(10 ** rng.uniform(-30, 0, (2, patches, most))).float()
    gain[..., 0], price[..., 0] = 0, 0
    [chosen] = buy([gain], [price], 10.0**wealth)
    for image in range(2):
        every = list(itertools.product(range(most), repeat=patches))
        rows = np.arange(patches)
        gains = np.array([gain[image][rows, list(ids)].sum() for ids in every])
        prices = np.array([price[image][rows, list(ids)].double().sum() for ids in every])
        mine = every.index(tuple(chosen[image].tolist()))
        assert prices[mine] <= 10.0**wealth * (1 + 1e-6)
        best = gains[prices <= 10.0**wealth].max()
        assert gains[mine] >= best - float(gain[image].amax().clamp_min(0)) - 1e-5


@pytest.mark.parametrize("share", [1e-4, 0.02, 0.5])
@pytest.mark.parametrize("free", [0.0, 1e-30, None])
def test_both_ways_to_buy_gain_as_much(share, free):
    """Of many patches with many offers, so that one flip is little."""
    rng = np.random.default_rng(0)
    gain = torch.tensor(rng.normal(size=(3, 200, 12)) * rng.random((3, 200, 1)) ** 4).float()
    price = torch.tensor(10 ** rng.uniform(-4, 0, (3, 200, 12))).float()
    gain[..., 0], price[..., 0] = 0, 0
    if free is not None:
        price[:, 7, 3] = free
    budget = share * float(price.amax(2).sum(1).min())
    totals = []
    for buy in (buying.looped, buying.exchanged):
        parts = [slice(0, 50), slice(50, None)]
        chosen = buy([gain[:, p] for p in parts], [price[:, p] for p in parts], budget)
        chosen = torch.cat(chosen, 1)[..., None]
        assert (price.gather(2, chosen).sum((1, 2)) <= budget * (1 + 1e-6)).all()
        totals.append(gain.gather(2, chosen).sum((1, 2)))
    assert torch.allclose(*totals, rtol=1e-3)
    assert (totals[0] > 0).all()


@pytest.mark.parametrize("share", [0.02, 0.3, 2.0])
@pytest.mark.parametrize("dim", [1, 3])
def test_offers_that_cannot_pay_are_passed_over_and_nothing_else_changes(share, dim):
    """The same choice, bit for bit, as from a look at all offers of all patches."""
    rng = np.random.default_rng(0)
    table, patches = np.sort(rng.random((64, dim)), axis=0), rng.random((1, 90, dim))
    found = tables.offered(projections.cell_costs(patches, table, exact=False))
    budget = share * 90 * float(np.median(found.price)) / 10
    tokens, labels = torch.tensor(table[None]), torch.zeros(1, dtype=torch.int64)
    state = flips._Search(None, None, found, labels, tokens, budget)
    plain = flips._Search(None, None, found, labels, tokens, budget)
    plain.lengths[0] = np.full(90, np.inf)  # nothing is known of what offers gain at most
    assert np.isfinite(state.lengths_of(0)).all()
    for scale in (1e-6, 1.0, 1e6):
        slope = scale * rng.normal(size=(1, 90, dim))
        places = state.choose(slope, np.array([0]))
        np.testing.assert_array_equal(places, plain.choose(slope, np.array([0])))
        assert (places != found.own()).any()
        assert state.rates == plain.rates


# ---------------------------------------------------------------------------- the attack


def test_flips_stay_within_eps_and_reach_the_tokens_they_want(fitted):
    model, X, y = fitted
    images = X.reshape(len(X), 8, 8, 1)
    tokens = Tokens(model, images)
    found = run_attack(model, X, y, "flips", eps=6.0)
    assert found.success.any()
    assert found.norms.max() <= 6.0
    ids = tokens.ids_of(images)
    wanted = (ids + np.random.default_rng(0).integers(8, size=ids.shape)) % 8
    np.testing.assert_array_equal(tokens.ids_of(tokens.moved(images, wanted)), wanted)


@pytest.mark.parametrize("at_once", ["few offers", "many flips"])
def test_an_image_finds_the_same_alone_and_as_much_in_rounds(fitted, monkeypatch, at_once):
    model, X, y = fitted
    found = run_attack(model, X, y, "flips", eps=6.0)
    if at_once == "few offers":
        monkeypatch.setattr(runs, "_OFFERS_AT_ONCE", 1)
    else:
        monkeypatch.setattr(flips, "_SINGLY", 0)
    again = run_attack(model, X, y, "flips", eps=6.0)
    assert again.success.sum() >= found.success.sum()
    assert again.norms.max() <= 6.0


def calls(side):
    """How many functions are called in the search over the tokens of an image."""
    rng = np.random.default_rng(0)
    images = rng.random((1, side, side, 3)).astype(np.float32)
    vocabulary = PatchVocabulary.from_tokens(
        np.linspace(0, 1, 8)[:, None], patch_size=1, image_shape=images.shape[1:],
        per_channel="shared",
    )  # fmt: skip
    net = PatchNetClassifier(max_epochs=0, module__width=2, module__hidden=2, random_state=0)
    net.fit(vocabulary.transform(images.repeat(2, 0)), [0, 1])
    model, count = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]), 0

    def counted(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    def certain(made):
        return torch.stack([made.sum((1, 2, 3)) + 1e9, made.sum((1, 2, 3))], dim=1)

    def attack():
        tokens = Tokens(model, images)
        tokens.network = lambda made: torch.stack(
            [made.sum((1, 2, 3)) + 1e9, made.sum((1, 2, 3))], 1
        )
        flipped(tokens, images, np.array([0]), None, eps=0.5, steps=3)

    attack()
    sys.setprofile(counted)
    try:
        attack()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.filterwarnings("ignore:The gradient of the loss is zero")
def test_work_in_python_does_not_grow_with_the_number_of_patches():
    assert calls(32) < 1.5 * calls(8)


# ---------------------------------------------------------------------------- bars


def own(model, images, labels, *, eps, norm, generator, bounds=None):
    return gradients.pgd(model, images, labels, eps=eps, norm=norm, generator=generator, steps=9)


@pytest.mark.parametrize("attack", [*sorted({*ATTACKS} - {"sspgd"}), "flips", own])
def test_a_bar_moves_within_an_image_and_ends_at_their_number(fitted, monkeypatch, attack):
    model, X, y = fitted
    seen = []

    def drawn(bar, step=0, **options):
        if not bar.disable:
            bar.n += step
            seen.append((bar.n, bar.postfix))

    monkeypatch.setattr(tqdm, "refresh", drawn)
    monkeypatch.setattr(tqdm, "update", drawn)
    run_attack(model, X[:1], y[:1], attack, eps=1e-3, verbose=True)
    places = [n for n, _ in seen]
    assert places == sorted(places)
    assert places[-1] == 1
    assert len(set(seen)) > 8
    if isinstance(attack, str):
        assert len({n for n in places if 0 < n < 1}) > 5


@pytest.mark.parametrize("attack", ["pgd", "flips"])
def test_an_interrupt_within_an_image_leaves_everything_as_it_was(fitted, monkeypatch, attack):
    model, X, y = fitted
    before, given = run_attack(model, X, y, attack, eps=3.0), X.copy()

    def pressed(bar, step):
        if not bar.disable:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(tqdm, "update", pressed)
        old = signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt):
            run_attack(model, X, y, attack, eps=3.0, verbose=True)
        signal.signal(signal.SIGINT, old)
    np.testing.assert_array_equal(X, given)
    np.testing.assert_array_equal(run_attack(model, X, y, attack, eps=3.0).adversarial,
                                  before.adversarial)  # fmt: skip
