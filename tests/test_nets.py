"""The networks as estimators: layouts, labels, seeds, batches, learning rates, what fails whole."""

import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.metrics import r2_score
from skorch.callbacks import Callback
from skorch.dataset import Dataset, ValidSplit
from torch import nn

from sklearn_patchcert import PatchNetClassifier, PatchNetRegressor
from sklearn_patchcert.nets import BatchIterator
from sklearn_patchcert.networks import PatchConvNet

KINDS = [PatchNetClassifier, PatchNetRegressor]


def make(kind=PatchNetClassifier, **options):
    small = {"max_epochs": 1, "module__width": 8, "module__hidden": 16, "random_state": 0}
    if options.get("module", PatchConvNet) is not PatchConvNet:
        small = {"max_epochs": 1, "random_state": 0}
    return kind(**{**small, **options})


def weights(net):
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def same_weights(first, second):
    first, second = (net if isinstance(net, dict) else weights(net) for net in (first, second))
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def output(net, X):
    return net.predict_proba(X) if hasattr(net, "predict_proba") else net.predict(X)


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[:150], y[:150]


@pytest.fixture(scope="module")
def colour():
    rng = np.random.default_rng(0)
    X = (rng.random((60, 6, 7, 3)) * [1, 10, 100] + [0, 5, -30]).astype(np.float32)
    return X, (X[..., 0].mean((1, 2)) > 0.5).astype(int)


class Bare(nn.Module):
    """Takes nothing from the data."""

    def __init__(self, hidden=8):
        super().__init__()
        self.dropout, self.first = nn.Dropout(0.5), nn.Linear(64, hidden)
        self.last = nn.Linear(hidden, 10)

    def forward(self, images):
        return self.last(self.dropout(self.first(images.flatten(1) / 16).relu()))


class Told(nn.Module):
    """Takes everything that is known of the data."""

    def __init__(self, image_shape, n_outputs, mean, std):
        super().__init__()
        self.told = {"image_shape": image_shape, "n_outputs": n_outputs, "mean": mean, "std": std}
        height, width, channels = image_shape
        self.last = nn.Linear(height * width * channels, n_outputs)

    def forward(self, images):
        return self.last(images.flatten(1))


class OnePixel(nn.Module):
    """Sees the pixel in row 1 and column 2 of every channel, and learns nothing."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, images):
        return images[:, :, 1, 2] + 0 * self.nothing


class Rates(Callback):
    """Records the learning rate of every training step."""

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            net.history.record_batch("rate", net.optimizer_.param_groups[0]["lr"])


class Orders(Callback):
    """Records the labels of every batch."""

    def on_batch_end(self, net, batch=None, **kwargs):
        net.history.record_batch("labels", batch[1].tolist())


class Stumble(Callback):
    """Fails in the second epoch."""

    def on_epoch_end(self, net, **kwargs):
        if net.history[-1]["epoch"] > 1:
            raise ArithmeticError("stumbled")


# ---------------------------------------------------------------------------- what comes in


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_and_dtype_of_the_same_images_gives_the_same(few, kind):
    X, y = few
    reference = make(kind).fit(X, y)
    expected = output(reference, X)
    layouts = [X.reshape(-1, 8, 8), X.reshape(-1, 8, 8, 1), X.tolist()]
    dtypes = [X.astype(d) for d in (np.float32, np.float16, np.uint8, np.int32, np.int64)]
    for same in layouts + dtypes:
        assert same_weights(make(kind).fit(same, y), reference)
        np.testing.assert_array_equal(output(reference, same), expected)


def test_colour_rows_are_read_channels_last(colour):
    X, y = colour
    images = make().fit(X, y)
    rows = make(image_shape=(6, 7, 3)).fit(X.reshape(60, -1), y)
    assert same_weights(images, rows)
    np.testing.assert_array_equal(rows.predict_proba(X), images.predict_proba(X.reshape(60, -1)))
    # channels last indeed: the statistics are the channels' own
    np.testing.assert_allclose(images.channel_mean_, X.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(images.channel_std_, X.std((0, 1, 2)), rtol=1e-5)


def test_the_module_sees_every_pixel_where_it_belongs(colour):
    X, _ = colour
    y = np.random.default_rng(0).normal([0, 10, 20], [1, 2, 3], size=(60, 3))
    net = make(PatchNetRegressor, module=OnePixel, batch_size=7).fit(X, y)
    expected = X[:, 1, 2] * y.std(0) + y.mean(0)
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_units_of_the_images_do_not_matter(few, kind):
    X, y = few
    expected = output(make(kind).fit(X, y), X)
    assert np.ptp(expected, axis=0).max() > 0  # or what follows would say nothing
    scaled, moved = X / 512, X / 255 - 3
    np.testing.assert_array_equal(output(make(kind).fit(scaled, y), scaled), expected)
    allowed = 1e-2 * np.ptp(expected, axis=0).max()
    np.testing.assert_allclose(output(make(kind).fit(moved, y), moved), expected, atol=allowed)


def test_other_images_than_those_fitted_are_refused(few):
    net = make().fit(*few)
    for X in (np.zeros((2, 4, 16)), np.zeros((2, 8, 8, 3)), np.zeros((2, 63))):
        with pytest.raises(ValueError, match=r"fitted with images of shape|features"):
            net.predict(X)
    with pytest.raises(ValueError, match="image_shape"):
        make(image_shape=(8, 9)).fit(*few)


# ---------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    "names",
    [
        np.array(["zero", "eins", "deux", "tres", "fire", "pet", "six", "yedi", "osam", "nau"]),
        np.array(["b", "c", "a", "j", "i", "h", "g", "f", "e", "d"], dtype=object),
        np.array([17, -3, 100, 5, 6, 7, 8, 9, 10, 2**40]),
        np.arange(10.0)[::-1] * 2,
    ],
    ids=["strings", "objects", "integers", "floats"],
)
def test_labels_of_any_kind_are_names_only(few, names):
    X, y = few
    net = make(max_epochs=6, lr=0.01, batch_size=25).fit(X, names[y])
    np.testing.assert_array_equal(net.classes_, np.unique(names))
    probabilities = net.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(net.predict(X), net.classes_[probabilities.argmax(1)])
    # columns follow classes_: each label is predicted where it belongs, far beyond chance
    assert net.score(X, names[y]) > 0.5
    assert net.predict(X).dtype == names.dtype


def test_two_classes(few):
    X, y = few
    net = make(max_epochs=5, lr=0.01, batch_size=25).fit(X, np.where(y < 5, "low", "high"))
    assert net.predict_proba(X).shape == (150, 2)
    assert list(net.classes_) == ["high", "low"]
    assert net.score(X, np.where(y < 5, "low", "high")) > 0.7


def test_one_class_is_always_predicted(few):
    X, _ = few
    net = make().fit(X, np.full(150, "only"))
    assert (net.predict(X) == "only").all()
    assert net.predict_proba(X).shape == (150, 1)


def test_a_column_of_labels_is_taken_with_a_warning(few):
    X, y = few
    with pytest.warns(DataConversionWarning, match="column-vector"):
        column = make().fit(X, y[:, None])
    assert same_weights(column, make().fit(X, y))


def test_partial_fit_knows_classes_before_it_sees_them(few):
    X, y = few
    low = y < 5
    net = make(batch_size=25).partial_fit(X[low], y[low], classes=np.arange(10)[::-1])
    np.testing.assert_array_equal(net.classes_, np.arange(10))
    assert net.predict_proba(X).shape == (150, 10)
    before = weights(net)
    net.partial_fit(X[~low], y[~low])
    assert not same_weights(net, before)
    for _ in range(10):
        net.partial_fit(X, y)
    assert net.score(X, y) > 0.5


def test_an_unknown_label_is_refused_and_changes_nothing(few):
    X, y = few
    net = make().partial_fit(X, y)
    before, state, epochs = weights(net), dict(vars(net)), len(net.history_)
    for bad in (np.full(150, 11), np.full(150, "a"), y + 0.5):
        with pytest.raises(ValueError, match=r"11|'a'|[Uu]nknown label type"):
            net.partial_fit(X, bad)
        assert same_weights(net, before)
        assert len(net.history_) == epochs
        assert vars(net).keys() == state.keys()
        assert all(vars(net)[name] is value for name, value in state.items())
    with pytest.raises(ValueError, match="not among the classes"):
        make().partial_fit(X, y, classes=range(3))


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
    fast = torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()
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
    net = make(module=Told, module__mean=(7.0,), module__n_outputs=5).fit(X, y)
    assert net.module_.told["mean"] == (7.0,)
    assert net.module_.last.out_features == 5
    np.testing.assert_allclose(net.module_.told["std"], X.std((0, 1, 2)), rtol=1e-5)
    assert clone(net).get_params()["module__mean"] == (7.0,)


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


# ---------------------------------------------------------------------------- as scikit-learn does


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dump", ["joblib", "pickle"])
def test_persistence(few, kind, dump, tmp_path):
    X, y = few
    net = make(kind).fit(X, y)
    if dump == "joblib":
        joblib.dump(net, tmp_path / "net")
        back = joblib.load(tmp_path / "net")
    else:
        back = pickle.load(io.BytesIO(pickle.dumps(net)))
    np.testing.assert_array_equal(output(back, X), output(net, X))
    assert back.get_params()["device"] == "auto"
    # also the optimiser is there: training goes on as if nothing had been
    assert same_weights(back.partial_fit(X, y), net.partial_fit(X, y))
    unfitted = pickle.loads(pickle.dumps(make(kind)))
    assert same_weights(unfitted.fit(X, y), make(kind).fit(X, y))


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_go_round(few, kind):
    X, y = few
    net = make(kind, lr=0.01, batch_size=50, optimizer=torch.optim.SGD, optimizer__momentum=0.5)
    params = net.get_params(deep=False)
    assert params["device"] == "auto"
    assert params["criterion"] is None
    assert kind(**params).get_params(deep=False) == params
    other = kind().set_params(**params)
    assert other.get_params(deep=False) == params
    copy = clone(net.fit(X, y))
    assert copy.get_params(deep=False) == params
    assert not hasattr(copy, "module_")
    fits = [same_weights(net, estimator.fit(X, y)) for estimator in (copy, other, kind(**params))]
    assert fits == [True, True, True]
    assert net.optimizer_.param_groups[0]["momentum"] == 0.5
    with pytest.raises(ValueError, match="no_such"):
        make(kind, no_such=3).fit(X, y)


@pytest.mark.parametrize("kind", KINDS)
def test_unfitted(few, kind):
    net = make(kind)
    for name in ("predict", "predict_proba", "score"):
        if not hasattr(net, name):
            continue
        with pytest.raises(NotFittedError):
            getattr(net, name)(*(few if name == "score" else few[:1]))
    assert not hasattr(net, "classes_")


def with_value(X, value):
    X = X.astype(float)
    X[3, 2] = value
    return X


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_values_are_refused_and_nothing_is_half_fitted(few, kind, value):
    X, y = few
    bad = np.where(np.arange(150) == 7, value, y)
    fitted = make(kind).fit(X, y)
    before, state = output(fitted, X), dict(vars(fitted))
    for images, target, message in (
        (with_value(X, value), y, "Input X contains"),
        (X, bad, "Input y contains"),
        (X, y[:-1], "inconsistent numbers"),
        (X, None, "requires y"),
    ):
        for method in ("fit", "partial_fit"):
            net = make(kind)
            with pytest.raises(ValueError, match=message):
                getattr(net, method)(images, target)
            assert vars(net).keys() == vars(make(kind)).keys()
            with pytest.raises(ValueError, match=message):
                getattr(fitted, method)(images, target)
            assert vars(fitted).keys() == state.keys()
            assert all(vars(fitted)[name] is value for name, value in state.items())
        np.testing.assert_array_equal(output(fitted, X), before)
    with pytest.raises(ValueError, match="Input X contains"):
        fitted.predict(with_value(X, value))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_that_fails_in_the_middle_changes_nothing(few, kind):
    X, y = few
    net = make(kind, max_epochs=2).fit(X, y)
    before, history = output(net, X), net.history_
    net.set_params(callbacks=[Stumble()])
    with pytest.raises(ArithmeticError, match="stumbled"):
        net.fit(X[:, ::-1], y)
    np.testing.assert_array_equal(output(net, X), before)
    assert net.history_ is history
    assert len(history) == 2
    fresh = make(kind, max_epochs=2, callbacks=[Stumble()])
    with pytest.raises(ArithmeticError, match="stumbled"):
        fresh.fit(X, y)
    with pytest.raises(NotFittedError):
        fresh.predict(X)


def test_the_device(few):
    X, y = few
    auto = make(device="auto").fit(X, y)
    assert auto.get_params()["device"] == "auto"
    there = "cuda" if torch.cuda.is_available() else "cpu"
    assert {value.device.type for value in auto.module_.parameters()} == {there}
    cpu = make(device="cpu").fit(X, y)
    assert same_weights(cpu, make(device=torch.device("cpu")).fit(X, y))
    with pytest.raises(ValueError, match="device='abacus' cannot be used here"):
        make(device="abacus").fit(X, y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="looks at a machine without a GPU")
def test_a_device_that_is_not_there(few):
    net = make(device="cuda")
    with pytest.raises(ValueError, match="device='cuda' cannot be used here"):
        net.fit(*few)
    assert vars(net).keys() == vars(make()).keys()


def test_frames_and_their_names(few):
    X, y = few
    frame = pd.DataFrame(X).add_prefix("pixel")
    net = make().fit(frame, pd.Series(y))
    assert list(net.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(net.predict_proba(frame), make().fit(X, y).predict_proba(X))
    with pytest.raises(ValueError, match="feature names"):
        net.predict(frame.iloc[:, ::-1])


def test_set_lr_of_a_fitted_net(few):
    net = make(lr=0.002, callbacks=[Rates()]).fit(*few).set_params(lr=0.1).partial_fit(*few)
    assert net.history_[-1, "batches", 0, "rate"] == 0.1


def test_schedule_off_after_a_fit_with_it(few):
    net = make(lr=0.002, batch_size=10, callbacks=[Rates()]).fit(*few)
    net.set_params(lr_schedule=None).partial_fit(*few)
    assert net.history_[-1, "batches", 0, "rate"] == 0.002


def test_one_class_probabilities_sum_to_one(few):
    net = make().fit(few[0], np.zeros(150, int))
    np.testing.assert_allclose(net.predict_proba(few[0]).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", [PatchNetClassifier, PatchNetRegressor])
@pytest.mark.parametrize("method", ["partial_fit", "warm fit"])
def test_training_that_fails_changes_nothing(few, kind, method):
    net = make(kind, warm_start=True, callbacks=[Stumble()]).fit(*few)
    epochs = len(net.history_)
    w = {k: v.clone() for k, v in net.module_.state_dict().items()}
    with pytest.raises(ArithmeticError):
        (net.fit if method == "warm fit" else net.partial_fit)(*few)
    assert all(torch.equal(v, w[k]) for k, v in net.module_.state_dict().items())
    assert len(net.history_) == epochs


@pytest.mark.skipif(torch.cuda.is_available(), reason="no GPU")
def test_device_that_is_not_there_at_predict(few):
    net = make().fit(*few).set_params(device="cuda")
    with pytest.raises(ValueError, match="device='cuda' cannot be used here"):
        net.predict(few[0])


def test_lr_schedule_is_checked(few):
    with pytest.raises(ValueError, match="lr_schedule"):
        make(lr_schedule="linear").fit(*few)


def test_other_classes_in_a_later_call(few):
    net = make().partial_fit(*few, classes=range(10))
    with pytest.raises(ValueError, match="classes"):
        net.partial_fit(*few, classes=range(12))


def test_set_params_of_the_module_touches_the_global_generator(few):
    net = make().fit(*few)
    before = torch.get_rng_state()
    net.set_params(module__width=4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("factor", [1e-60, 1e60])
def test_images_that_float32_does_not_hold_are_refused(few, factor):
    X, y = few
    with pytest.raises(ValueError, match="rescale"):
        make().fit(X * factor, y)
    with pytest.raises(ValueError, match="rescale"):
        make().fit(X, y).predict(X * 1e60)
