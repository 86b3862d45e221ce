"""Images, maps of radii and tokens as data URIs: pictures that a page carries inside itself."""

from __future__ import annotations

import base64
import contextlib
import io
import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from sklearn_patchcert.displays.colors import Span, shown

_ANCHORS = [  # nine colors along matplotlib's viridis, which is in the public domain
    (68, 1, 84), (71, 45, 123), (59, 82, 139), (44, 114, 142), (33, 145, 140),
    (40, 174, 128), (94, 201, 98), (173, 220, 48), (253, 231, 37),
]  # fmt: skip
_LOSSLESS = 96  # pixels along the longer side up to which a picture is a PNG
_TOKEN_SIDE = 28  # least pixels along the longer side of a token
_GAP = 2


def colors(values):
    """Colors of a perceptually uniform palette.

    Parameters
    ----------
    values : ndarray of float
        From 0 (dark) to 1 (bright); what is beyond is clipped.

    Returns
    -------
    rgb : ndarray of uint8, the shape of values and 3
    """
    at = np.linspace(0, 1, len(_ANCHORS))
    channels = [np.interp(values, at, channel) for channel in np.array(_ANCHORS).T]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def palette_css():
    """The palette as the colors of a CSS gradient.

    Returns
    -------
    css : str
    """
    return ", ".join(f"rgb({r} {g} {b})" for r, g, b in _ANCHORS)


def data_uri(pixels, kind="png"):
    """A picture as a data URI.

    Parameters
    ----------
    pixels : ndarray of uint8 (H, W, 3) or (H, W, 4)
    kind : {"png", "jpeg"}

    Returns
    -------
    uri : str
    """
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"quality": 85} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def map_uri(radii, top):
    """A map of radii, one pixel for each patch.

    Parameters
    ----------
    radii : ndarray (rows, cols)
    top : float
        The radius of the brightest color.

    Returns
    -------
    uri : str
        PNG; infinite radii are transparent.
    """
    finite = np.isfinite(radii)
    rgb = colors(np.where(finite, radii, 0.0) / top)
    return data_uri(np.dstack([rgb, np.where(finite, 255, 0).astype(np.uint8)]))


def image_uri(image, span, longest):
    """An image.

    Parameters
    ----------
    image : ndarray (H, W, C)
        Three channels are colors; the mean of any other number is a gray.
    span : tuple (low, high)
        The values of black and white.
    longest : int
        Pixels along the longer side; a larger image is made smaller.

    Returns
    -------
    uri : str
        PNG for small pictures, which loses nothing, otherwise JPEG.
    """
    from PIL import Image

    pixels = np.round(255 * shown(image, Span(*span))).astype(np.uint8)
    side = max(pixels.shape[:2])
    if side > longest:
        picture = Image.fromarray(pixels)
        picture.thumbnail((longest, longest), reducing_gap=None)
        pixels = np.asarray(picture)
    return data_uri(pixels, "png" if side <= min(_LOSSLESS, longest) else "jpeg")


def tokens_uri(tokens, order, patch_size, columns):
    """Tokens in rows, with transparent gaps.

    Parameters
    ----------
    tokens : ndarray (n_channels, n_tokens, patch_dim)
        Each channel begins a new row.
    order : list of ndarray of int (n_drawn,)
        The tokens to draw, of each channel.
    patch_size : tuple (ph, pw)
    columns : int
        Tokens in a row.

    Returns
    -------
    uri : str
    """
    channels, drawn, (ph, pw) = len(order), max(map(len, order)), patch_size
    zoom = max(1, math.ceil(_TOKEN_SIDE / max(ph, pw)))
    down, right, rows = ph * zoom + _GAP, pw * zoom + _GAP, -(-drawn // columns)
    picture = np.zeros((channels * rows * down - _GAP, columns * right - _GAP, 4), dtype=np.uint8)
    span = float(tokens.min()), float(tokens.max())
    for channel, ids in enumerate(order):
        for rank, token in enumerate(ids):
            top, left = (channel * rows + rank // columns) * down, rank % columns * right
            patch = shown(tokens[channel, token].reshape(ph, pw, -1), Span(*span))
            patch = np.round(255 * patch).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1)
            picture[top : top + ph * zoom, left : left + pw * zoom, :3] = patch
            picture[top : top + ph * zoom, left : left + pw * zoom, 3] = 255
    return data_uri(picture)


def letters(size):
    """A font of Pillow for texts of users: that of matplotlib, which has more than ASCII.

    Parameters
    ----------
    size : int
        In pixels.

    Returns
    -------
    font : PIL.ImageFont.FreeTypeFont
        Pillow's own where matplotlib is not installed.
    """
    from PIL import ImageFont

    found = find_spec("matplotlib")
    for folder in (found and found.submodule_search_locations) or ():
        with contextlib.suppress(OSError):
            path = Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size=size)
