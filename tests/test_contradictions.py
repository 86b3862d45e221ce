"""What contradicts itself is refused: shapes, labels and columns of nested parts."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import CategoricalNB
from sklearn.tree import DecisionTreeClassifier

from sklearn_patchcert import (
    CertifiedCommittee,
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchVocabulary,
    SmoothedClassifier,
    certify,
    load,
    save,
)
from sklearn_patchcert.outofcore.certification import _fingerprint
from sklearn_patchcert.scorers import smoothing_accuracy, smoothing_radius


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits
    return X[:400] / 16, y[:400]


def own_tokens(tokens, shape, **options):
    """A pipeline of tokens of the user's own, which read rows as a parameter says."""
    vocabulary = PatchVocabulary.from_tokens(tokens, **options).set_params(image_shape=shape)
    steps = [
        ("vocab", FrozenEstimator(vocabulary)),
        ("clf", DecisionTreeClassifier(random_state=0)),
    ]
    return vocabulary, CertifiedPatchClassifier(steps)


def test_results_of_rows_that_were_cut_otherwise_are_refused(data):
    X, y = data
    tokens = PatchVocabulary(6, 2, strategy="kmeans", random_state=0).fit(X).vocabulary_
    vocabulary, pipeline = own_tokens(tokens, (8, 8), patch_size=2)
    pipeline.fit(X, y)
    before, told = pipeline.predict(X), _fingerprint(vocabulary)
    vocabulary.set_params(image_shape=(2, 32))
    alike = X[pipeline.predict(X) == before][:5]  # other predictions are refused by themselves
    assert len(alike) == 5
    assert _fingerprint(vocabulary) != told  # so that a file of radii is begun anew
    vocabulary.set_params(image_shape=(8, 8))
    found = pipeline.certify_prediction(alike, max_configurations=50)
    same = pipeline.certify_prediction(alike, max_configurations=50, previous=found)
    np.testing.assert_array_equal(same.radius, found.radius)
    vocabulary.set_params(image_shape=(2, 32))
    with pytest.raises(ValueError, match="previous is not of"):
        pipeline.certify_prediction(alike, max_configurations=50, previous=found)


def test_maps_of_rows_that_are_cut_otherwise_have_no_minimum():
    rng = np.random.default_rng(0)
    X, y, tokens = rng.random((60, 48)), np.arange(60) % 2, rng.random((6, 16))
    for other in ((8, 6), (6, 8, 1)):
        members = [own_tokens(tokens, shape, patch_size=4)[1] for shape in ((6, 8), other)]
        model = VotingClassifier(list(zip("ab", members, strict=True)), voting="soft").fit(X, y)
        if other == (6, 8, 1):
            assert certify(model, X).shape == (60, 2, 2)
            continue
        with pytest.raises(TypeError, match="no common patches"):
            certify(model, X)


@pytest.mark.parametrize("labels", ["numbers from 1", "texts", "numbers"])
def test_a_frozen_member_votes_by_number_or_is_refused(data, labels):
    X, y = data
    letters = np.array(list("abcdefghij"))
    named = {"numbers from 1": y + 1, "texts": letters[y], "numbers": y}[labels]
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0)
    steps = [("vocab", vocabulary), ("clf", DecisionTreeClassifier(random_state=0))]
    member = CertifiedPatchClassifier(steps).fit(X, named)
    committee = CertifiedCommittee([("a", FrozenEstimator(member))])
    if labels == "numbers":
        np.testing.assert_array_equal(committee.fit(X, y).predict(X), member.predict(X))
        return
    with pytest.raises(ValueError, match=r"'a' answers .* numbers 0 to 9"):
        committee.fit(X, named)
    assert not hasattr(committee, "estimators_")
    committee.set_params(a=member).fit(X, named)  # not frozen: fitted again, on numbers
    np.testing.assert_array_equal(committee.predict(X), member.predict(X))


@pytest.mark.parametrize("frozen", [False, True])
def test_smoothing_refuses_columns_in_another_order(data, frozen, tmp_path):
    frame, y = pd.DataFrame(data[0]).rename(columns="p{}".format), data[1]
    model, other = DecisionTreeClassifier(random_state=0), frame[frame.columns[::-1]]
    if frozen:
        vocabulary = PatchVocabulary(8, 2, strategy="kmeans", output="ids", random_state=0)
        steps = [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=8))]
        model = FrozenEstimator(CertifiedPatchClassifier(steps).fit(data[0], y))
    smoothed = SmoothedClassifier(model, sigma=0.1, n0=10, n=20, random_state=0).fit(frame, y)
    models = [smoothed]
    if frozen:
        save(smoothed, tmp_path / "model.patchcert")
        models.append(load(tmp_path / "model.patchcert"))
    for one in models:
        for use in (one.predict, one.certify):
            use(frame[:5])
            with pytest.raises(ValueError, match="feature names should match"):
                use(other[:5])
        np.testing.assert_array_equal(one.predict(frame[:5]), one.predict(data[0][:5]))
    assert not hasattr(smoothed.fit(data[0], y), "feature_names_in_")


def test_a_frozen_classifier_is_not_trained_on_noise(data):
    tree = DecisionTreeClassifier(random_state=0).fit(*data)
    for augment in (False, True):
        model = SmoothedClassifier(FrozenEstimator(tree), sigma=0.1, augment=augment)
        if not augment:
            assert model.fit(*data).estimator_.estimator is tree
            continue
        with pytest.raises(ValueError, match="a FrozenEstimator is not trained"):
            model.fit(*data)
        assert not hasattr(model, "estimator_")


def test_smoothing_of_a_fitted_model_refuses_columns_in_another_order(data):
    frame, y = pd.DataFrame(data[0]).rename(columns="p{}".format), data[1]
    vocabulary = PatchVocabulary(8, 2, strategy="kmeans", output="ids", random_state=0)
    steps = [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=8))]
    model, other = CertifiedPatchClassifier(steps).fit(frame, y), frame[frame.columns[::-1]]
    for score in (smoothing_accuracy, smoothing_radius):
        options = {"sigma": 0.1, "n": 20}
        score(model, frame[:20], y[:20], **options)
        with pytest.raises(ValueError, match="other names, or in another order"):
            score(model, other[:20], y[:20], **options)


@pytest.mark.parametrize("kind", ["array", "frame"])
def test_a_network_reads_rows_as_the_vocabulary_before_it(data, kind):
    X, y = data
    rows = pd.DataFrame(X).rename(columns="p{}".format) if kind == "frame" else X
    vocabulary = PatchVocabulary(4, 2, strategy="kmeans", image_shape=(4, 16), random_state=0)
    net = PatchNetClassifier(max_epochs=1, module__width=4, module__hidden=8, random_state=0)
    pipeline = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)])
    assert pipeline.fit(rows, y)["clf"].image_shape_ == (4, 16, 1)
    assert pipeline.predict(rows[:3]).shape == (3,)
    with pytest.raises(ValueError, match=r"image_shape of the network is \(16, 4\).*\(4, 16, 1\)"):
        pipeline.set_params(clf__image_shape=(16, 4)).fit(rows, y)
    assert pipeline["clf"].image_shape_ == (4, 16, 1)  # as it was
    assert pipeline.set_params(clf__image_shape=(4, 16)).fit(rows, y)["clf"].image_shape_[0] == 4
