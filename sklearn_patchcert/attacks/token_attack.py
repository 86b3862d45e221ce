"""The search over tokens as an attack on a pipeline: from images to images."""

from __future__ import annotations

import functools

import numpy as np
import torch

from sklearn_patchcert.attacks import flips
from sklearn_patchcert.attacks.offers.tables import made
from sklearn_patchcert.attacks.views.tokenized_network import TokenizedNetwork
from sklearn_patchcert.attacks.views.torch_modules import as_torch_module
from sklearn_patchcert.patches import images_to_patches, patch_weights, patches_to_images
from sklearn_patchcert.vocabulary import encoding
from sklearn_patchcert.voronoi import projections, surrogates

_ROUNDS = 8
_FEW = 64  # tokens, onto whose cells every patch is projected
_SMALL = 2**14  # values of an image whose patches are


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
        self.group = group.astype(np.int64)
        self.tokens = torch.tensor(np.asarray(vocabularies)).float().to(module.scale.device)

    def network(self, made):
        """Logits of images made of tokens."""
        return self.read(self.module.answers(made))

    def per_part(self, function, width, dtype=float):
        out = np.zeros((*self.patches.shape[:2], width), dtype=dtype)
        for at, vocabulary in self.parts:
            out[:, at] = function(at, vocabulary)
        return out

    def offers(self, limit, exact, tick=lambda share: None):
        """What each patch may change to at a cost of at most a limit, own tokens first."""
        # Copies of tokens would crowd out other flips.
        own = [v[: encoding.count_own(v)] for _, v in self.parts]
        costs = functools.partial(
            _costs, self.patches.reshape(-1, self.patches.shape[2]), self.group,
            *np.unique(self.weights, axis=0, return_inverse=True),
            [projections.prepared(v) for v in own], limit, exact,
        )  # fmt: skip
        return made(costs, self.patches.shape[:2], self.tokens.shape[1], tick)

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


def n_offers(module, shape):
    """How many tokens an image (H, W, C) is offered at most, all its patches together."""
    if module.vocabulary is None:
        return 1
    rows, cols = (-(-side // size) for side, size in zip(shape, module.patch_size, strict=False))
    return rows * cols * (shape[2] if module.per_channel else 1) * module.vocabulary.shape[-2]


def flipped(tokens, images, labels, far, *, eps, exact=None, tick=lambda share: None, **options):
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
        Whether to price flips by the distance of the cell; None does so where tokens and patches
        are few.
    tick : callable
        Is told of each part of the pricing which share of it is done.
    **options
        Of :func:`attacks.flips.search`.

    Returns
    -------
    adversarial : ndarray (n, H, W, C), of the dtype of the images
        The images themselves where nothing was found.
    """
    if exact is not None and not isinstance(exact, bool | np.bool_):
        raise TypeError(f"exact must be True, False or None, got {exact!r}.")
    few = tokens.tokens.shape[1] <= _FEW and tokens.patches[0].size <= _SMALL
    exact = few if exact is None else exact
    offers = tokens.offers(eps, exact, tick)
    y, own = torch.from_numpy(labels), offers.token[offers.own()].astype(np.int64)
    rows, begin = np.arange(len(images)), own
    if far is not None:
        begin = tokens.ids_of(far)
        offers.reprice(begin, tokens.norms(rows, begin))  # as they really are
    ids = own.copy()
    for _ in range(_ROUNDS):
        if not len(rows):
            break
        some = offers.rows(rows)
        tried, found = flips.search(
            tokens.network, tokens.decode, begin[rows], some, y[rows], tokens=tokens.tokens,
            eps=eps * (1 - 1e-4), **options,
        )  # fmt: skip
        rows, tried = rows[found], tried[found]
        if not len(rows):
            break
        tried = flips.undo(
            tokens.network, tokens.decode, tried, own[rows], some.rows(np.flatnonzero(found)),
            y[rows], tokens.tokens,
        )  # fmt: skip
        ids[rows] = tried
        # What the flips really cost, where that was only bounded; too dear ones are looked at anew.
        norms = np.zeros(own.shape)
        norms[rows] = tokens.norms(rows, tried)
        offers.reprice(ids, norms, at_least=True)
        rows = rows[np.linalg.norm(norms[rows], axis=1) > eps * (1 - 1e-4)]
    ids[rows] = own[rows]
    return tokens.moved(images, ids)


def _costs(patches, group, kinds, kind, prepared, limit, exact, rows):
    """Costs (m, n_tokens) of the patches of all images in some rows; inf for copies of tokens."""
    position = np.arange(rows.start, rows.stop) % len(group)
    out = np.full((len(position), max(len(tokens) for tokens, _ in prepared)), np.inf)
    for g, own in enumerate(prepared):
        at = np.flatnonzero(group[position] == g)
        at = at[np.argsort(kind.ravel()[position[at]], kind="stable")]  # equal ones in a row
        out[at, : len(own[0])] = projections.costs_of_rows(
            patches[rows][at], kinds, kind.ravel()[position[at]], own, limit=limit, exact=exact
        )
    return out
