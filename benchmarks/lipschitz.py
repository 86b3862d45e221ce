"""A network that never moves two images further apart than they are, for whole_image.py.

Nothing is measured here.  What is certified within r of an embedding by such a network is certified
within r of the image: margins of a linear classifier, and distances between prototypes.

Its layers keep the norm of what passes through them, as those of LipNeXt do (Hu, Hu and Fredrikson,
arXiv:2601.18513): parts of the channels move by a pixel, an orthogonal matrix mixes the channels of
every pixel, half of the results become absolute values, and norms over all pixels come last.
Matrices are Cayley transforms of skew-symmetric ones (Trockman and Kolter, ICLR 2021).  After
training they are computed in float64 and divided by their largest singular value.  Arithmetic is
taken to be exact otherwise; certificates are computed in float64.

The learning rate, the margin, the start at the identity and the last norms were compared on 2,000
validation images, in three epochs of one seed each.  All else is a first guess.
"""

import copy
import time

import configurations
import numpy as np
import torch
from prototypes import MOVES
from torch import nn
from torch.nn import functional

from sklearn_patchcert import PatchNetClassifier

ABOVE = 1 + 1e-9  # float64 rounds singular values by less


class Orthogonal(nn.Module):
    """Channels (..., inputs) to (..., outputs) by a part of an orthogonal matrix."""

    def __init__(self, inputs, outputs):
        super().__init__()
        size = max(inputs, outputs)
        self.weight = nn.Parameter(torch.zeros(size, size))
        start = torch.eye(size)
        if inputs != outputs:  # a part of the identity would drop pixels
            start = torch.linalg.qr(torch.randn(size, size))[0]
        self.register_buffer("start", start)
        self.register_buffer("fixed", torch.zeros(outputs, inputs, dtype=torch.float64))

    def cayley(self, weight):
        skew, eye = weight - weight.T, torch.eye(len(weight), dtype=weight.dtype)
        turned = torch.linalg.solve(eye + skew, eye - skew) @ self.start.to(weight.dtype)
        return turned[: len(self.fixed), : self.fixed.shape[1]]

    @torch.no_grad()
    def fix(self):
        matrix = self.cayley(self.weight.double())
        self.fixed.copy_(matrix / (torch.linalg.matrix_norm(matrix, 2) * ABOVE))

    def train(self, mode=True):
        if self.training and not mode:  # the weight has changed
            self.fix()
        return super().train(mode)

    def forward(self, x):
        matrix = self.fixed
        if self.training:
            with torch.autocast("cpu", enabled=False):
                matrix = self.cayley(self.weight)
        return functional.linear(x, matrix.to(x.dtype))


class HalfAbsolute(torch.autograd.Function):
    """Absolute values of the last half of the channels."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        found = x.clone()
        found[..., x.shape[-1] // 2 :].abs_()
        return found

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        slope, half = slope.clone(), x.shape[-1] // 2
        slope[..., half:].mul_(x[..., half:].sign())
        return slope


class Layer(nn.Module):
    """Move, mix, fold: images (n, side, side, channels) to the same."""

    def __init__(self, channels, side):
        super().__init__()
        moves, part = torch.zeros(channels, 1, 3, 3), channels // 8
        for k, (row, column) in enumerate(((0, 1), (2, 1), (1, 0), (1, 2))):
            moves[k * part : (k + 1) * part, 0, row, column] = 1
        moves[4 * part :, 0, 1, 1] = 1  # half of the channels stay
        self.register_buffer("moves", moves)
        self.mix = Orthogonal(channels, channels)
        self.bias = nn.Parameter(torch.zeros(side, side, channels))

    def forward(self, x):
        x, moves = x.movedim(3, 1), self.moves.to(x.dtype)
        x = functional.conv2d(x, moves, padding=1, groups=len(moves)).movedim(1, 3)
        return HalfAbsolute.apply(self.mix(x) + self.bias.to(x.dtype))


class Halve(nn.Module):
    """Squares of four pixels become one with twice the channels."""

    def __init__(self, channels):
        super().__init__()
        self.mix = Orthogonal(4 * channels, 2 * channels)

    def forward(self, x):
        n, side, _, channels = x.shape
        x = x.reshape(n, side // 2, 2, side // 2, 2, channels).movedim(2, 3)
        return self.mix(x.reshape(n, side // 2, side // 2, 4 * channels))


class LipschitzNet(nn.Module):
    """Images (n, C, H, W) to margins: differences of outputs / sqrt 2 change no faster than x."""

    def __init__(self, image_shape, n_outputs, mean=0.0, width=64, depth=6, levels=3):
        super().__init__()
        side, _, channels = image_shape
        self.register_buffer("mean", torch.as_tensor(np.array(mean), dtype=torch.float32))
        self.fill = width - 4 * channels
        layers = []
        for level in range(levels):
            side //= 2
            if level:
                layers.append(Halve(width * 2 ** (level - 1)))
            layers += [Layer(width * 2**level, side) for _ in range(depth)]
        self.layers = nn.Sequential(*layers)
        channels = width * 2 ** (levels - 1)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.head = nn.Parameter(torch.randn(channels, n_outputs))

    def embed(self, images):
        """Embeddings (n, channels)."""
        x = functional.pixel_unshuffle(images - self.mean.to(images.dtype)[:, None, None], 2)
        x = functional.pad(x, (0, 0, 0, 0, 0, self.fill)).movedim(1, 3).contiguous()
        x = self.layers(x)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        x = (x.square().sum((1, 2)) + 1e-8).sqrt()  # norms over pixels, no further apart either
        return HalfAbsolute.apply(x + self.bias.to(x.dtype))

    def directions(self):
        """Orthonormal columns (channels, outputs) in float64."""
        with torch.autocast("cpu", enabled=False):
            return torch.linalg.qr(self.head.double())[0]

    def forward(self, images):
        x = self.embed(images)
        return x @ self.directions().to(x.dtype)


class MarginLoss(nn.Module):
    """Cross-entropy of outputs from which the right one must stand out."""

    def __init__(self, margin, temperature):
        super().__init__()
        self.margin, self.temperature = margin, temperature

    def forward(self, outputs, y):
        shift = 2**0.5 * self.margin * functional.one_hot(y, outputs.shape[1])
        outputs = (outputs.float() - shift) / self.temperature
        return self.temperature * functional.cross_entropy(outputs, y)


def network(data, epochs):
    """The network as an estimator; images in [0, 1]."""
    return PatchNetClassifier(
        LipschitzNet, criterion=MarginLoss, criterion__margin=0.75, criterion__temperature=0.25,
        optimizer=torch.optim.Adam, lr=0.002, lr_schedule="triangle", max_epochs=epochs,
        batch_size=250, augment=MOVES[data], autocast="auto", random_state=0, device="cpu",
    )  # fmt: skip


@torch.no_grad()
def embedded(net, X, batch_size=250):
    """Embeddings of images (n, H, W, C) in float64, as images (n, 1, channels, 1)."""
    module = copy.deepcopy(net.module_).double().train().eval()  # matrices anew, in float64
    parts = torch.as_tensor(X).movedim(3, 1).double().split(batch_size)
    return torch.cat([module.embed(part) for part in parts])[:, None, :, None].numpy()


def certified(net, X, y, model=None):
    """Predictions and radii of images, L2 over the whole image, in the form of whole_image.py.

    By the margins of the network's own linear classifier, or by a model of its embeddings.
    """
    start = time.perf_counter()
    embeddings = embedded(net, X)
    if model is None:
        prediction, radius = margins(net, embeddings)
    else:
        found = model.certify_prediction(embeddings, cells=True)
        prediction, radius = found.prediction, found.radius
    return {
        "prediction": prediction.tolist(),
        "radius": radius.tolist(),
        "adversarial_norm": np.where(prediction == y, np.inf, 0.0).tolist(),  # none is known
        "patch_radius": None,
        "exact": None,  # these are not measured
        "limited": None,
        "configurations": None,
        "changed_just_inside": None,
        "seconds_per_image": (time.perf_counter() - start) / len(X),
        "seconds_besides_the_network": None,
    }


def margins(net, embeddings):
    """Predictions of the linear classifier, and their certified radii."""
    head = net.module_.directions().detach().numpy()
    outputs = embeddings.reshape(len(embeddings), -1) @ head
    y = outputs.argmax(1)
    at = np.arange(len(y)), y
    own = outputs[at].copy()
    outputs[at] = -np.inf
    apart = np.linalg.norm(head[:, y][:, :, None] - head[:, None], axis=0)
    apart[at] = 1.0
    return net.classes_[y], ((own[:, None] - outputs) / (apart * ABOVE)).min(1)


def prototypes():
    """Prototypes of classes among embeddings."""
    return configurations.prototypes(0, 500, target=0.3, epochs=10, augment=None)
