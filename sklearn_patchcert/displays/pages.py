"""What fits a page: limits of axes, sizes of letters and of a grid of pictures, in inches."""

from __future__ import annotations

import textwrap

import numpy as np

PAGE = 7.5, 10.0  # what Letter and A4 leave between their margins
BAR, HEAD = 0.85, 0.6  # room for a color bar, and for titles and a note
GAP = 0.08  # between pictures, and on either side of the space between two images
LARGEST_SIDE, SMALLEST_SIDE = 2.2, 0.2
NARROW = 3.2  # axes of less get small letters
LETTER = 0.6 / 72  # width of a letter of one point, on average
LINE = 1.35 / 72  # height of a line of one point


def one_axes(ax, figsize, usual=(6, 4), layout="constrained"):
    """The user's axes, or new ones in a figure of a size."""
    from matplotlib import pyplot

    if ax is None:
        return pyplot.subplots(figsize=figsize or usual, layout=layout)[1]
    if figsize is not None:
        raise ValueError("Pass ax or figsize, not both: the axes have a figure with a size.")
    return ax


def inches(ax):
    """Width and height of axes, as they are before a layout engine moves them."""
    box = ax.get_window_extent()
    return box.width / ax.figure.dpi, box.height / ax.figure.dpi


def fit_letters(ax):
    """Give narrow axes, as in one column of a paper, small letters, and see that none is cut.

    A figure of the user's own that has no layout engine gets one if a label would be cut.
    """
    if inches(ax)[0] < NARROW:
        shrink_letters(ax)
    figure = ax.figure
    while figure is not figure.figure:
        figure = figure.figure
    if figure.get_layout_engine() is None:
        drawn, whole = ax.get_tightbbox(), figure.bbox
        if min(drawn.x0, drawn.y0) < 0 or drawn.x1 > whole.x1 or drawn.y1 > whole.y1:
            figure.set_layout_engine("constrained")


def shrink_letters(ax, small=7.0):
    """Make the letters of axes smaller, unless they are small already."""
    legend = ax.get_legend()
    texts = [ax.xaxis.label, ax.yaxis.label, ax.title]
    texts += [] if legend is None else [*legend.get_texts(), legend.get_title()]
    for text in texts:
        text.set_fontsize(min(text.get_fontsize(), small))
    for axis in (ax.xaxis, ax.yaxis):
        sizes = [tick.label1.get_fontsize() for tick in axis.get_major_ticks()]
        axis.set_tick_params(which="both", labelsize=min([*sizes, small]))


def letters(side):
    """Size in points of the text around a picture."""
    return 7.0 if side < 1.4 else 9.0


def reach(*samples):
    """Where an axis of values from 0 on ends: at the largest, unless few are far beyond the rest.

    A value is far if it exceeds twice the 95th percentile of its sample, of five or more.
    """
    ends = []
    for values in samples:
        finite = np.sort(values[np.isfinite(values) & (values >= 0)])
        if len(finite) > 4:
            usual = 2 * np.quantile(finite, 0.95, method="lower")
            finite = finite[finite <= usual] if usual > 0 else finite
        ends += finite[-1:].tolist()
    return max(ends, default=0.0) or 1.0


def wrapped(text, width, size):
    """Text in lines that are not wider than so many inches."""
    return "\n".join(
        textwrap.fill(line, max(6, int(width / (LETTER * size))), break_long_words=False)
        for line in text.split("\n")
    )


def bar_at(figure, high):
    """Options of a color bar at the right of pictures so many inches high."""
    wide = figure.bbox.width / figure.dpi
    return {"fraction": min(0.15, 0.25 / wide), "aspect": max(8, high / 0.12), "pad": 0.02}


def fits(text, width, size):
    """Whether a line is not wider than so many inches."""
    return len(text) * LETTER * size <= width


def shortened(forms, width, size):
    """The first of some forms of a line that fits, or the last, cut: a path at its beginning."""
    text = next((form for form in forms if fits(form, width, size)), None)
    if text is not None:
        return text
    text, most = forms[-1], max(1, int(width / (LETTER * size)) - 2)
    if len(forms) > 1:  # rather part of a name with its meaning than without
        text = next((form for form in forms[:-1] if fits(form[:16], width, size)), text)
    return f"...{text[-most:]}" if "/" in text else f"{text[:most].rstrip()}..."


def arrange(n, columns, aspect, lines, size=None):
    """Find the grid in which n images, each of so many pictures, are drawn largest.

    Parameters
    ----------
    n, columns : int
        Images, and pictures of each.
    aspect : float
        Height of a picture divided by its width.
    lines : int
        Of text below each.
    size : tuple (width, height), default=None
        Of the figure, in inches.  None: as large as needed, at most a page.

    Returns
    -------
    across : int
        Images beside each other.
    side : float
        Width of a picture.
    size : tuple (width, height)
    """

    def extra(side):
        return lines * LINE * letters(side) + GAP

    width, height = PAGE if size is None else size
    found = []
    for across in range(1, n + 1):
        rows = -(-n // across)
        side = min(
            (width - BAR - 2 * GAP * (across - 1)) / (across * columns) - GAP,
            ((height - HEAD) / rows - extra(0)) / aspect,
            LARGEST_SIDE,
        )
        found.append((round(side, 2), -across))
    side, across = max(found)
    across = -across
    if side < SMALLEST_SIDE:
        raise ValueError(
            f"{n} images of {columns} pictures do not fit {width:g} x {height:g} inches: pass a "
            "smaller max_images, fewer columns or a larger figsize."
        )
    if size is None:
        rows = -(-n // across)
        size = (
            min(PAGE[0], BAR + across * columns * (side + GAP) + 2 * GAP * (across - 1)),
            min(PAGE[1], max(HEAD + rows * (side * aspect + extra(side)), 1.6)),
        )
    return across, side, size
