"""Images with several labels: y is an indicator matrix, as for scikit-learn's MLPClassifier."""

import pickle

import numpy as np
import pytest
import torch
from nets_for_tests import Bare, make, same_weights
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.neural_network import MLPClassifier
from skorch.callbacks import EpochScoring
from skorch.dataset import ValidSplit
from torch import nn

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchVocabulary,
    SmoothedClassifier,
    load,
    save,
    scorers,
)
from sklearn_patchcert.attacks import run_attack, worst_case
from sklearn_patchcert.networks.outputs import rule_of

OPTIONS = {"max_epochs": 5, "lr": 0.03, "batch_size": 30}


@pytest.fixture(scope="module")
def several(digits):
    X, y = digits
    X, y = X[:150], y[:150]
    return X, np.stack([y % 2 == 0, y > 4, y == 3, y >= 0], axis=1).astype(int)


@pytest.fixture(scope="module")
def fitted(several):
    return make(**OPTIONS).fit(*several)


def pipeline(last):
    output = "images" if hasattr(last, "module") else "ids"
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", output=output, random_state=0)
    return CertifiedPatchClassifier([("vocab", vocabulary), ("clf", last)])


def test_outputs_are_those_of_scikit_learn(several, fitted):
    X, Y = several
    mlp = MLPClassifier(tol=1.0, random_state=0).fit(X / 16, Y)
    np.testing.assert_array_equal(fitted.classes_, np.arange(4))
    assert len(mlp.classes_) == 4
    for name in ("predict", "predict_proba", "predict_log_proba"):
        ours, theirs = (getattr(one, name)(X) for one in (fitted, mlp))
        assert ours.shape == theirs.shape == (150, 4)
        assert ours.dtype.kind == theirs.dtype.kind
    probabilities = fitted.predict_proba(X)
    np.testing.assert_array_equal(fitted.predict(X), probabilities > 0.5)
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X)), probabilities, rtol=1e-4)
    assert np.ptp(probabilities.sum(1)) > 0.1  # of each label by itself
    assert fitted.score(X, Y) > 0.5  # all four labels right
    losses = [log_loss(Y[:, i], probabilities[:, i], labels=[0, 1]) for i in range(4)]
    start = make(max_epochs=1, batch_size=-1).fit(X, Y).loss_curve_[0]
    assert 0.5 < start < 1.0  # about log 2, the mean over the labels
    assert np.mean(losses) < start


@pytest.mark.parametrize("as_given", [
    lambda Y: Y.astype(bool), lambda Y: Y.astype(float), lambda Y: Y.tolist(), csr_matrix,
    ], ids=["bool", "float", "list", "sparse"])  # fmt: skip
def test_targets_of_every_kind(several, fitted, as_given):
    X, Y = several
    net = make(**OPTIONS).fit(X, as_given(Y))
    assert same_weights(net, fitted)


def test_it_is_an_estimator_like_any_other(several, fitted, tmp_path):
    X, Y = several
    assert cross_val_score(make(**OPTIONS), X, Y, cv=2, error_score="raise").min() > 0.3
    assert cross_val_predict(make(**OPTIONS), X, Y, cv=2, method="predict_proba").shape == (150, 4)
    assert same_weights(clone(fitted).fit(X, Y), fitted)
    save(fitted, tmp_path / "net.patchcert")
    for again in (load(tmp_path / "net.patchcert"), pickle.loads(pickle.dumps(fitted))):
        assert again.multilabel_ is True
        np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
        again.partial_fit(X, Y)
    one = fitted.predict(X[:1])
    np.testing.assert_array_equal(one, fitted.predict(X)[:1])


def test_it_learns_further_and_other_things(several):
    X, Y = several
    warm = make(**OPTIONS, warm_start=True).fit(X, Y).fit(X, Y)
    assert same_weights(warm, make(**OPTIONS).fit(X, Y).partial_fit(X, Y))
    part = make(**OPTIONS).partial_fit(X, Y, classes=np.arange(4)).partial_fit(X[:1], Y[:1])
    assert len(part.history_) == 10
    with pytest.raises(ValueError, match="4 zeros and ones"):
        part.partial_fit(X, Y[:, :3])
    with pytest.raises(ValueError, match="4 zeros and ones"):
        part.partial_fit(X, Y[:, 0])
    with pytest.raises(ValueError, match="one label"):
        make().fit(X, Y[:, 0]).partial_fit(X, Y)
    with pytest.raises(ValueError, match="columns"):
        make().partial_fit(X, Y, classes=[1, 2, 3, 4])
    labels = np.where(Y[:, 0], "even", "odd")  # and with one label again
    assert same_weights(part.fit(X, labels), make(**OPTIONS).fit(X, labels))
    assert not part.multilabel_
    assert set(part.predict(X)) <= {"even", "odd"}


def test_weights_scores_flips_and_noise(several):
    X, Y = several
    score = EpochScoring("f1_macro", name="s", use_caching=False)
    net = make(**OPTIONS, noise_std=1.0, flip_radius=4.0, train_split=ValidSplit(3),
               callbacks=[score])  # fmt: skip
    weight = np.where(Y[:, 2], 100.0, 1.0)
    model = pipeline(net).fit(X, Y, clf__sample_weight=weight)
    assert len(model[-1].validation_scores_) == 5
    assert 0 < model[-1].history_[-1]["s"] <= 1
    plain = pipeline(make(**OPTIONS)).fit(X, Y)
    assert model.predict(X)[Y[:, 2] == 1, 2].mean() >= plain.predict(X)[Y[:, 2] == 1, 2].mean()
    assert plain.certify(X[:2]).shape == (2, 2, 2)


@pytest.mark.parametrize(("options", "said"), [
    ({"adversarial_radius": 1.0}, "adversarial_radius is for one label"),
    ({"certified_radius": 1.0}, "certified_radius is for one label"),
    ({"class_weight": "balanced"}, "pos_weight"),
    ({"criterion": nn.CrossEntropyLoss}, "BCEWithLogitsLoss"),
    ({"criterion__label_smoothing": 0.1}, "label_smoothing"),
    ({"module": Bare}, "10 outputs.*4"),
], ids=str)  # fmt: skip
def test_options_for_one_label_are_refused(several, options, said):
    net = make(**options)
    model = pipeline(net) if "certified_radius" in options else net
    with pytest.raises(ValueError, match=said):
        model.fit(*several)
    assert not net.initialized_
    assert not net.multilabel_


def test_a_loss_of_ones_own_with_weights_of_labels(several):
    net = make(criterion=nn.BCEWithLogitsLoss, **OPTIONS,
               criterion__pos_weight=torch.tensor([1.0, 1.0, 1000.0, 1.0]))  # fmt: skip
    assert net.fit(*several).predict(several[0])[:, 2].mean() > 0.5


def test_two_labels_that_are_numbers_are_not_an_indicator(several):
    X, Y = several
    with pytest.raises(ValueError, match="1d array"):
        make().fit(X, Y + np.arange(4))


# ---------------------------------------------------------------------------- refused elsewhere


@pytest.fixture(scope="module", params=["network", "forest"])
def model(several, request):
    net = request.param == "network"
    last = make(**OPTIONS) if net else RandomForestClassifier(5, random_state=0)
    return pipeline(last).fit(*several)


@pytest.mark.parametrize("n", [1, 3, 4])
def test_certified_predictions_are_for_one_label(several, model, n):
    with pytest.raises(ValueError, match="certificates are for one output"):
        model.certify_prediction(several[0][:n])
    with pytest.raises(ValueError, match="certificates are for one output"):
        model.certify_prediction(several[0][:n], method="additive")


CALLS = {
    "run_attack": lambda model, X, Y: run_attack(model, X, Y, "noise", eps=1.0),
    "worst_case": lambda model, X, Y: worst_case(model, X, Y, ["noise"], eps=1.0),
    "attack_accuracy": lambda *case: scorers.attack_accuracy(*case, eps=1.0),
    "sspgd_accuracy": lambda *case: scorers.sspgd_accuracy(*case, eps=1.0),
    "robustness_report": lambda *case: scorers.robustness_report(*case, eps=1.0),
    "certified_accuracy": lambda *case: scorers.certified_accuracy(*case, radius=1.0),
    "average_certified_radius": lambda *case: scorers.average_certified_radius(*case),
    "smoothing_accuracy": lambda *case: scorers.smoothing_accuracy(*case, sigma=1.0),
    "smoothing_radius": lambda *case: scorers.smoothing_radius(*case, sigma=1.0),
    "SmoothedClassifier": lambda model, X, Y: SmoothedClassifier(model).fit(X, Y),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("labels", ["matrix", "column"])
def test_attacks_and_scores_are_for_one_label(several, model, call, labels):
    X, Y = several
    if call == "SmoothedClassifier" and labels == "column":
        return  # which is fitted anew, with one label
    with pytest.raises((ValueError, TypeError), match=r"one label|[Oo]ne output|several"):
        CALLS[call](model, X[:6], Y[:6] if labels == "matrix" else Y[:6, 0])


def test_the_rule_of_a_network_of_several_labels_is_not_its_largest_logit(fitted):
    assert rule_of(fitted) is None
    assert rule_of(make()) == "largest"


# ---------------------------------------------------------------------------- logarithms


def test_logarithms_of_probabilities_are_finite(digits):
    X, y = digits
    net = make(max_epochs=3, lr=0.02).fit(X[:150], y[:150])
    np.testing.assert_allclose(
        net.predict_log_proba(X[:50]), np.log(net.predict_proba(X[:50])), atol=1e-4
    )
    with torch.no_grad():
        net.module_.head[-1].weight *= 1e5
    assert (net.predict_proba(X[:50]) == 0).any()
    assert np.isfinite(net.predict_log_proba(X[:50])).all()
    raw = make(max_epochs=1, predict_nonlinearity=lambda out: out.softmax(1).round())
    assert set(np.unique(raw.fit(X[:50], y[:50]).predict_log_proba(X[:50]))) <= {-np.inf, 0.0}
    single = make().fit(X[:20], np.full(20, "a"))
    np.testing.assert_array_equal(single.predict_log_proba(X[:5]), np.zeros((5, 1)))
    assert CalibratedClassifierCV(net, cv=2).fit(X[:50], y[:50] > 4).predict(X[:5]).shape == (5,)
