"""Fitting on many small integers converts only the patches that are drawn."""

import tracemalloc

import numpy as np
import pytest

from sklearn_patchcert import PatchVocabulary


def vocabulary(**options):
    return PatchVocabulary(
        n_tokens=4, patch_size=4, strategy="kmeans", max_iter=2, random_state=0, device="cpu",
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["u1", "i2", "?"])
@pytest.mark.parametrize("options", [{"subsample": 200}, {"subsample": None}])
def test_integers_and_their_floats_give_the_same_tokens(dtype, options):
    images = np.random.default_rng(0).integers(0, 100, size=(50, 9, 7, 3)).astype(dtype)
    found = vocabulary(**options).fit(images)
    wanted = vocabulary(**options).fit(images.astype(np.float32))
    np.testing.assert_array_equal(found.vocabulary_, wanted.vocabulary_)
    assert found.vocabulary_.dtype == wanted.vocabulary_.dtype
    assert found.input_range_ == wanted.input_range_
    assert found.input_dtype_ == np.dtype(dtype)


@pytest.mark.parametrize("strategy", ["kmeans", "denoised"])
def test_memory_does_not_grow_with_mapped_images(strategy, tmp_path):
    images = np.memmap(tmp_path / "images.raw", "u1", "w+", shape=(3_000, 32, 32, 3))
    images[:] = np.random.default_rng(0).integers(0, 256, size=images.shape, dtype="u1")
    made = vocabulary(subsample=200).set_params(strategy=strategy)
    made.fit(images[:300])
    tracemalloc.start()
    made.fit(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes / 2  # a float copy has four times as many
