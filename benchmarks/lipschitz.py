"""A network that never moves two images further apart than they are, for whole_image.py.

Nothing is measured here.  What is certified within r of an embedding by such a network is certified
within r of the image: margins of a linear classifier, and distances between prototypes.

The layers are convex potential layers, x - 2 / B^2 W' relu(W x + b) with B >= |W| (Meunier,
Delattre, Araujo and Allauzen, ICML 2022), and linear maps W x / B.  In training |W| is followed by
power iteration.  Afterwards B is the largest singular value in float64: a convolution of an image
with a border of zeros is part of one on a circle that is a pixel larger, which a Fourier transform
splits into small matrices.  Arithmetic is taken to be exact otherwise; certificates are computed in
float64.

The learning rate lies between two that were level on 500 validation images after a short training.
All else is a first guess.
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

SIDE = 8  # an embedding has SIDE x SIDE numbers
ABOVE = 1 + 1e-9  # float64 rounds singular values by less


class Bounded(nn.Module):
    """A linear map with a bound of its norm: estimated in training, exact afterwards."""

    def __init__(self, inputs, outputs, side=None):
        super().__init__()
        self.side = side
        kernel, space = ((), ()) if side is None else ((3, 3), (side, side))
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *kernel))
        if side is None:
            nn.init.orthogonal_(self.weight)
        else:
            nn.init.kaiming_normal_(self.weight)
        self.register_buffer("direction", functional.normalize(torch.randn(1, inputs, *space)))
        self.register_buffer("bound", torch.tensor(torch.nan, dtype=torch.float64))

    def there(self, x, bias=None):
        weight = self.weight.to(x.dtype)
        if self.side is None:
            return functional.linear(x, weight, bias)
        return functional.conv2d(x, weight, bias, padding=1)

    def back(self, x):
        weight = self.weight.to(x.dtype)
        return (
            x @ weight if self.side is None else functional.conv_transpose2d(x, weight, padding=1)
        )

    def norm(self):
        """Bound of the norm, with a gradient in training."""
        if not self.training:
            return self.bound
        with torch.autocast("cpu", enabled=False):
            with torch.no_grad():
                x = self.back(self.there(self.direction))
                self.direction.copy_(x / x.norm())
            return self.there(self.direction).norm()

    @torch.no_grad()
    def set_bound(self):
        weight = self.weight.double()
        if self.side is not None:
            around = self.side + 1, self.side + 1
            weight = torch.fft.rfft2(weight, s=around).permute(2, 3, 0, 1)
        self.bound.fill_(float(torch.linalg.matrix_norm(weight, 2).max()) * ABOVE)


class Scaled(Bounded):
    """W x / B."""

    def forward(self, x):
        return self.there(x) / self.norm().to(x.dtype)


class Potential(Bounded):
    """x - 2 / B^2 W' relu(W x + b)."""

    def __init__(self, channels, side=None):
        super().__init__(channels, channels, side)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        inner = functional.relu(self.there(x, self.bias.to(x.dtype)))
        return x - (2 / self.norm() ** 2).to(x.dtype) * self.back(inner)


class Halve(nn.Module):
    """Squares of four pixels become one with twice the channels."""

    def __init__(self, channels):
        super().__init__()
        self.mix = Scaled(4 * channels, 2 * channels)

    def forward(self, x):
        x = functional.pixel_unshuffle(x, 2).movedim(1, 3)
        return self.mix(x).movedim(3, 1)


class LipschitzNet(nn.Module):
    """Images (n, C, H, W) to margins: differences of outputs / sqrt 2 change no faster than x."""

    def __init__(self, image_shape, n_outputs, mean=0.0, width=32, depth=3, levels=3, dense=512):
        super().__init__()
        side, _, channels = image_shape
        self.register_buffer("mean", torch.as_tensor(np.array(mean), dtype=torch.float32))
        self.fill = width - 4 * channels
        side //= 2
        layers = []
        for level in range(levels):
            layers += [Potential(width * 2**level, side) for _ in range(depth)]
            if level < levels - 1:
                layers.append(Halve(width * 2**level))
                side //= 2
        self.layers = nn.Sequential(*layers)
        inputs = width * 2 ** (levels - 1) * side**2
        self.last = nn.Sequential(
            Scaled(inputs, dense), Potential(dense), Potential(dense), Scaled(dense, SIDE**2)
        )
        self.head = nn.Parameter(torch.randn(SIDE**2, n_outputs))

    def embed(self, images):
        """Embeddings (n, SIDE * SIDE)."""
        x = images - self.mean.to(images.dtype)[:, None, None]
        x = functional.pixel_unshuffle(x, 2)
        x = functional.pad(x, (0, 0, 0, 0, 0, self.fill))
        x = self.layers(x.contiguous(memory_format=torch.channels_last))
        return self.last(x.flatten(1))

    def forward(self, images):
        with torch.autocast("cpu", enabled=False):
            head = torch.linalg.qr(self.head.double())[0]  # orthonormal columns
        x = self.embed(images)
        return x @ head.to(x.dtype)

    def train(self, mode=True):
        if self.training and not mode:  # the weights have changed
            for part in self.modules():
                if isinstance(part, Bounded):
                    part.set_bound()
        return super().train(mode)


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
        LipschitzNet, criterion=MarginLoss, criterion__margin=0.28, criterion__temperature=0.1,
        optimizer=torch.optim.Adam, lr=0.005, lr_schedule="triangle", max_epochs=epochs,
        batch_size=250, augment=MOVES[data], autocast="auto", random_state=0,
    )  # fmt: skip


@torch.no_grad()
def embedded(net, X, batch_size=250):
    """Embeddings of images (n, H, W, C) in float64, as images (n, SIDE, SIDE, 1)."""
    module = copy.deepcopy(net.module_).eval().double()  # back in float32, bounds would be rounded
    parts = torch.as_tensor(X).movedim(3, 1).double().split(batch_size)
    return torch.cat([module.embed(part) for part in parts]).reshape(-1, SIDE, SIDE, 1).numpy()


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
    head = torch.linalg.qr(net.module_.head.detach().double())[0].numpy()
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
