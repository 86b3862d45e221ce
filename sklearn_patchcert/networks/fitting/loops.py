"""How the networks go over their data: batches, and the learning rate along the way."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Set

import torch
from sklearn.base import is_classifier
from skorch.callbacks import Callback, ProgressBar

from sklearn_patchcert.networks.fitting.callbacks import sets_rates


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
        return count_parts(len(self.dataset), self.batch_size)

    def __iter__(self):
        n = len(self.dataset)
        order = torch.randperm(n) if self.shuffle else torch.arange(n)
        for batch in order.tensor_split(len(self)):
            X, y = self.dataset[batch.numpy()]
            if isinstance(X, dict):  # with weights
                yield {name: torch.from_numpy(part) for name, part in X.items()}, torch.as_tensor(y)
            else:
                yield torch.from_numpy(X), torch.as_tensor(y)


def count_parts(n, size):
    """Into how many parts of at most `size` images n are split, so that none has a single one."""
    return min(-(-n // size), max(1, n // min(2, size)))


SCHEDULES = ("cosine", "triangle", None)


class Schedule(Callback):
    """Change the learning rate, as `lr_schedule` says, within each call of fit or partial_fit.

    An LRScheduler of skorch among the callbacks has it for itself.
    """

    def on_train_begin(self, net, **kwargs):
        self.epoch_ = -1
        for group in net.optimizer_.param_groups:
            group["initial_lr"] = group["lr"]

    def on_train_end(self, net, **kwargs):
        for group in net.optimizer_.param_groups:
            group["lr"] = group.pop("initial_lr", group["lr"])

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        self.epoch_ += 1
        self.step_ = 0
        self.steps_ = steps(net, dataset_train)
        for group in net.optimizer_.param_groups:
            group.setdefault("initial_lr", group["lr"])  # a callback may have loaded a state

    def on_batch_begin(self, net, training=False, **kwargs):
        if not training or net.lr_schedule is None or sets_rates(net.callbacks_):
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


def refuse_streams(net, X):
    """Refuse a DataLoader, a Dataset or another stream of batches, and say what to do with it.

    Raises
    ------
    TypeError
    """
    if hasattr(X, "shape") or hasattr(X, "__array__") or hasattr(X, "getbands"):
        return
    if isinstance(X, list | tuple | str | bytes | os.PathLike | Mapping | Set):
        return
    if not (isinstance(X, Iterator) or hasattr(X, "__iter__") or hasattr(X, "__getitem__")):
        return
    loader = "DataLoader(X, batch_size=128)" if isinstance(X, torch.utils.data.Dataset) else "X"
    classes = ", classes=classes" if is_classifier(net) else ""
    raise TypeError(
        f"X must be an array of images, {type(net).__name__} got {type(X).__name__}. Train batch "
        f"by batch, with max_epochs=1 and lr_schedule=None: for images, y in {loader}: "
        f"net.partial_fit(np.moveaxis(np.asarray(images), 1, -1), y{classes}). Channels come last. "
        "Images that fit into memory can be put together instead, with np.concatenate, for fit."
    )
