"""Parameters of the networks that stay as they were given, though skorch reads what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sklearn_patchcert._validation import check_device, isolated_seed, random_seed

if TYPE_CHECKING:
    from skorch import NeuralNet as _Base
    from torch import nn
else:
    _Base = object


class GivenParameters(_Base):
    """Mixin: `device` and `criterion` may be left to the network, and are kept as such."""

    _default_criterion: type[nn.Module]

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
        return self._default_criterion if given is None else given

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
        given = {name: self.__dict__[name] for name in ("device", "criterion")}
        return {**super().get_params(deep=deep, **kwargs), **given}

    def set_params(self, **params):
        """Set parameters by name.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self
        """
        if not self.initialized_:  # skorch would unpack callbacks at once, not in fit
            for name in [name for name in params if name.startswith("callbacks")]:
                self.__dict__[name] = params.pop(name)
                self._params_to_validate.add(name)
            return super().set_params(**params)
        with isolated_seed(random_seed(self.random_state), self.device):  # a part may start anew
            return super().set_params(**params)

    def __setstate__(self, state):
        device = state["device"]
        resolved = {**state, "device": "cpu"} if device == "auto" else dict(state)
        super().__setstate__(resolved)
        if device == "auto":
            self.device = device
            if self.initialized_:
                self.module_.to(self.device)
