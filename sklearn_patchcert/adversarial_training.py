"""Training batches attacked in the space of pixels, before they become tokens."""

from __future__ import annotations

import torch

from sklearn_patchcert.attacks import pgd
from sklearn_patchcert.tokenised import TokenisedNetwork


def attacked_images(images, target, network, *, radius, steps=5, autocast=False, **code):
    """Images moved against a network by projected gradient descent (Madry et al., ICLR 2018).

    The gradient passes the tokens as if every patch were its own (straight through).  What comes
    back are images, whose tokens are still to be found.

    Parameters
    ----------
    images : Tensor (n, C, H, W)
    target : Tensor of int64 (n,)
    network : nn.Module, images (n, C, H, W) made of tokens -> logits (n, n_classes)
        Asked in evaluation mode; its mode and gradients are left as they were.
    radius : float
        L2 norm, over the whole image, in the units of the images.
    steps : int
        Of length 2.5 radius / steps, from a random start.
    autocast : bool
        Whether to compute in bfloat16.
    **code
        `vocabulary` (n_tokens, dim) or (C, n_tokens, dim), ndarray, `patch_size` and
        `per_channel`, as of :class:`TokenisedNetwork`; without them the network sees the images.

    Returns
    -------
    images : Tensor (n, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.adversarial_training import attacked_images
    >>> images, target = torch.zeros(1, 1, 1, 2), torch.tensor([0])
    >>> moved = attacked_images(images, target, torch.nn.Flatten(), radius=1.0)
    >>> moved.round(decimals=1), bool(moved.norm() <= 1)  # less of pixel 0, more of pixel 1
    (tensor([[[[-0.7,  0.7]]]]), True)
    """
    model = TokenisedNetwork(network, **code).to(images.device)
    training = network.training
    network.eval()
    try:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=autocast):
            return pgd(model, images, target, eps=radius, steps=steps).detach()
    finally:
        network.train(training)
