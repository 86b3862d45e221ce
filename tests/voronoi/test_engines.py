"""The engines agree to the last bit, whatever the tokens, the patches and the units."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_patchcert.voronoi import certificate, preparation
from sklearn_patchcert.voronoi.certificate import NORMS
from sklearn_patchcert.voronoi.engines import measure, small, walk

pytestmark = pytest.mark.usefixtures("tree_engine")
MANY = settings(max_examples=100, deadline=None, derandomize=True)


def cases(rng, n_tokens, dim, spread):
    """Tokens and patches of the kinds that are hard for a search in float32."""
    tokens = rng.normal(size=(n_tokens, dim)) * 10.0 ** rng.uniform(-spread, 0, size=dim)
    kind = rng.integers(5)
    if kind == 1:  # in a few tight groups
        tokens = tokens[rng.integers(4, size=n_tokens) % n_tokens] + 1e-7 * tokens
    elif kind == 2:  # on a grid, so that many distances are the same
        tokens = rng.integers(-2, 3, size=(n_tokens, dim)).astype(float)
    elif kind == 3:  # far from zero
        tokens = tokens + 10.0 ** rng.uniform(0, 8)
    elif kind == 4:  # nearly the same
        half = tokens[: n_tokens // 2 + 1]
        tokens = np.concatenate([half, half * (1 + 10.0 ** -rng.integers(6, 16))])[:n_tokens]
    picked = tokens[rng.integers(len(tokens), size=(40, 2))]
    width = tokens.std(0) + 1e-3 * np.abs(tokens).max()
    patches = np.concatenate(
        [
            picked[:10, 0],  # on a token
            picked[10:20].mean(1),  # on a wall
            picked[20:30, 0] + width * rng.normal(size=(10, dim)),
            picked[30:, 0] + 1e-6 * width * rng.normal(size=(10, dim)),
            10.0 ** rng.integers(2, 9) * width * rng.normal(size=(4, dim)),  # far away
        ]
    )
    return patches[:, None], tokens


def given_by(extra, rng, patches, tokens, scale):
    """Patches, and the options of a certificate with weights, padding or noise."""
    dim, dtype = patches.shape[2], patches.dtype
    options = {}
    if extra in ("weights", "noise", "much noise"):
        options["weights"] = 10.0 ** rng.uniform(-4, 4, size=(1, dim))
    if extra == "padding" and dim > 1:
        options["weights"] = np.ones((1, dim))
        options["weights"][0, rng.choice(dim, rng.integers(1, dim), replace=False)] = 0
        patches = patches * options["weights"].astype(dtype)
    if "noise" in extra:
        size = 1e-6 if extra == "noise" else 0.1
        options["noise"] = size * scale * rng.random(patches.shape[:2]) * np.abs(tokens).std()
        options["noise_growth"] = size * rng.random()
    return patches, options


@pytest.mark.parametrize("engine", ["tree", "integers", "floats"])
@MANY
@given(
    st.integers(0, 10**9),
    st.sampled_from([1, 2, 3, 17, 70, 300, 700]),
    st.sampled_from([1, 2, 3, 5, 16, 17, 48]),
    st.sampled_from(NORMS),
    st.sampled_from([1e-160, 1e-20, 1.0, 255.0, 1e20, 1e140]),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from(["none", "weights", "padding", "noise", "much noise"]),
)
def test_the_same_bits(engine, seed, n_tokens, dim, norm, scale, dtype, extra):
    rng = np.random.default_rng(seed)
    patches, tokens = cases(rng, n_tokens, dim, rng.integers(0, 6))
    with np.errstate(over="ignore", under="ignore"):
        patches, tokens = (scale * patches).astype(dtype), scale * tokens
    if not float(np.abs(patches).max()) < 1e150:
        return
    patches, options = given_by(extra, rng, patches, tokens, scale)
    wanted = certificate.certify(
        patches, tokens, norm, engine="dense", return_witness=True, **options
    )
    found = certificate.certify(
        patches, tokens, norm, engine=engine, return_witness=True, **options
    )
    for part, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(part, other)
    ids = certificate.tokenize(patches, tokens, weights=options.get("weights"), engine=engine)
    np.testing.assert_array_equal(ids, wanted[0])


@pytest.mark.parametrize("engine", ["walk", "dense", "two_pass"])
@pytest.mark.parametrize("n_tokens", [8, 600, 5000])
def test_witnesses_or_none_the_rest_is_the_same(engine, n_tokens):
    rng = np.random.default_rng(0)
    tokens, patches = rng.normal(size=(n_tokens, 16)), rng.normal(size=(50, 2, 16))
    wanted = certificate.certify(patches, tokens, engine=engine, return_witness=True)
    for asked in (False, 0, 2, "yes", np.True_):
        found = certificate.certify(patches, tokens, engine=engine, return_witness=asked)
        assert len(found) == (3 if asked else 2)
        for part, other in zip(found, wanted, strict=False):
            np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize("n_tokens", [600, 5000, 20_000])
def test_large_vocabularies(n_tokens):
    rng = np.random.default_rng(0)
    tokens = np.cumsum(rng.normal(size=(n_tokens, 16)), axis=1).astype(np.float32)
    patches = np.cumsum(rng.normal(size=(100, 1, 16)), axis=2).astype(np.float32)
    for norm in NORMS:
        wanted = certificate.certify(patches, tokens, norm, engine="dense", return_witness=True)
        found = certificate.certify(patches, tokens, norm, engine="walk", return_witness=True)
        for part, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(part, other)


def test_the_order_and_number_of_patches_change_nothing():
    rng = np.random.default_rng(0)
    tokens, patches = rng.normal(size=(700, 5)), rng.normal(size=(333, 1, 5))
    order = rng.permutation(333)
    for some in (tokens[:50], tokens):
        ids, radii = certificate.certify(patches, some, engine="walk")
        again, same = certificate.certify(patches[order], some, engine="walk")
        np.testing.assert_array_equal(again, ids[order])
        np.testing.assert_array_equal(same, radii[order])
        for n in (1, 3, 65):
            np.testing.assert_array_equal(certificate.certify(patches[:n], some)[1], radii[:n])


def test_patches_in_any_memory_layout():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(20, 4))
    patches = rng.normal(size=(50, 6, 4))
    ids, radii = certificate.certify(patches, tokens)
    for other in (np.asfortranarray(patches), patches.astype(">f8"), patches[::-1][::-1]):
        again, same = certificate.certify(other, tokens)
        np.testing.assert_array_equal(again, ids)
        np.testing.assert_array_equal(same, radii)
    whole = rng.integers(-3, 4, size=(50, 6, 4))
    np.testing.assert_array_equal(
        certificate.tokenize(whole, tokens), certificate.tokenize(whole.astype(float), tokens)
    )


def test_engines_by_name():
    patches, tokens = np.zeros((1, 1, 2)), np.eye(2)
    with pytest.raises(ValueError, match="engine must be"):
        certificate.certify(patches, tokens, engine="guess")
    with pytest.raises(ValueError, match="runs on the CPU"):
        certificate.certify(patches, tokens, engine="walk", device="cuda")


def test_many_kinds_of_positions_agree_with_each_by_itself(digits):
    # Every position has a scale of its own, which the walking engine leaves to the dense one.
    rng = np.random.default_rng(0)
    tokens, patches = rng.normal(size=(20, 4)), rng.normal(size=(30, 12, 4))
    weights = rng.uniform(0.5, 2, size=(12, 4))
    radii = certificate.certify(patches, tokens, weights=weights)[1]
    for at in range(12):
        part = slice(at, at + 1)
        one = certificate.certify(patches[:, part], tokens, weights=weights[part])[1]
        np.testing.assert_array_equal(one[:, 0], radii[:, at])


@pytest.mark.slow
def test_a_second_process_need_not_compile():
    certificate.certify(np.zeros((1, 1, 4)), np.eye(4))
    code = (
        "import numpy as np; from sklearn_patchcert import voronoi; "
        "from sklearn_patchcert.voronoi.engines import small; "
        "voronoi.certify(np.zeros((1, 1, 4)), np.eye(4)); "
        "print(*(sum(c.values()) for c in (small.search.stats.cache_hits, "
        "small.search.stats.cache_misses)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1", "0"]


def test_tokens_are_prepared_once_whatever_the_sign_of_the_patches():
    tokens = np.random.default_rng(5).normal(size=(7, 3))
    certificate.tokenize(np.ones((1, 1, 3)), tokens)
    before = preparation._prepare.cache_info().misses
    for signs in itertools.product([-1.0, 0.0, 1.0], repeat=3):
        certificate.tokenize(np.reshape(signs, (1, 1, 3)), tokens)
    assert preparation._prepare.cache_info().misses == before


def test_patches_of_more_values_than_float32_and_integers_bound_are_measured():
    tokens = np.zeros((2, walk._LARGEST_DIM + 1))
    tokens[1] = 1
    assert walk.prepare(tokens, np.ones(tokens.shape[1]), "l2", "cpu")[0] is measure.search
    length = small._STEPS * (1 + walk._LARGEST_DIM / 8 * 2.0**-24)  # which float32 rounds
    off = np.sqrt(walk._LARGEST_DIM)  # twice what rounding to integers moves
    assert (length + 0.51 * off) * (2 * small._STEPS + off / 2) < 2**31
