"""Steps into cells: shortest, bounded from below by walls, exact for single pixels."""

import numpy as np
import pytest

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.prediction import configurations
from sklearn_patchcert.prediction.token_costs import TokenCosts
from sklearn_patchcert.voronoi import certificate, projections


def test_steps_into_cells_are_shortest():
    rng = np.random.default_rng(0)
    tokens, x = rng.normal(size=(7, 3)), rng.normal(size=(30, 3))
    weights = rng.uniform(0.5, 2, size=(30, 3))
    targets = rng.integers(7, size=30)
    steps, lower = projections.steps_into_cells(x, tokens, targets, weights=weights, sweeps=5000)
    size = np.linalg.norm(steps, axis=1)
    np.testing.assert_allclose(lower, size, atol=1e-5)
    reached = x + weights * steps
    squares = ((reached[:, None] - tokens) ** 2).sum(-1)
    gap = squares[np.arange(30), targets] - squares.min(1)
    assert gap.max() < 1e-6
    for _ in range(3000):  # nothing in a cell is nearer
        trial = steps + rng.normal(size=steps.shape) * rng.choice([1e-3, 0.1, 1.0])
        at = x + weights * trial
        inside = certificate.tokenize(at[:, None], tokens)[:, 0] == targets
        assert (np.linalg.norm(trial, axis=1)[inside] >= lower[inside] - 1e-9).all()
    rough = projections.steps_into_cells(x, tokens, targets, weights=weights, sweeps=2)[1]
    assert (rough <= size + 1e-9).all()  # a lower bound however early it stops


def test_costs_of_cells_are_at_least_those_of_walls():
    rng = np.random.default_rng(0)
    tokens, patches = rng.normal(size=(6, 4)), rng.normal(size=(5, 3, 4))
    walls, exact = (projections.cell_costs(patches, tokens, exact=e) for e in (False, True))
    ids, radii = certificate.certify(patches, tokens)
    assert (exact >= walls).all()
    assert (np.take_along_axis(exact, ids[..., None], -1) == 0).all()
    nearest = np.where(walls == 0, np.inf, walls).min(-1)
    np.testing.assert_allclose(nearest, radii)
    np.testing.assert_allclose(np.where(exact == 0, np.inf, exact).min(-1), radii, rtol=1e-6)


def test_costs_of_single_pixels_are_exact_without_projections():
    rng = np.random.default_rng(0)
    tokens, patches = rng.normal(size=(150, 1)), rng.normal(size=(4, 3, 1))
    weights = np.array([[1.0], [2.0], [0.5]])
    costs = projections.cell_costs(patches, tokens, weights=weights, exact=False)
    order = np.sort(tokens[:, 0])
    between = np.r_[-np.inf, (order[1:] + order[:-1]) / 2, np.inf]
    rank = tokens[:, 0].argsort().argsort()
    outside = np.maximum(between[rank] - patches, patches - between[rank + 1]).clip(0)
    np.testing.assert_allclose(costs, outside / weights, atol=1e-12)


def test_the_farthest_wall_is_nearer_to_the_cost_than_the_one_to_the_own_token():
    rng = np.random.default_rng(0)
    tokens, patches = rng.normal(size=(200, 4)), rng.normal(size=(3, 2, 4))
    costs, exact = (projections.cell_costs(patches, tokens, exact=e) for e in (False, True))
    single = configurations.wall_costs(patches, tokens)
    assert (single <= costs + 1e-12).all()
    assert (costs <= exact + 1e-12).all()
    assert (exact - costs).mean() < (exact - single).mean() / 2
    limited = projections.cell_costs(patches, tokens, exact=False, limit=1.0)
    np.testing.assert_array_equal(limited, np.where(costs <= 1.0, costs, np.inf))


def test_costs_are_projections_only_where_they_are_asked_for(monkeypatch):
    """In one dimension the walls to the neighbors are the cell: there is nothing to project."""
    rng = np.random.default_rng(0)

    def refuse(*args, **options):
        raise AssertionError("projects")

    asked = {}
    for dim in (1, 3):
        tokens, patches = rng.normal(size=(150, dim)), rng.normal(size=(2, 3, dim))
        asked[dim] = [projections.cell_costs(patches, tokens, exact=e) for e in (False, True)]
        with monkeypatch.context() as patch:
            patch.setattr(projections, "steps_into_cells", refuse)
            again = projections.cell_costs(patches, tokens, exact=False)
            np.testing.assert_array_equal(again, asked[dim][0])
            if dim == 1:
                again = projections.cell_costs(patches, tokens, exact=True)
                np.testing.assert_array_equal(again, asked[dim][0])
    assert (asked[3][1] > asked[3][0] * (1 + 1e-3)).any()
    np.testing.assert_array_equal(*asked[1])


@pytest.mark.parametrize("scale", [1.0, 3.0, -3.0])
def test_moved_images_have_the_tokens_asked_for_in_the_units_of_the_user(scale):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, 4, 6))
    vocabulary = PatchVocabulary(3, 2, strategy="kmeans", random_state=0).fit(scale * X)
    costs = TokenCosts(scale * X[..., None], vocabulary, {"scale": scale}, "l2")
    for row in range(5):
        ids = rng.integers(3, size=costs.own[row].shape)
        moved = costs.moved(X[row : row + 1], row, ids)
        np.testing.assert_array_equal(vocabulary.tokenize(scale * moved).ravel(), ids)
        length = np.linalg.norm(moved - X[row])
        assert length == pytest.approx(costs.cell(row, ids), rel=1e-3)
