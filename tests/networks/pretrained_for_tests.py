"""Modules with and without weights, for the tests of pretrained networks."""

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

from sklearn_patchcert import PatchNetClassifier

DIGITS = load_digits()
X, y = (DIGITS.images[:120] / 16).astype(np.float32), DIGITS.target[:120]
NAMES = np.array([f"class {at * 7 % 10}" for at in range(10)])  # not in the order of sorting


class Small(nn.Module):
    """A backbone with batch normalization of two kinds and dropout, and a head."""

    def __init__(self, n_classes=10, dropout=0.2):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.BatchNorm2d(4, affine=False), nn.Dropout(dropout), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(64, n_classes))

    def forward(self, images):
        return self.head(self.body(images))


class Convolutional(nn.Module):
    """Its last layer is a convolution, pooled."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 10, 1))

    def forward(self, images):
        return self.layers(images).mean((2, 3))


class Around(nn.Module):
    """Has another module inside."""

    def __init__(self, net, rest=()):
        super().__init__()
        net.mark = True  # of whatever it was given
        self.net = net

    def forward(self, images):
        return self.net(images)


def train():
    """A module that knows digits, and its weights."""
    net = PatchNetClassifier(Small, max_epochs=15, lr=0.02, batch_size=20, random_state=0).fit(X, y)
    assert net.score(X, y) > 0.8
    return net.module_


def small(module, **options):
    return PatchNetClassifier(module, **{"max_epochs": 1, "random_state": 0, **options})
