"""A network on pixels that learns in few passes: torch modules, images (n, C, H, W) to outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_patchcert.networks.modules import _BatchNorm, _keep_statistics, _OnPixels


class WhiteningConvNet(_OnPixels):
    """A convolutional network on pixels whose first layer whitens, for images of about 32 pixels.

    The layout is Jordan's (arXiv:2404.00498, 2024), which learns CIFAR-10 in fewer operations than
    residual networks of its size: patches of 2x2 pixels are whitened by filters that are not
    trained, and enter with both signs; three stages of a convolution, a pooling and a second
    convolution follow, which start as identities.  Here the filters are the fixed 2x2x2 products of
    Haar and cosine functions, whose outputs, nearly uncorrelated in natural images, batch
    statistics bring to unit variance, so the network needs no look at the data beforehand.

    Parameters
    ----------
    image_shape : tuple (H, W, C)
    n_outputs : int
    mean, std : sequence of float (C,)
        Of the channels of the training images.
    width : int
        Channels of the first stage; the two others have four times as many.
    mirror : bool
        Whether to predict the mean of the outputs for an image and for its mirror image.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks import WhiteningConvNet
    >>> WhiteningConvNet((8, 8, 1), n_outputs=10, width=4)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    filters: torch.Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        n_outputs: int,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        width: int = 64,
        mirror: bool = False,
    ) -> None:
        super().__init__()
        _keep_statistics(self, mean, std)
        self.mirror = mirror
        height, wide, channels = image_shape
        self.border = 0, int(wide == 1), 0, int(height == 1)
        self.register_buffer("filters", _whitening_filters(channels))
        self.whiten = _BatchNorm(4 * channels, affine=False)
        self.bias = nn.Parameter(torch.zeros(8 * channels, 1, 1))
        size = max(1, height - 1), max(1, wide - 1)
        stages: list[nn.Module] = []
        inputs = 8 * channels
        for outputs in (width, 4 * width, 4 * width):
            pool = min(2, size[0]), min(2, size[1])
            stages += _stage(inputs, outputs, pool)
            inputs, size = outputs, (size[0] // pool[0], size[1] // pool[1])
        self.stages = nn.Sequential(*stages, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.head = nn.Linear(inputs, n_outputs, bias=False)
        self.to(memory_format=torch.channels_last)  # faster on CPUs: benchmarks/layouts.py

    def _outputs(self, images: Tensor) -> Tensor:
        x = functional.conv2d(functional.pad(images, self.border), self.filters)
        x = self.whiten(x)
        x = functional.gelu(torch.cat([x, -x], 1) + self.bias)
        return self.head(self.stages(x)) / 9  # small at the start


def _whitening_filters(channels):
    """Orthonormal filters (4 C, C, 2, 2): sums and differences of pixels, cosines over channels."""
    haar = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)
    steps = torch.arange(channels, dtype=torch.float32)
    cosines = torch.cos(math.pi / channels * (steps + 0.5) * steps[:, None])
    cosines = functional.normalize(cosines, dim=1)
    filters = torch.einsum("ki,lj,mc->klmcij", haar, haar, cosines)
    return filters.reshape(4 * channels, channels, 2, 2)


def _stage(inputs, outputs, pool):
    first, second = (nn.Conv2d(n, outputs, 3, padding=1, bias=False) for n in (inputs, outputs))
    for layer in (first, second):
        nn.init.dirac_(layer.weight.data[: layer.in_channels])
    norms = _BatchNorm(outputs), _BatchNorm(outputs)
    for norm in norms:
        norm.weight.requires_grad_(False)  # the next layer has a scale
    return (
        first, nn.MaxPool2d(pool), norms[0], nn.GELU(), second, norms[1], nn.GELU(),
    )  # fmt: skip
