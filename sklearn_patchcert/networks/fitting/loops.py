"""How the networks go over their data: batches, and the learning rate along the way."""

from __future__ import annotations

import math

import torch
from skorch.callbacks import Callback, ProgressBar


class BatchIterator:
    """Batches of nearly equal size, each indexed at once.

    No batch has a single image, of which batch normalization could not be trained: where one would
    be left over, batches are joined, so that one has 3 images though `batch_size` is 2.  Only
    with `batch_size=1` or a single image do batches have one.  No time goes into collating images
    one by one, as a DataLoader does.

    Parameters
    ----------
    dataset : torch Dataset
        Indexed with an integer array: skorch's Dataset of arrays, or a Subset of one.
    batch_size : int
        Upper bound on the images of a batch, but for that.
    shuffle : bool
        Whether to draw a new order, from torch's global generator, in every pass.
    """

    def __init__(self, dataset, batch_size, shuffle=False):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self):
        n = len(self.dataset)
        return min(-(-n // self.batch_size), max(1, n // min(2, self.batch_size)))

    def __iter__(self):
        n = len(self.dataset)
        order = torch.randperm(n) if self.shuffle else torch.arange(n)
        for batch in order.tensor_split(len(self)):
            X, y = self.dataset[batch.numpy()]
            yield torch.from_numpy(X), torch.as_tensor(y)


SCHEDULES = ("cosine", "triangle", None)


class Schedule(Callback):
    """Change the learning rate, as `lr_schedule` says, within each call of fit or partial_fit."""

    def on_train_begin(self, net, **kwargs):
        self.epoch_ = -1
        for group in net.optimizer_.param_groups:
            group["initial_lr"] = group["lr"]

    def on_train_end(self, net, **kwargs):
        for group in net.optimizer_.param_groups:
            group["lr"] = group.pop("initial_lr")

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        self.epoch_ += 1
        self.step_ = 0
        self.steps_ = steps(net, dataset_train)

    def on_batch_begin(self, net, training=False, **kwargs):
        if not training or net.lr_schedule is None:
            return
        done = min(1.0, (self.epoch_ + self.step_ / self.steps_) / net.max_epochs)
        for group in net.optimizer_.param_groups:
            group["lr"] = group["initial_lr"] * _height(net.lr_schedule, done)
        self.step_ += 1


def steps(net, dataset):
    """How many batches a pass over the training images has."""
    size = net.get_params_for("iterator_train").get("batch_size", net.batch_size)
    return 1 if size == -1 else math.ceil(len(dataset) / size)


def _height(schedule, done):
    """Part of the learning rate at a point of the training, in [0, 1]."""
    if schedule == "cosine":
        return 0.5 + 0.5 * math.cos(math.pi * done)
    return min(0.2 + 0.8 * done / 0.23, 1 - 0.93 * (done - 0.23) / 0.77)


class EpochBar(ProgressBar):
    """skorch's bar over the batches of an epoch, where the network is verbose."""

    def on_epoch_begin(self, net, **kwargs):
        if net.verbose:
            super().on_epoch_begin(net, **kwargs)

    def on_batch_end(self, net, **kwargs):
        if net.verbose:
            super().on_batch_end(net, **kwargs)

    def on_epoch_end(self, net, **kwargs):
        if net.verbose:
            super().on_epoch_end(net, **kwargs)
