"""Networks whose module comes with weights: copied, given a head, frozen in part, ready at once."""

from __future__ import annotations

import inspect
import math
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sklearn_patchcert._ranges import judge, remember
from sklearn_patchcert._validation import check_image_shape, isolated_seed, random_seed
from sklearn_patchcert.networks.fitting.health import check_outputs
from sklearn_patchcert.networks.options import check_network
from sklearn_patchcert.networks.transfer import heads
from sklearn_patchcert.networks.transfer.freezing import (
    Frozen,
    freeze,
    patterns,
    rest,
    takes_gradients,
)
from sklearn_patchcert.torch_globals import plain_torch

if TYPE_CHECKING:
    from skorch import NeuralNet as _Base
else:
    _Base = object


class GivenModule(_Base):
    """Mixin: the module may be an instance, which is copied, and trained in part or not at all."""

    # Declared for type checkers: parameters of the estimators, and what fit makes.
    head: Any
    trainable: Any
    classes: Any
    module_: Any
    image_shape_: tuple[int, int, int]
    n_outputs_: int
    _frozen = Frozen()

    def initialized_instance(self, instance_or_cls, kwargs):
        """Make a part of the network that shares nothing with what the user holds.

        Parameters
        ----------
        instance_or_cls : nn.Module, or callable that makes one
        kwargs : dict
            Arguments of the callable.

        Returns
        -------
        part : nn.Module
        """
        if isinstance(instance_or_cls, nn.Module):
            instance_or_cls = _copied(instance_or_cls)
        kwargs = {name: _copied(v) if _holds_module(v) else v for name, v in kwargs.items()}
        made = super().initialized_instance(instance_or_cls, kwargs)
        # A function, or a class, may hand on an instance that it has.
        alone = isinstance(instance_or_cls, nn.Module) or is_ours(instance_or_cls)
        return made if alone or not isinstance(made, nn.Module) else _copied(made)

    def initialize(self):
        """Make the module, the criterion and the optimizer, and lose no weights unseen.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If nothing is trained, and the module had other weights than it has now.
        """
        kept = None
        if self.trainable == "none" and "module_" in vars(self):
            kept = _fingerprint(self.module_)
        as_made = vars(self).get("_made_as")
        super().initialize()
        self._made_as = _fingerprint(self.module_)
        if kept is not None and kept not in (as_made, self._made_as):
            raise ValueError(
                'With trainable="none", fit takes the module as it was passed, and would lose the '
                "weights that this network has got since, by a fit or from a file. Keep them: pass "
                "module=net.module_, or sklearn.frozen.FrozenEstimator(net) instead of the network."
            )
        return self

    def _judge_by(self, expected, images):
        """Keep the range of images that a module expects which is not trained on other ones."""
        found = self.input_range_
        remember(self, expected, self.input_dtype_)
        judge(self, found, len(images), images)

    def initialize_module(self):
        """Make the module, with a new head and the classes in order where options say so.

        Returns
        -------
        self
        """
        super().initialize_module()
        if hasattr(self, "n_outputs_"):
            if self.head == "replace":
                self.module_ = heads.with_new_head(self.module_, self._some(), self.n_outputs_)
            elif self.classes is not None:
                _, order = ordered(self.classes)
                if (np.diff(order) < 0).any():
                    check_outputs(self, self._some().numpy(), {})
                    heads.in_order(self.module_, self._some(), order)
        self._frozen = Frozen()
        self._freeze(None)
        return self

    def _freeze(self, *as_made):
        """Let only the parameters that `trainable` names take gradients."""
        module = getattr(self.module_, "_orig_mod", self.module_)  # what torch.compile wraps
        before = as_made[0] if as_made else self._frozen.as_made
        self._frozen = freeze(module, self._chosen(module), before)
        trains = self.trainable != "none" and self.max_epochs > 0
        if trains and not takes_gradients(module):
            raise ValueError(
                f"trainable={self.trainable!r}, but no parameter of the module takes a gradient: "
                'name some, trainable="head" or patterns, or pass trainable="none".'
            )

    def _chosen(self, module):
        """Whether a parameter is trained, by its name; None: as the module was made."""
        if self.trainable == "all" or not hasattr(self, "n_outputs_"):
            return None
        if self.trainable == "none":
            return lambda name: False
        if self.trainable == "head":
            begin, _ = heads.head_of(module, self._some())
            return lambda name: not begin or name.startswith(f"{begin}.")
        return patterns(module, list(self.trainable))

    def _some(self):
        """Images of no meaning, by which a module shows its sizes."""
        height, width, channels = self.image_shape_
        place = next((p.device for p in self.module_.parameters()), torch.device("cpu"))
        values = torch.rand(
            2, channels, height, width, generator=torch.Generator().manual_seed(0)
        )  # fmt: skip
        return values.to(place)

    def get_all_learnable_params(self):
        """Parameters for the optimizer, without frozen ones.

        Yields
        ------
        name : str
        parameter : nn.Parameter
        """
        module = getattr(self.module_, "_orig_mod", self.module_)
        frozen = {id(p) for name, p in module.named_parameters() if name in self._frozen.parameters}
        for name, parameter in super().get_all_learnable_params():
            if id(parameter) not in frozen:
                yield name, parameter

    def get_params_for_optimizer(self, prefix, named_parameters):
        """Arguments of the optimizer, as skorch makes them; also for no parameters at all.

        Parameters
        ----------
        prefix : str
        named_parameters : iterator

        Returns
        -------
        args : tuple
        kwargs : dict
        """
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        return (args if args[0] else ([{"params": []}],)), kwargs

    def _set_training(self, training=True):
        super()._set_training(training)
        if training:
            rest(getattr(self.module_, "_orig_mod", self.module_), self._frozen)

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train for some epochs, or for none if nothing is trainable.

        Parameters
        ----------
        X, y, epochs, **fit_params
            As in skorch.

        Returns
        -------
        self
        """
        return super().fit_loop(X, y, 0 if self.trainable == "none" else epochs, **fit_params)

    def _as_it_stands(self, image_shape, n_outputs, input_range):
        """Do what a fit does, without images: the module answers as it is."""
        check_network(self)
        self.image_shape_ = check_image_shape(image_shape)
        self.n_features_in_ = math.prod(self.image_shape_)
        channels = self.image_shape_[2]
        self.channel_mean_, self.channel_std_ = np.zeros(channels), np.ones(channels)
        self.n_outputs_ = n_outputs
        if input_range is not None:
            low, high = map(float, input_range)
            if not low < high:
                raise ValueError(f"input_range must be a pair low < high, got {input_range!r}.")
            remember(self, (low, high), "float32")
        seed = random_seed(self.random_state)
        with isolated_seed(seed, self.device), plain_torch(training=True):
            self.initialize()
            check_outputs(self, self._some().cpu().numpy(), {})
            self._settle_micro_batch(self._some(), {})
        return self


def outputs_of_pretrained(module: Any, image_shape: Any) -> int:
    """How many outputs a module has, which is left as it is.

    Parameters
    ----------
    module : nn.Module
    image_shape : tuple (H, W) or (H, W, C)

    Returns
    -------
    n_outputs : int

    Raises
    ------
    ValueError
        If the module is not an instance, does not take such images, or its outputs are not rows.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(
            "Pass classes, or an instance of torch.nn.Module, which tells how many outputs it "
            f"has; got {module!r:.80}."
        )
    height, width, channels = check_image_shape(image_shape)
    place = next((p.device for p in module.parameters()), "cpu")
    images = torch.zeros(2, channels, height, width, device=place)
    with plain_torch(), heads.sizes_explained(module, images):
        shape = tuple(heads.outputs_of(module, images).shape)
    if len(shape) != 2 or shape[0] != 2:
        raise ValueError(
            f"The module must take n images to outputs (n, n_outputs); it took 2 images to {shape}."
        )
    return shape[1]


def ordered(classes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Classes sorted, and the place of each among those given.

    Parameters
    ----------
    classes : array-like (n_classes,)

    Returns
    -------
    classes : ndarray (n_classes,)
    order : ndarray of int (n_classes,)

    Raises
    ------
    ValueError
        If a class occurs twice, or there is none.
    """
    given = np.asarray(list(classes))
    if given.ndim != 1 or not len(given):
        raise ValueError(f"classes must be the labels of all outputs, got {classes!r:.80}.")
    twice = [name for name, count in Counter(given.tolist()).items() if count > 1]
    if twice:
        raise ValueError(
            f"classes has {', '.join(map(repr, twice[:5]))} more than once, so predictions could "
            "not be told apart. Give every output a label of its own, such as its number, "
            "classes=range(n_outputs)."
        )
    return np.unique(given), np.argsort(given, kind="stable")


def _holds_module(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(map(_holds_module, value))
    return isinstance(value, nn.Module)


def is_ours(made: Any) -> bool:
    """Whether a module is one of this library's classes."""
    return inspect.isclass(made) and made.__module__.startswith("sklearn_patchcert.networks.")


def _fingerprint(module):
    """A number by which other weights are told."""
    found = 0
    for value in getattr(module, "_orig_mod", module).state_dict().values():
        if isinstance(value, torch.Tensor) and not (value.is_meta or is_lazy(value)):
            array = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            found = zlib.crc32(array.data, found)
    return found


def _copied(value):
    return heads.unchanging_copy(value, as_it_is=True)
