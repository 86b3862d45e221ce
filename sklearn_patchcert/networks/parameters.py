"""Parameters of the networks that stay as they were given, though skorch reads what they mean."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import torch
from sklearn.base import BaseEstimator

from sklearn_patchcert._state import as_before, old_pickle
from sklearn_patchcert._validation import check_device
from sklearn_patchcert.torch_globals import plain_torch

if TYPE_CHECKING:
    from skorch import NeuralNet as _Base
    from torch import nn
else:
    _Base = object


_PARTS = ("module", "compile", "criterion", "optimizer", "lr", "callbacks", "trainable", "head",
          "classes")  # fmt: skip
_OF_SKORCH = ("callbacks_", "classes_inferred_", "cuda_dependent_attributes_", "init_context_",
              "initialized_", "prefixes_", "virtual_params_")  # fmt: skip


class GivenParameters(_Base):
    """Mixin: parameters are kept as they are given, and count from the next fit on.

    `device` and `criterion` may be left to the network.  skorch would replace parts of a fitted
    network by untrained parts as soon as their parameters are set; here they stay until the next
    fit.
    """

    _params_to_validate: set[str]
    # Of parameters set since the fit, what the fitted part was made with: (value,), or () for none.
    _made_with: dict[str, tuple] = {}

    def _default_criterion(self) -> type[nn.Module]:
        raise NotImplementedError

    def __setattr__(self, name, value):
        if self.initialized_ and part_of(name) in _PARTS:
            before = (vars(self)[name],) if name in vars(self) else ()
            before = self._made_with.get(name, before)
            others = {k: v for k, v in self._made_with.items() if k != name}
            same = before and _same(before[0], value)
            self._made_with = others if same else {**others, name: before}
        if name.endswith("_"):
            super().__setattr__(name, value)
        else:  # skorch would take an instance of a module for a part that it should train
            object.__setattr__(self, name, value)

    def set_since_fit(self, *parts):
        """Names of the parameters that are not those of the fitted network.

        Parameters
        ----------
        *parts : str
            Which parts to look at, such as "module" and "optimizer".

        Returns
        -------
        names : list of str
        """
        return sorted(name for name in self._made_with if part_of(name) in parts)

    def initialize(self):
        """Make all parts of the network, untrained, with the parameters as they are.

        Returns
        -------
        self
        """
        with plain_torch(training=True):
            super().initialize()
        self.__dict__.pop("_made_with", None)
        return self

    def _catch_up(self):
        """Give a fitted network the parameters that were set since, for more training."""
        lost = self.set_since_fit("module", "compile", "head", "classes")
        if lost:
            raise ValueError(
                f"{', '.join(lost)}: set after the fit, so the fitted network cannot be trained "
                "further with the new values. Call fit without warm_start for a new network, or "
                "set the old values."
            )
        if self.set_since_fit("callbacks"):
            self._initialize_callbacks()
        criterion, optimizer = self.set_since_fit("criterion"), self.set_since_fit("optimizer")
        if criterion:
            self._initialize_criterion()
        freezes = bool(self.set_since_fit("trainable"))
        if freezes:
            self._freeze()
        if criterion or freezes or "optimizer" in optimizer:  # without the memory of the old one
            self._initialize_optimizer()
        else:
            names = optimizer + self.set_since_fit("lr")
            self._apply_virtual_params({name: getattr(self, name) for name in names})
        self.__dict__.pop("_made_with", None)

    @property
    def device(self):
        """Where the network runs: "auto" as the device that it stands for, others as given."""
        given = self.__dict__["device"]
        return str(check_device(given)) if isinstance(given, str) and given == "auto" else given

    @device.setter
    def device(self, device):
        self.__dict__["device"] = device

    @property
    def criterion(self):
        """The loss: None as the one that it stands for, others as given."""
        given = self.__dict__["criterion"]
        return self._default_criterion() if given is None else given

    @criterion.setter
    def criterion(self, criterion):
        self.__dict__["criterion"] = criterion

    def get_params(self, deep=True, **kwargs):
        """Parameters by name; `device` and `criterion` as they were given.

        Parameters
        ----------
        deep : bool, default=True
        **kwargs
            Go to skorch.

        Returns
        -------
        params : dict
        """
        given = {name: vars(self)[name] for name in ("device", "criterion")}
        since = {name: vars(self)[name] for name in self.set_since_fit("callbacks")}
        found = super().get_params(deep=False, **kwargs)
        # Not those of other parts: get_params of torchvision is another thing.
        return {**found, **self._get_params_callbacks(deep=deep), **given, **since}

    def set_params(self, **params):
        """Set parameters by name; a fitted network predicts as before until it is fitted again.

        `partial_fit`, and `fit` with `warm_start`, train the fitted network further with new
        parameters of the optimizer, the criterion and the callbacks.  With another optimizer class
        or criterion, the optimizer starts without memory.  With new parameters of the module they
        raise a ValueError.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self
        """
        nested = {name: value for name, value in params.items() if "__" in name}
        known = self.get_params(deep=False)
        wrong = sorted(params.keys() - nested.keys() - known.keys())
        if wrong:
            refuse_names(self, wrong, known)
        with as_before(self):
            plain = {name: value for name, value in params.items() if name not in nested}
            BaseEstimator.set_params(self, **plain)
            for name, value in nested.items():
                setattr(self, name, value)
            self._params_to_validate = self._params_to_validate | nested.keys()
            if self.initialized_:
                self._validate_params()
        return self

    def _validate_params(self):
        if vars(self).get("iterator_valid__shuffle"):
            raise ValueError("iterator_valid__shuffle must be False: it would shuffle predictions.")
        super()._validate_params()

    def __repr__(self, **options):
        return BaseEstimator.__repr__(self, **options)

    def _get_params_html(self, deep=True, *args, **options):
        return super()._get_params_html(False, *args, **options)  # without the default callbacks

    def _get_fitted_attr_html(self, *args, **options):
        shown = super()._get_fitted_attr_html(*args, **options)
        for name in _OF_SKORCH:
            shown.pop(name, None)
        return shown

    def __setstate__(self, state):
        device, version = state["device"], state.get("_patchcert_version", "unknown")
        resolved = {**state, "device": "cpu"} if device == "auto" else dict(state)
        with plain_torch():  # or the weights could not be trained if this mode is for inference
            super().__setstate__(resolved)
            missing = self._missing_in_module() if self.initialized_ else []
        if missing:
            raise old_pickle(self, version, missing)
        if device == "auto":
            self.device = device
            if self.initialized_:
                self.module_.to(self.device)

    def _missing_in_module(self):
        """What a module of this library has when it is made anew, and that of a pickle has not."""
        old: Any = getattr(self.module_, "_orig_mod", self.module_)  # what torch.compile wraps
        made = not isinstance(self.module, type)  # by the user
        if made or not _is_ours(old) or self.set_since_fit("module"):
            return []
        with torch.device("meta"):
            new = type(old)(**self.get_params_for("module"))
        parts = dict(old.named_modules())
        missing = []
        for place, part in new.named_modules():
            if place in parts and _is_ours(part):
                names = [*vars(part), *part._buffers, *part._parameters, *part._modules]
                missing += [name for name in names if not hasattr(parts[place], name)]
        return missing


def _is_ours(module):
    return type(module).__module__.startswith("sklearn_patchcert.")


def part_of(name):
    """The part that a parameter is about: "module" for "module__width"."""
    return name.partition("__")[0]


def refuse_names(net, wrong, names):
    """Raise a ValueError that lists unknown options and the names nearest to them."""
    found = []
    for name in wrong:
        near = _nearest(name, names)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        found.append(f"{type(net).__name__} has no option {name!r}.{hint}")
    raise ValueError(" ".join(found))


def _nearest(name, names):
    """Names like one: those of the same part whose rest is alike, else any."""
    part, separator, rest = name.rpartition("__")
    begin = part + separator
    ends = [one.removeprefix(begin) for one in sorted(names) if begin and one.startswith(begin)]
    near = [begin + end for end in difflib.get_close_matches(rest, ends)]
    return near or difflib.get_close_matches(name, sorted(names), cutoff=0.7)


def _same(first, second):
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    plain = type(first) is type(second) and isinstance(first, bool | int | float | str)
    return first is second or (plain and first == second)
