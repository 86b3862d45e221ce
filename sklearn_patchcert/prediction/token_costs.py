"""What it costs an attacker to give the patches of an image other tokens."""

from __future__ import annotations

import numpy as np

from sklearn_patchcert.patches import images_to_patches, patch_weights, patches_to_images
from sklearn_patchcert.prediction import configurations
from sklearn_patchcert.prediction.search import changes
from sklearn_patchcert.vocabulary import encoding
from sklearn_patchcert.voronoi import certificate, projections

_WALLS = 8  # to how many tokens walls are measured: more help little
_UP = 1 + 2.0**-51  # for the rounding of a difference


class TokenCosts:
    """Costs of tokens for some images.

    Parameters
    ----------
    images : ndarray (n, H, W, C)
        As the vocabulary sees them.
    vocabulary : fitted PatchVocabulary
    options : dict
        scale, error and error_growth as :func:`vocabulary.encoding.certify` takes them.
    norm : {"l2", "linf", "l0"}
        Over the whole image; "l0" counts values, each of which reaches one patch.
    bounds : tuple (low, high) or None
        Smallest and largest value that an image may have, for the costs of whole cells.
    """

    def __init__(self, images, vocabulary, options, norm, bounds=None):
        self.norm, self.bounds, self.vocabulary = norm, bounds, vocabulary
        self.shape = images.shape[1:]
        self.cut = {
            "patch_size": vocabulary.patch_size_,
            "per_channel": bool(vocabulary.per_channel_),
        }
        scale = options.get("scale", 1.0)
        self.sign = np.sign(np.broadcast_to(scale, self.shape))
        patches = images_to_patches(images, **self.cut)
        self.grid, self.patches = patches.shape, _flat(patches)
        self.weights = _flat(patch_weights(scale, self.shape, **self.cut)[None])[0]
        self.noise, self.growth = None, options.get("error_growth", 0.0)
        if options.get("error") is not None:
            error = images_to_patches(options["error"].reshape(images.shape), **self.cut)
            self.noise = np.linalg.norm(_flat(error), axis=-1)
        tokens = vocabulary.vocabulary_
        group = np.arange(len(self.weights)) % self.grid[3] if tokens.ndim == 3 else None
        self.parts = [(np.arange(len(self.weights)), tokens)]
        if group is not None:
            self.parts = [(np.flatnonzero(group == g), part) for g, part in enumerate(tokens)]
        self.own = np.empty(self.patches.shape[:2], dtype=np.int64)
        for at, part in self.parts:
            self.own[:, at] = certificate.tokenize(
                self.patches[:, at], part, weights=self.weights[at]
            )
        self._cells: dict = {}
        self._tables: list = []

    def cheapest(self, row, most):
        """The `most` cheapest changes of an image, of equally dear ones the first."""
        found = [
            self._cheapest(row, number, at, encoding.count_own(tokens), most)
            for number, (at, tokens) in enumerate(self.parts)
        ]
        if len(found) > 1:
            _, places, tokens, costs = (np.concatenate(parts) for parts in zip(*found, strict=True))
            order = np.lexsort((tokens, places))
            found = [changes.Changes(self.own[row], places[order], tokens[order], costs[order])]
        return changes.fewest(found[0]._replace(own=self.own[row]), most)

    def _cheapest(self, row, number, at, count, most):
        own = self.own[row, at]
        if self.norm == "l0":  # one value is enough for any token but the own
            numbers = np.arange(min(own.size * (count - 1), most))
            place, token = np.divmod(numbers, max(1, count - 1))
            token += token >= own[place]
            return changes.Changes(own, at[place], token, np.ones(len(numbers)))
        if not self._tables:
            self._tables = [
                changes.prepared(tokens, self.weights[part], self.norm)
                for part, tokens in self.parts
            ]
        noise = None if self.noise is None else self.noise[row, at]
        tables, scale = self._tables[number]
        found = changes.cheapest(
            self.patches[row, at], own, tables, scale, noise, self.growth, _WALLS, count, most
        )
        return found._replace(places=at[found.places])

    def walls(self):
        """Lower bounds of all costs in L2 or Linf, ndarray (n, positions, n_tokens)."""
        costs = np.empty((*self.patches.shape[:2], self.vocabulary.vocabulary_.shape[-2]))
        for at, tokens in self.parts:
            costs[:, at] = configurations.wall_costs(
                self.patches[:, at],
                tokens,
                self.norm,
                weights=self.weights[at],
                noise=None if self.noise is None else self.noise[:, at],
                noise_growth=self.growth,
                n_walls=_WALLS,
            )
        for at, tokens in self.parts:
            costs[:, at, encoding.count_own(tokens) :] = np.inf  # copies, which no patch gets
        return costs

    def cell(self, row, ids):
        """L2 cost of a configuration (positions,) of one image, each patch to its whole cell."""
        total = 0.0
        for at, tokens in self.parts:
            for p in np.flatnonzero(ids[at] != self.own[row, at]):
                key = row, at[p], ids[at[p]]
                if key not in self._cells:
                    patch, weights = self.patches[row, key[1]][None], self.weights[key[1]][None]
                    given = [None] if self.bounds is None else [None, self._limits(patch)]
                    lower = [
                        projections.steps_into_cells(
                            patch, tokens, ids[at[p]][None], weights=weights, limits=limits,
                            sweeps=60, sound=True,
                        )[1][0]
                        for limits in given
                    ]  # fmt: skip
                    self._cells[key] = float(max(lower))
                total += self._cells[key] ** 2
        return float(np.sqrt(total))

    def _limits(self, patches):
        """Smallest and largest steps between the bounds, or farther by what rounding takes."""
        if self.bounds is None:
            return None
        patches = np.asarray(patches, dtype=np.float64)  # float32 would round inwards, too
        low, high = (bound - patches for bound in self.bounds)
        return low.clip(max=0) * _UP, high.clip(min=0) * _UP

    def moved(self, X, row, ids):
        """X, one image, with the patches moved into the cells of the ids (positions,)."""
        steps = np.zeros((1, *self.patches.shape[1:]))
        for at, tokens in self.parts:
            patches = self.patches[row, at][None]
            steps[:, at] = projections.realised(
                patches, tokens, ids[at][None], weights=self.weights[at],
                limits=self._limits(patches),
            )  # fmt: skip
        steps = steps.reshape(1, *self.grid[1:])
        moves = patches_to_images(steps, self.shape, **self.cut) * self.sign
        moved = X + moves.reshape(X.shape)
        return moved if self.bounds is None else moved.clip(*self.bounds)


def _flat(patches):
    return encoding.split_channels(patches, False)[0]
