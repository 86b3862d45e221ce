"""One image, asked of a model with masks: the lines of tables, and the picture of its places."""

from __future__ import annotations

import math

import numpy as np

from sklearn_patchcert.cli.options import shown
from sklearn_patchcert.composition import certify
from sklearn_patchcert.displays.colors import OPEN, SAFE

_SHORT_SIDE = 224  # pixels of an image in a picture, at least
_MARGIN, _STRIPE = 12, 12


def is_masked(model):
    """Whether a model is certified against stickers, behind masks."""
    return hasattr(model, "mask_space_")


def ends_of(model):
    """The ends of the files of places that `patchcert certify` writes for each image."""
    if not is_masked(model):
        return ()
    if hasattr(model, "classes_"):
        return ".places.npy", ".places.png"
    return ".places_lower.npy", ".places_upper.npy"


def radii_of(model, X, norm="l2"):
    """Patch radii of images, or None if the model masks pixels."""
    return certify(model, X, norm) if model.mask_space_ == "tokens" else None


def predicted(model, X):
    """The line of an image that `patchcert predict` prints."""
    row = {"answer": model.predict(X).tolist()[0]}
    radii = radii_of(model, X)
    if radii is not None:
        row |= {"smallest_radius": float(radii.min()), "mean_radius": float(radii.mean())}
    if hasattr(model, "predict_proba"):
        row["probability"] = float(model.predict_proba(X).max())
    return row


def certified(model, X, norm):
    """Arrays of an image by the ends of their files, and the start of its line of statistics."""
    found = model.certify(X, norm=norm)
    row: dict = {"prediction": str(found.prediction.tolist()[0])}
    if hasattr(model, "classes_"):
        row["certified_against_stickers"] = bool(found.certified[0])
        row["share_of_places"] = float(found.places.mean())
    else:
        row |= {"lower": float(found.lower[0]), "upper": float(found.upper[0])}
    arrays = {end: found[end.split(".")[1]][0] for end in ends_of(model) if end.endswith(".npy")}
    if found.radii is not None:
        arrays[".radii.npy"] = found.radii[0]
    return arrays, row


def summary(rows, norm, top, own):
    """What `patchcert certify` says at its end."""
    said = [f"{len(rows)} images"] if own.masked else [f"{len(rows)} certified"]
    if own.masked and not hasattr(own.model, "classes_"):
        widths = [row["upper"] - row["lower"] for row in rows.values()]
        mean = np.mean(widths) if widths else 0.0
        said.append(f"under a sticker values lie in intervals of mean width {mean:.6g}")
    elif own.masked:
        safe = sum(row["certified_against_stickers"] for row in rows.values())
        said.append(f"{safe} certified against stickers, anywhere")
    if own.vocabulary is not None:
        said.append(f"the brightest color is the {norm} radius {top:.6g}")
    return "; ".join(said)


def drawn_places(own, X, path, row):
    """An image under its places, which are in a file, with its line of statistics as a caption."""
    places, model = np.load(path, allow_pickle=False), own.model
    share = math.floor(100 * row["share_of_places"] + 1e-9)
    caption = shown(f"predicted {row['prediction']}, {share} % of places certified")
    sizes = model._sticker_sizes()
    return places_picture(own.picture(X), places, model.cell_size_, sizes, caption)


def places_picture(image, places, cell, sizes, caption):
    """An image beside itself under its places, with stickers to scale and a caption.

    Parameters
    ----------
    image : ndarray of uint8 (H, W, 3)
    places : ndarray of bool (rows, cols)
    cell : tuple (height, width)
    sizes : list of tuple (height, width)
        Of the stickers.
    caption : str

    Returns
    -------
    drawing : ndarray of uint8 (h, w, 3)
    """
    from PIL import Image, ImageDraw

    from sklearn_patchcert.displays.report.pixels import letters

    times = max(1, -(-_SHORT_SIDE // min(image.shape[:2])))
    large = image.repeat(times, 0).repeat(times, 1)
    height, width = large.shape[:2]
    safe = places.repeat(cell[0] * times, 0).repeat(cell[1] * times, 1)[:height, :width]
    down, right = np.indices(safe.shape)
    stripes = ~safe & ((down + right) % _STRIPE < _STRIPE // 4)
    colors = np.where(safe[..., None], _rgb(SAFE), _rgb(OPEN))
    colors[stripes] = 255
    gray = large.mean(-1, keepdims=True)
    mixed = (0.5 * gray + 0.5 * colors).round().astype(np.uint8)
    sizes = [(min(h * times, height), min(w * times, width)) for h, w in sizes]
    font = letters(14)
    lines = [
        caption,
        "green: no sticker whose upper left pixel is here changes the class",
        "orange, striped: not certified; frame: sticker, to scale",
    ]
    wide = max(2 * width + 3 * _MARGIN, *(int(font.getlength(line)) + 30 for line in lines))
    beside = max(w for _, w in sizes) + 2 * _MARGIN
    drawing = Image.new("RGB", (wide + beside, height + 2 * _MARGIN + 70), "white")
    pen, y = ImageDraw.Draw(drawing), _MARGIN + 24
    for at, panel in enumerate((large, mixed)):
        drawing.paste(Image.fromarray(panel), (_MARGIN + at * (width + _MARGIN), y))
    x = 2 * width + 4 * _MARGIN
    for h, w in sizes:
        pen.rectangle([x, y, x + w - 1, y + h - 1], outline="black", width=2)
    pen.text((_MARGIN, 16), lines[0], fill="black", font=font, anchor="lm")
    for at, line in enumerate(lines[1:]):
        pen.text((_MARGIN, y + height + 14 + 18 * at), line, fill="black", font=font, anchor="lm")
    return np.asarray(drawing)


def _rgb(color):
    return np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)])
