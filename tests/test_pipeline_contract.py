"""The certified pipelines as scikit-learn's: slices, parameters, searches, memory, frames."""

import joblib
import numpy as np
import pandas as pd
import pytest
from pipelines_for_tests import clone_steps, net, vocabulary
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    StandardScaler,
)

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
)
from sklearn_patchcert.voronoi.certificate import NORMS


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[:200], y[:200]


class CountedVocabulary(PatchVocabulary):
    """Counts its fits."""

    fits = 0

    def fit(self, X, y=None):
        type(self).fits += 1
        return super().fit(X, y)


def test_slices_are_plain_pipelines(few):
    X, y = few
    steps = [("scale", StandardScaler()), ("vocab", vocabulary()), ("clf", DummyClassifier())]
    model = CertifiedPatchClassifier(steps).fit(X, y)
    for part in (model[:2], model[:-1], model[:], model[0:2:1]):
        assert type(part) is Pipeline
        assert not hasattr(part, "certify")
    made = model["vocab"].transform(model["scale"].transform(X))
    np.testing.assert_array_equal(model[:-1].transform(X), made)
    assert model[1] is model["vocab"] is model.named_steps["vocab"] is model[-2]
    assert model[:2][1] is model["vocab"]
    with pytest.raises(ValueError, match="step of 1"):
        model[::2]
    with pytest.raises(KeyError):
        model["nothing"]
    with pytest.raises(IndexError):
        model[3]


@pytest.mark.parametrize("kind", [CertifiedPatchClassifier, CertifiedPatchRegressor])
def test_nested_parameters(few, kind):
    X, y = few
    model = kind()
    given = {
        "vocab__n_tokens": 7,
        "vocab__strategy": "kmeans",
        "vocab__random_state": 0,
        "clf__lr": 0.01,
        "clf__max_epochs": 2,
        "clf__module__width": 5,
        "clf__random_state": 0,
    }
    assert model.set_params(**given) is model
    assert {name: model.get_params()[name] for name in given} == given
    model.fit(X, y)
    assert len(model["vocab"].vocabulary_) == 7
    assert model["clf"].module_.features[0].out_channels == 5
    assert len(model["clf"].history_) == 2
    copy = clone(model)
    assert {name: copy.get_params()[name] for name in given} == given
    with pytest.raises(NotFittedError):
        copy.certify(X)
    np.testing.assert_array_equal(copy.fit(X, y).predict(X), model.predict(X))
    # two default pipelines share nothing
    assert kind().get_params()["vocab__n_tokens"] == 64
    assert kind()["vocab"] is not kind()["vocab"]
    with pytest.raises(ValueError, match="no_such"):
        model.set_params(vocab__no_such=1)


def test_grid_search_over_vocabularies_and_none(few):
    X, y = few
    model = CertifiedPatchClassifier([("vocab", vocabulary()), ("clf", KNeighborsClassifier(1))])
    grid = [
        {"vocab__n_tokens": [2, 30]},
        {"vocab": ["passthrough", vocabulary(output="ids")]},
    ]
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] < scores[1] < scores[2]  # tokens lose something, two of them a lot
    plain = cross_val_score(KNeighborsClassifier(1), X, y, cv=2).mean()
    assert scores[2] == plain
    assert search.best_estimator_.get_params()["vocab"] == "passthrough"
    with pytest.raises(ValueError, match="No PatchVocabulary"):
        search.best_estimator_.certify(X)
    only = GridSearchCV(model, grid[0], cv=2, error_score="raise").fit(X, y).best_estimator_
    expected = vocabulary(n_tokens=30).fit(X).certify(X)
    np.testing.assert_array_equal(only.certify(X), expected)


def test_grid_search_over_both_steps_and_the_certificate_as_the_score(few):
    X, y = few

    def mean_radius(model, X, y):
        return model.certify(X).mean()

    model = CertifiedPatchClassifier([("vocab", vocabulary()), ("clf", net())])
    grid = {"vocab__n_tokens": [4, 40], "clf": [DummyClassifier(), net()]}
    search = GridSearchCV(model, grid, cv=2, scoring=mean_radius, error_score="raise").fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    at = [params["vocab__n_tokens"] for params in search.cv_results_["params"]]
    few_tokens, many = ({s for s, m in zip(scores, at, strict=True) if m == n} for n in (4, 40))
    assert len(few_tokens) == len(many) == 1  # the classifier has no say
    assert few_tokens.pop() > many.pop()


def test_memory_fits_a_vocabulary_once(few, tmp_path):
    X, y = few
    CountedVocabulary.fits = 0
    first = CountedVocabulary(8, 3, random_state=0)
    steps = [("scale", StandardScaler()), ("vocab", first), ("clf", KNeighborsClassifier(1))]
    model = CertifiedPatchClassifier(steps, memory=joblib.Memory(tmp_path, verbose=0)).fit(X, y)
    assert CountedVocabulary.fits == 1
    predictions, radii = model.predict(X), model.certify(X)
    again = clone(model).set_params(clf__n_neighbors=3).fit(X, y)
    assert CountedVocabulary.fits == 1  # from the cache
    np.testing.assert_array_equal(again.certify(X), radii)
    again.set_params(clf__n_neighbors=1).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), predictions)
    clone(model).set_params(vocab__n_tokens=9).fit(X, y)
    assert CountedVocabulary.fits == 2
    assert model[:2].memory is model.memory


@pytest.mark.parametrize("kind", [CertifiedPatchClassifier, CertifiedPatchRegressor])
def test_persistence(few, kind, tmp_path):
    X, y = few
    last = net(PatchNetClassifier if kind is CertifiedPatchClassifier else PatchNetRegressor)
    steps = [("scale", ChannelStandardizer()), ("vocab", vocabulary()), ("clf", last)]
    model = kind(steps).fit(X, y)
    joblib.dump(model, tmp_path / "model")
    back = joblib.load(tmp_path / "model")
    assert type(back) is kind
    for norm in NORMS:
        np.testing.assert_array_equal(back.certify(X, norm), model.certify(X, norm))
    np.testing.assert_array_equal(back.predict(X), model.predict(X))
    if kind is CertifiedPatchClassifier:
        np.testing.assert_array_equal(back.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("output", ["images", "ids"])
def test_frames_between_the_steps(few, output):
    X, y = few
    frame = pd.DataFrame(X).add_prefix("pixel")

    def model():
        steps = [
            ("scale", MinMaxScaler()),
            ("vocab", vocabulary(output=output)),
            ("clf", KNeighborsClassifier(1)),
        ]
        return CertifiedPatchClassifier(steps)

    plain, framed = model().fit(X, y), model().set_output(transform="pandas").fit(frame, y)
    made = framed[:-1].transform(frame)
    assert isinstance(made, pd.DataFrame)
    patches = [f"patch_{row}_{col}" for row in range(3) for col in range(3)]
    names = list(frame.columns) if output == "images" else patches
    assert list(made.columns) == list(framed[:-1].get_feature_names_out()) == names
    assert list(framed.feature_names_in_) == list(frame.columns)
    # minima and maxima do not round, so pandas' layout by columns changes nothing
    np.testing.assert_array_equal(made, plain[:-1].transform(X))
    np.testing.assert_array_equal(framed.predict(frame), plain.predict(X))
    np.testing.assert_array_equal(framed.certify(frame), plain.certify(X))


def test_frames_reach_the_default_network(few):
    X, y = few
    frame = pd.DataFrame(X).add_prefix("pixel")
    steps = [("vocab", vocabulary()), ("clf", net())]
    framed = CertifiedPatchClassifier(clone_steps(steps)).set_output(transform="pandas")
    framed.fit(frame, y)
    plain = CertifiedPatchClassifier(steps).fit(X, y)
    np.testing.assert_array_equal(framed.predict_proba(frame), plain.predict_proba(X))
    assert list(framed["clf"].feature_names_in_) == list(frame.columns)


def test_frozen_vocabulary(few):
    X, y = few
    own = PatchVocabulary.from_tokens(np.eye(16), patch_size=4)
    model = CertifiedPatchClassifier([("vocab", FrozenEstimator(own)), ("clf", DummyClassifier())])
    np.testing.assert_array_equal(model.fit(X, y).certify(X), own.certify(X))


def test_wrong_number_of_features_behind_a_scaler(few):
    X, y = few
    steps = [("s", StandardScaler()), ("vocab", vocabulary()), ("clf", DummyClassifier())]
    model = CertifiedPatchClassifier(steps).fit(X, y)
    with pytest.raises(ValueError, match="features"):
        model.certify(X[:, :63])
