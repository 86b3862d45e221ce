"""The search over tokens as an attack on a pipeline: from images to images."""

from __future__ import annotations

import numpy as np
import torch

from sklearn_patchcert.attacks import flips
from sklearn_patchcert.attacks.views.tokenized_network import TokenizedNetwork
from sklearn_patchcert.attacks.views.torch_modules import as_torch_module
from sklearn_patchcert.patches import images_to_patches, patch_weights, patches_to_images
from sklearn_patchcert.vocabulary import encoding
from sklearn_patchcert.voronoi import projections, surrogates

_ROUNDS = 8
_FEW = 64  # tokens, onto whose cells every patch is projected
_MANY = 2048  # tokens, of which an attacker can pay for a few in each place


class Tokens:
    """The tokens of a pipeline, position by position, as :mod:`attacks.flips` wants them.

    `model` is a fitted pipeline or the module that has been made of it; `read` makes logits of
    what that answers.
    """

    def __init__(self, model, images, read=None):
        self.module = model if isinstance(model, TokenizedNetwork) else as_torch_module(model)
        if self.module.vocabulary is None:
            raise TypeError(
                "There is no vocabulary: a search over tokens needs a pipeline with one."
            )
        self.read = (lambda found: found) if read is None else read
        self.shape = images.shape[1:]
        module, size = self.module, self.module.patch_size
        wide = images.dtype == np.float64  # of which float32 would move patches across walls
        scale, shift = (
            (values.permute(1, 2, 0) if values.ndim else values).cpu().numpy()
            for values in (module.affine() if wide else (module.scale, module.shift))
        )
        scale = np.broadcast_to(scale, self.shape)
        self.sign, per_channel = np.sign(scale), module.per_channel
        self.images = (images * scale + shift).astype(images.dtype)
        self.grid_patches = images_to_patches(self.images, size, per_channel=per_channel)
        self.grid = self.grid_patches.shape[1:4]
        self.patches = self.grid_patches.reshape(len(images), -1, self.grid_patches.shape[-1])
        weights = patch_weights(scale, self.shape, size, per_channel=per_channel)
        self.weights = weights.reshape(-1, weights.shape[-1])
        own = module.vocabulary.ndim == 3
        vocabularies = module.vocabulary if own else module.vocabulary[None]
        group = np.arange(len(self.weights)) % self.grid[2] if own else np.zeros(len(self.weights))
        self.parts = [(np.flatnonzero(group == g), v) for g, v in enumerate(vocabularies)]
        self.tokens = torch.tensor(np.stack([vocabularies[int(g)] for g in group])).float()
        self.tokens = self.tokens.to(module.scale.device)

    def network(self, made):
        """Logits of images made of tokens."""
        return self.read(self.module.answers(made))

    def per_part(self, function, width, dtype=float):
        out = np.zeros((*self.patches.shape[:2], width), dtype=dtype)
        for at, vocabulary in self.parts:
            out[:, at] = function(at, vocabulary)
        return out

    def costs(self, limit, exact):
        def of_part(at, vocabulary):
            own = vocabulary[: encoding.count_own(vocabulary)]
            found = projections.cell_costs(
                self.patches[:, at], own, weights=self.weights[at], limit=limit, exact=exact
            )
            more = len(vocabulary) - len(own)  # copies, which would crowd out other flips
            return np.pad(found, ((0, 0), (0, 0), (0, more)), constant_values=np.inf)

        return self.per_part(of_part, self.tokens.shape[1])

    def norms(self, rows, ids):
        """L2 norms (m, positions) of the steps of some images into the cells of the ids."""
        out = np.zeros(ids.shape)
        own = (
            self.module.ids(torch.from_numpy(self.images[rows]).permute(0, 3, 1, 2))
            .reshape(len(rows), -1)
            .numpy()
        )
        for at, vocabulary in self.parts:
            found = np.argwhere(ids[:, at] != own[:, at])
            row, position = found[:, 0], at[found[:, 1]]
            if len(found):
                steps, _ = projections.steps_into_cells(
                    self.patches[rows[row], position], vocabulary, ids[row, position],
                    weights=self.weights[position],
                )  # fmt: skip
                out[row, position] = np.linalg.norm(steps, axis=1)
        return out

    def priced(self, costs, ids):
        """The costs, with those of some ids as they really are; none is beyond reach for them."""
        rows, position = np.arange(len(ids)), np.arange(ids.shape[1])
        norms = self.norms(rows, ids)
        costs = costs.copy()
        costs[rows[:, None], position, ids] = norms
        return costs

    def moved(self, images, ids):
        """Images in the user's units whose tokens are the ids."""
        steps = self.per_part(
            lambda at, v: projections.realised(
                self.patches[:, at], v, ids[:, at], weights=self.weights[at]
            ),
            self.patches.shape[-1],
        )
        blocks = steps.reshape(self.grid_patches.shape)
        size, per_channel = self.module.patch_size, self.module.per_channel
        moves = patches_to_images(blocks, self.shape, size, per_channel=per_channel)
        return (images.astype(np.float64) + moves * self.sign).astype(images.dtype)

    def decode(self, patches):
        blocks = patches.reshape(len(patches), *self.grid, -1)
        return surrogates.join(blocks, self.module.patch_size, self.shape[:2])

    def ids_of(self, images):
        """Tokens (n, positions) of images in the user's units."""
        module = self.module
        images = torch.from_numpy(images).permute(0, 3, 1, 2).to(module.scale.device)
        return module.ids(module.scaled(images)).reshape(len(images), -1).cpu().numpy()


def flipped(tokens, images, labels, far, *, eps, exact=None, **options):
    """Adversarial images by the search over tokens.

    Parameters
    ----------
    tokens : Tokens
        Of the images.
    images : ndarray of float32 or float64 (n, H, W, C)
    labels : ndarray of int (n,)
    far : ndarray of float32 (n, H, W, C) or None
        Where another attack has come to; None starts from the images.
    eps : float
        L2, over the whole image.
    exact : bool or None
        Whether to price flips by the distance of the cell; None does so where tokens are few.
    **options
        Of :func:`attacks.flips.search`.

    Returns
    -------
    adversarial : ndarray (n, H, W, C), of the dtype of the images
        The images themselves where nothing was found.
    """
    if exact is not None and not isinstance(exact, bool | np.bool_):
        raise TypeError(f"exact must be True, False or None, got {exact!r}.")
    exact = tokens.tokens.shape[1] <= _FEW if exact is None else exact
    costs = tokens.costs(eps, exact)
    y, own = torch.from_numpy(labels), costs.argmin(-1)
    begin = own
    if far is not None:
        begin = tokens.ids_of(far)
        costs = tokens.priced(costs, begin)
    ids = own.copy()
    rows = np.arange(len(images))
    for _ in range(_ROUNDS):
        if not len(rows):
            break
        tried, found = _search(
            tokens, begin[rows], costs[rows], y[rows], eps=eps * (1 - 1e-4), **options
        )
        rows, tried = rows[found], tried[found]
        if not len(rows):
            break
        tried = flips.undo(
            tokens.network, tokens.decode, tried, own[rows], costs[rows], y[rows],
            tokens.tokens,
        )  # fmt: skip
        ids[rows] = tried
        # What the flips really cost, where that was only bounded; too dear ones are looked at anew.
        norms = tokens.norms(rows, tried)
        position = np.arange(tried.shape[1])
        known = costs[rows[:, None], position, tried]
        costs[rows[:, None], position, tried] = np.maximum(known, norms)
        rows = rows[np.linalg.norm(norms, axis=1) > eps * (1 - 1e-4)]
    ids[rows] = own[rows]
    return tokens.moved(images, ids)


def _search(tokens, begin, costs, labels, **options):
    """flips.search; of many tokens, image by image, among those that can be paid for."""
    network, table = tokens.network, tokens.tokens
    if table.shape[1] <= _MANY:
        return flips.search(network, tokens.decode, begin, costs, labels, tokens=table, **options)
    ids, found = begin.copy(), np.zeros(len(begin), dtype=bool)
    places = np.arange(begin.shape[1])
    for row, prices in enumerate(costs):
        prices[places, begin[row]] = np.minimum(prices[places, begin[row]], 1e150)  # stays in sight
        near = np.argsort(prices, axis=1)[:, : np.isfinite(prices).sum(1).max()]
        start = (near == begin[row][:, None]).argmax(1)
        best, good = flips.search(
            network, tokens.decode, start[None], prices[places[:, None], near][None],
            labels[row : row + 1], tokens=table[places[:, None], near], **options,
        )  # fmt: skip
        ids[row], found[row] = near[places, best[0]], good[0]
    return ids, found
