"""Every sticker, at every pixel, lies inside a mask; places are where a certified one is."""

import itertools

import numpy as np
import pytest

from sklearn_patchcert.checks import sticker_sizes
from sklearn_patchcert.patches import grid_shape
from sklearn_patchcert.prediction.masking.masks import (
    covering_masks,
    mask_plan,
    places_of,
    window_of,
)

SHAPES = [((8, 8), (2, 2)), ((7, 10), (3, 4)), ((5, 6), (1, 1)), ((9, 4), (4, 4)), ((4, 4), (8, 8))]
SIZES = [[(1, 1)], [(2, 2)], [(3, 3)], [(1, 5)], [(4, 2)], [(20, 20)], [(3, 3), (1, 6)]]
COUNTS = [None, 1, 2, 3, (2, 5)]


def stickers(shape, sizes):
    """Each sticker, also those that hang over an edge: its corner and the pixels that it hides."""
    for height, width in sizes:
        for top, left in itertools.product(range(shape[0]), range(shape[1])):
            hidden = np.zeros(shape, dtype=bool)
            hidden[top : top + height, left : left + width] = True
            yield (top, left), hidden


def in_pixels(masks, cell, shape):
    return masks.repeat(cell[0], -2).repeat(cell[1], -1)[..., : shape[0], : shape[1]]


def plan_of(shape, cell, sizes, count, n_stickers=1):
    grid = grid_shape((*shape, 1), cell)
    windows = list(dict.fromkeys(window_of(size, cell, grid) for size in sizes))
    return mask_plan(grid, windows, count, n_stickers)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("shape", "cell"), SHAPES)
def test_every_sticker_is_inside_a_mask_and_at_a_place_inside_a_certified_one(shape, cell, sizes):
    every = list(stickers(shape, sizes))
    hidden = np.stack([hidden.ravel() for _, hidden in every])
    for count in COUNTS:
        plan = plan_of(shape, cell, sizes, count)
        pixels = in_pixels(plan.masks, cell, shape).reshape(len(plan.masks), -1)
        inside = ~(hidden @ ~pixels.T)
        assert inside.any(1).all()
        if count is not None and len(sizes) == 1:
            rows, cols = count if isinstance(count, tuple) else (count, count)
            assert len(plan.masks) <= rows * cols
        check_places(plan, every, inside, cell)


def check_places(plan, every, inside, cell):
    certified = np.random.default_rng(0).random((1, len(plan.masks))) < 0.6
    places = places_of(plan, certified)[0]
    for ((top, left), _), masks in zip(every, inside, strict=True):
        assert not places[top // cell[0], left // cell[1]] or (masks & certified[0]).any()
    assert places_of(plan, np.ones_like(certified)).all()
    assert not places_of(plan, np.zeros_like(certified)).any()


def test_two_stickers_are_inside_a_mask_and_a_place_is_certified_for_every_other_place():
    shape, cell, sizes = (4, 5), (2, 2), [(2, 1)]
    plan = plan_of(shape, cell, sizes, None, n_stickers=2)
    certified = np.random.default_rng(0).random((2, len(plan.masks))) < [[0.9], [0.4]]
    places = places_of(plan, certified)
    every = list(stickers(shape, sizes))
    flat = in_pixels(plan.masks, cell, shape).reshape(len(plan.masks), -1)
    for (corner, one), (_, other) in itertools.product(every, repeat=2):
        inside = flat[:, (one | other).ravel()].all(1)
        assert inside.any()
        for row in np.flatnonzero(places[:, corner[0] // 2, corner[1] // 2]):
            assert (inside & certified[row]).any()
    assert places.any()
    assert not places.all()


def test_the_masks_are_those_of_patchcleanser():
    """Sides and starts for 224 pixels as in its repository, and 6 masks along each axis."""
    masks = covering_masks((1, 224), [(1, 32)], n_masks=(1, 6))[:, 0]
    assert masks.sum(1).tolist() == [64] * 6  # ceil((224 - 32 + 1) / 6) = 33, 32 + 33 - 1
    assert masks.argmax(1).tolist() == [0, 33, 66, 99, 132, 160]


@pytest.mark.parametrize("n_stickers", [1, 2])
def test_unions_are_all_different_and_the_pairs_name_them(n_stickers):
    plan = mask_plan((3, 3), [(2, 2), (1, 3)], None, n_stickers)
    flat = plan.masks.reshape(len(plan.masks), -1)
    assert len(np.unique(plan.unions, axis=0)) == len(plan.unions) == plan.pairs.max() + 1
    for i, j in itertools.product(range(len(flat)), repeat=2):
        np.testing.assert_array_equal(plan.unions[plan.pairs[i, j]], flat[i] | flat[j])
    for union, mask in itertools.product(range(len(plan.unions)), range(len(flat))):
        assert plan.holds[union, mask] == (plan.pairs[mask] == union).any()


def test_masks_inside_others_are_left_out():
    assert len(covering_masks((8, 8), [(2, 2), (3, 3)])) == len(covering_masks((8, 8), [(3, 3)]))
    both = covering_masks((4, 4), [(1, 3), (3, 1)])
    assert len(both) == 16


def test_too_many_masks_are_refused_before_they_are_made():
    with pytest.raises(ValueError, match="set n_masks to a smaller number"):
        mask_plan((64, 64), [(2, 2)])


@pytest.mark.parametrize("size", [0, -1, 2.5, (1, 2, 3), (0, 2), "5", [], [5, 0], None, True])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(ValueError, match="sticker_size must be"):
        sticker_sizes(size)
