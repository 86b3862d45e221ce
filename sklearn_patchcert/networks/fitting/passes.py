"""Forward passes: of images in parts, without the data sets of skorch, and disturbed ones."""

from __future__ import annotations

import contextlib

import torch
from joblib import parallel_config
from skorch.utils import to_device

from sklearn_patchcert.networks.fitting.micro_batches import _joined, _with_rows
from sklearn_patchcert.networks.fitting.source import channels_first
from sklearn_patchcert.parallel import stop_if_told
from sklearn_patchcert.torch_globals import hooked

_UNITS = 1024  # in the last place of the largest output: rounding in a network of some layers


def in_parts(net, made, parts, checked):
    """What the module answers to images, as `net.forward` gives it.

    Parameters
    ----------
    net : initialized PatchNet
    made : None or sequence of slices of images
        Images that are made when they are asked for, like those that were checked.
    parts : list of slice
        A thread asks before each of them whether to stop.
    checked : ndarray of float32 (n, C, H, W)
        The images, which are left as they are.  If others are made: one or more of them.

    Returns
    -------
    outputs : Tensor or tuple of Tensor
        On the CPU.
    """
    if any(part.training for part in net.module_.modules()):
        net._set_training(False)
    _, channels, height, width = checked.shape
    found = []
    for part in parts:
        stop_if_told()
        if made is None:
            images = checked[part].copy("K")  # a module may work in place
        else:
            images = channels_first(made[part].reshape(-1, height, width, channels))
        found.append(to_device(_with_rows(net.infer(torch.from_numpy(images))), "cpu"))
    return _joined(found)


@contextlib.contextmanager
def disturbed(nets, seed, sign):
    """Add to the outputs of networks what rounding may do to them, and more, inside the block.

    Only passes of this thread are disturbed, and joblib starts no other for them.

    Parameters
    ----------
    nets : list of fitted networks
    seed : int
    sign : {-1, 1}
        The disturbance of one sign is the negative of the other's: on different sides of a tie.
    """

    def disturb(module, inputs, outputs):
        first = outputs[0] if isinstance(outputs, tuple) else outputs
        generator = torch.Generator().manual_seed(seed)
        part = 2 * torch.rand(first.shape, generator=generator).to(first) - 1
        unit = torch.finfo(first.dtype).eps
        size = first.abs().reshape(len(first), -1).amax(1).reshape(-1, *[1] * (first.ndim - 1))
        moved = first + sign * part * (_UNITS * size + 8) * unit
        return (moved, *outputs[1:]) if isinstance(outputs, tuple) else moved

    with contextlib.ExitStack() as stack:
        stack.enter_context(parallel_config(backend="sequential"))
        for net in nets:
            stack.enter_context(hooked(net.module_, disturb))
        yield
