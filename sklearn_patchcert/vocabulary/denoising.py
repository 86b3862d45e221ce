"""Denoising of training images, before their patches become tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def denoise(images: NDArray[Any], strength: float = 0.1) -> NDArray[Any]:
    """Denoise images by their total variation.

    The method is Chambolle's (J. Math. Imaging and Vision 20, 2004); benchmarks/denoisers.py
    compares it with others.

    Parameters
    ----------
    images : ndarray (n, H, W, C), floating point
    strength : float
        Weight of the total variation, in units of the standard deviation of the images' values.

    Returns
    -------
    denoised : ndarray (n, H, W, C), of the same dtype

    Raises
    ------
    ImportError
        If scikit-image is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.vocabulary import denoise
    >>> images = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
    >>> bool(denoise(images, strength=0.5).std() < images.std())
    True
    """
    try:
        from skimage.restoration import denoise_tv_chambolle
    except ImportError as error:
        raise ImportError(
            'strategy="denoised" needs scikit-image: pip install "sklearn-patchcert[denoise]", or '
            "pass a denoiser of your own."
        ) from error
    centre = float(images.mean(dtype=np.float64))
    spread = float(images.std(dtype=np.float64))  # float32 loses squares of small values
    if not spread > 0:
        return images
    made = np.empty_like(images)
    for image, place in zip(images, made, strict=True):
        unit = (image.astype(np.float64) - centre) / spread
        place[...] = centre + spread * denoise_tv_chambolle(unit, strength, channel_axis=-1)
    return made
