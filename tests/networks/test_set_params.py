"""set_params of a fitted network: new values count from the next fit on, predictions stay."""

import copy
import pickle

import numpy as np
import pytest
import torch
from nets_for_tests import Rates, Stumble, output, same_weights, weights
from sklearn.base import clone
from skorch.dataset import Dataset, ValidSplit

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ModelFileError,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
    load,
    save,
)
from sklearn_patchcert.networks.fitting.loops import BatchIterator
from sklearn_patchcert.networks.modules import ImageResNet, PatchConvNet


class OtherDataset(Dataset):
    pass


class OtherIterator(BatchIterator):
    pass


class Deep(PatchConvNet):
    """With an option that nobody sets at first."""

    def __init__(self, image_shape, n_outputs, mean, std, width, hidden, depth=0):
        super().__init__(image_shape, n_outputs, mean, std, width, hidden)
        self.more = torch.nn.ModuleList(torch.nn.Linear(n_outputs, n_outputs) for _ in range(depth))

    def forward(self, images):
        found = super().forward(images)
        for layer in self.more:
            found = layer(found)
        return found


class L1(torch.nn.Module):
    """For values and for classes."""

    def forward(self, found, target):
        if target.ndim == 1:
            target = torch.nn.functional.one_hot(target, found.shape[1])
        return (found - target).abs().mean()


CHANGES = {
    "module": {"module": PatchConvNet},
    "width": {"module__width": 4},
    "hidden": {"module__hidden": 8, "module__width": 12},
    "new of module": {"module__depth": 1},
    "criterion": {"criterion": L1},
    "reduction": {"criterion__reduction": "sum"},
    "optimizer": {"optimizer": torch.optim.SGD},
    "momentum": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.5},
    "weight decay": {"optimizer__weight_decay": 0.3},
    "betas": {"optimizer__betas": (0.5, 0.6)},
    "lr": {"lr": 0.1},
    "optimizer lr": {"optimizer__lr": 0.2},
    "callbacks": {"callbacks": [Rates()]},
    "no callbacks": {"callbacks": "disable"},
    "callback": {"callbacks__epoch_timer": None},
    "of a callback": {"callbacks__train_loss__name": "mean_loss"},
    "compile": {"compile": True, "compile__backend": "eager"},
    "batch size": {"batch_size": 77},
    "epochs": {"max_epochs": 2},
    "schedule": {"lr_schedule": None},
    "shape": {"image_shape": (8, 8)},
    "autocast": {"autocast": True},
    "noise": {"noise_std": 0.5},
    "augment": {"augment": torch.neg},
    "seed": {"random_state": 5},
    "split": {"train_split": ValidSplit(3)},
    "warm start": {"warm_start": False},
    "verbose": {"verbose": 0},
    "device": {"device": "cpu"},
    "iterator": {"iterator_train__shuffle": False},
    "iterators": {"iterator_train": OtherIterator, "iterator_valid": OtherIterator},
    "dataset": {"dataset": OtherDataset, "dataset__length": None},
    "caching": {"use_caching": False, "torch_load_kwargs": {}},
}
OF_OPTIMIZER = {"weight decay", "betas", "lr"}  # which training takes up without a new optimizer


def old(kind=PatchNetClassifier, **options):
    sizes = {"module": Deep, "module__width": 8, "module__hidden": 16}
    small = {"max_epochs": 1, "lr": 0.01, "batch_size": 50, "random_state": 0}
    return kind(**{**sizes, **small, **options})


@pytest.fixture(scope="module")
def fitted(few):
    """Networks as `old` makes them, fitted; tests change copies."""
    return {kind: old(kind).fit(*few) for kind in (PatchNetClassifier, PatchNetRegressor)}


CASES = [(PatchNetClassifier, name) for name in CHANGES]
CASES += [(PatchNetRegressor, name) for name in ("width", "criterion", "momentum", "callbacks")]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_predictions_stay_and_the_next_fit_takes_the_new_values(few, fitted, kind, name):
    X, y = few
    change = CHANGES[name]
    net = copy.deepcopy(fitted[kind])
    before, module, history = output(net, X[:40]), net.module_, list(net.history_)
    assert net.set_params(**change) is net
    np.testing.assert_array_equal(output(net, X[:40]), before)
    np.testing.assert_array_equal(output(pickle.loads(pickle.dumps(net)), X[:40]), before)
    assert net.module_ is module
    assert list(net.history_) == history
    params = net.get_params()
    assert all(params[key] is value for key, value in change.items())
    if "compile" in change:
        return  # takes seconds
    fresh = old(kind, **change).fit(X, y)
    again = clone(net).fit(X, y)
    net.fit(X, y)
    assert same_weights(net, fresh)
    assert same_weights(again, fresh)
    assert [dict(e, dur=0) for e in net.history_] == [dict(e, dur=0) for e in fresh.history_]
    assert [cb for cb, _ in net.callbacks_] == [cb for cb, _ in fresh.callbacks_]
    assert not net.set_since_fit("module", "criterion", "optimizer", "lr", "callbacks")
    np.testing.assert_array_equal(output(net, X), output(fresh, X))


@pytest.mark.parametrize("name", [n for n, c in CHANGES.items() if "compile" not in c])
def test_more_training_takes_up_what_it_can_and_says_what_it_cannot(few, fitted, name):
    X, y = few
    net = copy.deepcopy(fitted[PatchNetClassifier]).set_params(warm_start=True)
    start = weights(net)
    net.set_params(**CHANGES[name])
    for train in (net.partial_fit, net.fit):
        changed = [key for key in CHANGES[name] if key.startswith("module")]
        if changed:
            with pytest.raises(ValueError, match=changed[0]):
                train(X, y)
            assert same_weights(net, start)
            continue
        epochs = len(net.history_)
        train(X, y)
        if train == net.fit and not net.warm_start:
            continue
        assert not same_weights(net, start)
        assert len(net.history_) == epochs + net.max_epochs
        for key, value in CHANGES[name].items():
            if key.startswith("optimizer__"):
                assert net.optimizer_.param_groups[0][key[len("optimizer__") :]] == value
        assert isinstance(net.optimizer_, net.optimizer)
        assert isinstance(net.criterion_, net.criterion)


@pytest.mark.parametrize("name", sorted(OF_OPTIMIZER))
def test_new_numbers_of_the_optimizer_leave_its_memory(few, name):
    X, y = few
    net, other = (old().fit(X, y).set_params(random_state=1) for _ in range(2))
    memory = copy.deepcopy(net.optimizer_.state_dict()["state"])
    net.set_params(**CHANGES[name]).partial_fit(X, y)
    assert net.optimizer_.state_dict()["state"][0]["step"] > memory[0]["step"]
    assert not same_weights(net, other.partial_fit(X, y))


def test_values_that_are_set_back_count_as_never_set(few):
    X, y = few
    net, other = (
        old(optimizer__betas=(0.8, 0.9)).fit(X, y).set_params(random_state=1) for _ in "ab"
    )
    net.set_params(module__width=4, module__depth=1, lr=0.5, optimizer__betas=(0.1, 0.1))
    net.set_params(module__width=8, lr=0.01, optimizer__betas=(0.8, 0.9))
    assert net.set_since_fit("module", "optimizer", "lr") == ["module__depth"]
    net = old(optimizer__betas=(0.8, 0.9)).fit(X, y)
    net.set_params(**net.get_params(deep=False)).set_params(random_state=1)
    assert not net.set_since_fit("module", "criterion", "optimizer", "lr", "callbacks")
    assert same_weights(net.partial_fit(X, y), other.partial_fit(X, y))


def test_an_attribute_counts_like_a_parameter(few):
    X, y = few
    net = old().fit(X, y)
    before = output(net, X)
    net.module__width = 4
    np.testing.assert_array_equal(output(net, X), before)
    with pytest.raises(ValueError, match="module__width"):
        net.partial_fit(X, y)
    assert same_weights(net.fit(X, y), old(module__width=4).fit(X, y))


def test_training_further_that_fails_leaves_parts_and_parameters(few):
    X, y = few
    net = old().fit(X, y)
    net.set_params(optimizer=torch.optim.SGD, criterion=L1, lr=0.5)
    before, parts = weights(net), (net.optimizer_, net.criterion_, net.callbacks_)
    with pytest.raises(TypeError):
        net.set_params(optimizer__momentum="much").partial_fit(X, y)
    assert same_weights(net, before)
    now = net.optimizer_, net.criterion_, net.callbacks_
    assert all(one is other for one, other in zip(now, parts, strict=True))
    assert net.set_since_fit("optimizer", "lr") == ["lr", "optimizer", "optimizer__momentum"]


@pytest.mark.parametrize("name", ["no_such", "modul__width", "module_width"])
def test_unknown_parameters_are_refused_at_once_and_change_nothing(few, name):
    X, y = few
    net = old().fit(X, y)
    state = dict(vars(net))
    with pytest.raises(ValueError, match=name):
        net.set_params(lr=0.5, **{name: 4})
    assert vars(net).keys() == state.keys()
    assert all(vars(net)[key] is value for key, value in state.items())
    with pytest.raises(ValueError, match="shuffle"):
        net.set_params(iterator_valid__shuffle=True)
    with pytest.raises(ValueError, match="shuffle"):
        old(iterator_valid__shuffle=True).fit(X, y)


def test_through_a_pipeline(few):
    X, y = few
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", old())]).fit(X, y)
    before = model.predict_proba(X)
    radii = model.certify_prediction(X[:3], max_configurations=50).radius
    model.set_params(clf__module__width=4, clf__criterion=L1)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    found = model.certify_prediction(X[:3], max_configurations=50)
    np.testing.assert_array_equal(found.radius, radii)
    fresh = old(module__width=4, criterion=L1)
    other = clone(model).set_params(clf=fresh).fit(X, y)
    assert same_weights(model.fit(X, y)["clf"], other["clf"])


def test_a_file_holds_no_network_that_was_never_fitted(few, tmp_path):
    X, y = few
    net = old(module=PatchConvNet).fit(X, y)
    for name, change in (
        ("module", {"module": ImageResNet}),
        ("module__width", {"module__width": 4}),
        ("criterion__reduction", {"criterion__reduction": "sum"}),
    ):
        changed = copy.deepcopy(net).set_params(**change)
        for trim in (False, True):
            with pytest.raises(ValueError, match=f"{name}: set"):
                save(changed, tmp_path / "net", trim=trim)
    changed = copy.deepcopy(net).set_params(lr=0.5, max_epochs=3)
    with pytest.raises(ValueError, match="lr: set"):
        save(changed, tmp_path / "net", trim=False)
    save(changed, tmp_path / "net", trim=True)
    back = load(tmp_path / "net")
    np.testing.assert_array_equal(back.predict_proba(X), net.predict_proba(X))
    assert (back.lr, back.max_epochs) == (0.5, 3)
    assert issubclass(ModelFileError, ValueError)


def test_a_fit_that_fails_keeps_the_history(few):
    X, y = few
    net = old(max_epochs=3).fit(X, y)
    history, epochs = net.history_, copy.deepcopy(list(net.history_))
    net.set_params(callbacks=[Stumble()])
    with pytest.raises(ArithmeticError):
        net.fit(X, y)
    assert net.history_ is history
    assert list(history) == epochs
