"""A fitted classifier as a torch module, images to logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_patchcert.attacks.evaluation import image_shape_of, steps_of, takes_x
from sklearn_patchcert.attacks.views.tokenized_network import TokenizedNetwork, _frozen_copy
from sklearn_patchcert.datasets.readers import reader_of
from sklearn_patchcert.preprocessing import IDENTITY, then
from sklearn_patchcert.vocabulary.tokenizer import PatchTokenizer


def as_torch_module(
    estimator: Any,
    gradient: str = "bpda",
    *,
    temperature: float = 1.0,
    input_shape: tuple[int, ...] | None = None,
) -> TokenizedNetwork:
    """A fitted classifier as a torch module in evaluation mode.

    The module has a copy of the network, whose weights take no gradient: nothing that is done to
    it reaches the estimator, and training the estimator afterwards does not reach the module.

    Parameters
    ----------
    estimator : fitted skorch classifier, or Pipeline that ends in one, or torch.nn.Module
        Any estimator with a fitted attribute `module_`, a torch.nn.Module that takes images
        (n, C, H, W) to logits, counts as a network; `classes_` names its columns.  Scaling steps,
        as `certify` knows them, and one vocabulary may come before.  It may be inside a search, a
        FrozenEstimator or another pipeline.
    gradient : {"bpda", "soft", "none"}
    temperature : float
        See :class:`TokenizedNetwork`.
    input_shape : tuple or None
        Shape of one image of X, for networks of skorch's own classes behind a vocabulary: these
        are given images in that shape, as `predict` gives them.  None: as (C, H, W).

    Returns
    -------
    module : TokenizedNetwork
        Takes images (n, C, H, W) in the units of the estimator's input; without a vocabulary,
        one around a network of skorch's own classes takes what that network's `predict` takes.

    Raises
    ------
    TypeError
        If the estimator has no torch network at its end, or steps that are not known.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchNetClassifier
    >>> from sklearn_patchcert.attacks import as_torch_module
    >>> X, y = load_digits(return_X_y=True)
    >>> net = PatchNetClassifier(max_epochs=1, random_state=0).fit(X[:200], y[:200])
    >>> as_torch_module(net)(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    if isinstance(estimator, nn.Module):
        device = next((p.device for p in estimator.parameters()), "cpu")
        return TokenizedNetwork(_frozen_copy(estimator)).eval().to(device)
    check_is_fitted(estimator)
    *before, last = steps_of(estimator)
    before = before[reader_of(before) is not None :]  # a reader hands images on as they are
    network = getattr(last, "module_", None)
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"{type(last).__name__} is no torch network: it has no fitted `module_`, as skorch "
            "classifiers have, and so no gradient. "
            "Attack another classifier and judge by this one with run_attack(..., source=...)."
        )
    affine, tokeniser, shape = IDENTITY, None, image_shape_of(estimator)
    for step in before:
        if isinstance(step, PatchTokenizer):
            if step.output != "images":
                raise TypeError("Token ids have no gradient: use a vocabulary with images.")
            tokeniser = step
    if before and before[-1] is not tokeniser and tokeniser is not None:
        raise TypeError("Steps between the vocabulary and the network are not supported.")
    for step in before:
        if step is tokeniser:
            break
        affine = then(affine, step, shape or (step.n_features_in_,), np.float32)
    options = {}
    if tokeniser is not None:
        options = {
            "vocabulary": tokeniser.vocabulary_,
            "patch_size": tokeniser.patch_size_,
            "per_channel": bool(tokeniser.per_channel_),
        }
    scale, shift = affine.scale, affine.shift
    if before and shape is not None:
        scale, shift = np.broadcast_to(scale, shape), np.broadcast_to(shift, shape)
    device = next((p.device for p in network.parameters()), "cpu")
    network = _frozen_copy(network)
    if input_shape is not None and not (hasattr(last, "image_shape_") or takes_x(estimator)):
        network = _AsGiven(network, tuple(input_shape))
    module = TokenizedNetwork(
        network, scale=scale, shift=shift, gradient=gradient, temperature=temperature, **options
    )
    return module.eval().to(device)


class _AsGiven(nn.Module):
    """A network that is given images in the layout of X, as its own `predict` gives them."""

    def __init__(self, network, input_shape):
        super().__init__()
        self.network, self.input_shape = network, input_shape

    def forward(self, images):
        """Compute logits.

        Parameters
        ----------
        images : Tensor (n, C, H, W)

        Returns
        -------
        logits : Tensor (n, n_classes)
        """
        return self.network(images.permute(0, 2, 3, 1).reshape(len(images), *self.input_shape))
