"""skorch's callbacks, one and all: what they do, what ends training, and what scores compare."""

import importlib.util
import signal
import sys

import numpy as np
import pytest
import skorch.callbacks
import torch
from nets_for_tests import Rates, make, same_weights, weights
from sklearn.model_selection import cross_val_score
from skorch.callbacks import (
    BatchScoring,
    Callback,
    EarlyStopping,
    EpochScoring,
    InputShapeSetter,
    LRScheduler,
)
from skorch.dataset import ValidSplit

from sklearn_patchcert import PatchNetClassifier

SPLIT = ValidSplit(3)
FIRST = "features.0.weight"


@pytest.fixture(scope="module")
def some(digits):
    X, y = digits
    return X[:90], np.array(list("abcdefghij"))[y[:90]]


# ---------------------------------------------------------------------------- every callback


class Writer:
    """Stands for the loggers of others, which need not be there."""

    def anything(self, *args, **kwargs):
        pass

    add_scalar = log_scalar = close = log = log_metric = anything


def history_has(*names):
    return lambda net: all(name in net.history_[-1] for name in names)


def is_frozen(net):
    return bool((net.module_.get_parameter(FIRST) == 0.5).all())


POLICIES = {
    "LambdaLR": {"lr_lambda": lambda epoch: 0.5**epoch},
    "StepLR": {"step_size": 1},
    "MultiStepLR": {"milestones": [1]},
    "ExponentialLR": {"gamma": 0.5},
    "ReduceLROnPlateau": {"patience": 0, "threshold": 1e9},
    "CyclicLR": {"base_lr": 1e-4, "max_lr": 1e-2, "cycle_momentum": False, "step_every": "batch"},
    "CosineAnnealingLR": {"T_max": 4},
    "WarmRestartLR": {"base_period": 2},
}


def set_to_a_half(parameter):
    torch.nn.init.constant_(parameter, 0.5)


def build(name, folder):
    """A callback, or several, and what must be true of the network after three epochs."""
    kinds, first = skorch.callbacks, FIRST
    made = {
        "BatchScoring": lambda: (BatchScoring("accuracy", name="s"), history_has("s")),
        "Callback": lambda: (Callback(), history_has("train_loss")),
        "Checkpoint": lambda: (
            kinds.Checkpoint(dirname=folder),
            lambda net: (folder / "params.pt").exists() and (folder / "history.json").exists(),
        ),
        "EarlyStopping": lambda: (
            EarlyStopping(patience=1, threshold=2, monitor="train_loss"),
            lambda net: len(net.history_) == 2,
        ),
        "EpochScoring": lambda: (EpochScoring("accuracy", name="s"), history_has("s", "s_best")),
        "EpochTimer": lambda: (kinds.EpochTimer(), history_has("dur")),
        "Freezer": lambda: (
            [kinds.Initializer(first, set_to_a_half), kinds.Freezer(first)],
            is_frozen,
        ),
        "GradientNormClipping": lambda: (
            kinds.GradientNormClipping(1e-12),
            history_has("train_loss"),
        ),
        "Initializer": lambda: (
            [kinds.Initializer(first, set_to_a_half), kinds.Freezer(first)],
            is_frozen,
        ),
        "LRScheduler": lambda: (LRScheduler("StepLR", step_size=1), history_has("event_lr")),
        "LoadInitState": lambda: (
            kinds.LoadInitState(kinds.Checkpoint(dirname=folder / "none")),
            history_has("train_loss"),
        ),
        "MlflowLogger": lambda: (kinds.MlflowLogger(Writer(), Writer()), lambda net: True),
        "NeptuneLogger": lambda: (kinds.NeptuneLogger(Writer()), lambda net: True),
        "ParamMapper": lambda: (
            [
                kinds.Initializer(first, set_to_a_half),
                kinds.ParamMapper(first, lambda p: p.requires_grad_(False)),
            ],
            is_frozen,
        ),
        "PassthroughScoring": lambda: (
            [BatchScoring("accuracy", name="s"), kinds.PassthroughScoring("s")],
            history_has("s"),
        ),
        "PrintLog": lambda: (kinds.PrintLog(sink=lambda line: None), history_has("train_loss")),
        "ProgressBar": lambda: (kinds.ProgressBar(), history_has("train_loss")),
        "SacredLogger": lambda: (kinds.SacredLogger(Writer()), history_has("train_loss")),
        "TensorBoard": lambda: (kinds.TensorBoard(Writer()), history_has("train_loss")),
        "TrainEndCheckpoint": lambda: (
            kinds.TrainEndCheckpoint(dirname=folder),
            lambda net: (folder / "train_end_params.pt").exists(),
        ),
        "Unfreezer": lambda: (
            [
                kinds.Initializer(first, set_to_a_half),
                kinds.Freezer(first),
                kinds.Unfreezer(first, at=2),
            ],
            lambda net: not is_frozen(net),
        ),
        "WandbLogger": lambda: (kinds.WandbLogger(Writer()), lambda net: True),
        "WarmRestartLR": lambda: (LRScheduler(kinds.WarmRestartLR), history_has("event_lr")),
    }
    return made[name]()


NEEDS = {"MlflowLogger": "mlflow", "NeptuneLogger": "neptune", "WandbLogger": "wandb"}


@pytest.mark.parametrize("name", sorted({*skorch.callbacks.__all__} - {"InputShapeSetter"}))
def test_every_callback_of_skorch_does_its_work(some, tmp_path, name):
    package = NEEDS.get(name)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    callback, holds = build(name, tmp_path)
    callbacks = callback if isinstance(callback, list) else [callback]
    net = make(max_epochs=3, train_split=SPLIT, callbacks=callbacks).fit(*some)
    assert net.initialized_
    assert holds(net)
    assert set(net.predict(some[0])) <= set(some[1])
    if name == "GradientNormClipping":
        free = make(max_epochs=3, train_split=SPLIT).fit(*some)
        assert not same_weights(net, free)


@pytest.mark.parametrize("kind", ["Checkpoint", "TrainEndCheckpoint"])
def test_a_checkpoint_is_loaded_by_the_next_fit(some, tmp_path, kind):
    options = {"monitor": None} if kind == "Checkpoint" else {}
    checkpoint = getattr(skorch.callbacks, kind)(dirname=tmp_path, **options)
    first = make(callbacks=[checkpoint]).fit(*some)
    start = skorch.callbacks.LoadInitState(checkpoint)
    again = make(callbacks=[start], max_epochs=0, random_state=7).fit(*some)
    assert same_weights(first, again)
    again = make(callbacks=[start], random_state=7).fit(*some)
    assert len(again.loss_curve_) == 2
    assert again.optimizer_.param_groups[0]["lr"] == 0.002


@pytest.mark.parametrize("policy", POLICIES)
def test_a_scheduler_of_skorch_sets_the_rate(some, policy):
    scheduler = LRScheduler(policy, **POLICIES[policy])
    options = {"max_epochs": 3, "batch_size": 45, "callbacks": [scheduler, Rates()]}
    with_ours = make(**options).fit(*some)
    alone = make(lr_schedule=None, **options).fit(*some)
    rates = [np.ravel(net.history_[:, "batches", :, "rate"]) for net in (with_ours, alone)]
    np.testing.assert_array_equal(*rates)
    assert len(set(rates[0])) > 1


def test_a_setter_of_shapes_is_refused_as_needless(some):
    for callback in (InputShapeSetter, InputShapeSetter(), ("shapes", InputShapeSetter())):
        with pytest.raises(ValueError, match=r"InputShapeSetter.*image_shape"):
            make(callbacks=[callback]).fit(*some)


# ---------------------------------------------------------------------------- the end of training


class Ends(Callback):
    """Raises KeyboardInterrupt itself at one of skorch's events, in the second epoch."""

    def __init__(self, event, raising):
        self.event, self.raising = event, raising

    def initialize(self):
        for event in EVENTS:
            setattr(self, event, self._ended if event == self.event else self._nothing)
        return self

    def _nothing(self, net, **kwargs):
        pass

    def _ended(self, net, **kwargs):
        if "epoch" in self.event and len(net.history) < 2:
            return
        self.raising()


EVENTS = ["on_train_begin", "on_epoch_begin", "on_batch_begin", "on_grad_computed", "on_batch_end",
          "on_epoch_end", "on_train_end"]  # fmt: skip


def a_statement():
    raise KeyboardInterrupt


def a_statement_after_an_error():
    try:
        {}["x"]
    except KeyError as error:
        raise KeyboardInterrupt("enough") from error


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def ctrl_c_raised_again():
    try:
        ctrl_c()
    except KeyboardInterrupt:
        raise


def ctrl_c_as_another():
    try:
        ctrl_c()
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None


def in_a_fit_inside():
    X = np.zeros((4, 64)) + np.arange(4)[:, None]
    make(callbacks=[Ends("on_batch_end", ctrl_c)]).fit(X, [0, 1, 0, 1])


def on_signal(number, frame):
    raise KeyboardInterrupt


@pytest.fixture(params=[signal.default_int_handler, on_signal], ids=["C", "Python"])
def heard(request):
    """Ctrl-C is an interrupt, by the default handler and by one of the user's."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("raising", [a_statement, a_statement_after_an_error])
def test_callbacks_end_training_normally(some, event, raising):
    net = make(max_epochs=3, callbacks=[Ends(event, raising)]).fit(*some)
    done = {"on_train_begin": 0, "on_epoch_end": 2, "on_epoch_begin": 1, "on_train_end": 3}
    assert len(net.loss_curve_) == done.get(event, 0)
    assert net.predict(some[0]).shape == some[1].shape
    net.set_params(callbacks=None).partial_fit(*some)
    assert len(net.loss_curve_) == done.get(event, 0) + 3


@pytest.mark.parametrize(
    "raising", [ctrl_c, ctrl_c_raised_again, ctrl_c_as_another, in_a_fit_inside]
)
@pytest.mark.parametrize("event", ["on_train_begin", "on_batch_end", "on_epoch_end"])
@pytest.mark.usefixtures("heard")
def test_ctrl_c_in_a_callback_still_is_ctrl_c(some, event, raising):
    before = make().fit(*some)
    kept = weights(before)
    before.set_params(max_epochs=2, callbacks=[Ends(event, raising)])
    for method in (before.fit, before.partial_fit):
        with pytest.raises(KeyboardInterrupt):
            method(*some)
        assert same_weights(before, kept)
    assert len(before.history_) == 1


def test_early_stopping_inside_a_cross_validation_and_with_the_best_weights(some):
    stop = EarlyStopping(patience=1, monitor="train_loss", threshold=2, load_best=True)
    net = make(max_epochs=5, callbacks=[stop])
    assert np.isfinite(cross_val_score(net, *some, cv=2, error_score="raise")).all()
    assert len(net.fit(*some).history_) == 2


def test_the_table_of_epochs_has_colors_only_on_a_terminal(few, capsys, monkeypatch):
    for terminal in (False, True):
        net = PatchNetClassifier(max_epochs=2, verbose=1, random_state=0)
        with monkeypatch.context() as patch:
            patch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
            net.fit(*few)
        printed = capsys.readouterr().out
        assert "train_loss" in printed
        assert ("\x1b[" in printed) == terminal


def test_what_is_printed_to_need_be_no_terminal(few, monkeypatch):
    class Tee:
        def write(self, text):
            pass

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", Tee())
    for verbose in (0, 1):
        PatchNetClassifier(max_epochs=1, verbose=verbose, random_state=0).fit(*few)
