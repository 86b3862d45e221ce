"""How much memory the activations of a network take, and how many images fit into a budget."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import torch
from torch import nn

from sklearn_patchcert.networks.transfer.freezing import Frozen, rest
from sklearn_patchcert.networks.transfer.heads import evaluating

MEBIBYTE = 2**20
LEAST = 2  # images at once: batch normalization cannot be trained on one


def activation_bytes(
    module: nn.Module, images: torch.Tensor, frozen: Frozen | None = None, **options: Any
) -> int:
    """Measure what a training step holds in memory for some images.

    These are the tensors that autograd saves for the backward pass, without the parameters, and the
    largest input and output of a layer, which stand for the gradients that are passed on.

    Parameters
    ----------
    module : nn.Module
        It is left as it is.
    images : Tensor (n, C, H, W)
    frozen : Frozen or None
        The parts that training leaves alone.
    **options
        Go to the forward of the module.

    Returns
    -------
    size : int

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks.fitting.activations import activation_bytes
    >>> layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU())
    >>> activation_bytes(layers, torch.zeros(2, 1, 8, 8))  # 64 and 32 are saved, 64 + 32 held
    1536
    """
    images = images.clone()  # with memory of its own, which can be counted
    try:  # of a copy, since a forward may change statistics of batches, even parameters
        own = copy.deepcopy(module).train()
        rest(own, frozen or Frozen())
        return _measured(own, images, options)
    except Exception:  # some modules cannot be copied, or trained on so few images
        state = copy.deepcopy(module.state_dict())
        try:
            with evaluating(module):
                return _measured(module, images, options)
        finally:
            module.load_state_dict(state)


def _measured(module, images, options):
    parameters = {_place(value) for value in module.parameters()}
    saved: dict[Any, int] = {}
    largest = 0

    def pack(tensor):
        if _place(tensor) not in parameters:
            saved[_place(tensor)] = _size(tensor)
        return tensor

    def note(part, given, made):
        nonlocal largest
        tensors = [one for one in _flat((given, made)) if isinstance(one, torch.Tensor)]
        largest = max(largest, sum({_place(one): _size(one) for one in tensors}.values()))

    with contextlib.ExitStack() as stack:
        for part in module.modules():
            if next(part.children(), None) is None:
                stack.callback(part.register_forward_hook(note).remove)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved))
        module(images, **options)  # what is saved lives as long as the outputs
    return sum(saved.values()) + largest


def images_within(
    module: nn.Module, images: torch.Tensor, budget: float, enough: int, **options: Any
) -> int:
    """Count the images whose activations fit into a budget.

    Parameters
    ----------
    module : nn.Module
    images : Tensor (n, C, H, W)
        Up to 4 of them are looked at.
    budget : float
        In bytes.
    enough : int
        Once it is clear that so many fit, the count may be too small.
    **options
        As of :func:`activation_bytes`.

    Returns
    -------
    count : int
        0 if a single one is too large.
    """
    few = images[:2]
    size = activation_bytes(module, few, **options)
    fixed, each = 0.0, size / len(few)
    if len(images) >= 4 and enough * each > budget:  # what does not grow with the batch
        each = max(1.0, (activation_bytes(module, images[:4], **options) - size) / 2)
        fixed = max(0.0, size - 2 * each)
    return max(0, int((budget - fixed) // max(1.0, each)))


def _flat(values):
    if isinstance(values, dict):
        values = values.values()
    if not isinstance(values, (list, tuple)) and not hasattr(values, "__iter__"):
        return [values]
    if isinstance(values, (str, bytes, torch.Tensor)):
        return [values]
    return [one for value in values for one in _flat(value)]


def _place(tensor):
    """What two tensors share if they share their memory."""
    with contextlib.suppress(NotImplementedError, RuntimeError):  # such as sparse ones
        return tensor.untyped_storage().data_ptr()
    return id(tensor)


def _size(tensor):
    with contextlib.suppress(NotImplementedError, RuntimeError):
        return tensor.untyped_storage().nbytes()
    return tensor.numel() * tensor.element_size()
