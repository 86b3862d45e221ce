"""Denoising of training images, before their patches become tokens."""

from __future__ import annotations

from scipy import ndimage


def denoise(images):
    """Median of 3x3 pixels.

    Parameters
    ----------
    images : ndarray (n, H, W, C)

    Returns
    -------
    denoised : ndarray (n, H, W, C), of the same dtype
    """
    return ndimage.median_filter(images, size=(1, 3, 3, 1), mode="nearest").astype(
        images.dtype, copy=False
    )
