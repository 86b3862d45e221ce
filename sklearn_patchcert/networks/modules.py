"""Networks: torch modules, images (n, C, H, W) to outputs (n, n_outputs)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_SIDE = 56  # pixels along the shorter side that large pictures are brought to by a stride


class PatchConvNet(nn.Module):
    """A small convolutional network: four convolutions, two poolings, two dense layers.

    It is made for images of any size from one pixel up, on any scale: the first thing it does is to
    standardize its input with the statistics that it is given.

    Parameters
    ----------
    image_shape : tuple (H, W, C)
    n_outputs : int
    mean, std : sequence of float (C,)
        Of the channels of the training images.
    width : int
        Channels of the first two convolutions; the others have twice as many.
    hidden : int
        Width of the dense layer.
    stride : int or None
        Of the first convolution, whose kernel grows with it.  None: 1 up to 112 pixels along the
        shorter side, and beyond what leaves about 56, so that memory does not grow with the
        picture.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks import PatchConvNet
    >>> PatchConvNet((8, 8, 1), n_outputs=10)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        n_outputs: int,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        width: int = 32,
        hidden: int = 128,
        stride: int | None = None,
    ) -> None:
        super().__init__()
        height, wide, channels = image_shape
        _keep_statistics(self, mean, std)
        if stride is None:
            stride = max(1, min(height, wide) // _SIDE)
        self.features = nn.Sequential(
            *_block(channels, width, stride),
            *_block(width, width),
            nn.MaxPool2d(2, ceil_mode=True),
            *_block(width, 2 * width),
            *_block(2 * width, 2 * width),
            nn.MaxPool2d(2, ceil_mode=True),
        )
        grid = [min(4, math.ceil(side / (4 * stride))) for side in (height, wide)]
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d((grid[0], grid[1])),
            nn.Flatten(),
            nn.Linear(2 * width * grid[0] * grid[1], hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits or values.

        Parameters
        ----------
        images : Tensor (n, C, H, W)

        Returns
        -------
        outputs : Tensor (n, n_outputs)
        """
        return self.head(self.features((images - self.mean) / self.std))


class PatchResNet(nn.Module):
    """A residual network on the grid of patches, fast for images made of tokens.

    One convolution with stride and kernel of a patch, which for tokens is a table, residual 3x3
    convolutions on the grid, two dense layers.  A row of the grid costs one of the pixels divided
    by the area of a patch, so many configurations can be looked at in a second.

    Parameters
    ----------
    image_shape : tuple (H, W, C)
    n_outputs : int
    mean, std : sequence of float (C,)
        Of the channels of the training images.
    patch_size : tuple (ph, pw) or int
    width : int
        Channels on the grid.
    depth : int
        Residual convolutions.
    hidden : int
        Width of the dense layer.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks import PatchResNet
    >>> PatchResNet((8, 8, 1), n_outputs=10, patch_size=2)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        n_outputs: int,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        patch_size: int | tuple[int, int] = 4,
        width: int = 64,
        depth: int = 2,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        _keep_statistics(self, mean, std)
        ph, pw = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
        rows, cols = -(-image_shape[0] // ph), -(-image_shape[1] // pw)
        self.border = 0, cols * pw - image_shape[1], 0, rows * ph - image_shape[0]
        self.stem = nn.Conv2d(image_shape[2], width, (ph, pw), stride=(ph, pw))
        self.place = nn.Parameter(torch.zeros(width, rows, cols))
        self.blocks = nn.ModuleList(nn.Sequential(*_block(width, width)) for _ in range(depth))
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(width * rows * cols, hidden, bias=False),
            _BatchNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits or values.

        Parameters
        ----------
        images : Tensor (n, C, H, W)

        Returns
        -------
        outputs : Tensor (n, n_outputs)
        """
        images = functional.pad((images - self.mean) / self.std, self.border)
        x = self.stem(images) + self.place
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class _OnPixels(nn.Module):
    """A network on standardized pixels; where `mirror` says so, of the mirror image, too."""

    mirror: bool
    mean: Tensor
    std: Tensor

    def _outputs(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits or values.

        Parameters
        ----------
        images : Tensor (n, C, H, W)

        Returns
        -------
        outputs : Tensor (n, n_outputs)
        """
        images = (images - self.mean) / self.std
        outputs = self._outputs(images)
        if self.mirror and not self.training:
            outputs = (outputs + self._outputs(images.flip(3))) / 2
        return outputs


class ImageResNet(_OnPixels):
    """A residual network on pixels, small and strong, for images of about 28 or 32 pixels.

    A convolution, three that double the channels and halve the sides, a residual block of two
    convolutions behind the first and the last of these (the layout of the fast CIFAR-10 networks
    of DAWNBench; residual blocks: He, Zhang, Ren, Sun, CVPR 2016).

    Parameters
    ----------
    image_shape : tuple (H, W, C)
    n_outputs : int
    mean, std : sequence of float (C,)
        Of the channels of the training images.
    width : int
        Channels of the first convolution; the last has eight times as many.
    mirror : bool
        Whether to predict the mean of the outputs for an image and for its mirror image.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks import ImageResNet
    >>> ImageResNet((8, 8, 1), n_outputs=10, width=4)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        n_outputs: int,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        width: int = 32,
        mirror: bool = False,
    ) -> None:
        super().__init__()
        _keep_statistics(self, mean, std)
        self.mirror = mirror
        self.features = nn.Sequential(
            *_block(image_shape[2], width),
            *_block(width, 2 * width),
            nn.MaxPool2d(2, ceil_mode=True),
            _Residual(2 * width),
            *_block(2 * width, 4 * width),
            nn.MaxPool2d(2, ceil_mode=True),
            *_block(4 * width, 8 * width),
            nn.MaxPool2d(2, ceil_mode=True),
            _Residual(8 * width),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(8 * width, n_outputs)
        self.to(memory_format=torch.channels_last)  # faster on CPUs: benchmarks/layouts.py

    def _outputs(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class AdditivePatchNet(nn.Module):
    """A network whose logits are sums over blocks of patches.

    So every block has a term of its own, and the certificate of a prediction needs no enumeration:
    see :mod:`networks.additive`.

    Parameters
    ----------
    image_shape : tuple (H, W, C)
    n_outputs : int
    mean, std : sequence of float (C,)
        Of the channels of the training images.
    patch_size : tuple (ph, pw) or int
    block : tuple (int, int) or int
        Patches of a block along each side.
    width : int
        Of the two hidden layers.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks import AdditivePatchNet
    >>> network = AdditivePatchNet((8, 8, 1), n_outputs=10, patch_size=2, block=2)
    >>> network.terms(torch.zeros(5, 1, 8, 8)).shape  # 2 x 2 blocks of 2 x 2 patches
    torch.Size([5, 4, 10])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        n_outputs: int,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        patch_size: int | tuple[int, int] = 4,
        block: int | tuple[int, int] = 2,
        width: int = 128,
    ) -> None:
        super().__init__()
        _keep_statistics(self, mean, std)
        ph, pw = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
        self.patch_size = ph, pw
        self.block = (block, block) if isinstance(block, int) else tuple(block)
        size = ph * self.block[0], pw * self.block[1]
        rows, cols = -(-image_shape[0] // size[0]), -(-image_shape[1] // size[1])
        self.border = 0, cols * size[1] - image_shape[1], 0, rows * size[0] - image_shape[0]
        self.stem = nn.Conv2d(image_shape[2], width, size, stride=size)
        self.place = nn.Parameter(torch.zeros(width, rows, cols))
        self.hidden = nn.Conv2d(width, width, 1)
        blocks = rows * cols
        self.out = nn.Parameter(torch.randn(blocks, width, n_outputs) / width**0.5)

    def terms(self, images: Tensor) -> Tensor:
        """Compute the terms of the blocks, row by row.

        Parameters
        ----------
        images : Tensor (n, C, H, W)

        Returns
        -------
        terms : Tensor (n, blocks, n_outputs)
            Their sum over the blocks is the output.
        """
        images = functional.pad((images - self.mean) / self.std, self.border)
        x = functional.relu(self.stem(images) + self.place)
        x = functional.relu(self.hidden(x)).flatten(2).transpose(1, 2)
        return torch.einsum("nbw,bwo->nbo", x, self.out)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits or values.

        Parameters
        ----------
        images : Tensor (n, C, H, W)

        Returns
        -------
        outputs : Tensor (n, n_outputs)
        """
        return self.terms(images).sum(1)


def _keep_statistics(module, mean, std):
    """Buffers `mean` and `std` (1, C, 1, 1), by which a network standardizes its input."""
    for name, values in (("mean", mean), ("std", std)):
        column = torch.as_tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)
        module.register_buffer(name, column)


def _block(inputs, outputs, stride=1):
    kernel = max(3, 2 * stride - 1)
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return convolution, _BatchNorm(outputs), nn.ReLU()


class _Residual(nn.Module):
    """Two convolutions beside nothing."""

    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(*_block(width, width), *_block(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm, of vectors too; uses its running statistics for a batch of a single value."""

    def _check_input_dim(self, input):
        pass

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(x)
