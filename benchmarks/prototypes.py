"""Prototypes of classes for benchmarks/whole_image.py: how they are trained, and a quick bound.

Nothing is measured here.  All was chosen on images that are held out from training.
"""

from functools import partial

import numpy as np
import torch
from sklearn.naive_bayes import CategoricalNB

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary
from sklearn_patchcert.networks import random_affine, random_crop
from sklearn_patchcert.voronoi import steps_into_cells

PROTOTYPES = {  # tokens, target of their walls, passes, images of a batch
    "mnist": (4000, 2.5, 50, 500),
    "fashion_mnist": (2000, 1.58, 20, 256),
    "cifar10": (2000, 1.0, 20, 256),
}
_UP = 1 + 2.0**-51  # for the rounding of a difference
_AT_ONCE = 8  # wrong prototypes whose cells are measured together


def some_moved(images, share, **moves):
    """Move a share of the images; the others stay as sharp as they are."""
    chosen = torch.rand(len(images), device=images.device) < share
    return torch.where(chosen[:, None, None, None], random_affine(images, **moves), images)


MOVES = {
    "mnist": partial(some_moved, share=0.85, degrees=7.2, translate=0.84, scale=0.06, shear=0.084),
    "fashion_mnist": partial(random_crop, pixels=1, mirror=True),
    "cifar10": partial(random_crop, pixels=2, mirror=True, fill=0.47),
}


def prototypes(data, quick):
    """Tokens that are whole images."""
    side = 32 if data == "cifar10" else 28
    n_tokens, target, epochs, batch_size = PROTOTYPES[data]
    vocabulary = PatchVocabulary(
        n_tokens, side, strategy="supervised", target_radius=target, augment=MOVES[data],
        output="ids", max_iter=1 if quick else epochs, batch_size=batch_size, subsample=None,
        random_state=0,
    )  # fmt: skip
    return CertifiedPatchClassifier(
        [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=n_tokens))]
    )


def lower_bounds(model, X, y, nearest=16, at_once=100, bounds=None):
    """Lower bounds of the certified radii of many images, without the exact search.

    A wrong prototype b takes an image x from the prototypes a of its class only beyond the walls of
    all of them, so within min over b of max over a of (|x - b|^2 - |x - a|^2) / (2 |a - b|) the
    class stays.  Any few prototypes of the class give a bound; the nearest ones a good one.
    Within bounds it is by the distance to the cell of b among b, a few others and these, where the
    walls alone leave it open whether it is the smallest.

    Parameters
    ----------
    model : CertifiedPatchClassifier
        Of :func:`prototypes`.
    X : ndarray (n, H, W, C)
    y : ndarray of int (n,)
    nearest : int
        Prototypes of the right class.
    at_once : int
    bounds : tuple (low, high) or None
        Smallest and largest value of a pixel, for the attacker.

    Returns
    -------
    radii : ndarray of float64 (n,)
        L2 over the whole image, in the units of X; -1 where the prediction is wrong.
    """
    tokens = torch.as_tensor(model["vocab"].vocabulary_, dtype=torch.float64).flatten(1)
    apart = partial(torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")  # no cancellation
    owners, between = model[1:].predict(np.arange(len(tokens))[:, None]), apart(tokens, tokens)
    flat, found = torch.as_tensor(X, dtype=torch.float64).flatten(1), []
    parts = np.split(y, range(at_once, len(y), at_once))
    for images, labels in zip(flat.split(at_once), parts, strict=True):
        squares = apart(images, tokens).square()
        wrong = torch.as_tensor(owners != labels[:, None])
        own, a = torch.where(wrong, torch.inf, squares).topk(nearest, largest=False)
        walls = (squares[:, None] - own[..., None]) / (2 * between[a])
        walls = torch.where(wrong, walls.nan_to_num(-torch.inf).amax(1), torch.inf)
        radii = walls.amin(1)
        for row in (radii > 0).nonzero()[:, 0] if bounds is not None else ():
            radii[row] = _within(bounds, images[row], tokens, tokens[a[row]], walls[row])
        found.append(radii)
    radii = torch.cat(found).numpy()
    return np.where(radii > 0, radii, -1.0)


def _within(bounds, image, tokens, own, walls):
    """The bound of one image (dim,) for images within bounds, from its walls (n_tokens,)."""
    low, high = ((bound - image[None]).numpy() * _UP for bound in bounds)
    radius = np.inf
    for others in walls.argsort().split(_AT_ONCE):
        if walls[others[0]] >= radius:  # those of all others are farther away
            break
        _, lower = steps_into_cells(
            image.expand(len(others), -1), torch.cat([tokens[others], own]),
            np.arange(len(others)), limits=(low, high), sweeps=60, sound=True,
        )  # fmt: skip
        radius = min(radius, lower.min())
    return radius
