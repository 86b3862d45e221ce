"""Ctrl-C, wherever it comes, is an error that leaves everything as it was; and bars on request."""

import pickle
import signal

import numpy as np
import pytest
from interrupts_for_tests import CtrlC, heard, network, pipeline, pressed, some_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    with heard():
        yield


@pytest.fixture
def ctrl_c(monkeypatch):
    """A function that arms the callback."""

    def arm(armed=True):
        monkeypatch.setattr(CtrlC, "armed", armed)

    return arm


@pytest.fixture(scope="module")
def data(digits):
    return some_digits(digits)


# ---------------------------------------------------------------------------- fit


@pytest.mark.parametrize("strategy", ["learned", "kmeans", "denoised", "supervised"])
def test_a_vocabulary_is_what_it_was(data, monkeypatch, strategy):
    X, y = data
    options = {"random_state": 0, "strategy": strategy, "max_iter": 2}
    fresh, fitted = PatchVocabulary(12, 8, **options), PatchVocabulary(12, 8, **options).fit(X, y)
    states = [pickle.dumps(fresh), pickle.dumps(fitted)]
    with monkeypatch.context() as patch:
        patch.setattr(
            "sklearn_patchcert.vocabulary.training.distinct_tokens",
            lambda tokens: signal.raise_signal(signal.SIGINT),
        )
        for vocabulary in (fresh, fitted):
            with pytest.raises(KeyboardInterrupt):
                vocabulary.fit(X[100:], y[100:])
        if strategy != "supervised":
            with pytest.raises(KeyboardInterrupt):
                fitted.partial_fit(X[100:])
    assert [pickle.dumps(fresh), pickle.dumps(fitted)] == states
    np.testing.assert_array_equal(fresh.fit(X, y).vocabulary_, fitted.vocabulary_)


def test_a_vocabulary_in_the_middle_of_its_training(data):
    vocabulary = PatchVocabulary(6, 4, loss=pressed, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        vocabulary.fit(data[0])
    with pytest.raises(NotFittedError):
        vocabulary.certify(data[0])


def test_a_network_is_what_it_was(data, ctrl_c):
    X, y = data
    ctrl_c()
    net = network()
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y)
    with pytest.raises(NotFittedError):
        net.predict(X)
    ctrl_c(False)
    before = net.fit(X, y).predict_proba(X)
    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        net.fit(X[100:], y[100:])
    np.testing.assert_array_equal(net.predict_proba(X), before)
    assert len(net.history_) == 2


@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
def test_what_was_trained_before_stays_and_goes_on_as_if_nothing_had_been(data, ctrl_c, how):
    X, y = data
    stopped, other = (network(warm_start=how == "warm_start").fit(X, y) for _ in range(2))
    before = stopped.predict_proba(X)

    def train(net):
        return net.partial_fit(X, y) if how == "partial_fit" else net.fit(X, y)

    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        train(stopped)
    np.testing.assert_array_equal(stopped.predict_proba(X), before)
    ctrl_c(False)
    for net in (stopped, other):
        train(net)
    np.testing.assert_array_equal(stopped.predict_proba(X), other.predict_proba(X))
    assert stopped.history_[:, "train_loss"] == other.history_[:, "train_loss"]


@pytest.mark.parametrize("memory", [False, True])
def test_a_pipeline_does_not_mix_an_old_step_with_a_new_one(data, ctrl_c, tmp_path, memory):
    X, y = data
    model = pipeline(memory=str(tmp_path) if memory else None)
    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    with pytest.raises(NotFittedError):
        model[0].certify(X)
    ctrl_c(False)
    model.fit(X, y)
    before = model.predict_proba(X), model.certify(X), model[0]
    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        model.fit(-X[100:], y[100:])
    assert model[0] is before[2]
    np.testing.assert_array_equal(model.predict_proba(X), before[0])
    np.testing.assert_array_equal(model.certify(X), before[1])


def test_errors_do_not_mix_steps_either(data):
    X, y = data
    steps = [("scale", StandardScaler()), ("vocab", PatchVocabulary(6, 4, random_state=0))]
    model = CertifiedPatchClassifier([*steps, ("clf", RidgeClassifier())]).fit(X, y)
    before = model.certify(X)
    with pytest.raises(ValueError, match="inconsistent"):
        model.fit(5 * X[:100], y[:50])
    np.testing.assert_array_equal(model.certify(X), before)


def test_a_search_ends(data, ctrl_c):
    """And does not score a network that was not trained to the end."""
    search = GridSearchCV(pipeline(), {"vocab__n_tokens": [4, 6]}, cv=2)
    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        search.fit(*data)
    assert not hasattr(search, "best_estimator_")
