"""The networks in training: seeds, batches, learning rates, precision, modules, targets."""

import pickle

import numpy as np
import pytest
import torch
from nets_for_tests import (
    KINDS,
    Bare,
    Orders,
    Rates,
    Told,
    make,
    output,
    same_weights,
    weights,
)
from sklearn.base import clone
from sklearn.metrics import r2_score
from skorch.dataset import Dataset, ValidSplit

from sklearn_patchcert import PatchNetRegressor
from sklearn_patchcert.networks.base import BatchIterator
from sklearn_patchcert.networks.modules import PatchConvNet

# ---------------------------------------------------------------------------- seeds


@pytest.mark.parametrize("options", [{}, {"module": Bare}], ids=["default", "dropout"])
def test_same_seed_same_bits_and_the_global_generators_are_left_alone(few, options):
    X, y = few
    torch.manual_seed(1)
    np.random.seed(1)
    ours = torch.get_rng_state(), np.random.get_state()
    first = make(batch_size=32, **options).fit(X, y)
    first.predict_proba(X)
    first.partial_fit(X, y)
    assert torch.equal(torch.get_rng_state(), ours[0])
    np.testing.assert_array_equal(np.random.get_state()[1], ours[1][1])
    assert np.random.get_state()[2] == ours[1][2]

    torch.manual_seed(2)  # what the global generators hold must not matter either
    np.random.seed(2)
    second = make(batch_size=32, **options).fit(X, y).partial_fit(X, y)
    assert same_weights(first, second)
    other = make(batch_size=32, random_state=1, **options).fit(X, y).partial_fit(X, y)
    assert not same_weights(first, other)
    given = [make(random_state=np.random.RandomState(3), **options).fit(X, y) for _ in range(2)]
    assert same_weights(*given)
    unseeded = [make(random_state=None, **options).fit(X, y) for _ in range(2)]
    assert not same_weights(*unseeded)


def test_without_warm_start_a_second_fit_forgets_the_first(few):
    X, y = few
    net = make().fit(X, y % 3)
    assert same_weights(net.fit(X, y), make().fit(X, y))
    np.testing.assert_array_equal(net.classes_, np.arange(10))
    assert len(net.history_) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_warm_start_goes_on(few, kind):
    X, y = few
    warm = make(kind, warm_start=True).fit(X, y)
    once = weights(warm)
    assert same_weights(once, make(kind).fit(X, y))
    warm.fit(X, y)
    assert not same_weights(warm, once)
    assert same_weights(warm, make(kind).fit(X, y).partial_fit(X, y))
    assert len(warm.history_) == 2
    # what the first fit learned of the data stays: other images are still on the same scale
    mean = warm.channel_mean_.copy()
    warm.fit(X + 5, y)
    np.testing.assert_array_equal(warm.channel_mean_, mean)


# ---------------------------------------------------------------------------- batches and rates


@pytest.mark.parametrize(
    ("n", "size"), [(1, 5), (5, 5), (6, 5), (129, 128), (100, 33), (10, 1), (257, 128), (3, 100)]
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_nearly_equal_and_hold_every_image_once(n, size, shuffle):
    dataset = Dataset(np.arange(2 * n).reshape(n, 2), np.arange(n))
    batches = BatchIterator(dataset, size, shuffle=shuffle)
    passes = [list(batches) for _ in range(2)]
    for one in passes:
        sizes = [len(X) for X, _ in one]
        assert len(sizes) == len(batches) == int(np.ceil(n / size))
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) > 1 or 1 in (n, size)  # no image is left over
        for X, y in one:
            np.testing.assert_array_equal(X[:, 0], 2 * y)  # image and target stay together
        assert sorted(np.concatenate([y for _, y in one])) == list(range(n))
    orders = [np.concatenate([y for _, y in one]) for one in passes]
    if n >= 100:
        assert np.array_equal(*orders) is not shuffle
    if not shuffle:
        np.testing.assert_array_equal(orders[0], np.arange(n))


def test_training_shuffles_and_other_passes_do_not(few):
    X, _ = few
    options = {"max_epochs": 2, "batch_size": 60, "callbacks": [Orders()]}
    labels = np.arange(150) % 75  # so that an order can be read from them
    net = make(**options).fit(X, labels)
    first, second = (np.concatenate(net.history_[i, "batches", :, "labels"]) for i in (0, 1))
    assert sorted(first) == sorted(second) == sorted(labels)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, labels)
    still = make(iterator_train__shuffle=False, **options).fit(X, labels)
    kept = np.concatenate(still.history_[0, "batches", :, "labels"])
    np.testing.assert_array_equal(kept, labels)
    by_one = np.concatenate([net.predict_proba(X[i : i + 1]) for i in range(0, 150, 10)])
    np.testing.assert_allclose(net.predict_proba(X)[::10], by_one, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "batch_size"), [(33, 32), (3, 2), (1, 128), (5, 1)])
def test_a_batch_of_one_image_is_no_trouble(few, kind, n, batch_size):
    X, y = few
    net = make(kind, batch_size=batch_size).fit(X[:n], y[:n])
    assert np.isfinite(output(net, X)).all()
    # predictions do not depend on the company an image is in
    np.testing.assert_allclose(output(net, X[5:6]), output(net, X)[5:6], rtol=1e-4, atol=1e-6)
    sizes = np.array(net.history_[0, "batches", :, "train_batch_size"])
    assert sizes.sum() == n


def test_a_network_for_one_pixel():
    X = np.repeat([[0.0], [1.0]], 10, axis=0)
    net = make(max_epochs=20, lr=0.02, batch_size=4).fit(X, X[:, 0] > 0.5)
    np.testing.assert_array_equal(net.predict([[0.0], [1.0]]), [False, True])


@pytest.mark.parametrize("split", [None, ValidSplit(5)], ids=["all", "split"])
def test_the_learning_rate_falls_along_half_a_cosine(few, split):
    X, y = (part[:100] for part in few)
    options = {"max_epochs": 3, "batch_size": 32, "lr": 0.01, "callbacks": [Rates()]}
    net = make(train_split=split, **options).fit(X, y)
    per_epoch = 4 if split is None else 3
    done = np.arange(3 * per_epoch) / (3 * per_epoch)
    expected = 0.01 * (1 + np.cos(np.pi * done)) / 2
    np.testing.assert_allclose(np.ravel(net.history_[:, "batches", :, "rate"]), expected)
    net.partial_fit(X, y)  # and again in every call
    rates = np.ravel(net.history_[:, "batches", :, "rate"])
    np.testing.assert_allclose(rates, np.tile(expected, 2))
    net = make(lr_schedule=None, train_split=split, **options).fit(X, y)
    np.testing.assert_array_equal(np.ravel(net.history_[:, "batches", :, "rate"]), 0.01)


def test_one_batch_of_all_images_is_one_step_of_the_schedule(few):
    net = make(batch_size=-1, lr=0.1, max_epochs=2, callbacks=[Rates()]).fit(*few)
    np.testing.assert_allclose(np.ravel(net.history_[:, "batches", :, "rate"]), [0.1, 0.05])


def test_a_triangle_of_learning_rates_in_all_groups_of_parameters(few):
    X, y = (part[:100] for part in few)
    options = {"max_epochs": 5, "batch_size": 5, "lr": 0.01, "callbacks": [Rates()]}
    groups = [("*bias", {"lr": 0.02})]
    net = make(lr_schedule="triangle", optimizer__param_groups=groups, **options).fit(X, y)
    rates = np.ravel(net.history_[:, "batches", :, "rate"]) / 0.02
    top = rates.argmax()
    assert top == 23
    np.testing.assert_allclose(rates[[0, 23]], [0.2, 1.0])
    assert 0.07 < rates[-1] < 0.09
    np.testing.assert_allclose(np.diff(rates[: top + 1], 2), 0, atol=1e-12)
    np.testing.assert_allclose(np.diff(rates[top:], 2), 0, atol=1e-12)
    assert [group["lr"] for group in net.optimizer_.param_groups] == [0.02, 0.01]


def test_max_epochs_counts_the_passes_of_a_call(few):
    net = make(max_epochs=2).fit(*few)
    assert len(net.history_) == 2
    assert len(net.partial_fit(*few).history_) == 4
    assert len(net.fit(*few).history_) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_trains_and_predicts_in_single_precision(few, kind):
    X, y = few
    net = make(kind, autocast=True, max_epochs=4, lr=0.01).fit(X, y)
    losses = net.history_[:, "train_loss"]
    assert losses[-1] < losses[0]
    assert {value.dtype for value in net.module_.parameters()} == {torch.float32}
    assert not same_weights(net, make(kind, max_epochs=4, lr=0.01).fit(X, y))
    # a bfloat16 would have nothing in the lower half of a float32
    raw = net.forward(np.float32(X.reshape(-1, 1, 8, 8))).numpy()
    assert raw.dtype == np.float32
    assert (raw.view(np.uint32) % 2**16 != 0).mean() > 0.9


def test_autocast_is_left_to_the_device_or_refused(few):
    X, y = few
    fast = torch.cuda.is_available() or (
        torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    net = make(autocast="auto").fit(X, y)
    assert same_weights(net, make(autocast=bool(fast)).fit(X, y))
    with pytest.raises(ValueError, match="autocast must be"):
        make(autocast="fast").fit(X, y)


def test_quiet_unless_asked(few, capsys):
    net = make().fit(*few)
    net.predict(few[0])
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""
    make(verbose=1).fit(*few)
    assert "train_loss" in capsys.readouterr().out


# ---------------------------------------------------------------------------- modules


def test_a_module_that_takes_nothing(few):
    X, y = few
    net = make(module=Bare, module__hidden=20, max_epochs=15, lr=0.05).fit(X, y)
    assert net.module_.first.out_features == 20
    assert net.score(X, y) > 0.3
    np.testing.assert_array_equal(net.predict(X), net.predict(X))  # no dropout in predictions
    again = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))


def test_a_module_is_told_what_it_asks_for(colour):
    X, y = colour
    told = make(module=Told).fit(X, y).module_.told
    assert told["image_shape"] == (6, 7, 3)
    assert told["n_outputs"] == 2
    np.testing.assert_allclose(told["mean"], X.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(told["std"], X.std((0, 1, 2)), rtol=1e-5)
    regression = make(PatchNetRegressor, module=Told).fit(X, np.stack([y, y, 1 - y], axis=1))
    assert regression.module_.told["n_outputs"] == 3


def test_parameters_of_the_module_win(colour):
    X, y = colour
    net = make(module=Told, module__mean=(7.0,)).fit(X, y)
    assert net.module_.told["mean"] == (7.0,)
    np.testing.assert_allclose(net.module_.told["std"], X.std((0, 1, 2)), rtol=1e-5)
    assert clone(net).get_params()["module__mean"] == (7.0,)
    with pytest.raises(ValueError, match="5 outputs, but y has 2 classes"):
        net.set_params(module__n_outputs=5).fit(X, y)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 1), (3, 2, 5), (9, 10, 3), (40, 33, 1)])
def test_the_default_network_takes_images_of_any_size_on_any_scale(shape):
    height, width, channels = shape
    torch.manual_seed(0)
    images = torch.rand(4, channels, height, width)
    net = PatchConvNet(shape, 6, mean=[0.5] * channels, std=[0.3] * channels, width=4, hidden=8)
    assert net(images[:1]).isfinite().all()  # in training mode, a single image
    assert net(images).shape == (4, 6)
    net.eval()
    factors = torch.linspace(0.1, 9, channels)
    mean, std = 0.5 * factors - 3, 0.3 * factors
    other = PatchConvNet(shape, 6, mean=mean, std=std, width=4, hidden=8).eval()
    state = {k: v for k, v in net.state_dict().items() if k not in ("mean", "std")}
    other.load_state_dict(state, strict=False)
    scaled = images * factors[:, None, None] - 3
    assert torch.allclose(net(images), other(scaled), atol=1e-4)
    assert torch.allclose(net(images)[2:3], net(images[2:3]), atol=1e-5)


# ---------------------------------------------------------------------------- regression


def test_the_units_of_the_target_do_not_matter(few):
    X, y = few
    options = {"max_epochs": 6, "lr": 0.01, "batch_size": 25}
    first = make(PatchNetRegressor, **options).fit(X, y)
    second = make(PatchNetRegressor, **options).fit(X, 1000 * y + 5)
    assert r2_score(y, first.predict(X)) > 0.2
    np.testing.assert_allclose(second.predict(X), 1000 * first.predict(X) + 5, rtol=0.01, atol=20)
    assert first.predict(X).dtype == np.float64


def test_targets_keep_their_shape_and_each_its_units(few):
    X, y = few
    both = np.stack([1e6 * y, 1e-6 * (y > 4) + 100], axis=1)
    net = make(PatchNetRegressor, max_epochs=15, lr=0.01).fit(X, both)
    made = net.predict(X)
    assert made.shape == (150, 2)
    assert (r2_score(both, made, multioutput="raw_values") > 0.2).all()
    assert make(PatchNetRegressor).fit(X, both[:, :1]).predict(X).shape == (150, 1)
    assert make(PatchNetRegressor).fit(X, both[:, 0]).predict(X).shape == (150,)
    with pytest.raises(ValueError, match="y has 1 outputs, not 2"):
        net.partial_fit(X, y)
    np.testing.assert_array_equal(net.predict(X), made)


def test_a_constant_target(few):
    X, _ = few
    made = make(PatchNetRegressor, max_epochs=3).fit(X, np.full(150, 1e6)).predict(X)
    np.testing.assert_allclose(made, 1e6, rtol=1e-5)
    assert not hasattr(PatchNetRegressor(), "predict_proba")
