"""What certify_prediction goes on from, and what it refuses to go on from."""

import collections

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import MaxAbsScaler

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.networks.modules import ImageResNet, PatchConvNet
from sklearn_patchcert.prediction.fingerprints import fingerprint


def test_previous_of_something_else_is_refused(digits):
    model, X = with_last(digits, RidgeClassifier()), digits[0][800:806]
    found = model.certify_prediction(X, max_configurations=5)
    more = model.certify_prediction(X, previous=found)
    np.testing.assert_array_equal(more.radius, model.certify_prediction(X).radius)
    for options in ({"norm": "linf"}, {"norm": "l0"}, {"cells": True}):
        with pytest.raises(ValueError, match="previous"):
            model.certify_prediction(X, previous=found, **options)
    with pytest.raises(ValueError, match="previous"):
        model.certify_prediction(X * (1 + 1e-9), previous=found)
    model["vocab"].vocabulary_ = model["vocab"].vocabulary_ * (1 + 1e-9)
    with pytest.raises(ValueError, match="previous"):
        model.certify_prediction(X, previous=found)


class Unwilling(KNeighborsClassifier):
    """A classifier that no file can hold."""

    def __reduce_ex__(self, protocol):
        raise RuntimeError("stays here")


class Doubling(MaxAbsScaler):
    """Another class with the same attributes."""

    def transform(self, X):
        return 2 * super().transform(X)


SMALL = {"max_epochs": 1, "module__width": 4, "module__hidden": 8, "random_state": 0}
LAST = {
    "trees": RandomForestClassifier(5, random_state=0),
    "neighbours": KNeighborsClassifier(3, algorithm="brute"),
    "network": PatchNetClassifier(**SMALL),
    "calibrated": CalibratedClassifierCV(PatchNetClassifier(**SMALL), cv=2),
}


def with_last(digits, last, between=()):
    vocabulary = PatchVocabulary(8, 2, strategy="kmeans", random_state=0)
    steps = [("vocab", vocabulary), *between, ("clf", clone(last))]
    return CertifiedPatchClassifier(steps).fit(digits[0][:200], digits[1][:200])


@pytest.mark.parametrize("last", ["trees", "neighbours", "network"])
def test_previous_goes_on_after_a_file(digits, last, tmp_path):
    model, some = with_last(digits, LAST[last]), digits[0][800:803]
    found = model.certify_prediction(some, max_configurations=5)
    joblib.dump((model, found), tmp_path / "file")
    again, found = joblib.load(tmp_path / "file")
    again.set_params(vocab__n_jobs=2)
    more = again.certify_prediction(some, max_configurations=20, previous=found)
    assert (more.radius >= found.radius).all()


@pytest.mark.parametrize("between", [("pass", "passthrough"), ("scale", MaxAbsScaler())])
def test_previous_goes_on_with_other_steps(digits, between):
    model, some = with_last(digits, GaussianNB(), [between]), digits[0][800:803]
    found = model.certify_prediction(some, max_configurations=5)
    model.certify_prediction(some, max_configurations=20, previous=found)
    frozen = CertifiedPatchClassifier(
        [("vocab", FrozenEstimator(model["vocab"])), *model.steps[1:]]
    )
    frozen.certify_prediction(some, max_configurations=20, previous=found)


@pytest.mark.parametrize("last", LAST)
def test_previous_of_another_classifier_is_refused(digits, last):
    model, some = with_last(digits, LAST[last]), digits[0][800:803]
    change = {
        "trees": {"random_state": 1},
        "neighbours": {"n_neighbors": 4},
        "network": {"random_state": 1},
        "calibrated": {"estimator__random_state": 1},
    }
    other = with_last(digits, clone(LAST[last]).set_params(**change[last]))
    assert_refused(model, other, some)


def test_previous_of_the_same_weights_put_to_other_use_is_refused(digits):
    options = {"module": ImageResNet, "module__width": 2, "max_epochs": 1, "random_state": 0}
    model = with_last(digits, PatchNetClassifier(**options, module__mirror=True))
    other = with_last(digits, PatchNetClassifier(**options, module__mirror=False))
    weights = other["clf"].module_.state_dict()
    for name, values in model["clf"].module_.state_dict().items():
        assert (values == weights[name]).all()
    assert_refused(model, other, digits[0][800:803])


def test_previous_of_other_kinds_or_places_of_steps_is_refused(digits):
    some = digits[0][800:803]
    scale = ("scale", MaxAbsScaler())
    model = with_last(digits, GaussianNB(), [scale])
    doubling = Doubling()
    vars(doubling).update(vars(model["scale"]))
    kind = CertifiedPatchClassifier([model.steps[0], ("scale", doubling), model.steps[2]])
    assert_refused(model, kind, some)
    first = CertifiedPatchClassifier([model.steps[1], model.steps[0], model.steps[2]])
    assert_refused(model, first, some)


def test_what_cannot_be_taken_apart_is_certified_but_never_gone_on_with(digits):
    model, some = with_last(digits, Unwilling(3)), digits[0][800:803]
    assert_refused(model, model, some)


class Threshold(PatchNetClassifier):
    """A network with a parameter of its own, whose answer is not its largest logit."""

    def __init__(self, module=PatchConvNet, *, threshold=0.1, **kwargs):
        super().__init__(module, **kwargs)
        self.threshold = threshold

    def predict(self, X):
        return self.classes_[(self.predict_proba(X) > self.threshold).argmax(axis=1)]


def test_previous_of_a_network_with_parameters_of_its_own_is_refused(digits):
    low, high = (
        with_last(digits, Threshold(**SMALL, threshold=threshold)) for threshold in (0.1, 0.15)
    )
    assert_refused(low, high, digits[0][800:803])


def test_modules_that_differ_in_their_order_are_two():
    parts = {"a": torch.nn.Linear(2, 2), "b": torch.nn.ReLU()}
    one = torch.nn.Sequential(collections.OrderedDict(parts))
    other = torch.nn.Sequential(collections.OrderedDict(reversed(parts.items())))
    assert fingerprint(one) != fingerprint(other)


def test_bytes_between_the_fields_of_an_array_do_not_matter():
    kind = np.dtype({"names": ["a", "b"], "formats": ["i1", "f8"]}, align=True)
    one, other = np.zeros(3, kind), np.full(3 * kind.itemsize, 7, np.uint8).view(kind)
    other["a"], other["b"] = 0, 0
    assert one.tobytes() != other.tobytes()
    assert fingerprint(one) == fingerprint(other)
    other["b"][1] = 5e-324
    assert fingerprint(one) != fingerprint(other)


def assert_refused(model, other, X):
    found = model.certify_prediction(X, max_configurations=5)
    found.prediction = other.predict(X)  # the answers alone would not tell
    with pytest.raises(ValueError, match="previous"):
        other.certify_prediction(X, max_configurations=5, previous=found)
