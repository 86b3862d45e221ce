"""Configurations in the order of their cost: as sorted, each once, to an end, in any portions."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_patchcert.prediction.configurations import certify_configurations
from sklearn_patchcert.prediction.search import budgets, enumeration


def sorted_prices(rng, positions, choices, ties):
    """Prices as the enumeration takes them: rows sorted, from 0, by their second entries."""
    prices = rng.integers(0, 3, (positions, choices)) if ties else rng.random((positions, choices))
    prices = np.sort(prices.astype(float), axis=1)
    prices[:, 0] = 0
    prices[:, 1:][rng.random((positions, choices - 1)) < 0.1] = np.inf
    prices = np.sort(prices, axis=1)
    second = prices[:, 1] if choices > 1 else np.zeros(positions)
    return prices[np.argsort(second, kind="stable")]


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_costs_are_the_sorted_costs_of_all_and_nothing_comes_after_the_last(
    seed, positions, choices, largest, ties
):
    rng = np.random.default_rng(seed)
    prices = sorted_prices(rng, positions, choices, ties)
    every = list(itertools.product(range(choices), repeat=positions))
    rows = np.arange(positions)
    costs = np.array([prices[rows, ids].max() if largest else prices[rows, ids].sum()
                      for ids in map(list, every)])  # fmt: skip
    costs = np.sort(costs[np.isfinite(costs)])
    state = enumeration.start(len(costs) + 3)
    tokens, first = np.tile(np.arange(choices), (positions, 1)), rng.permutation(positions)
    upto = 0
    while upto < len(costs) + 3:
        upto = min(upto + int(rng.integers(1, 9)), len(costs) + 3)
        following = enumeration.cheapest(prices, upto, largest, state)
        count = int(state[0][2])
        assert count == min(upto, len(costs))
        wanted = costs[count] if count < len(costs) else np.inf
        assert following == pytest.approx(wanted)
        np.testing.assert_allclose(state[1][state[7][:count]], costs[:count])
        ids = np.zeros((count, positions), dtype=int)
        row, place, token = enumeration.differences(0, count, tokens, first, state)
        ids[row, place] = token
        assert len(set(map(tuple, ids.tolist()))) == count
        chosen = prices[rows, ids[:, first]]
        np.testing.assert_allclose(chosen.max(1) if largest else chosen.sum(1), costs[:count])


def test_a_heap_of_many_gives_them_back_in_order():
    rng = np.random.default_rng(0)
    prices = sorted_prices(rng, 12, 30, ties=False)
    state = enumeration.start(3000)
    following = enumeration.cheapest(prices, 3000, False, state)
    costs = state[1][state[7]]
    assert (np.diff(costs) >= 0).all()
    assert costs[-1] <= following < np.inf


@pytest.fixture(scope="module")
def images():
    """Costs of tokens of some images, and whether a configuration changes: some late, some never.

    With them, as a function of ids, costs that are higher.
    """
    rng = np.random.default_rng(0)
    costs = rng.random((7, 4, 4))
    np.put_along_axis(costs, rng.integers(4, size=(7, 4, 1)), 0.0, 2)
    often = np.array([0, 0, 0.002, 0.01, 0.05, 0.2, 1.0])
    bad = rng.random((7, 256)) < often[:, None]
    codes = 4 ** np.arange(4)

    def changes(rows, ids):
        own = (ids == costs[rows].argmin(2)).all(1)
        return bad[rows, ids @ codes] & ~own

    def refine(row, ids):
        return float(np.sqrt((costs[row, range(4), ids] ** 2).sum())) * (1 + (ids @ codes) % 3 / 10)

    return costs, changes, refine


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("norm", ["l2", "linf", "l0"])
def test_portions_and_earlier_looks_change_nothing(images, norm, refined):
    costs, changes, refine = images
    refine = refine if refined and norm == "l2" else None
    radius, exact, _, _, upper = certify_configurations(
        changes, costs, norm, max_configurations=10**4, refine=refine
    )
    assert 2 <= np.isinf(radius).sum() < exact.sum()
    for batch_size in (1, 7, 100, 2048):
        again = certify_configurations(
            changes, costs, norm, max_configurations=10**4, refine=refine, batch_size=batch_size
        )
        np.testing.assert_array_equal(again[0], radius)
        np.testing.assert_array_equal(again[1], exact)
    known, state = np.full(7, np.inf), np.zeros(7, int)
    for most in (1, 3, 40, 256, 10**4):
        part = certify_configurations(
            changes, costs, norm, max_configurations=most, looked=state, known=known, refine=refine
        )
        assert (part[2] <= np.maximum(most, state)).all()
        assert (part[0] <= radius).all()
        assert (part[4] >= upper).all()
        state, known = part[2], part[4]
    np.testing.assert_allclose(part[0], radius, rtol=1e-11)
    np.testing.assert_array_equal(part[1], exact)
    np.testing.assert_allclose(known, upper)


def test_a_known_change_is_the_end_of_the_search(images):
    costs, changes, _ = images
    radius = certify_configurations(changes, costs)[0]
    never = np.isinf(radius)
    found = certify_configurations(changes, costs, known=np.where(never, 0.5, np.inf))
    assert found[1][never].all()
    np.testing.assert_allclose(found[0][never], 0.5)
    np.testing.assert_array_equal(found[0][~never], radius[~never])


def test_a_finer_cost_that_is_lower_changes_nothing(images):
    costs, changes, _ = images
    wanted = certify_configurations(changes, costs)
    found = certify_configurations(changes, costs, refine=lambda row, ids: 0.0)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])


class Clock:
    """A clock that only stands still or is moved on."""

    def __init__(self, monkeypatch):
        self.time = 1000.0
        monkeypatch.setattr(budgets, "now", lambda: self.time)


@pytest.mark.parametrize("seconds", [0.0, 0.5, 3.0, 20.0, 100.0, np.inf])
def test_the_time_of_an_image_is_kept(images, monkeypatch, seconds):
    """A configuration takes a second, and a batch half a second more."""
    costs, changes, _ = images
    clock = Clock(monkeypatch)

    def slow(rows, ids):
        clock.time += 0.5 + len(ids)
        return changes(rows, ids)

    radius, _, looked, *_ = certify_configurations(slow, costs[:1], max_seconds=seconds)
    spent = clock.time - 1000.0
    assert spent <= max(1.1 * seconds, 1.5)  # the first has to be tried
    assert looked[0] >= 1
    if 20 <= seconds < np.inf:
        assert looked[0] >= 0.6 * seconds
    if seconds == np.inf:
        assert looked[0] == 256
    whole = certify_configurations(changes, costs[:1])[0]
    assert radius[0] <= whole[0]


def test_no_images():
    found = certify_configurations(None, np.zeros((0, 3, 2)))
    assert [len(part) for part in found] == [0] * 5
