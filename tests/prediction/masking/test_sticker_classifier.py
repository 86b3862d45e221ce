"""StickerCertifiedClassifier as a classifier: its answers, layouts, and what it remembers."""

import pickle
import signal

import numpy as np
import pytest
from masked_for_tests import small_net, tokens
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import CategoricalNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tqdm.auto import tqdm

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchVocabulary,
    StickerCertifiedClassifier,
)
from sklearn_patchcert.prediction.masking.views import MaskedView
from sklearn_patchcert.scorers import sticker_accuracy


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


@pytest.mark.parametrize("kind", ["tokens", "ids", "network", "search", "pixels", "net of pixels"])
def test_images_are_taken_in_any_layout(data, kind):
    """As rows, as gray images and with an axis of channels, whichever came to fit."""
    X, y = data
    layouts = [X, X.reshape(-1, 8, 8), X.reshape(-1, 8, 8, 1)]
    fitted = layouts[: 1 + ("net" in kind)]  # classifiers of scikit-learn want rows
    for given in fitted:
        model = StickerCertifiedClassifier(MODELS[kind](), 2, n_masks=2).fit(given, y)
        found = model.certify(given[180:183])
        for other in layouts:
            again = pickle.loads(pickle.dumps(model))  # which remembers nothing
            np.testing.assert_array_equal(again.predict(other[180:183]), found.prediction)
            same = again.certify(other[180:183])
            np.testing.assert_array_equal(same.places, found.places)
            if found.radii is not None:
                np.testing.assert_array_equal(same.radii, found.radii)
            if hasattr(model, "predict_proba"):
                expected = model.predict_proba(given[180:183])
                np.testing.assert_array_equal(again.predict_proba(other[180:183]), expected)


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


def test_color_images_without_whole_patches(colour):
    X, y = colour
    for per_channel in (False, True, "shared"):
        vocabulary = {"per_channel": per_channel, "patch_size": 2, "n_tokens": 6}
        mask = "mean" if per_channel else 2
        model = StickerCertifiedClassifier(tokens(small_net(), **vocabulary), 2, mask=mask)
        found = model.fit(X, y).certify(X[:6])
        assert found.places.shape == (6, 3, 4)
        assert found.radii.shape == ((6, 3, 4, 3) if per_channel else (6, 3, 4))
    net = StickerCertifiedClassifier(small_net(), 2, mask=[1, 10, 50]).fit(X, y)
    assert net.mask_values_.reshape(6, 7, 3)[3, 3].tolist() == [1, 10, 50]
    assert net.certify(X[:3]).places.shape == (3, 6, 7)


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


@pytest.mark.parametrize(
    "options",
    [{"sticker_size": 6}, {"sticker_size": 100}, {"sticker_size": 2, "n_masks": 1},
     {"sticker_size": 1, "n_masks": (1, 1)}, {"sticker_size": [(1, 1), (8, 8)]},
     {"sticker_size": 7, "mask_training": True}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("of_tokens", [True, False])
def test_a_mask_that_hides_whole_images_is_told(data, options, of_tokens):
    """Behind it all images have the same answer, and it would be certified."""
    vocabulary = PatchVocabulary(4, 2, strategy="kmeans", random_state=0)
    steps = [("vocab", vocabulary), ("clf", small_net())]
    estimator = CertifiedPatchClassifier(steps) if of_tokens else small_net()
    if not of_tokens and options["sticker_size"] in (6, 7):
        options = {**options, "sticker_size": 8}  # of 8 pixels
    model = StickerCertifiedClassifier(estimator, **options)
    with pytest.warns(UserWarning, match=r"hides all . x . (tokens|pixels)"):
        model.fit(*data)
