"""Prototypes of classes for benchmarks/whole_image.py: how they are trained, and a quick bound.

Nothing is measured here.  All was chosen on images that are held out from training.
"""

from functools import partial

import numpy as np
import torch
from sklearn.naive_bayes import CategoricalNB

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary
from sklearn_patchcert.networks import random_affine, random_crop

PROTOTYPES = {  # tokens, target of their walls, passes, images of a batch
    "mnist": (4000, 2.5, 50, 500),
    "fashion_mnist": (2000, 1.58, 20, 256),
    "cifar10": (2000, 1.0, 20, 256),
}


def some_moved(images, share, **moves):
    """Move a share of the images; the others stay as sharp as they are."""
    chosen = torch.rand(len(images), device=images.device) < share
    return torch.where(chosen[:, None, None, None], random_affine(images, **moves), images)


_WALLS, _OWN = 32, 3  # wrong prototypes at once, and right ones for each of them
_STEEPEST, _HALVINGS, _ROUNDING = 64.0, 40, 1e-9

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
    class stays.  Any few prototypes of the class give a bound; the nearest ones a good one.  An
    attacker whose images must be images, with all pixels within `bounds`, is kept off for longer.

    Parameters
    ----------
    model : CertifiedPatchClassifier
        Of :func:`prototypes`.
    X : ndarray (n, H, W, C)
    y : ndarray of int (n,)
    nearest : int
        Prototypes of the right class.
    at_once : int
    bounds : (float, float) or None
        Smallest and largest value of a pixel, for the attacker; those of X are within.

    Returns
    -------
    radii : ndarray of float64 (n,)
        L2 over the whole image, in the units of X; -1 where the prediction is wrong.
    """
    if bounds is not None and not (bounds[0] <= X.min() and X.max() <= bounds[1]):
        raise ValueError(f"X goes beyond {bounds}.")
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
        walls = torch.where(wrong[:, None], walls.nan_to_num(-torch.inf), torch.inf)
        radii = walls.amax(1).amin(1)
        if bounds is not None:
            for row in (radii > 0).nonzero()[:, 0]:
                radii[row] = _of_one(images[row], tokens, tokens[a[row]], walls[row], bounds)
        found.append(radii)
    radii = torch.cat(found).numpy()
    return np.where(radii > 0, radii, -1.0)


def _of_one(image, tokens, own, walls, bounds):
    """The bound of one image (dim,) within some bounds, from its walls (nearest, n_tokens)."""
    lower, radius = walls.amax(0), torch.inf
    for others in lower.argsort().split(_WALLS):
        if lower[others[0]] >= radius:  # the walls of all others are farther off
            break
        best = walls[:, others].topk(min(_OWN, len(own)), dim=0).indices
        a, b = own[best].flatten(0, 1), tokens[others].repeat(len(best), 1)
        beyond = beyond_walls(image, a, b, bounds).reshape(best.shape).amax(0)
        radius = min(radius, float(beyond.amin()))
    return radius


def beyond_walls(image, a, b, bounds):
    """Lower bounds of the distances to images within bounds that are as near to b as to a.

    For any multiplier t >= 0, the minimum over z within the bounds of
    |z - x|^2 / 2 + t (|z - b|^2 - |z - a|^2) / 2 is at most half the squared distance.  It is at
    the clipped x + t (b - a).

    Parameters
    ----------
    image : Tensor of float64 (dim,)
    a, b : Tensor of float64 (m, dim)
    bounds : (float, float)

    Returns
    -------
    distances : Tensor of float64 (m,)
        Less than the true ones by what rounding may add.
    """
    normal, level = b - a, (b.square() - a.square()).sum(1) / 2
    low, high = torch.zeros(len(a)).double(), torch.full((len(a),), _STEEPEST).double()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        z = (image + middle[:, None] * normal).clamp(*bounds)
        short = (z * normal).sum(1) < level
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    z = (image + low[:, None] * normal).clamp(*bounds)
    squares = (z - image).square().sum(1) + 2 * low * (level - (z * normal).sum(1))
    return (squares - _ROUNDING).clamp_min(0).sqrt()
