"""PatchVocabulary: layouts, options, the certificate in the user's units."""

import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances_argmin

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.patches import images_to_patches, patches_to_images
from sklearn_patchcert.voronoi import certificate


@pytest.fixture(scope="module")
def colour():
    rng = np.random.default_rng(0)
    images = rng.random((40, 9, 10, 3)) * np.linspace(0.2, 1, 10)[:, None]
    return images.astype(np.float32)


@pytest.mark.parametrize("strategy", ["kmeans", "learned"])
@pytest.mark.parametrize("per_channel", [False, True, "shared"])
def test_shapes_and_meaning(colour, strategy, per_channel):
    vocabulary = PatchVocabulary(
        6, 4, strategy=strategy, per_channel=per_channel, max_iter=2, random_state=0
    ).fit(colour)
    grid = (40, 3, 3) if per_channel is False else (40, 3, 3, 3)
    dim = 48 if per_channel is False else 16
    assert vocabulary.vocabulary_.shape == ((3, 6, dim) if per_channel is True else (6, dim))
    assert vocabulary.token_counts_.shape == vocabulary.vocabulary_.shape[:-1]
    assert vocabulary.token_counts_.sum() == np.prod(grid)
    ids, radii = vocabulary.tokenize(colour), vocabulary.certify(colour)
    assert ids.shape == radii.shape == grid
    assert ids.dtype == np.int64
    made = vocabulary.transform(colour)
    assert made.shape == colour.shape
    assert made.dtype == colour.dtype
    np.testing.assert_array_equal(vocabulary.inverse_transform(ids), made)
    # by hand, for the second channel or all of them
    patches = images_to_patches(colour, (4, 4), per_channel=bool(per_channel))
    own = vocabulary.vocabulary_[1] if per_channel is True else vocabulary.vocabulary_
    group = 1 if per_channel else 0
    expected = pairwise_distances_argmin(patches[:, :, :, group].reshape(-1, dim), own)
    np.testing.assert_array_equal(ids.reshape(40, 9, -1)[:, :, group].ravel(), expected)
    inner = patches[:, :2, :2, group]  # no padding there
    by_loop = np.stack([certificate.image_radii(image, own) for image in inner])
    np.testing.assert_allclose(radii.reshape(40, 3, 3, -1)[:, :2, :2, group], by_loop, rtol=1e-6)


def test_every_layout_gives_the_same(colour, digits):
    X = digits[0]
    rows = PatchVocabulary(8, random_state=0).fit(X)
    for layout in (X.reshape(-1, 8, 8), X.reshape(-1, 8, 8, 1), pd.DataFrame(X), X.tolist()):
        other = PatchVocabulary(8, random_state=0).fit(layout)
        np.testing.assert_array_equal(other.vocabulary_, rows.vocabulary_)
        np.testing.assert_array_equal(other.certify(layout), rows.certify(X))
        assert other.transform(layout).shape == np.shape(layout)
    flat = PatchVocabulary(8, image_shape=(9, 10, 3), random_state=0).fit(colour.reshape(40, -1))
    images = PatchVocabulary(8, random_state=0).fit(colour)
    np.testing.assert_array_equal(flat.vocabulary_, images.vocabulary_)
    # either layout may be asked for after the other was fitted
    np.testing.assert_array_equal(flat.certify(colour), images.certify(colour))


def test_small_integers_are_read_as_they_are(digits):
    X = digits[0]
    reference = PatchVocabulary(8, strategy="kmeans", random_state=0).fit(X.astype(np.float32))
    for dtype in (np.uint8, np.int16, np.float16):
        radii = reference.certify(X.astype(dtype))
        np.testing.assert_array_equal(radii, reference.certify(X))


def test_ids_are_columns_for_other_estimators(digits):
    X = digits[0]
    vocabulary = PatchVocabulary(8, 3, output="ids", random_state=0).fit(X)
    ids = vocabulary.transform(X)
    assert ids.shape == (len(X), 9)
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids, vocabulary.tokenize(X).reshape(len(X), -1))
    names = vocabulary.get_feature_names_out()
    assert (names[0], names[5]) == ("patch_0_0", "patch_1_2")
    assert vocabulary.inverse_transform(ids).shape == X.shape
    frame = vocabulary.set_output(transform="pandas").transform(X)
    assert list(frame.columns) == list(names)


@pytest.mark.parametrize("norm", certificate.NORMS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_no_image_within_its_map_changes(colour, norm, per_channel):
    vocabulary = PatchVocabulary(6, 4, per_channel=per_channel, random_state=0).fit(colour)
    X = colour.astype(np.float64)
    ids, radii = vocabulary.tokenize(X), vocabulary.certify(X, norm=norm)
    rng = np.random.default_rng(1)
    order = {"l2": 2, "linf": np.inf, "l1": 1}[norm]
    for _ in range(10):
        noise = rng.normal(size=X.shape)
        cut = images_to_patches(noise, (4, 4), per_channel=per_channel)
        size = np.linalg.norm(cut, order, axis=-1)  # all patches move at once
        factor = (radii.reshape(size.shape) / size * (1 - 1e-9))[..., None] * np.ones_like(cut)
        moved = X + noise * patches_to_images(factor, (9, 10, 3), (4, 4), per_channel=per_channel)
        np.testing.assert_array_equal(vocabulary.tokenize(moved), ids)


def test_scaling_the_images_scales_the_radii(digits):
    X = digits[0]
    tokens = PatchVocabulary(8, random_state=0).fit(X).vocabulary_
    one = PatchVocabulary.from_tokens(tokens, patch_size=4)
    two = PatchVocabulary.from_tokens(tokens / 16, patch_size=4)
    X = X.reshape(-1, 8, 8)
    np.testing.assert_allclose(two.certify(X / 16), one.certify(X) / 16)


@pytest.mark.parametrize("strategy", ["kmeans", "learned"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("power", [-60, 3, 60])
def test_fitting_knows_no_units(digits, strategy, dtype, power):
    X = digits[0].astype(dtype)
    options = {"n_tokens": 8, "strategy": strategy, "max_iter": 2, "random_state": 0}
    one = PatchVocabulary(**options).fit(X)
    two = PatchVocabulary(**options).fit(X * dtype(2.0**power))
    np.testing.assert_array_equal(two.vocabulary_, one.vocabulary_ * dtype(2.0**power))
    np.testing.assert_array_equal(two.certify(X * dtype(2.0**power)), one.certify(X) * 2.0**power)


def test_threads_batches_and_order_change_nothing(digits, monkeypatch):
    X = digits[0]
    vocabulary = PatchVocabulary(16, 3, random_state=0).fit(X)
    ids, radii = vocabulary.tokenize(X), vocabulary.certify(X)
    order = np.random.default_rng(0).permutation(len(X))
    for n_jobs, size in ((1, 6400), (2, 6400), (2, 1), (3, 10**6)):
        monkeypatch.setattr("sklearn_patchcert.vocabulary.tokenizer._VALUES_AT_ONCE", size)
        some = slice(None) if size > 1 else slice(50)
        vocabulary.set_params(n_jobs=n_jobs)
        np.testing.assert_array_equal(vocabulary.certify(X[some]), radii[some])
        np.testing.assert_array_equal(vocabulary.tokenize(X[some]), ids[some])
    np.testing.assert_array_equal(vocabulary.certify(X[order]), radii[order])


@pytest.mark.parametrize("strategy", ["kmeans", "learned"])
def test_partial_fit_comes_close_to_fit(digits, strategy):
    X = digits[0]

    def error(vocabulary):
        return ((vocabulary.transform(X) - X) ** 2).sum(1).mean()

    whole = PatchVocabulary(16, strategy=strategy, random_state=0).fit(X)
    parts = PatchVocabulary(16, strategy=strategy, random_state=0)
    for _ in range(3):
        for batch in np.array_split(X, 6):
            parts.partial_fit(batch)
    assert error(parts) < 1.1 * error(whole)
    assert parts.token_counts_.sum() > whole.token_counts_.sum()


@pytest.mark.parametrize("strategy", ["kmeans", "learned", "denoised"])
def test_partial_fit_forgets_no_patch(digits, strategy):
    """Of batches in which tokens were short, equal or merged, as of others."""
    flat, dark = np.zeros((50, 8, 8)), np.ones((3, 8, 8))
    X = digits[0][:60].reshape(-1, 8, 8)
    vocabulary = PatchVocabulary(12, 4, strategy=strategy, random_state=0)
    seen = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few patches, and another scale
        for batch in (flat, dark, X[:20], flat, X[20:], 1e6 * X[:2]):
            vocabulary.partial_fit(batch)
            seen += 4 * len(batch)
            assert vocabulary.token_counts_.sum() == seen


def test_counts_of_batches_in_which_tokens_were_short_weigh_in_the_next():
    vocabulary = PatchVocabulary(3, 1, strategy="kmeans", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        vocabulary.partial_fit(np.zeros((1000, 1, 1)))
    vocabulary.partial_fit(np.array([0.0, 9.0, 10.0]).reshape(3, 1, 1))
    vocabulary.partial_fit(np.full((2, 1, 1), 2.0))
    np.testing.assert_allclose(vocabulary.vocabulary_.min(), 4 / 1003)
    assert sorted(vocabulary.token_counts_) == [1, 1, 1003]


def test_partial_fit_goes_on_with_tokens_of_ones_own():
    """Of channels with numbers of their own, and where more are asked for."""
    rng = np.random.default_rng(0)
    tokens = np.array([[[0.0], [0.3], [0.6], [1.0]], [[50.0], [100.0], [100.0], [100.0]]])
    own = PatchVocabulary.from_tokens(tokens, patch_size=1, image_shape=(4, 4, 2), per_channel=True)
    assert own.n_tokens == (4, 2)
    own.set_params(strategy="kmeans").partial_fit(rng.random((5, 4, 4, 2)))
    assert 100.0 in own.vocabulary_[1]
    own = PatchVocabulary.from_tokens([[0.0], [100.0]], patch_size=1, image_shape=(4, 4))
    own.set_params(strategy="kmeans", n_tokens=4).partial_fit(rng.random((5, 4, 4)))
    assert 100.0 in own.vocabulary_.round(6)


@pytest.mark.parametrize("changed", [{"patch_size": 2}, {"per_channel": True}])
def test_partial_fit_tells_that_images_would_be_cut_in_another_way(digits, changed):
    X = digits[0][:50].reshape(-1, 8, 8)
    vocabulary = PatchVocabulary(4, 4, random_state=0).partial_fit(X)
    before = vocabulary.vocabulary_.copy()
    [name] = changed
    with pytest.raises(ValueError, match=f"made with {name}=.* call fit to start anew"):
        vocabulary.set_params(**changed).partial_fit(X)
    np.testing.assert_array_equal(vocabulary.vocabulary_, before)
    vocabulary.set_params(patch_size=(4, 4), per_channel=False, n_tokens=5).partial_fit(X)
    assert vocabulary.fit(X).patch_size_ == (4, 4)


def test_partial_fit_fills_up_a_vocabulary_that_is_short_of_tokens(digits):
    X = digits[0]
    vocabulary = PatchVocabulary(16, random_state=0)
    with pytest.warns(ConvergenceWarning, match="fewer than n_tokens=16"):
        vocabulary.partial_fit(X[:2])
    assert len(vocabulary.vocabulary_) <= 8
    vocabulary.partial_fit(X)
    assert len(vocabulary.vocabulary_) == 16


def test_same_seed_same_bits(digits):
    X = digits[0]
    first, second = (PatchVocabulary(16, subsample=999, random_state=5).fit(X) for _ in range(2))
    np.testing.assert_array_equal(first.vocabulary_, second.vocabulary_)
    other = PatchVocabulary(16, subsample=999, random_state=6).fit(X)
    assert not np.array_equal(first.vocabulary_, other.vocabulary_)


@pytest.mark.parametrize("dump", ["joblib", "pickle"])
def test_persistence(digits, tmp_path, dump):
    X = digits[0]
    vocabulary = PatchVocabulary(16, random_state=0).fit(X)
    if dump == "joblib":
        joblib.dump(vocabulary, tmp_path / "v")
        back = joblib.load(tmp_path / "v", mmap_mode="r")
    else:
        back = pickle.loads(pickle.dumps(vocabulary))
    np.testing.assert_array_equal(back.certify(X), vocabulary.certify(X))
    assert isinstance(back.vocabulary_, np.ndarray)


def test_another_version_says_so(digits, monkeypatch):
    data = pickle.dumps(PatchVocabulary(4, random_state=0).fit(digits[0]))
    monkeypatch.setattr("sklearn_patchcert._state.__version__", "99")
    with pytest.warns(UserWarning, match="was pickled by sklearn_patchcert"):
        pickle.loads(data)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_from_tokens_of_any_dtype(dtype):
    vocabulary = PatchVocabulary.from_tokens(np.array([[0], [1]], dtype), patch_size=1)
    np.testing.assert_array_equal(vocabulary.tokenize([[[0.1, 0.7]]]), [[[0, 1]]])


def test_from_tokens_merges_copies_and_takes_any_size():
    tokens = [[0.0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 1]]
    vocabulary = PatchVocabulary.from_tokens(tokens, patch_size=2)
    assert len(vocabulary.vocabulary_) == 3
    for size in ((1, 4, 6), (1, 2, 2), (1, 3, 5)):
        assert np.isfinite(vocabulary.certify(np.full(size, 0.2))).all()
    ids = vocabulary.tokenize(np.zeros((1, 4, 6)))
    np.testing.assert_array_equal(vocabulary.inverse_transform(ids)[..., 0], np.zeros((1, 4, 6)))
    by_channel = PatchVocabulary.from_tokens(
        [[[0.0], [1.0], [1.0]], [[0.0], [2.0], [4.0]]], patch_size=1, per_channel=True
    )
    radii = by_channel.certify(np.full((1, 1, 1, 2), 0.25))
    np.testing.assert_allclose(radii, [[[[0.25, 0.75]]]])


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ([[0.0, np.nan]], {"patch_size": (1, 2)}, "must be finite"),
        ([0.0, 1.0], {"patch_size": 1}, "must be"),
        ([[0.0, 1.0, 2.0]], {"patch_size": 2}, "do not fit patch_size"),
        ([[0.0]], {"patch_size": 2, "image_shape": (1, 1)}, "do not fit"),
        ([[0.0] * 4], {"patch_size": 2, "image_shape": (8, 8, 3)}, "channels"),
        ([[0.0] * 4], {"patch_size": 0}, "patch_size"),
    ],
)
def test_from_tokens_refuses(tokens, options, message):
    with pytest.raises(ValueError, match=message):
        PatchVocabulary.from_tokens(tokens, **options)


def test_patches_larger_than_the_image_are_clipped():
    X = np.random.default_rng(0).random((20, 3, 5))
    vocabulary = PatchVocabulary(4, 8, random_state=0).fit(X)
    assert vocabulary.patch_size_ == (3, 5)
    assert vocabulary.certify(X).shape == (20, 1, 1)


def test_fewer_distinct_patches_than_tokens():
    X = np.zeros((10, 8, 8))
    X[5:, :4] = 1
    with pytest.warns(ConvergenceWarning, match="only 2 distinct patches"):
        vocabulary = PatchVocabulary(16, random_state=0).fit(X)
    assert len(vocabulary.vocabulary_) == 2
    np.testing.assert_allclose(vocabulary.certify(X), 2.0)
