"""The options of a network that disturb its training images before they become tokens."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert.flip_training import FLIPS, training_images


def check_options(net):
    """The options as :func:`flip_training.training_images` takes them; None where none is set.

    Raises
    ------
    ValueError
        If one of them is out of range.
    """
    for name, most in (("noise_std", math.inf), ("flip_radius", math.inf), ("flip_share", 1)):
        value = getattr(net, name)
        if not 0 <= value <= most or math.isinf(value):
            raise ValueError(f"{name} must be in [0, {most}] and finite, got {value!r}.")
    if net.flip_kind not in FLIPS:
        raise ValueError(f"flip_kind must be one of {FLIPS}, got {net.flip_kind!r}.")
    if net.augment is not None and not callable(net.augment):
        raise ValueError(f"augment must be callable or None, got {net.augment!r}.")
    if net.augment is None and not net.noise_std and not net.flip_radius * net.flip_share:
        return None
    names = ("augment", "noise_std", "flip_radius", "flip_share", "flip_kind", "autocast")
    return {name: getattr(net, name) for name in names}


def disturbance(options, source, like, device):
    """The images before their tokens, and what makes training images of them.

    Parameters
    ----------
    options : dict
        Of :func:`check_options`.
    source : pair (vocabulary, images) or None
    like : ndarray (n, H, W, C)
        The same images made of tokens.
    device : str

    Returns
    -------
    images : ndarray (n, H, W, C)
    disturbed : callable, (images, target, network, criterion, training) -> images

    Raises
    ------
    ValueError
        If there is no source, or it is of other images.
    TypeError
        If the vocabulary gives ids.
    """
    if source is None:
        raise ValueError(
            "augment, noise_std and flip_radius disturb images before they become tokens: fit the "
            "network as the last step of a CertifiedPatchClassifier, right behind the vocabulary, "
            "or pass source=(vocabulary, images)."
        )
    vocabulary, images = source
    if isinstance(vocabulary, FrozenEstimator):
        vocabulary = vocabulary.estimator
    if vocabulary.output != "images":
        raise TypeError('The network is trained on images: use output="images".')
    images = vocabulary._check(images)
    if images.shape != like.shape:
        raise ValueError(
            f"The images of source have the shape {images.shape}, those made of tokens "
            f"{like.shape}: nothing may come between the vocabulary and the network."
        )
    tokens = torch.as_tensor(vocabulary.vocabulary_, dtype=torch.float32, device=device)
    made = partial(
        training_images,
        tokens=tokens,
        patch_size=vocabulary.patch_size_,
        per_channel=bool(vocabulary.per_channel_),
    )

    def disturbed(images, target, network, criterion, training):
        images, target = images.to(device), target.to(device)
        return made(images, target, network, criterion, **(options if training else {}))

    return np.asarray(images), disturbed


class Source:
    """The vocabulary of a pipeline and the images that reach it, once it is fitted.

    Parameters
    ----------
    pipeline : CertifiedPatchClassifier
    X : array-like
        What the pipeline is fitted on.
    """

    def __init__(self, pipeline, X):
        self.pipeline, self.X = pipeline, X

    def __iter__(self):
        before, vocabulary = self.pipeline._split()
        yield vocabulary
        Z = self.X
        for step in before:
            Z = step.transform(Z)
        yield Z
