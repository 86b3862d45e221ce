"""Pickles of another version that lack what this one needs say so when they are loaded."""

import copy
import inspect
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sklearn_patchcert import (
    CertifiedCommittee,
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
    SmoothedClassifier,
)
from sklearn_patchcert.files.known_classes import known_classes
from sklearn_patchcert.networks.fast_modules import WhiteningConvNet
from sklearn_patchcert.networks.modules import AdditivePatchNet, ImageResNet, PatchResNet

N = 40


def network(kind=PatchNetClassifier, **options):
    return kind(max_epochs=1, random_state=0, module__width=2, **options)


def pipeline(**options):
    vocabulary = PatchVocabulary(4, strategy="kmeans", random_state=0)
    return CertifiedPatchClassifier([("vocab", vocabulary), ("clf", network(**options))])


MAKE = {
    "vocabulary": lambda: PatchVocabulary(4, strategy="kmeans", random_state=0),
    "classifier": network,
    "regressor": lambda: network(PatchNetRegressor),
    "residual": lambda: network(module=PatchResNet),
    "on pixels": lambda: network(module=ImageResNet),
    "whitening": lambda: network(module=WhiteningConvNet),
    "additive": lambda: network(module=AdditivePatchNet),
    "standardizer": ChannelStandardizer,
    "pipeline": pipeline,
    "committee": lambda: CertifiedCommittee([("a", pipeline()), ("b", pipeline())]),
    "smoothed": lambda: SmoothedClassifier(pipeline(), n=5, n0=2, random_state=0),
}


@pytest.fixture(scope="module")
def fitted():
    X, y = load_digits(return_X_y=True)
    return {name: make().fit(X[:N], y[:N]) for name, make in MAKE.items()}


def old(model, *missing, version="0.0.1"):
    """The pickle of another version, in which some attributes are not there."""
    state = {k: v for k, v in model.__getstate__().items() if k not in missing}
    assert len(state) == len(model.__getstate__()) - len(missing)
    return pickle.dumps(Old(type(model), {**state, "_patchcert_version": version}))


class Old:
    """Is unpickled as an estimator of a class with a state."""

    def __init__(self, kind, state):
        self.made = object.__new__, (kind,), state

    def __reduce__(self):
        return self.made


def options_of(model):
    parameters = inspect.signature(type(model).__init__).parameters.values()
    known = [p.name for p in parameters if p.default is not p.empty]
    return [name for name in known if name not in ("steps", "device")]  # never new


@pytest.mark.parametrize("name", MAKE)
def test_options_that_came_later_get_their_defaults_with_a_warning(name, fitted):
    model = fitted[name]
    state = {**model.__getstate__(), "_patchcert_version": "0.0.1"}
    for option in options_of(model):
        again = object.__new__(type(model))  # as pickle does, without the time of its bytes
        says = rf"pickled by sklearn_patchcert 0\.0\.1 .*{option}"
        with pytest.warns(UserWarning, match=says):
            again.__setstate__({key: value for key, value in state.items() if key != option})
        default = inspect.signature(type(model).__init__).parameters[option].default
        found = again.get_params(deep=False)[option]
        assert found is default or found == default
        assert again.get_params(deep=False).keys() == model.get_params(deep=False).keys()


@pytest.mark.parametrize("name", MAKE)
def test_what_a_fit_makes_and_is_not_there_is_named_at_load(name, fitted):
    model = fitted[name]
    for attribute in known_classes()[type(model).__name__].fitted:
        with pytest.raises(ValueError, match=rf"0\.0\.1.*{attribute}.*[Ff]it it again"):
            pickle.loads(old(model, attribute))


@pytest.mark.filterwarnings("ignore:This PatchNetClassifier was pickled")
@pytest.mark.parametrize("name", ["classifier", "residual", "on pixels", "whitening", "additive"])
def test_what_a_module_needs_and_is_not_there_is_named_at_load(name, fitted):
    own = vars(fitted[name].module_).keys() - vars(torch.nn.Module()).keys()
    parts = list(fitted[name].module_._buffers) + list(fitted[name].module_._modules)
    for attribute in [*own, *parts]:
        model = copy.deepcopy(fitted[name])
        delattr(model.module_, attribute)
        with pytest.raises(ValueError, match=rf"0\.0\.1.*{attribute}.*[Ff]it it again"):
            pickle.loads(old(model))


@pytest.mark.parametrize("name", MAKE)
def test_pickles_of_this_version_load_in_silence(name, fitted):
    X = load_digits().data[:3]
    before = torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = pickle.loads(pickle.dumps(fitted[name]))
        unfitted = pickle.loads(pickle.dumps(MAKE[name]()))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert repr(unfitted) == repr(MAKE[name]())
    method = "predict" if hasattr(again, "predict") else "transform"
    np.testing.assert_array_equal(getattr(again, method)(X), getattr(fitted[name], method)(X))
