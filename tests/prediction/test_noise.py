"""A step before the tokenizer may err, within a bound: radii and costs leave room for it."""

import numpy as np
import pytest

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.prediction.configurations import wall_costs
from sklearn_patchcert.prediction.token_costs import TokenCosts
from sklearn_patchcert.voronoi import certificate

pytestmark = pytest.mark.usefixtures("tree_engine")
ENGINES = ["dense", "walk", "tree"]


def steepest(normal, norm):
    """Unit vectors, in the norm, that cross walls with these normals the fastest."""
    if norm == "l2":
        return normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    if norm == "linf":
        return np.sign(normal)
    first = np.abs(normal).argmax(-1)[..., None] == np.arange(normal.shape[-1])
    return np.sign(normal) * first


@pytest.fixture(scope="module", params=[(0.0, 0.0), (0.01, 0.0), (0.0, 0.1), (0.02, 0.05)])
def case(request):
    """Patches, tokens and weights, a bound of the error of each patch, and how it grows."""
    noise, growth = request.param
    rng = np.random.default_rng(0)
    patches, tokens = rng.normal(size=(60, 3, 4)), rng.normal(size=(9, 4))
    weights = rng.uniform(0.5, 2, size=(3, 4))
    return patches, tokens, weights, noise * rng.uniform(0.5, 1, size=(60, 3)), growth


def pushed(patches, weights, radii, toward, norm, noise, growth):
    """Patches moved by a norm of radii, and by all that the step before may err on top of it."""
    move = weights * radii[..., None] * steepest(weights * toward, norm)
    error = 2 * noise + growth * np.linalg.norm(move, axis=-1)
    return patches + move + error[..., None] * steepest(toward, "l2")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("norm", certificate.NORMS)
def test_no_error_within_the_bound_changes_a_token(case, engine, norm):
    patches, tokens, weights, noise, growth = case
    ids, radii, others = certificate.certify(
        patches, tokens, norm, weights=weights, noise=noise, noise_growth=growth, engine=engine,
        return_witness=True,
    )  # fmt: skip
    assert (radii > 0).mean() > 0.8
    for b in range(len(tokens)):
        toward = tokens[b] - tokens[ids] + 1e-9
        moved = pushed(patches, weights, radii * (1 - 1e-6), toward, norm, noise, growth)
        np.testing.assert_array_equal(
            certificate.tokenize(moved, tokens)[radii > 0], ids[radii > 0]
        )
    toward = tokens[others] - tokens[ids]  # and it is no more than what the bound may take
    worst = 1.05 + 20 * growth
    moved = pushed(patches, weights, radii * worst + 1e-6, toward, norm, noise, growth)
    assert (certificate.tokenize(moved, tokens) != ids).mean() > 0.95


@pytest.mark.parametrize("norm", certificate.NORMS)
@pytest.mark.parametrize("n_walls", [1, 2, 9])
def test_no_error_within_the_bound_makes_a_token_cheaper(case, norm, n_walls):
    patches, tokens, weights, noise, growth = case
    options = {"weights": weights, "noise": noise, "noise_growth": growth}
    costs = wall_costs(patches, tokens, norm, n_walls=n_walls, **options)
    ids, radii = certificate.certify(patches, tokens, norm, **options)
    dearer = costs.copy()
    np.put_along_axis(dearer, ids[..., None], np.inf, -1)
    assert (dearer.min(-1) >= radii * (1 - 1e-9) * (1 - 20 * growth)).all()
    for b in range(len(tokens)):
        for a in range(len(tokens)):
            toward = tokens[b] - tokens[a] + 1e-9
            size = costs[..., b] * (1 - 1e-6)
            moved = pushed(patches, weights, size, toward + 0 * patches, norm, noise, growth)
            reached = certificate.tokenize(moved, tokens) == b
            assert not (reached & (ids != b) & (costs[..., b] > 0)).any()
    free = wall_costs(patches, tokens, norm, weights=weights, n_walls=n_walls)
    assert (costs <= free).all()
    assert ((costs < free).any()) == bool(noise.any() or growth)


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_error_of_a_patch_is_that_of_its_pixels(per_channel):
    rng = np.random.default_rng(0)
    images, error = rng.random((5, 4, 6, 2)), rng.random((5, 4, 6, 2))
    vocabulary = PatchVocabulary(3, 2, strategy="kmeans", per_channel=per_channel, random_state=0)
    vocabulary.fit(images)
    costs = TokenCosts(images, vocabulary, {"error": error, "error_growth": 0.5}, "l2")
    blocks = np.square(error).reshape(5, 2, 2, 3, 2, 2).sum((2, 4) if per_channel else (2, 4, 5))
    np.testing.assert_allclose(costs.noise, np.sqrt(blocks).reshape(5, -1))
    free = TokenCosts(images, vocabulary, {}, "l2")
    assert free.noise is None
    assert (costs.walls() <= free.walls()).all()
    assert (costs.walls() < free.walls()).any()
