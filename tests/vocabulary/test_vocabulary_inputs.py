"""What a vocabulary refuses, what it warns of, and what is left after an error."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import MaxAbsScaler

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary


def good():
    return np.random.default_rng(0).random((12, 8, 8))


def with_value(value):
    X = good()
    X[3, 2, 1] = value
    return X


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (with_value(np.nan), ValueError, "NaN"),
        (with_value(np.inf), ValueError, "infinity"),
        (with_value(1e200), ValueError, "beyond 1e\\+150"),
        (good()[:0], ValueError, "0 sample"),
        (good()[None, None], ValueError, "2, 3 or 4 dimensions"),
        (scipy.sparse.csr_matrix(good().reshape(12, 64)), TypeError, "[Ss]parse"),
        (good().astype(np.longdouble), TypeError, "wider than float64"),
        (np.full((3, 8, 8), 2**60), ValueError, "2\\*\\*53"),
        (good().astype(complex), ValueError, "Complex"),
        (np.array([["a", "b"]]), ValueError, "could not convert|not convert"),
    ],
)
def test_bad_images_are_refused_in_every_method(X, error, message):
    fitted = PatchVocabulary(4, random_state=0).fit(good())
    before = pickle.dumps(vars(fitted))
    for method in (fitted.fit, fitted.partial_fit, fitted.tokenize, fitted.certify):
        with pytest.raises(error, match=message):
            method(X)
        assert pickle.dumps(vars(fitted)) == before  # nothing is left half-fitted


def test_a_failed_first_fit_leaves_nothing():
    vocabulary = PatchVocabulary(4)
    with pytest.raises(ValueError, match="NaN"):
        vocabulary.fit(with_value(np.nan))
    assert set(vars(vocabulary)) == set(PatchVocabulary().get_params())
    for method in ("transform", "tokenize", "certify", "inverse_transform"):
        with pytest.raises(NotFittedError):
            getattr(vocabulary, method)(good())


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((2, 4, 16)), "fitted with images of shape"),
        (np.zeros((2, 4, 16, 1)), "fitted with images of shape"),
        (np.zeros((2, 8, 8, 3)), "fitted with images of shape"),
        (np.zeros((2, 63)), "features"),
    ],
)
def test_other_images_than_those_fitted_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        PatchVocabulary(4, random_state=0).fit(good()).certify(X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_tokens": 0}, "n_tokens"),
        ({"patch_size": 0}, "patch_size"),
        ({"patch_size": (2, 3, 4)}, "patch_size"),
        ({"patch_size": (2, 0.5)}, "patch_size"),
        ({"strategy": "magic"}, "strategy"),
        ({"per_channel": "some"}, "per_channel"),
        ({"output": "words"}, "output"),
        ({"device": "abacus"}, "device='abacus' cannot be used"),
        ({"device": 1.5}, "device=1.5 cannot be used"),
        ({"image_shape": (8, 9)}, "image_shape"),
        ({"image_shape": (8,)}, "image_shape"),
        ({"image_shape": (8, -8)}, "image_shape"),
        ({"learning_rate": 0}, "learning_rate"),
    ],
)
def test_bad_options_are_refused(options, message):
    for X in (good(), good().reshape(12, 64)):
        with pytest.raises(ValueError, match=message):
            PatchVocabulary(**{"n_tokens": 4, **options}).fit(X)


@pytest.mark.skipif(torch.cuda.is_available(), reason="looks at a machine without a GPU")
def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="cannot be used here"):
        PatchVocabulary(4, device="cuda").fit(good())
    fitted = PatchVocabulary(4, random_state=0).fit(good()).set_params(device="cuda")
    with pytest.raises(ValueError, match="cannot be used here"):
        fitted.certify(good())


def test_rows_that_look_like_colour_images_warn():
    X = np.random.default_rng(0).random((4, 3072))
    with pytest.warns(UserWarning, match=r"image_shape=\(32, 32, 3\)"):
        PatchVocabulary(4, random_state=0).fit(X)
    PatchVocabulary(4, image_shape=(32, 32, 3), random_state=0).fit(X)
    PatchVocabulary(4, image_shape=(1, 3072), random_state=0).fit(X)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((2, 2, 2)), "integers"),
        (np.full((2, 2, 2), 4), "0..3"),
        (np.full((2, 2, 2), -1), "0..3"),
        (np.zeros((2, 5), dtype=int), "patches"),
        (np.zeros(4, dtype=int), "patches"),
    ],
)
def test_bad_ids(ids, message):
    with pytest.raises(ValueError, match=message):
        PatchVocabulary(4, random_state=0).fit(good()).inverse_transform(ids)


def test_progress_is_shown_when_asked_for(digits, capsys):
    PatchVocabulary(4, max_iter=2, verbose=1, random_state=0).fit(digits[0]).certify(digits[0])
    assert "100%" in capsys.readouterr().err
    PatchVocabulary(4, max_iter=2, random_state=0).fit(digits[0]).certify(digits[0])
    shown = capsys.readouterr()
    assert shown.err == shown.out == ""


def test_what_follows_sees_tokens_alone_whatever_the_dtype(digits):
    X = digits[0] / 16
    vocabulary = PatchVocabulary(8, 4, random_state=0).fit(X)
    single = X.astype(np.float32)
    np.testing.assert_array_equal(vocabulary.tokenize(X), vocabulary.tokenize(single))
    np.testing.assert_array_equal(vocabulary.transform(X), vocabulary.transform(single))
    huge = PatchVocabulary.from_tokens([[-1e39], [1e39]], patch_size=1)
    assert np.isfinite(huge.transform(np.ones((1, 1, 1), np.float32))).all()


@pytest.mark.parametrize("shape", [None, (8, 8)])
def test_tokens_of_ones_own_can_be_learned_on(digits, shape):
    start = np.random.default_rng(0).normal(size=(6, 16))
    vocabulary = PatchVocabulary.from_tokens(start, patch_size=4, image_shape=shape)
    vocabulary.partial_fit(digits[0])
    assert vocabulary.n_iter_ == len(vocabulary.history_) > 0
    assert not np.array_equal(vocabulary.vocabulary_, start)


def test_bad_tokens_of_ones_own():
    def make(tokens, **options):
        return PatchVocabulary.from_tokens(tokens, **{"patch_size": 1, **options})

    for tokens in ([["1.0"], ["2.0"]], [[1j], [2.0]]):
        with pytest.raises(ValueError, match="numbers"):
            make(tokens)
    for value in (np.nan, np.inf, 1e151):
        with pytest.raises(ValueError, match="finite"):
            make([[0.0], [value]])
    for options in ({"per_channel": "foo"}, {"per_channel": None}, {"patch_size": True}):
        with pytest.raises(ValueError, match=r"per_channel|patch_size"):
            make([[0.0], [1.0]], **options)
    assert make([[0.0], [1.0], [0.0]]).n_tokens == 2


def test_per_channel_of_numpy_and_set_after_fit():
    X = np.random.default_rng(0).normal(size=(20, 4, 4, 3))
    by_numpy = PatchVocabulary(4, 2, per_channel=np.True_, random_state=0).fit(X)
    plain = PatchVocabulary(4, 2, per_channel=True, random_state=0).fit(X)
    np.testing.assert_array_equal(by_numpy.certify(X), plain.certify(X))
    plain.set_params(per_channel=False)  # counts from the next fit on, like any other
    np.testing.assert_array_equal(by_numpy.certify(X), plain.certify(X))


@pytest.mark.parametrize("kind", ["frame", "objects", "longdouble frame"])
def test_values_that_float64_would_round_are_refused(kind):
    large = [[2**53 + 1, 0], [2**53 + 3, 0]]
    X = {
        "frame": pd.DataFrame(large, columns=["a", "b"]),
        "objects": np.array(large, dtype=object),
        "longdouble frame": pd.DataFrame(np.array(large, dtype=np.longdouble), columns=["a", "b"]),
    }[kind]
    with pytest.raises((ValueError, TypeError), match=r"exactly|float64 first"):
        PatchVocabulary(2, 1).fit(X)


def test_sparse_images_are_refused(digits):
    vocabulary = PatchVocabulary(4, random_state=0).fit(digits[0])
    model = CertifiedPatchClassifier([("s", MaxAbsScaler().fit(digits[0])), ("v", vocabulary)])
    for method in (vocabulary.certify, model.certify):
        with pytest.raises(TypeError, match="parse"):
            method(scipy.sparse.csr_matrix(digits[0]))
