"""Pictures of vocabularies: the tokens themselves, and how often each is used."""

from __future__ import annotations

import math

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert.displays.colors import how_shown, is_gray, shown, span_of
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
        vocabulary, counts = _counted(estimator, X)
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
            counts = _checked(counts)
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
        order = np.argsort(-counts, axis=1, kind="stable")
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
        ax = one_axes(ax, figsize, _page(picture.shape[0] / picture.shape[1]), layout="compressed")
        wide, high = inches(ax)
        step = min(wide / picture.shape[1], high / picture.shape[0])  # of a dot
        letters = min(7.0, right * step / (5 * LETTER))
        labels = labels and letters >= 6
        self.text_ = []
        for channel, rank in np.ndindex(*drawn.shape):
            token = drawn[channel, rank]
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

        n_tokens, depth = self.tokens.shape[-2], self.tokens.shape[-1] // math.prod(self.patch_size)
        title = f"{size} tokens" if size == n_tokens else f"{size} of {n_tokens} tokens"
        parts = [title + (f", each of {channels} channels" if channels > 1 else "")]
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


class TokenUsageDisplay:
    """The share of the patches that have each token, from the most used to the least used.

    Use :meth:`from_estimator` or :meth:`from_counts` to make one.

    Parameters
    ----------
    counts : ndarray (n_tokens,) or (n_channels, n_tokens)
        How many patches each token stands for.
    name : str or None
        Of the curve.

    Attributes
    ----------
    shares_ : ndarray, the shape of counts
        Sorted, adding up to 1.
    perplexity_ : float or ndarray (n_channels,)
        Exponential of the entropy of the shares: as many tokens, used alike, would be as diverse.
    lines_ : list of matplotlib Line2D
        One, or one for each channel.
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes

    See Also
    --------
    VocabularyDisplay : The tokens themselves.

    Examples
    --------
    >>> from sklearn_patchcert import TokenUsageDisplay
    >>> display = TokenUsageDisplay.from_counts([30, 0, 60, 30], name="mine")
    >>> display.shares_
    array([0.5 , 0.25, 0.25, 0.  ])
    >>> round(display.perplexity_, 3)
    2.828
    """

    def __init__(self, counts, *, name=None) -> None:
        self.counts, self.name = counts, name

    @classmethod
    def from_estimator(cls, estimator, X=None, *, name=None, **plot_options) -> TokenUsageDisplay:
        """Draw the use of the tokens of a fitted vocabulary.

        Parameters
        ----------
        estimator : fitted PatchVocabulary, or pipeline with one
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C), default=None
            Images in which the use of the tokens is counted.  None: what fit has counted.
        name : str, default=None
            Of the curve.
        **plot_options
            Go to :meth:`plot`.

        Returns
        -------
        display : TokenUsageDisplay
        """
        _, counts = _counted(estimator, X)
        if counts is None:
            raise ValueError("Nothing has been counted with these tokens: pass images X.")
        return cls.from_counts(counts, name=name, **plot_options)

    @classmethod
    def from_counts(cls, counts, *, name=None, **plot_options) -> TokenUsageDisplay:
        """Draw counts that are already computed.

        Parameters
        ----------
        counts : array-like (n_tokens,) or (n_channels, n_tokens)
        name : str, default=None
            Of the curve.
        **plot_options
            Go to :meth:`plot`.

        Returns
        -------
        display : TokenUsageDisplay

        Raises
        ------
        ValueError
            If the counts are negative, or all of a vocabulary are zero.
        """
        counts = _checked(counts)
        if counts.ndim not in (1, 2) or not counts.size or not counts.sum(-1).all():
            raise ValueError(f"Each vocabulary needs a count above zero, got {counts!r}.")
        return cls(counts, name=name).plot(**plot_options)

    def plot(self, *, ax=None, figsize=None, **line_options) -> TokenUsageDisplay:
        """Draw the curve and the level at which all tokens would be used equally.

        Shares are on a logarithmic scale; the curve ends where tokens are not used at all.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.  Several vocabularies may share one.
        figsize : tuple (width, height), default=None
            Size of a new figure in inches; 3.35 is the width of one column of a paper.
        **line_options
            Go to matplotlib's ``plot``.

        Returns
        -------
        self : TokenUsageDisplay
        """
        from matplotlib.ticker import LogLocator, NullFormatter
        from scipy.special import entr

        ax = one_axes(ax, figsize)
        shares = np.asarray(self.counts, dtype=np.float64)
        shares = -np.sort(-shares / shares.sum(-1, keepdims=True), axis=-1)
        found = np.exp(entr(shares).sum(-1))
        self.shares_, self.perplexity_ = shares, found if found.ndim else float(found)
        self.lines_ = []
        n_tokens = shares.shape[-1]
        ranks = np.arange(1, n_tokens + 1)
        curves = shares.reshape(-1, n_tokens)
        for channel, (curve, perplexity) in enumerate(zip(curves, found.ravel(), strict=True)):
            parts = [self.name, f"channel {channel}" if len(curves) > 1 else None]
            parts.append(f"perplexity {perplexity:.1f} of {n_tokens}")
            label = ", ".join(part for part in parts if part)
            alone = (curve > 0).sum() == 1  # a step needs two
            style = {"drawstyle": "steps-mid", "label": label, "marker": "." if alone else None}
            style |= line_options
            self.lines_ += ax.plot(ranks, np.where(curve > 0, curve, np.nan), **style)
            ax.axhline(1 / n_tokens, color=self.lines_[-1].get_color(), ls=":", lw=1)
        ylabel = "share of the patches (%)"  # not at each tick, where it would need a wide margin
        ax.set(xlabel="tokens, the most used first", ylabel=ylabel, yscale="log")
        least, most = ax.get_ylim()
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 3000 * least else (1,)))
        ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.legend(title="dotted: all used alike")
        fit_letters(ax)
        self.figure_, self.ax_ = ax.figure, ax
        return self


def _checked(counts):
    counts = np.asarray(counts)
    if counts.dtype.kind not in "iuf" or not (counts >= 0).all():
        raise ValueError(f"counts must be numbers from 0 on, got {counts!r}.")
    return counts


def _counted(estimator, X):
    """The vocabulary of an estimator, and how often each token is used; None if unknown."""
    check_is_fitted(estimator)
    steps = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
    known = [hasattr(step, "tokenize") for step in steps]
    if not any(known):
        raise TypeError(f"There is no PatchVocabulary in {estimator!r}.")
    at = known.index(True)
    vocabulary = steps[at]
    if X is None:
        counts = vocabulary.token_counts_
        return vocabulary, counts if counts.any() else None
    Z = X.copy() if hasattr(X, "copy") else X  # a step may work in place
    for step in steps[:at]:
        Z = Z if step in (None, "passthrough") else step.transform(Z)
    ids = vocabulary.tokenize(Z)
    n_tokens = vocabulary.vocabulary_.shape[-2]
    if vocabulary.per_channel_ is not True:
        return vocabulary, np.bincount(ids.ravel(), minlength=n_tokens)
    channels = np.moveaxis(ids, -1, 0).reshape(ids.shape[-1], -1)
    return vocabulary, np.stack([np.bincount(part, minlength=n_tokens) for part in channels])
