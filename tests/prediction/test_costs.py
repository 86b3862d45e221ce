"""Costs of tokens: the compiled engine computes, to the bit, what a loop over patches does."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.prediction.configurations import wall_costs
from sklearn_patchcert.prediction.search import changes
from sklearn_patchcert.prediction.search.images import Decoder
from sklearn_patchcert.prediction.search.queues import Queue
from sklearn_patchcert.prediction.token_costs import TokenCosts
from sklearn_patchcert.voronoi import certificate

TINY = np.finfo(np.float64).tiny


def dual(difference, norm):
    """Dual norms over the last axis, summed one coordinate after the other."""
    sizes, total = np.abs(difference), np.zeros(difference.shape[:-1])
    largest = sizes.max(-1)
    if norm == "l1":
        return largest + TINY
    for size in np.moveaxis(sizes, -1, 0):
        total += size * size if norm == "l2" else size
    if norm == "linf":
        return total + difference.shape[-1] * TINY
    scaled = np.zeros_like(total)
    for part in np.moveaxis(difference, -1, 0):
        scaled += (part / (largest + TINY)) ** 2
    scaled = (largest + TINY) * np.sqrt(scaled) + difference.shape[-1] * TINY
    return np.where((total > 1e-250) & (total < 1e250), np.sqrt(total), scaled)


def plain(patches, tokens, norm, weights, noise, growth, n_walls):
    """The costs (n, positions, n_tokens), position by position and wall by wall."""
    n, positions, dim = patches.shape
    patches, tokens = patches.astype(np.float64), tokens.astype(np.float64)
    own = certificate.tokenize(patches, tokens, weights=weights)
    gamma, rows = (dim + 8) * 2.0**-52, np.arange(n)
    costs = np.zeros((n, positions, len(tokens)))
    for p in range(positions):
        squares = np.zeros((n, len(tokens)))
        for j in range(dim):
            squares += (patches[:, p, j, None] - tokens[:, j]) ** 2
        ranks = squares.argsort(1, kind="stable")[:, :n_walls]
        w, movable = np.abs(weights[p]), tokens[:, weights[p] != 0]
        motion = w.max() * (np.linalg.norm(w / w.max()) if norm == "linf" else 1.0)
        for near in [own[:, p], *(ranks.T if n_walls > 1 else ())]:
            size = dual(w * (tokens[near][:, None] - tokens), norm)
            nearest = squares[rows, near][:, None]
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                move = motion * (np.abs(squares - nearest) / (2 * size))
                blur = 0.0 if noise is None else 2 * noise[:, p, None] + growth * move
                left = squares - nearest - 4 * gamma * (squares + nearest + (move + blur) ** 2)
                left -= 8 * dim * TINY
                if noise is not None:
                    apart = dual(tokens[near][:, None] - tokens, "l2")
                    left -= 2 * apart * blur * (1 + gamma)
                found = left / (2 * size) * (1 - 4 * gamma)
            same = (size <= 2 * dim * TINY) & (movable[near][:, None] == movable).all(-1)
            found[same] = 0  # no wall between them
            found[same & (near == own[:, p])[:, None]] = np.inf  # the own one stays
            costs[:, p] = np.fmax(costs[:, p], found)
        costs[rows, p, own[:, p]] = 0
    return costs


@st.composite
def cases(draw):
    """Patches and tokens with ties, duplicates, padding and errors of steps before."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    dim, positions, n = draw(st.integers(1, 5)), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    n_tokens, unit = draw(st.sampled_from([1, 2, 3, 9, 40])), draw(st.sampled_from([1.0, 1e-160]))
    if draw(st.booleans()):  # ties everywhere
        tokens = rng.integers(0, 3, (n_tokens, dim)) * 1.0
        patches = rng.integers(0, 5, (n, positions, dim)) / 2
    else:
        tokens, patches = rng.normal(size=(n_tokens, dim)), rng.normal(size=(n, positions, dim))
    weights = np.ones((positions, dim))
    kind = draw(st.sampled_from(["same", "padded", "each"]))
    if kind == "padded":
        weights[positions // 2 :, dim // 2 :] = 0
        weights[:, 0] = 1
        patches[:, positions // 2 :, dim // 2 :][..., :] *= weights[positions // 2 :, dim // 2 :]
    elif kind == "each":
        weights = rng.uniform(0.2, 3, (positions, dim))
    noise = rng.uniform(0, 1e-3, (n, positions)) if draw(st.booleans()) else None
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return unit * patches.astype(dtype), unit * tokens, weights, noise


@pytest.mark.parametrize("norm", certificate.NORMS)
@given(cases(), st.sampled_from([1, 2, 8]), st.sampled_from([0.0, 1e-6]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_costs_are_those_of_a_loop_over_patches(norm, case, n_walls, growth):
    patches, tokens, weights, noise = case
    n_walls = min(n_walls, len(tokens))
    growth = growth if noise is not None else 0.0
    wanted = plain(patches, tokens, norm, weights, noise, growth, n_walls)
    found = wall_costs(
        patches, tokens, norm, weights=weights, noise=noise, noise_growth=growth, n_walls=n_walls
    )
    if len(np.unique(weights, axis=0)) > 8 and norm == "linf":  # other roundings of the motion
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=0)
    else:
        np.testing.assert_array_equal(found, wanted)


def naive_assignments(costs, norm, most):
    """The costs of the `most` + 1 cheapest assignments of an image, from all costs."""
    prices = np.sort(np.square(costs) if norm == "l2" else costs, axis=1)
    totals = np.zeros(1)
    for row in prices:
        totals = (np.maximum if norm == "linf" else np.add).outer(totals, row[np.isfinite(row)])
        totals = np.sort(totals.ravel())[: most + 1]
    return totals


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([1, 3, 20, 400]),
       st.sampled_from(["l2", "linf", "l0"]))  # fmt: skip
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_cheapest_changes_are_enough_for_the_cheapest_assignments(seed, ties, most, norm):
    rng = np.random.default_rng(seed)
    positions, n_tokens = int(rng.integers(1, 9)), int(rng.integers(1, 7))
    costs = rng.random((positions, n_tokens))
    costs = rng.integers(0, 4, costs.shape).astype(float) if ties else costs
    costs[rng.random(costs.shape) < 0.1] = np.inf
    costs[np.arange(positions), rng.integers(n_tokens, size=positions)] = 0
    queue = Queue(changes.of_costs(costs, most), norm, most)
    wanted = naive_assignments(costs, norm, most)
    ids = queue.take(0, most).whole()
    assert len(np.unique(ids, axis=0)) == len(ids) == min(most, len(wanted))
    found = [queue.cost(at) for at in range(len(wanted))]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    np.testing.assert_array_equal(ids[0], costs.argmin(1))


@pytest.mark.parametrize("norm", certificate.NORMS)
@given(cases(), st.sampled_from([1, 2, 8]), st.sampled_from([1, 2, 7, 50, 10**4]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_cheapest_changes_are_those_of_the_whole_table(norm, case, n_walls, most):
    patches, tokens, weights, noise = case
    table = wall_costs(patches, tokens, norm, weights=weights, noise=noise, n_walls=n_walls)
    own = certificate.tokenize(patches, tokens, weights=weights)
    prepared = changes.prepared(tokens, weights, norm)
    for row in range(len(patches)):
        blur = None if noise is None else noise[row]
        found = changes.cheapest(
            patches[row], own[row], *prepared, blur, 0.0, n_walls, len(tokens), most
        )
        costs = table[row].copy()
        costs[np.arange(len(costs)), own[row]] = -1.0  # also where others cost nothing
        wanted = changes.of_costs(costs, most)
        for part, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(part, other)


def calls(function):
    """How many calls of Python and C functions a function makes."""
    count = 0

    def tell(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(tell)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("per_channel", [False, True, "shared"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("norm", ["l2", "linf", "l0"])
def test_no_loop_goes_over_patches(per_channel, scaled, norm):
    """Preparing an image takes as many calls for many patches as for few."""
    rng = np.random.default_rng(0)
    shape = (3, 5, 1) if per_channel is True else (5, 1 if per_channel else 3)

    def prepare(side):
        vocabulary = PatchVocabulary.from_tokens(
            tokens, patch_size=1, image_shape=(side, side, 3), per_channel=per_channel
        )
        images = rng.random((1, side, side, 3))
        scale = {"scale": rng.uniform(0.5, 2, images.shape[1:])} if scaled else {}

        def work():
            costs = TokenCosts(images, vocabulary, scale, norm)
            changes = costs.cheapest(0, 50)
            queue = Queue(changes, norm, 50)
            assert len(queue.take(0, 50)) == 50
            decode = Decoder(costs.grid[1:4], costs.shape, **vocabulary._code())
            assert np.isfinite(decode(costs.own)).all()
            if norm != "l0":
                assert costs.walls().shape == (*costs.own.shape, tokens.shape[-2])

        return work

    tokens = rng.random(shape)
    prepare(6)()  # compiles
    few, many = calls(prepare(8)), calls(prepare(32))
    assert many <= 1.2 * few + 100
