"""certify_prediction: the certified radius of a pipeline's answer for a whole image."""

from __future__ import annotations

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch
from tqdm.auto import tqdm

from sklearn_patchcert import encoding, flips, prediction
from sklearn_patchcert.patches import images_to_patches, patch_weights, patches_to_images

_MARGIN = 1e-3  # of the logits: what is nearer to a tie may change with the batch or the device
_SLACK = 1e-6


def certify_prediction(
    pipeline, X, *, scaled, norm="l2", max_configurations=10_000, cells=False, verbose=False
):
    """Certified radii of predictions; see :meth:`CertifiedPatchClassifier.certify_prediction`.

    Parameters
    ----------
    pipeline : fitted CertifiedPatchClassifier
    X : ndarray (n, n_features), (n, H, W) or (n, H, W, C)
    scaled : callable, X -> (Z, dict)
        The images as the vocabulary sees them, and scale, error and error_growth as
        :func:`encoding.certify` takes them.
    norm, max_configurations, cells
        As there.
    verbose : bool

    Returns
    -------
    result : Bunch
    """
    X = np.asarray(X)
    before, vocabulary = pipeline._split()
    if cells and (before or norm != "l2"):
        raise ValueError('cells=True is for norm="l2" and no scaling step before the vocabulary.')
    rest = Pipeline(pipeline.steps[len(before) + 1 :])
    last = pipeline.steps[-1][1]
    predicted = pipeline.predict(X)
    n = len(X)
    result = Bunch(
        prediction=predicted,
        radius=np.zeros(n),
        exact=np.zeros(n, dtype=bool),
        n_configurations=np.zeros(n, dtype=np.int64),
        adversarial=np.full(X.shape, np.nan),
    )

    def answers(ids):
        """Classes of configurations (m, positions), and whether they are beyond doubt."""
        images = ids if vocabulary.output == "ids" else vocabulary.inverse_transform(ids)
        if not hasattr(last, "module_"):
            return rest.predict(images), np.ones(len(ids), dtype=bool)
        with np.errstate(divide="ignore"):
            logs = np.log(rest.predict_proba(images))
        top = np.sort(logs, axis=1)[:, -2:]
        sure = top[:, 1] - top[:, 0] > _MARGIN if top.shape[1] > 1 else np.ones(len(ids), bool)
        return pipeline.classes_[logs.argmax(1)], sure

    for row in tqdm(range(n), desc="certifying", unit="image", disable=not verbose):
        Z, options = scaled(X[row : row + 1])
        images = vocabulary._check(Z)
        tokens = _Costs(images, vocabulary, options, norm)
        costs = tokens.walls()
        if cells:
            costs = np.maximum(costs, tokens.cells())

        def changes(_, ids, row=row):
            found, sure = answers(ids)
            return (found != predicted[row]) | ~sure

        radius, exact, looked, ids = prediction.certify_configurations(
            changes, costs, norm, max_configurations=max_configurations
        )
        result.radius[row], result.n_configurations[row] = radius[0], looked[0]
        if exact[0]:  # or only too near to a tie
            result.exact[row] = answers(ids)[0][0] != predicted[row]
        if result.exact[row] and norm == "l2":
            moved = tokens.moved(X[row : row + 1], ids)
            if pipeline.predict(moved)[0] != predicted[row]:
                result.adversarial[row] = moved[0]
    return result


class _Costs:
    """What it costs one image to have other tokens."""

    def __init__(self, images, vocabulary, options, norm):
        self.norm, self.vocabulary, self.shape = norm, vocabulary, images.shape[1:]
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

    def walls(self):
        return self._each(
            lambda at, tokens: prediction.wall_costs(
                self.patches[:, at],
                tokens,
                self.norm,
                weights=self.weights[at],
                noise=None if self.noise is None else self.noise[:, at],
                noise_growth=self.growth,
            )
        )

    def cells(self):
        def lower(at, tokens):
            costs = flips.cell_costs(self.patches[:, at], tokens, weights=self.weights[at])
            reach = float(np.abs(tokens).max()) + float(np.abs(self.patches).max())
            return np.maximum(0, costs * (1 - _SLACK) - _SLACK * reach)

        return self._each(lower)

    def moved(self, X, ids):
        """X with the patches moved into the cells of the ids."""
        steps = np.zeros(self.patches.shape)
        for at, tokens in self.parts:
            steps[:, at] = flips.realised(
                self.patches[:, at], tokens, ids[:, at], weights=self.weights[at]
            )
        moves = patches_to_images(steps.reshape(self.grid), self.shape, **self.cut) * self.sign
        return X + moves.reshape(X.shape)

    def _each(self, function):
        out = np.empty((*self.patches.shape[:2], self.vocabulary.vocabulary_.shape[-2]))
        for at, tokens in self.parts:
            out[:, at] = function(at, tokens)
        return out


def _flat(patches):
    return encoding.split_channels(patches, False)[0]
