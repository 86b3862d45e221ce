"""Pictures of certificates, in the manner of scikit-learn's Display classes."""

from __future__ import annotations

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert.displays.inputs import (
    check_has_maps,
    check_labels,
    checked_radii,
    images_of,
    named,
    per_image,
    with_one,
)
from sklearn_patchcert.displays.maps import TITLES, axes_of_maps, draw_maps, place_of_radius
from sklearn_patchcert.displays.pages import fit_letters, one_axes, reach

_NORM_NAMES = {"l2": "L2", "linf": "Linf", "l1": "L1"}


class CertificateDisplay:
    """Images, their tokens and their patch radii, as maps or as a histogram.

    Use :meth:`from_estimator` or :meth:`from_radii` to make one.

    Parameters
    ----------
    images : ndarray (n, H, W) or (n, H, W, C)
        Three channels are drawn as colors, four as colors with alpha, on white.  Of any other
        number the mean is drawn in gray, and the titles say so.
    discretised : ndarray, the shape of images
    radii : ndarray (n, rows, cols) or (n, rows, cols, C)
        If channels have radii of their own, the map shows the smallest.
    patch_size : tuple (ph, pw)
    norm : str
    units : str
        Units of the radii, for the color bar.
    predictions, y, names : ndarray (n,) or None
        Predicted labels, true labels and names of the images, to be written below them.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes (n_shown, n_columns), for a histogram (1, 1)
        A row for each image that is drawn, also if images are beside each other in the figure.
    ax_ : matplotlib Axes
        The first of them.
    im_ : ndarray of matplotlib AxesImage (n_shown, n_columns), or None for a histogram
        The pictures; of an overlay, the map.
    text_ : matplotlib Text or None
        The note below the pictures: how many of the images are shown, and what blank patches are.
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
        self,
        images,
        discretised,
        radii,
        *,
        patch_size,
        norm="l2",
        units="units of X",
        predictions=None,
        y=None,
        names=None,
    ) -> None:
        self.images = images
        self.discretised = discretised
        self.radii = radii
        self.patch_size = patch_size
        self.norm = norm
        self.units = units
        self.predictions, self.y, self.names = predictions, y, names

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        norm="l2",
        units="units of X",
        display_labels=None,
        names=None,
        **plot_options,
    ) -> CertificateDisplay:
        """Certify images and draw them.

        Parameters
        ----------
        estimator : fitted PatchVocabulary or pipeline with a `certify`
            What a pipeline predicts is written below the images.
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C), or one image (H, W[, C])
        y : array-like (n,), default=None
            True labels.  They are written below the images, and wrong predictions are marked.
        norm : {"l2", "linf", "l1"}
        units : str
        display_labels : array-like of str (n_classes,), default=None
            Names of the classes, in the order of `estimator.classes_`.  None: the labels.
        names : array-like of str (n,), default=None
            Names of the images.
        **plot_options
            Go to :meth:`plot`.

        Returns
        -------
        display : CertificateDisplay

        Raises
        ------
        TypeError
            If the estimator is none of these, such as a search over a pipeline.
        ValueError
            If y, names or display_labels have another length than expected, or no label of y is a
            class.
        """
        check_is_fitted(estimator)
        check_has_maps(estimator)
        vocabulary, before = estimator, []
        if isinstance(estimator, Pipeline):
            before, vocabulary = estimator._split()
        X = with_one(images_of(estimator, X), vocabulary)
        radii = estimator.certify(X, norm=norm)
        y, names = per_image(y, len(radii), "y"), per_image(names, len(radii), "names")
        predictions = estimator.predict(X) if hasattr(estimator, "predict") else None
        if predictions is not None and predictions.ndim != 1:  # several outputs have no one name
            predictions = None
        if predictions is not None and hasattr(estimator, "classes_"):
            check_labels(y, estimator.classes_)
        if display_labels is not None:
            classes = estimator.classes_
            predictions = named(predictions, classes, display_labels)
            y = named(y, classes, display_labels)
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
            predictions=predictions,
            y=y,
            names=names,
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
        predictions=None,
        y=None,
        names=None,
        **plot_options,
    ) -> CertificateDisplay:
        """Draw radii that are already computed.

        Parameters
        ----------
        images : ndarray (n, H, W) or (n, H, W, C), or one image (H, W[, C])
        discretised : ndarray, the shape of images
        radii : ndarray (n, rows, cols) or (n, rows, cols, C), or those of one image
        patch_size : tuple (ph, pw)
        norm : {"l2", "linf", "l1"}
        units : str
        predictions, y : array-like (n,), default=None
            Predicted and true labels.
        names : array-like of str (n,), default=None
            Names of the images.
        **plot_options
            Go to :meth:`plot`.

        Returns
        -------
        display : CertificateDisplay

        Raises
        ------
        ValueError
            If the norm is unknown, or the arrays do not fit each other.
        """
        if norm not in _NORM_NAMES:
            raise ValueError(f"norm must be one of {tuple(_NORM_NAMES)}, got {norm!r}.")
        images, discretised, radii = map(np.asarray, (images, discretised, radii))
        images, discretised, radii = checked_radii(images, discretised, radii, patch_size)
        n = len(images)
        display = cls(
            images,
            discretised,
            radii,
            patch_size=patch_size,
            norm=norm,
            units=units,
            predictions=per_image(predictions, n, "predictions"),
            y=per_image(y, n, "y"),
            names=per_image(names, n, "names"),
        )
        return display.plot(**plot_options)

    def plot(
        self,
        *,
        kind="maps",
        columns=("image", "discretised", "map"),
        ax=None,
        figure=None,
        figsize=None,
        max_images=24,
        cmap="viridis",
        vmax=None,
        alpha=0.6,
        bins=30,
    ) -> CertificateDisplay:
        """Draw the images and their maps, or the distribution of the radii.

        Parameters
        ----------
        kind : {"maps", "histogram"}, default="maps"
            "maps" draws each image and its map, several images beside each other if there are
            many; "histogram" the radii of all patches, and the smallest radius of each image,
            which is that of the largest ball of the whole image in which no token changes.
        columns : sequence of {"image", "discretised", "map", "overlay"}
            What "maps" draws of each image; "overlay" is the map laid over the image.
        ax : matplotlib Axes, or array of (n, n_columns) of them, default=None
            Where to draw: for "histogram" one Axes, for "maps" one for each picture.
        figure : matplotlib Figure or SubFigure, default=None
            Where to make the axes.  None makes a new one.
        figsize : tuple (width, height), default=None
            Size of a new figure in inches; 3.35 is the width of one column of a paper.  None: as
            the pictures need it, at most 7.5 x 10 inches.
        max_images : int, default=24
            Of more images, "maps" draws the first, and writes how many these are.
        cmap : str or matplotlib Colormap
            Of the radii.
        vmax : float, default=None
            Radius at which the color scale ends.  None: the largest finite one of all images.
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
            If `kind` or a column is unknown, there are more or fewer axes than pictures, or the
            pictures do not fit the figure.
        """
        if kind not in ("maps", "histogram"):
            raise ValueError(f'kind must be "maps" or "histogram", got {kind!r}.')
        if sum(given is not None for given in (ax, figure, figsize)) > 1:
            raise ValueError("Pass one of ax, figure and figsize, not both or all of them.")
        if kind == "histogram":
            if np.size(ax) != 1:
                raise ValueError(f"Pass one axes for a histogram, got {np.size(ax)}.")
            ax = figure.subplots() if figure is not None else np.ravel(ax)[0]
            ax = one_axes(ax, figsize)
            axes = np.array([[ax]])
            self.im_ = self.text_ = self.colorbar_ = None
            self._draw_histogram(ax, bins)
        else:
            columns = list(columns)
            place = place_of_radius(columns)
            axes = axes_of_maps(self, ax, figure, figsize, columns, TITLES, max_images, place)
            style = {"cmap": cmap, "vmax": vmax, "alpha": alpha}
            label = self._radius_of("a patch")
            found = draw_maps(self, axes, columns, label, own=ax is not None, **style)
            self.im_, self.colorbar_, self.text_ = found
        self.axes_, self.ax_, self.figure_ = axes, axes[0, 0], axes[0, 0].get_figure()
        return self

    def _draw_histogram(self, ax, bins):
        from matplotlib.ticker import PercentFormatter

        radii = self.radii.reshape(len(self.radii), -1)
        edges = np.linspace(0.0, reach(radii.ravel()), bins + 1)
        parts = {"patches": radii.ravel(), "smallest of an image": radii.min(1)}
        for name, values in parts.items():
            finite = values[np.isfinite(values)]
            infinite, beyond = 1 - len(finite) / len(values), (finite > edges[-1]).sum()
            notes = [f"{infinite:.0%} infinite"] if infinite else []
            notes += [f"{beyond} beyond {edges[-1]:.3g}"] if beyond else []
            ax.hist(
                finite,
                edges,
                weights=np.full(len(finite), 1 / len(values)),
                histtype="stepfilled",
                alpha=0.5,
                label=name + (f" ({', '.join(notes)})" if notes else ""),
            )
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.set(xlabel=self._radius_of("a patch"), ylabel="share", xlim=(0, edges[-1]))
        ax.legend()
        fit_letters(ax)

    def _radius_of(self, what):
        return f"{_NORM_NAMES[self.norm]} radius of {what} [{self.units}]"
