"""The engine for devices, run on the CPU: the bits of the walk, within its bounds and memory."""

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engines import cases, given_by
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sklearn_patchcert import PatchVocabulary, _validation
from sklearn_patchcert.vocabulary import tokenizer
from sklearn_patchcert.voronoi import certificate, preparation
from sklearn_patchcert.voronoi.certificate import NORMS
from sklearn_patchcert.voronoi.engines import devices, shortlist, two_pass

MANY = settings(max_examples=50, deadline=None, derandomize=True)


def assert_same(found, wanted):
    for part, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(part, other)


def clustered(seed, n_tokens, dim, n=300):
    """Patches and tokens in groups, as those of images are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(8, dim))
    tokens = centres[rng.integers(8, size=n_tokens)] + 0.1 * rng.normal(size=(n_tokens, dim))
    patches = centres[rng.integers(8, size=n)] + 0.2 * rng.normal(size=(n, dim))
    return patches, tokens


@MANY
@given(
    st.integers(0, 10**9),
    st.integers(1, 300),
    st.integers(1, 64),
    st.sampled_from(NORMS),
    st.sampled_from([1e-20, 1e-3, 1.0, 255.0, 1e20]),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from(["none", "weights", "padding", "noise", "much noise"]),
    st.sampled_from([3 * 10**5, 10**8]),
)
def test_the_bits_of_the_walk(seed, n_tokens, dim, norm, scale, dtype, extra, memory):
    rng = np.random.default_rng(seed)
    patches, tokens = cases(rng, n_tokens, dim, rng.integers(0, 6))
    patches, tokens = (scale * patches).astype(dtype), scale * tokens
    patches, options = given_by(extra, rng, patches, tokens, scale)
    wanted = certificate.certify(
        patches, tokens, norm, engine="walk", return_witness=True, **options
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_pass, "CPU_MEMORY", memory)  # some patches at a time, or all
        preparation._prepare.cache_clear()
        found = certificate.certify(
            patches, tokens, norm, engine="two_pass", return_witness=True, **options
        )
        ids = certificate.tokenize(
            patches, tokens, weights=options.get("weights"), engine="two_pass"
        )
    preparation._prepare.cache_clear()
    assert_same(found, wanted)
    np.testing.assert_array_equal(ids, wanted[0])


def test_chunks_change_nothing():
    patches, tokens = clustered(0, 100, 7, n=50)
    wanted = certificate.certify(patches[:, None], tokens, engine="walk", return_witness=True)
    for memory in (1, 50_000, 300_000, 10**9):
        prepared = two_pass.prepare(tokens, np.ones(7), "l2", "cpu", memory=memory)
        assert (two_pass.chunk_size(prepared) == 1) == (memory == 1)
        assert_same(two_pass.certify(patches, prepared), [part[:, 0] for part in wanted])
        assert_same(two_pass.certify(patches[::-1], prepared), [part[::-1, 0] for part in wanted])
        fixed = np.asfortranarray(patches)
        fixed.flags.writeable = False
        assert_same(two_pass.certify(fixed, prepared), [part[:, 0] for part in wanted])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("table", [0, 10**9])
def test_with_and_without_a_table_of_all_pairs(norm, table, monkeypatch):
    patches, tokens = clustered(0, 700, 16)
    wanted = certificate.certify(patches[:, None], tokens, norm, return_witness=True)
    monkeypatch.setattr(shortlist, "_PAIRS", table)
    monkeypatch.setattr(two_pass, "_TABLE", table)
    prepared = two_pass.prepare(tokens, np.ones(16), norm, "cpu")
    assert (prepared.tables.each is None) == (prepared.between is None) == (table == 0)
    found = two_pass.certify(patches, prepared)
    assert_same(found, [part[:, 0] for part in wanted])


def test_shortlists_are_short():
    for n_tokens, dim in ((64, 16), (512, 48), (2000, 16)):
        patches, tokens = clustered(1, n_tokens, dim, n=1000)
        tally = {}
        prepared = two_pass.prepare(tokens, np.ones(dim), "l2", "cpu")
        two_pass.search(patches, prepared, tally=tally)
        assert tally["measured"] < 20
        assert tally["undecided"] < 20
        assert tally["listed"] < 10_000


@pytest.mark.parametrize("kind", ["far", "nearly the same", "huge", "one place"])
def test_what_float32_cannot_bound_is_measured_against_every_token(kind):
    patches, tokens = clustered(2, 100, 5)
    patches, tokens = {
        "far": (1e9 * patches, tokens),
        "nearly the same": (patches, 1 + 1e-9 * tokens),
        "huge": (1e140 * patches, tokens),
        "one place": (0 * patches, tokens / np.linalg.norm(tokens, axis=1, keepdims=True)),
    }[kind]
    tally = {}
    prepared = two_pass.prepare(tokens, np.ones(5), "l2", "cpu")
    found = two_pass.search(patches, prepared, tally=tally)
    if prepared.tables is not None:
        assert tally["measured"] == len(patches)
    wanted = certificate.certify(patches[:, None], tokens, engine="walk", return_witness=True)
    assert_same(found, [part[:, 0] for part in wanted])


@pytest.mark.parametrize("dim", [1, 3, 16, 64])
def test_scores_are_within_their_bound(dim):
    patches, tokens = clustered(dim, 200, dim)
    tokens[0] = patches[0]
    for size in (1.0, 30.0, 1e4):
        prepared = two_pass.prepare(tokens, np.ones(dim), "l2", "cpu")
        tables = prepared.tables
        points = torch.from_numpy(np.ascontiguousarray(size * patches.T))
        scores = shortlist.Scores(points, tables)
        x, b = ((v - tables.centre) * tables.scale for v in (points, prepared.columns))
        exact = b.square().sum(0) / 2 - x.T @ b
        there = tables.names < len(tokens)
        error = (scores.values - exact).abs()[:, there].amax(1)
        assert (error <= scores.error).all()
        assert (error > scores.error / 1000).any()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_sizes_in_the_tables_are_not_below_the_true_ones(norm, scale):
    rng = np.random.default_rng(0)
    tokens, weights = scale * rng.normal(size=(70, 5)), 10.0 ** rng.uniform(-4, 4, size=5)
    prepared = two_pass.prepare(tokens, weights, norm, "cpu")
    tables = prepared.tables
    there = tables.names < len(tokens)
    true = prepared.between * (tables.scale * tables.weight_scale)
    each = tables.each.flatten(1).double()
    assert (each >= true)[there][:, there].all()
    assert (each <= true * (1 + 1e-5) + 1e-5)[there][:, there].all()
    assert (tables.sizes == tables.each.amax(2)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_noise_moves_walls_in_front_of_nearer_ones(norm):
    rng = np.random.default_rng(0)
    tokens, patches = rng.normal(size=(60, 2)), rng.normal(size=(3000, 1, 2))
    options = {
        "weights": np.array([[1.0, 30.0]]),
        "noise": np.full((3000, 1), 0.02),
        "noise_growth": 1e-3,
        "return_witness": True,
    }
    plain = certificate.certify(
        patches, tokens, norm, weights=options["weights"], return_witness=True
    )
    wanted = certificate.certify(patches, tokens, norm, engine="walk", **options)
    assert (plain[2] != wanted[2])[wanted[1] > 0].any()
    assert_same(certificate.certify(patches, tokens, norm, engine="two_pass", **options), wanted)


class Peak(TorchDispatchMode):
    """The most bytes that tensors made inside of the block held at once, besides the given."""

    def __init__(self, given):
        super().__init__()
        given = [v for v in tree_leaves(given) if isinstance(v, torch.Tensor)]
        self.live = {tensor.untyped_storage().data_ptr(): [1, 0] for tensor in given}
        self.now = self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **kwargs or {})
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key, size = storage.data_ptr(), storage.nbytes()
                if key not in self.live:
                    self.live[key] = [0, size]
                    self.now += size
                    self.most = max(self.most, self.now)
                self.live[key][0] += 1
                weakref.finalize(tensor, self._gone, key)
        return out

    def _gone(self, key):
        self.live[key][0] -= 1
        if not self.live[key][0]:
            self.now -= self.live.pop(key)[1]


@pytest.mark.parametrize(("n_tokens", "dim"), [(8, 3), (64, 16), (500, 48), (3000, 16)])
@pytest.mark.parametrize("spread", [0.2, 3.0])
def test_a_chunk_keeps_to_its_memory(n_tokens, dim, spread):
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(n_tokens, dim))
    patches = tokens[rng.integers(n_tokens, size=20_000)] + spread * rng.normal(size=(20_000, dim))
    prepared = two_pass.prepare(tokens, np.ones(dim), "l2", "cpu", memory=2**24)
    size = two_pass.chunk_size(prepared)
    with Peak(tuple(prepared)) as peak:
        two_pass.certify(patches[:size], prepared)
    assert peak.most <= 2**24
    assert peak.most > 2**20


def test_products_with_fewer_digits_are_refused(monkeypatch):
    real = torch.matmul
    monkeypatch.setattr(torch, "matmul", lambda a, b: real(a.bfloat16(), b.bfloat16()).float())
    with pytest.raises(ValueError, match="fewer digits than float32"):
        two_pass.prepare(np.eye(3), np.ones(3), "l2", "cpu")


# --- where


def test_a_device_without_float64_is_refused_with_the_reason(digits, monkeypatch):
    monkeypatch.setattr(devices, "has_float64", lambda device: False)
    patches, tokens = np.zeros((1, 1, 2)), np.eye(2)
    for call in (certificate.certify, certificate.tokenize):
        for device in ("mps", torch.device("mps")):
            with pytest.raises(ValueError, match="device='mps' has no float64"):
                call(patches, tokens, device=device)
        call(patches, tokens, device="auto")
        call(patches, tokens, device="cpu")
    vocabulary = PatchVocabulary(4, 4, strategy="kmeans", random_state=0).fit(digits[0][:20])
    monkeypatch.setattr(_validation, "check_device", lambda device: torch.device("mps"))
    vocabulary.certify(digits[0][:2])
    with pytest.raises(ValueError, match="no float64"):
        vocabulary.set_params(device="mps").certify(digits[0][:2])
    assert tokenizer.search_device("auto") == "auto"


def test_no_float64_is_found_where_it_is_refused(monkeypatch):
    refusals = [
        TypeError("Cannot convert a MPS Tensor to float64 dtype"),
        RuntimeError("Required aspect fp64 is not supported on the device"),
        RuntimeError("CUDA out of memory"),
    ]

    def refused(*args, **options):
        raise refusals[0]

    assert devices.has_float64.__wrapped__("cpu")
    monkeypatch.setattr(torch, "ones", refused)
    for _ in range(2):
        assert not devices.has_float64.__wrapped__("mps")
        refusals.pop(0)
    with pytest.raises(RuntimeError, match="out of memory"):
        devices.has_float64.__wrapped__("cuda")


@pytest.mark.parametrize("strategy", ["kmeans", "denoised"])
def test_auto_computes_certificates_on_the_cpu_while_no_gpu_was_measured(
    digits, strategy, monkeypatch
):
    X = digits[0][:30]
    options = {"denoiser": lambda images: images} if strategy == "denoised" else {}
    vocabulary = PatchVocabulary(4, 4, strategy=strategy, random_state=0, **options)
    wanted = vocabulary.fit(X).certify(X)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert _validation.check_device("auto").type == "cuda"  # training goes there
    np.testing.assert_array_equal(vocabulary.fit(X).certify(X), wanted)


def test_auto_takes_a_gpu_from_some_size_on_once_there_is_a_rule(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices, "has_float64", lambda device: True)
    assert devices.resolved("auto", 10**9, 100, 10**5) == "cpu"
    monkeypatch.setattr(devices, "LEAST_WORK", 10**9)
    assert devices.resolved("auto", 10**5, 16, 4096) == "cuda"
    assert devices.resolved("auto", 10**3, 16, 512) == "cpu"
    monkeypatch.setattr(devices, "has_float64", lambda device: False)
    assert devices.resolved("auto", 10**5, 16, 4096) == "cpu"


def test_other_devices_take_two_passes(monkeypatch):
    monkeypatch.setattr(devices, "has_float64", lambda device: True)
    for device in ("cuda", torch.device("cuda:1")):
        assert preparation._engine_name("auto", device, 1) == "two_pass"
        assert preparation._engine_name("dense", device, 1) == "dense"
    assert preparation._engine_name("auto", "cpu", 1) == "walk"
