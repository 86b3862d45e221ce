"""K-means and exemplars of many patches: chunks, threads, memory, seeds in rounds, halves."""

import tracemalloc

import numpy as np
import pytest
import torch
from tqdm.auto import tqdm

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.vocabulary import exemplars, kmeans
from sklearn_patchcert.vocabulary.clustering import assignment, distinct, seeding
from sklearn_patchcert.vocabulary.exemplars import exemplar_tokens
from sklearn_patchcert.vocabulary.kmeans import kmeans_tokens
from sklearn_patchcert.voronoi import tokenize
from sklearn_patchcert.voronoi.engines import walk


@pytest.fixture
def patches():
    """Clusters of 4 values, some of them twice, as float32."""
    random = np.random.default_rng(0)
    made = random.normal(size=(60, 4))[random.integers(60, size=5000)]
    made += random.normal(0, 0.2, made.shape)
    return np.concatenate([made, made[:500]]).astype(np.float32)


def seeded():
    return torch.Generator().manual_seed(0)


def plain_kmeans(patches, n_tokens, steps):
    """Lloyd's algorithm as one writes it down, with all patches at once."""
    data, weights = distinct.distinct_patches(patches, np.ones(len(patches)))
    centre = data.mean(0)
    data = data - centre
    tokens = seeding.seeds(data, weights, n_tokens, generator=seeded())
    for _ in range(steps):
        ids = tokenize(data[:, None], tokens)[:, 0]
        errors = weights * np.square(data - tokens[ids]).sum(1)
        mass = np.bincount(ids, weights, n_tokens)
        sums = [np.bincount(ids, column * weights, n_tokens) for column in data.T]
        tokens = (np.stack(sums, axis=1) / np.maximum(mass, 1e-300)[:, None]).astype(data.dtype)
        empty = np.flatnonzero(mass == 0)
        tokens[empty] = data[np.argsort(-errors, kind="stable")[: len(empty)]]
    return tokens + centre


def plain_net(candidates, n_tokens, distance, start):
    """The first patch that no token is too near to becomes a token, and so on."""
    tokens, n = np.concatenate([start, candidates]).astype(float), len(start)
    for patch in candidates.astype(float):
        squares = np.square(patch - tokens[:n]).sum(1)
        if not (squares < distance**2 if distance else squares == 0).any():
            if n == n_tokens:
                return tokens[:n], False
            tokens[n], n = patch, n + 1
    return tokens[:n], True


# --------------------------------------------------------------------------- k-means


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("chunk", [100, 10**6])
def test_kmeans_is_the_plain_algorithm_to_the_bit(patches, monkeypatch, chunk, n_jobs):
    monkeypatch.setattr(assignment, "_VALUES_AT_ONCE", chunk)
    monkeypatch.setattr(distinct, "_VALUES_AT_ONCE", chunk)
    tokens, history = kmeans_tokens(
        patches, 40, max_iter=6, tol=-np.inf, generator=seeded(), n_jobs=n_jobs
    )
    np.testing.assert_array_equal(tokens, plain_kmeans(patches, 40, 6))
    assert len(history) == 6


def test_tokens_without_patches_move_to_the_worst_served(patches):
    data, errors = patches[:50].copy(), np.empty(50)
    tokens = np.concatenate([data[:3], np.full((2, 4), 1e3, np.float32)])
    means = kmeans._step(data, np.ones(50), tokens, errors, tqdm(disable=True), {})
    np.testing.assert_array_equal(means[3:], data[np.argsort(-errors, kind="stable")[:2]])
    ties = np.array([1.0, 3.0, 2.0, 3.0, 2.0, 2.0])
    np.testing.assert_array_equal(kmeans._largest(ties, 3), [1, 3, 2])


@pytest.mark.parametrize("hashed", [True, False])
def test_distinct_patches_are_those_of_numpy(patches, monkeypatch, hashed):
    rows = np.concatenate([patches[:300].round(0), [[0.0] * 4, [-0.0] * 4]]).astype(np.float32)
    counts = np.arange(len(rows)) + 1.0
    if not hashed:  # all hashes are alike
        monkeypatch.setattr(distinct, "_hashes", lambda rows: np.zeros(len(rows), np.uint64))
    found, sums = distinct.distinct_patches(rows, counts)
    expected, inverse = np.unique(rows, axis=0, return_inverse=True)
    order = np.lexsort(found.T[::-1])
    np.testing.assert_array_equal(found[order], expected)
    np.testing.assert_array_equal(sums[order], np.bincount(inverse.ravel(), counts))


def test_seeds_in_rounds_are_distinct_and_as_good(patches, monkeypatch):
    errors = {}
    for one_by_one in (16, 400):
        monkeypatch.setattr(seeding, "_ONE_BY_ONE", one_by_one)
        data, weights = distinct.distinct_patches(patches, np.ones(len(patches)))
        drawn = seeding.seeds(data, weights, 400, generator=seeded())
        assert len(np.unique(drawn, axis=0)) == 400
        np.testing.assert_array_equal(drawn, seeding.seeds(data, weights, 400, generator=seeded()))
        tokens, _ = kmeans_tokens(patches, 400, max_iter=10, generator=seeded())
        errors[one_by_one] = assignment.count_and_error(patches, tokens)[1]
    assert errors[16] < 1.03 * errors[400]


def test_many_seeds_are_not_drawn_one_by_one(monkeypatch):
    data = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    drawn, rand = [], torch.rand
    monkeypatch.setattr(torch, "rand", lambda n, **options: drawn.append(n) or rand(n, **options))
    kmeans_tokens(data, 4096, max_iter=1, generator=seeded())
    assert drawn[0] <= 1024
    assert len(drawn) <= 3


def test_seeds_in_rounds_of_patches_that_are_nearly_alike(monkeypatch):
    """Squares that vanish in float32 leave nothing to draw by."""
    monkeypatch.setattr(seeding, "_ONE_BY_ONE", 4)
    data = (np.arange(1, 65, dtype=np.float32) * np.float32(1e-30))[:, None]
    assert len(np.unique(seeding.seeds(data, np.ones(64), 60, generator=seeded()))) == 60


def test_kmeans_needs_one_copy_of_the_patches(tmp_path):
    random = np.random.default_rng(0)
    np.save(tmp_path / "patches.npy", random.normal(size=(60_000, 48)).astype(np.float32))
    mapped = np.load(tmp_path / "patches.npy", mmap_mode="r")
    kmeans_tokens(mapped[:100], 8, generator=seeded())  # compiles
    tracemalloc.start()
    kmeans_tokens(mapped, 8, max_iter=2, generator=seeded())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * mapped.nbytes + 40 * len(mapped) + 12 * 2**20


# --------------------------------------------------------------------------- all strategies


STRATEGIES: dict = {"kmeans": {}, "denoised": {"denoiser": np.copy}}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_search_is_so_long_that_an_interrupt_would_wait(monkeypatch, strategy):
    """Compiled code hears no Ctrl-C: it is given few patches at a time."""
    sizes, search = [], walk.tokenize

    def watched(patches, tables):
        sizes.append(patches.size)
        return search(patches, tables)

    monkeypatch.setattr(walk, "tokenize", watched)
    monkeypatch.setattr(assignment, "_VALUES_AT_ONCE", 2000, raising=False)
    X = np.random.default_rng(0).normal(size=(150, 16, 16)).astype(np.float32)
    options = {"max_iter": 1, "random_state": 0, "device": "cpu", **STRATEGIES[strategy]}
    vocabulary = PatchVocabulary(20, 4, strategy=strategy, **options)
    vocabulary.fit(X).partial_fit(X)
    assert sum(sizes) >= 2 * X.size
    assert max(sizes) <= 2000


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fits_do_not_depend_on_threads(strategy):
    X = np.random.default_rng(0).normal(size=(100, 16, 16)).astype(np.float32)
    options = {"strategy": strategy, "random_state": 0, **STRATEGIES[strategy]}
    one, two = (PatchVocabulary(30, 4, n_jobs=n, **options).fit(X) for n in (None, 2))
    np.testing.assert_array_equal(one.vocabulary_, two.vocabulary_)
    np.testing.assert_array_equal(one.token_counts_, two.token_counts_)
    assert one.history_ == two.history_


def test_the_bar_of_kmeans_moves_within_a_step(monkeypatch, patches):
    moved = []
    monkeypatch.setattr(tqdm, "update", lambda bar, n=1: moved.append(n))
    monkeypatch.setattr(assignment, "_VALUES_AT_ONCE", 4000, raising=False)
    kmeans_tokens(patches, 10, max_iter=1, generator=seeded())
    assert max(moved) <= 1000
    assert sum(moved) == 10 + 5000  # seeds, and patches that are distinct


# --------------------------------------------------------------------------- exemplars


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("distance", "most"), [(0.0, 500), (1.0, 500), (3.0, 500), (3.0, 40)])
@pytest.mark.parametrize("known", [0, 30])
def test_exemplars_are_those_of_the_plain_loop(monkeypatch, patches, distance, most, known, whole):
    monkeypatch.setattr(exemplars, "_FEW", 16)
    candidates = distinct.distinct_patches(patches[:400], np.ones(400))[0]
    if whole:  # exact ties
        candidates = np.unique((4 * candidates).round(), axis=0)[::-1]
    else:
        distance /= 4
    start = candidates[7 : 7 + known]
    net, complete = exemplars._net(candidates, most, distance, start, {})
    plain, covered = plain_net(candidates, most, distance, start)
    np.testing.assert_array_equal(net, plain)
    assert complete == covered or not complete  # a net that is full may cover all by chance
    assert complete or len(net) == most


def test_few_exemplars_are_compared_one_by_one(monkeypatch):
    sizes, greedy = [], exemplars._greedy

    def watched(*arguments):
        sizes.append(min(len(a) for a in arguments[:2] if hasattr(a, "__len__")))
        return greedy(*arguments)

    monkeypatch.setattr(exemplars, "_greedy", watched)
    data = np.random.default_rng(0).normal(size=(5000, 3))
    assert len(exemplar_tokens(data, 10**4, 0.01, generator=seeded())) > 4500
    assert max(sizes) <= 512
