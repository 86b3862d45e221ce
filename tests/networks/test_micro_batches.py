"""Batches that are computed in parts: the same steps, less memory, and nothing else changes."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nets_for_tests import KINDS, make, output, same_weights, weights
from skorch.callbacks import Callback, GradientNormClipping
from skorch.dataset import ValidSplit
from torch import nn

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
    load,
    save,
)
from sklearn_patchcert.networks import AdditivePatchNet
from sklearn_patchcert.networks.fitting.activations import activation_bytes, images_within
from sklearn_patchcert.networks.fitting.loops import count_parts

SEEN = []  # the sizes of what the modules below are given


class Small(nn.Module):
    """A convolution and a linear layer, without batch normalization."""

    def __init__(self, image_shape, n_outputs):
        super().__init__()
        self.first = nn.Conv2d(image_shape[2], 3, 3, padding=1)
        self.last = nn.Linear(3 * image_shape[0] * image_shape[1], n_outputs)

    def forward(self, images):
        SEEN.append(len(images))
        return self.last(self.first(images).tanh().flatten(1))


class Pair(Small):
    """Returns two tensors."""

    def forward(self, images):
        outputs = super().forward(images)
        return outputs, outputs.exp()


class OfPair(nn.CrossEntropyLoss):
    def forward(self, outputs, target):
        return super().forward(outputs[0] - 0.1 * outputs[1], target)


class NoReduction(nn.Module):
    def forward(self, outputs, target):
        return nn.functional.cross_entropy(outputs, target)


class Steps(Callback):
    """Keeps what callbacks are told in each step."""

    def on_train_begin(self, net, **kwargs):
        self.gradients, self.shapes = [], []

    def on_grad_computed(self, net, named_parameters, batch=None, **kwargs):
        self.gradients.append([value.grad.clone() for _, value in named_parameters])

    def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
        first = y_pred[0] if isinstance(y_pred, tuple) else y_pred
        self.shapes.append((training, len(batch[1]), tuple(first.shape)))


def images(n, side=4, classes=3, seed=0):
    random = np.random.default_rng(seed)
    return random.random((n, side, side, 1), dtype=np.float32), np.arange(n) % classes


def steps_of(X, y, kind=PatchNetClassifier, weight=None, **options):
    """A network after a fit, and the gradients and shapes of its steps."""
    steps = Steps()
    options = {"module": Small, "optimizer": torch.optim.SGD, "lr": 0.1, **options}
    callbacks = [*options.pop("callbacks", []), steps]
    net = make(kind, callbacks=callbacks, **options).fit(X, y, sample_weight=weight)
    return net, steps


def assert_same_training(X, y, size, **options):
    try:
        whole = steps_of(X, y, **options)
    except ValueError:  # the loss of a batch of nothing that counts is NaN
        assume(False)
    split = steps_of(X, y, micro_batch_size=size, **options)
    assert split[1].shapes == whole[1].shapes
    for first, second in zip(whole[1].gradients, split[1].gradients, strict=True):
        for one, other in zip(first, second, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(split[0].loss_curve_, whole[0].loss_curve_, rtol=1e-4)


LOSSES = {
    "default": {},
    "by class": {"criterion__weight": torch.tensor([0.0, 1.0, 5.0])},
    "smoothed": {"criterion__label_smoothing": 0.2, "criterion__weight": torch.tensor([1.0, 2, 4])},
    "ignored": {"criterion__ignore_index": 1},
    "sum": {"criterion__reduction": "sum", "lr": 0.01},
    "classes": {"class_weight": {0: 1.0, 1: 0.5, 2: 7.0}},
    "two outputs": {"module": Pair, "criterion": OfPair},
}


@given(
    n=st.integers(3, 14), batch=st.integers(1, 14), size=st.integers(1, 6),
    loss=st.sampled_from(sorted(LOSSES)), weighted=st.booleans(),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_a_batch_in_parts_takes_the_step_of_the_whole_batch(n, batch, size, loss, weighted):
    X, y = images(n)
    weight = np.random.default_rng(n).exponential(size=n) if weighted else None
    assert_same_training(X, y, size, batch_size=batch, weight=weight, **LOSSES[loss])


@pytest.mark.parametrize("name", ["numbers", "labels"])
def test_so_it_does_for_several_numbers_and_labels(name):
    X, _ = images(11)
    y = np.random.default_rng(1).random((11, 2))
    kind = PatchNetRegressor if name == "numbers" else PatchNetClassifier
    y = y if name == "numbers" else (y > 0.5).astype(int)
    assert_same_training(X, y, 3, kind=kind, weight=np.arange(1.0, 12.0), batch_size=8)


DISTURBED = {
    "flips": {"flip_radius": 0.5, "flip_share": 0.3},
    "leads": {"certified_radius": 0.1, "module": AdditivePatchNet, "module__width": 4,
              "module__patch_size": 2},
    "mirrored": {"augment": partial(torch.flip, dims=[3])},
}  # fmt: skip


@pytest.mark.parametrize("name", DISTURBED)
def test_so_it_does_with_images_that_are_disturbed(name):
    X, y = images(13, side=8)
    vocabulary = PatchVocabulary(4, patch_size=2, strategy="kmeans", random_state=0).fit(X)

    def trained(size):
        net = make(
            **{"module": Small, **DISTURBED[name]}, micro_batch_size=size, max_epochs=2,
            optimizer=torch.optim.SGD, lr=0.1, batch_size=10,
        )  # fmt: skip
        return weights(net.fit(vocabulary.transform(X), y, source=(vocabulary, X)))

    whole, split = trained(None), trained(2)
    for key, value in whole.items():
        torch.testing.assert_close(split[key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{"adversarial_radius": 0.5, "adversarial_steps": 1},
                                     {"noise_std": 0.1}, {"autocast": True}],
                         ids=lambda options: next(iter(options)))  # fmt: skip
def test_no_more_images_than_allowed_are_computed_at_once(options):
    X, y = images(23)
    net = make(module=Small, micro_batch_size=4, train_split=ValidSplit(2), batch_size=8, **options)
    net.fit(X, y)
    SEEN.clear()
    net.partial_fit(X, y)
    net.predict(X)
    net.predict_log_proba(X)
    assert net.micro_batch_size_ == 4
    assert set(SEEN) <= {2, 3, 4}


def test_callbacks_see_whole_batches_and_their_gradients():
    X, y = images(24)
    _, steps = steps_of(X, y, micro_batch_size=3, batch_size=12, lr=1.0)
    assert steps.shapes == [(True, 12, (12, 3))] * 2
    assert len(steps.gradients) == 2
    clip = GradientNormClipping(0.01)
    _, steps = steps_of(X, y, micro_batch_size=3, batch_size=12, callbacks=[("clip", clip)])
    for gradients in steps.gradients:
        norm = torch.cat([one.flatten() for one in gradients]).norm()
        torch.testing.assert_close(norm, torch.tensor(0.01), rtol=1e-3, atol=0)


def test_an_optimizer_that_asks_for_the_gradient_several_times():
    X, y = images(12)
    options = {"module": Small, "optimizer": torch.optim.LBFGS, "optimizer__max_iter": 3, "lr": 0.1}
    whole, split = (make(**options, micro_batch_size=at).fit(X, y) for at in (None, 4))
    np.testing.assert_allclose(output(split, X), output(whole, X), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory", ["auto", 512])
def test_where_the_memory_suffices_not_a_bit_changes(kind, memory):
    X, y = images(40, side=8)
    before = torch.get_rng_state()
    bound, free = (make(kind, working_memory=at, max_epochs=2).fit(X, y) for at in (memory, None))
    assert same_weights(bound, free)
    assert np.array_equal(output(bound, X), output(free, X))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (64, 64, 3)])
def test_small_pictures_are_not_split_by_default(shape):
    X = np.random.default_rng(0).random((8, *shape), dtype=np.float32)
    net = make(trainable="none").fit(X, np.arange(8) % 2)
    assert net.micro_batch_size_ is None


class Wide(nn.Module):
    """Keeps 64 channels of large pictures."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2),
        )  # fmt: skip

    def forward(self, images):
        SEEN.append(len(images))
        return self.layers(images)


@pytest.mark.parametrize("made", ["class", "instance"])
def test_large_pictures_are_split_by_default_whatever_the_module(made):
    X = np.random.default_rng(0).random((4, 128, 128, 3), dtype=np.float32)
    net = PatchNetClassifier(Wide if made == "class" else Wide(), max_epochs=0, random_state=0)
    net.fit(X, np.arange(4) % 2)
    size = net.micro_batch_size_
    at_most = 512 * 2**20 / (2 * 64 * 128 * 128 * 4)  # two outputs of layers, at the least
    assert 2 <= size < at_most
    assert net.set_params(micro_batch_size=3).fit(X, np.arange(4) % 2).micro_batch_size_ == 3
    assert net.set_params(micro_batch_size=None, working_memory=256).fit(
        X, np.arange(4) % 2
    ).micro_batch_size_ in (size // 2, size // 2 - 1)
    assert net.set_params(working_memory=None).fit(X, np.arange(4) % 2).micro_batch_size_ is None


@given(n=st.integers(4, 20), channels=st.integers(1, 8), side=st.integers(2, 12))
@settings(max_examples=20, deadline=None)
def test_what_fits_into_the_budget_takes_no_more_than_it(n, channels, side):
    module = nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Flatten(), nn.Linear(channels * side * side, 3),
    )  # fmt: skip
    before = {name: value.clone() for name, value in module.state_dict().items()}
    X = torch.rand(n + 1, 1, side, side)
    budget = activation_bytes(module, X[:n])
    assert images_within(module, X[:4], budget, 10**9) == n
    assert images_within(module, X[:4], budget - 1, 10**9) == n - 1
    after = module.state_dict()
    assert module.training
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_does_not_grow_with_the_batch_is_counted_once():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(10**5))

        def forward(self, images):
            return images.flatten(1)[:, :2] * (2 * self.weight).tanh().square().mean()

    module, X = Constant(), torch.rand(4, 1, 4, 4)
    fixed = activation_bytes(module, X)
    assert images_within(module, X, 2 * fixed, 10**6) > 1000
    assert images_within(module, X, fixed / 2, 10**6) == 0


def test_frozen_layers_save_nothing():
    X, y = images(8, side=70)
    sizes = [
        make(module=Small, trainable=at, max_epochs=0).fit(X, y).micro_batch_size_
        for at in ("all", "head", "none")
    ]
    assert sizes[0] < sizes[1] <= sizes[2]


def test_a_module_that_cannot_be_copied_is_measured_as_it_is():
    class Unique(Small):
        def __deepcopy__(self, memo):
            raise TypeError("there is only one")

    X = torch.rand(3, 1, 4, 4)
    module = Unique((4, 4, 1), 2)
    assert activation_bytes(module, X) == activation_bytes(Small((4, 4, 1), 2), X)
    assert module.training


@given(n=st.integers(1, 200), size=st.integers(1, 60))
def test_parts_are_nearly_equal_and_leave_none_alone(n, size):
    sizes = [len(part) for part in torch.arange(n).tensor_split(count_parts(n, size))]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(2, size, n)
    assert max(sizes) <= max(size, 3 if size > 1 else 1)


class Busy(nn.Module):
    """A module whose forward changes parameters and buffers, in place and otherwise."""

    def __init__(self):
        super().__init__()
        self.norm, self.last = nn.BatchNorm2d(1), nn.Linear(64, 4)
        self.bias = nn.Embedding(3, 4, max_norm=0.1)
        self.codes = nn.Parameter(torch.zeros(4), requires_grad=False)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images):
        self.calls = self.calls + 1
        with torch.no_grad():
            self.codes += 1
        return self.last(self.norm(images).flatten(1)) + self.bias(torch.tensor([1])) + self.codes


class BusyAndUnique(Busy):
    def __deepcopy__(self, memo):
        raise TypeError("there can be only one")


@pytest.mark.parametrize("kind", [Busy, BusyAndUnique])
@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_a_module_as_it_is(kind, training):
    module = kind().train(training)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    activation_bytes(module, torch.rand(4, 1, 8, 8))
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(part.training == training for part in module.modules())
    assert all(value.grad is None for value in module.parameters())


REFUSED = {
    "no memory": {"working_memory": 0},
    "as text": {"working_memory": "1GB"},
    "not a number": {"working_memory": float("nan")},
    "infinite": {"working_memory": float("inf")},
    "beyond floats": {"working_memory": 10**400},
    "no images": {"micro_batch_size": 0},
    "parts of images": {"micro_batch_size": 2.5},
    "true": {"micro_batch_size": True},
    "too little": {"working_memory": 1e-6},
    "no reduction": {"micro_batch_size": 2, "criterion": NoReduction},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_and_nothing_is_fitted(name):
    X, y = images(12)
    net = make(module=Small, **REFUSED[name])
    with pytest.raises(ValueError, match="|".join(REFUSED[name])):
        net.fit(X, y)
    assert not hasattr(net, "module_")


def test_a_criterion_that_cannot_be_split_is_left_whole_by_default():
    X, y = images(12, side=65)
    net, _ = steps_of(X, y, criterion=NoReduction)
    assert net.micro_batch_size_ > 12
    net.micro_batch_size_ = 2
    assert net.train_step_single((torch.rand(9, 1, 65, 65), torch.zeros(9, dtype=torch.int64)))


def test_files_and_pickles_keep_how_many_images_are_computed_at_once(tmp_path):
    X, y = images(12, side=8)
    net = make(micro_batch_size=5, working_memory=100).fit(X, y)
    save(net, tmp_path / "net.patchcert")
    for again in (load(tmp_path / "net.patchcert"), pickle.loads(pickle.dumps(net))):
        assert again.micro_batch_size_ == again.micro_batch_size == 5
        assert again.working_memory == 100
        assert np.array_equal(again.predict_proba(X), net.predict_proba(X))


def test_networks_that_are_ready_at_once_are_measured_and_certify():
    net = PatchNetClassifier.from_pretrained(Wide(), image_shape=(96, 96, 3), random_state=0)
    assert net.micro_batch_size_ > 2
    net = PatchNetClassifier.from_pretrained(
        Wide(), image_shape=(16, 16, 3), micro_batch_size=4, random_state=0
    )
    X = np.random.default_rng(0).random((11, 16, 16, 3), dtype=np.float32)
    vocabulary = PatchVocabulary(4, patch_size=8, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(
        X, np.arange(11) % 2
    )
    found = model.certify_prediction(X, max_configurations=20)
    assert np.array_equal(found.prediction, model.predict(X))
