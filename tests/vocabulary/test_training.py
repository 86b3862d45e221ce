"""Learning a vocabulary: k-means, running means, gradient descent."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sklearn_patchcert.vocabulary import training
from sklearn_patchcert.vocabulary.clustering.distinct import distinct_tokens
from sklearn_patchcert.vocabulary.kmeans import kmeans_tokens, running_means
from sklearn_patchcert.vocabulary.losses import reconstruction_loss
from sklearn_patchcert.vocabulary.training import fit_tokens, learn_tokens


def error(patches, tokens):  # mean squared distance to the nearest token
    return ((patches[:, None] - tokens) ** 2).sum(-1).min(1).mean()


@pytest.fixture
def patches(digits):
    images = digits[0].reshape(-1, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4)
    return images.reshape(len(images), 4, 16)


def seeded():
    return torch.Generator().manual_seed(0)


def test_kmeans_is_as_good_as_scikit_learn(patches):
    flat = patches.reshape(-1, 16)
    tokens, history = kmeans_tokens(flat, 20, generator=seeded())
    theirs = KMeans(20, n_init=1, random_state=0).fit(flat)
    assert error(flat, tokens) < 1.03 * theirs.inertia_ / len(flat)
    assert history == sorted(history, reverse=True)


def test_kmeans_ends_where_lloyd_stands_still(patches):
    flat = patches.reshape(-1, 16)
    tokens, _ = kmeans_tokens(flat, 8, tol=0, max_iter=1000, generator=seeded())
    ids = ((flat[:, None] - tokens) ** 2).sum(-1).argmin(1)
    means = np.stack([flat[ids == k].mean(0) for k in range(8)])
    np.testing.assert_allclose(tokens, means, atol=1e-9)


def test_counts_weigh_like_copies(patches):
    flat = patches.reshape(-1, 16)[:300]
    counts = np.arange(300) % 3 + 1
    weighted, _ = kmeans_tokens(flat, 5, counts=counts, generator=seeded())
    copied, _ = kmeans_tokens(np.repeat(flat, counts, axis=0), 5, generator=seeded())
    np.testing.assert_allclose(weighted, copied)


def test_fewer_distinct_patches_than_tokens():
    flat = np.repeat(np.eye(3), 5, axis=0)
    tokens, history = kmeans_tokens(flat, 7)
    np.testing.assert_array_equal(np.sort(tokens, axis=0), np.sort(np.eye(3), axis=0))
    assert history == [0.0]


def test_running_means_over_batches_are_the_mean_of_all(patches):
    flat = patches.reshape(-1, 16)
    ids = np.arange(len(flat)) % 4
    tokens, counts = np.zeros((5, 16)), np.zeros(5, dtype=int)
    for batch in np.array_split(np.arange(len(flat)), 7):
        tokens = running_means(tokens, counts, flat[batch], ids[batch])
        counts = counts + np.bincount(ids[batch], minlength=5)
    for k in range(4):
        np.testing.assert_allclose(tokens[k], flat[ids == k].mean(0))
    np.testing.assert_array_equal(tokens[4], 0)  # has stood for nothing


def test_gradient_descent_improves_a_bad_start(patches):
    patches = patches / 8
    start = patches.reshape(-1, 16)[:12]
    tokens, history = learn_tokens(patches, start, max_iter=20, generator=seeded())
    assert error(patches.reshape(-1, 16), tokens) < 0.8 * error(patches.reshape(-1, 16), start)
    assert history[-1] < history[0]


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(made) if isinstance(t, torch.Tensor)]
        self.values = max([self.values, *sizes])
        return made


def test_plain_gradient_descent_needs_no_matrix_of_distances(patches):
    """So that memory does not grow with the product of patches and tokens."""
    start = np.random.default_rng(0).normal(size=(3000, 16)).astype(patches.dtype)
    with Largest() as largest:
        tokens, _ = learn_tokens(patches, start, max_iter=2, generator=seeded())
    assert largest.values <= max(patches.size, start.size)
    assert not np.array_equal(tokens, start)


@pytest.mark.parametrize(
    "options", [{"margin_weight": 1.0}, {"soft_temperature": (1.0, 0.1)}], ids=["margin", "soft"]
)
def test_distances_are_made_for_a_part_of_a_batch_at_a_time(patches, options, monkeypatch):
    def learn():
        with Largest() as largest:
            found = learn_tokens(
                patches, patches[:40, 0], max_iter=2, noise_std=0.1, generator=seeded(), **options
            )
        return *found, largest.values

    tokens, history, most = learn()
    assert most >= 256 * 4 * 40
    monkeypatch.setattr(training, "_DISTANCES_AT_ONCE", 50 * 4 * 40)
    parts, parts_history, fewer = learn()
    assert fewer <= max(patches.size, 50 * 4 * 40)
    np.testing.assert_allclose(parts, tokens, atol=1e-4)
    np.testing.assert_allclose(parts_history, history, rtol=1e-5)


def test_gradient_descent_takes_a_loss_of_the_user(patches):
    def ridge(batch):
        error = reconstruction_loss(batch.reconstruction, batch.patches)
        return error + 10 * batch.tokens.square().sum()

    start = patches.reshape(-1, 16)[:4]
    plain, _ = learn_tokens(patches, start, max_iter=3, generator=seeded())
    small, _ = learn_tokens(patches, start, loss=ridge, max_iter=3, generator=seeded())
    assert np.linalg.norm(small) < np.linalg.norm(plain)


@pytest.mark.parametrize("strategy", ["kmeans", "learned"])
def test_same_seed_same_tokens(patches, strategy):
    first = fit_tokens(patches, 10, strategy, seed=1)
    second = fit_tokens(patches, 10, strategy, seed=1)
    other = fit_tokens(patches, 10, strategy, seed=2)
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1].sum() == patches[..., 0].size
    assert not np.array_equal(first[0], other[0])


def test_distinct_tokens_keep_their_order():
    tokens = np.array([[3.0], [1.0], [3.0], [2.0], [-0.0], [0.0]])
    np.testing.assert_array_equal(distinct_tokens(tokens), [[3], [1], [2], [0]])
