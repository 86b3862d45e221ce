"""One picture file as one array: decoded, turned upright, in a chosen mode, size and range."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np

MODES = ("RGB", "L")
RESIZES = ("crop", "pad", "stretch", None)
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
_RUN_PROGRAMS = {"EPS", "WMF"}  # drawings, for which Pillow starts other programs
_TOPS = {np.dtype(np.bool_): 1, np.dtype(np.uint16): 65535}  # besides uint8
_GRAY = np.array([299, 587, 114], dtype=np.float32) / 1000  # ITU-R 601-2, as Pillow has it


@functools.cache
def picture_suffixes():
    """Endings of file names, in lower case, that a picture may have."""
    from PIL import Image

    known = Image.registered_extensions()
    return frozenset([*(end for end, kind in known.items() if kind in _formats()), ".npy"])


@functools.cache
def _formats():
    from PIL import Image

    Image.init()
    return tuple(sorted(set(Image.OPEN) - _RUN_PROGRAMS))


def read_picture(
    path, size=None, *, mode="RGB", resize="crop", interpolation="bilinear", background="white"
):
    """Read a picture file as values from 0 (black) to 1.

    Parameters
    ----------
    path : path-like
    size : tuple (H, W) or None
        What to bring it to; None keeps its own size.
    mode : {"RGB", "L"}
    resize : {"crop", "pad", "stretch", None}
        How; None refuses a picture of another size.
    interpolation : str
    background : str
        A color, as Pillow names them, behind what is transparent and around what is padded.

    Returns
    -------
    image : ndarray of float32 (H, W, 3), or (H, W) with mode "L"

    Raises
    ------
    ValueError
        If it can't be read, or has another size and `resize` is None.
    """
    try:
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise _Refused("it is no regular file")  # reading a pipe may never end
        shades = _shades(background, mode)
        if Path(path).suffix.lower() == ".npy":
            planes = _from_array(path, mode)
        else:
            planes = _decoded(path, mode, background, shades, size if resize else None)
        if len(planes) != len(shades) and planes[0].mode == "F":  # gray, on a color or the reverse
            planes, shades = (part * (3 // len(part)) for part in (planes, shades))
        colors = shades if planes[0].mode == "F" else [background]
        planes = [
            _sized(plane, size, resize, interpolation, color)
            for plane, color in zip(planes, colors, strict=True)
        ]
        values = np.stack(planes, axis=-1) if len(planes) > 1 else np.asarray(planes[0])
    except Exception as error:  # whatever a damaged file makes of its decoder
        raise ValueError(f"{os.fspath(path)}: {_reason(error, path)}") from error
    if values.dtype == np.uint8:
        values = np.divide(values, np.float32(255), dtype=np.float32)
    if mode == "L":
        return values if values.ndim == 2 else np.clip(values @ _GRAY, 0, 1)
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=-1)


def _reason(error, path):
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, UnidentifiedImageError):
        return "it is empty" if not os.path.getsize(path) else "it is no picture that Pillow reads"
    if isinstance(error, Image.DecompressionBombError):
        return f"it is too large, perhaps a decompression bomb ({error})"
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    return text if isinstance(error, _Refused) else f"it can't be decoded ({text})"


class _Refused(ValueError):
    """What a file may not be, in words for its owner."""


def _decoded(path, mode, background, shades, size):
    """Pillow images, upright: one, "L" or "RGB" of 8 bits, or "F" in [0, 1], for each shade."""
    from PIL import Image, ImageOps

    # By its name, Pillow maps a file into memory, where it takes lines that it turns for others.
    with open(path, "rb") as stream, Image.open(stream, formats=_formats()) as file:
        if size is not None:  # JPEG: decoded at 1/2, 1/4 or 1/8, if twice the size is left
            file.draft(None, (2 * max(size), 2 * max(size)))
        file.load()
        form, clear = file.format, file.has_transparency_data
        bits, negative = _bits(file), _is_negative(file)
        picture: Image.Image = file
        ImageOps.exif_transpose(picture, in_place=True)  # in place, as copies take a tenth more
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _of_deep(picture, form, shades, 2**bits - 1, negative)
    if clear:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)
    return [picture if picture.mode == mode else picture.convert(mode)]


def _bits(file):
    """How many bits the values of a picture of one channel have, if more than 8."""
    if file.format == "TIFF" and file.mode.startswith("I;16"):
        return file.tag_v2.get(258, (16,))[0]  # Pillow hands 12 bits on as they are
    return 16


def _is_negative(file):
    """Whether 0 is white and Pillow leaves it so, which it does for more than 8 bits alone."""
    return file.format == "TIFF" and file.mode.startswith("I;16") and file.tag_v2.get(262) == 0


def _of_deep(picture, form, shades, top, negative):
    """A picture of one channel with more than 8 bits, scaled by its own depth, for each shade."""
    from PIL import Image

    values = np.asarray(picture).astype(np.float32)
    if picture.mode == "F":
        return [Image.fromarray(_checked(values))]
    if picture.mode == "I" and form not in ("PNG", "PPM"):
        raise _Refused(
            "its values are whole numbers of 32 bits, whose range is not known: save it with 16"
        )
    clear = values == picture.info.get("transparency")
    values /= np.float32(top)
    if negative:
        values = 1 - values
    planes = [np.where(clear, np.float32(shade), values) for shade in shades]
    return [Image.fromarray(_checked(plane)) for plane in planes]


def _shades(color, mode):
    """Values in [0, 1] of a color, one of gray or three."""
    from PIL import ImageColor

    found = ImageColor.getcolor(color, mode)
    shades = [value / 255 for value in (found if isinstance(found, tuple) else (found,))]
    return shades if len(set(shades)) > 1 else shades[:1]


def _from_array(path, mode):
    """An array as Pillow images: one of 8 bits, or an "F" for each channel."""
    from PIL import Image

    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise _Refused("it is an archive of arrays")
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if not array.size or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise _Refused(f"an array {array.shape} is not one picture (H, W), (H, W, 1) or (H, W, 3)")
    if array.dtype == np.uint8:
        picture = Image.fromarray(np.array(array))
        return [picture.convert("RGB") if mode == "RGB" else picture]
    kind = array.dtype.newbyteorder("=")
    if kind not in _TOPS and kind.kind != "f":
        raise _Refused(
            f"the range of {array.dtype} is not known: save uint8, uint16, or floats in [0, 1]"
        )
    values = array.astype(np.float32) / np.float32(_TOPS.get(kind, 1))
    channels = np.moveaxis(np.atleast_3d(values), -1, 0)
    return [Image.fromarray(_checked(np.ascontiguousarray(v))) for v in channels]


def _checked(values):
    """Values, refused where they are beyond black or white."""
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):
        raise _Refused(f"floats must be in [0, 1], and it has values from {low:g} to {high:g}")
    return values


def _sized(picture, size, resize, interpolation, background):
    """A Pillow image brought to a size (H, W); the background is a value of its mode, or a name."""
    from PIL import Image, ImageOps

    if size is None or (picture.height, picture.width) == tuple(size):
        return picture
    if resize is None:
        raise _Refused(
            f"it has {picture.height} x {picture.width} pixels (height x width), not "
            f'{size[0]} x {size[1]}: resize="crop", "pad" or "stretch" brings it there'
        )
    method, shape = Image.Resampling[interpolation.upper()], (size[1], size[0])
    if resize == "crop":
        sized = ImageOps.fit(picture, shape, method)
    elif resize == "pad":
        share = min(shape[0] / picture.width, shape[1] / picture.height)
        inner = [max(1, round(share * side)) for side in picture.size]  # a line stays a line
        sized = ImageOps.pad(picture.resize(inner, method), shape, method, background)
    else:
        sized = picture.resize(shape, method)
    if picture.mode != "F":
        return sized
    # Cubic weights overshoot; Pillow clips pictures of 8 bits by itself.
    return Image.fromarray(np.clip(np.asarray(sized), 0, 1))
