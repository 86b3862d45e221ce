"""A call on images has the bits of the engine on patches cut before, without a copy of them."""

import tracemalloc

import numpy as np
import pytest

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.patches import images_to_patches, patch_weights
from sklearn_patchcert.vocabulary import tokenizer
from sklearn_patchcert.voronoi import bands, certificate

DTYPES = ("u1", "i1", "?", "f2", "i2", "u2", "i4", "u4", "i8", "f4", "f8", ">f4")
SHAPES = {  # of the images, of the patch: with and without padding, at each edge
    "even": ((8, 8, 3), (4, 4)),
    "both edges": ((7, 9, 3), (4, 4)),
    "lower edge": ((7, 8, 1), (2, 4)),
    "right edge": ((4, 5, 2), (4, 2)),
    "pixels": ((3, 4, 3), (1, 1)),
    "larger than the image": ((3, 5, 1), (3, 5)),
}


def images_of(dtype, shape, n=9, seed=0):
    high = 2 if dtype == "?" else 100
    return np.random.default_rng(seed).integers(0, high, (n, *shape)).astype(dtype)


def vocabulary_of(shape, size, per_channel, n_tokens=7, **options):
    """Tokens that are many patches' nearest, some of which differ in the padding alone."""
    images = images_of("f8", shape, n=30, seed=1)
    patches = images_to_patches(images, size, per_channel=bool(per_channel))
    patches = patches.reshape(-1, *patches.shape[3:])
    tokens = patches[:n_tokens].transpose(1, 0, 2) if per_channel is True else patches[:n_tokens, 0]
    vocabulary = PatchVocabulary.from_tokens(
        tokens, patch_size=size, image_shape=shape, per_channel=per_channel
    )
    return vocabulary.set_params(device="cpu", **options)


def cut_and_searched(vocabulary, images, norm):
    """Ids and radii (n, rows, cols, groups), from the patches of all images at once."""
    cut = {"per_channel": bool(vocabulary.per_channel_)}
    wide = images.dtype.kind in "iu" and images.dtype.itemsize >= 4
    wide = wide or images.dtype == np.float64
    images = images.astype(np.float64 if wide else np.float32)
    patches = images_to_patches(images, vocabulary.patch_size_, **cut)
    weights = patch_weights(1.0, images.shape[1:], vocabulary.patch_size_, **cut)
    own = vocabulary.per_channel_ is True
    groups = [[c] for c in range(len(vocabulary.vocabulary_))] if own else [slice(None)]
    found = [
        certificate.certify(
            patches[:, :, :, part].reshape(len(images), -1, patches.shape[-1]),
            tokens,
            norm,
            weights=weights[:, :, part].reshape(-1, patches.shape[-1]),
        )
        for part, tokens in zip(groups, vocabulary._own(vocabulary.vocabulary_), strict=True)
    ]
    shape = patches.shape[:3]
    return [
        np.concatenate([one.reshape(*shape, -1) for one in parts], axis=3)
        for parts in zip(*found, strict=True)
    ]


def assert_same(vocabulary, given, images, norm="l2"):
    ids, radii = cut_and_searched(vocabulary, images, norm)
    last = slice(None) if vocabulary.per_channel_ else 0
    np.testing.assert_array_equal(vocabulary.certify(given, norm), radii[..., last])
    np.testing.assert_array_equal(vocabulary.tokenize(given), ids[..., last])
    made = vocabulary.transform(given)
    flat = vocabulary.vocabulary_
    patches = flat[ids] if flat.ndim == 2 else np.stack(
        [tokens[ids[..., c]] for c, tokens in enumerate(flat)], axis=3
    )  # fmt: skip
    again = images_to_patches(
        made.reshape(images.shape),
        vocabulary.patch_size_,
        per_channel=bool(vocabulary.per_channel_),
    )
    inside = patch_weights(
        1.0, images.shape[1:], vocabulary.patch_size_, per_channel=bool(vocabulary.per_channel_)
    )
    np.testing.assert_array_equal(again, np.where(inside > 0, patches, 0.0))


@pytest.mark.parametrize("norm", certificate.NORMS)
@pytest.mark.parametrize("per_channel", [False, "shared", True])
@pytest.mark.parametrize("case", SHAPES)
def test_the_bits_of_patches_cut_before(case, per_channel, norm):
    shape, size = SHAPES[case]
    images = images_of("f4", shape)
    assert_same(vocabulary_of(shape, size, per_channel), images, images, norm)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    shape, size = SHAPES["both edges"]
    images = images_of(dtype, shape)
    assert_same(vocabulary_of(shape, size, "shared"), images, images)


@pytest.mark.parametrize(
    "layout", ["Fortran", "every second", "backwards", "rows", "mapped", "batches"]
)
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
def test_every_layout(layout, dtype, tmp_path):
    shape, size = SHAPES["both edges"]
    images = images_of(dtype, shape)
    given = images
    if layout == "Fortran":
        given = np.asfortranarray(images)
    elif layout == "every second":
        given = np.repeat(np.repeat(images, 2, axis=2), 2, axis=0)[::2, :, ::2]
    elif layout == "backwards":
        given = np.ascontiguousarray(images[:, ::-1, :, ::-1])[:, ::-1, :, ::-1]
    elif layout == "rows":
        given = images.reshape(len(images), -1)
    elif layout == "mapped":
        np.save(tmp_path / "images.npy", images)
        given = np.load(tmp_path / "images.npy", mmap_mode="r")
    vocabulary = vocabulary_of(shape, size, False)
    if layout == "batches":
        whole = vocabulary.certify(images)
        np.testing.assert_array_equal(vocabulary.certify(iter([images[:2], images[2:]])), whole)
    else:
        assert_same(vocabulary, given, images)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("at_once", [1, 200, 2**20])
def test_every_size_of_blocks_and_batches(at_once, n_jobs, monkeypatch):
    shape, size = SHAPES["both edges"]
    images = images_of("u1", shape)
    monkeypatch.setattr(bands, "_VALUES_AT_ONCE", at_once)
    monkeypatch.setattr(tokenizer, "_VALUES_AT_ONCE", at_once)
    assert_same(vocabulary_of(shape, size, True, n_jobs=n_jobs), images, images)


@pytest.mark.parametrize("call", ["certify", "tokenize", "transform"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
@pytest.mark.parametrize("at", [0, -1])
def test_bad_values_are_refused_wherever_they_are(call, bad, at):
    vocabulary = vocabulary_of((7, 9, 3), (4, 4), "shared")
    images = images_of("f8", (7, 9, 3))
    images.reshape(-1)[at] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity|beyond"):
        getattr(vocabulary, call)(images)


@pytest.mark.parametrize("dtype", ["u1", "f2", "f4"])
def test_memory_does_not_grow_with_the_images(dtype, tmp_path):
    """Besides its result a call takes at most four blocks of 2**17 values in float32."""
    images = np.memmap(tmp_path / "images.raw", dtype, "w+", shape=(4_000, 32, 32, 3))
    vocabulary = vocabulary_of((32, 32, 3), (8, 8), False)
    vocabulary.certify(images[:1])
    tracemalloc.start()
    radii = vocabulary.certify(images)
    peak = tracemalloc.get_traced_memory()[1] - radii.nbytes
    tracemalloc.stop()
    assert peak < 4 * 2**17 * 4


def test_ids_of_another_shape_are_refused_before_compiled_code_reads_beyond_its_tables():
    tokens, images = np.arange(8.0).reshape(2, 4), np.zeros((1, 4, 4, 1))
    parts = [(slice(None), tokens)]
    for shape in ((1, 2, 2, 2), (1, 2, 3, 1), (2, 2, 2, 1), (1, 1, 2, 1), (1, 4, 1)):
        with pytest.raises(ValueError, match="shape"):
            bands.join(np.zeros(shape, int), parts, (2, 2), per_channel=False, images=images)
