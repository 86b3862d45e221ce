"""Where a sticker can be, and how far the patches beside it can move without a new token."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from sklearn_patchcert.patches import images_to_patches, patches_to_images

_ORDERS = {"l2": 2, "linf": np.inf, "l1": 1}


def boxes_of(sizes, shape):
    """All places of some stickers on an image.

    Parameters
    ----------
    sizes : sequence of tuple (height, width)
        A sticker larger than the image is as large as the image.
    shape : tuple (H, W)

    Returns
    -------
    boxes : ndarray of int (n_boxes, 4)
        Top, left, height and width, in pixels; inside the image.

    Examples
    --------
    >>> from sklearn_patchcert.attacks.stickers.windows import boxes_of
    >>> boxes_of([(2, 3)], (3, 3))
    array([[0, 0, 2, 3],
           [1, 0, 2, 3]])
    """
    fitting = dict.fromkeys((min(h, shape[0]), min(w, shape[1])) for h, w in sizes)
    found = []
    for height, width in fitting:
        corners = np.indices((shape[0] - height + 1, shape[1] - width + 1)).reshape(2, -1).T
        size = np.broadcast_to([height, width], corners.shape)
        found.append(np.concatenate([corners, size], axis=1))
    return np.concatenate(found)


def windows_of(boxes, shape):
    """Which pixels lie in each box, or in any of several boxes.

    Parameters
    ----------
    boxes : ndarray of int (m, 4) or (m, n_boxes, 4)
    shape : tuple (H, W)

    Returns
    -------
    windows : ndarray of bool (m, H, W)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.attacks.stickers.windows import windows_of
    >>> windows_of(np.array([[0, 1, 1, 2]]), (2, 3)).astype(int)
    array([[[0, 1, 1],
            [0, 0, 0]]])
    """
    if boxes.ndim == 3:
        return windows_of(boxes.reshape(-1, 4), shape).reshape(*boxes.shape[:2], *shape).any(1)
    top, left, height, width = boxes.T[:, :, None]
    row, col = np.arange(shape[0]), np.arange(shape[1])
    inside = ((row >= top) & (row < top + height)), ((col >= left) & (col < left + width))
    return inside[0][:, :, None] & inside[1][:, None, :]


def sums_in(boxes, weights):
    """Sum of weights inside each box.

    Parameters
    ----------
    boxes : ndarray of int (m, 4)
    weights : ndarray (H, W)

    Returns
    -------
    sums : ndarray of float64 (m,)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.attacks.stickers.windows import sums_in
    >>> sums_in(np.array([[0, 0, 2, 1], [0, 0, 2, 2]]), np.array([[1, 2], [3, 4]]))
    array([ 4., 10.])
    """
    table = np.pad(np.asarray(weights, dtype=np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    top, left = boxes[:, 0], boxes[:, 1]
    bottom, right = top + boxes[:, 2], left + boxes[:, 3]
    return table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]


def moved_patches(images, radii, walls, windows, *, patch_size, share, norm, bounds, generator):
    """Images whose patches beside a sticker have moved, each by less than its radius.

    About half of the patches move towards the nearest wall of their cell, the others in a random
    direction.

    Parameters
    ----------
    images : ndarray of float (m, H, W, C)
        Within the bounds.
    radii : ndarray (m, rows, cols, groups)
        Patch radii; groups is 1, or C with a token for each channel.
    walls : ndarray (m, H, W, C)
        The smallest step of each patch onto a wall, NaN or inf where there is none.
    windows : ndarray of bool (m, H, W)
        The pixels of the sticker; patches that it touches do not move.
    patch_size : tuple (height, width)
    share : float
        Of its radius that each patch moves by, below 1.
    norm : {"l2", "linf", "l1"}
        The norm of the radii, within a patch.
    bounds : tuple (low, high)
    generator : sequence of numpy.random.Generator (m,)

    Returns
    -------
    moved : ndarray (m, H, W, C), of the dtype of the images
    """
    shape, dtype = images.shape[1:], images.dtype
    form: dict[str, Any] = {"patch_size": patch_size, "per_channel": radii.shape[3] > 1}
    cut: Any = partial(images_to_patches, pad_value=0, **form)
    touched = cut(windows[..., None].repeat(shape[2], 3)).any(-1)
    real = cut(np.ones((1, *shape), dtype=bool))  # without the padding
    to_walls = np.nan_to_num(cut(walls), nan=0.0, posinf=0.0, neginf=0.0)
    chance = np.stack([g.standard_normal(to_walls.shape[1:]) for g in generator]) * real
    coins = np.stack([g.random(radii.shape[1:]) < 0.5 for g in generator])
    steps = np.where((coins & to_walls.any(-1))[..., None], to_walls, chance)
    size = _norms(steps, norm)
    span = max(bounds[1] - bounds[0], np.finfo(np.float32).tiny)
    length = share * np.minimum(radii, 4.0 * span * real.shape[-1])  # of infinite radii, too
    steps *= np.divide(length, size, out=np.zeros_like(size), where=(size > 0) & ~touched)[
        ..., None
    ]
    wide = images.astype(np.float64)
    made = (wide + patches_to_images(steps, shape, **form)).clip(*bounds).astype(dtype)
    made = made.clip(*np.array(bounds, dtype=dtype))
    moves = cut(made.astype(np.float64) - wide)
    kept = ~(_norms(moves, norm) < radii)  # what rounding takes beyond a tiny radius goes back
    back = np.broadcast_to(kept[..., None], steps.shape).astype(np.float64)
    return np.where(patches_to_images(back, shape, **form) > 0, images, made)


def _norms(steps, norm):
    return np.linalg.norm(steps, ord=_ORDERS[norm], axis=-1)
