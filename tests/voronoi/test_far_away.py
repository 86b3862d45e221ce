"""Where patches are far from the tokens, or may go there, rounding decides: no radius reaches it.

The squared distances of such patches are large, and the tokenizer's answer hangs on their last
digits.  Every radius and every cost must end before.
"""

from fractions import Fraction

import numpy as np
import pytest

from sklearn_patchcert.prediction.configurations import wall_costs
from sklearn_patchcert.voronoi import certificate

pytestmark = pytest.mark.usefixtures("tree_engine")
ENGINES = ["dense", "walk", "tree", "two_pass"]
SLOPES = 10.0 ** -np.arange(5, 10.5, 0.25)  # of the coordinate in which the tokens differ
PARTS = np.array([1e-3, 0.3, 0.6, 0.8, 0.9, 0.99, 0.9999])


def heavy_moves(radius, norm):
    """Steps (m, 2) of a norm just below: some along the second coordinate, the rest the first."""
    rest = {"l2": np.sqrt(1 - PARTS**2), "linf": np.ones(len(PARTS)), "l1": 1 - PARTS}[norm]
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    steps = np.stack([rest, PARTS], axis=1)[:, None] * signs
    return steps.reshape(-1, 2) * radius * (1 - 1e-7)


def cases(seed):
    """Weights, tokens and a patch; an attacker moves the second coordinate by far the most."""
    rng = np.random.default_rng(seed)
    for slope in SLOPES:
        tokens = np.zeros((2, 2))
        tokens[rng.integers(2), 0] = 1.0
        yield np.array([[slope, 1.0]]), tokens, np.array([[rng.random(2) * [1, 0.1]]])


@pytest.mark.parametrize("norm", certificate.NORMS)
@pytest.mark.parametrize("engine", ENGINES)
def test_no_radius_reaches_where_a_move_makes_distances_large(engine, norm):
    positive = 0
    for weights, tokens, x in [case for seed in range(6) for case in cases(seed)]:
        ids, radii = certificate.certify(x, tokens, norm, weights=weights, engine=engine)
        costs = wall_costs(x, tokens, norm, weights=weights)
        positive += radii[0, 0] > 0
        assert costs.max() <= radii[0, 0] * (1 + 1e-12)  # of two tokens there is one wall
        moved = x + weights * heavy_moves(costs.max(), norm)[:, None]
        assert (
            certificate.tokenize(moved, tokens, weights=weights, engine=engine) == ids[0, 0]
        ).all()
        moved = x + weights * heavy_moves(radii[0, 0], norm)[:, None]
        assert (
            certificate.tokenize(moved, tokens, weights=weights, engine=engine) == ids[0, 0]
        ).all()
    assert positive > 20


@pytest.mark.parametrize("norm", certificate.NORMS)
@pytest.mark.parametrize("size", 10.0 ** np.arange(2, 9))
def test_costs_of_patches_far_away_end_where_the_tokenizer_rounds(size, norm):
    rng = np.random.default_rng(int(np.log10(size)))
    tokens = rng.normal(size=(5, 3))
    x = tokens.mean(0) + size * rng.normal(size=(40, 1, 3))
    costs, ids = wall_costs(x, tokens, norm), certificate.tokenize(x, tokens)[:, 0]
    radii = certificate.certify(x, tokens, norm)[1][:, 0]
    for row, own in enumerate(ids):
        point = [Fraction(v) for v in x[row, 0].tolist()]
        exact = [[Fraction(v) for v in token] for token in tokens.tolist()]
        squares = [sum((p - q) ** 2 for p, q in zip(point, t, strict=True)) for t in exact]
        others = np.delete(np.arange(5), own)
        for b in others:
            gap = float(squares[b] - squares[own])
            order = {"l2": 2, "linf": 1, "l1": np.inf}[norm]
            wall = gap / (2 * np.linalg.norm(tokens[own] - tokens[b], order))
            # A computed square is wrong by some u |x|^2, so the wall by that over 2 |a - b|.
            error = 2.0**-53 * float(squares[b]) / np.linalg.norm(tokens[own] - tokens[b], order)
            assert costs[row, 0, b] <= max(0.0, wall - error)
        assert costs[row, 0, others].min() == pytest.approx(radii[row], rel=1e-9, abs=1e-12)


def test_steps_along_the_nearest_wall_of_a_far_patch_change_nothing():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(6, 3))
    x = (10.0 ** rng.integers(3, 9, size=(4000, 1, 1))) * rng.normal(size=(4000, 1, 3))
    ids, _, others = certificate.certify(x, tokens, return_witness=True)
    costs = np.take_along_axis(wall_costs(x, tokens), others[..., None], -1)
    normal = tokens[others] - tokens[ids]
    unit = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    for part in (0.9, 0.999, 1 - 1e-7):
        moved = x + part * costs * unit
        real = np.linalg.norm((moved - x).astype(np.longdouble), axis=-1) < costs[..., 0]
        assert real.any()
        np.testing.assert_array_equal(certificate.tokenize(moved, tokens)[real], ids[real])


@pytest.mark.parametrize("norm", certificate.NORMS)
def test_only_tokens_that_nothing_can_reach_cost_infinitely_much(norm):
    """The second token differs from the first in the padding, the third by very little."""
    tokens = np.array([[1.0, 0.0, 0.5], [1.0, 0.0, 2.0], [1.0 + 1e-12, 0.0, 0.5], [3.0, 1.0, 0.5]])
    x = np.array([[[0.5, 0.0, 0.0]], [[3.0, 1.0, 0.0]]])
    for unit in (1.0, 1e-280, 1e-296):  # the last makes w (a - b) less than the smallest number
        costs = wall_costs(x, tokens, norm, weights=unit * np.array([[1.0, 1.0, 0.0]]))
        assert costs[0, 0, 0] == costs[1, 0, 3] == 0
        assert costs[0, 0, 1] == np.inf
        assert np.isfinite(costs[0, 0, 2:]).all()
        assert np.isfinite(costs[1]).all()
        assert (costs[:, 0, 3] + costs[:, 0, 0] > 0).all()
    several = wall_costs(x, tokens, norm, weights=np.array([[1.0, 1.0, 0.0]]), n_walls=4)
    single = wall_costs(x, tokens, norm, weights=np.array([[1.0, 1.0, 0.0]]))
    assert (several >= single).all()
    assert np.isfinite(several[1]).all()


@pytest.mark.parametrize("norm", certificate.NORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_engines_agree_however_far_a_patch_is(norm, dtype):
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(30, 4))
    sizes = 10.0 ** np.arange(0, 37 if dtype is np.float32 else 149)
    x = (sizes[:, None, None] * rng.normal(size=(len(sizes), 1, 4))).astype(dtype)
    wanted = certificate.certify(x, tokens, norm, engine="dense", return_witness=True)
    for engine in ENGINES[1:]:
        np.testing.assert_array_equal(certificate.tokenize(x, tokens, engine=engine), wanted[0])
        found = certificate.certify(x, tokens, norm, engine=engine, return_witness=True)
        for part, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize("dim", [1, 2, 3, 16])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("aside", [0, 1, 5])
def test_engines_agree_where_float32_cannot_tell_tokens_apart(dim, own, aside):
    """All tokens, or all walls of the own token, are equally far, but for a billionth.

    They lie all around the patches, or on one side, so that the patches are far from their mean.
    """
    rng = np.random.default_rng(dim)
    for n_tokens in (40, 300):
        around = rng.normal(size=(n_tokens, dim))
        around[:, 0] += aside * np.sqrt(dim)
        around /= np.linalg.norm(around, axis=1, keepdims=True)
        tokens = around * (1 + 1e-9 * rng.normal(size=(n_tokens, 1)))
        if own:
            tokens[7] = 0
        middle = rng.normal(size=dim)
        x = 1e-9 * rng.normal(size=(200, 1, dim))
        for norm in certificate.NORMS:
            wanted, *others = (
                certificate.certify(
                    x + middle, tokens + middle, norm, engine=e, return_witness=True
                )
                for e in ENGINES
            )
            for found in others:
                for part, other in zip(found, wanted, strict=True):
                    np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize("norm", certificate.NORMS)
@pytest.mark.parametrize("unit", [1e-290, 1e-300, 1e-308])
@pytest.mark.parametrize("apart", [1.0, 1e-6, 1e-12, 3e-16])
def test_radii_are_below_the_rational_truth_where_products_with_weights_vanish(norm, unit, apart):
    rng = np.random.default_rng(0)
    tokens = 1 + apart * rng.normal(size=(3, 2))
    x = 1 + apart * rng.normal(size=(8, 1, 2))
    weights = unit * rng.uniform(0.1, 1, size=(1, 2))
    w, exact = ([[Fraction(v) for v in row] for row in table.tolist()]
                for table in (weights, tokens))  # fmt: skip
    costs = wall_costs(x, tokens, norm, weights=weights)
    wanted = certificate.certify(x, tokens, norm, weights=weights, engine="dense")[1]
    for engine in ENGINES:
        ids, radii = certificate.certify(x, tokens, norm, weights=weights, engine=engine)
        if unit * apart > 1e-304:  # below, the smallest number is most of |w (a - b)|
            np.testing.assert_array_equal(radii, wanted)
        for row, own in enumerate(ids[:, 0]):
            point = [Fraction(v) for v in x[row, 0].tolist()]
            squares = [sum((p - q) ** 2 for p, q in zip(point, t, strict=True)) for t in exact]
            for b in {0, 1, 2} - {int(own)}:
                normal = [abs(s * (p - q))
                          for s, p, q in zip(w[0], exact[own], exact[b], strict=True)]  # fmt: skip
                gap = squares[b] - squares[own]
                for found in (radii[row, 0], costs[row, 0, b]):
                    told = Fraction(float(found)) if np.isfinite(found) else None
                    if told is None:  # beyond all numbers, as the wall itself
                        assert gap > 2 * max(normal) * Fraction(1.7e308)
                    elif norm == "l2":
                        assert (2 * told) ** 2 * sum(n * n for n in normal) <= gap**2
                    else:
                        size = sum(normal) if norm == "linf" else max(normal)
                        assert 2 * told * size <= gap
