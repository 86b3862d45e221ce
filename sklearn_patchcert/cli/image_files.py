"""Images in files, one a file, and pictures of maps: what the command line reads and writes."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from sklearn_patchcert.files.archive import replacing

SUFFIXES = (".png", ".npy")
_PALETTE = [  # nine colors along matplotlib's viridis, which is in the public domain
    (68, 1, 84), (71, 45, 123), (59, 82, 139), (44, 114, 142), (33, 145, 140),
    (40, 174, 128), (94, 201, 98), (173, 220, 48), (253, 231, 37),
]  # fmt: skip


def find_images(places, apart_from):
    """The image files that are meant by files and folders.

    Parameters
    ----------
    places : list of path-like
        Folders are searched with all that is below them, for names that end in ``.png`` or
        ``.npy`` and do not begin with a dot.  Links that lead nowhere, or in a circle, are listed
        like files.
    apart_from : path-like
        The folder that is written to: where it is below one of `places`, it is left out.

    Returns
    -------
    found : dict of str to Path
        By the name in their folder, in order.

    Raises
    ------
    ValueError
        If two have the same name, or a folder is the one that is written to.
    """
    found: dict = {}
    apart = _real(apart_from)
    for place in map(Path, places):
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        if _real(place) == apart:
            raise ValueError(f"{place} is read, so it cannot be written to: give another folder")
        inside = _real(place) in apart.parents
        for path in files:
            name = path.relative_to(place).as_posix() if place.is_dir() else path.name
            hidden = any(part.startswith(".") for part in Path(name).parts)
            readable = path.is_file() or (path.is_symlink() and not path.is_dir())
            chosen = path.suffix.lower() in SUFFIXES and readable and not hidden
            own = inside and apart in _real(path).parents
            if place.is_dir() and (own or not chosen):
                continue
            if name in found:
                raise ValueError(
                    f"{found[name]} and {path} have the same name, {name}: give one folder that "
                    "holds both."
                )
            found[name] = path
    return found


def check_apart(inputs, outputs):
    """Refuse to write in the place of a file that is read.

    Parameters
    ----------
    inputs, outputs : iterable of path-like

    Raises
    ------
    ValueError
        If an output has the name of an input, or of what it leads to.
    """
    read = {key: path for path in inputs for key in (_real(path), *_keys(path))}
    for path in outputs:
        for key in _keys(path):
            if key in read:
                raise ValueError(
                    f"{read[key]} is read, and {path} would take its place: give another folder"
                )


def _real(path):
    return Path(os.path.realpath(path))  # Path.resolve does not know circles of links


def _keys(path):
    """What a new file of this name replaces: the name, and not what it leads to."""
    keys: list = [_real(Path(path).parent) / Path(path).name]
    if os.path.lexists(path):  # also in another spelling, where the case of letters is ignored
        found = os.lstat(path)
        keys.append((found.st_dev, found.st_ino))
    return keys


def read_image(path, scale, shape):
    """One image.

    Parameters
    ----------
    path : Path
    scale : float or None
        Values of a PNG file are divided by it; 1 leaves them as integers.
    shape : tuple (H, W, C)
        What the image must have; None in it stands for any.

    Returns
    -------
    image : ndarray (H, W, C)
        Of a PNG file float32, or with scale 1 as stored, 0..255 or 0..65535.

    Raises
    ------
    ValueError
        If it has another shape, or values that are no finite numbers.
    OSError, SyntaxError
        If it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"only {' and '.join(SUFFIXES)} are read")
    image = _read_png(path, shape) if suffix == ".png" else _read_npy(path, shape)
    if image.dtype.kind not in "biuf" or image.dtype.itemsize > 8 or not np.isfinite(image).all():
        raise ValueError("its values are not all finite numbers")
    if suffix == ".png" and scale != 1:
        return image.astype(np.float32) / np.float32(scale)
    return image


def _read_png(path, shape):
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as file:
        channels = 1 if shape[2] is None else shape[2]
        _check_shape((file.height, file.width, channels), shape)  # before it takes memory
        if file.mode == "1":
            return _check_shape(np.asarray(file.convert("L"))[..., None], shape)
        if file.mode == "P":
            see_through = "transparency" in file.info
            return _check_shape(np.asarray(file.convert("RGBA" if see_through else "RGB")), shape)
        pixels = np.asarray(file)
    return _check_shape(pixels[..., None] if pixels.ndim == 2 else pixels, shape)


def _read_npy(path, shape):
    array = np.load(path, mmap_mode="r", allow_pickle=False)  # whose values are not read yet
    layouts = [3, 2] if shape[2] in (1, None) else [3]
    whole = None not in shape and array.shape == (math.prod(shape),)
    if not whole and array.ndim not in layouts:
        raise ValueError(f"an array {array.shape} is not one image of {_said(shape)}")
    if whole:
        array = array.reshape(shape)
    return np.array(_check_shape(array[..., None] if array.ndim == 2 else array, shape))


def _check_shape(image, shape):
    found = image if isinstance(image, tuple) else image.shape
    if any(size not in (None, own) for own, size in zip(found, shape, strict=True)):
        raise ValueError(f"it has {_said(found)}, and the model takes {_said(shape)}")
    return image


def _said(shape):
    sides = " x ".join("any" if size is None else str(size) for size in shape[:2])
    return f"{sides} pixels, {'any' if shape[2] is None else shape[2]} channels"


def map_picture(radii, patch_size, size, top):
    """A map of radii as a picture of the image's size.

    Parameters
    ----------
    radii : ndarray (rows, cols) or (rows, cols, C)
        Of channels, the smallest is shown.
    patch_size : tuple (ph, pw)
    size : tuple (H, W)
    top : float
        Which radius has the brightest color; 0 has the darkest.

    Returns
    -------
    picture : ndarray of uint8 (H, W, 3)
    """
    radii = radii.min(-1) if radii.ndim == 3 else radii
    shares = np.clip(radii / top, 0, 1) if top > 0 else np.zeros(radii.shape)
    anchors = np.linspace(0, 1, len(_PALETTE))
    bands = [np.interp(shares, anchors, band) for band in np.transpose(_PALETTE)]
    colours = np.stack(bands, axis=-1).round().astype(np.uint8)
    return colours.repeat(patch_size[0], 0).repeat(patch_size[1], 1)[: size[0], : size[1]]


def write_png(path, picture, **texts):
    """Write a picture (H, W, 3), with texts beside the pixels, whole or not at all."""
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", pnginfo=info)


def write_npy(path, array):
    """Write an array, whole or not at all."""
    os.makedirs(Path(path).parent, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, array, allow_pickle=False)
