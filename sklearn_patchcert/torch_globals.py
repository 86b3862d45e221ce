"""Torch as it comes, whatever its caller has told it for the whole process or thread.

A default dtype, a default device, autocast, modes without gradients and faster matrix products all
change what the same lines compute.  Training and predictions run inside of :func:`plain_torch`, so
that their results do not depend on any of these.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import threading

import torch

_DEVICES = "cpu", "cuda", "mps", "xpu"  # that may have autocast on


@contextlib.contextmanager
def plain_torch(*, training=False):
    """Compute in float32 and full precision, on the CPU unless told otherwise, without autocast.

    Every setting is put back as it was found.  The settings of the whole process stay changed until
    the last of the threads that are inside of such a block has left it.

    Parameters
    ----------
    training : bool, default=False
        Whether there are gradients.  Convolutions on a GPU then keep the precision that they have,
        TF32 by torch's default, since that only changes which weights are found.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_DEFAULTS)
        if not training:
            stack.enter_context(_CONVOLUTIONS)
        for kind in _DEVICES:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(training))
        yield


@contextlib.contextmanager
def hooked(module, hook):
    """Call a forward hook of a module inside the block, for the passes of this thread only.

    A module is shared by all threads that predict, and their passes are none of this block's.

    Parameters
    ----------
    module : torch.nn.Module
    hook : callable, (module, inputs, outputs) -> outputs or None
        As `register_forward_hook` takes it.
    """
    here = threading.get_ident()

    def mine(*given):
        return hook(*given) if threading.get_ident() == here else None

    handle = module.register_forward_hook(mine)
    try:
        yield
    finally:
        handle.remove()


class _Shared:
    """Settings of the process: the first who enters changes them, the last puts them back."""

    def __init__(self, *changes):
        self.changes, self.inside = changes, 0
        self.lock, self.undo = threading.Lock(), contextlib.ExitStack()

    def __enter__(self):
        with self.lock:
            if not self.inside:
                with contextlib.ExitStack() as undo:
                    for change in self.changes:
                        change(undo)
                    self.undo = undo.pop_all()
            self.inside += 1

    def __exit__(self, *error):
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.undo.close()


def _float32(undo):
    undo.callback(torch.set_default_dtype, torch.get_default_dtype())
    torch.set_default_dtype(torch.float32)


def _full_products(undo):
    get, put = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    _full(undo, ("cuda.matmul", "mkldnn.matmul"), get, put, "highest")


def _full_convolutions_on_cpus(undo):
    _full(undo, ("mkldnn.conv", "mkldnn.rnn"))


def _full_convolutions_on_gpus(undo):
    cudnn = torch.backends.cudnn
    put = functools.partial(setattr, cudnn, "allow_tf32")
    _full(undo, ("cudnn.conv", "cudnn.rnn"), lambda: cudnn.allow_tf32, put, False)


def _full(undo, names, get=None, put=None, full=None):
    """Set an older flag, and the newer ones that have come to its side, to full precision."""
    owners = []
    if hasattr(torch.backends, "fp32_precision"):
        owners = [operator.attrgetter(name)(torch.backends) for name in names]
    for owner in owners:
        undo.callback(_put_back, owner, owner.fp32_precision)
    _full_where_it_can_be_read(undo, get, put, full)
    for owner in owners:
        if owner.fp32_precision not in ("ieee", "none"):
            owner.fp32_precision = "ieee"
    _full_where_it_can_be_read(undo, get, put, full)


def _full_where_it_can_be_read(undo, get, put, full):
    """Set an older flag, unless newer ones disagree with it: torch refuses to read it then."""
    if get is None:
        return
    with contextlib.suppress(RuntimeError):
        before = get()
        if before != full:
            undo.callback(put, before)
            put(full)


def _put_back(owner, before):
    if owner.fp32_precision != before:
        owner.fp32_precision = "none"  # it inherits then, and that may be what it did
    if owner.fp32_precision != before:
        owner.fp32_precision = before


_DEFAULTS = _Shared(_float32, _full_products, _full_convolutions_on_cpus)
_CONVOLUTIONS = _Shared(_full_convolutions_on_gpus)
