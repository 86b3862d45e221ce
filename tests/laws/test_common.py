"""scikit-learn's own checks, for every public estimator, and how many of them there are."""

import inspect
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator

from sklearn_patchcert import (
    CertifiedCommittee,
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
    StickerCertifiedClassifier,
    StickerCertifiedRegressor,
    TorchFeatures,
)
from sklearn_patchcert.attacks import worst_case
from sklearn_patchcert.networks.modules import PatchConvNet

IN_PLACE = "a Pipeline fits its steps in place; scikit-learn expects its own to fail too"
EXPECTED = {
    "check_dont_overwrite_attributes": IN_PLACE,
    "check_dont_overwrite_parameters": IN_PLACE,
    "check_estimators_overwrite_params": IN_PLACE,
    "check_parameters_default_constructible": "steps=None becomes the default steps at once",
}


class SmallNet(PatchConvNet):
    def __init__(self, image_shape, n_outputs, mean, std, width=8, hidden=32):
        super().__init__(image_shape, n_outputs, mean, std, width, hidden)


SMALL = {  # learns what the checks want learned, in a third of the time
    "max_epochs": 7,
    "batch_size": 32,
    "lr": 0.004,
    "module": SmallNet,  # module__width would be an attribute that __init__ does not name
    "random_state": 0,
}


def small_pipeline(kind, net):
    steps = [("vocab", PatchVocabulary(64, max_iter=2, random_state=0)), ("clf", net)]
    return kind(steps)


def small_committee():
    members = [
        (str(n), CertifiedPatchClassifier([("vocab", vocabulary), ("clf", RidgeClassifier())]))
        for n in (4, 6)
        for vocabulary in [PatchVocabulary(n, strategy="kmeans", random_state=0)]
    ]
    return CertifiedCommittee(members)


def estimators():
    return [
        PatchVocabulary(n_tokens=4, random_state=0),
        PatchVocabulary(n_tokens=4, strategy="kmeans", output="ids", random_state=0),
        PatchVocabulary(n_tokens=4, per_channel=True, random_state=0),
        ChannelStandardizer(),
        TorchFeatures(torch.nn.Flatten()),
        PatchNetClassifier(**SMALL),
        PatchNetRegressor(**SMALL),
        small_pipeline(CertifiedPatchClassifier, PatchNetClassifier(**SMALL)),
        small_pipeline(CertifiedPatchRegressor, PatchNetRegressor(**SMALL)),
        small_committee(),
        StickerCertifiedClassifier(RidgeClassifier(), sticker_size=1),
        StickerCertifiedClassifier(small_committee().estimators[0][1], sticker_size=1),
        StickerCertifiedRegressor(Ridge(), sticker_size=1, n_masks=2),
    ]


WEIGHTED = {
    "check_sample_weight_equivalence_on_dense_data": "batches, batch normalization and the "
    "statistics of the data see an image once; see test_weights for the loss of all images at once",
}


def expected(estimator):
    if isinstance(estimator, PatchNetClassifier | PatchNetRegressor):
        return WEIGHTED
    return EXPECTED if isinstance(estimator, Pipeline) else {}


def checks():
    """All checks of all estimators, those that must fail marked as such."""
    for estimator in estimators():
        options = {"expected_failed_checks": expected(estimator), "mark": "xfail"}
        yield from estimator_checks_generator(estimator, **options)


def name_of(value):
    """Short: the names of `parametrize_with_checks` show all parameters, which takes seconds."""
    while isinstance(value, partial):
        value = value.func
    return getattr(value, "__name__", type(value).__name__)


# The checks fit a handful of rows: fewer distinct patches than tokens is their doing.
@pytest.mark.filterwarnings("ignore:X has only:sklearn.exceptions.ConvergenceWarning")
# So small that a sticker hides them.
@pytest.mark.filterwarnings("ignore:A mask for sticker_size:UserWarning")
# This check itself casts an infinite target to integers.
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.parametrize(("estimator", "check"), list(checks()), ids=name_of)
def test_sklearn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", estimators(), ids=lambda e: type(e).__name__)
def test_number_of_checks(estimator):
    # An estimator whose tags say that it takes no rows would pass a single check.
    checks = list(estimator_checks_generator(estimator))
    assert len(checks) >= 44, len(checks)


@pytest.mark.parametrize(
    "estimator",
    [PatchVocabulary(4, random_state=0), PatchVocabulary(4, output="ids"), ChannelStandardizer()],
    ids=["vocabulary", "ids", "standardizer"],
)
@pytest.mark.parametrize(
    "name",
    [
        "check_param_validation",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_global_output_transform_pandas",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_dataframe_column_names_consistency",
    ],
)
@pytest.mark.filterwarnings("ignore:X has only:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning")
def test_checks_that_scikit_learn_does_not_run_for_others(estimator, name):
    getattr(estimator_checks, name)(type(estimator).__name__, estimator)


def test_default_pipelines_need_no_arguments(digits):
    X, y = digits
    for kind in (CertifiedPatchClassifier, CertifiedPatchRegressor):
        model = kind().set_params(vocab__n_tokens=8, clf__max_epochs=1).fit(X[:100], y[:100])
        assert list(model.named_steps) == ["vocab", "clf"]
        assert model.predict(X[:5]).shape == (5,)


def test_every_public_parameter_is_documented():
    for estimator in estimators():
        doc = type(estimator).__doc__
        for name, parameter in inspect.signature(type(estimator).__init__).parameters.items():
            if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                assert name in doc, (type(estimator).__name__, name)


def test_global_generators_are_left_alone(digits):
    X, y = digits
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    model = small_pipeline(CertifiedPatchClassifier, PatchNetClassifier(max_epochs=1))
    model.fit(X[:200], y[:200]).predict(X[:20])
    model.certify(X[:20])
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


def test_work_on_the_cpu_seeds_no_other_device(digits, monkeypatch):
    """Their generators are the user's own, and would not be put back as they were found."""
    seeded = []
    for device in (torch.cuda, torch.xpu, torch.mps):
        for name in ("manual_seed", "manual_seed_all"):
            if hasattr(device, name):
                monkeypatch.setattr(device, name, lambda seed, at=(device, name): seeded.append(at))
    X, y = digits[0][:200], digits[1][:200]
    net = PatchNetClassifier(max_epochs=1, flip_radius=1.0, random_state=0)
    model = small_pipeline(CertifiedPatchClassifier, net).fit(X, y)
    model.certify_prediction(X[:3], max_configurations=10)
    worst_case(model, X[:5], y[:5], ["sspgd", "flips"], eps=1.0)
    TorchFeatures(torch.nn.Flatten(), random_state=0).fit(X).transform(X)
    assert not seeded
    torch.manual_seed(0)  # which does
    assert seeded
