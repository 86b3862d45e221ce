"""Which patches a vocabulary is trained on: small windows, drawn from all of the images.

A few whole photographs hold as many patches as a vocabulary needs, but not of as many kinds as
all photographs do.  Windows keep the neighbors that some losses look at.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_patchcert.patches import PAD_VALUE, grid_shape

SIDE = 8  # patches along a window, at most
_AT_ONCE = 1024  # images that are prepared at once


class Windows(NamedTuple):
    """Places of windows of one size in some images.

    Parameters
    ----------
    owners : ndarray of int (m,)
        The image of each window.
    origins : ndarray of int (m, 2)
        Row and column of its first patch.
    size : tuple (rows, cols)
        In patches.
    """

    owners: np.ndarray
    origins: np.ndarray
    size: tuple[int, int]


def draw_windows(n_images, image_shape, patch_size, groups, n_patches, random):
    """Draw windows that hold so many patches, spread evenly over the images.

    Parameters
    ----------
    n_images : int
    image_shape : tuple (H, W, C)
    patch_size : tuple (ph, pw)
    groups : int
        Patches at one place, 1 or the number of channels.
    n_patches : int or None
    random : numpy.random.Generator

    Returns
    -------
    windows : Windows or None
        No two of an image at the same place.  None: all images hold no more patches than that.
    """
    rows, cols = grid_shape(image_shape, patch_size)
    if n_patches is None or n_patches >= n_images * rows * cols * groups:
        return None
    size = min(SIDE, rows), min(SIDE, cols)
    places = (rows - size[0] + 1) * (cols - size[1] + 1)
    wanted = min(-(-n_patches // (size[0] * size[1] * groups)), n_images * places)
    every, rest = divmod(wanted, n_images)
    owners = random.choice(n_images, rest, replace=False)
    owners = np.concatenate([np.repeat(np.arange(n_images), every), owners])
    flat = np.zeros(wanted, dtype=np.int64)
    if places > 1:
        for owner in np.unique(owners):
            own = np.flatnonzero(owners == owner)
            flat[own] = random.choice(places, len(own), replace=False)
    return Windows(owners, np.stack(np.divmod(flat, cols - size[1] + 1), axis=1), size)


def cut_windows(images, windows, patch_size, prepare=None):
    """The pixels of windows.

    Parameters
    ----------
    images : ndarray (n, H, W, C)
    windows : Windows
    patch_size : tuple (ph, pw)
    prepare : callable or None
        What is done to images (m, H, W, C), a copy of some of them, before they are cut.

    Returns
    -------
    cut : ndarray (m, rows * ph, cols * pw, C)
        What is beyond an image has the value of the padding; float32 of integers.
    """
    height, width = np.multiply(windows.size, patch_size).tolist()
    shape = len(windows.owners), height, width, images.shape[3]
    cut = np.full(shape, PAD_VALUE, np.result_type(images, np.float32))
    present, own = np.unique(windows.owners, return_inverse=True)
    for start in range(0, len(present), _AT_ONCE):
        part = present[start : start + _AT_ONCE]
        seen = (prepare or np.asarray)(images[part].astype(cut.dtype, copy=False))
        for at in np.flatnonzero((own >= start) & (own < start + _AT_ONCE)):
            row, col = windows.origins[at] * patch_size
            pixels = seen[own[at] - start, row : row + height, col : col + width]
            cut[at, : pixels.shape[0], : pixels.shape[1]] = pixels
    return cut
