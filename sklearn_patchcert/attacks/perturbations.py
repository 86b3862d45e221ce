"""What attacks are made of: steps, balls, losses, and the best perturbation so far.

Images and perturbations are Tensors (n, C, H, W); norms, "l2" and "linf", are over a whole image.
"""

from __future__ import annotations

import warnings

import torch

from sklearn_patchcert.checks import (
    check_bounds,
    check_choice,
    check_count,
    check_inside,
    check_norm,
    check_number,
)

LOSSES = ("ce", "margin", "dlr")
_TINY = torch.finfo(torch.float32).tiny


def normalize(gradient, norm):
    """Steepest direction of norm 1.

    Parameters
    ----------
    gradient : Tensor (n, C, H, W)
    norm : {"l2", "linf"}

    Returns
    -------
    direction : Tensor (n, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.attacks.perturbations import normalize
    >>> normalize(torch.tensor([[[[3.0, 4.0]]]]), "l2")
    tensor([[[[0.6000, 0.8000]]]])
    """
    if check_norm(norm) == "linf":
        return gradient.sign()
    return gradient / _norms(gradient).clamp_min(_TINY)


def project(delta, eps, norm):
    """Project perturbations onto the ball of radius eps.

    Parameters
    ----------
    delta : Tensor (n, C, H, W)
    eps : float
    norm : {"l2", "linf"}

    Returns
    -------
    delta : Tensor (n, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.attacks.perturbations import project
    >>> project(torch.tensor([[[[3.0, 4.0]]]]), 2.5, "l2")
    tensor([[[[1.5000, 2.0000]]]])
    """
    if check_norm(norm) == "linf":
        return delta.clamp(-eps, eps)
    return delta * (eps / _norms(delta).clamp_min(_TINY)).clamp_max(1.0)


def clip(images, bounds):
    """Clip images to bounds.

    Parameters
    ----------
    images : Tensor (n, C, H, W)
    bounds : tuple (low, high) or None
        None leaves them as they are.

    Returns
    -------
    images : Tensor (n, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.attacks.perturbations import clip
    >>> clip(torch.tensor([[[[-0.5, 0.5]]]]), (0, 1))
    tensor([[[[0.0000, 0.5000]]]])
    """
    bounds = check_bounds(bounds)
    return images if bounds is None else images.clamp(*bounds)


def random_start(images, eps, norm, generator):
    """Perturbations drawn evenly from a ball.

    Parameters
    ----------
    images : Tensor (n, C, H, W)
        Their shape, dtype and device are taken.
    eps : float
        Radius of the ball.
    norm : {"l2", "linf"}
    generator : torch.Generator or None

    Returns
    -------
    delta : Tensor (n, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.attacks.perturbations import random_start
    >>> delta = random_start(torch.zeros(9, 1, 4, 4), 0.5, "linf", None)
    >>> bool(delta.abs().max() <= 0.5)
    True
    """
    shape = images.shape
    if check_norm(norm) == "linf":
        return (eps * (2 * _drawn(torch.rand, shape, generator) - 1)).to(images)
    direction = _drawn(torch.randn, shape, generator)
    length = _drawn(torch.rand, (len(images), 1, 1, 1), generator) ** (1 / shape[1:].numel())
    return (eps * length * direction / _norms(direction)).to(images)


def _drawn(draw, shape, generator):
    """Random numbers in float32, on any device the same and whatever torch's default dtype is."""
    return draw(shape, generator=generator, dtype=torch.float32)


def losses_of(logits, labels, loss):
    """Compute the loss of each image, which attacks increase.

    Parameters
    ----------
    logits : Tensor (n, n_classes)
    labels : Tensor of int64 (n,)
    loss : {"ce", "margin", "dlr"}
        "ce" is x in log(1 + exp(x)), the cross-entropy.  That has the same order and the same
        directions, but its gradient vanishes in float32 where the network is sure of itself.  "dlr"
        is of Croce and Hein (ICML 2020); of two classes it is the margin.

    Returns
    -------
    losses : Tensor (n,)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.attacks.perturbations import losses_of
    >>> losses_of(torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([0]), "margin")
    tensor([-2.])
    """
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    if check_choice("loss", loss, LOSSES) == "ce":
        return others.logsumexp(1) - own
    others = others.amax(1)
    if loss == "margin" or (loss == "dlr" and logits.shape[1] < 3):
        return others - own
    ranked = logits.sort(1, descending=True).values
    return (others - own) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


def _checked(images, labels, eps, norm, bounds, **counts):
    """The options that all attacks have, as numbers and names; the counts in their order."""
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            "images must be floats of shape (n, C, H, W), got "
            f"{images.dtype} of shape {tuple(images.shape)}."
        )
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            f"labels must be int64 of shape ({len(images)},), got {labels.dtype} of shape "
            f"{tuple(labels.shape)}."
        )
    bounds = check_bounds(bounds)
    if bounds is not None and images.numel():
        rounded = tuple(torch.tensor(bounds, dtype=images.dtype).tolist())
        check_inside(rounded, float(images.min()), float(images.max()), "the images")
    return (
        check_number("eps", eps),
        check_norm(norm),
        bounds,
        *(check_count(name, value) for name, value in counts.items()),
    )


class _Best:
    """The best perturbed images so far: the misclassified ones, then those of the highest loss."""

    def __init__(self, images, labels):
        self.images, self.labels = images.clone(), labels
        self.scores = torch.full((len(images),), -torch.inf, device=images.device)
        self.fooled = torch.zeros(len(images), dtype=torch.bool, device=images.device)

    def see(self, images, logits, losses):
        fooled = logits.argmax(1) != self.labels
        better = (fooled & ~self.fooled) | ((fooled == self.fooled) & (losses > self.scores))
        self.images = torch.where(_column(better), images, self.images)
        self.scores = torch.where(better, losses, self.scores)
        self.fooled |= fooled
        return better


def _gradient(model, images, labels, loss):
    """Gradient of the loss, logits and losses."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(images)
        values = losses_of(logits, labels, loss)
        if not values.requires_grad:
            raise TypeError(
                "The outputs of the network have no gradient: look for no_grad, detach or a "
                'conversion to integers in its forward, or take attack="square" or "noise".'
            )
        (gradient,) = torch.autograd.grad(values.sum(), images)
    if len(images) and not bool(gradient.any()):
        warnings.warn(
            "The gradient of the loss is zero at all images of a batch, so attacks by gradient and "
            "the search over tokens find nothing, and what they leave says nothing about "
            'robustness. Look for rounding in the network, or take attack="square" or a source= '
            "that has a gradient.",
            UserWarning,
            stacklevel=2,
        )
    gradient = gradient.nan_to_num(0.0, 0.0, 0.0)  # one pixel that overflows is no reason to stop
    return gradient, logits.detach(), values.detach()


def _norms(delta):
    flat = delta.flatten(1)
    size = flat.abs().amax(1, keepdim=True).clamp_min(_TINY)  # or squares would overflow or vanish
    return (size * (flat / size).norm(dim=1, keepdim=True)).reshape(-1, 1, 1, 1)


def _column(mask):
    return mask.reshape(-1, 1, 1, 1)
