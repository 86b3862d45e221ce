"""A plain torch module as a fitted classifier, so that it can be attacked as it is."""

from __future__ import annotations

import copy

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import nn

from sklearn_patchcert._layouts import as_batch, check_layout
from sklearn_patchcert.torch_globals import plain_torch

_AT_ONCE = 64


def as_classifier(estimator, X):
    """An estimator as it is; a torch module as a classifier of images of the shape of X.

    Parameters
    ----------
    estimator : fitted estimator or torch.nn.Module
    X : array-like (n, H, W) or (n, H, W, C)

    Returns
    -------
    estimator : fitted estimator

    Raises
    ------
    ValueError
        If it is a module and X are rows, of which the height and width are not known, or images
        whose channels seem to come first.
    """
    if not isinstance(estimator, nn.Module):
        return estimator
    shape = tuple(as_batch(X).shape)[1:]
    if len(shape) not in (2, 3):
        raise ValueError(
            f"A torch module takes images, but X has rows of {shape} values: pass images "
            "(n, H, W) or (n, H, W, C)."
        )
    try:
        check_layout((1, *shape), owner="A torch module")
    except ValueError as error:
        raise ValueError(
            f"{str(error).partition(' If they are')[0]} If they are meant so, wrap the module by "
            "PatchNetClassifier.from_pretrained, which takes an image_shape."
        ) from None
    return ModuleClassifier(estimator, (*shape, 1)[:3]).fit()


class ModuleClassifier(ClassifierMixin, BaseEstimator):
    """What the attacks ask a classifier for, answered by a copy of a torch module.

    Parameters
    ----------
    module : torch.nn.Module
        Images (n, C, H, W) to logits (n, n_classes).
    image_shape : tuple (H, W, C)

    Attributes
    ----------
    module_ : torch.nn.Module
        In evaluation mode.
    classes_ : ndarray of int (n_classes,)
        From 0 on.
    image_shape_ : tuple (H, W, C)
    """

    def __init__(self, module, image_shape):
        self.module, self.image_shape = module, image_shape

    def fit(self, X=None, y=None):
        """Copy the module, and see what it gives for images of the shape.

        Raises
        ------
        ValueError
            If that is no logits (n, n_classes).
        """
        self.module_ = copy.deepcopy(self.module).eval()
        self.image_shape_ = self.image_shape
        self.n_features_in_ = int(np.prod(self.image_shape))
        found = self._logits(np.zeros((2, *self.image_shape), dtype=np.float32))
        if found.ndim != 2 or len(found) != 2 or found.shape[1] < 2:
            raise ValueError(
                "A torch module must take images (n, C, H, W) to logits (n, n_classes); it took 2 "
                f"images to the shape {tuple(found.shape)}."
            )
        self.classes_ = np.arange(found.shape[1])
        return self

    def predict(self, X):
        """The place of the largest logit."""
        parts = range(0, len(X), _AT_ONCE)
        return np.concatenate([self._logits(X[at : at + _AT_ONCE]).argmax(1) for at in parts])

    def _logits(self, X):
        device = next((p.device for p in self.module_.parameters()), "cpu")
        images = np.asarray(X, dtype=np.float32).reshape(len(X), *self.image_shape_)
        inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device)
        with plain_torch(), torch.no_grad():
            found = self.module_(inputs)
        return (found[0] if isinstance(found, tuple) else found).float().cpu().numpy()
