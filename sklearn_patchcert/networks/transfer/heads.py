"""The last layer of a network: which it is, a new one, and its outputs in another order."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from sklearn_patchcert.torch_globals import hooked


def outputs_of(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Outputs for some images, in evaluation mode and without gradients.

    Parameters
    ----------
    module : nn.Module
        Its modes stay as they are.
    images : Tensor (n, C, H, W)

    Returns
    -------
    outputs : Tensor

    Raises
    ------
    ValueError
        If they are none.
    """
    with evaluating(module), torch.no_grad():
        return first_of(module, module(images))


@contextlib.contextmanager
def sizes_explained(module: nn.Module, images: torch.Tensor) -> Iterator[None]:
    """Say what a module was given where torch fails on sizes that do not fit.

    Raises
    ------
    ValueError
    """
    try:
        yield
    except RuntimeError as error:
        if type(error) is not RuntimeError or not str(error):  # no memory, say
            raise
        kinds = {p.dtype for p in module.parameters() if p.is_floating_point()}
        if kinds and images.dtype not in kinds:
            raise ValueError(
                f"{type(module).__name__} has weights of {', '.join(sorted(map(str, kinds)))}, and "
                "images are float32: convert it, module.float()."
            ) from error
        (channels, height, width), line = images.shape[1:], str(error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"{type(module).__name__} does not take images (n, C, H, W) of {channels} channels and "
            f"{height} x {width} pixels: {line}. Is image_shape=(H, W, C) the "
            "one that it takes? networks.Preprocessed resizes images for it."
        ) from error


def first_of(module: nn.Module, outputs: Any) -> torch.Tensor:
    """The outputs of a module, of a tuple the first, as skorch has it.

    Raises
    ------
    ValueError
        If it is no tensor.
    """
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    if isinstance(outputs, torch.Tensor):
        return outputs
    kind = f"a {type(outputs).__name__}"
    if isinstance(outputs, Mapping):
        kind += f" with the keys {list(outputs)[:5]}"
    raise ValueError(
        f"{type(module).__name__} returns {kind}, not a tensor: wrap it in a module that returns "
        "the tensor of its outputs."
    )


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode inside the block, and every part back afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def last_layer(module: nn.Module, n_outputs: int | None = None) -> tuple[str, Any] | None:
    """Name of the last linear layer or 1x1 convolution of a module, and the layer.

    Parameters
    ----------
    module : nn.Module
    n_outputs : int or None
        How many outputs the layer must have; None: any number.

    Returns
    -------
    found : (str, nn.Module) or None
        None if the module has no such layer.
    """
    found = None
    for name, part in module.named_modules():
        if _width(part) is not None and n_outputs in (None, _width(part)):
            found = name, part
    return found


def described(name: str, layer: Any) -> str:
    """A layer in words, such as ``'fc' (Linear(512, 1000))``."""
    sizes = ", ".join(str(size) for size in reversed(layer.weight.shape[:2]))
    return f"{name!r} ({type(layer).__name__}({sizes}))"


def with_new_head(module: nn.Module, images: torch.Tensor, n_outputs: int) -> nn.Module:
    """Put a new last layer, with random weights, in the place of the old one.

    Parameters
    ----------
    module : nn.Module
        It is changed.
    images : Tensor (n, C, H, W)
        Some inputs, by which the module shows how many outputs it has.
    n_outputs : int
        Of the new layer.

    Returns
    -------
    module : nn.Module
        The same, or the new layer if the module was only a layer.

    Raises
    ------
    ValueError
        If no layer has as many outputs as the module.
    """
    name, old = head_of(module, images)
    place: dict[str, Any] = {"device": old.weight.device, "dtype": old.weight.dtype}
    place["bias"] = old.bias is not None
    if isinstance(old, nn.Conv2d):
        place.update(stride=old.stride, padding=old.padding)
        new: nn.Module = nn.Conv2d(old.in_channels, n_outputs, 1, **place)
    else:
        new = nn.Linear(old.in_features, n_outputs, **place)
    if not name:
        return new
    where, _, last = name.rpartition(".")
    setattr(module.get_submodule(where), last, new)
    return module


def head_of(module: nn.Module, images: torch.Tensor) -> tuple[str, Any]:
    """Name of the layer whose outputs are those of the module, and the layer.

    Raises
    ------
    ValueError
        If no layer has as many outputs as the module, each of which is one of the module's.
    """
    name, layer = _last_used(module, images)
    order = torch.arange(layer.weight.shape[0]).flip(0)
    if not _follows(module, images, layer, order) and not _each_alone(module, images, layer):
        raise ValueError(
            f"The last layer of the module cannot be told: {described(name, layer)} has as many "
            "outputs as the module, but they are not its outputs. Change the module itself, or "
            'name the parameters to be trained, trainable=["name.*"].'
        )
    return name, layer


def _last_used(module, images):
    """Name of the last layer that has as many outputs as the module, and the layer."""
    used: list = []
    with contextlib.ExitStack() as hooks:
        for name, part in module.named_modules():
            if _width(part) is not None:
                note = functools.partial(_note, used, name)
                hooks.callback(part.register_forward_hook(note).remove)
        shape = tuple(outputs_of(module, images).shape)
    found = last_layer(module, shape[1]) if len(shape) == 2 else None
    if found is not None:  # the last that is used, which need not be the last that was made
        last = [(name, part) for name, part in used if _width(part) == shape[1]][-1:]
        found = last[0] if last else found
    if found is None:
        raise ValueError(
            "The last layer of the module cannot be told: there is no Linear layer or 1x1 "
            f"convolution whose number of outputs is that of the module, which takes {len(images)} "
            f"images to the shape {shape}. Change the module itself, or name the parameters to be "
            'trained, trainable=["name.*"].'
        )
    return found


def in_order(module: nn.Module, images: torch.Tensor, order: Any) -> None:
    """Bring the outputs of a module into another order, in its last layer.

    Parameters
    ----------
    module : nn.Module
        It is changed.
    images : Tensor (n, C, H, W)
        Some inputs, on which the outputs are compared.
    order : array of int (n_outputs,)
        Which of the old outputs come first, second, and so on.

    Raises
    ------
    ValueError
        If what comes after the last layer does not keep the order of its outputs.
    """
    order = torch.as_tensor(order)
    before = outputs_of(module, images)
    _, layer = _last_used(module, images)
    # Weights for which all outputs are equal on these images would hide another order.
    kept = _follows(module, images, layer, order)
    with torch.no_grad():
        layer.weight.copy_(layer.weight[order])
        if layer.bias is not None:
            layer.bias.copy_(layer.bias[order])
    after = outputs_of(module, images)
    if not kept or not _alike(after, before[:, order]):
        raise ValueError(
            "The outputs of the module cannot be brought into the order of sorted classes, since "
            "they are not those of its last layer in its order. Let the module return them in "
            "the order of the sorted labels, and pass classes in that order."
        )


def _follows(module, images, layer, order):
    """Whether the outputs of the module are in another order if those of the layer are."""
    before, after = _with_outputs(module, images, layer, lambda values: values[:, order])
    return before is None or _alike(after, before[:, order])


def _each_alone(module, images, layer):
    """Whether the first output of the layer is the first of the module, and none of the others."""

    def moved(values):
        return torch.cat([values[:, :1] + 1, values[:, 1:]], 1)

    before, after = _with_outputs(module, images, layer, moved)
    return not _alike(after[:, :1], before[:, :1]) and _alike(after[:, 1:], before[:, 1:])


def _with_outputs(module, images, layer, change):
    """Outputs of the module for drawn outputs of the layer, and for these after a change.

    None and None where the layer is only used as a function.
    """
    drawn: dict = {}

    def replaced(part, given, made, change=None):
        values = drawn.setdefault("", torch.randn(made.shape, generator=_generator()).to(made))
        return values if change is None else change(values)

    found = []
    for by in (None, change):
        hook = layer.register_forward_hook(functools.partial(replaced, change=by))
        try:
            found.append(outputs_of(module, images))
        finally:
            hook.remove()
    return found if drawn else (None, None)


def _generator():
    return torch.Generator().manual_seed(0)


def _alike(outputs, others):
    return outputs.is_meta or torch.allclose(outputs, others, rtol=1e-3, atol=1e-5)


def _note(used, name, part, given, made):
    used.append((name, part))


def _width(part: nn.Module) -> int | None:
    """How many outputs a layer has that may be the last one of a classifier."""
    if isinstance(part, nn.Linear):
        return part.out_features
    if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) and part.groups == 1:
        return part.out_channels
    return None


def unchanging_copy(module: nn.Module, *, as_it_is: bool = False) -> nn.Module:
    """Copy a module, by default for evaluation without gradients.

    Raises
    ------
    TypeError
        If the module cannot be copied.
    """
    try:
        made = copy.deepcopy(module)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise TypeError(
            f"{type(module).__name__} cannot be copied, so it could not be used without being "
            f"changed: {error}. Pass a class or a function that makes it."
        ) from error
    return made if as_it_is else made.eval().requires_grad_(False)


def layer_output(module: nn.Module, images: torch.Tensor, layer: str | None) -> torch.Tensor:
    """What a part of a module computes of images, in evaluation mode.

    Parameters
    ----------
    module : nn.Module
    images : Tensor (n, C, H, W)
    layer : str or None
        Name of the part; None: the module itself.

    Returns
    -------
    outputs : Tensor (n, ...)

    Raises
    ------
    ValueError
        If there is no such part, or if it is not used exactly once.
    """
    if layer is None:
        return _tensor(outputs_of(module, images))
    parts = dict(module.named_modules())
    if layer not in parts:
        end = layer.rpartition(".")[2]
        alike = [name for name in parts if name.rpartition(".")[2] == end and name]
        shown = ", ".join(alike or [name for name in parts if name and "." not in name])
        there = "it has" if alike else "its parts are"
        raise ValueError(f"The module has no part {layer!r}; {there} {shown}.")
    found: list = []
    with hooked(parts[layer], lambda part, given, made: found.append(_kept(made))):
        outputs_of(module, images)
    if len(found) != 1:
        raise ValueError(
            f"The part {layer!r} of the module is used {len(found)} times for an image, so its "
            "output is not clear."
        )
    return _tensor(found[0])


def _kept(made):
    """The output of a layer, which the next one may write over."""
    made = made[0] if isinstance(made, tuple) else made
    return made.clone() if isinstance(made, torch.Tensor) else made


def _tensor(outputs: Any) -> torch.Tensor:
    if not isinstance(outputs, torch.Tensor) or not outputs.ndim:
        raise ValueError(
            f"The features must be a tensor with a row for each image, got {type(outputs)}."
        )
    return outputs
