"""Options of the networks are refused by name, before anything is trained."""

import numpy as np
import pytest
import torch
from nets_for_tests import KINDS, Rates, make
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
)


class Untrained(PatchVocabulary):
    """Stands for a vocabulary whose training takes hours."""

    def fit(self, X, y=None):
        raise AssertionError("the vocabulary was trained")

    def fit_transform(self, X, y=None, **params):
        raise AssertionError("the vocabulary was trained")


MISTYPED = {
    "max_epoch": "max_epochs",
    "noise_sd": "noise_std",
    "module_width": "module__width",
    "module__widht": "module__width",
    "modul__width": "module__width",
    "optimizer__weight_deca": "optimizer__weight_decay",
    "optimiser__weight_decay": "optimizer__weight_decay",
    "criterion__label_smothing": "criterion__label_smoothing",
    "iterator_train__shufle": "iterator_train__shuffle",
    "iterator_valid__batchsize": "iterator_valid__batch_size",
    "dataset__lenght": "dataset__length",
    "callbacks__print_lg__sink": "callbacks__print_log__sink",
    "callbacks__print_log__snk": "callbacks__print_log__sink",
    "compile__dynamik": "compile__dynamic",
}
OUT_OF_RANGE = [
    ("lr", -1.0), ("lr", np.nan), ("lr", np.inf), ("lr", 1e30), ("lr", "fast"), ("lr", None),
    ("max_epochs", -1), ("max_epochs", 2.5), ("max_epochs", None), ("max_epochs", True),
    ("batch_size", 0), ("batch_size", 2.5), ("batch_size", -2), ("batch_size", True),
    ("iterator_train__batch_size", 0), ("iterator_valid__batch_size", 0.5),
    ("lr_schedule", "linear"), ("device", "tpu9"), ("autocast", "fast"), ("image_shape", (8,)),
    ("random_state", "zero"), ("noise_std", -1.0), ("noise_std", "much"), ("flip_radius", np.nan),
    ("flip_share", 2), ("flip_kind", "none"), ("flip_steps", 1.5), ("adversarial_radius", 1e38),
    ("adversarial_steps", 0), ("certified_radius", -1), ("augment", "mirror"), ("noise_std", 1e38),
    ("flip_radius", 1e38), ("train_split", 5), ("callbacks", Rates()), ("module", "PatchConvNet"),
    ("optimizer", "adam"), ("criterion", "hinge"), ("predict_nonlinearity", "softmax"),
]  # fmt: skip


def models(kind, options):
    """The network alone, and in pipelines with a vocabulary that must not be trained."""
    net = make(kind, **options)
    certified = {PatchNetClassifier: CertifiedPatchClassifier}.get(kind, CertifiedPatchRegressor)
    vocabulary = ("vocab", Untrained())
    yield net
    yield certified([vocabulary, ("clf", net)])
    yield certified([vocabulary, ("clf", make_pipeline(FunctionTransformer(), net))])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MISTYPED)
def test_mistyped_names_are_refused_before_the_vocabulary_with_the_near_names(few, kind, name):
    if "label_smothing" in name and kind is PatchNetRegressor:
        pytest.skip("MSELoss has no labels to smooth")
    for model in models(kind, {name: 3}):
        with pytest.raises(ValueError, match=f"{name}'.*{MISTYPED[name]}'"):
            model.fit(*few)


def test_set_params_gives_the_near_names():
    with pytest.raises(ValueError, match=r"'max_epoch'.*'max_epochs'"):
        CertifiedPatchClassifier().set_params(clf__max_epoch=3)


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_values_out_of_range_are_refused_before_the_vocabulary(few, name, value):
    for model in models(PatchNetClassifier, {name: value}):
        with pytest.raises(ValueError, match=name):
            model.fit(*few)


def test_a_module_that_lacks_what_it_needs_is_refused_before_the_vocabulary(few):
    class Deep(torch.nn.Linear):
        def __init__(self, n_outputs, depth):
            super().__init__(64, n_outputs)

    for model in models(PatchNetClassifier, {"module": Deep}):
        with pytest.raises(ValueError, match="module__depth"):
            model.fit(*few)


def test_names_that_cannot_be_known_are_left_alone(few):
    class Open(torch.nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.last = torch.nn.Linear(64, options["outputs"])

        def forward(self, images):
            return self.last(images.flatten(1))

    named = {"callbacks": [("rates", Rates())], "callbacks__print_log": None,
             "iterator_train__batch_size": 50, "optimizer__lr": 0.01, "batch_size": -1}  # fmt: skip
    net = make(module=Open, module__outputs=10, **named).fit(*few)
    assert net.history_[0, "batches", :, "rate"][0] == 0.01
    factory = make(module=lambda n_outputs, more: Open(outputs=n_outputs), module__more=1)
    assert factory.fit(*few).n_outputs_ == 10


def test_a_search_may_complete_a_network_that_cannot_be_fitted_itself(few):
    from sklearn_patchcert.networks import PatchResNet

    net = make(module__width=4, module__depth=1)  # PatchConvNet has no depth
    net.set_params(module__hidden=8)
    search = GridSearchCV(net, {"module": [PatchResNet]}, cv=2)
    vocabulary = PatchVocabulary(4, 4, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", search)]).fit(*few)
    assert model.predict(few[0]).shape == (150,)
    frozen = FrozenEstimator(make().fit(*few).set_params(module__widht=3))
    CertifiedPatchClassifier([("vocab", vocabulary), ("clf", frozen)]).fit(*few)
