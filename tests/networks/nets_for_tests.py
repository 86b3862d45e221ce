"""Small networks, modules and callbacks that the tests of networks share."""

import torch
from skorch.callbacks import Callback
from torch import nn

from sklearn_patchcert import PatchNetClassifier, PatchNetRegressor
from sklearn_patchcert.networks.modules import PatchConvNet

KINDS = [PatchNetClassifier, PatchNetRegressor]


def make(kind=PatchNetClassifier, **options):
    small = {"max_epochs": 1, "module__width": 8, "module__hidden": 16, "random_state": 0}
    if options.get("module", PatchConvNet) is not PatchConvNet:
        small = {"max_epochs": 1, "random_state": 0}
    return kind(**{**small, **options})


def weights(net):
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def same_weights(first, second):
    first, second = (net if isinstance(net, dict) else weights(net) for net in (first, second))
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def output(net, X):
    return net.predict_proba(X) if hasattr(net, "predict_proba") else net.predict(X)


class Bare(nn.Module):
    """Takes nothing from the data."""

    def __init__(self, hidden=8):
        super().__init__()
        self.dropout, self.first = nn.Dropout(0.5), nn.Linear(64, hidden)
        self.last = nn.Linear(hidden, 10)

    def forward(self, images):
        return self.last(self.dropout(self.first(images.flatten(1) / 16).relu()))


class Told(nn.Module):
    """Takes everything that is known of the data."""

    def __init__(self, image_shape, n_outputs, mean, std):
        super().__init__()
        self.told = {"image_shape": image_shape, "n_outputs": n_outputs, "mean": mean, "std": std}
        height, width, channels = image_shape
        self.last = nn.Linear(height * width * channels, n_outputs)

    def forward(self, images):
        return self.last(images.flatten(1))


class OnePixel(nn.Module):
    """Sees the pixel in row 1 and column 2 of every channel, and learns nothing."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, images):
        return images[:, :, 1, 2] + 0 * self.nothing


class Rates(Callback):
    """Records the learning rate of every training step."""

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            net.history.record_batch("rate", net.optimizer_.param_groups[0]["lr"])


class Orders(Callback):
    """Records the labels of every batch."""

    def on_batch_end(self, net, batch=None, **kwargs):
        net.history.record_batch("labels", batch[1].tolist())


class Stumble(Callback):
    """Fails in the second epoch."""

    def on_epoch_end(self, net, **kwargs):
        if net.history[-1]["epoch"] > 1:
            raise ArithmeticError("stumbled")
