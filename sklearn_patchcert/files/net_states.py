"""What a fitted network knows: its weights, its history, and the optimizer's memory."""

from __future__ import annotations

import inspect

import torch

from sklearn_patchcert._validation import check_device, isolated_seed
from sklearn_patchcert.files.values import shown
from sklearn_patchcert.networks.fitting.disturbance import check_options
from sklearn_patchcert.networks.fitting.loops import SCHEDULES
from sklearn_patchcert.networks.transfer.heads import outputs_of
from sklearn_patchcert.networks.transfer.pretrained import is_ours
from sklearn_patchcert.torch_globals import plain_torch

_ALIKE = 1e-3  # of the spread of the outputs: what another machine's rounding may change
_PLAIN = (type(None), bool, int, float, tuple)
_LEAST = {  # of the values of a buffer, by the last part of its name
    "running_var": 0.0,
    "num_batches_tracked": 0,
    "std": torch.finfo(torch.float32).tiny,
}
# Moments of optimizers of which they take the root.
_SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta", "exp_inf", "sum", "step")


def net_state(net, trim):
    """State of a fitted network, as tensors, numbers, and lists and dicts of them.

    Parameters
    ----------
    net : PatchNetClassifier or PatchNetRegressor
    trim : bool
        Whether to leave out what only more training needs: the optimizer's state and, in the
        history, the batches.

    Returns
    -------
    state : dict

    Raises
    ------
    ValueError
        If parameters were set since the fit, with which the state would be another's.
    """
    stale = net.set_since_fit(
        "module", "head", "classes", "trainable", "criterion",
        *(() if trim else ("optimizer", "lr")),
    )  # fmt: skip
    if stale:
        raise ValueError(
            f"{', '.join(stale)}: set after the fit, so a file would hold a network that was never "
            "fitted. Fit it again, or set the old values."
        )
    module = getattr(net.module_, "_orig_mod", net.module_)  # what torch.compile wraps
    history = [dict(epoch) for epoch in net.history_]
    state = {"weights": dict(module.state_dict()), "history": history}
    if not is_ours(net.module):
        state["answers"] = _answers(net)
    if trim:
        state["history"] = [{**epoch, "batches": []} for epoch in history]
    else:
        state["optimizer"] = net.optimizer_.state_dict()
    return state


def restore_net(net, state):
    """Make the module, the criterion and the optimizer of a net, and give them their state.

    The module's sizes are compared with those of the weights before it takes any memory.

    Parameters
    ----------
    net : PatchNetClassifier or PatchNetRegressor
        With its parameters and everything else that a fit leaves.
    state : dict
        As :func:`net_state` returns it.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        If the state does not fit the net.
    """
    check_net(net)
    weights = state["weights"]
    if not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise TypeError("the weights are no tensors")
    for name, value in weights.items():
        _check_weight(name, value)
    ours = is_ours(net.module)
    with isolated_seed(0, check_device(net.device)), plain_torch(training=True):
        if ours:
            options = net.get_params_for("module")
            if not 0 <= options.get("depth", 0) <= len(weights):
                raise ValueError("the network is deeper than its weights")
            with torch.device("meta"):
                wanted = net.module(**options).state_dict()
            if _sizes(wanted, net.head) != _sizes(weights, net.head):
                raise ValueError("the weights do not have the shapes and dtypes of the network")
        net.initialize()
    module = getattr(net.module_, "_orig_mod", net.module_)  # what torch.compile wraps
    if _sizes(module.state_dict()) != _sizes(weights):
        raise ValueError(
            "the weights do not have the names, shapes and dtypes of the module: give load the "
            "module that was saved"
        )
    module.load_state_dict(weights)
    if ours == ("answers" in state):
        raise ValueError("the answers of the module are missing, or there should be none")
    if not ours:
        _check_answers(net, state["answers"])
    _check_history(state["history"])
    net.history_.extend(state["history"])
    if "optimizer" in state:
        _check_optimizer(net.optimizer_, state["optimizer"])
        net.optimizer_.load_state_dict(state["optimizer"])


def check_net(net):
    """Raise a ValueError where a parameter of a network is none that it can have."""
    integers = {"max_epochs": 0, "batch_size": 1, "verbose": 0}
    for name, least in integers.items():
        value = getattr(net, name)
        if type(value) not in (int, bool) or value < least:
            raise ValueError(f"{name} must be an integer from {least} on, got {shown(value)}")
    if type(net.warm_start) is not bool or not (
        type(net.autocast) is bool or net.autocast == "auto"
    ):
        raise ValueError("warm_start or autocast is unknown")
    memory, size = net.working_memory, net.micro_batch_size
    if memory not in ("auto", None) and not (type(memory) in (int, float) and memory > 0):
        raise ValueError(f"working_memory must be a positive number, got {shown(memory)}")
    if size is not None and not (type(size) is int and size > 0):
        raise ValueError(f"micro_batch_size must be a positive integer, got {shown(size)}")
    if type(net.lr) not in (int, float) or not net.lr >= 0:
        raise ValueError(f"lr must be a positive number, got {shown(net.lr)}")
    if net.predict_nonlinearity not in ("auto", None) or net.lr_schedule not in SCHEDULES:
        raise ValueError("predict_nonlinearity or lr_schedule is unknown")
    if net.trainable not in ("all", "head", "none") and not (
        isinstance(net.trainable, list) and all(isinstance(name, str) for name in net.trainable)
    ):
        raise ValueError(f"trainable is unknown: {shown(net.trainable)}")
    if net.head not in (None, "replace"):
        raise ValueError(f"head is unknown: {shown(net.head)}")
    if is_ours(net.module):
        known = inspect.signature(net.module).parameters
        strange = [name for name in net.get_params_for("module") if name not in known]
        if strange:
            raise ValueError(f"the module has no parameters {strange!r:.80}")
    check_options(net)


def _check_weight(name, value):
    """Weights are finite, and buffers such as training leaves, or predictions would be NaN."""
    if not bool(value.isfinite().all()):
        raise ValueError(f"the weights are not finite: {name}")
    least = _LEAST.get(name.rpartition(".")[2])
    if least is not None and bool((value < least).any()):
        raise ValueError(f"{name} has values below {least:.3g}, which training would not leave")


def _answers(net):
    """What a module answers to some images of no meaning: so it is known again."""
    module = getattr(net.module_, "_orig_mod", net.module_)
    with isolated_seed(0, net.device), plain_torch():
        return outputs_of(module, net._some()).detach().float().cpu().clone()


def _check_answers(net, saved):
    """Refuse a module with the right weights that does something else with them."""
    found = _answers(net)
    if not isinstance(saved, torch.Tensor) or saved.shape != found.shape:
        raise ValueError("the answers of the module have another shape")
    spread, size = float((saved - saved.mean()).abs().max()), float(saved.abs().max())
    near = max(_ALIKE * spread, 16 * torch.finfo(torch.float32).eps * size, 1e-9)
    if not bool(((found - saved).abs() <= near).all()):
        raise ValueError(
            "the module has the weights of the file but answers something else than the one that "
            "was saved: give load the same module, with the same options"
        )


def _sizes(state, head=None):
    found = {name: (tuple(value.shape), value.dtype) for name, value in state.items()}
    return found if head is None else set(found)  # a new head has other sizes


def _check_history(history):
    for epoch in history:
        if not isinstance(epoch["epoch"], int) or not isinstance(epoch["batches"], list):
            raise TypeError("the history is no list of epochs")


def _check_optimizer(optimizer, state):
    """The same groups as a new optimizer has, and for each weight moments of its shape."""
    fresh = optimizer.state_dict()
    if set(state) != set(fresh) or len(state["param_groups"]) != len(fresh["param_groups"]):
        raise ValueError("the optimizer's state has other groups")
    for group, own in zip(state["param_groups"], fresh["param_groups"], strict=True):
        same = set(group) == set(own) and group["params"] == own["params"]
        if not same or not all(isinstance(v, _PLAIN) for k, v in group.items() if k != "params"):
            raise ValueError("the optimizer's groups are others")
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, moments in state["state"].items():
        shape = weights[index].shape if 0 <= index < len(weights) else None
        for value in moments.values():
            fits = isinstance(value, torch.Tensor) and value.shape in (shape, torch.Size(()))
            if not fits and not isinstance(value, _PLAIN):
                raise ValueError("the optimizer's state does not fit the weights")
        for name, value in moments.items():
            if not isinstance(value, torch.Tensor):
                continue
            if bool(value.isnan().any()) or (name in _SQUARES and bool((value < 0).any())):
                raise ValueError(f"the optimizer's state has {name} that is NaN or negative")
