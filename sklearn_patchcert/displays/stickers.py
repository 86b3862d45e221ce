"""Pictures of certificates against stickers: the image with the places laid over it."""

from __future__ import annotations

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert.displays.colors import OPEN, SAFE, how_shown, shown, span_of
from sklearn_patchcert.displays.inputs import check_labels, images_of, named, per_image
from sklearn_patchcert.displays.maps import (
    aspect_of,
    axes_of_maps,
    draw_picture,
    write_captions,
    write_note,
    write_titles,
)
from sklearn_patchcert.displays.pages import inches, letters, wrapped

TITLES = {"image": "image", "places": "places of a sticker"}
SHARES = "{} of places certified", "{} certified", "{} cert.", "{}"
_HATCH = "/////"


class StickerDisplay:
    """Images, and the places at which a sticker provably cannot change the prediction.

    Use :meth:`from_estimator` or :meth:`from_places` to make one.

    A place is a cell of the image, a patch or a pixel, and stands for all stickers whose *upper
    left pixel* lies in it.  Green places are certified.  At places that are marked, with an orange
    hatching, nothing is proved: a sticker there may change the prediction or not.

    Parameters
    ----------
    images : ndarray (n, H, W) or (n, H, W, C)
        Three channels are drawn as colors, four as colors with alpha, on white.  Of any other
        number the mean is drawn in gray, and the titles say so.
    places : ndarray of bool (n, rows, cols)
    cell_size : tuple (height, width)
        Of a place, in pixels.
    sticker_size : list of tuple (height, width)
        Drawn to scale over the first place that is not certified, or else over the center.
    n_stickers : int
        How many stickers there may be.
    predictions, y, names : ndarray (n,) or None
        Predicted labels, true labels and names of the images, to be written below them.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes (n_shown, n_columns)
        A row for each image that is drawn, also if images are beside each other in the figure.
    ax_ : matplotlib Axes
        The first of them.
    marks_ : ndarray of object (n_shown,)
        The patches that mark places that are not certified, None if all are.
    legend_ : matplotlib Legend or None
        What the colors mean, and how many of the images are drawn.  None in axes of the user's
        own, and without "places".
    text_ : matplotlib Text or None
        The same, as a note below the pictures, where there is no legend.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert import StickerDisplay
    >>> images, places = np.zeros((1, 8, 8)), np.ones((1, 4, 4), dtype=bool)
    >>> places[0, :2, 1] = False
    >>> display = StickerDisplay.from_places(images, places, cell_size=2, sticker_size=3)
    >>> display.axes_.shape
    (1, 2)
    """

    def __init__(
        self,
        images,
        places,
        *,
        cell_size,
        sticker_size,
        n_stickers=1,
        predictions=None,
        y=None,
        names=None,
    ) -> None:
        self.images = images
        self.places = places
        self.cell_size = cell_size
        self.sticker_size = sticker_size
        self.n_stickers = n_stickers
        self.predictions, self.y, self.names = predictions, y, names

    @classmethod
    def from_estimator(
        cls, estimator, X, y=None, *, display_labels=None, names=None, **plot_options
    ) -> StickerDisplay:
        """Certify images and draw them.

        Parameters
        ----------
        estimator : fitted StickerCertifiedClassifier
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C), or one image (H, W[, C])
        y : array-like (n,), default=None
            True labels.  They are written below the images, and wrong predictions are marked.
        display_labels : array-like of str (n_classes,), default=None
            Names of the classes, in the order of `estimator.classes_`.  None: the labels.
        names : array-like of str (n,), default=None
            Names of the images.
        **plot_options
            Go to :meth:`plot`.

        Returns
        -------
        display : StickerDisplay

        Raises
        ------
        TypeError
            If the estimator is none of these, such as a search over one.
        ValueError
            If y, names or display_labels have another length than expected, or the estimator's
            sticker_size was changed after fit.
        """
        if not hasattr(type(estimator), "_sticker_sizes") or not is_classifier(estimator):
            raise TypeError(
                f"A {type(estimator).__name__} has no places where a class is certified: pass a "
                "fitted StickerCertifiedClassifier, for example search.best_estimator_."
            )
        check_is_fitted(estimator)
        sizes, shape = estimator._sticker_sizes(), estimator.image_shape_
        X = images_of(estimator, X)
        if np.shape(X) in (shape, shape[:2] if shape[2] == 1 else shape):
            X = np.asarray(X)[None]
        y, names = per_image(y, len(X), "y"), per_image(names, len(X), "names")
        check_labels(y, estimator.classes_)
        found = estimator.certify(X)
        predictions, classes = found.prediction, estimator.classes_
        return cls.from_places(
            np.asarray(X).reshape(-1, *shape),
            found.places,
            cell_size=estimator.cell_size_,
            sticker_size=sizes,
            n_stickers=estimator.n_stickers,
            predictions=named(predictions, classes, display_labels),
            y=named(y, classes, display_labels),
            names=names,
            **plot_options,
        )

    @classmethod
    def from_places(
        cls,
        images,
        places,
        *,
        cell_size,
        sticker_size,
        n_stickers=1,
        predictions=None,
        y=None,
        names=None,
        **plot_options,
    ) -> StickerDisplay:
        """Draw places that are already certified.

        Parameters
        ----------
        images : ndarray (n, H, W) or (n, H, W, C), or one image (H, W[, C])
        places : ndarray of bool (n, rows, cols), or those of one image
            As :meth:`StickerCertifiedClassifier.certify` returns them.
        cell_size : int or tuple (height, width)
            Of a place, in pixels: the `cell_size_` of the classifier.
        sticker_size : int, tuple (height, width), or list of these
            In pixels.
        n_stickers : int, default=1
            How many stickers there may be.
        predictions, y : array-like (n,), default=None
            Predicted and true labels.
        names : array-like of str (n,), default=None
            Names of the images.
        **plot_options
            Go to :meth:`plot`.

        Returns
        -------
        display : StickerDisplay

        Raises
        ------
        ValueError
            If the arrays do not fit each other.
        """
        images, places = np.asarray(images), np.asarray(places)
        cell = _pairs(cell_size, "cell_size")[0]
        given = images.shape, places.shape, places.dtype
        if places.ndim == 2:
            images, places = images[None], places[None]
        fit = places.ndim == 3 and places.dtype == bool and images.ndim in (3, 4) and len(images)
        grid = tuple(-(-s // p) for s, p in zip(images.shape[1:3], cell, strict=False))
        if not fit or places.shape != (len(images), *grid):
            raise ValueError(
                f"images {given[0]} and places {given[1]} of {given[2]} do not fit each other and "
                f"cells of {cell} pixels: each image (H, W) or (H, W, C) needs True or False for "
                "each of its cells."
            )
        n = len(images)
        display = cls(
            images,
            places,
            cell_size=cell,
            sticker_size=_pairs(sticker_size, "sticker_size"),
            n_stickers=n_stickers,
            predictions=per_image(predictions, n, "predictions"),
            y=per_image(y, n, "y"),
            names=per_image(names, n, "names"),
        )
        return display.plot(**plot_options)

    def plot(
        self,
        *,
        columns=("image", "places"),
        ax=None,
        figure=None,
        figsize=None,
        max_images=24,
        alpha=0.45,
    ) -> StickerDisplay:
        """Draw the images and their places, several images beside each other if there are many.

        Parameters
        ----------
        columns : sequence of {"image", "places"}
            What is drawn of each image.
        ax : matplotlib Axes, or array of (n, n_columns) of them, default=None
            Where to draw, one for each picture.
        figure : matplotlib Figure or SubFigure, default=None
            Where to make the axes.  None makes a new one.
        figsize : tuple (width, height), default=None
            Size of a new figure in inches; 3.35 is the width of one column of a paper.  None: as
            the pictures need it, at most 7.5 x 10 inches.
        max_images : int, default=24
            Of more images, the first are drawn, and a note says how many these are.
        alpha : float, default=0.45
            Opacity of the places.

        Returns
        -------
        self : StickerDisplay

        Raises
        ------
        ValueError
            If a column is unknown, there are more or fewer axes than pictures, or the pictures do
            not fit the figure.
        """
        columns = list(columns)
        if sum(given is not None for given in (ax, figure, figsize)) > 1:
            raise ValueError("Pass one of ax, figure and figsize, not both or all of them.")
        place = columns.index("places") if "places" in columns else 0
        axes = axes_of_maps(self, ax, figure, figsize, columns, TITLES, max_images, place)
        span = span_of(self.images)
        self.marks_ = np.full(len(axes), None, dtype=object)
        for at, row in enumerate(axes):
            picture = shown(self.images[at], span)
            for one, column in zip(row, columns, strict=True):
                draw_picture(one, picture, under_colors=column == "places")
                if column == "places":
                    self.marks_[at] = self._draw_places(one, at, alpha)
                height, width = self.images.shape[1:3]
                one.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        wide, high = inches(axes[0, 0])
        side = min(wide, high / aspect_of(self))
        note = how_shown(self.images.shape[3] if self.images.ndim == 4 else 1)
        write_titles(axes, [(TITLES[column], note) for column in columns], side)
        shares = [_percent(one.mean()) for one in self.places]
        write_captions(self, axes, place, [[f.format(s) for s in shares] for f in SHARES], side)
        n = len(self.images)
        notes = [f"showing {len(axes)} of {n} images"] if len(axes) < n else []
        self.legend_ = self.text_ = None
        if "places" in columns and ax is None:
            self.legend_ = self._legend(axes[0, 0].figure, alpha, notes, letters(side))
        else:
            notes = [self._stickers(), *["hatched: not certified"] * ("places" in columns), *notes]
            room = side * len(columns)
            note = wrapped(", ".join(notes), room, letters(side))
            self.text_ = write_note(axes, ax is not None, [note], side)
        self.axes_, self.ax_, self.figure_ = axes, axes[0, 0], axes[0, 0].get_figure()
        return self

    def _draw_places(self, ax, at, alpha):
        """Lay the places of an image over it, and the sticker to scale; return the marks."""
        from matplotlib.colors import to_rgba
        from matplotlib.patches import PathPatch, Rectangle
        from matplotlib.path import Path

        places, (ph, pw) = self.places[at], self.cell_size
        rows, cols = places.shape
        colors = np.where(places[..., None], to_rgba(SAFE, alpha), to_rgba(OPEN, alpha))
        extent = (-0.5, cols * pw - 0.5, rows * ph - 0.5, -0.5)
        ax.imshow(colors, extent=extent, interpolation="nearest")
        marks = None
        if not places.all():
            boxes = [
                np.array([[left, top], [right, top], [right, top + 1], [left, top + 1], [0, 0]])
                for top, left, right in _runs(~places)
            ]
            corners = np.concatenate(boxes) * (pw, ph) - 0.5
            codes = [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY] * len(boxes)
            marks = PathPatch(
                Path(corners, codes), facecolor="none", edgecolor=OPEN, hatch=_HATCH, linewidth=0
            )
            ax.add_patch(marks)
        for (height, width), (left, top) in zip(
            self.sticker_size, self._corners(places), strict=True
        ):
            for color, line in (("white", 2.6), ("black", 1.2)):
                ax.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False,
                                       edgecolor=color, linewidth=line))  # fmt: skip
        return marks

    def _corners(self, places):
        """Upper left pixels (left, top) of the stickers that are drawn, inside the image."""
        whole, found = np.array(self.images.shape[1:3]), []
        for size in self.sticker_size:
            most = np.maximum(whole - size, 0)
            corners = np.argwhere(~places) * self.cell_size
            inside = corners[(corners <= most).all(1)]
            some = inside if len(inside) else corners
            corner = most // 2 if places.all() else np.minimum(some[0], most)
            found.append((int(corner[1]), int(corner[0])))
        return found

    def _legend(self, figure, alpha, notes, size):
        """What the colors and the frame mean, below all pictures."""
        from matplotlib.patches import Patch

        wide = figure.bbox.width / figure.dpi
        handles = [
            Patch(facecolor=SAFE, alpha=alpha),
            Patch(facecolor=OPEN, alpha=alpha, hatch=_HATCH, edgecolor=OPEN),
            Patch(facecolor="white", edgecolor="black"),
        ]
        other = "" if self.n_stickers == 1 else ", wherever the other is,"
        texts = [
            f"certified: no sticker whose upper left pixel is here{other} changes the prediction",
            "not certified: nothing is proved of a sticker whose upper left pixel is here",
            f"{self._stickers()}, to scale",
        ]
        if notes:
            handles.append(Patch(alpha=0.0))
            texts.append("; ".join(notes))
        texts = [wrapped(text, wide - 0.8, size) for text in texts]
        return figure.legend(
            handles, texts, loc="outside lower center", fontsize=size, frameon=False, ncols=1,
            handlelength=1.4, borderpad=0.1, labelspacing=0.35,
        )  # fmt: skip

    def _stickers(self):
        """The stickers in words."""
        sizes = " or ".join(f"{height} x {width}" for height, width in self.sticker_size)
        count = "sticker" if self.n_stickers == 1 else f"{self.n_stickers} stickers"
        return f"{count} of {sizes} pixels"


def _runs(marked):
    """Rows and first and last columns of the runs of marked cells."""
    edges = np.diff(np.pad(marked.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (tops, lefts), (_, rights) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    return zip(tops.tolist(), lefts.tolist(), rights.tolist(), strict=True)


def _percent(share):
    """A share in per cent, rounded down: 100 % are all places."""
    return f"{int(100 * share + 1e-9)} %"


def _pairs(sizes, name):
    """Pairs of positive integers, from one or several numbers or pairs."""
    several = sizes if isinstance(sizes, list) else [sizes]
    found = [(one, one) if np.ndim(one) == 0 else tuple(one) for one in several]
    whole = [len(one) == 2 and all(np.asarray(one).dtype.kind in "iu" and v > 0 for v in one)
             for one in found]  # fmt: skip
    if not found or not all(whole):
        raise ValueError(f"{name} must be positive pixels, or pairs of them, got {sizes!r}.")
    return [tuple(map(int, one)) for one in found]
