"""Pictures of certificates, in the manner of scikit-learn's Display classes."""

from __future__ import annotations

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

_NORM_NAMES = {"l2": "L2", "linf": "Linf", "l1": "L1"}


class CertificateDisplay:
    """Images, their discretised forms and the maps of their patch radii, side by side.

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
        Units of the radii, for the colour bar.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes (n, 3)
    colorbar_ : matplotlib Colorbar

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

    def __init__(self, images, discretised, radii, *, patch_size, norm="l2", units="units of X"):
        self.images = images
        self.discretised = discretised
        self.radii = radii
        self.patch_size = patch_size
        self.norm = norm
        self.units = units

    @classmethod
    def from_estimator(cls, estimator, X, *, norm="l2", units="units of X", **plot_options):
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
    ):
        """Draw what is already certified.

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

    def plot(self, *, figure=None, cmap="viridis"):
        """Draw the three columns.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, default=None
            None makes a new one.
        cmap : str or matplotlib Colormap
            Of the radius maps.

        Returns
        -------
        self : CertificateDisplay
        """
        from matplotlib import pyplot

        n = len(self.images)
        height, width = self.images.shape[1:3]
        if figure is None:
            figure = pyplot.figure(figsize=(7.5, 0.4 + 2.2 * n), layout="constrained")
        axes = figure.subplots(n, 3, squeeze=False)
        radii = self.radii.min(-1) if self.radii.ndim == 4 else self.radii
        finite = radii[np.isfinite(radii)]
        top = float(finite.max()) if finite.size else 1.0
        grid = radii.shape[1] * self.patch_size[0], radii.shape[2] * self.patch_size[1]
        extent = (-0.5, grid[1] - 0.5, grid[0] - 0.5, -0.5)
        span = float(np.min(self.images)), float(np.max(self.images))
        for row, image, made, radius in zip(
            axes, self.images, self.discretised, radii, strict=True
        ):
            for ax, picture in ((row[0], image), (row[1], made)):
                ax.imshow(*_shown(picture, span))
            drawn = row[2].imshow(radius, cmap=cmap, vmin=0.0, vmax=top, extent=extent)
            row[2].set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
            for ax in row:
                ax.set(xticks=[], yticks=[])
        for ax, title in zip(axes[0], ("image", "made of tokens", "certified radius"), strict=True):
            ax.set_title(title)
        self.colorbar_ = figure.colorbar(
            drawn, ax=axes[:, 2], label=f"{_NORM_NAMES[self.norm]} radius of a patch [{self.units}]"
        )
        self.figure_, self.axes_ = figure, axes
        return self


def _shown(picture, span):
    """What imshow draws: gray values, or colours brought into [0, 1] by the span of the images."""
    low, high = span
    scaled = np.clip((np.asarray(picture, dtype=float) - low) / ((high - low) or 1.0), 0, 1)
    if scaled.ndim == 3 and scaled.shape[2] != 3:
        scaled = scaled.mean(axis=2)
    return (scaled,) if scaled.ndim == 3 else (np.repeat(scaled[:, :, None], 3, axis=2),)
