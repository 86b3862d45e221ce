"""Cutting images into patches and joining tokens to images, compiled: one pass, no copy between.

A band is a row of patches of one image.  A table holds, for every value of the patches of a band,
where it is in the flat image counted from the band's start, or -1 for the padding.  Band b belongs
to the image b // per_image, and begins at ``start + (b % per_image) band_size`` there.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def cut(images, table, first, count, per_image, start, image_size, band_size, padded, patches):
    """Fill the flat patches with `count` bands from the band `first` on; the padding is 0."""
    n = table.shape[0]
    for b in range(count):
        image, row = divmod(first + b, per_image)
        base = np.uint64(image * image_size + start + row * band_size)  # wraparound costs time
        to = np.uint64(b * n)
        if padded:
            for k in range(n):
                at = table[k]
                value = images[base + np.uint64(max(at, 0))]
                patches[to + np.uint64(k)] = value if at >= 0 else 0
        else:
            for k in range(n):
                patches[to + np.uint64(k)] = images[base + np.uint64(table[k])]


@njit(cache=True, nogil=True)
def join(ids, tokens, table, per_image, start, image_size, band_size, images):
    """Fill the values of flat images that the bands of ids (bands, patches) speak of."""
    dim = tokens.shape[1]
    for b in range(ids.shape[0]):
        image, row = divmod(b, per_image)
        base = image * image_size + start + row * band_size
        for p in range(ids.shape[1]):
            token = ids[b, p]
            for j in range(dim):
                at = table[p * dim + j]
                if at >= 0:
                    images[np.uint64(base + at)] = tokens[token, j]
