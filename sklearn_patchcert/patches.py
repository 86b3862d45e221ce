"""Geometry: images to disjoint patches and back, grids, padding.

An image batch is an array ``(n, H, W, C)``, channels last.  Its patches are an array
``(n, rows, cols, groups, dim)``: ``groups`` is 1 where a patch spans all channels
(``dim = ph * pw * C``) and ``C`` where every channel is cut by itself (``dim = ph * pw``).
Images whose sides are no multiples of the patch are padded at the bottom and at the right
with the constant :data:`PAD_VALUE`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

PAD_VALUE = 0.0
"""The padding.  A constant, never a copy of pixels: copies would move with an attack."""


def grid_shape(image_shape: tuple[int, ...], patch_size: tuple[int, int]) -> tuple[int, int]:
    """Number of patches along the rows and the columns of an image.

    Parameters
    ----------
    image_shape : tuple (H, W, C)
    patch_size : tuple (ph, pw)

    Returns
    -------
    rows, cols : int
        ``ceil(H / ph)`` and ``ceil(W / pw)``.

    Examples
    --------
    >>> from sklearn_patchcert.patches import grid_shape
    >>> grid_shape((28, 30, 1), (4, 4))
    (7, 8)
    """
    (height, width, _), (ph, pw) = image_shape, patch_size
    return -(-height // ph), -(-width // pw)


def images_to_patches(
    images: NDArray[Any],
    patch_size: tuple[int, int],
    *,
    per_channel: bool = False,
    pad_value: float = PAD_VALUE,
) -> NDArray[Any]:
    """Cut images into disjoint patches.

    Parameters
    ----------
    images : ndarray (n, H, W, C)
    patch_size : tuple (ph, pw)
    per_channel : bool
        Whether each channel is cut by itself.
    pad_value : float
        Fills what the last row and column of patches have beyond the image.

    Returns
    -------
    patches : ndarray (n, rows, cols, groups, dim), of the images' dtype

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.patches import images_to_patches
    >>> patches = images_to_patches(np.arange(16.0).reshape(1, 4, 4, 1), (2, 2))
    >>> patches[0, 0, 1, 0]
    array([2., 3., 6., 7.])
    """
    n, height, width, channels = images.shape
    ph, pw = patch_size
    rows, cols = grid_shape(images.shape[1:], patch_size)
    border = (0, 0), (0, rows * ph - height), (0, cols * pw - width), (0, 0)
    if any(after for _, after in border):
        images = np.pad(images, border, constant_values=pad_value)
    blocks = images.reshape(n, rows, ph, cols, pw, channels)
    order = (0, 1, 3, 5, 2, 4) if per_channel else (0, 1, 3, 2, 4, 5)
    groups = channels if per_channel else 1
    return blocks.transpose(order).reshape(n, rows, cols, groups, ph * pw * channels // groups)


def patches_to_images(
    patches: NDArray[Any],
    image_shape: tuple[int, int, int],
    patch_size: tuple[int, int],
    *,
    per_channel: bool = False,
) -> NDArray[Any]:
    """Join patches to images, the inverse of :func:`images_to_patches`.

    Parameters
    ----------
    patches : ndarray (n, rows, cols, groups, dim)
    image_shape : tuple (H, W, C)
    patch_size : tuple (ph, pw)
    per_channel : bool

    Returns
    -------
    images : ndarray (n, H, W, C)
        The padding is cut off.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.patches import images_to_patches, patches_to_images
    >>> images = np.arange(15.0).reshape(1, 3, 5, 1)
    >>> patches = images_to_patches(images, (2, 2))
    >>> bool((patches_to_images(patches, (3, 5, 1), (2, 2)) == images).all())
    True
    """
    height, width, channels = image_shape
    n, rows, cols = patches.shape[:3]
    ph, pw = patch_size
    if per_channel:
        blocks = patches.reshape(n, rows, cols, channels, ph, pw).transpose(0, 1, 4, 2, 5, 3)
    else:
        blocks = patches.reshape(n, rows, cols, ph, pw, channels).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, rows * ph, cols * pw, channels)[:, :height, :width]


def patch_weights(
    scale: ArrayLike,
    image_shape: tuple[int, int, int],
    patch_size: tuple[int, int],
    *,
    per_channel: bool = False,
) -> NDArray[np.float64]:
    """Cut a per-pixel scale into patches, with weight 0 for the padding.

    Parameters
    ----------
    scale : ndarray (H, W, C) or float
        How far a coordinate of the tokenizer moves if the user's moves by one.
    image_shape : tuple (H, W, C)
    patch_size : tuple (ph, pw)
    per_channel : bool

    Returns
    -------
    weights : ndarray (rows, cols, groups, dim), float64, non-negative

    Examples
    --------
    >>> from sklearn_patchcert.patches import patch_weights
    >>> patch_weights(1.0, (2, 3, 1), (2, 2))[0, :, 0]
    array([[1., 1., 1., 1.],
           [1., 0., 1., 0.]])
    """
    scale = np.broadcast_to(np.abs(np.asarray(scale, dtype=np.float64)), image_shape)
    return images_to_patches(scale[None], patch_size, per_channel=per_channel, pad_value=0.0)[0]
