"""The options of a network that disturb its training images before they become tokens."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert._validation import check_autocast
from sklearn_patchcert.networks.additive import Blocks, dual_leads
from sklearn_patchcert.networks.fitting.adversarial_training import attacked_images
from sklearn_patchcert.networks.fitting.flip_training import (
    FLIPS,
    disturbed_images,
    nearest_tokens,
    squared_costs,
    training_images,
)
from sklearn_patchcert.networks.fitting.mask_training import RandomMasks, losses_behind
from sklearn_patchcert.patches import grid_shape
from sklearn_patchcert.vocabulary import encoding
from sklearn_patchcert.voronoi import surrogates

LARGEST = 1e18  # beyond it, float32 cannot hold squares
_LIMITS = dict.fromkeys(
    ("noise_std", "flip_radius", "adversarial_radius", "certified_radius"), LARGEST
)
_PART = 1024  # images that are compared at once


def check_options(net, forwarded=()):
    """Options of a network, by name; None where none is set.

    Raises
    ------
    ValueError
        If one of them is out of range, or asks the network without what is `forwarded` to it.
    """
    for name, most in {**_LIMITS, "flip_share": 1}.items():
        value = getattr(net, name)
        if not isinstance(value, (int, float, np.number)) or not 0 <= value <= most:
            raise ValueError(f"{name} must be a number in [0, {most:g}], got {value!r}.")
    for name in ("adversarial_radius", "certified_radius"):
        if getattr(net, name) and not is_classifier(net):
            raise ValueError(f"{name} is for classifiers; {type(net).__name__} must have 0.")
    for name in ("adversarial_steps", "flip_steps"):
        steps = getattr(net, name)
        if not isinstance(steps, numbers.Integral) or isinstance(steps, bool) or steps < 1:
            raise ValueError(f"{name} must be a positive integer, got {steps!r}.")
    flips = net.flip_radius * net.flip_share
    if net.adversarial_radius and (flips or net.certified_radius):
        raise ValueError(
            "adversarial_radius spends the budget of an attacker, as flip_radius and "
            "certified_radius do: set one of them."
        )
    others = {"flip_radius": flips, "mask_training": net.mask_training is not None}
    unseen = [name for name, given in others.items() if given]
    if net.certified_radius and unseen:
        raise ValueError(
            "certified_radius trains on bounds for images before they become tokens, so the "
            f"network never trains on {' and '.join(unseen)}: leave one of them out."
        )
    drawn = isinstance(net.mask_training, RandomMasks) and net.mask_training.candidates > 1
    asking = {
        "flip_radius": flips * (net.flip_kind == "adversarial"),
        "adversarial_radius": net.adversarial_radius, "certified_radius": net.certified_radius,
        "mask_training": drawn,
    }  # fmt: skip
    if forwarded and any(asking.values()):
        asks = ", ".join(name for name, given in asking.items() if given)
        raise ValueError(
            f"{asks} would ask the module without {', '.join(map(repr, forwarded))}, which fit "
            "passes to its forward: leave one of them out."
        )
    if net.flip_kind not in FLIPS:
        raise ValueError(f"flip_kind must be one of {FLIPS}, got {net.flip_kind!r}.")
    for name in ("augment", "mask_training"):
        if getattr(net, name) is not None and not callable(getattr(net, name)):
            raise ValueError(f"{name} must be callable or None, got {getattr(net, name)!r}.")
    names = ("augment", "noise_std", "flip_radius", "flip_share", "flip_kind", "flip_steps")
    options = {name: getattr(net, name) for name in (*names, "mask_training")}
    options["autocast"] = check_autocast(net.autocast, net.device)
    for name in ("adversarial_radius", "adversarial_steps", "certified_radius"):
        options[name] = getattr(net, name)
    active = net.augment, net.noise_std, flips, net.adversarial_radius, net.certified_radius
    options["before_tokens"] = any(active)
    return options if any(active) or net.mask_training is not None else None


class Disturbance:
    """What becomes of a batch of images in training.

    Parameters
    ----------
    options : dict
        Of :func:`check_options`.
    source : pair (vocabulary, images) or None
        None: there are no tokens, and the images are disturbed as they are.
    like : ndarray (n, H, W, C)
        The same images made of tokens.
    device : str
    kept : ndarray of int or None
        Images that are trained on; None: all.

    Attributes
    ----------
    images : ndarray (n, H, W, C)
        Before the tokens.

    Raises
    ------
    ValueError
        If there is no source for options that need one, or it is of other images.
    TypeError
        If the vocabulary gives ids.
    """

    def __init__(self, options, source, like, device, kept=None):
        self.options, self.device = dict(options), device
        self.masks = self.options.pop("mask_training")
        if isinstance(self.masks, RandomMasks):
            self.masks = self.masks._with_values(mask_values(self.masks.values, source, like))
        if not self.options.pop("before_tokens"):
            source = None  # masks come after the tokens, which are there
        self.radius = self.options.pop("certified_radius")
        attack = {name: self.options.pop(f"adversarial_{name}") for name in ("radius", "steps")}
        self.attack: Any = {**attack, "autocast": options["autocast"]} if attack["radius"] else None
        self.blocks: Any = None
        self.code: Any = None
        self.neighbours: Any = None
        if source is None:
            if self.radius or options["flip_radius"]:
                raise ValueError(
                    "flip_radius and certified_radius look at images before they become tokens: "
                    "fit the network as the last step of a CertifiedPatchClassifier, right behind "
                    "the vocabulary, or pass source=(vocabulary, images)."
                )
            self.images = like if kept is None else like[kept]
            return
        vocabulary, images = source
        if isinstance(vocabulary, FrozenEstimator):
            vocabulary = vocabulary.estimator
        if vocabulary.output != "images":
            raise TypeError('The network is trained on images: use output="images".')
        self.images = np.asarray(vocabulary._check(images))
        if self.images.shape != like.shape:
            raise ValueError(
                f"The images of source have the shape {self.images.shape}, those made of tokens "
                f"{like.shape}: nothing may come between the vocabulary and the network."
            )
        _refuse_steps_between(source, vocabulary, self.images, like)
        self.images = self.images if kept is None else self.images[kept]
        self.vocabulary = vocabulary
        self.code = {
            "tokens": torch.as_tensor(vocabulary.vocabulary_, dtype=torch.float32, device=device),
            "patch_size": vocabulary.patch_size_,
            "per_channel": bool(vocabulary.per_channel_),
        }

    def made(self, images, target, network, criterion, training, part=None):
        """Images (n, C, H, W) made of tokens, if there are any; in training disturbed ones.

        `part` tells of which batch they are a part, so that `flip_share` is that of the batch.
        """
        made = self._unmasked(images, target, network, criterion, training, part)
        if not training or self.masks is None:
            return made
        if not isinstance(self.masks, RandomMasks):
            return self.masks(made)
        half = self.options["autocast"]
        return self.masks.hardest(
            made, lambda masked: losses_behind(network, criterion, masked, target, half)
        )

    def _unmasked(self, images, target, network, criterion, training, part):
        options = dict(self.options) if training else {}
        if training and part is not None:
            flipped = round(options["flip_share"] * part.n) - part.start
            options["flip_share"] = min(max(flipped, 0), len(images)) / len(images)
        images, target = images.to(self.device), target.to(self.device)
        if training and (self.attack or self.code is None):
            images = disturbed_images(images, options.pop("augment"), options.pop("noise_std"))
        if training and self.attack:
            code = {} if self.code is None else {**self.code}
            if code:
                code["vocabulary"] = np.asarray(code.pop("tokens").cpu())
            images = attacked_images(images, target, network, **self.attack, **code)
        if self.code is None:
            return images
        flips = options.get("flip_radius", 0) * options.get("flip_share", 0)
        if flips and self.neighbours is None:
            self.neighbours = nearest_tokens(self.code["tokens"])
        return training_images(
            images, target, network, criterion, neighbours=self.neighbours, **self.code, **options
        )

    def leads(self, images, target, network):
        """Negative lower bounds (n, n_classes) of the leads of an additive network."""
        if self.blocks is None:
            self.blocks = blocks_of(network, self.vocabulary)
            made = self.vocabulary.inverse_transform(self.blocks.images())
            made = made.reshape(len(made), *self.images.shape[1:])
            self.every = torch.as_tensor(made, dtype=torch.float32).permute(0, 3, 1, 2)
            self.every = self.every.to(self.device)
        names = ("augment", "noise_std")
        images = disturbed_images(
            images.to(self.device), **{name: self.options[name] for name in names}
        )
        cut = {name: self.code[name] for name in ("patch_size", "per_channel")}
        patches = surrogates.cut(images, **cut).flatten(1, 3)
        squares = squared_costs(patches, self.code["tokens"]).cpu().numpy()
        prices = torch.as_tensor(
            self.blocks.prices(squares), dtype=torch.float32, device=self.device
        )
        return -dual_leads(network.terms(self.every), prices, target.to(self.device), self.radius)


def mask_values(values, source, like):
    """What masks replace hidden values by, an array that broadcasts to (C, H, W)."""
    if values is None:
        return like.mean((0, 1, 2), dtype=np.float64)[:, None, None]
    if not isinstance(values, numbers.Integral):
        return values
    if source is None:
        raise ValueError(f"The mask is the token {values}, but there is no vocabulary.")
    vocabulary = next(iter(source))
    vocabulary = vocabulary.estimator if isinstance(vocabulary, FrozenEstimator) else vocabulary
    shape = like.shape[1:]
    most = min(map(encoding.count_own, vocabulary._own(vocabulary.vocabulary_)))
    if not 0 <= int(values) < most:
        raise ValueError(f"The mask is the token {values}, not one of 0 to {most - 1}.")
    groups = shape[2] if vocabulary.per_channel_ else 1
    ids = np.full((1, *grid_shape(shape, vocabulary.patch_size_), groups), values)
    return encoding.decode(ids, image_shape=shape, **vocabulary._code())[0].transpose(2, 0, 1)


def _refuse_steps_between(source, vocabulary, images, like):
    """Refuse images that are not those that the vocabulary makes, since training makes its own."""
    code, changed = vocabulary._code(), 0
    for start in range(0, len(images), _PART):
        part = images[start : start + _PART]
        ids = vocabulary.tokenize(part)
        made = encoding.decode(ids.reshape(*ids.shape[:3], -1), image_shape=part.shape[1:], **code)
        seen = like[start : start + _PART]
        changed += int((made.astype(np.float32) != seen.astype(np.float32)).any((1, 2, 3)).sum())
    if changed:
        names = ", ".join(map(repr, getattr(source, "between", ())))
        raise ValueError(
            f"The network receives other images than the vocabulary makes, {changed} of "
            f"{len(images)}{names and f', after the step {names}'}. augment, noise_std, "
            "flip_radius, adversarial_radius and certified_radius disturb images before they "
            "become tokens, so nothing may come between the vocabulary and the network: move the "
            "step before the vocabulary or into the module, or leave these options out."
        )


def blocks_of(network, vocabulary):
    """The blocks of an additive network on the patches of a vocabulary.

    Raises
    ------
    TypeError
        If the network is not additive.
    ValueError
        If its patches are not those of the vocabulary: a patch would be in two blocks.
    """
    if not all(hasattr(network, name) for name in ("terms", "block", "patch_size")):
        raise TypeError(
            f"{type(network).__name__} is not additive: use networks.AdditivePatchNet, or a module "
            "with `terms`, `block` and `patch_size`."
        )
    if tuple(network.patch_size) != tuple(vocabulary.patch_size_):
        raise ValueError(
            f"The network adds up patches of {tuple(network.patch_size)} pixels, the vocabulary has"
            f" patches of {vocabulary.patch_size_}: leave module__patch_size to the pipeline."
        )
    grid = grid_shape(vocabulary.image_shape_, vocabulary.patch_size_)
    groups = vocabulary.image_shape_[2] if vocabulary.per_channel_ else 1
    return Blocks((*grid, groups), network.block, vocabulary.vocabulary_.shape[-2])
