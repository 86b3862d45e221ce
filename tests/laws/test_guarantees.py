"""The laws of the certificate: sound, tight, exact, equivariant, the same in every chunk."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances_argmin

from sklearn_patchcert.voronoi import certificate
from sklearn_patchcert.voronoi.certificate import NORMS
from sklearn_patchcert.voronoi.engines import dense

EXACT = settings(max_examples=60, deadline=None, derandomize=True)
ENGINES = ["dense", "walk", "tree"]
pytestmark = pytest.mark.usefixtures("tree_engine")


def draw(seed, n=64, n_tokens=9, dim=5, scale=1.0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    patches = (scale * rng.normal(size=(n, 1, dim))).astype(dtype)
    tokens = (scale * rng.normal(size=(n_tokens, dim))).astype(dtype)
    return patches, tokens, rng


def norm_of(vector, norm):
    order = {"l2": 2, "linf": np.inf, "l1": 1}[norm]
    return np.linalg.norm(vector, order, axis=-1)


def steepest(normal, norm):
    """Unit vectors, in the norm, that cross walls with these normals the fastest."""
    if norm == "l2":
        return normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    if norm == "linf":
        return np.sign(normal)
    at = np.abs(normal).argmax(-1)[..., None]
    unit = np.zeros_like(normal)
    np.put_along_axis(unit, at, np.sign(np.take_along_axis(normal, at, -1)), -1)
    return unit


def exact_norm(vector, norm):
    """Norm of a vector of fractions; squared for L2."""
    if norm == "l2":
        return sum(v * v for v in vector)
    return max(map(abs, vector)) if norm == "linf" else sum(map(abs, vector))


def below(vector, radius, norm):
    """Whether |vector| < radius, in exact arithmetic."""
    size, radius = exact_norm([Fraction(float(v)) for v in vector], norm), Fraction(float(radius))
    return size < (radius * radius if norm == "l2" else radius)


SCALES = st.sampled_from([1e-20, 1e-3, 1.0, 255.0, 1e20])
DTYPES = st.sampled_from([np.float32, np.float64])


@pytest.mark.parametrize("engine", ENGINES)
@EXACT
@given(st.integers(0, 10**6), st.sampled_from(NORMS), SCALES, DTYPES, st.integers(1, 12))
def test_sound_no_perturbation_below_the_radius_changes_a_token(
    engine, seed, norm, scale, dtype, dim
):
    patches, tokens, rng = draw(seed, dim=dim, scale=scale, dtype=dtype)
    ids, radii = certificate.certify(patches, tokens, norm, engine=engine)
    np.testing.assert_array_equal(ids, certificate.tokenize(patches, tokens, engine=engine))
    x, own = patches[:, 0], tokens[ids[:, 0]]
    toward = [tokens[b] - own for b in range(len(tokens))]  # every wall, the nearest among them
    toward += [rng.normal(size=x.shape) for _ in range(5)]
    for normal in toward:
        moves = np.flatnonzero(np.any(normal != 0, axis=1))
        unit = steepest(normal[moves].astype(np.float64), norm)
        for part in (0.5, 0.999, 1 - 1e-6, 1 - 1e-12, 1.0):
            moved = (x[moves] + part * radii[moves] * unit).astype(dtype)
            after = certificate.tokenize(moved[:, None], tokens, engine=engine)[:, 0]
            for at in np.flatnonzero(after != ids[moves, 0]):
                # Rounding the moved patch may have carried it past the radius: ask exactly.
                change = [
                    Fraction(float(a)) - Fraction(float(b))
                    for a, b in zip(moved[at], x[moves[at]], strict=True)
                ]
                limit = Fraction(float(radii[moves[at], 0]))
                size = exact_norm(change, norm)
                assert size >= (limit * limit if norm == "l2" else limit), (part, size)


@pytest.mark.parametrize("engine", ENGINES)
@EXACT
@given(st.integers(0, 10**6), st.sampled_from(NORMS), SCALES, st.integers(1, 12))
def test_tight_just_past_the_radius_the_token_changes(engine, seed, norm, scale, dim):
    patches, tokens, _ = draw(seed, dim=dim, scale=scale)
    ids, radii = certificate.certify(patches, tokens, norm, engine=engine)
    x, own = patches[:, 0], ids[:, 0]
    walls = np.array(
        [
            [certificate.wall_distance(p, tokens[a], t, norm) if i != a else np.inf
             for i, t in enumerate(tokens)]
            for p, a in zip(x, own, strict=True)
        ]
    )  # fmt: skip
    unit = steepest(tokens[walls.argmin(1)] - tokens[own], norm)
    moved = x + (1 + 1e-3) * radii * unit + 1e-9 * scale * unit
    assert (certificate.tokenize(moved[:, None], tokens, engine=engine)[:, 0] != own).all()


@pytest.mark.parametrize("engine", ENGINES)
@EXACT
@given(st.integers(0, 10**6), st.sampled_from(NORMS), SCALES, DTYPES)
def test_radius_is_below_the_rational_truth_and_next_to_it(engine, seed, norm, scale, dtype):
    patches, tokens, _ = draw(seed, n=6, n_tokens=5, dim=4, scale=scale, dtype=dtype)
    ids, radii = certificate.certify(patches, tokens, norm, engine=engine)
    exact = [[Fraction(float(v)) for v in token] for token in tokens]
    for patch, own, radius in zip(patches[:, 0], ids[:, 0], radii[:, 0], strict=True):
        x = [Fraction(float(v)) for v in patch]
        squares = [sum((p - q) ** 2 for p, q in zip(x, b, strict=True)) for b in exact]
        assert squares[own] == min(squares)
        for b, square in zip(exact, squares, strict=True):
            if b == exact[own]:
                continue
            difference = [p - q for p, q in zip(exact[own], b, strict=True)]
            size = exact_norm(difference, {"l2": "l2", "linf": "l1", "l1": "linf"}[norm])
            gap, r = square - squares[own], Fraction(float(radius))
            # r <= gap / (2 |a - b|_*), squared where the norm is a root
            assert (2 * r) ** 2 * size <= gap**2 if norm == "l2" else 2 * r * size <= gap
        assert radius == pytest.approx(certificate.patch_radius(patch, tokens, norm)[1], rel=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
@EXACT
@given(st.integers(0, 10**6), st.sampled_from(NORMS))
def test_equal_to_the_double_loop_and_to_scikit_learn(engine, seed, norm):
    patches, tokens, _ = draw(seed)
    ids, radii = certificate.certify(patches, tokens, norm, engine=engine)
    loop = certificate.image_radii(patches, tokens, norm)
    np.testing.assert_allclose(radii, loop, rtol=1e-9, atol=1e-12)  # near a tie it is rounding
    assert (radii <= loop * (1 + 1e-15)).all()
    np.testing.assert_array_equal(ids[:, 0], pairwise_distances_argmin(patches[:, 0], tokens))


@pytest.mark.parametrize("engine", ENGINES)
@EXACT
@given(st.integers(0, 10**6), st.sampled_from(NORMS))
def test_permuting_tokens_permutes_ids_and_keeps_radii(engine, seed, norm):
    patches, tokens, rng = draw(seed)
    order = rng.permutation(len(tokens))
    ids, radii = certificate.certify(patches, tokens, norm, engine=engine)
    shuffled, same = certificate.certify(patches, tokens[order], norm, engine=engine)
    np.testing.assert_array_equal(order[shuffled], ids)
    np.testing.assert_array_equal(same, radii)


@pytest.mark.parametrize("engine", ENGINES)
@EXACT
@given(st.integers(0, 10**6), st.sampled_from(NORMS), st.floats(1e-3, 1e3))
def test_scaling_patches_and_tokens_scales_radii(engine, seed, norm, factor):
    patches, tokens, _ = draw(seed)
    ids, radii = certificate.certify(patches, tokens, norm, engine=engine)
    same, scaled = certificate.certify(factor * patches, factor * tokens, norm, engine=engine)
    np.testing.assert_array_equal(same, ids)
    np.testing.assert_allclose(scaled, factor * radii, rtol=1e-9, atol=1e-12 * factor)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("norm", NORMS)
def test_ties_duplicates_and_a_single_token(engine, norm):
    tokens = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    ids, radii = certificate.certify(
        np.array([[[1.0, 7.0]], [[2.0, 0.0]]]), tokens, norm, engine=engine
    )
    np.testing.assert_array_equal(ids, [[0], [1]])  # the first of equals
    assert radii[0, 0] == 0  # on the wall
    assert radii[1, 0] == pytest.approx(1.0)  # the copy of a token is no wall
    ids, radii = certificate.certify(np.zeros((3, 2, 2)), tokens[:1], norm, engine=engine)
    assert (ids == 0).all()
    assert np.isinf(radii).all()


@pytest.mark.parametrize("engine", ENGINES)
@EXACT
@given(st.integers(0, 10**6), st.sampled_from(NORMS), st.sampled_from([1e-6, 1e-9, 1e-14, 3e-16]))
def test_tokens_that_nearly_coincide(engine, seed, norm, apart):
    patches, tokens, rng = draw(seed, n=20, n_tokens=4)
    tokens = np.concatenate([tokens, tokens * (1 + apart), tokens + apart])
    ids, radii = certificate.certify(patches, tokens, norm, engine=engine)
    assert np.isfinite(radii).all()
    for _ in range(20):
        unit = rng.normal(size=patches.shape)
        unit /= norm_of(unit, norm)[..., None]
        moved = patches + unit * radii[..., None] * 0.999
        certain = radii > 1e-12  # below, rounding of the move itself outweighs it
        after = certificate.tokenize(moved, tokens, engine=engine)
        np.testing.assert_array_equal(after[certain], ids[certain])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("norm", NORMS)
def test_chunks_and_order_change_nothing(engine, norm, monkeypatch):
    patches, tokens, rng = draw(0, n=300)
    ids, radii = certificate.certify(patches, tokens, norm, engine=engine)
    for size in (1, 17, 10**6):
        monkeypatch.setattr(dense, "_CHUNK_ELEMENTS", size)
        again, same = certificate.certify(patches, tokens, norm, engine=engine)
        np.testing.assert_array_equal(again, ids)
        np.testing.assert_array_equal(same, radii)
    order = rng.permutation(len(patches))
    np.testing.assert_array_equal(
        certificate.certify(patches[order], tokens, norm, engine=engine)[1], radii[order]
    )


@pytest.mark.parametrize("engine", ENGINES)
@EXACT
@given(st.integers(0, 10**6), st.sampled_from(NORMS))
def test_padding_is_out_of_reach(engine, seed, norm):
    patches, tokens, rng = draw(seed, dim=6)
    tokens[3] = tokens[2]
    tokens[3, 4:] += 1.0  # differs from token 2 in the padding alone
    tokens[4, :4] = tokens[2, :4] + 1e-3
    patches[:, :, 4:] = 0.0
    weights = np.array([[1.0, 1, 1, 1, 0, 0]])
    ids, radii = certificate.certify(patches, tokens, norm, weights=weights, engine=engine)
    np.testing.assert_array_equal(ids[:, 0], pairwise_distances_argmin(patches[:, 0], tokens))
    # The wall of two tokens that the attacker cannot tell apart is no wall.
    assert not ({2, 3} <= set(ids.ravel()))
    for _ in range(20):
        unit = rng.normal(size=(len(patches), 1, 6)) * weights
        unit /= norm_of(unit, norm)[..., None]
        moved = patches + unit * radii[..., None] * (1 - 1e-6)
        np.testing.assert_array_equal(
            certificate.tokenize(moved, tokens, weights=weights, engine=engine), ids
        )


@pytest.mark.parametrize("engine", ENGINES)
def test_the_sign_of_a_weight_does_not_matter(engine):
    patches, tokens, rng = draw(3)
    patches[..., 4] = 0
    weights = np.array([[2.0, 1, 0.5, 3, 0]])
    found = certificate.certify(patches, tokens, weights=weights, engine=engine)
    signs = rng.choice([-1.0, 1.0], size=weights.shape)
    for one, other in zip(
        found,
        certificate.certify(patches, tokens, weights=signs * weights, engine=engine),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1.0, 1e8, 1e30, 1e149])
def test_an_infinite_radius_is_infinite(engine, size):
    tokens = np.array([[0.5, 3.0], [0.5, -1.0]])  # apart in the padding only
    weights = np.array([[1.0, 0.0]])
    patches = np.array([[[size, 0.0]], [[-size, 0.0]]])
    ids, radii = certificate.certify(patches, tokens, weights=weights, engine=engine)
    np.testing.assert_array_equal(ids, 1)
    assert np.isinf(radii).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_values_that_have_no_square_are_refused(engine, bad):
    patches, tokens, _ = draw(0)
    broken = patches.copy()
    broken[3, 0, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        certificate.certify(broken, tokens, engine=engine)
    with pytest.raises(ValueError, match="finite"):
        certificate.tokenize(patches, np.vstack([tokens, np.full(5, bad)]), engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_unknown_norm(engine):
    patches, tokens, _ = draw(0)
    with pytest.raises(ValueError, match="norm must be one of"):
        certificate.certify(patches, tokens, "l3", engine=engine)
