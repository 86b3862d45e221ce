r"""Training batches for certified predictions: images disturbed before they become tokens.

An attacker with an L2 budget :math:`\epsilon` reaches the token assignments whose squared costs
sum to less than :math:`\epsilon^2` (:mod:`prediction`).  So a network is trained on such
assignments: on tokens of noisy images, whose token changes are drawn by their cost, and on the
assignments within a budget that are worst by its gradient, or random.  A patch changes to one of
the 64 tokens nearest to its own.  The costs here are approximate.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from sklearn_patchcert.attacks.offers import buying
from sklearn_patchcert.networks.fitting.augmentation import augmented
from sklearn_patchcert.vocabulary import encoding
from sklearn_patchcert.voronoi import certificate, surrogates

FLIPS = ("adversarial", "random")
_MOST = 64  # neighbors of a token that patches may flip to; 256 take longer and hardly find more
_CACHED = 2**20  # products at once on a CPU


def training_images(
    images,
    target,
    network,
    criterion,
    *,
    tokens,
    patch_size,
    per_channel=False,
    augment=None,
    noise_std=0.0,
    flip_radius=0.0,
    flip_share=0.5,
    flip_kind="adversarial",
    flip_steps=1,
    neighbours=None,
    autocast=False,
):
    """Make a batch of training images from tokens, disturbed according to the options.

    Parameters
    ----------
    images : Tensor (n, C, H, W)
        Before the tokens.
    target : Tensor (n, ...)
    network : nn.Module, images (n, C, H, W) made of tokens -> outputs
        Asked in evaluation mode for a gradient; its mode and gradients are left as they were.
    criterion : callable, (outputs, target) -> scalar
    tokens : Tensor (n_tokens, dim) or (C, n_tokens, dim)
    patch_size : tuple (ph, pw)
    per_channel : bool
        Whether channels are cut by themselves.
    augment : callable or None, images (n, C, H, W) -> images
        Comes first.
    noise_std : float
        Each image gets Gaussian noise of a standard deviation drawn from [0, noise_std].
    flip_radius : float
        L2 norm, over the whole image, that the flips of a disturbed image may cost.
    flip_share : float
        Part of the batch whose tokens are flipped.
    flip_kind : {"adversarial", "random"}
    flip_steps : int
        Gradients of the adversarial flips: the first at the image, each other at a mixture of the
        choices so far, as :func:`attacks.flips.search` begins (Frank and Wolfe).
    neighbours : Tensor of int64 (groups, n_tokens, k) or None
        What :func:`nearest_tokens` returns for these tokens, so that it is computed once.
    autocast : bool
        Whether that gradient is computed in bfloat16.

    Returns
    -------
    images : Tensor (n, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks.fitting.flip_training import training_images
    >>> images, target = torch.tensor([[[[0.1, 0.9]]], [[[0.2, 0.7]]]]), torch.tensor([1, 1])
    >>> training_images(
    ...     images, target, torch.nn.Flatten(), torch.nn.functional.cross_entropy,
    ...     tokens=torch.tensor([[0.0], [1.0]]), patch_size=(1, 1), flip_radius=0.6,
    ... )  # the first half flipped, against the target
    tensor([[[[1., 0.]]],
    <BLANKLINE>
    <BLANKLINE>
            [[[0., 1.]]]])
    """
    images = disturbed_images(images, augment, noise_std)
    size = images.shape[2:]
    patches = surrogates.cut(images, patch_size, per_channel=per_channel)
    grid = patches.shape[1:4]
    patches = patches.flatten(1, 3)
    table, group = _groups(tokens, patches)
    parts = [part[: encoding.count_own(part)] for part in table]
    ids = torch.stack([_nearest(patches[:, group == g], part) for g, part in enumerate(parts)], 2)
    ids = ids.flatten(1)

    def made(ids):
        return surrogates.join(table[group, ids].unflatten(1, grid), patch_size, size)

    m = round(flip_share * len(images)) if flip_radius > 0 else 0
    if not m:
        return made(ids)
    neighbours = nearest_tokens(tokens) if neighbours is None else neighbours
    offers = [
        _Offers(part, patches[:m, group == g], ids[:m, group == g], near[:, : len(part)])
        for g, (part, near) in enumerate(zip(parts, neighbours, strict=True))
    ]
    prices = [offer.prices for offer in offers]
    flipped, adversarial = ids[:m], flip_kind == "adversarial"
    mixture = made(flipped)
    for step in range(flip_steps if adversarial else 1):
        if step:
            mixture = mixture.lerp(made(flipped), 2 / (step + 1))
        if adversarial:
            slope = _gradient(network, criterion, mixture, target[:m], autocast)
            slope = surrogates.cut(slope, patch_size, per_channel=per_channel).flatten(1, 3)
            gains = [offer.dots(slope[:, group == g]) for g, offer in enumerate(offers)]
        else:
            gains = [torch.rand_like(price) for price in prices]
        gains = [gain - gain[..., :1] for gain in gains]
        chosen = buying.knapsack(gains, prices, flip_radius**2)
        flipped = torch.stack(
            [o.ids.gather(-1, c[..., None])[..., 0] for o, c in zip(offers, chosen, strict=True)], 2
        ).flatten(1)
    return made(torch.cat([flipped, ids[m:]]))


class _Offers:
    """Tokens to which the patches of one vocabulary may flip, and their squared costs.

    Parameters
    ----------
    tokens : Tensor (n_tokens, dim)
    patches : Tensor (n, positions, dim)
    own : Tensor of int64 (n, positions)
        The nearest token of each patch.
    neighbours : Tensor of int64 (at least n_tokens, k)
        What each token is offered, itself first.
    """

    def __init__(self, tokens, patches, own, neighbours):
        self.tokens, self.ids = tokens, neighbours[own]
        squares = tokens.square().sum(-1)[self.ids]
        ahead = self.dots(patches)
        ahead = (squares - squares[..., :1]) / 2 - (ahead - ahead[..., :1])
        apart = squares + squares[..., :1] - 2 * self.dots(tokens[own])
        floor = torch.finfo(apart.dtype).tiny
        self.prices = ahead.clamp_min(0).square() / apart.clamp_min(floor)

    def dots(self, vectors):
        """Products (n, positions, k) of vectors (n, positions, dim) with the offered tokens."""
        dots = torch.empty(self.ids.shape, dtype=vectors.dtype, device=vectors.device)
        n, positions, k = self.ids.shape
        every = len(self.tokens) <= 32 * k  # cheaper than to gather what each is offered
        width = len(self.tokens) if every else k * self.tokens.shape[1]
        most = _CACHED if vectors.device.type == "cpu" else 2**26
        size = max(1, most // (positions * width))
        for rows in torch.arange(n, device=vectors.device).split(size):
            if every:
                dots[rows] = (vectors[rows] @ self.tokens.T).gather(-1, self.ids[rows])
            else:
                dots[rows] = (self.tokens[self.ids[rows]] @ vectors[rows][..., None])[..., 0]
        return dots


def nearest_tokens(tokens, most=_MOST):
    """Find the neighbors of every token, in order of distance, beginning with itself.

    Parameters
    ----------
    tokens : Tensor (n_tokens, dim) or (C, n_tokens, dim)
    most : int
        How many of them at most.

    Returns
    -------
    neighbours : Tensor of int64 (groups, n_tokens, k)
        With one group or, with tokens for each channel, C.  Where a channel has fewer tokens, the
        token itself fills the rest.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks.fitting.flip_training import nearest_tokens
    >>> nearest_tokens(torch.tensor([[0.0], [1.0], [5.0]]), most=2)
    tensor([[[0, 1],
             [1, 0],
             [2, 1]]])
    """
    table = tokens if tokens.ndim == 3 else tokens[None]
    own = [encoding.count_own(part) for part in table]
    k = min(max(own), most)
    found = torch.arange(table.shape[1], device=table.device)[:, None].repeat(len(table), 1, k)
    for part, count, places in zip(table, own, found, strict=True):
        part = part[:count]
        at = torch.arange(count, device=part.device)
        for rows in at.split(max(1, 2**26 // count)):
            squares = surrogates.squared_distances(part[rows], part)
            squares[torch.arange(len(rows), device=part.device), rows] = -1.0  # itself first
            near = squares.topk(min(k, count), largest=False)
            places[rows, : near.indices.shape[1]] = near.indices
    return found


def disturbed_images(images, augment=None, noise_std=0.0):
    """Augment images and add noise to them.

    Parameters
    ----------
    images : Tensor (n, C, H, W)
    augment : callable or None, images (n, C, H, W) -> images
    noise_std : float
        Each image gets Gaussian noise of a standard deviation drawn from [0, noise_std].

    Returns
    -------
    images : Tensor (n, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks.fitting.flip_training import disturbed_images
    >>> images = torch.zeros(100, 1, 8, 8)
    >>> bool(disturbed_images(images, noise_std=0.1).std() < 0.1)
    True
    """
    if augment is not None:
        images = augmented(images, augment)
    if noise_std > 0:
        strength = noise_std * torch.rand(len(images), 1, 1, 1, device=images.device)
        images = images + strength * torch.randn_like(images)
    return images


def squared_costs(patches, tokens):
    """Approximate squared distances to the cell boundaries of other tokens.

    Parameters
    ----------
    patches : Tensor (n, positions, dim)
    tokens : Tensor (n_tokens, dim) or (C, n_tokens, dim)
        With tokens for each channel, positions go over the channels fastest.

    Returns
    -------
    prices : Tensor (n, positions, n_tokens)
        0 for the own token.

    Examples
    --------
    >>> import torch
    >>> from sklearn_patchcert.networks.fitting.flip_training import squared_costs
    >>> squared_costs(torch.tensor([[[0.25]]]), torch.tensor([[0.0], [1.0]]))
    tensor([[[0.0000, 0.0625]]])
    """
    table, group = _groups(tokens, patches)
    prices = torch.empty(*patches.shape[:2], table.shape[1], device=patches.device)
    for g, part in enumerate(table):
        squares = surrogates.squared_distances(patches[:, group == g], part)
        walls = surrogates.walls(squares, part)
        prices[:, group == g] = torch.where(walls.isinf(), 0.0, walls).square()
    return prices


def _groups(tokens, patches):
    """Vocabularies (groups, n_tokens, dim), and which of them each position has."""
    table = tokens if tokens.ndim == 3 else tokens[None]
    return table, torch.arange(patches.shape[1], device=patches.device) % len(table)


def random_affine(
    images: torch.Tensor,
    *,
    degrees: float = 0.0,
    translate: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
) -> torch.Tensor:
    """Rotate, shift, scale and shear every image by random amounts.

    Parameters
    ----------
    images : Tensor (n, C, H, W)
    degrees : float
        Largest angle.
    translate : float
        Largest shift along each side, in pixels.
    scale : float
        Largest relative change of size.
    shear : float
        Largest slope.

    Returns
    -------
    images : Tensor (n, C, H, W)
        Pixels from outside are copies of the border's.

    Examples
    --------
    >>> from functools import partial
    >>> from sklearn_patchcert import PatchNetClassifier
    >>> from sklearn_patchcert.networks import random_affine
    >>> net = PatchNetClassifier(augment=partial(random_affine, degrees=10, translate=2))
    """

    def drawn(most):
        return most * (2 * torch.rand(len(images), device=images.device) - 1)

    angle, factor, slope = drawn(math.radians(degrees)), 1 + drawn(scale), drawn(shear)
    right, down = (drawn(2 * translate / side) for side in (images.shape[3], images.shape[2]))
    rows = [
        torch.stack([angle.cos() * factor, slope - angle.sin() * factor, right], dim=1),
        torch.stack([angle.sin() * factor, angle.cos() * factor, down], dim=1),
    ]
    moves = torch.stack(rows, dim=1).to(images.dtype)
    grid = functional.affine_grid(moves, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_crop(
    images: torch.Tensor, *, pixels: int = 4, mirror: bool = False, fill: float = 0.0
) -> torch.Tensor:
    """Shift every image by a random number of pixels and, if `mirror`, mirror half of them.

    Parameters
    ----------
    images : Tensor (n, C, H, W)
    pixels : int
        Largest shift along each side.
    mirror : bool
    fill : float
        Value of what comes in from outside.

    Returns
    -------
    images : Tensor (n, C, H, W)

    Examples
    --------
    >>> from functools import partial
    >>> from sklearn_patchcert import PatchNetClassifier
    >>> from sklearn_patchcert.networks import random_crop
    >>> net = PatchNetClassifier(augment=partial(random_crop, pixels=4, mirror=True))
    """
    n, _, height, width = images.shape
    device = images.device
    padded = functional.pad(images, (pixels,) * 4, value=fill)
    down, right = torch.randint(2 * pixels + 1, (2, n, 1), device=device)
    rows, cols = (
        down + torch.arange(height, device=device),
        right + torch.arange(width, device=device),
    )
    if mirror:
        flipped = torch.rand(n, 1, device=device) < 0.5
        cols = torch.where(flipped, cols.flip(1), cols)
    picked = padded.permute(0, 2, 3, 1)[
        torch.arange(n, device=device)[:, None, None], rows[:, :, None], cols[:, None, :]
    ]
    return picked.permute(0, 3, 1, 2)


def _nearest(patches, tokens):
    """Nearest tokens (n, positions); on the CPU by the search that skips most of them."""
    if patches.device.type != "cpu":
        return surrogates.nearest(patches, tokens)
    return torch.from_numpy(certificate.tokenize(patches.detach().numpy(), tokens.numpy()))


def _gradient(network, criterion, images, target, autocast):
    training = network.training
    network.eval()
    half = torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=autocast)
    with torch.enable_grad(), half:
        images = images.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(criterion(network(images), target), images)
    network.train(training)
    return slope.float()
