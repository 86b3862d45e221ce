"""Scores of certificates against stickers, and what a model remembers: never of other images."""

import pickle

import numpy as np
import pandas as pd
import pytest
from masked_for_tests import small_net, tokens
from sklearn.dummy import DummyClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from sklearn_patchcert import StickerCertifiedClassifier
from sklearn_patchcert.networks import AdditivePatchNet
from sklearn_patchcert.prediction.masking.remembered import keys_of
from sklearn_patchcert.prediction.masking.rounds import Answers
from sklearn_patchcert.scorers import sticker_accuracy


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits
    return X[:200] / 16, y[:200]


@pytest.fixture
def asked(monkeypatch):
    """How many answers are new in each batch, so far."""
    numbers, fetch = [], Answers.fetch

    def counted(answers, *at):
        before = answers.asked.sum()
        fetch(answers, *at)
        numbers.append(int(answers.asked.sum() - before))

    monkeypatch.setattr(Answers, "fetch", counted)
    return numbers


def test_a_score_is_that_of_the_certificates_for_fewer_answers(data, asked):
    X, y = data[0][:60], data[1][:60]
    model = StickerCertifiedClassifier(tokens(), 2).fit(*data)
    fresh = pickle.loads(pickle.dumps(model))
    found = model.certify(X)
    share = (found.certified & (found.prediction == y)).mean()
    assert found.certified.any()
    assert (found.places.any((1, 2)) & ~found.certified).any()
    every = sum(asked)
    assert sticker_accuracy(model, X, y) == share
    assert sum(asked) == every  # remembered
    assert sticker_accuracy(fresh, X, y) == share
    assert every < sum(asked) < 1.9 * every
    again, before = fresh.certify(X), sum(asked)
    for name in ("prediction", "places", "masks", "n_predictions"):
        np.testing.assert_array_equal(again[name], found[name])
    another = pickle.loads(pickle.dumps(model))
    sticker_accuracy(another, X, y)
    between = sum(asked)
    another.certify(X[found.certified])  # what is certified everywhere is remembered in full
    assert sum(asked) == between > before


def test_a_score_refuses_what_a_certificate_refuses(data):
    X, y = data
    model = StickerCertifiedClassifier(tokens(DummyClassifier(strategy="uniform")), 2).fit(X, y)
    with pytest.raises(ValueError, match="depends on chance"):
        sticker_accuracy(model, X[:20], y[:20])
    model = StickerCertifiedClassifier(tokens(), 2).fit(X, y).set_params(sticker_size=4)
    with pytest.raises(ValueError, match="changed after fit"):
        sticker_accuracy(model, X[:20], y[:20])


@pytest.mark.parametrize("kind", ["Float64", "object", "mixed"])
def test_frames_and_objects_are_remembered_by_what_they_hold(data, kind):
    X, y = data
    model = StickerCertifiedClassifier(LogisticRegression(), 2, n_masks=3).fit(X, y)
    fresh, binary = pickle.loads(pickle.dumps(model)), (X > 0.5).astype(float)
    made = {
        "Float64": lambda: pd.DataFrame(binary).astype("Float64"),
        "object": lambda: binary.astype(object),
        "mixed": lambda: pd.DataFrame(binary).astype({0: bool}),
    }[kind]
    found = [model.certify(made()[at : at + 1]) for at in range(40)]
    wanted = fresh.certify(binary[:40])
    for name in ("prediction", "places"):
        here = np.concatenate([one[name] for one in found])
        np.testing.assert_array_equal(here, wanted[name])


def test_keys_are_of_content_dtype_shape_and_model():
    X = np.arange(8.0).reshape(2, 4)
    same = keys_of("a", X.copy())
    assert same == keys_of("a", X)
    assert len({*same}) == 2
    other = [
        keys_of("b", X), keys_of("a", X.astype(np.float32)), keys_of("a", X.reshape(2, 2, 2)),
        keys_of("a", X.astype(object)), keys_of("a", pd.DataFrame(X).astype("Float64")),
        keys_of("a", pd.DataFrame(X).astype("Float32")), keys_of("a", X + 1),
    ]  # fmt: skip
    assert len({*same}.union(*other)) == 2 * (1 + len(other))
    one, another = X.astype(object), X.astype(object)  # at other addresses
    assert keys_of("a", one) == keys_of("a", another)


def test_an_estimator_with_other_patches_is_refused(data):
    X, y = data
    inner = tokens(patch_size=1).fit(X, y)
    model = StickerCertifiedClassifier(FrozenEstimator(inner), 2).fit(X, y)
    inner.set_params(vocab__patch_size=2).fit(X, y)
    for use in (model.predict, model.predict_proba, model.certify):
        with pytest.raises(ValueError, match=r"grid of \(8, 8\) patches.*fitted again.*\(4, 4\)"):
            use(X[:2])
    with pytest.raises(ValueError, match="fitted again"):
        model.predict_tokens(np.zeros((1, 4, 4), dtype=int))
    with pytest.raises(ValueError, match="fitted again"):
        sticker_accuracy(model, X[:2], y[:2])
    assert model.fit(X, y).certify(X[:2]).places.shape == (2, 4, 4)


@pytest.mark.parametrize("shape", [(4, 16), (8, 8, 1), (8, 8), None])
@pytest.mark.parametrize("inner", [None, (8, 8), (16, 4)])
def test_a_shape_is_that_of_the_estimator_or_refused(data, shape, inner):
    X, y = data
    clf = tokens(image_shape=inner)
    model = StickerCertifiedClassifier(clf, 2, image_shape=shape)
    used = (8, 8, 1) if inner is None else (*inner, 1)
    if shape is None or (*shape[:2], 1) == used:
        assert model.fit(X, y).image_shape_ == used
        return
    with pytest.raises(ValueError, match=r"image_shape is .*, but the estimator took the images"):
        model.fit(X, y)
    assert not hasattr(model, "estimator_")


def test_a_network_whose_loss_has_no_masks_is_refused(data):
    net = small_net(module=AdditivePatchNet, module__width=4, module__hidden=None,
                    certified_radius=0.5)  # fmt: skip
    with pytest.raises(ValueError, match="mask_training=False of the StickerCertifiedClassifier"):
        StickerCertifiedClassifier(tokens(net), 2).fit(*data)
