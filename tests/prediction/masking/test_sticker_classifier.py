"""StickerCertifiedClassifier as an estimator: what it fits, what it remembers, what it refuses."""

import pickle
import signal

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import CategoricalNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tqdm.auto import tqdm

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchVocabulary,
    StickerCertifiedClassifier,
)
from sklearn_patchcert.networks import RandomMasks
from sklearn_patchcert.prediction.masking.views import MaskedView
from sklearn_patchcert.scorers import sticker_accuracy


class Weighted(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        self.weight_ = sample_weight
        return super().fit(X, y, sample_weight)


@pytest.fixture
def asked(monkeypatch):
    """How many images are asked for in each batch, so far."""
    sizes, masked = [], MaskedView.masked
    monkeypatch.setattr(
        MaskedView, "masked", lambda *args: sizes.append(len(args[3])) or masked(*args)
    )
    return sizes


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits
    return X[:200] / 16, y[:200]


def tokens(clf=None, **options):
    options = {"n_tokens": 8, "patch_size": 2, "strategy": "kmeans", "random_state": 0, **options}
    clf = LogisticRegression(C=0.1) if clf is None else clf
    return CertifiedPatchClassifier([("vocab", PatchVocabulary(**options)), ("clf", clf)])


def small_net(**options):
    small = {"max_epochs": 1, "module__width": 4, "module__hidden": 8, "random_state": 0}
    return PatchNetClassifier(**{**small, **options})


MODELS = {
    "tokens": lambda: tokens(),
    "ids": lambda: tokens(CategoricalNB(min_categories=8), output="ids"),
    "scaled": lambda: CertifiedPatchClassifier([("scale", StandardScaler()), *tokens().steps]),
    "network": lambda: tokens(small_net()),
    "search": lambda: GridSearchCV(tokens(), {"vocab__n_tokens": [8]}, cv=2),
    "pixels": lambda: LogisticRegression(C=0.1),
    "net of pixels": lambda: small_net(),
    "neighbors": lambda: KNeighborsClassifier(3),
    "no probabilities": lambda: RidgeClassifier(),
    "not its probabilities": lambda: CalibratedClassifierCV(SVC(), cv=2, ensemble=False),
}


@pytest.mark.parametrize("kind", MODELS)
def test_certificates_and_predictions_agree(data, kind):
    X, y = data
    model = StickerCertifiedClassifier(MODELS[kind](), 2, n_masks=2).fit(X, y)
    some = X[180:192]
    predicted, found = model.predict(some), model.certify(some)
    np.testing.assert_array_equal(found.prediction, predicted)
    np.testing.assert_array_equal(found.certified, found.places.all((1, 2)))
    assert found.places.shape == (12, *model.grid_)
    assert (found.n_predictions <= len(model._made_plan.unions)).all()
    joint = kind in ("tokens", "ids", "scaled", "network", "search")
    assert model.mask_space_ == ("tokens" if joint else "pixels")
    assert model.grid_ == ((4, 4) if joint else (8, 8))
    if joint:
        inside = getattr(model.estimator_, "best_estimator_", model.estimator_)
        np.testing.assert_array_equal(found.radii, inside.certify(some))
        ids = inside.named_steps["vocab"].tokenize(
            inside[0].transform(some) if kind == "scaled" else some
        )
        np.testing.assert_array_equal(model.predict_tokens(ids), predicted)
    else:
        assert found.radii is None
        with pytest.raises(TypeError, match="predict_tokens is for a pipeline"):
            model.predict_tokens(np.zeros((1, 4, 4), dtype=int))
    assert hasattr(model, "predict_proba") == (kind != "no probabilities")
    if hasattr(model, "predict_proba"):
        probabilities = model.predict_proba(some)
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
        np.testing.assert_array_equal(model.classes_[probabilities.argmax(1)], predicted)


@pytest.mark.parametrize("kind", ["tokens", "ids", "network", "net of pixels"])
def test_neither_jobs_nor_batches_change_anything(data, kind):
    X, y = data
    X, options = X.reshape(-1, 8, 8) if "net" in kind else X, {"n_masks": 2}
    model = StickerCertifiedClassifier(MODELS[kind](), 2, **options).fit(X, y)
    found = model.certify(X[180:])
    for change in ({"n_jobs": 2}, {"n_jobs": 3, "batch_size": 50}):
        other = pickle.loads(pickle.dumps(model)).set_params(**change)
        again = other.certify(X[180:])
        for name in ("prediction", "certified", "places", "masks"):
            np.testing.assert_array_equal(again[name], found[name])
        np.testing.assert_array_equal(other.certify(X[185:190]).places, found.places[5:10])


@pytest.mark.parametrize("change", [{"sticker_size": 3}, {"n_stickers": 2}])
def test_no_certificate_is_for_stickers_that_the_masks_do_not_cover(data, change):
    X, y = data
    model = StickerCertifiedClassifier(tokens(), 1, n_masks=2).fit(X, y)
    with pytest.raises(ValueError, match="Fit the model again"):
        model.set_params(**change).certify(X[:2])


def test_what_has_been_certified_is_not_asked_for_again(data, asked):
    X, y = data
    model = StickerCertifiedClassifier(tokens(), 2, n_masks=2).fit(X, y)
    found = model.certify(X[:10])

    def asks(model, images):
        asked.clear()
        return model.predict(images), sum(asked) > 0

    labels, new = asks(model, X[:10])
    np.testing.assert_array_equal(labels, found.prediction)
    again = model.certify(X[:10][::-1])
    np.testing.assert_array_equal(again.places, found.places[::-1])
    np.testing.assert_array_equal(again.n_predictions, found.n_predictions[::-1])
    assert not asked
    assert not new
    assert asks(model, X[:10].astype(np.float32))[1]  # another dtype is another question
    assert asks(model, X[5:15])[1]
    assert asks(pickle.loads(pickle.dumps(model)), X[:10])[1]
    model.estimator_.named_steps["clf"].coef_ *= -1
    labels, new = asks(model, X[:10])
    assert new
    assert (labels != found.prediction).any()
    assert (model.certify(X[:10]).prediction == labels).all()
    assert asks(model.fit(X[:100], y[:100]), X[:10])[1]


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_an_interrupt_keeps_what_is_done(data, asked, monkeypatch, n_jobs):
    X, y = data
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    model = StickerCertifiedClassifier(tokens(), 2, n_masks=2, n_jobs=n_jobs).fit(X, y)
    update, calls = tqdm.update, []

    def pressed(self, n):
        calls.extend([n] * (n == 4))  # images of one part
        if len(calls) == 10:
            signal.raise_signal(signal.SIGINT)
        return update(self, n)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(tqdm, "update", pressed)
            with pytest.raises(KeyboardInterrupt):
                model.certify(X[:64])
    finally:
        signal.signal(signal.SIGINT, before)
    assert sum(calls) == 40
    asked.clear()
    model.certify(X[:40])
    assert not asked
    found = model.certify(X[:64])
    fresh = pickle.loads(pickle.dumps(model)).certify(X[:64])
    np.testing.assert_array_equal(found.places, fresh.places)


def test_labels_may_be_texts_and_a_fitted_classifier_is_taken_as_it_is(data):
    X, y = data
    names = np.array(list("abcdefghij"))[y]
    fitted = tokens().fit(X, names)
    model = StickerCertifiedClassifier(FrozenEstimator(fitted), 1).fit(X, names)
    assert model.estimator_.estimator is fitted
    assert set(model.predict(X[:5])) <= set("abcdefghij")
    assert 0 < sticker_accuracy(model, X[:50], names[:50]) <= model.score(X[:50], names[:50])


def test_it_can_be_searched_over_and_cloned(data):
    X, y = data
    model = StickerCertifiedClassifier(tokens(), 2)
    grid = {"n_masks": [2, None], "estimator__vocab__n_tokens": [8]}
    search = GridSearchCV(model, grid, scoring=sticker_accuracy, cv=2).fit(X[:100], y[:100])
    assert (search.cv_results_["mean_test_score"] > 0).any()
    assert sticker_accuracy(search, X[100:120], y[100:120]) <= search.predict(X).size
    assert clone(model).get_params().keys() == model.get_params().keys()
    with pytest.raises(TypeError, match="no certificate against stickers"):
        sticker_accuracy(search.best_estimator_.estimator_, X[:5], y[:5])


def test_weights_reach_the_classifier(data):
    X, y = data
    weight = np.random.default_rng(0).random(len(y))
    model = StickerCertifiedClassifier(tokens(Weighted(C=0.1)), 2, n_masks=2)
    model.fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(model.estimator_.named_steps["clf"].weight_, weight)
    plain = StickerCertifiedClassifier(Weighted(C=0.1), 2).fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(plain.estimator_.weight_, weight)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = StickerCertifiedClassifier(Weighted(C=0.1).set_fit_request(sample_weight=True), 2)
        routed.fit(X, y, sample_weight=weight)
        np.testing.assert_array_equal(routed.estimator_.weight_, weight)
        with pytest.raises(ValueError, match="sample_weight"):
            StickerCertifiedClassifier(Weighted(C=0.1), 2).fit(X, y, sample_weight=weight)


def test_color_images_without_whole_patches(colour):
    X, y = colour
    for per_channel in (False, True, "shared"):
        vocabulary = {"per_channel": per_channel, "patch_size": 4, "n_tokens": 6}
        mask = "mean" if per_channel else 2
        model = StickerCertifiedClassifier(tokens(small_net(), **vocabulary), 2, mask=mask)
        found = model.fit(X, y).certify(X[:6])
        assert found.places.shape == (6, 2, 2)
        assert found.radii.shape == ((6, 2, 2, 3) if per_channel else (6, 2, 2))
    net = StickerCertifiedClassifier(small_net(), 2, mask=[1, 10, 50]).fit(X, y)
    assert net.mask_values_.reshape(6, 7, 3)[3, 3].tolist() == [1, 10, 50]
    assert net.certify(X[:3]).places.shape == (3, 6, 7)


# ---------------------------------------------------------------------------- masks in training


def test_training_draws_the_masks_of_the_certificate(data, monkeypatch):
    X, y = data
    seen = []
    call = RandomMasks.__call__
    monkeypatch.setattr(
        RandomMasks, "__call__", lambda self, images: seen.append(self) or call(self, images)
    )
    model = StickerCertifiedClassifier(tokens(small_net()), 2).fit(X, y)
    pixels = model.masks_.repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(seen[0].masks, pixels)
    np.testing.assert_allclose(
        np.broadcast_to(seen[0].values, (1, 8, 8)).ravel(), model.mask_values_, rtol=1e-6
    )
    assert model.estimator_.named_steps["clf"].mask_training is None
    seen.clear()
    StickerCertifiedClassifier(tokens(small_net()), 2, mask_training=False).fit(X, y)
    assert not seen
    own = RandomMasks(np.eye(64, dtype=bool).reshape(64, 8, 8), 0.0)
    model = StickerCertifiedClassifier(tokens(small_net(mask_training=own)), 2).fit(X, y)
    np.testing.assert_array_equal(seen[0].masks, own.masks)
    assert model.estimator_.named_steps["clf"].mask_training is not None


def test_the_token_of_a_mask_is_known_to_training_and_inference_alike(data, monkeypatch):
    X, y = data
    seen = []
    monkeypatch.setattr(
        RandomMasks, "__call__", lambda self, images: seen.append(self.values) or images
    )
    model = StickerCertifiedClassifier(tokens(small_net()), 2, mask=3).fit(X, y)
    tile = model.estimator_[0].vocabulary_[3].reshape(2, 2)
    np.testing.assert_array_equal(model.mask_values_.reshape(8, 8), np.tile(tile, (4, 4)))
    np.testing.assert_array_equal(seen[0][0], np.tile(tile, (4, 4)))


def test_the_token_of_a_mask_needs_a_vocabulary(data):
    masks = RandomMasks(np.ones((1, 8, 8)), 3)
    with pytest.raises(ValueError, match="there is no vocabulary"):
        small_net(mask_training=masks).fit(*data)
    with pytest.raises(ValueError, match="not one of 0 to 7"):
        tokens(small_net(mask_training=RandomMasks(np.ones((1, 8, 8)), 8))).fit(*data)


def test_random_masks_hide_what_they_say():
    torch = pytest.importorskip("torch")
    masks = RandomMasks(np.eye(4, dtype=bool).reshape(4, 2, 2), -1.0, share=0.5, pairs=0.5)
    images = torch.rand(4000, 3, 2, 2)
    hidden = (masks(images) == -1).all(1).sum((1, 2)).numpy()
    assert np.bincount(hidden).tolist()[0] == pytest.approx(2000, abs=200)
    assert (hidden == 2).sum() == pytest.approx(4000 * 0.5 * 0.5 * 0.75, abs=200)
    for wrong in ({"share": 2}, {"pairs": -1}, {"masks": np.zeros((2, 2))}):
        with pytest.raises(ValueError, match="must be"):
            RandomMasks(**{"masks": np.zeros((1, 2, 2)), **wrong})
    with pytest.raises(ValueError, match="masks are for images"):
        masks(torch.zeros(1, 3, 4, 4))


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sticker_size": 0}, "sticker_size must be"),
        ({"mask": "median"}, "mask must be"),
        ({"mask": True}, "mask must be"),
        ({"mask": -1e39}, "mask must be"),
        ({"mask": [10.0**300]}, "mask must be"),
        ({"mask": 10**400, "estimator": LogisticRegression()}, "mask must be"),
        ({"mask": [np.nan]}, "mask must be"),
        ({"mask": 8}, "not one of the tokens 0 to 7"),
        ({"mask": [1.0, 2.0]}, "does not broadcast"),
        ({"n_masks": 0}, "n_masks"),
        ({"n_masks": (1, 2, 3)}, "n_masks must be"),
        ({"n_stickers": 3}, "n_stickers"),
        ({"estimator": Ridge()}, "is a regressor"),
        ({"estimator": tokens(CategoricalNB(min_categories=8), output="ids"), "mask": 0.5},
         "must be \"mean\" or a token id"),
        ({"estimator": CertifiedPatchClassifier([("pca", PCA(64)), *tokens().steps])},
         "cannot see through PCA"),
    ],
)  # fmt: skip
def test_options_that_would_not_do_are_refused(data, options, match):
    model = StickerCertifiedClassifier(tokens(), 2).set_params(**options)
    with pytest.raises((ValueError, TypeError), match=match):
        model.fit(*data)
    assert not hasattr(model, "estimator_")


def test_several_labels_are_refused(data):
    X, y = data
    with pytest.raises(ValueError, match="several labels for each image"):
        StickerCertifiedClassifier(small_net(), 2).fit(X, np.eye(10, dtype=int)[y])


def test_a_classifier_that_depends_on_chance_or_others_is_not_certified(data):
    X, y = data
    model = StickerCertifiedClassifier(tokens(DummyClassifier(strategy="uniform")), 2).fit(X, y)
    with pytest.raises(ValueError, match="depends on chance"):
        model.certify(X[:20])


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_frames_keep_their_columns(data, output):
    pd = pytest.importorskip("pandas")
    X, y = data
    frame, model = pd.DataFrame(X).add_prefix("x"), tokens()
    model.named_steps["vocab"].set_output(transform=output)
    for inside in (model, LogisticRegression(C=0.1)):
        masked = StickerCertifiedClassifier(inside, 2, n_masks=2).fit(frame, y)
        assert masked.feature_names_in_[0] == "x0"
        found = masked.certify(frame[:5])
        masked.predict_proba(frame[5:7])
        plain = StickerCertifiedClassifier(inside, 2, n_masks=2)
        same = plain.fit(X, y).certify(X[:5]) if output == "default" else found
        np.testing.assert_array_equal(found.places, same.places)
        if inside is model:
            ids = masked.estimator_[0].tokenize(frame[:5])
            np.testing.assert_array_equal(masked.predict_tokens(ids), found.prediction)


@pytest.mark.parametrize("output", ["images", "ids"])
def test_what_is_hidden_are_the_patches_of_the_mask(colour, output):
    X, y = colour  # 6 x 7 pixels
    options = {"patch_size": (2, 3), "per_channel": output == "ids", "output": output}
    clf = small_net() if output == "images" else CategoricalNB(min_categories=8)
    model = StickerCertifiedClassifier(tokens(clf, **options), (2, 1), mask=1).fit(X, y)
    setting, given = model._setting(), model.estimator_[0].transform(X[:1])
    assert model.grid_ == (3, 3)
    for at, hidden in enumerate(model.masks_):
        masked = setting.masked(given, [0], [model._made_plan.pairs[at, at]])
        shape = (6, 7, 3) if output == "images" else (3, 3, 3)
        if output == "images":
            hidden = hidden.repeat(2, 0).repeat(3, 1)[:6, :7]
        values = model.mask_values_.reshape(shape)
        expected = np.where(hidden[..., None], values, given.reshape(shape))
        np.testing.assert_array_equal(masked.reshape(shape), expected)


def test_plain_pipelines_of_scikit_learn_have_tokens_too(data):
    X, y = data
    model = StickerCertifiedClassifier(make_pipeline(*(s for _, s in tokens().steps)), 2)
    assert model.fit(X, y).mask_space_ == "tokens"
    assert model.certify(X[:3]).radii.shape == (3, 4, 4)


def test_a_batch_size_of_few_bits_is_that_number(data):
    X, y = data
    model, narrow = (
        StickerCertifiedClassifier(tokens(), 2, batch_size=size).fit(X, y)
        for size in (100, np.int8(100))
    )
    np.testing.assert_array_equal(narrow.predict(X[:60]), model.predict(X[:60]))
    np.testing.assert_array_equal(narrow.certify(X[:60]).masks, model.certify(X[:60]).masks)


@pytest.mark.parametrize("output", ["images", "ids"])
def test_ids_that_no_vocabulary_makes_are_refused(data, output):
    X, y = data
    clf = CategoricalNB(min_categories=8) if output == "ids" else None
    model = StickerCertifiedClassifier(tokens(clf, output=output), 2).fit(X, y)
    ids = model.estimator_["vocab"].tokenize(X[:3])
    flat = model.predict_tokens(ids.reshape(3, -1))
    np.testing.assert_array_equal(flat, model.predict_tokens(ids))
    wrong = {
        "integers": ids + 0.5, "lie in": -1 - ids, "range": ids + 8, "bool": ids > 3,
        "str": ids.astype(str), "more": np.concatenate([ids, ids], 2), "fewer": ids[:, :2],
        "one image": ids[0], "none": [],
    }  # fmt: skip
    for name, some in wrong.items():
        with pytest.raises(ValueError, match=r"Token ids must|An image has"):
            pytest.fail(f"{name}: {model.predict_tokens(some)}")
