"""A fitted classifier as a torch module, images to logits."""

from __future__ import annotations

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_patchcert.attacks.tokenized_network import TokenizedNetwork
from sklearn_patchcert.preprocessing import IDENTITY, then
from sklearn_patchcert.vocabulary.tokenizer import PatchTokenizer


def as_torch_module(estimator, gradient="bpda", *, temperature=1.0):
    """A fitted classifier as a torch module in evaluation mode.

    Parameters
    ----------
    estimator : fitted skorch classifier, or Pipeline that ends in one
        Scaling steps, as `certify` knows them, and one vocabulary may come before.
    gradient : {"bpda", "soft", "none"}
    temperature : float
        See :class:`TokenizedNetwork`.

    Returns
    -------
    module : TokenizedNetwork
        Takes float32 images (n, C, H, W) in the units of the estimator's input.

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
    check_is_fitted(estimator)
    steps = (
        [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    )
    steps = [s.estimator if isinstance(s, FrozenEstimator) else s for s in steps]
    *before, last = [s for s in steps if s is not None and not isinstance(s, str)]
    network = getattr(last, "module_", None)
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"{type(last).__name__} is no torch network: only skorch classifiers have gradients."
        )
    affine, tokeniser, shape = IDENTITY, None, getattr(last, "image_shape_", None)
    for step in before:
        if isinstance(step, PatchTokenizer):
            if step.output != "images":
                raise TypeError("Token ids have no gradient: use a vocabulary with images.")
            tokeniser, shape = step, getattr(step, "image_shape_", shape)
    for step in before:
        if step is tokeniser:
            break
        affine = then(affine, step, shape, np.float32)
    if before and before[-1] is not tokeniser and tokeniser is not None:
        raise TypeError("Steps between the vocabulary and the network are not supported.")
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
    module = TokenizedNetwork(
        network, scale=scale, shift=shift, gradient=gradient, temperature=temperature, **options
    )
    return module.eval().to(next(network.parameters()).device)
