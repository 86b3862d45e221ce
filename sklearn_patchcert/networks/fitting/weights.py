"""Weights of images and classes: how they enter the loss."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import _check_sample_weight
from torch import nn

_BY_CLASS = nn.CrossEntropyLoss, nn.NLLLoss  # their means divide by the weights of the classes


def check_sample_weight(sample_weight, images):
    """Check the weights of images, and find the images that count.

    Parameters
    ----------
    sample_weight : array-like (n,), number or None
    images : ndarray (n, H, W, C)

    Returns
    -------
    weight : ndarray of float64 (n_kept,) or None
        None where all are the same.
    kept : ndarray of int (n_kept,) or None
        Images with a positive weight; None where these are all.

    Raises
    ------
    ValueError
        If a weight is negative, or none is positive.
    """
    if sample_weight is None:
        return None, None
    weight = _check_sample_weight(sample_weight, images, dtype=np.float64)
    if (weight < 0).any():
        raise ValueError(
            f"Negative values in sample_weight: weights must be 0 or more, got {weight.min():g}."
        )
    kept = np.flatnonzero(weight)
    if not len(kept):
        raise ValueError("sample_weight is zero for all images: at least one must be positive.")
    return weight[kept], (None if len(kept) == len(weight) else kept)


def with_classes(weight, class_weight, classes, target):
    """Weights of images, times those of their classes.

    Parameters
    ----------
    weight : ndarray (n,) or None
    class_weight : None, "balanced" or dict of label to weight
        "balanced" are weights by which all classes weigh the same, with those of the images.
    classes : ndarray (n_classes,)
    target : ndarray of int (n,)
        Places of the labels among the classes.

    Returns
    -------
    weight : ndarray of float64 (n,) or None

    Raises
    ------
    ValueError
        If `class_weight` is none of these, has unknown labels or a weight below 0.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.networks.fitting.weights import with_classes
    >>> with_classes(None, "balanced", np.array(["a", "b"]), np.array([0, 0, 0, 1]))
    array([0.66666667, 0.66666667, 0.66666667, 2.        ])
    """
    if class_weight is None:
        return weight
    if isinstance(class_weight, str) and class_weight == "balanced":
        sums = np.bincount(target, weights=weight, minlength=len(classes))
        found = sums.sum() / (len(classes) * np.where(sums > 0, sums, 1))
    elif isinstance(class_weight, dict):
        unknown = [label for label in class_weight if label not in classes]
        if unknown:
            raise ValueError(f"class_weight has labels that are not among the classes: {unknown}.")
        found = compute_class_weight(class_weight, classes=classes, y=classes[target])
    else:
        raise ValueError(
            f'class_weight must be None, "balanced" or a dict of weights, got {class_weight!r}.'
        )
    if not np.isfinite(found).all() or (found < 0).any() or not found[target].any():
        raise ValueError(
            f"The weights of class_weight must be 0 or more, not all 0, got {class_weight!r}."
        )
    return found[target] * (1.0 if weight is None else weight)


def check_criterion(criterion, why="sample_weight and class_weight"):
    """Refuse a loss that cannot tell its value for each image, and say what needs it.

    Raises
    ------
    ValueError
        If it has no `reduction`.
    """
    if not hasattr(_own(criterion), "reduction"):
        name = type(_own(criterion)).__name__
        raise ValueError(
            f"{why} need the loss of each image, so the criterion must have a `reduction` that can "
            f'be "none", as the losses of torch.nn have. {name} has none: leave out {why}, or take '
            "another criterion."
        )


def weighted_loss(criterion, compute, target, weight):
    """Weighted mean of the losses of a batch.

    Parameters
    ----------
    criterion : nn.Module
        With a `reduction`.
    compute : callable
        Asks the criterion for the losses.
    target : Tensor (n, ...)
    weight : Tensor (n,)
        With a mean of 1 over all images of the training.

    Returns
    -------
    loss : Tensor

    Raises
    ------
    ValueError
        If the criterion has not one loss or more for each image.
    """
    own = _own(criterion)
    by_image = losses_by_image(criterion, compute, len(weight), "sample_weight and class_weight")
    reduction, weight = own.reduction, weight.to(by_image.device, by_image.dtype)
    if reduction == "sum":
        return (by_image.sum(1) * weight).sum()
    if isinstance(own, _BY_CLASS) and own.weight is not None and target.ndim == 1:
        return (by_image[:, 0] * weight).sum() / own.weight[target.to(own.weight.device)].sum()
    return (by_image.mean(1) * weight).mean()


def losses_by_image(criterion, compute, n, why):
    """Losses of each image, whose mean the criterion would return.

    Parameters
    ----------
    criterion : nn.Module
    compute : callable
        Asks the criterion for the losses.
    n : int
        Images.
    why : str
        What needs them, for the message.

    Returns
    -------
    losses : Tensor (n, losses of an image)

    Raises
    ------
    ValueError
        If the criterion has not one loss or more for each image.
    """
    own = _own(criterion)
    check_criterion(criterion, why)
    loss, reduction = None, own.reduction
    own.reduction = "none"
    try:
        loss = compute()
    finally:
        own.reduction = reduction
    if loss.ndim == 0 or len(loss) != n:
        raise ValueError(
            f"{type(own).__name__} has losses of the shape {tuple(loss.shape)} for {n} images "
            f'where reduction="none": {why} need one for each image.'
        )
    return loss.reshape(n, -1)


def shares_of(criterion, targets, weighted):
    """What the mean losses of the parts of a batch count in the loss of the batch.

    Parameters
    ----------
    criterion : nn.Module
    targets : list of Tensor (n, ...)
        Of the parts.
    weighted : bool
        Whether the losses are those of :func:`weighted_loss`.

    Returns
    -------
    shares : list of float or None
        None if the criterion has no `reduction`, so that it cannot be told.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks.fitting.weights import shares_of
    >>> shares_of(torch.nn.MSELoss(), [torch.zeros(3, 1), torch.zeros(1, 1)], False)
    [0.75, 0.25]
    """
    own = _own(criterion)
    if not hasattr(own, "reduction"):
        return None
    if own.reduction == "sum":
        return [1.0] * len(targets)
    sizes = [float(len(target)) for target in targets]
    if isinstance(own, _BY_CLASS) and targets[0].ndim == 1:
        sizes = [_mass(own, target.cpu(), weighted) for target in targets]
    whole = sum(sizes)
    return [size / whole if whole else 1.0 for size in sizes]


def _mass(own, target, weighted):
    """By what a mean over targets that are classes divides."""
    if not weighted:
        target = target[target != own.ignore_index]
    return float(len(target) if own.weight is None else own.weight.cpu()[target].sum())


class WeightedBatches:
    """Batches as the network knows them, of batches that have weights, too.

    Parameters
    ----------
    batches : iterable of (X, y)
        X may be a dict of "images" and "weight".
    take : callable
        Is given the weights of each batch before that is handed on.
    """

    def __init__(self, batches, take):
        self.batches, self.take = batches, take

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for X, y in self.batches:
            if isinstance(X, dict):
                self.take(torch.as_tensor(X["weight"]))
                X = X["images"]
            yield X, y


def _own(criterion):
    return getattr(criterion, "_orig_mod", criterion)  # what torch.compile wraps
