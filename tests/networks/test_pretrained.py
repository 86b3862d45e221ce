"""Modules that come with weights: copied, frozen in part, with a new head, ready at once."""

import functools
import pickle

import numpy as np
import pytest
import torch
from nets_for_tests import Bare, same_weights
from pretrained_for_tests import Around, Convolutional, Small, X, small, train, y
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.files import export_network
from sklearn_patchcert.networks import RandomMasks


@pytest.fixture(scope="module")
def trained():
    return train()


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, net):
    after = net.module_.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


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


class Pair(nn.Module):
    """Returns its logits twice, as networks with auxiliary outputs do, or by name."""

    def __init__(self, by_name):
        super().__init__()
        self.by_name, self.last = by_name, nn.Linear(64, 2)

    def forward(self, images):
        logits = self.last(images.flatten(1))
        return {"logits": logits} if self.by_name else (logits, logits)


def test_a_module_that_returns_no_tensor(digits):
    X, y = digits[0][:50], digits[1][:50] % 2
    with pytest.raises(ValueError, match=r"keys \['logits'\], not a tensor: wrap it"):
        PatchNetClassifier.from_pretrained(Pair(True), classes=[0, 1], image_shape=(8, 8))
    with pytest.raises(ValueError, match=r"keys \['logits'\], not a tensor: wrap it"):
        PatchNetClassifier(Pair(True), max_epochs=1).fit(X, y)
    options = {"classes": [0, 1], "image_shape": (8, 8), "input_range": (0, 16)}
    ready = PatchNetClassifier.from_pretrained(Pair(False), **options)
    trained = PatchNetClassifier(Pair(False), max_epochs=1, random_state=0).fit(X, y)
    assert ready.predict(X).shape == trained.predict(X).shape == (50,)


@pytest.mark.parametrize("image_shape", [(3, 32, 32), (16, 16)])
def test_images_of_another_shape_than_the_module_takes(image_shape):
    module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(128, 2))
    for classes in (None, [0, 1]):
        with pytest.raises(ValueError, match=r"does not take images.*image_shape=.H, W, C."):
            PatchNetClassifier.from_pretrained(module, classes=classes, image_shape=image_shape)


@pytest.mark.parametrize(
    "error", [NotImplementedError(), torch.OutOfMemoryError("no memory"), RecursionError("deep")]
)
def test_other_errors_of_a_module_stay_what_they_are(digits, error):
    class Failing(nn.Module):
        def forward(self, images):
            raise error

    with pytest.raises(type(error)):
        PatchNetClassifier(Failing(), trainable="none").fit(digits[0][:20], digits[1][:20])


@pytest.mark.parametrize(
    "options",
    [{"flip_radius": 0.5}, {"adversarial_radius": 0.3},
     {"mask_training": RandomMasks(np.eye(64, dtype=bool).reshape(-1, 8, 8), candidates=2)}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_options_that_ask_a_network_need_its_outputs_alone(digits, options):
    vocabulary = PatchVocabulary(4, 2, strategy="kmeans", random_state=0)
    net = PatchNetClassifier(Pair(False), max_epochs=1, random_state=0, **options)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)])
    with pytest.raises(ValueError, match=r"Pair returns a tuple.*outputs alone"):
        model.fit(digits[0][:50], digits[1][:50] % 2)


def test_the_program_of_a_module_that_returns_a_tuple(digits, tmp_path):
    X, y = digits[0][:50], digits[1][:50] % 2
    net = PatchNetClassifier(Pair(False), max_epochs=1, random_state=0).fit(X, y)
    export_network(net, tmp_path / "net.pt2")
    assert (tmp_path / "net.pt2").stat().st_size > 0


class OfAll(nn.CrossEntropyLoss):
    """A criterion of the user's own, for a module with auxiliary outputs."""

    def forward(self, outputs, target):
        return sum(super(OfAll, self).forward(one, target) for one in outputs)


def test_a_criterion_of_the_user_gets_all_outputs(digits):
    vocabulary = PatchVocabulary(4, 2, strategy="kmeans", random_state=0)
    net = PatchNetClassifier(
        Pair(False), criterion=OfAll, max_epochs=1, flip_radius=0.5, random_state=0
    )
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)])
    model.fit(digits[0][:50], digits[1][:50] % 2)
    assert model.predict(digits[0][:5]).shape == (5,)
