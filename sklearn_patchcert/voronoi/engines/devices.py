"""Where a certificate is computed: what ``device="auto"`` means, and what a device must have."""

from __future__ import annotations

import functools
import math

import torch

LEAST_WORK = math.inf  # multiplications from which a GPU wins; no GPU has been measured


def gpu_wins(n, dim, n_tokens):
    """Whether ``device="auto"`` leaves the CPU for a certificate of this size.

    The rule: at least `LEAST_WORK` multiplications, n * dim * n_tokens.  Copies to the device and
    the start of a few hundred kernels must be outweighed by the first pass, whose work this is.
    The constant is infinite, so "auto" stays on the CPU, until ``benchmarks/gpu.py`` has shown on
    a GPU from where on it is faster than all cores of the same machine.

    Parameters
    ----------
    n : int
        Number of patches.
    dim : int
    n_tokens : int

    Returns
    -------
    wins : bool
    """
    return n * dim * n_tokens >= LEAST_WORK


def resolved(device, n, dim, n_tokens):
    """Device for a certificate: "auto" by the rule of :func:`gpu_wins`, others as they are."""
    if not (isinstance(device, str) and device == "auto"):
        return device
    gpu = gpu_wins(n, dim, n_tokens) and torch.cuda.is_available() and has_float64("cuda")
    return "cuda" if gpu else "cpu"


@functools.lru_cache
def has_float64(device):
    """Whether a device, given by its name, computes in float64; Apple's MPS does not."""
    try:
        torch.ones(1, dtype=torch.float64, device=device).add_(1)
    except (TypeError, NotImplementedError):
        return False
    except RuntimeError as error:  # as Intel's GPUs; others may pass
        if "fp64" in str(error) or "float64" in str(error):
            return False
        raise
    return True


def check_float64(device):
    """Raise a ValueError with the reason if certificates cannot be computed on a device."""
    if not has_float64(str(device)):
        raise ValueError(
            f"device={str(device)!r} has no float64, in which nearest tokens and radii are "
            'computed: use device="cpu" or device="auto".'
        )
