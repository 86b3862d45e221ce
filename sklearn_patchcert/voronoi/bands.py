"""From images to ids and radii without a copy of the images: cut and searched within the cache.

A band is a row of patches of one image.  Patches are alike where they have the same padding, so
the grid of an image is up to four areas: its inside, the right and lower edge, and the corner.  A
few bands of an area at a time are cut into a buffer, which the CPU's engine searches at once.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from sklearn_patchcert.patches import grid_shape, images_to_patches
from sklearn_patchcert.voronoi import engines
from sklearn_patchcert.voronoi.engines import walk
from sklearn_patchcert.voronoi.preparation import LARGEST, cell_of, check_norm, check_tokens

_VALUES_AT_ONCE = 2**17  # stay in the cache of a core
_MANY_VALUES = 2**20  # for a tree so large that patches take turns in it
_LARGE_TREE = 8192
_CUT_FROM = (np.uint8, np.float32, np.float64)  # what the cutting is compiled for


class Area(NamedTuple):
    """Patches of the grid that have the same padding."""

    rows: slice
    cols: slice
    table: np.ndarray  # int64 (patches of a band, dim): where the values are, -1 for padding
    start: int  # of the first band in the flat image
    band: int  # values from one band to the next


@functools.lru_cache(maxsize=32)
def areas(image_shape, patch_size, per_channel, channel=None):
    """The areas of images (H, W, C): of all patches, or of those of one channel.

    Patches of a band are ordered by columns, then by channels if these are cut by themselves.
    """
    (height, width, channels), (ph, pw) = image_shape, patch_size
    rows, cols = grid_shape(image_shape, patch_size)
    band = ph * width * channels
    places = np.arange(band).reshape(1, ph, width, channels)
    found = []
    for r0, r1 in ((0, height // ph), (height // ph, rows)):
        for c0, c1 in ((0, width // pw), (width // pw, cols)):
            if r0 < r1 and c0 < c1:
                some = places[:, : height - r0 * ph, c0 * pw : c1 * pw]
                table = images_to_patches(some, patch_size, per_channel=per_channel, pad_value=-1)
                part = slice(None) if channel is None else slice(channel, channel + 1)
                table = table[0, 0, :, part].reshape(-1, table.shape[-1])
                found.append(Area(slice(r0, r1), slice(c0, c1), table, r0 * band, band))
    return tuple(found)


def search(images, parts, patch_size, norm=None, *, per_channel, device):
    """Token ids, or with a norm radii, of images.

    Parameters
    ----------
    images : ndarray (n, H, W, C)
        Of any real dtype up to float64.  Only the few bands at work are converted to floats.
    parts : list of (slice, ndarray (n_tokens, dim))
        The groups of channels, and the tokens for each of them.
    patch_size : tuple (ph, pw)
    norm : {"l2", "linf", "l1"} or None
    per_channel : bool
    device : str or torch.device
        Of the CPU.

    Returns
    -------
    found : ndarray of int64 or float64 (n, rows, cols, groups)
    limits : (float, float)
        Smallest and largest value of the images.

    Raises
    ------
    ValueError
        If a value is not finite or beyond 1e150.
    """
    n, *shape = images.shape
    grid = *grid_shape(shape, patch_size), shape[2] if per_channel else 1
    walls = norm is not None
    norm = check_norm(norm) if walls else "l2"
    found = np.empty((n, *grid), np.float64 if walls else np.int64)
    flat, limits = np.ascontiguousarray(images).reshape(-1), [np.inf, -np.inf]
    for group, tokens in parts:
        channel = None if group == slice(None) else group.start
        for area in areas(tuple(shape), tuple(patch_size), per_channel, channel):
            tokens = check_tokens(tokens, area.table.shape[1])
            weight = (area.table[0] >= 0).astype(np.float64)
            cell = cell_of(tokens, weight, np.zeros_like(weight), norm, "walk", device)
            here = found[:, area.rows, area.cols, group]
            whole = here.shape == found.shape
            out = found.reshape(-1) if whole else np.empty(here.size, found.dtype)
            _search_area(flat, images[:1].size, area, here.shape[1], cell, walls, out, limits)
            if not whole:
                here[...] = out.reshape(here.shape)
    return found, tuple(limits)


def join(ids, parts, patch_size, *, per_channel, images):
    """Fill C-contiguous images (n, H, W, C) with the tokens of the ids (n, rows, cols, groups)."""
    n, *shape = images.shape
    grid = (*grid_shape(shape, patch_size), shape[2] if per_channel else 1)
    if ids.shape != (n, *grid):  # compiled code would crash
        raise ValueError(f"Token ids must be of the shape {(n, *grid)}, got {ids.shape}.")
    if not n:
        return
    for group, tokens in parts:
        channel = None if group == slice(None) else group.start
        if ids.size and not 0 <= ids.min() <= ids.max() < len(tokens):  # so it would here
            raise IndexError(f"Token ids must lie in 0..{len(tokens) - 1}.")
        for area in areas(tuple(shape), tuple(patch_size), per_channel, channel):
            some = ids[:, area.rows, area.cols, group]
            lines = np.ascontiguousarray(some, np.int64).reshape(n * some.shape[1], -1)
            engines.cutting.join(
                lines, np.ascontiguousarray(tokens), area.table.ravel(), some.shape[1], area.start,
                images[:1].size, area.band, images.reshape(-1),
            )  # fmt: skip


def _search_area(flat, image_size, area, per_image, cell, walls, out, limits):
    """Write the flat ids or radii of an area, and widen the limits."""
    positions, dim = area.table.shape
    table = np.ascontiguousarray(area.table[:, cell.order]).ravel()
    padded = bool(table.min() < 0)
    at_once = _VALUES_AT_ONCE if len(cell.names) <= _LARGE_TREE else _MANY_VALUES
    n_bands = len(out) // positions
    step = max(1, min(n_bands, at_once // len(table)))
    buffer = np.empty(step * len(table), _decided_in(flat.dtype))
    other = np.empty(step * positions, np.int64 if walls else np.float64)
    for first in range(0, n_bands, step):
        count = min(step, n_bands - first)
        begin, end = (_offset(b, per_image, area, image_size) for b in (first, first + count - 1))
        some = flat[begin : end + area.band]  # which this brings into the cache
        low, high = float(some.min()), float(some.max())
        if not max(high, -low) <= LARGEST:
            raise ValueError(f"images must be finite and at most {LARGEST:g} in magnitude.")
        limits[:] = min(limits[0], low), max(limits[1], high)
        engines.cutting.cut(
            _readable(some), table, first, count, per_image, area.start - begin, image_size,
            area.band, padded, buffer,
        )  # fmt: skip
        patches = buffer[: count * len(table)]
        some = out[first * positions : (first + count) * positions]
        ids, radii = (other, some) if walls else (some, other)
        walk.fill(patches.reshape(-1, dim), cell.tables, ids, radii, walls)
        if not walls and not cell.all_of_them:
            some[:] = cell.named(some)


def _offset(band, per_image, area, image_size):
    """Where a band of an area begins in the flat images."""
    image, row = divmod(band, per_image)
    return image * image_size + area.start + row * area.band


def _readable(values):
    """Values in a dtype that the cutting reads."""
    if values.dtype == np.bool_:
        return values.view(np.uint8)
    return values if values.dtype in _CUT_FROM else values.astype(_decided_in(values.dtype))


def _decided_in(dtype):
    """The float that holds all values of a dtype."""
    return np.float32 if np.can_cast(dtype, np.float32) else np.float64
