"""Attacks on torch modules, images (n, C, H, W) to logits (n, n_classes), as small functions.

Every attack is ``attack(model, images, labels, *, eps, norm, generator, **options) -> images``.
Norms, "l2" and "linf", are over a whole image and differ in four verbs only: `normalize`, `step`
(plain addition), `project` and `clip`.  What an attack returns lies within eps of the images; of
each image it keeps the perturbation that is misclassified or, failing that, has the highest loss.
Whether it has really succeeded is for the model itself to say: see :mod:`robustness`.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import cross_entropy


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
    >>> from sklearn_patchcert.attacks import normalize
    >>> normalize(torch.tensor([[[[3.0, 4.0]]]]), "l2")
    tensor([[[[0.6000, 0.8000]]]])
    """
    if norm == "linf":
        return gradient.sign()
    return gradient / _norms(gradient).clamp_min(1e-30)


def project(delta, eps, norm):
    """Nearest perturbation of norm at most eps.

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
    >>> from sklearn_patchcert.attacks import project
    >>> project(torch.tensor([[[[3.0, 4.0]]]]), 2.5, "l2")
    tensor([[[[1.5000, 2.0000]]]])
    """
    if norm == "linf":
        return delta.clamp(-eps, eps)
    return delta * (eps / _norms(delta).clamp_min(1e-30)).clamp_max(1.0)


def clip(images, bounds):
    """Images within bounds.

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
    >>> from sklearn_patchcert.attacks import clip
    >>> clip(torch.tensor([[[[-0.5, 0.5]]]]), (0, 1))
    tensor([[[[0.0000, 0.5000]]]])
    """
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
    >>> from sklearn_patchcert.attacks import random_start
    >>> delta = random_start(torch.zeros(9, 1, 4, 4), 0.5, "linf", None)
    >>> bool(delta.abs().max() <= 0.5)
    True
    """
    shape = images.shape
    if norm == "linf":
        return (eps * (2 * torch.rand(shape, generator=generator) - 1)).to(images)
    direction = torch.randn(shape, generator=generator)
    length = torch.rand((len(images), 1, 1, 1), generator=generator) ** (1 / images[0].numel())
    return (eps * length * direction / _norms(direction)).to(images)


def losses_of(logits, labels, loss):
    """Loss of each image, to be increased.

    Parameters
    ----------
    logits : Tensor (n, n_classes)
    labels : Tensor of int64 (n,)
    loss : {"ce", "margin", "dlr"}
        "dlr" is of Croce and Hein (ICML 2020); of two classes it is the margin.

    Returns
    -------
    losses : Tensor (n,)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.attacks import losses_of
    >>> losses_of(torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([0]), "margin")
    tensor([-2.])
    """
    if loss == "ce":
        return cross_entropy(logits, labels, reduction="none")
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    if loss == "margin" or (loss == "dlr" and logits.shape[1] < 3):
        return others - own
    if loss != "dlr":
        raise ValueError(f'loss must be "ce", "margin" or "dlr", got {loss!r}.')
    ranked = logits.sort(1, descending=True).values
    return (others - own) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


def pgd(
    model,
    images,
    labels,
    *,
    eps,
    norm="l2",
    generator=None,
    steps=40,
    step_size=None,
    restarts=1,
    start="random",
    loss="ce",
    bounds=None,
):
    """Projected gradient descent (Madry et al., ICLR 2018).

    Parameters
    ----------
    model : callable, images (n, C, H, W) -> logits (n, n_classes)
    images : Tensor (n, C, H, W)
    labels : Tensor of int64 (n,)
    eps : float
        Norm of the perturbation, over a whole image, in the units of the images.
    norm : {"l2", "linf"}
    generator : torch.Generator or None
    steps : int
    step_size : float or None
        None: 2.5 eps / steps.
    restarts : int
    start : {"random", "zero"}
    loss : {"ce", "margin", "dlr"}
    bounds : tuple (low, high) or None
        Of valid images.

    Returns
    -------
    adversarial : Tensor (n, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.attacks import pgd
    >>> model = torch.nn.Flatten()  # two pixels, which are the logits
    >>> images, labels = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([1])
    >>> generator = torch.Generator().manual_seed(0)
    >>> model(pgd(model, images, labels, eps=0.8, generator=generator)).argmax(1)
    tensor([0])
    """
    step_size = 2.5 * eps / steps if step_size is None else step_size
    best = _Best(images, labels)
    for _ in range(restarts):
        delta = torch.zeros_like(images)
        if start == "random":
            delta = random_start(images, eps, norm, generator)
        moved = clip(images + delta, bounds)
        for _ in range(steps):
            gradient, logits, values = _gradient(model, moved, labels, loss)
            best.see(moved, logits, values)
            moved = moved + step_size * normalize(gradient, norm)
            moved = clip(images + project(moved - images, eps, norm), bounds)
        with torch.no_grad():
            logits = model(moved)
        best.see(moved, logits, losses_of(logits, labels, loss))
    return best.images


def sspgd(model, images, labels, *, eps, step_size=None, **options):
    """Single-step projected gradient descent: one step from a random start, of length eps.

    Parameters
    ----------
    model, images, labels, eps
        As of :func:`pgd`.
    step_size : float or None
        None: eps.
    **options
        Go to :func:`pgd`.

    Returns
    -------
    adversarial : Tensor (n, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.attacks import sspgd
    >>> model = torch.nn.Flatten()  # two pixels, which are the logits
    >>> images, labels = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([1])
    >>> generator = torch.Generator().manual_seed(0)
    >>> model(sspgd(model, images, labels, eps=0.8, generator=generator, start="zero")).argmax(1)
    tensor([0])
    """
    step_size = eps if step_size is None else step_size
    return pgd(model, images, labels, eps=eps, steps=1, step_size=step_size, **options)


def apgd(
    model,
    images,
    labels,
    *,
    eps,
    norm="l2",
    generator=None,
    steps=50,
    restarts=1,
    loss="ce",
    bounds=None,
):
    """Auto-PGD (Croce, Hein, ICML 2020, arXiv:2003.01690): momentum, and steps that halve.

    Parameters
    ----------
    model, images, labels, eps, norm, generator, steps, restarts, loss, bounds
        As of :func:`pgd`.

    Returns
    -------
    adversarial : Tensor (n, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.attacks import apgd
    >>> model = torch.nn.Flatten()  # two pixels, which are the logits
    >>> images, labels = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([1])
    >>> generator = torch.Generator().manual_seed(0)
    >>> model(apgd(model, images, labels, eps=0.8, generator=generator)).argmax(1)
    tensor([0])
    """
    checkpoints, gap = [0, 0.22], 0.22
    while checkpoints[-1] < 1:
        gap = max(gap - 0.03, 0.06)
        checkpoints.append(checkpoints[-1] + gap)
    checkpoints = [math.ceil(p * steps) for p in checkpoints]
    best = _Best(images, labels)

    def inside(moved):
        return clip(images + project(moved - images, eps, norm), bounds)

    for _ in range(restarts):
        moved = inside(images + random_start(images, eps, norm, generator))
        before = moved
        size = torch.full((len(images), 1, 1, 1), 2.0 * eps, device=images.device)
        gradient, logits, values = _gradient(model, moved, labels, loss)
        best.see(moved, logits, values)
        top, top_values, top_gradient = moved, values, gradient
        rises, last = torch.zeros_like(values), 0
        kept, kept_values = torch.zeros_like(values, dtype=torch.bool), values
        for step in range(1, steps + 1):
            target = inside(moved + size * normalize(gradient, norm))
            weight = 0.75 if step > 1 else 1.0
            mixed = moved + weight * (target - moved) + (1 - weight) * (moved - before)
            before, moved, old = moved, inside(mixed), values
            gradient, logits, values = _gradient(model, moved, labels, loss)
            best.see(moved, logits, values)
            rises += values > old
            better = _column(values > top_values)
            top, top_gradient = (
                torch.where(better, new, kept_one)
                for new, kept_one in ((moved, top), (gradient, top_gradient))
            )
            top_values = torch.maximum(values, top_values)
            if step in checkpoints:
                halve = rises < 0.75 * (step - last)
                halve |= ~kept & (top_values <= kept_values)
                size = torch.where(_column(halve), size / 2, size)
                moved, gradient = (
                    torch.where(_column(halve), new, now)
                    for new, now in ((top, moved), (top_gradient, gradient))
                )
                values = torch.where(halve, top_values, values)
                kept, kept_values, last = halve, top_values, step
                rises = torch.zeros_like(values)
    return best.images


def square(model, images, labels, *, eps, norm="l2", generator=None, steps=500, bounds=None):
    """Random search over square windows, after Square (Andriushchenko et al., ECCV 2020).

    It asks for logits only.  In L2 each step moves the perturbation of two windows, and what is
    left of the budget, into one of them; in Linf it fills a window with the signs of one draw.

    Parameters
    ----------
    model, images, labels, eps, norm, generator, steps, bounds
        As of :func:`pgd`.

    Returns
    -------
    adversarial : Tensor (n, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.attacks import square
    >>> model = torch.nn.Flatten()  # two pixels, which are the logits
    >>> images, labels = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([1])
    >>> generator = torch.Generator().manual_seed(0)
    >>> model(square(model, images, labels, eps=0.6, norm="linf", generator=generator)).argmax(1)
    tensor([0])
    """
    n, _, height, width = images.shape

    def draw(*shape):
        return torch.rand(shape, generator=generator)

    delta = random_start(images, eps, norm, generator)
    delta = delta.sign() * eps if norm == "linf" else eps * normalize(delta, norm)
    best = _Best(images, labels)
    with torch.no_grad():
        for step in range(steps):
            side = max(1, round(math.sqrt(0.5 * (1 - step / steps)) * min(height, width) * 0.6))
            inside = []
            for _ in range(2):
                top = (draw(n) * (height - side + 1)).long()[:, None, None]
                left = (draw(n) * (width - side + 1)).long()[:, None, None]
                row, col = torch.arange(height)[:, None], torch.arange(width)
                window = (row >= top) & (row < top + side) & (col >= left) & (col < left + side)
                inside.append(window[:, None].to(images))
            here, there = inside
            if norm == "linf":
                signs = (2 * (draw(n, images.shape[1], 1, 1) < 0.5) - 1).to(images)
                trial = delta * (1 - here) + eps * signs * here
            else:
                both = torch.maximum(here, there)
                left_over = eps**2 - (delta * (1 - both)).square().sum((1, 2, 3), keepdim=True)
                pattern = torch.randn(images.shape, generator=generator).to(images)
                pattern = pattern.mean((2, 3), keepdim=True).sign() + 0.3 * pattern
                old = normalize(delta * here, norm)
                new = normalize((normalize(pattern * here, norm) + old) * here, norm)
                trial = delta * (1 - both) + left_over.clamp_min(0).sqrt() * new
            moved = clip(images + project(trial, eps, norm), bounds)
            logits = model(moved)
            better = best.see(moved, logits, losses_of(logits, labels, "margin"))
            delta = torch.where(_column(better), trial, delta)
    return best.images


def noise(model, images, labels, *, eps, norm="l2", generator=None, steps=50, bounds=None):
    """Random perturbations on the border of the ball: the baseline of all attacks.

    Parameters
    ----------
    model, images, labels, eps, norm, generator, steps, bounds
        As of :func:`pgd`; the best of so many draws.

    Returns
    -------
    adversarial : Tensor (n, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.attacks import noise
    >>> model = torch.nn.Flatten()  # two pixels, which are the logits
    >>> images, labels = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([1])
    >>> generator = torch.Generator().manual_seed(0)
    >>> model(noise(model, images, labels, eps=0.8, generator=generator)).argmax(1)
    tensor([0])
    """
    best = _Best(images, labels)
    with torch.no_grad():
        for _ in range(steps):
            delta = torch.randn(images.shape, generator=generator).to(images)
            moved = clip(images + eps * normalize(delta, norm), bounds)
            logits = model(moved)
            best.see(moved, logits, losses_of(logits, labels, "margin"))
    return best.images


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
        (gradient,) = torch.autograd.grad(values.sum(), images)
    return gradient, logits.detach(), values.detach()


def _norms(delta):
    return delta.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


def _column(mask):
    return mask.reshape(-1, 1, 1, 1)
