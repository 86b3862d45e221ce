"""Which patches a vocabulary is trained on: of all images, however large one image is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.patches import grid_shape, images_to_patches
from sklearn_patchcert.vocabulary.clustering.windows import SIDE, cut_windows, draw_windows


@settings(max_examples=60, deadline=None)
@given(
    n_images=st.integers(1, 12),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])),
    patch_size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    n_patches=st.integers(1, 3000),
    seed=st.integers(0, 100),
)
def test_windows_hold_patches_of_the_images_spread_evenly(
    n_images, shape, patch_size, n_patches, seed
):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n_images, *shape))
    patch_size = tuple(np.minimum(patch_size, shape[:2]).tolist())
    rows, cols = grid_shape(shape, patch_size)
    windows = draw_windows(n_images, shape, patch_size, 1, n_patches, rng)
    if windows is None:
        assert n_patches >= n_images * rows * cols
        return
    counts = np.bincount(windows.owners, minlength=n_images)
    assert counts.max() - counts.min() <= 1
    of_window = windows.size[0] * windows.size[1]
    assert len(windows.owners) == len(set(map(tuple, np.c_[windows.owners, windows.origins])))
    every = n_images * (rows - windows.size[0] + 1) * (cols - windows.size[1] + 1)
    assert n_patches <= len(windows.owners) * of_window < n_patches + of_window or (
        len(windows.owners) == every
    )
    whole = images_to_patches(images, patch_size)
    found = images_to_patches(cut_windows(images, windows, patch_size), patch_size)
    for window, owner, (row, col) in zip(found, windows.owners, windows.origins, strict=True):
        there = whole[owner, row : row + windows.size[0], col : col + windows.size[1]]
        np.testing.assert_array_equal(window, there)
    assert max(windows.size) <= SIDE


def photographs():
    """Forty pictures: two white ones first, the others each of a color of its own."""
    rng = np.random.default_rng(0)
    colors = rng.random((40, 1, 1, 3))
    colors[:2] = 1
    return np.clip(colors + 0.02 * rng.normal(size=(40, 64, 64, 3)), 0, 1)


def error(vocabulary, X):
    return np.square(vocabulary.transform(X) - X).sum(-1).mean()


@pytest.mark.parametrize("strategy", ["kmeans", "learned", "denoised", "supervised"])
def test_images_cut_into_quarters_teach_the_same(strategy):
    if strategy == "denoised":
        pytest.importorskip("skimage", reason="the denoiser is that of scikit-image")
    X, y = photographs(), np.arange(40) % 4
    quarters = X.reshape(40, 2, 32, 2, 32, 3).swapaxes(2, 3).reshape(160, 32, 32, 3)
    options = {"patch_size": 1, "strategy": strategy, "subsample": 5000, "random_state": 0}
    whole = PatchVocabulary(30, **options).fit(X, y)
    cut = PatchVocabulary(30, **options).fit(quarters, np.repeat(y, 4))
    spread = X.var(axis=(0, 1, 2)).sum()
    assert error(whole, X) < 1.5 * error(cut, quarters) + 0.02 * spread
    assert error(whole, X) < 0.2 * spread


def test_what_is_denoised_is_whole_images():
    X, seen = photographs(), []

    def denoiser(images):
        seen.append(images.shape)
        return np.zeros_like(images)

    options = {"patch_size": 1, "strategy": "denoised", "denoiser": denoiser, "subsample": 500}
    vocabulary = PatchVocabulary(5, **options, random_state=0).fit(X)
    assert {shape[1:] for shape in seen} == {(64, 64, 3)}
    assert not vocabulary.vocabulary_.any()


def test_each_window_keeps_the_class_of_its_image():
    X = np.zeros((10, 32, 32))
    y = np.arange(10) % 2
    X[y == 1] = 1.0  # a class is a gray
    X += 0.01 * np.random.default_rng(0).normal(size=X.shape)
    options = {"patch_size": 2, "strategy": "supervised", "subsample": 640, "random_state": 0}
    vocabulary = PatchVocabulary(2, **options).fit(X, y)
    np.testing.assert_allclose(np.sort(vocabulary.vocabulary_.mean(1)), [0, 1], atol=0.1)


def test_a_class_that_is_not_drawn_is_an_error():
    X, y = photographs(), np.arange(40) % 20
    options = {"patch_size": 1, "strategy": "supervised", "subsample": 64 * 10, "random_state": 0}
    with pytest.raises(ValueError, match=r"classes have no image.*subsample"):
        PatchVocabulary(40, **options).fit(X, y)
