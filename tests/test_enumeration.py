"""Configurations in the order of their cost: as sorted, each once, and an end that is said."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_patchcert.engines import enumeration


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
        ids = enumeration.configurations(0, count, tokens, first, state)
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
