"""The grid of images and their maps: axes, pictures, and what is written around them."""

from __future__ import annotations

import numpy as np

from sklearn_patchcert.displays.colors import WRONG, how_shown, shown, span_of
from sklearn_patchcert.displays.inputs import captions, wrong
from sklearn_patchcert.displays.pages import (
    GAP,
    arrange,
    bar_at,
    fits,
    inches,
    letters,
    shortened,
    wrapped,
)

TITLES = {
    "image": "image",
    "discretised": "made of tokens",
    "map": "certified radius",
    "overlay": "radius over image",
}
MAPS = "map", "overlay"
SMALLEST = "smallest radius {:.3g}", "smallest {:.3g}", "min {:.3g}", "min {:.2g}", "min\n{:.2g}"


def axes_of_maps(display, ax, figure, figsize, columns, titles, max_images, place):
    """Axes (n_shown, n_columns): the user's, or new ones, several images beside each other.

    Columns have one of the titles.  Below that of `place` there is a line that tells of its map.
    """
    from matplotlib import pyplot

    if set(columns) - set(titles) or not len(columns):
        raise ValueError(f"columns must be some of {tuple(titles)}, got {columns!r}.")
    if not (isinstance(max_images, (int, np.integer)) and max_images > 0):
        raise ValueError(f"max_images must be an integer from 1 on, got {max_images!r}.")
    n, per_image = len(display.images), len(columns)
    n_shown = min(n, max_images)
    if ax is not None:
        axes = np.array(ax, dtype=object)
        if axes.size not in (n * per_image, n_shown * per_image):
            raise ValueError(
                f"Pass {n_shown} x {per_image} axes, one for each picture; got {axes.size} axes."
            )
        return axes.reshape(-1, per_image)
    if figure is not None:
        whole = figure
        while whole is not whole.figure:
            whole = whole.figure
        if whole.get_layout_engine() is None and not whole.axes:
            whole.set_layout_engine("constrained")  # or captions lie on the pictures below
        figsize = figure.bbox.width / whole.dpi, figure.bbox.height / whole.dpi
    told = captions(display.names, display.predictions, display.y)
    n_lines = max(1, max(map(len, told), default=0) + (place == 0))
    across, side, size = arrange(n_shown, per_image, aspect_of(display), n_lines, figsize)
    if figure is None:
        figure = pyplot.figure(figsize=figsize or size, layout="compressed")
    ratios = ([1.0] * per_image + [2 * GAP / side]) * across  # a gap between two images
    rows = -(-n_shown // across)
    grid = figure.add_gridspec(rows, len(ratios) - 1, width_ratios=ratios[:-1])
    axes = np.empty((n_shown, per_image), dtype=object)
    for at, place in np.ndindex(*axes.shape):
        column = at % across * (per_image + 1) + place
        axes[at, place] = figure.add_subplot(grid[at // across, column])
    return axes


def draw_maps(display, axes, columns, label, *, own, cmap, vmax, alpha):
    """Draw pictures into axes; return them (n_shown, n_columns), the color bar and the note."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    images, radii, (ph, pw) = display.images, display.radii, display.patch_size
    radii = radii.min(-1) if radii.ndim == 4 else radii
    (height, width), span, largest = images.shape[1:3], span_of(images), largest_of(radii)
    extent = (-0.5, radii.shape[2] * pw - 0.5, radii.shape[1] * ph - 0.5, -0.5)
    norm = Normalize(0.0, largest if vmax is None else vmax)
    found = np.empty(axes.shape, dtype=object)
    for at, place in np.ndindex(*axes.shape):
        ax, column = axes[at, place], columns[place]
        if column != "map":
            picture = shown((display.discretised if column == "discretised" else images)[at], span)
            found[at, place] = draw_picture(ax, picture, under_colors=column == "overlay")
        if column in MAPS:
            style = {"alpha": alpha if column == "overlay" else None, "cmap": cmap, "norm": norm}
            found[at, place] = ax.imshow(radii[at], extent=extent, **style)
        ax.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    wide, high = inches(axes[0, 0])
    side = min(wide, high / aspect_of(display))
    note = how_shown(images.shape[3] if images.ndim == 4 else 1)
    write_titles(axes, [(TITLES[one], "" if one == "map" else note) for one in columns], side)
    smallest = radii.min(axis=(1, 2))
    forms = [[form.format(radius) for radius in smallest] for form in SMALLEST]
    write_captions(display, axes, place_of_radius(columns), forms, side)
    bar, blank = None, False
    if set(MAPS) & set(columns):
        extend = "max" if norm.vmax < largest else "neither"
        bar = _color_bar(axes, ScalarMappable(norm, cmap), extend, label, side)
        blank = np.isinf(radii[: len(axes)]).any()
    notes = [f"showing {len(axes)} of {len(images)} images"] if len(axes) < len(images) else []
    notes += ["blank: infinite radius"] if blank else []
    return found, bar, write_note(axes, own, notes, side)


def draw_picture(ax, picture, under_colors):
    """Draw an image; in bright grays if colors that lie over it have to shine."""
    if under_colors:
        picture = np.repeat(0.3 + 0.7 * picture.mean(-1, keepdims=True), 3, axis=2)
    return ax.imshow(picture)


def aspect_of(display):
    height, width = display.images.shape[1:3]
    return min(max(height / width, 0.25), 4.0)


def place_of_radius(columns):
    """The column below which the smallest radius is written."""
    return next((at for at in reversed(range(len(columns))) if columns[at] in MAPS), 0)


def write_titles(axes, titles, side):
    """Write titles, each with a note that may be empty, over the pictures at the top."""
    size = letters(side) + 0.5
    top = max(ax.get_position().y1 for ax in axes[:, 0])
    for row in axes:
        if row[0].get_position().y1 < top - 1e-6:
            continue
        for ax, (title, note) in zip(row, titles, strict=True):
            lines = "\n".join(part for part in (title, note) if part)
            ax.set_title(wrapped(lines, side, size), fontsize=size)


def write_captions(display, axes, place, forms, side):
    """Write below an image what is told of it, and below its map a line of some forms."""
    n = len(display.images)
    told = captions(display.names, display.predictions, display.y) or [[]] * n
    marked = display.predictions is not None and display.y is not None
    mistaken = wrong(display.predictions, display.y) if marked else [False] * n
    size = letters(side)
    room = side * max(place, 1)
    forms = [form[: len(axes)] for form in forms]
    maps = next((form for form in forms if fits(max(form, key=len), side, size)), forms[-1])
    for at, row in enumerate(axes):
        lines = [shortened(line, room, size) for line in told[at]]
        if place == 0:
            lines.append(maps[at])
        else:
            row[place].set_xlabel(maps[at], loc="left", fontsize=size)
        row[0].set_xlabel("\n".join(lines), loc="left", fontsize=size)
        if mistaken[at]:
            row[0].xaxis.label.set(color=WRONG, fontweight="bold")
            row[0].spines[:].set(color=WRONG, linewidth=2)


def _color_bar(axes, mappable, extend, label, side):
    """A bar at the right of all pictures, with the unit of the radii."""
    target = axes[0, 0].figure
    boxes = [ax.get_window_extent() for ax in axes.ravel()]
    high = (max(box.y1 for box in boxes) - min(box.y0 for box in boxes)) / target.dpi
    size = letters(side) + 0.5
    if not fits(label, high, size):
        label = label.replace(" [", "\n[")
    bar = target.colorbar(
        mappable,
        extend=extend,
        ax=list(axes.ravel()),
        **bar_at(target, high),
    )
    bar.set_label(label, fontsize=size)
    bar.ax.tick_params(labelsize=letters(side))
    return bar


def write_note(axes, own, notes, side):
    """Write a note below all pictures; in axes of the user's own, below the last image."""
    if not notes:
        return None
    note = ", ".join(notes)
    if not own:
        return axes[0, 0].figure.supxlabel(note, fontsize=letters(side))
    label = axes[-1, 0].xaxis.label
    label.set_text("\n".join(part for part in (label.get_text(), note) if part))
    return label


def largest_of(radii):
    """The largest finite radius, or 1 where there is none."""
    finite = radii[np.isfinite(radii)]
    return float(finite.max()) if finite.size else 1.0
