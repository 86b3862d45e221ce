"""Networks: torch modules, images (n, C, H, W) to outputs (n, n_outputs)."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


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
    """

    def __init__(self, image_shape, n_outputs, mean=(0.0,), std=(1.0,), width=32, hidden=128):
        super().__init__()
        height, wide, channels = image_shape
        for name, values in (("mean", mean), ("std", std)):
            column = torch.as_tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)
            self.register_buffer(name, column)
        self.features = nn.Sequential(
            *_block(channels, width),
            *_block(width, width),
            nn.MaxPool2d(2, ceil_mode=True),
            *_block(width, 2 * width),
            *_block(2 * width, 2 * width),
            nn.MaxPool2d(2, ceil_mode=True),
        )
        grid = min(4, math.ceil(height / 4)), min(4, math.ceil(wide / 4))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(grid),
            nn.Flatten(),
            nn.Linear(2 * width * grid[0] * grid[1], hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_outputs),
        )

    def forward(self, images):
        """Images (n, C, H, W) to logits or values (n, n_outputs)."""
        return self.head(self.features((images - self.mean) / self.std))


def _block(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), _BatchNorm(outputs), nn.ReLU()


class _BatchNorm(nn.BatchNorm2d):
    """Batch norm that falls back on its running statistics for a batch of a single value."""

    def forward(self, x):
        if self.training and x.numel() == x.shape[1]:
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(x)
