"""A network that sees one channel sharply and the others coarsely, for the tables of the poster.

Where a channel has few tokens of single pixels, an attacker flips some of them at little cost, and
each flip is a large step.  Averages over 5x5 pixels make it small, unless many neighbors flip.
"""

import torch
from torch import nn
from torch.nn import functional

from sklearn_patchcert.networks import WhiteningConvNet


class CoarseColorsNet(WhiteningConvNet):
    """The convolutional network of the other rows, of averaged colors and without whitening.

    Whitening would undo the averages: it divides by small standard deviations.

    Parameters
    ----------
    image_shape : tuple (H, W, C)
    n_outputs : int
    mean, std : sequence of float
        Of the training images.
    width : int
    mirror : bool
    sharp : int
        The channel that is seen as it is.
    pixels : int
        Side of the square over which the others are averaged, odd.
    """

    def __init__(
        self, image_shape, n_outputs, mean=(0.0,), std=(1.0,), width=64, mirror=False, sharp=1,
        pixels=5,
    ):  # fmt: skip
        super().__init__(image_shape, n_outputs, mean, std, width, mirror)
        self.whiten = nn.Identity()
        self.pixels = pixels
        chosen = torch.arange(image_shape[2])[:, None, None] == sharp
        self.register_buffer("chosen", chosen, persistent=False)

    def _outputs(self, images):
        padded = functional.pad(images, (self.pixels // 2,) * 4, mode="replicate")
        coarse = functional.avg_pool2d(padded, self.pixels, stride=1)
        return super()._outputs(torch.where(self.chosen, images, coarse))
