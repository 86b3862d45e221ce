"""Pictures of maps of radii, and arrays, in files that are either whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sklearn_patchcert.cli.options import Impossible
from sklearn_patchcert.displays.report.pixels import colors, letters
from sklearn_patchcert.whole_files import check_place, replacing

_SHORT_SIDE = 224  # pixels of an image in an overlay, at least
_MARGIN = 12


def check_apart(inputs, outputs):
    """Refuse to write in the place of a file that is read.

    Parameters
    ----------
    inputs, outputs : iterable of path-like

    Raises
    ------
    Impossible
        If an output has the name of an input, or of what it leads to.
    """
    read = {key: path for path in inputs for key in (real(path), *_keys(path))}
    for path in outputs:
        for key in _keys(path):
            if key in read:
                raise Impossible(
                    f"{read[key]} is read, and {path} would take its place: give another name"
                )


def check_file(path, inputs):
    """Refuse a file that can't be written, or that would take the place of one that is read.

    Parameters
    ----------
    path : Path
    inputs : iterable of path-like

    Raises
    ------
    Impossible
    """
    try:
        check_place(path)
    except OSError as error:
        raise Impossible(error) from None
    check_apart(inputs, [path])


def real(path):
    """What a path leads to."""
    return Path(os.path.realpath(path))  # Path.resolve does not know circles of links


def _keys(path):
    """What a new file of this name replaces: the name, and not what it leads to."""
    keys: list = [real(Path(path).parent) / Path(path).name]
    if os.path.lexists(path):  # also in another spelling, where the case of letters is ignored
        found = os.lstat(path)
        keys.append((found.st_dev, found.st_ino))
    return keys


def map_picture(radii, patch_size, size, top):
    """A map of radii as a picture of the image's size.

    Parameters
    ----------
    radii : ndarray (rows, cols) or (rows, cols, C)
        Of channels, the smallest is shown.
    patch_size : tuple (ph, pw)
    size : tuple (H, W)
    top : float
        Which radius has the brightest color, as infinite ones have; 0 has the darkest.

    Returns
    -------
    picture : ndarray of uint8 (H, W, 3)
    """
    radii = radii.min(-1) if radii.ndim == 3 else radii
    scaled = 0 < top < np.inf
    shares = np.clip(radii / top, 0, 1) if scaled else np.isinf(radii).astype(float)
    return colors(shares).repeat(patch_size[0], 0).repeat(patch_size[1], 1)[: size[0], : size[1]]


def overlay_picture(image, picture, top, norm, caption):
    """An image beside itself under a map, with a color bar and a caption.

    Parameters
    ----------
    image : ndarray of uint8 (H, W, 3)
    picture : ndarray of uint8 (H, W, 3)
        Of :func:`map_picture`.
    top : float
    norm : str
    caption : str

    Returns
    -------
    drawing : ndarray of uint8 (h, w, 3)
    """
    from PIL import Image, ImageDraw

    times = max(1, -(-_SHORT_SIDE // min(image.shape[:2])))
    mixed = (0.45 * image + 0.55 * picture).round().astype(np.uint8)
    panels = [part.repeat(times, 0).repeat(times, 1) for part in (image, mixed)]
    height, width = panels[0].shape[:2]
    font = letters(14)
    head, bar, labels = 28, 16, 64
    drawing = Image.new(
        "RGB",
        (2 * width + bar + labels + 4 * _MARGIN, height + head + 2 * _MARGIN + 20),
        "white",
    )
    pen = ImageDraw.Draw(drawing)
    y = head + _MARGIN
    for at, panel in enumerate(panels):
        drawing.paste(Image.fromarray(panel), (_MARGIN + at * (width + _MARGIN), y))
    x = 2 * width + 3 * _MARGIN
    shades = colors(np.linspace(1, 0, height)[:, None].repeat(bar, 1))
    drawing.paste(Image.fromarray(shades), (x, y))
    for part in (0, 0.5, 1):
        at = y + (1 - part) * (height - 1)
        pen.line([(x + bar, at), (x + bar + 4, at)], fill="black")
        label = f"{part * top:.3g}" if np.isfinite(top) else ("0", "", "inf")[round(2 * part)]
        pen.text((x + bar + 7, at), label, fill="black", font=font, anchor="lm")
    pen.text((_MARGIN, head / 2 + 4), caption, fill="black", font=font, anchor="lm")
    unit = f"{norm.capitalize()} radius of a patch, in units of the image's values"
    pen.text((_MARGIN, y + height + 16), unit, fill="black", font=font, anchor="lm")
    return np.asarray(drawing)


def write_png(path, picture, **texts):
    """Write a picture (H, W, 3), with texts beside the pixels, whole or not at all."""
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", pnginfo=info)


def has_key(path, key):
    """Whether a picture is there that was written with this text as its key."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as file:
            return file.info.get("key") == key
    except (OSError, SyntaxError, ValueError):
        return False


def write_npy(path, array):
    """Write an array, whole or not at all."""
    os.makedirs(Path(path).parent, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, array, allow_pickle=False)
