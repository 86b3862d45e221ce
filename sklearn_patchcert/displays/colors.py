"""From the values of pictures to colors that a screen can show."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Colors of Okabe and Ito, which are distinct for the color-blind.
WRONG = "#D55E00"  # vermilion: on black as on white
SAFE, OPEN = "#009E73", "#D55E00"  # bluish green and vermilion


class Span(NamedTuple):
    """The values that are drawn black and white, and the alpha that is opaque (None: all is)."""

    low: float
    high: float
    opaque: float | None = None


def span_of(pictures):
    """The span of the colors of pictures (n, H, W) or (n, H, W, C).

    The fourth of four channels is alpha.  It ends at 1, 255 or 65535, the first that no value
    exceeds.  If it has negative or larger values, it is no alpha, and all is drawn opaque.
    """
    if pictures.ndim < 4 or pictures.shape[-1] != 4:
        return Span(float(pictures.min()), float(pictures.max()))
    colors, alpha, largest = pictures[..., :3], pictures[..., 3], pictures.max()
    opaque = next((full for full in (1.0, 255.0, 65535.0) if largest <= full), None)
    if alpha.min() < 0:
        opaque = None
    return Span(float(colors.min()), float(colors.max()), opaque)


def shown(picture, span):
    """Colors (H, W, 3) of a picture (H, W) or (H, W, C): its span of values becomes [0, 1].

    Three channels are red, green and blue.  Four are these and alpha, and are laid on white.  Of
    any other number the mean is drawn, in gray.
    """
    picture = np.asarray(picture, dtype=float)
    low, high, opaque = span
    scaled = np.clip((picture - low) / ((high - low) or 1.0), 0, 1)
    channels = 1 if picture.ndim == 2 else picture.shape[2]
    if channels == 3:
        return scaled
    if channels == 4:
        alpha = 1.0 if opaque is None else np.clip(picture[..., 3:] / opaque, 0, 1)
        return 1 - alpha * (1 - scaled[..., :3])
    gray = scaled.mean(axis=2) if picture.ndim == 3 else scaled
    return np.repeat(gray[:, :, None], 3, axis=2)


def is_gray(channels):
    """Whether pictures of so many channels are drawn in gray."""
    return channels not in (3, 4)


def how_shown(channels):
    """What a title says of pictures that are not drawn as they are; often nothing."""
    return f"mean of {channels} channels" if is_gray(channels) and channels > 1 else ""
