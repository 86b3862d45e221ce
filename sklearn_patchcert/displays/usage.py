"""How often each token of a vocabulary is used."""

from __future__ import annotations

import numpy as np

from sklearn_patchcert.displays.inputs import checked_counts, counts_of
from sklearn_patchcert.displays.pages import fit_letters, one_axes


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
        _, counts = counts_of(estimator, X)
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
        counts = checked_counts(counts)
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
