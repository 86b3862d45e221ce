"""Pictures of certificates, in the manner of scikit-learn's Display classes."""

from __future__ import annotations

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert._layouts import as_batch

_NORM_NAMES = {"l2": "L2", "linf": "Linf", "l1": "L1"}
_TITLES = {
    "image": "image",
    "discretised": "made of tokens",
    "map": "certified radius",
    "overlay": "radius over image",
}


class CertificateDisplay:
    """Images, their tokens and their patch radii, as maps or as a histogram.

    Use :meth:`from_estimator` or :meth:`from_radii` to make one.

    Parameters
    ----------
    images : ndarray (n, H, W) or (n, H, W, C)
    discretised : ndarray, the shape of images
    radii : ndarray (n, rows, cols) or (n, rows, cols, C)
        Where channels have radii of their own, the map shows the smallest.
    patch_size : tuple (ph, pw)
    norm : str
    units : str
        Units of the radii, for the color bar.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes (n, n_columns), for a histogram (1, 1)
    ax_ : matplotlib Axes
        The first of them.
    colorbar_ : matplotlib Colorbar or None

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import CertificateDisplay, PatchVocabulary
    >>> X = load_digits().images
    >>> vocabulary = PatchVocabulary(n_tokens=8, patch_size=2, random_state=0).fit(X)
    >>> display = CertificateDisplay.from_estimator(vocabulary, X[:2], units="gray levels")
    >>> display.axes_.shape
    (2, 3)
    """

    def __init__(
        self, images, discretised, radii, *, patch_size, norm="l2", units="units of X"
    ) -> None:
        self.images = images
        self.discretised = discretised
        self.radii = radii
        self.patch_size = patch_size
        self.norm = norm
        self.units = units

    @classmethod
    def from_estimator(
        cls, estimator, X, *, norm="l2", units="units of X", **plot_options
    ) -> CertificateDisplay:
        """Certify images and draw them.

        Parameters
        ----------
        estimator : fitted PatchVocabulary or pipeline with a `certify`
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        norm : {"l2", "linf", "l1"}
        units : str
        **plot_options
            Go to :meth:`plot`.

        Returns
        -------
        display : CertificateDisplay
        """
        check_is_fitted(estimator)
        X = as_batch(X)
        radii = estimator.certify(X, norm=norm)
        vocabulary, before = estimator, []
        if isinstance(estimator, Pipeline):
            before, vocabulary = estimator._split()
        Z = X.copy() if hasattr(X, "copy") else X
        for step in before:
            Z = step.transform(Z)
        shape = vocabulary._check(Z).shape[1:]
        tokens = vocabulary.inverse_transform(vocabulary.tokenize(Z))
        if not hasattr(vocabulary, "image_shape_"):  # whole patches, that is, with the padding
            tokens = tokens[:, : shape[0], : shape[1]]
        tokens = tokens.reshape(-1, *shape)
        for step in reversed(before):
            flat = tokens.reshape(len(tokens), -1) if np.ndim(X) == 2 else tokens
            if hasattr(step, "feature_names_in_"):
                flat = type(X)(flat, columns=step.feature_names_in_)
            tokens = np.asarray(step.inverse_transform(flat)).reshape(-1, *shape)
        images = np.asarray(X).reshape(-1, *shape)
        return cls.from_radii(
            images,
            tokens,
            radii,
            patch_size=vocabulary.patch_size_,
            norm=norm,
            units=units,
            **plot_options,
        )

    @classmethod
    def from_radii(
        cls,
        images,
        discretised,
        radii,
        *,
        patch_size,
        norm="l2",
        units="units of X",
        **plot_options,
    ) -> CertificateDisplay:
        """Draw radii that are already computed.

        Parameters
        ----------
        images : ndarray (n, H, W) or (n, H, W, C)
        discretised : ndarray, the shape of images
        radii : ndarray (n, rows, cols) or (n, rows, cols, C)
        patch_size : tuple (ph, pw)
        norm : {"l2", "linf", "l1"}
        units : str
        **plot_options
            Go to :meth:`plot`.

        Returns
        -------
        display : CertificateDisplay
        """
        if norm not in _NORM_NAMES:
            raise ValueError(f"norm must be one of {tuple(_NORM_NAMES)}, got {norm!r}.")
        images, discretised, radii = map(np.asarray, (images, discretised, radii))
        display = cls(images, discretised, radii, patch_size=patch_size, norm=norm, units=units)
        return display.plot(**plot_options)

    def plot(
        self,
        *,
        kind="maps",
        columns=("image", "discretised", "map"),
        ax=None,
        figure=None,
        cmap="viridis",
        vmax=None,
        alpha=0.6,
        bins=30,
    ) -> CertificateDisplay:
        """Draw the images and their maps, or the distribution of the radii.

        Parameters
        ----------
        kind : {"maps", "histogram"}, default="maps"
            "maps" draws a row for each image; "histogram" the radii of all patches, and the
            smallest radius of each image, which is that of the largest ball of the whole image
            in which no token changes.
        columns : sequence of {"image", "discretised", "map", "overlay"}
            What "maps" draws of each image; "overlay" is the map laid over the image.
        ax : matplotlib Axes, or array of (n, n_columns) of them, default=None
            Where to draw: for "histogram" one Axes, for "maps" one for each picture.
        figure : matplotlib Figure or SubFigure, default=None
            Where to make the axes.  None makes a new one.
        cmap : str or matplotlib Colormap
            Of the radii.
        vmax : float, default=None
            Radius at which the color scale ends.  None: the largest finite one.
        alpha : float, default=0.6
            Opacity of the map in "overlay".
        bins : int, default=30
            Of "histogram".

        Returns
        -------
        self : CertificateDisplay

        Raises
        ------
        ValueError
            If `kind` or a column is unknown, or there are more or fewer axes than pictures.
        """
        if kind not in ("maps", "histogram"):
            raise ValueError(f'kind must be "maps" or "histogram", got {kind!r}.')
        if kind == "histogram":
            axes = _axes(ax, figure, 1, 1, (6, 4))
            self._draw_histogram(axes[0, 0], bins)
        else:
            unknown = set(columns) - set(_TITLES)
            if unknown or not len(columns):
                raise ValueError(f"columns must be some of {tuple(_TITLES)}, got {columns!r}.")
            n, (height, width) = len(self.images), self.images.shape[1:3]
            size = 2.5 * len(columns), 0.4 + 2.2 * n * min(max(height / width, 0.25), 4.0)
            axes = _axes(ax, figure, n, len(columns), size)
            self._draw_maps(axes, list(columns), cmap, vmax, alpha)
        self.axes_, self.ax_, self.figure_ = axes, axes[0, 0], axes[0, 0].get_figure()
        return self

    def _draw_maps(self, axes, columns, cmap, vmax, alpha):
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        radii = self.radii.min(-1) if self.radii.ndim == 4 else self.radii
        (height, width), (ph, pw) = self.images.shape[1:3], self.patch_size
        extent = (-0.5, radii.shape[2] * pw - 0.5, radii.shape[1] * ph - 0.5, -0.5)
        span = float(np.min(self.images)), float(np.max(self.images))
        largest = _largest(radii)
        norm = Normalize(0.0, largest if vmax is None else vmax)
        style = {"cmap": cmap, "norm": norm, "extent": extent}
        for row, image, made, radius in zip(
            axes, self.images, self.discretised, radii, strict=True
        ):
            for ax, column in zip(row, columns, strict=True):
                if column != "map":
                    picture = shown(made if column == "discretised" else image, span)
                    if column == "overlay":  # bright grays, for the colors to shine through
                        picture = np.repeat(0.3 + 0.7 * picture.mean(-1, keepdims=True), 3, axis=2)
                    ax.imshow(picture)
                if column in ("map", "overlay"):
                    ax.imshow(radius, alpha=alpha if column == "overlay" else None, **style)
                ax.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        for ax, column in zip(axes[0], columns, strict=True):
            ax.set_title(_TITLES[column])
        self.colorbar_ = None
        coloured = [at for at, column in enumerate(columns) if column in ("map", "overlay")]
        if coloured:
            self.colorbar_ = axes[0, 0].figure.colorbar(
                ScalarMappable(norm, cmap),
                extend="max" if norm.vmax < largest else "neither",
                ax=list(axes[:, coloured].ravel()),
                label=self._radius_of("a patch"),
            )

    def _draw_histogram(self, ax, bins):
        from matplotlib.ticker import PercentFormatter

        radii = self.radii.reshape(len(self.radii), -1)
        edges = np.linspace(0.0, _largest(radii), bins + 1)
        parts = {"patches": radii.ravel(), "smallest of an image": radii.min(1)}
        for name, values in parts.items():
            finite = values[np.isfinite(values)]
            beyond = 1 - len(finite) / len(values)
            ax.hist(
                finite,
                edges,
                weights=np.full(len(finite), 1 / len(values)),
                histtype="stepfilled",
                alpha=0.5,
                label=name + (f" ({beyond:.0%} infinite)" if beyond else ""),
            )
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.set(xlabel=self._radius_of("a patch"), ylabel="share", xlim=(0, edges[-1]))
        ax.legend()
        self.colorbar_ = None

    def _radius_of(self, what):
        return f"{_NORM_NAMES[self.norm]} radius of {what} [{self.units}]"


def _axes(ax, figure, rows, columns, size):
    """Axes (rows, columns): the user's, or new ones in a figure."""
    from matplotlib import pyplot

    if ax is not None:
        axes = np.array(ax, dtype=object)
        if figure is not None or axes.size != rows * columns:
            raise ValueError(
                f"Pass a figure, or {rows} x {columns} axes, one for each picture, not both; got "
                f"figure={figure!r} and {axes.size} axes."
            )
        return axes.reshape(rows, columns)
    if figure is None:
        figure = pyplot.figure(figsize=size, layout="constrained")
    return figure.subplots(rows, columns, squeeze=False)


def _largest(radii):
    """The largest finite radius, or 1 where there is none."""
    finite = radii[np.isfinite(radii)]
    return float(finite.max()) if finite.size else 1.0


def shown(picture, span):
    """Colors (H, W, 3) of a picture (H, W) or (H, W, C): its span of values becomes [0, 1]."""
    low, high = span
    scaled = np.clip((np.asarray(picture, dtype=float) - low) / ((high - low) or 1.0), 0, 1)
    if scaled.ndim == 3 and scaled.shape[2] == 3:
        return scaled
    gray = scaled.mean(axis=2) if scaled.ndim == 3 else scaled
    return np.repeat(gray[:, :, None], 3, axis=2)
