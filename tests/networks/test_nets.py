"""The networks as estimators: layouts, labels, files, devices, what fails whole."""

import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from nets_for_tests import (
    KINDS,
    OnePixel,
    Rates,
    Stumble,
    make,
    output,
    same_weights,
    weights,
)
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError

from sklearn_patchcert import PatchNetClassifier, PatchNetRegressor
from sklearn_patchcert.networks import modules

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


@pytest.mark.skipif(torch.cuda.is_available(), reason="looks at a machine without a GPU")
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


@pytest.mark.filterwarnings("ignore:X has values")  # which is told, too
@pytest.mark.parametrize("factor", [1e-60, 1e60])
def test_images_that_float32_does_not_hold_are_refused(few, factor):
    X, y = few
    with pytest.raises(ValueError, match="rescale"):
        make().fit(X * factor, y)
    with pytest.raises(ValueError, match="rescale"):
        make().fit(X, y).predict(X * 1e60)


def test_the_activations_of_the_default_network_do_not_grow_with_the_picture():
    def held(side):
        """Values that a forward pass keeps for one image, beyond its own."""
        module, sizes = modules.PatchConvNet((side, side, 3), 10).eval(), []
        for part in module.modules():
            if not list(part.children()):
                part.register_forward_hook(lambda part, inputs, made: sizes.append(made.numel()))
        with torch.no_grad():
            module(torch.zeros(1, 3, side, side))
        return sum(sizes)

    small = held(111)
    assert all(held(side) <= small for side in (112, 150, 224, 300, 512))
    assert modules.PatchConvNet((224, 224, 3), 10, stride=1).features[0].stride == (1, 1)
    assert modules.PatchConvNet((8, 300, 3), 10)(torch.zeros(2, 3, 8, 300)).shape == (2, 10)
