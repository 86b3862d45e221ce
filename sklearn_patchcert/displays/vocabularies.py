"""The tokens of a vocabulary as pictures."""

from __future__ import annotations

import math

import numpy as np

from sklearn_patchcert.displays.colors import how_shown, is_gray, shown, span_of
from sklearn_patchcert.displays.inputs import checked_counts, counts_of, numbers_text, own_tokens
from sklearn_patchcert.displays.pages import (
    LETTER,
    PAGE,
    bar_at,
    fit_letters,
    inches,
    one_axes,
    shrink_letters,
)

_SIDE = 24  # dots along the longer side of a token
_GROUND = 0.87, 0.9, 0.95  # between tokens: neither black nor white
_MOST_LABELS = 100


class VocabularyDisplay:
    """The tokens of a vocabulary as small pictures, from the most used to the least used.

    Use :meth:`from_estimator` or :meth:`from_tokens` to make one.

    Parameters
    ----------
    tokens : ndarray (n_tokens, patch_dim) or (n_channels, n_tokens, patch_dim)
        Each channel with tokens of its own begins a new row.
    counts : ndarray (n_tokens,) or (n_channels, n_tokens), or None
        How many patches each token stands for; None: not known, so tokens keep their order.
    patch_size : tuple (ph, pw)
        Three channels of a patch are drawn as colors, four as colors with alpha, on white.  Of
        any other number the mean is drawn in gray, and the title says so.
    units : str
        Of the values of tokens, for the color bar.

    Attributes
    ----------
    order_ : ndarray of int, the shape of counts
        Ids of the tokens, from the most used to the least.
    image_, im_ : matplotlib AxesImage
    text_ : list of matplotlib Text
        The numbers below the tokens.
    colorbar_ : matplotlib Colorbar or None
        Of gray tokens.
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes

    See Also
    --------
    TokenUsageDisplay : The same counts as a curve.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchVocabulary, VocabularyDisplay
    >>> X = load_digits().images
    >>> vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0).fit(X)
    >>> display = VocabularyDisplay.from_estimator(vocabulary)
    >>> bool(display.order_[0] == vocabulary.token_counts_.argmax())
    True
    """

    def __init__(self, tokens, counts, *, patch_size, units="units of X") -> None:
        self.tokens, self.counts, self.patch_size = tokens, counts, patch_size
        self.units = units

    @classmethod
    def from_estimator(cls, estimator, X=None, *, units=None, **plot_options) -> VocabularyDisplay:
        """Draw the tokens of a fitted vocabulary.

        Parameters
        ----------
        estimator : fitted PatchVocabulary, or pipeline with one
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C), default=None
            Images in which the use of the tokens is counted.  None: what fit has counted.
        units : str, default=None
            Of the values of tokens.  None: "units of X", in a pipeline with steps before the
            vocabulary "scaled X".
        **plot_options
            Go to :meth:`plot`.

        Returns
        -------
        display : VocabularyDisplay
            Tokens have the values that the vocabulary sees, behind the steps before it.
        """
        vocabulary, counts = counts_of(estimator, X)
        if units is None:
            steps = [step for _, step in getattr(estimator, "steps", [("", vocabulary)])]
            working = [step for step in steps if step not in (None, "passthrough")]
            units = "units of X" if working[0] is vocabulary else "scaled X"
        options = {"patch_size": vocabulary.patch_size_, "units": units, **plot_options}
        return cls.from_tokens(vocabulary.vocabulary_, counts, **options)

    @classmethod
    def from_tokens(
        cls, tokens, counts=None, *, patch_size, units="units of X", **plot_options
    ) -> VocabularyDisplay:
        """Draw tokens from an array.

        Parameters
        ----------
        tokens : array-like (n_tokens, patch_dim) or (n_channels, n_tokens, patch_dim)
        counts : array-like (n_tokens,) or (n_channels, n_tokens), or None
        patch_size : tuple (ph, pw)
        units : str
        **plot_options
            Go to :meth:`plot`.

        Returns
        -------
        display : VocabularyDisplay

        Raises
        ------
        ValueError
            If tokens, counts and the patch size do not fit each other.
        """
        tokens = np.asarray(tokens)
        area = math.prod(patch_size)
        if tokens.ndim not in (2, 3) or 0 in tokens.shape or tokens.shape[-1] % area:
            raise ValueError(f"tokens {tokens.shape} are no patches of {patch_size} pixels.")
        if counts is not None:
            counts = checked_counts(counts)
            if counts.shape != tokens.shape[:-1]:
                raise ValueError(f"counts {counts.shape} do not fit tokens {tokens.shape}.")
        return cls(tokens, counts, patch_size=patch_size, units=units).plot(**plot_options)

    def plot(self, *, ax=None, n_tokens=None, columns=None, figsize=None) -> VocabularyDisplay:
        """Draw the tokens.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        n_tokens : int, default=None
            Draw so many of the most used ones, of each channel.  None: all.
        columns : int, default=None
            Tokens in a row.  None: a gallery somewhat wider than high.
        figsize : tuple (width, height), default=None
            Size of a new figure in inches; 3.35 is the width of one column of a paper.  None: as
            the gallery needs it, at most 7.5 x 10 inches.

        Returns
        -------
        self : VocabularyDisplay
        """
        tokens = self.tokens if self.tokens.ndim == 3 else self.tokens[None]
        counts = np.zeros(tokens.shape[:2]) if self.counts is None else np.asarray(self.counts)
        counts = counts.reshape(tokens.shape[:2])
        sizes = np.array(own_tokens(tokens))[:, None]
        last = np.where(np.arange(tokens.shape[1]) < sizes, counts, -1)  # repeated ones
        order = np.argsort(-last, axis=1, kind="stable")
        drawn = order[:, :n_tokens]
        channels, size = drawn.shape
        columns = columns or min(size, math.ceil(math.sqrt(1.6 * drawn.size)))
        rows = -(-size // columns)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        labels = bool(counts.any()) and drawn.size <= _MOST_LABELS
        ph, pw = self.patch_size
        pictures = tokens.reshape(channels, -1, ph, pw, tokens.shape[2] // (ph * pw))
        zoom = max(1, _SIDE // max(ph, pw))
        right = max(pw * zoom, _SIDE if labels else 0) + (12 if labels else 4)
        down = ph * zoom + (14 if labels else 4)
        picture = np.empty((channels * rows * down + 4, columns * right + 4, 3))
        picture[:] = _GROUND
        span = span_of(pictures.reshape(-1, *pictures.shape[2:]))
        ratio = picture.shape[0] / picture.shape[1]
        layout = "compressed" if ratio < 3 else "constrained"  # or the bar is as narrow
        ax = one_axes(ax, figsize, _page(ratio), layout)
        wide, high = inches(ax)
        step = min(wide / picture.shape[1], high / picture.shape[0])  # of a dot
        letters = min(7.0, right * step / (5 * LETTER))
        labels = labels and letters >= 6
        self.text_ = []
        for channel, rank in np.ndindex(*drawn.shape):
            token = drawn[channel, rank]
            if token >= sizes[channel]:
                continue
            top = 4 + (channel * rows + rank // columns) * down
            left = rank % columns * right + (right - pw * zoom + 4) // 2
            patch = shown(pictures[channel, token], span)
            patch = patch.repeat(zoom, axis=0).repeat(zoom, axis=1)
            picture[top : top + ph * zoom, left : left + pw * zoom] = patch
            if labels:
                at = left + pw * zoom / 2, top + ph * zoom + 5.5
                text = f"{100 * shares[channel, token]:.1f}"
                style = {"ha": "center", "va": "center", "color": "black"}  # on the light ground
                self.text_.append(ax.text(*at, text, fontsize=letters, **style))
        self.image_ = self.im_ = ax.imshow(picture, interpolation="nearest")
        self._write_around(ax, size, channels, labels, span, step * picture.shape[0])
        if channels > 1:
            middles = 4 + (np.arange(channels) + 0.5) * rows * down
            names = [f"channel {channel}" for channel in range(channels)]
            ax.set_yticks(middles, names, rotation=90, va="center")
            ax.tick_params(left=False)
        fit_letters(ax)
        self.order_ = order.reshape(self.tokens.shape[:-1])
        self.figure_, self.ax_ = ax.figure, ax
        return self

    def _write_around(self, ax, size, channels, labels, span, high):
        """Write a title, and draw a color bar for grays."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        depth = self.tokens.shape[-1] // math.prod(self.patch_size)
        sizes = own_tokens(self.tokens.reshape(channels, *self.tokens.shape[-2:]))
        parts = [f"{size} of " * (size < max(sizes)) + numbers_text(sizes)]
        parts += ["use in per cent"] if labels else []
        parts += [how_shown(depth)] if how_shown(depth) else []
        ax.set(xticks=[], yticks=[], title=", ".join(parts))
        self.colorbar_ = None
        if is_gray(depth):
            bar = ScalarMappable(Normalize(span.low, span.high), "gray")
            self.colorbar_ = ax.figure.colorbar(
                bar, ax=ax, label=f"value [{self.units}]", **bar_at(ax.figure, high)
            )
            shrink_letters(self.colorbar_.ax)


def _page(ratio):
    """Size of a figure for a gallery of a ratio of height to width, at most a page."""
    width = min(7.0, (PAGE[1] - 0.5) / ratio)
    return max(width, 2.0), min(0.35 + width * ratio, PAGE[1])
