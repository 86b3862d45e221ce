"""The options of a network, checked before anything is trained: their names and their ranges."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from skorch import NeuralNet
from skorch.callbacks import Callback, InputShapeSetter

from sklearn_patchcert._validation import (
    BaseSearchCV,
    Integral,
    Real,
    check_device,
    check_image_shape,
)
from sklearn_patchcert.networks.fitting.disturbance import LARGEST, check_options
from sklearn_patchcert.networks.fitting.loops import SCHEDULES
from sklearn_patchcert.networks.parameters import GivenParameters, refuse_names

_PARTS = ("module", "criterion", "optimizer", "iterator_train", "iterator_valid", "dataset",
          "compile")  # fmt: skip
_GIVEN_FIRST = ("optimizer", "iterator_train", "iterator_valid", "dataset", "compile")
_ALSO = {
    "optimizer": ("lr", "param_groups"),
    "iterator_train": ("batch_size",),
    "iterator_valid": ("batch_size",),
}
_OF_ONE_LABEL = torch.nn.CrossEntropyLoss, torch.nn.NLLLoss, torch.nn.MultiMarginLoss
_FROM_DATA = ("image_shape", "n_outputs", "mean", "std", "patch_size")


def check_networks(estimator) -> None:
    """Check the options of all networks that an estimator would fit, before it fits anything.

    Parameters
    ----------
    estimator : object
        A network, or an estimator with networks among its parameters, such as a Pipeline.  A
        search completes its network, and a frozen network is not fitted, so these are left alone.

    Raises
    ------
    ValueError
        As :func:`check_network`.
    """
    if isinstance(estimator, GivenParameters):
        check_network(estimator)
    elif isinstance(estimator, (list, tuple)):
        for part in estimator:
            check_networks(part)
    elif hasattr(estimator, "get_params") and not isinstance(
        estimator, (type, BaseSearchCV, FrozenEstimator)
    ):
        for part in estimator.get_params(deep=False).values():
            check_networks(part)


def check_network(net) -> None:
    """Check the names of the options of a network, and the ranges of their values.

    Parameters
    ----------
    net : PatchNetClassifier or PatchNetRegressor

    Raises
    ------
    ValueError
        If an option is unknown or out of range, or if the module needs an argument that is not
        given.

    Examples
    --------
    >>> from sklearn_patchcert import PatchNetClassifier
    >>> from sklearn_patchcert.networks.options import check_network
    >>> check_network(PatchNetClassifier(module__widht=8))
    Traceback (most recent call last):
    ...
    ValueError: PatchNetClassifier has no option 'module__widht'. Did you mean 'module__width'?
    """
    _check_values(net)
    _check_names(net)
    check_options(net)
    _check_needs(net)


def check_several_labels(net) -> None:
    """Refuse options that are for one label for each image, where a network has found several.

    Raises
    ------
    ValueError
    """
    for name in ("adversarial_radius", "certified_radius"):
        if getattr(net, name):
            raise ValueError(f"{name} is for one label for each image, and y has several: set 0.")
    kind = net.criterion
    if isinstance(kind, type) and issubclass(kind, _OF_ONE_LABEL):
        raise ValueError(
            f"{kind.__name__} is for one label for each image, and y is an indicator matrix of "
            "several: leave criterion=None, or take torch.nn.BCEWithLogitsLoss."
        )
    _check_names(net)  # the default criterion has become another


def _check_names(net):
    known = {part: _arguments(net, part) for part in _PARTS}
    names = set(net._get_param_names()) - net._params_to_validate
    names |= {f"{part}__{name}" for part, found in known.items() for name in found or ()}
    names |= {f"callbacks__{name}" for name in _callbacks(net)}
    given = {name for name in vars(net) if "__" in name and not name.startswith("_")}
    wrong = sorted(
        name
        for name in given | net._params_to_validate
        if not name.endswith("_") and name not in names and not _may_be_known(net, name, known)
    )
    if wrong:
        refuse_names(net, wrong, names - set(wrong))


def _may_be_known(net, name, known):
    """Whether a name that is not listed may still be right."""
    part, separator, rest = name.partition("__")
    if part in known:
        if known[part] is None:
            return bool(separator)
        return part == "optimizer" and rest.startswith("param_groups__")
    if part == "callbacks":
        return not separator
    own = any(
        _overrides(net, f"initialize_{part}") for part in ("module", "criterion", "optimizer")
    )
    return own and bool(separator)  # a subclass may have parts of its own


def _overrides(net, method):
    found = getattr(type(net), method)
    return found is not getattr(NeuralNet, method) and not _is_of_package(found)


def _is_of_package(method):
    return method.__module__.startswith("sklearn_patchcert.")


def _arguments(net, part) -> list[str] | None:
    """Names that may come after ``part__``; None if any may."""
    if hasattr(NeuralNet, f"initialize_{part}") and _overrides(net, f"initialize_{part}"):
        return None
    given = getattr(net, part)
    if part == "module" and isinstance(given, torch.nn.Module):
        return []
    found = _signature(torch.compile if part == "compile" else given)
    if found is None or any(one.kind is one.VAR_KEYWORD for one in found):
        return None
    skipped = 1 if part in _GIVEN_FIRST else 0
    taken = [one.name for one in found[skipped:] if one.kind is not one.POSITIONAL_ONLY]
    return [*taken, *_ALSO.get(part, ())]


def _signature(target) -> list[inspect.Parameter] | None:
    """Parameters of a class or function; None if they cannot be told."""
    try:
        return list(inspect.signature(target).parameters.values())
    except (ValueError, TypeError):
        return None


def _callbacks(net) -> Iterator[str]:
    """Names of callbacks and of their parameters."""
    if net.callbacks == "disable":
        return
    counts: dict[str, int] = {}
    grouped = [(name, callback) for name, callback, _ in net._yield_callbacks()]
    for name, _ in grouped:
        counts[name] = counts.get(name, 0) + 1
    seen: dict[str, int] = {}
    for name, callback in grouped:
        seen[name] = seen.get(name, 0) + 1
        name = f"{name}_{seen[name]}" if counts[name] > 1 else name  # as skorch numbers them
        yield name
        if isinstance(callback, type):
            found = [one.name for one in _signature(callback) or ()]
        else:
            found = list(callback.get_params()) if isinstance(callback, Callback) else []
        yield from (f"{name}__{one}" for one in found)


def _check_needs(net):
    """Refuse a module that would lack an argument when it is made."""
    if _overrides(net, "initialize_module") or isinstance(net.module, torch.nn.Module):
        return
    lacking = [
        f"module__{one.name}"
        for one in _signature(net.module) or ()
        if one.default is one.empty
        and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        and one.name not in _FROM_DATA
        and f"module__{one.name}" not in vars(net)
    ]
    if lacking:
        raise ValueError(
            f"The module needs arguments that are not given: set {', '.join(lacking)}."
        )


def _refuse(name, wanted, value):
    raise ValueError(f"{name} must be {wanted}, got {value!r}.")


def check_sizes(net):
    """Refuse what no batch can have, also where it was set since the fit."""
    for name in ("batch_size", "iterator_train__batch_size", "iterator_valid__batch_size"):
        size: Any = vars(net).get(name, 1)
        if not (_integer(size) and (size >= 1 or size == -1)):
            _refuse(name, "a positive integer, or -1 for all images at once", size)
    memory, size = net.working_memory, net.micro_batch_size
    if not (memory in (None, "auto") if not _number(memory) else 0 < memory < LARGEST):
        _refuse("working_memory", '"auto", None or a positive, finite number of MiB', memory)
    if not (size is None or (_integer(size) and size >= 1)):
        _refuse("micro_batch_size", "a positive integer or None", size)


def _check_values(net):
    lr = net.lr
    if not (isinstance(lr, torch.Tensor) or (_number(lr) and 0 <= lr <= LARGEST)):
        _refuse("lr", f"a number in [0, {LARGEST:g}]", lr)
    if not (_integer(net.max_epochs) and net.max_epochs >= 0):
        _refuse("max_epochs", "an integer, 0 or more", net.max_epochs)
    check_sizes(net)
    if isinstance(net.module, torch.nn.Module):
        given = sorted(name for name in vars(net) if name.startswith("module__"))
        if given:
            raise ValueError(
                f"{', '.join(given)}: the module is an instance, which is made already. Pass its "
                "class, or leave them out."
            )
    trainable = net.trainable
    if not (
        trainable in ("all", "head", "none") if isinstance(trainable, str) else _texts(trainable)
    ):
        _refuse("trainable", '"all", "head", "none" or a list of patterns', trainable)
    if net.head not in (None, "replace"):
        _refuse("head", 'None or "replace"', net.head)
    if net.lr_schedule not in SCHEDULES:
        _refuse("lr_schedule", f"one of {SCHEDULES}", net.lr_schedule)
    for name in ("module", "optimizer", "criterion", "iterator_train", "iterator_valid", "dataset"):
        if not callable(getattr(net, name)):
            _refuse(name, "a class, or a function that makes the part", getattr(net, name))
    if not (net.train_split is None or callable(net.train_split)):
        _refuse(
            "train_split", "None or callable, such as skorch.dataset.ValidSplit", net.train_split
        )
    if not (net.callbacks is None or net.callbacks == "disable" or isinstance(net.callbacks, list)):
        _refuse("callbacks", 'a list, "disable" or None', net.callbacks)
    for callback in net.callbacks if isinstance(net.callbacks, list) else ():
        callback = callback[1] if isinstance(callback, tuple) else callback
        if InputShapeSetter in (callback, type(callback)):
            raise ValueError(
                "callbacks has an InputShapeSetter, which comes too late for networks: they give "
                "`image_shape`, `n_outputs`, `mean` and `std` of the data to a module that has "
                "such arguments. Leave it out."
            )
    if not (net.predict_nonlinearity in ("auto", None) or callable(net.predict_nonlinearity)):
        _refuse("predict_nonlinearity", 'callable, "auto" or None', net.predict_nonlinearity)
    if net.image_shape is not None:
        check_image_shape(net.image_shape)
    try:
        check_random_state(net.random_state)
    except ValueError as error:
        raise ValueError(f"random_state: {error}") from None
    check_device(net.device)


def _texts(value):
    return isinstance(value, (list, tuple)) and value and all(isinstance(v, str) for v in value)


def _number(value):
    return isinstance(value, Real) and not isinstance(value, bool)


def _integer(value):
    return isinstance(value, Integral) and not isinstance(value, bool)
