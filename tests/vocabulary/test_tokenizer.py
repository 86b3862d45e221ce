"""Witnesses of tightness, and images that never stand in memory as a whole."""

import weakref

import numpy as np
import pytest
from sklearn.naive_bayes import CategoricalNB
from sklearn.preprocessing import MinMaxScaler

from sklearn_patchcert import CertifiedPatchClassifier, ChannelStandardizer, PatchVocabulary
from sklearn_patchcert.voronoi.certificate import NORMS


def patch_norms(steps, norm, size):
    """Norms (n, rows, cols) of the patches, `size` pixels wide, of images (n, H, W)."""
    n, height, width = steps.shape
    blocks = steps.reshape(n, height // size, size, width // size, size)
    blocks = blocks.transpose(0, 1, 3, 2, 4).reshape(n, height // size, width // size, -1)
    return np.linalg.norm(blocks, {"l2": 2, "linf": np.inf, "l1": 1}[norm], axis=-1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scaler", [None, ChannelStandardizer(), MinMaxScaler()], ids=str)
def test_the_witness_is_as_long_as_the_radius_and_leads_to_its_token(digits, norm, scaler):
    X = digits[0] if isinstance(scaler, MinMaxScaler) else digits[0].reshape(-1, 8, 8)
    vocabulary = PatchVocabulary(12, 2, random_state=0)
    # Of each pixel's own scale, the padding of a constant pixel stays where it is.
    model = CertifiedPatchClassifier(
        [*([("scale", scaler)] if scaler else []), ("vocab", vocabulary)]
    ).fit(X)
    radii, witness = model.certify(X, norm, return_witness=True)
    np.testing.assert_array_equal(radii, model.certify(X, norm))
    steps = witness.perturbation
    assert steps.shape == X.shape
    np.testing.assert_allclose(
        patch_norms(steps.reshape(-1, 8, 8), norm, 2), radii, rtol=1e-6, atol=1e-9
    )

    def ids(images):
        return vocabulary.tokenize(model[:-1].transform(images) if scaler else images)

    own = ids(X)
    changed = ids(X + (1 + 1e-3) * steps) != own
    assert changed[radii > 0].mean() > 0.999
    assert (ids(X + (1 - 1e-6) * steps) == own).all()
    assert (witness.tokens != own).all()
    landed = ids(X + (1 + 1e-6) * steps)
    assert (landed == witness.tokens)[radii > 1e-6].mean() > 0.98


def test_no_witness_where_there_is_no_wall():
    vocabulary = PatchVocabulary.from_tokens([[0.5]], patch_size=1)
    radii, witness = vocabulary.certify(np.zeros((2, 3, 3)), return_witness=True)
    assert np.isinf(radii).all()
    assert (witness.tokens == -1).all()
    assert np.isnan(witness.perturbation).all()


@pytest.mark.parametrize("per_channel", [False, True, "shared"])
def test_witness_of_colour_images_with_padding(per_channel):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 7, 5, 3))
    vocabulary = PatchVocabulary(9, 3, per_channel=per_channel, random_state=0).fit(X)
    radii, witness = vocabulary.certify(X, return_witness=True)
    assert witness.tokens.shape == radii.shape
    own = vocabulary.tokenize(X)
    moved = X + (1 + 1e-3) * witness.perturbation
    assert (vocabulary.tokenize(moved) != own)[radii > 1e-9].mean() > 0.99


def test_memory_maps_and_iterators_give_the_same(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("sklearn_patchcert.vocabulary.tokenizer._VALUES_AT_ONCE", 64 * 100)
    X = digits[0].astype(np.uint8).reshape(-1, 8, 8)
    vocabulary = PatchVocabulary(8, 4, random_state=0, n_jobs=2).fit(X)
    radii, ids = vocabulary.certify(X), vocabulary.tokenize(X)
    np.save(tmp_path / "images.npy", X)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(vocabulary.certify(mapped), radii)
    np.testing.assert_array_equal(vocabulary.certify(part for part in np.split(X, 3)), radii)
    np.testing.assert_array_equal(vocabulary.tokenize(iter([X[:5], X[5:]])), ids)
    scaled = CertifiedPatchClassifier([("scale", ChannelStandardizer()), ("v", vocabulary)]).fit(X)
    np.testing.assert_array_equal(scaled.certify(iter([X[:5], X[5:]])), scaled.certify(X))


def test_an_iterator_is_never_held(digits):
    X = digits[0].reshape(-1, 8, 8)[:50]
    vocabulary = PatchVocabulary(8, 4, random_state=0).fit(X)
    seen = []

    def batches():
        for _ in range(20):
            batch = X.copy()
            seen.append(weakref.ref(batch))
            assert sum(ref() is not None for ref in seen) <= 6, "too many batches are held"
            yield batch
            del batch

    assert vocabulary.certify(batches()).shape == (1000, 2, 2)


def test_what_an_iterator_cannot_do(digits):
    X = digits[0].reshape(-1, 8, 8)[:50]
    vocabulary = PatchVocabulary(8, 4, random_state=0).fit(X)
    with pytest.raises(ValueError, match="empty"):
        vocabulary.certify(iter([]))
    with pytest.raises(TypeError, match="all images at once"):
        vocabulary.transform(iter([X]))
    with pytest.raises(ValueError, match="NaN"):
        vocabulary.certify(iter([X, np.full_like(X, np.nan)]))


def test_own_tokens_keep_their_dtype(digits):
    tokens = digits[0][:8, :16]
    for dtype in (np.float32, np.float64):
        own = PatchVocabulary.from_tokens(tokens.astype(dtype), patch_size=4)
        assert own.vocabulary_.dtype == dtype
    with pytest.raises(ValueError, match="finite"):
        PatchVocabulary.from_tokens(np.full((1, 16), np.inf, dtype=np.float32), patch_size=4)


def test_a_subclass_that_tokenises_in_its_own_way_has_no_certificate():
    class Squared(PatchVocabulary):
        def transform(self, X):
            return super().transform(np.square(X))

    X, y = np.random.default_rng(0).random((20, 4, 4)), np.arange(20) % 2
    vocabulary = Squared(3, 2, output="ids", random_state=0).fit(X)
    with pytest.raises(TypeError, match="transform of its own"):
        vocabulary.certify(X)
    second = CategoricalNB(min_categories=3).fit(vocabulary.transform(X), y)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", second)])
    for certify in (model.certify, model.certify_prediction):
        with pytest.raises(TypeError, match="transform of its own"):
            certify(X)

    class Named(PatchVocabulary):
        pass

    assert Named(3, 2, random_state=0).fit(X).certify(X).shape == (20, 2, 2)
