"""Attacks on torch modules, images (n, C, H, W) to logits (n, n_classes), as small functions.

Every attack is ``attack(model, images, labels, *, eps, norm, generator, **options) -> images``.
Norms, "l2" and "linf", are over a whole image and differ in four functions: `normalize`, `step`
(plain addition), `project` and `clip` (:mod:`attacks.perturbations`).  An attack returns images
within eps of the given ones.  For each image it keeps the perturbation that is misclassified or,
failing that, the one with the highest loss.  The model itself decides whether it succeeded: see
:mod:`attacks.robustness`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from sklearn_patchcert.attacks.perturbations import (
    LOSSES,
    _Best,
    _checked,
    _column,
    _drawn,
    _gradient,
    clip,
    losses_of,
    normalize,
    project,
    random_start,
)
from sklearn_patchcert.checks import check_choice, check_number


def pgd(
    model: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    eps: float,
    norm: str | float = "l2",
    generator: torch.Generator | None = None,
    steps: int = 40,
    step_size: float | None = None,
    restarts: int = 1,
    start: str = "random",
    loss: str = "ce",
    bounds: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Projected gradient descent (Madry et al., ICLR 2018).

    Parameters
    ----------
    model : callable, images (n, C, H, W) -> logits (n, n_classes)
    images : Tensor (n, C, H, W)
    labels : Tensor of int64 (n,)
    eps : float
        Norm of the perturbation, over a whole image, in the units of the images.
    norm : {"l2", "linf"}
        Also in the spelling of other libraries: "L2" or 2, "Linf", "inf" or np.inf.
    generator : torch.Generator or None
    steps : int
    step_size : float or None
        None: 2.5 eps / steps.
    restarts : int
    start : {"random", "zero"}
    loss : {"ce", "margin", "dlr"}
    bounds : tuple (low, high) or None
        Of valid images; the images that are attacked lie within them.

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
    eps, norm, bounds, steps, restarts = _checked(
        images, labels, eps, norm, bounds, steps=steps, restarts=restarts
    )
    check_choice("start", start, ("random", "zero"))
    check_choice("loss", loss, LOSSES)
    step_size = 2.5 * eps / steps if step_size is None else check_number("step_size", step_size)
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


def sspgd(
    model: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    eps: float,
    step_size: float | None = None,
    **options: Any,
) -> torch.Tensor:
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
    model: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    eps: float,
    norm: str | float = "l2",
    generator: torch.Generator | None = None,
    steps: int = 50,
    restarts: int = 1,
    loss: str = "ce",
    bounds: tuple[float, float] | None = None,
) -> torch.Tensor:
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
    eps, norm, bounds, steps, restarts = _checked(
        images, labels, eps, norm, bounds, steps=steps, restarts=restarts
    )
    check_choice("loss", loss, LOSSES)
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
        size = images.new_full((len(images), 1, 1, 1), 2.0 * eps)
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


def square(
    model: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    eps: float,
    norm: str | float = "l2",
    generator: torch.Generator | None = None,
    steps: int = 500,
    bounds: tuple[float, float] | None = None,
) -> torch.Tensor:
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
    eps, norm, bounds, steps = _checked(images, labels, eps, norm, bounds, steps=steps)
    n, _, height, width = images.shape

    def draw(*shape):
        return _drawn(torch.rand, shape, generator)

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
                pattern = _drawn(torch.randn, images.shape, generator).to(images)
                pattern = pattern.mean((2, 3), keepdim=True).sign() + 0.3 * pattern
                old = normalize(delta * here, norm)
                new = normalize((normalize(pattern * here, norm) + old) * here, norm)
                trial = delta * (1 - both) + left_over.clamp_min(0).sqrt() * new
            moved = clip(images + project(trial, eps, norm), bounds)
            logits = model(moved)
            better = best.see(moved, logits, losses_of(logits, labels, "margin"))
            delta = torch.where(_column(better), trial, delta)
    return best.images


def noise(
    model: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    eps: float,
    norm: str | float = "l2",
    generator: torch.Generator | None = None,
    steps: int = 50,
    bounds: tuple[float, float] | None = None,
) -> torch.Tensor:
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
    eps, norm, bounds, steps = _checked(images, labels, eps, norm, bounds, steps=steps)
    best = _Best(images, labels)
    with torch.no_grad():
        for _ in range(steps):
            delta = _drawn(torch.randn, images.shape, generator).to(images)
            moved = clip(images + eps * normalize(delta, norm), bounds)
            logits = model(moved)
            best.see(moved, logits, losses_of(logits, labels, "margin"))
    return best.images
