"""Modules that come with weights: copied, frozen in part, with a new head, ready at once."""

import functools
import pickle

import numpy as np
import pytest
import torch
from nets_for_tests import Bare, same_weights
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
)
from sklearn_patchcert.attacks import as_torch_module, run_attack
from sklearn_patchcert.networks import Preprocessed
from sklearn_patchcert.networks.modules import PatchConvNet

DIGITS = load_digits()
X, y = (DIGITS.images[:120] / 16).astype(np.float32), DIGITS.target[:120]
NAMES = np.array([f"class {at * 7 % 10}" for at in range(10)])  # not in the order of sorting


class Small(nn.Module):
    """A backbone with batch normalization of two kinds and dropout, and a head."""

    def __init__(self, n_classes=10, dropout=0.2):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.BatchNorm2d(4, affine=False), nn.Dropout(dropout), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(64, n_classes))

    def forward(self, images):
        return self.head(self.body(images))


class Convolutional(nn.Module):
    """Its last layer is a convolution, pooled."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 10, 1))

    def forward(self, images):
        return self.layers(images).mean((2, 3))


class Around(nn.Module):
    """Has another module inside."""

    def __init__(self, net, rest=()):
        super().__init__()
        net.mark = True  # of whatever it was given
        self.net = net

    def forward(self, images):
        return self.net(images)


@pytest.fixture(scope="module")
def trained():
    """A module that knows digits, and its weights."""
    net = PatchNetClassifier(Small, max_epochs=15, lr=0.02, batch_size=20, random_state=0).fit(X, y)
    assert net.score(X, y) > 0.8
    return net.module_


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, net):
    after = net.module_.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def small(module, **options):
    return PatchNetClassifier(module, **{"max_epochs": 1, "random_state": 0, **options})


# ------------------------------------------------------------- what the user holds stays as it is


def ways(module):
    """Options by which a network may get hold of a module that the user has."""
    return {
        "instance": {"module": module},
        "argument": {"module": Around, "module__net": module},
        "list": {"module": Around, "module__net": module, "module__rest": [module]},
        "partial": {"module": functools.partial(Around, module)},
        "factory": {"module": lambda: module},
        "criterion": {"module": Bare, "criterion": Loss(module)},
    }


class Loss(nn.Module):
    """With weights that are trained."""

    def __init__(self, module):
        super().__init__()
        self.module, self.scale = module, nn.Parameter(torch.ones(()))

    def forward(self, outputs, target):
        return self.scale * nn.functional.cross_entropy(outputs, target)


@pytest.mark.parametrize("way", ways(None).keys())
def test_a_module_of_the_user_is_never_changed_and_fits_repeat(way):
    module = Small()
    before, modes = state(module), [part.training for part in module.modules()]
    options = ways(module)[way]
    scale = options["criterion"].scale if way == "criterion" else None
    nets = [small(**options).fit(X, y) for _ in range(2)]
    again = clone(nets[0]) if way != "criterion" else small(**options)
    again.fit(X, y).partial_fit(X, y)
    nets[1].partial_fit(X, y)
    assert same_weights(nets[1], again)
    assert not same_weights(nets[0], again)
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [part.training for part in module.modules()] == modes
    assert all(value.grad is None and value.requires_grad for value in module.parameters())
    assert not hasattr(module, "mark") or way in ("partial", "factory")  # their own code
    assert scale is None or float(scale.detach()) == 1


def test_an_instance_goes_through_clone_search_cross_validation_and_pickle(trained):
    before = state(trained)
    net = small(trained, lr=1e-3)
    assert {**net.get_params()}["module"] is trained
    copy = clone(net)
    assert all(torch.equal(before[k], v) for k, v in copy.module.state_dict().items())
    cross_val_score(net, X, y, cv=2)
    search = GridSearchCV(net, {"module": [trained, Small()]}, cv=2).fit(X, y)
    assert search.cv_results_["rank_test_score"].tolist() == [1, 2]
    read = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(read.predict_proba(X), search.predict_proba(X))
    assert same_weights(read.fit(X, y), search.best_estimator_)
    assert "Small" in repr(net)
    net._repr_html_()
    assert all(torch.equal(before[k], v) for k, v in trained.state_dict().items())


def test_arguments_for_an_instance_are_refused(trained):
    with pytest.raises(ValueError, match=r"module__n_classes: the module is an instance"):
        small(trained, module__n_classes=3).fit(X, y)


# ---------------------------------------------------------------------------------- the last layer


@pytest.mark.parametrize(
    ("module", "layer"),
    [(Small, r"'head.1' \(Linear\(64, 10\)\)"), (Convolutional, r"'layers.2' \(Conv2d\(8, 10\)\)"),
     (Bare, r"'last' \(Linear\(8, 10\)\)"), (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
                                              r"'1' \(Linear\(64, 10\)\)")],
)  # fmt: skip
def test_a_wrong_number_of_outputs_is_refused_and_a_new_head_fits(module, layer):
    few = y < 3
    net = small(module()) if isinstance(module, type) else small(module)
    with pytest.raises(ValueError, match=rf"but y has 3 classes: its last layer, {layer}, has 10"):
        net.fit(X[few], y[few])
    net.set_params(head="replace", trainable="head")
    first, second = clone(net).fit(X[few], y[few]), clone(net).fit(X[few], y[few])
    assert first.predict_proba(X).shape == (len(X), 3)
    assert same_weights(first, second)
    other = clone(net).set_params(random_state=1).fit(X[few], y[few])
    assert not same_weights(first, other)


def test_a_head_that_cannot_be_told_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.AvgPool1d(2))
    for options in ({"head": "replace"}, {"trainable": "head"}):
        with pytest.raises(ValueError, match="last layer of the module cannot be told"):
            small(net, **options).fit(X, y)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"trainable": "last"}, "trainable"), ({"trainable": []}, "trainable"),
     ({"trainable": ["nothing.*"]}, "fits no parameter of the module. Their names are body"),
     ({"head": "new"}, "head"), ({"classes": [0, 1, 1]}, "more than once"),
     ({"classes": []}, "classes"), ({"classes": range(3)}, "not among the classes")],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        small(Small(), **options).fit(X, y)


def test_a_module_without_gradients_is_refused_instead_of_failing_in_torch():
    module = Small().requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the module takes a gradient"):
        small(module).fit(X, y)
    assert small(module, trainable="head").fit(X, y).score(X, y) >= 0


# ------------------------------------------------------------------------------------ frozen parts

BODY = {"body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"}
STATISTICS = {
    f"body.{at}.{name}"
    for at in (1, 3)
    for name in ("running_mean", "running_var", "num_batches_tracked")
}
HEAD = {"head.1.weight", "head.1.bias"}


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [("all", BODY | STATISTICS | HEAD), ("head", HEAD), ("none", set()), (["head.*"], HEAD),
     (["body.0.*", "head.1.bias"], {"body.0.weight", "body.0.bias", "head.1.bias"}),
     (["body.*"], BODY | STATISTICS), (["body.1.*"], {n for n in BODY | STATISTICS if "1." in n})],
)  # fmt: skip
def test_only_what_is_trainable_changes(trained, trainable, expected):
    before = state(trained)
    net = small(
        trained, trainable=trainable, optimizer__weight_decay=0.5, adversarial_radius=0.1,
        adversarial_steps=1, noise_std=0.01,
    ).fit(X, y)  # fmt: skip
    assert changed(before, net) == expected
    learned = {id(p) for group in net.optimizer_.param_groups for p in group["params"]}
    named = dict(net.module_.named_parameters())
    assert {name for name, p in named.items() if id(p) in learned} == expected & named.keys()
    frozen = [p for name, p in named.items() if name not in expected]
    assert all(p.grad is None for p in frozen)
    net.partial_fit(X, y)
    assert changed(before, net) == expected


def test_frozen_parts_have_no_dropout_and_the_head_keeps_its_own(trained):
    modes = []
    net = small(trained, trainable="head", batch_size=60, lr_schedule=None)
    net.initialize().fit(X, y)
    net._set_training(True)
    modes = {name: part.training for name, part in net.module_.named_modules()}
    assert modes == {name: not name.startswith("body") for name in modes}
    net._set_training(False)
    assert not any(part.training for part in net.module_.modules())


def test_learning_rates_by_group_go_together_with_frozen_parts(trained):
    groups = [("head.*", {"lr": 0.0}), ("body.0.*", {"lr": 0.5})]
    net = small(trained, trainable=["head.*", "body.1.*"], optimizer__param_groups=groups)
    before = state(trained)
    net.fit(X, y)
    assert [(len(g["params"]), g["lr"]) for g in net.optimizer_.param_groups] == [
        (2, 0),
        (2, 0.002),
    ]
    assert changed(before, net) & (BODY | HEAD) == {"body.1.weight", "body.1.bias"}


def test_parts_are_thawed_between_calls_of_partial_fit(trained):
    before = state(trained)
    net = small(trained, trainable="head").fit(X, y)
    net.set_params(trainable="all").partial_fit(X, y)
    assert changed(before, net) == BODY | STATISTICS | HEAD
    net.set_params(head="replace")
    with pytest.raises(ValueError, match="head: set after the fit"):
        net.partial_fit(X, y)


def test_what_the_user_froze_stays_frozen(trained):
    module = pickle.loads(pickle.dumps(trained))
    module.body[0].requires_grad_(False)
    net = small(module).fit(X, y)
    assert changed(state(trained), net) & BODY == {"body.1.weight", "body.1.bias"}


# ------------------------------------------------------------------------------ ready without fit


@pytest.mark.parametrize("options", [{"max_epochs": 0}, {"trainable": "none"}])
@pytest.mark.parametrize("kind", [PatchNetClassifier, PatchNetRegressor])
@pytest.mark.parametrize("module", [PatchConvNet, None])
def test_no_epochs_fit_and_predict(trained, options, kind, module):
    target = y if kind is PatchNetClassifier else np.eye(10)[y]
    net = kind(module or trained, random_state=0, **options).fit(X, target)
    assert net.predict(X).shape == target.shape
    if kind is PatchNetClassifier:
        assert net.classes_.tolist() == list(range(10))
        assert module or net.score(X, y) > 0.8


@pytest.mark.parametrize("head", ["linear", "convolution"])
@pytest.mark.parametrize("dtype", ["U", "O", "i"])
def test_every_output_keeps_its_label(trained, dtype, head):
    module = (
        trained
        if head == "linear"
        else small(Convolutional, max_epochs=15, lr=0.05).fit(X, y).module_
    )
    labels = np.array([3, 1, 4, 15, 9, 2, 6, 5, 35, 8]) if dtype == "i" else NAMES.astype(dtype)
    with torch.no_grad():
        expected = module.eval()(torch.as_tensor(X)[:, None])
    net = PatchNetClassifier.from_pretrained(module, labels, image_shape=(8, 8))
    assert net.classes_.tolist() == sorted(labels.tolist())
    np.testing.assert_array_equal(net.predict(X), labels[expected.argmax(1)])
    chances = net.predict_proba(X)[:, np.searchsorted(net.classes_, labels)]
    np.testing.assert_allclose(chances, expected.softmax(1), atol=1e-5)
    for again in (clone(net).fit(X, labels[y]), pickle.loads(pickle.dumps(net))):
        np.testing.assert_allclose(again.predict_proba(X), net.predict_proba(X), atol=1e-6)


class Backwards(nn.Module):
    """Returns the outputs of its last layer in another order."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(64, 10)

    def forward(self, images):
        return self.last(images.flatten(1)).flip(1)


def test_outputs_that_cannot_be_ordered_are_refused():
    sorted_ones = PatchNetClassifier.from_pretrained(Backwards(), range(10), image_shape=(8, 8))
    assert sorted_ones.predict(X).shape == (120,)
    with pytest.raises(ValueError, match="order of sorted classes"):
        PatchNetClassifier.from_pretrained(Backwards(), NAMES, image_shape=(8, 8))


@pytest.mark.parametrize(
    ("classes", "shape", "words"),
    [(NAMES[:3], (8, 8), "but the option classes has 3 classes: its last layer, 'he"),
     (["a"] * 10, (8, 8), "'a' more than once"), (None, (8,), "image_shape")],
)  # fmt: skip
def test_what_does_not_fit_a_pretrained_module_is_refused(trained, classes, shape, words):
    with pytest.raises(ValueError, match=words):
        PatchNetClassifier.from_pretrained(trained, classes, image_shape=shape)
    with pytest.raises(ValueError, match="Pass classes, or an instance"):
        PatchNetClassifier.from_pretrained(Small, image_shape=(8, 8))


def test_a_pretrained_network_warns_of_another_scale(trained):
    net = PatchNetClassifier.from_pretrained(trained, image_shape=(8, 8))
    with pytest.warns(UserWarning, match="values from 0 to 255, but this PatchNetClassifier"):
        net.predict(X * 255)
    anything = PatchNetClassifier.from_pretrained(trained, image_shape=(8, 8), input_range=None)
    anything.predict(X * 255)


def test_a_pretrained_regressor_predicts_what_its_module_computes(trained):
    net = PatchNetRegressor.from_pretrained(trained, image_shape=(8, 8))
    with torch.no_grad():
        expected = trained.eval()(torch.as_tensor(X)[:, None])
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-5, atol=1e-5)


# ----------------------------------------------------------------------------- behind a vocabulary


@pytest.mark.parametrize("wrap", [lambda net: net, FrozenEstimator, clone,
                                  lambda net: make_pipeline(FrozenEstimator(net))],
                         ids=["itself", "frozen", "clone", "pipeline"])  # fmt: skip
def test_a_pipeline_trains_only_the_vocabulary_and_everything_works(trained, wrap):
    net = PatchNetClassifier.from_pretrained(trained, NAMES, image_shape=(8, 8))
    vocabulary = PatchVocabulary(16, 2, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", wrap(net))]).fit(X, NAMES[y])
    some, labels = X[:4], NAMES[y[:4]]
    expected = net.predict(model[:-1].transform(X))
    np.testing.assert_array_equal(model.predict(X), expected)
    found = model.certify_prediction(some, max_configurations=20)
    assert (found.radius >= 0).all()
    assert found.radius.max() > 0
    logits = model.as_torch_module()(torch.as_tensor(some)[:, None])
    np.testing.assert_array_equal(net.classes_[logits.argmax(1)], expected[:4])
    attacked = run_attack(model, some, labels, eps=0.3, steps=2)
    assert attacked.adversarial.shape == some.shape
    assert as_torch_module(net)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_a_frozen_network_needs_no_labels(trained):
    net = PatchNetClassifier.from_pretrained(trained, image_shape=(8, 8))
    vocabulary = PatchVocabulary(16, 2, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", FrozenEstimator(net))]).fit(X)
    assert model.score(X, y) > 0.5


# ---------------------------------------------------------------------------------- preprocessing


def test_preprocessing_is_what_torchvision_does_with_tensors():
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    images = torch.rand(3, 3, 9, 12)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for way in ("bilinear", "bicubic", "nearest"):
        made = Preprocessed(nn.Identity(), mean, std, (6, 5), way)(images)
        resized = functional.resize(
            images, [6, 5], functional.InterpolationMode(way), antialias=True
        )
        expected = functional.normalize(resized, mean, std)
        torch.testing.assert_close(made, expected)
    plain = Preprocessed(nn.Identity())(images)
    torch.testing.assert_close(plain, images)


@pytest.mark.parametrize("way", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_images_are_resized_in_every_precision(dtype, way):
    """Torch resizes no half precision on the CPU, in which autocast hands images on."""
    images = torch.rand(2, 3, 8, 8).to(dtype)
    made = Preprocessed(nn.Identity(), size=16, interpolation=way).to(dtype)(images)
    assert made.dtype == dtype
    expected = Preprocessed(nn.Identity(), size=16, interpolation=way)(images.float())
    torch.testing.assert_close(made.float(), expected, atol=0.01, rtol=0.01)


def test_a_network_behind_a_layer_of_its_own_trains_in_bfloat16(trained):
    module = nn.Sequential(nn.Conv2d(1, 1, 1), Preprocessed(trained, size=8))
    large = np.repeat(np.repeat(X, 2, axis=1), 2, axis=2)
    net = PatchNetClassifier(module, autocast=True, max_epochs=1, random_state=0).fit(large, y)
    assert np.isfinite(net.loss_curve_).all()


def test_a_gray_image_becomes_one_of_equal_channels():
    mean, std = [0.1, 0.2, 0.3], [1, 2, 4]
    made = Preprocessed(nn.Identity(), mean, std)(torch.full((2, 1, 4, 4), 0.5))
    assert made.shape == (2, 3, 4, 4)
    np.testing.assert_allclose(made[0, :, 0, 0], [0.4, 0.15, 0.05], atol=1e-7)
    with pytest.raises(ValueError, match="2 channels, but mean and std are those of 3"):
        Preprocessed(nn.Identity(), mean, std)(torch.zeros(1, 2, 4, 4))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"std": [0, 1]}, "std must be positive"), ({"mean": [np.nan]}, "mean must be finite"),
     ({"mean": [1, 2], "std": [1, 2, 3]}, "different lengths"), ({"size": 0}, "size"),
     ({"size": (1, 2, 3)}, "size"), ({"interpolation": "box"}, "interpolation")],
)  # fmt: skip
def test_preprocessing_that_means_nothing_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Preprocessed(nn.Identity(), **options)


def test_radii_and_attacks_stay_in_the_pixels_of_x(trained):
    """Images of 0 to 255 and twice the size, and a network of images of 0 to 1."""
    large = np.repeat(np.repeat(X, 2, axis=1), 2, axis=2) * np.float32(255)
    module = Preprocessed(trained, mean=[0.0], std=[255.0], size=8)
    net = PatchNetClassifier.from_pretrained(module, image_shape=(16, 16), input_range=(0, 255))
    assert net.score(large, y) > 0.8
    vocabulary = PatchVocabulary(16, 4, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", FrozenEstimator(net))])
    radii = model.fit(large, y).certify_prediction(large[:3], max_configurations=20).radius
    small_net = PatchNetClassifier.from_pretrained(
        Preprocessed(trained, size=8), image_shape=(16, 16)
    )
    tokens = PatchVocabulary.from_tokens(model[0].vocabulary_ / 255, patch_size=4)
    same = CertifiedPatchClassifier(
        [("vocab", FrozenEstimator(tokens)), ("clf", FrozenEstimator(small_net))]
    ).fit(large / 255, y)
    found = same.certify_prediction(large[:3] / 255, max_configurations=20).radius
    np.testing.assert_allclose(radii, found * 255, rtol=1e-3)


class Two(nn.Module):
    """The head comes before another layer of its size, which predictions do not use."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 3)
        self.aux = nn.Linear(64, 3)

    def forward(self, images):
        return self.fc(images.flatten(1))


class Turned(nn.Module):
    """All outputs are 0 for values up to 1, and they are not in the order of the last layer."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 3, bias=False)

    def forward(self, images):
        return self.fc((images - 1).relu().flatten(1))[:, [1, 0, 2]]


def test_the_head_is_the_layer_that_is_used_last():
    X, y = np.random.default_rng(0).random((6, 8, 8)), [0, 1, 2] * 2
    module = Two()
    net = PatchNetClassifier(module, head="replace", trainable="head", max_epochs=1, random_state=0)
    net.fit(X, y)
    assert not torch.equal(net.module_.fc.weight, module.fc.weight)
    assert torch.equal(net.module_.aux.weight, module.aux.weight)
    named = PatchNetClassifier.from_pretrained(module, ["c", "b", "a"], image_shape=(8, 8))
    plain = PatchNetClassifier.from_pretrained(module, image_shape=(8, 8))
    assert (named.predict(X) == np.array(["c", "b", "a"])[plain.predict(X)]).all()


def test_outputs_of_another_order_are_refused_also_where_they_are_all_equal():
    with pytest.raises(ValueError, match="cannot be brought into the order"):
        PatchNetClassifier.from_pretrained(Turned(), ["c", "b", "a"], image_shape=(8, 8))
