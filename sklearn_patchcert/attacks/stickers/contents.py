"""What is on a sticker: pixels by gradient, and by a search over tokens or rectangles of one color.

Both raise one loss: by how much, on average behind some pairs of masks, a wrong class leads the
label.  The wrong class is the same behind all masks, since double masking needs them to agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

_ENOUGH = 3.0  # lead of the wrong class, in log-probability, beyond which a mask counts no more
_FIRST, _DECAY, _LAST = 0.25, 0.93, 0.02  # steps of the gradient, as shares of the range


class Problem(NamedTuple):
    """One sticker, or as many, on each of some images.

    labels : Tensor of int64 (m,), columns of the scores;
    aims : Tensor of int64 (m,), the wrong class; -1 for the one that leads at each step;
    views : Tensor of int64 (m, n_views, 2), pairs of masks behind which the loss is taken;
    windows : Tensor of bool (m, 1, H, W), the pixels of the stickers;
    boxes : ndarray of int (m, n_stickers, 4), the same as top, left, height and width.
    """

    labels: torch.Tensor
    aims: torch.Tensor
    views: torch.Tensor
    windows: torch.Tensor
    boxes: np.ndarray

    def at(self, rows):
        """Some of the images."""
        return Problem._make(part[rows] for part in self)


class Scores(NamedTuple):
    """A classifier of masked images.

    ask : callable, images (m, C, H, W), hidden (m, 1, H, W) -> logits (m, n_classes);
    masks : Tensor of bool (n_masks, H, W), the pixels that each hides; for a classifier without
    masks, one that hides nothing;
    at_once : int, masked images to ask for at once.
    """

    ask: Callable
    masks: torch.Tensor
    at_once: int


def losses(scores, images, problem):
    """The loss of each image, which attacks increase.

    Parameters
    ----------
    scores : Scores
    images : Tensor (m, C, H, W)
    problem : Problem

    Returns
    -------
    losses : Tensor (m,)
    """
    with torch.no_grad():
        parts = _parts(scores, problem)
        return torch.cat([_loss(scores, images[part], problem.at(part)) for part in parts])


def gradients(scores, images, problem):
    """Gradients (m, C, H, W) of the losses, and the losses (m,)."""
    found = []
    for part in _parts(scores, problem):
        some = images[part].detach().requires_grad_()
        with torch.enable_grad():
            values = _loss(scores, some, problem.at(part))
            (slope,) = torch.autograd.grad(values.sum(), some)
        found.append((slope.nan_to_num(0.0, 0.0, 0.0), values.detach()))
    slopes, values = zip(*found, strict=True)
    return torch.cat(slopes), torch.cat(values)


def _parts(scores, problem):
    count, width = problem.views.shape[:2]
    size = max(1, scores.at_once // width)
    return [slice(at, at + size) for at in range(0, count, size)]


def _loss(scores, images, problem):
    count, width = problem.views.shape[:2]
    hidden = scores.masks[problem.views].any(2).flatten(0, 1)[:, None]
    logits = scores.ask(images.repeat_interleave(width, 0), hidden)
    logs = logits.log_softmax(1).reshape(count, width, -1)
    mean = logs.detach().mean(1).scatter(1, problem.labels[:, None], -torch.inf)
    aims = torch.where(problem.aims < 0, mean.argmax(1), problem.aims)

    def of(classes):
        return logs.gather(2, classes[:, None, None].expand(-1, width, 1))[..., 0]

    return (of(aims) - of(problem.labels)).clamp_max(_ENOUGH).mean(1)


def gradient_step(scores, images, problem, bounds, number):
    """One step along the signs of the gradient, inside the stickers.

    Parameters
    ----------
    scores : Scores
        With a gradient.
    images : Tensor (m, C, H, W)
    problem : Problem
    bounds : tuple (low, high)
    number : int
        Of the step.  Later ones are shorter, whatever the number of steps.

    Returns
    -------
    images : Tensor (m, C, H, W)
    losses : Tensor (m,)
        Before the step.
    """
    slope, values = gradients(scores, images, problem)
    size = (bounds[1] - bounds[0]) * max(_LAST, _FIRST * _DECAY**number)
    moved = (images + size * slope.sign()).clamp(*bounds)
    return torch.where(problem.windows, moved, images), values


def search_step(scores, images, problem, values, propose, generators, n_trials):
    """The best of some random changes inside the stickers, if it is better.

    Parameters
    ----------
    scores : Scores
    images : Tensor (m, C, H, W)
    problem : Problem
    values : Tensor (m,)
        Losses of the images.
    propose : callable, (box, generator) -> box, content (height, width, C)
        A part of a sticker, and its new pixels.
    generators : sequence of numpy.random.Generator (m,)
    n_trials : int

    Returns
    -------
    images : Tensor (m, C, H, W)
    losses : Tensor (m,)
    """
    trials = images.repeat_interleave(n_trials, 0)
    for row, (boxes, generator) in enumerate(zip(problem.boxes, generators, strict=True)):
        for trial in range(n_trials):
            box = boxes[generator.integers(len(boxes))] if len(boxes) > 1 else boxes[0]
            (top, left, height, width), content = propose(box, generator)
            made = torch.from_numpy(content).to(trials).permute(2, 0, 1)
            trials[row * n_trials + trial, :, top : top + height, left : left + width] = made
    found = losses(scores, trials, problem.at(np.arange(len(images)).repeat(n_trials)))
    best, which = found.reshape(-1, n_trials).max(1)
    made = trials.unflatten(0, (-1, n_trials))[torch.arange(len(images)), which]
    better = best > values
    return torch.where(better[:, None, None, None], made, images), torch.maximum(best, values)
