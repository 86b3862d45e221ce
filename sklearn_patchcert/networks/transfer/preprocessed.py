"""Resizing and normalization inside of a network, so that they are part of what is certified."""

from __future__ import annotations

import torch
from torch import nn


class Preprocessed(nn.Module):
    """A network that resizes and normalizes its images first.

    Pretrained networks expect images of a certain size, with the mean and the standard deviation
    of their training data taken out.  Here both happen inside of the module.  Images, radii and the
    budgets of attacks stay in the units of X, normally [0, 1].

    Parameters
    ----------
    module : torch.nn.Module
        Takes images (n, C, H, W).
    mean, std : sequence of float (C,) or None, default=None
        Per channel, in the units of X: ``(x - mean) / std``.  None: 0 and 1.  A gray image becomes
        one of as many equal channels as `mean` or `std` has values.
    size : int or tuple (H, W) or None, default=None
        Size that images are brought to.  One number means a square, not the shorter side as in
        torchvision.  None: the images stay as they are.
    interpolation : {"bilinear", "bicubic", "nearest"}, default="bilinear"
        How to resize, antialiased except for "nearest".

    Raises
    ------
    ValueError
        If an option has a wrong length or value, or if images have another number of channels.

    Notes
    -----
    Parameters of the network are called ``module.…``, which counts for the patterns of `trainable`.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklearn_patchcert.networks import Preprocessed
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5))
    >>> ready = Preprocessed(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=16)
    >>> ready(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, module, mean=None, std=None, size=None, interpolation="bilinear") -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be an instance of torch.nn.Module, got {module!r:.80}.")
        if interpolation not in ("bilinear", "bicubic", "nearest"):
            raise ValueError(
                f'interpolation must be "bilinear", "bicubic" or "nearest", got {interpolation!r}.'
            )
        self.module, self.interpolation = module, interpolation
        self.size = None if size is None else _pair(size)
        self.register_buffer("mean", _values("mean", mean, 0.0))
        self.register_buffer("std", _values("std", std, 1.0))
        if not (self.std > 0).all():
            raise ValueError(f"std must be positive, got {std!r}.")
        lengths = {len(self.mean), len(self.std)} - {1}
        if len(lengths) > 1:
            raise ValueError(f"mean and std have different lengths, {mean!r} and {std!r}.")
        self.n_channels = max(lengths, default=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Resize, normalize, and compute the outputs of the network.

        Parameters
        ----------
        images : Tensor (n, C, H, W)

        Returns
        -------
        outputs : Tensor
        """
        if self.n_channels > 1 and images.shape[1] not in (1, self.n_channels):
            raise ValueError(
                f"The images have {images.shape[1]} channels, but mean and std are those of "
                f"{self.n_channels}."
            )
        if self.size is not None and tuple(images.shape[2:]) != self.size:
            kind, smooth = images.dtype, self.interpolation != "nearest"
            if kind.is_floating_point:  # torch resizes no half precision on the CPU
                images = images.to(torch.promote_types(kind, torch.float32))
            images = nn.functional.interpolate(
                images, self.size, mode=self.interpolation, antialias=smooth,
                align_corners=False if smooth else None,
            ).to(kind)  # fmt: skip
        return self.module((images - self.mean[:, None, None]) / self.std[:, None, None])

    def extra_repr(self) -> str:
        """Options, for the text of the module.

        Returns
        -------
        text : str
        """
        mean, std = self.mean.tolist(), self.std.tolist()
        return f"{mean=}, {std=}, size={self.size}, interpolation={self.interpolation!r}"


def _values(name, given, default):
    values = torch.as_tensor([default] if given is None else given, dtype=torch.float32).reshape(-1)
    if not len(values) or not values.isfinite().all():
        raise ValueError(f"{name} must be finite numbers, one for each channel, got {given!r}.")
    return values.clone()


def _pair(size):
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise ValueError(f"size must be a positive integer or a pair (H, W), got {size!r}.")
    return pair
