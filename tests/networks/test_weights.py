"""Weights of images and classes: what they are worth, who refuses them, how they are routed."""

import numpy as np
import pytest
import sklearn
import torch
from nets_for_tests import KINDS, Bare, make, output, same_weights, weights
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.utils.class_weight import compute_class_weight
from skorch.callbacks import EpochScoring
from skorch.dataset import Dataset, ValidSplit
from torch import nn
from torch.utils.data import DataLoader

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetRegressor, PatchVocabulary
from sklearn_patchcert.networks import AdditivePatchNet

RNG = np.random.default_rng(0)


def linear():
    """No batch normalization, so that images meet in the loss only; and no chance."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def linear_one():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))


@pytest.fixture(scope="module")
def three(digits):
    X, y = digits
    return X[:90] / 16, np.array(list("abc"))[y[:90] % 3]


def whole(kind, **options):
    module = linear_one if kind is PatchNetRegressor else linear
    small = {"optimizer": torch.optim.SGD, "lr": 0.5, "batch_size": -1, "max_epochs": 4}
    return make(kind, module=module, **{**small, **options})


def target_of(kind, three):
    return three[0][:, 20] if kind is PatchNetRegressor else three[1]


# ---------------------------------------------------------------------------- images


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("criterion", [None, "smooth", "sum", "by class"])
def test_equal_weights_are_none(three, kind, criterion):
    options = {
        None: {},
        "smooth": {"criterion__label_smoothing": 0.1},
        "sum": {"criterion__reduction": "sum", "lr": 1e-3},
        "by class": {"criterion__weight": torch.tensor([1.0, 2.0, 5.0])},
    }[criterion]
    if kind is PatchNetRegressor and criterion in ("smooth", "by class"):
        pytest.skip("not a loss of numbers")
    y = target_of(kind, three)
    plain = make(kind, batch_size=32, **options).fit(three[0], y)
    for weight in (np.ones(90), np.full(90, 7.0), 3.0):
        same = make(kind, batch_size=32, **options).fit(three[0], y, sample_weight=weight)
        np.testing.assert_allclose(output(same, three[0]), output(plain, three[0]), atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["fit", "partial_fit"])
def test_a_weight_of_two_is_an_image_twice(three, kind, name):
    X, y = three[0], target_of(kind, three)
    count = RNG.integers(1, 4, size=90)
    if kind is PatchNetRegressor:  # whose targets have other statistics with repetitions
        y = np.where(np.arange(90) % 2, 1.0, -1.0)
        count = np.repeat(RNG.integers(1, 4, size=45), 2)
    weighted = getattr(whole(kind), name)(X, y, sample_weight=count)
    twice = getattr(whole(kind), name)(X.repeat(count, axis=0), y.repeat(count))
    once = getattr(whole(kind), name)(X, y)
    np.testing.assert_allclose(output(weighted, X), output(twice, X), rtol=1e-3, atol=1e-4)
    assert np.abs(output(weighted, X) - output(once, X)).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [
    {}, {"noise_std": 0.1}, {"augment": lambda images: images.flip(3)},
    {"adversarial_radius": 0.2}, {"train_split": ValidSplit(3)}],
    ids=["plain", "noise", "augment", "attack", "split"])  # fmt: skip
def test_an_image_of_weight_zero_is_absent(three, kind, options):
    if kind is PatchNetRegressor and "adversarial_radius" in options:
        pytest.skip("attacks are for classes")
    X, y = three[0], target_of(kind, three)
    weight = np.where(np.arange(90) < 60, 2.0, 0.0)
    weight[3] = 1.0
    zero = make(kind, batch_size=20, **options).fit(X, y, weight)
    X_kept, y_kept = X[:60], y[:60]
    assert same_weights(zero, make(kind, batch_size=20, **options).fit(X_kept, y_kept, weight[:60]))
    np.testing.assert_array_equal(zero.channel_mean_, make(kind).fit(X_kept, y_kept).channel_mean_)


@pytest.mark.parametrize("options", [
    {}, {"noise_std": 0.2}, {"flip_radius": 0.5}, {"adversarial_radius": 0.3},
    {"augment": lambda images: images.flip(3), "flip_radius": 0.5, "autocast": True},
    {"module": AdditivePatchNet, "certified_radius": 0.1},
], ids=lambda options: "-".join(options))  # fmt: skip
def test_weights_go_with_everything_that_disturbs_images(three, options):
    X, y = three
    weight = np.where(y == "a", 50.0, 1.0)
    weight[:10] = 0

    vocabulary = FrozenEstimator(PatchVocabulary(8, 4, strategy="kmeans", random_state=0).fit(X))

    def fitted(weight, rows=slice(None)):
        net = make(**{"batch_size": 30, "max_epochs": 3, "lr": 0.02, **options})
        model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)])
        given = {} if weight is None else {"clf__sample_weight": weight[rows]}
        return model.fit(X[rows], y[rows], **given)

    heavy, plain = fitted(weight), fitted(None)
    assert (heavy.predict(X) == "a").mean() > 0.9
    assert not same_weights(heavy[-1], plain[-1])
    assert same_weights(heavy[-1], fitted(weight, slice(10, None))[-1])


def test_weights_of_held_out_images_are_in_their_loss(three):
    X, y = three
    weight = RNG.uniform(0.5, 2, size=90)
    net = make(max_epochs=1, lr=0.0, train_split=ValidSplit(3), batch_size=16,
               iterator_valid=DataLoader).fit(X, y, weight)  # fmt: skip
    _, held_out = ValidSplit(3)(Dataset(X, y), y)
    at = held_out.indices
    own = -net.predict_log_proba(X[at])[np.arange(len(at)), np.searchsorted(net.classes_, y[at])]
    by_hand = (own * weight[at] / weight.mean()).mean()
    np.testing.assert_allclose(net.history_[-1]["valid_loss"], by_hand, rtol=1e-4)


@pytest.mark.parametrize("options", [
    {"iterator_train": DataLoader, "iterator_train__shuffle": True},
    {"callbacks": [EpochScoring("accuracy", name="s", use_caching=False)]},
    {"train_split": ValidSplit(3, stratified=True),
     "callbacks": [EpochScoring("accuracy", name="s", use_caching=False)]},
    {"warm_start": True}], ids=["loader", "scores", "split", "warm"])  # fmt: skip
def test_weights_go_with_the_parts_of_skorch(three, options):
    X, y = three
    weight = np.where(y == "a", 1000.0, 1.0)
    net = make(batch_size=15, max_epochs=5, lr=0.01, **options).fit(X, y, weight)
    if "warm_start" in options:
        net.fit(X, y, weight)
    assert (net.predict(X) == "a").mean() > 0.9


class Alone(nn.Module):
    """A loss that has only its mean."""

    def forward(self, outputs, target):
        return nn.functional.cross_entropy(outputs, target)


class Pretends(Alone):
    reduction = "mean"


@pytest.mark.parametrize(("given", "said"), [
    ({"sample_weight": np.full(90, -1.0)}, "Negative values"),
    ({"sample_weight": np.zeros(90)}, "[Zz]ero"),
    ({"sample_weight": np.ones(89)}, r"\(89,\)"),
    ({"sample_weight": np.ones((90, 2))}, "1D"),
    ({"sample_weight": np.full(90, np.nan)}, "NaN"),
    ({"class_weight": "heavy"}, "class_weight must be"),
    ({"class_weight": [1, 2, 3]}, "class_weight must be"),
    ({"class_weight": {"d": 2}}, r"not among the classes: \['d'\]"),
    ({"class_weight": {"a": -1}}, "0 or more"),
    ({"class_weight": {"a": np.inf}}, "0 or more"),
    ({"class_weight": dict.fromkeys("abc", 0)}, "not all 0"),
    ({"criterion": Alone, "class_weight": "balanced"}, "reduction"),
    ({"criterion": Alone, "sample_weight": np.ones(90)}, "reduction"),
    ({"criterion": Pretends, "sample_weight": np.ones(90)}, "one for each image"),
], ids=str)  # fmt: skip
def test_weights_that_cannot_be_kept_are_refused(three, given, said):
    options = {name: value for name, value in given.items() if name != "sample_weight"}
    net = make(**options)
    with pytest.raises(ValueError, match=said):
        net.fit(*three, given.get("sample_weight"))
    assert not net.initialized_


def test_classes_of_a_regressor_and_of_a_part_have_no_weights(three):
    with pytest.raises(ValueError, match="class_weight is for classifiers"):
        make(PatchNetRegressor, class_weight="balanced").fit(three[0], three[0][:, 20])
    with pytest.raises(ValueError, match="compute_class_weight"):
        make(class_weight="balanced").partial_fit(*three)
    make(class_weight={"a": 2}).partial_fit(*three)


# ---------------------------------------------------------------------------- classes


@pytest.mark.parametrize("weight", [None, RNG.integers(1, 4, 90).astype(float)], ids=["all", "own"])
def test_weights_of_classes_are_weights_of_images(three, weight):
    X, y = three[0], np.where(three[1] == "c", "a", three[1])
    y[np.flatnonzero(y == "b")[:15]] = "a"
    counted = y if weight is None else y.repeat(weight.astype(int))
    by_class = compute_class_weight("balanced", classes=np.array(["a", "b"]), y=counted)
    own = np.where(y == "a", *by_class) * (1 if weight is None else weight)
    by_hand = make(module=linear2).fit(X, y, own)
    for given in ("balanced", dict(zip("ab", by_class, strict=True))):
        net = make(module=linear2, class_weight=given).fit(X, y, weight)
        np.testing.assert_allclose(net.predict_proba(X), by_hand.predict_proba(X), atol=1e-5)


def linear2():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))


# ---------------------------------------------------------------------------- routing


@pytest.fixture
def routed():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def pipeline(net):
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0)
    return CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)])


def heavy(three):
    return np.where(three[1] == "a", 1000.0, 1.0)


OPTIONS = {"batch_size": 15, "max_epochs": 5, "lr": 0.01}


@pytest.mark.parametrize("wrapped", [False, True], ids=["network", "pipeline"])
@pytest.mark.usefixtures("routed")
def test_weights_are_routed_through_calibration_and_search(three, wrapped):
    net = make(**OPTIONS).set_fit_request(sample_weight=True)
    model = pipeline(net) if wrapped else net
    calibrated = CalibratedClassifierCV(model, cv=2, ensemble=True, method="sigmoid")
    calibrated.fit(*three, sample_weight=heavy(three))
    inside = calibrated.calibrated_classifiers_[0].estimator
    assert (inside.predict(three[0]) == "a").mean() > 0.9

    scoring = make_scorer(accuracy_score).set_score_request(sample_weight=True)
    name = "clf__lr" if wrapped else "lr"
    search = GridSearchCV(model, {name: [0.01]}, cv=2, scoring=scoring, error_score="raise")
    search.fit(*three, sample_weight=heavy(three))
    assert (search.predict(three[0]) == "a").mean() > 0.9
    assert search.best_score_ > 0.9  # since accuracy is weighted, too


def test_without_routing_a_calibration_passes_weights_on(three):
    model = CalibratedClassifierCV(make(**OPTIONS), cv=2).fit(*three, sample_weight=heavy(three))
    assert (model.calibrated_classifiers_[0].estimator.predict(three[0]) == "a").mean() > 0.9
    model = pipeline(make(**OPTIONS)).fit(*three, clf__sample_weight=heavy(three))
    assert (model.predict(three[0]) == "a").mean() > 0.9


def test_nothing_of_the_weights_stays(three):
    net = make(module=Bare).fit(three[0], np.arange(90) % 10, np.arange(90))
    assert not {"_weight", "_disturbance", "_raw", "_ended"} & set(vars(net))
    before = weights(net)
    with pytest.raises(ValueError, match="Negative"):
        net.partial_fit(three[0], np.arange(90) % 10, None, -np.ones(90))
    assert same_weights(net, before)
