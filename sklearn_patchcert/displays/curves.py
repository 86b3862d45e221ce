"""Curves and fronts, in the manner of scikit-learn's Display classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sklearn_patchcert._layouts import as_batch
from sklearn_patchcert.model_selection import pareto_front


class ParetoDisplay:
    """Two scores of many candidates, and their Pareto front.

    Use :meth:`from_cv_results` or :meth:`from_scores` to make one.

    Parameters
    ----------
    x, y : ndarray (n,)
        The scores; larger is better.
    x_name, y_name : str
    groups : ndarray of str (n,) or None
        Candidates of one group share a color.

    Attributes
    ----------
    front_ : ndarray of int
        Indices of the candidates in the front, in the order of x.
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes

    Examples
    --------
    >>> from sklearn_patchcert import ParetoDisplay
    >>> ParetoDisplay.from_scores([1.0, 2.0, 1.5], [0.9, 0.8, 0.7]).front_
    array([0, 1])
    """

    def __init__(self, x, y, *, x_name="x", y_name="y", groups=None) -> None:
        self.x, self.y = x, y
        self.x_name, self.y_name = x_name, y_name
        self.groups = groups

    @classmethod
    def from_cv_results(cls, cv_results, x, y, *, group_by=None, **plot_options) -> ParetoDisplay:
        """Draw the mean test scores of a search.

        Parameters
        ----------
        cv_results : dict
            `cv_results_` of a search with several scores.
        x, y : str
            Names of two of its scores.
        group_by : str or None
            Parameter that tells the groups apart, as "vocab__strategy"; candidates that do not
            name it are the group "default".
        **plot_options
            Go to :meth:`plot`.

        Returns
        -------
        display : ParetoDisplay
        """
        values = [np.asarray(cv_results[f"mean_test_{name}"], dtype=float) for name in (x, y)]
        groups = None
        if group_by is not None:
            groups = np.array(
                [str(found.get(group_by, "default")) for found in cv_results["params"]]
            )
        return cls.from_scores(
            values[0], values[1], x_name=x, y_name=y, groups=groups, **plot_options
        )

    @classmethod
    def from_scores(
        cls, x, y, *, x_name="x", y_name="y", groups=None, **plot_options
    ) -> ParetoDisplay:
        """Draw scores that are already computed.

        Parameters
        ----------
        x, y : array-like (n,)
        x_name, y_name : str
        groups : array-like of str (n,) or None
        **plot_options
            Go to :meth:`plot`.

        Returns
        -------
        display : ParetoDisplay
        """
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        groups = None if groups is None else np.asarray(groups)
        if x.ndim != 1 or x.shape != y.shape or (groups is not None and len(groups) != len(x)):
            raise ValueError(f"x, y and groups must be equally long, got {x.shape} and {y.shape}.")
        return cls(x, y, x_name=x_name, y_name=y_name, groups=groups).plot(**plot_options)

    def plot(self, *, ax=None) -> ParetoDisplay:
        """Draw the candidates and their front.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        self : ParetoDisplay
        """
        from matplotlib import pyplot

        if ax is None:
            _, ax = pyplot.subplots(figsize=(6, 4), layout="constrained")
        front = np.flatnonzero(pareto_front(self.x, self.y))
        self.front_ = front[np.argsort(self.x[front], kind="stable")]
        ax.step(self.x[self.front_], self.y[self.front_], "k-", where="pre", alpha=0.4, lw=1)
        for group in [None] if self.groups is None else dict.fromkeys(self.groups):
            some = slice(None) if group is None else self.groups == group
            ax.plot(self.x[some], self.y[some], "o", label=group)
        ax.set(xlabel=self.x_name, ylabel=self.y_name)
        if self.groups is not None:
            ax.legend()
        self.figure_, self.ax_ = ax.figure, ax
        return self


class CertifiedAccuracyDisplay:
    """Certified accuracy against the radius, and the accuracy that attacks leave.

    Use :meth:`from_estimator` or :meth:`from_results` to make one.

    Parameters
    ----------
    radii : dict of str to ndarray (n,)
        Certified radii of each curve; negative where the prediction is wrong.
    uppers : dict of str to ndarray (n,)
        Norms of perturbations that change the prediction, of the same curves or of some; 0 where
        it is wrong without any.
    units : str

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes

    Examples
    --------
    >>> from sklearn_patchcert import CertifiedAccuracyDisplay
    >>> display = CertifiedAccuracyDisplay.from_results({"mine": [0.5, 0.2, -1.0, 0.7]})
    >>> float(display.accuracy("mine", 0.5))
    0.5
    """

    def __init__(self, radii, uppers=None, *, units="units of X") -> None:
        self.radii, self.uppers, self.units = radii, uppers or {}, units

    @classmethod
    def from_estimator(
        cls, estimator, X, y, *, name=None, smoothed=None, units="units of X", ax=None, **options
    ) -> CertifiedAccuracyDisplay:
        """Certify images and draw the curve, its upper bound and randomized smoothing.

        Parameters
        ----------
        estimator : fitted estimator with a `certify_prediction`
        X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
        y : array-like (n,)
        name : str or None
            Of the curve; None: the name of the class.
        smoothed : fitted SmoothedClassifier or None
            Drawn beside it; its radii hold with probability 1 - alpha each.
        units : str
        ax : matplotlib Axes, default=None
        **options
            Go to `certify_prediction`.

        Returns
        -------
        display : CertifiedAccuracyDisplay
        """
        X = as_batch(X)
        found = estimator.certify_prediction(X, **options)
        right = found.prediction == np.asarray(y)
        name = name or type(estimator).__name__
        radii = {name: np.where(right, found.radius, -1.0)}
        change = np.asarray(found.adversarial - np.asarray(X), dtype=float).reshape(len(right), -1)
        norms = np.linalg.norm(change, axis=1)
        upper = np.where(right, np.where(np.isnan(norms), np.inf, norms), 0.0)
        uppers = {name: upper} if options.get("norm", "l2") == "l2" else {}
        if smoothed is not None:
            classes, radius = smoothed.certify(X)
            radii["randomized smoothing"] = np.where(classes == y, radius, -1.0)
        return cls.from_results(radii, uppers, units=units, ax=ax)

    @classmethod
    def from_results(
        cls, radii, uppers=None, *, units="units of X", ax=None
    ) -> CertifiedAccuracyDisplay:
        """Draw radii that are already computed.

        Parameters
        ----------
        radii, uppers, units
            As for the class.
        ax : matplotlib Axes, default=None

        Returns
        -------
        display : CertifiedAccuracyDisplay
        """
        radii = {name: np.asarray(values, dtype=float) for name, values in radii.items()}
        uppers = {name: np.asarray(v, dtype=float) for name, v in (uppers or {}).items()}
        for name, values in [*radii.items(), *uppers.items()]:
            if values.ndim != 1 or not len(values) or np.isnan(values).any():
                raise ValueError(f"{name!r} must be a row of radii without NaN, got {values!r}.")
        if set(uppers) - set(radii):
            raise ValueError(f"uppers without radii: {sorted(set(uppers) - set(radii))}.")
        return cls(radii, uppers, units=units).plot(ax=ax)

    def accuracy(self, name, radius) -> NDArray[np.float64] | float:
        """Compute the share of the images that are certified at a radius.

        Parameters
        ----------
        name : str
        radius : float or ndarray

        Returns
        -------
        accuracy : float or ndarray
        """
        return (self.radii[name][..., None] >= np.asarray(radius)).mean(0).squeeze()

    def plot(self, *, ax=None) -> CertifiedAccuracyDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        self : CertifiedAccuracyDisplay
        """
        from matplotlib import pyplot

        if ax is None:
            _, ax = pyplot.subplots(figsize=(6, 4), layout="constrained")
        self.lines_ = {}
        for name, radii in self.radii.items():
            (line,) = ax.step(*_survival(radii), where="post", label=name)
            self.lines_[name] = line
            if name in self.uppers:
                x, y = _survival(self.uppers[name])
                ax.step(x, y, where="post", color=line.get_color(), ls=":", label=f"{name}, attack")
        ax.set(xlabel=f"radius, {self.units}", ylabel="accuracy", ylim=(0, 1), xlim=(0, None))
        ax.legend()
        self.figure_, self.ax_ = ax.figure, ax
        return self


def _survival(radii):
    """Radii and the part of the images that have at least these."""
    finite = np.sort(radii[np.isfinite(radii) & (radii >= 0)])
    x = np.concatenate([[0.0], finite])
    right = (radii >= 0).mean()
    return x, np.concatenate([[right], (radii[:, None] > finite).mean(0)])
