"""Curves and fronts, in the manner of scikit-learn's Display classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert.displays.inputs import check_labels, images_of, per_image
from sklearn_patchcert.displays.pages import NARROW, fit_letters, inches, one_axes, reach
from sklearn_patchcert.model_selection import pareto_front

_MARKERS = "osD^vP*X"  # with the colors, for those who do not see all of these
_AXES = {
    "l2": "L2 radius",
    "linf": "Linf radius",
    "l0": "L0 radius",
    "sticker": "side of a sticker",
}
_UNITS = {"l0": "number of values", "sticker": "pixels"}


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

    def plot(self, *, ax=None, figsize=None) -> ParetoDisplay:
        """Draw the candidates and their front.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        figsize : tuple (width, height), default=None
            Size of a new figure in inches; 3.35 is the width of one column of a paper.

        Returns
        -------
        self : ParetoDisplay
        """
        ax = one_axes(ax, figsize)
        front = np.flatnonzero(pareto_front(self.x, self.y))
        self.front_ = front[np.argsort(self.x[front], kind="stable")]
        line = {"color": ax.xaxis.label.get_color(), "alpha": 0.4, "lw": 1}
        ax.step(self.x[self.front_], self.y[self.front_], where="pre", **line)
        groups = [None] if self.groups is None else list(dict.fromkeys(self.groups))
        for at, group in enumerate(groups):
            some = slice(None) if group is None else self.groups == group
            marker = _MARKERS[at % len(_MARKERS)]
            ax.plot(self.x[some], self.y[some], marker, ms=5, label=group)
        ax.set(xlabel=self.x_name, ylabel=self.y_name)
        if self.groups is not None:
            ax.legend()
        fit_letters(ax)
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
    norm : {"l2", "linf", "l0", "sticker"} or None
        Of the radii, for the label of the axis.
    limited : dict of str to ndarray of bool (n,)
        Whether the search in an image was stopped by its budget, of the same curves or of some.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
    attack_lines_ : dict of str to matplotlib Line2D
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes

    Examples
    --------
    >>> from sklearn_patchcert import CertifiedAccuracyDisplay
    >>> display = CertifiedAccuracyDisplay.from_results({"mine": [0.5, 0.2, -1.0, 0.7]})
    >>> float(display.accuracy("mine", 0.5))
    0.5
    """

    def __init__(self, radii, uppers=None, *, units="units of X", norm=None, limited=None) -> None:
        self.radii, self.uppers, self.units = radii, uppers or {}, units
        self.norm, self.limited = norm, limited or {}

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        name=None,
        smoothed=None,
        units="units of X",
        ax=None,
        figsize=None,
        **options,
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
        figsize : tuple (width, height), default=None
            Size of a new figure in inches.
        **options
            Go to `certify_prediction`.

        Returns
        -------
        display : CertifiedAccuracyDisplay

        Raises
        ------
        ValueError
            If y has another length than X, or no label of y is a class.
        """
        X = images_of(estimator, X)
        check_is_fitted(estimator)
        if len(np.atleast_1d(y)) != len(X):
            estimator.predict(X)  # which says so if X holds no such images
        y = per_image(y, len(X), "y")
        if isinstance(getattr(estimator, "classes_", None), np.ndarray):
            check_labels(y, estimator.classes_)
        found = estimator.certify_prediction(X, **options)
        right = found.prediction == y
        name = name or type(estimator).__name__
        radii = {name: np.where(right, found.radius, -1.0)}
        change = np.asarray(found.adversarial - np.asarray(X), dtype=float).reshape(len(right), -1)
        norms = np.linalg.norm(change, axis=1)
        upper = np.where(right, np.where(np.isnan(norms), np.inf, norms), 0.0)
        norm = options.get("norm", "l2")
        uppers = {name: upper} if norm == "l2" else {}
        limited = {name: found.limited} if "limited" in found else {}
        if smoothed is not None:
            classes, radius = smoothed.certify(X)
            radii["randomized smoothing"] = np.where(classes == y, radius, -1.0)
        units = _UNITS.get(norm, units) if units == "units of X" else units
        options = {"units": units, "norm": norm, "limited": limited}
        return cls.from_results(radii, uppers, **options, ax=ax, figsize=figsize)

    @classmethod
    def from_results(
        cls,
        radii,
        uppers=None,
        *,
        units="units of X",
        norm=None,
        limited=None,
        ax=None,
        figsize=None,
    ) -> CertifiedAccuracyDisplay:
        """Draw radii that are already computed.

        Parameters
        ----------
        radii, uppers, units, norm, limited
            As for the class.
        ax : matplotlib Axes, default=None
        figsize : tuple (width, height), default=None
            Size of a new figure in inches.

        Returns
        -------
        display : CertifiedAccuracyDisplay

        Raises
        ------
        TypeError
            If radii, uppers or limited are no dicts.
        ValueError
            If radii are not rows of numbers, the norm is unknown, or uppers or limited are of
            other curves or of another length.
        """
        if norm is not None and norm not in _AXES:
            raise ValueError(f"norm must be None or one of {tuple(_AXES)}, got {norm!r}.")
        for what, given in {"radii": radii, "uppers": uppers, "limited": limited}.items():
            if given is not None and not isinstance(given, Mapping):
                raise TypeError(
                    f'{what} must be a dict with a row for each curve, {{"mine": {what}}}, got '
                    f"{type(given).__name__}."
                )
        radii = {name: np.asarray(values, dtype=float) for name, values in radii.items()}
        uppers = {name: np.asarray(v, dtype=float) for name, v in (uppers or {}).items()}
        for name, values in [*radii.items(), *uppers.items()]:
            if values.ndim != 1 or not len(values) or np.isnan(values).any():
                raise ValueError(f"{name!r} must be a row of radii without NaN, got {values!r}.")
        limited = {name: np.asarray(values) for name, values in (limited or {}).items()}
        for what, given in {"uppers": uppers, "limited": limited}.items():
            if set(given) - set(radii):
                raise ValueError(f"{what} without radii: {sorted(set(given) - set(radii))}.")
            for name, values in given.items():
                if values.shape != radii[name].shape:
                    raise ValueError(
                        f"{what} of {name!r} must have the shape of its radii, "
                        f"{radii[name].shape}, got {values.shape}."
                    )
        display = cls(radii, uppers, units=units, norm=norm, limited=limited)
        return display.plot(ax=ax, figsize=figsize)

    def accuracy(self, name, radius) -> NDArray[np.float64] | float:
        """Compute the share of the images that are certified at a radius.

        Parameters
        ----------
        name : str
        radius : float or ndarray
            Of the norms "l0" and "sticker", what an attacker may use up: certified are images with
            a larger radius.

        Returns
        -------
        accuracy : float or ndarray
        """
        radii, radius = self.radii[name][..., None], np.asarray(radius)
        found = radii > radius if self.norm in ("l0", "sticker") else radii >= radius
        return (found | np.isposinf(radii)).mean(0).squeeze()

    def plot(self, *, ax=None, figsize=None) -> CertifiedAccuracyDisplay:
        """Draw the curves.

        An attack is dashed, and lies over the curve of its certificate: both coincide where a
        radius is tight.  If few images are far beyond the rest, the axis ends before them, and the
        legend tells how many they are.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        figsize : tuple (width, height), default=None
            Size of a new figure in inches; 3.35 is the width of one column of a paper.

        Returns
        -------
        self : CertifiedAccuracyDisplay
        """
        ax = one_axes(ax, figsize)
        end = 1.05 * reach(*self.radii.values(), *self.uppers.values())
        if ax.has_data():  # several displays in one picture
            end = max(end, ax.get_xlim()[1])
        self.lines_, self.attack_lines_ = {}, {}
        for name, radii in self.radii.items():
            label = "\n".join([name, *self._notes(name, end)])
            (line,) = ax.step(*_survival(radii, end), where="post", lw=1.8, label=label)
            self.lines_[name] = line
            if name in self.uppers:  # a broad band, on which the dashes can be seen
                line.set(lw=3.5, alpha=0.5)
                style = {"color": line.get_color(), "ls": (0, (3, 1.5)), "lw": 1.3}
                style |= {"label": f"{name}, attack", "zorder": line.get_zorder() + 1}
                (attack,) = ax.step(*_survival(self.uppers[name], end), where="post", **style)
                self.attack_lines_[name] = attack
        label = f"{_AXES.get(self.norm, 'radius')}, {self.units}"
        ax.set(xlabel=label, ylabel="accuracy", ylim=(0, 1.02), xlim=(0, end))
        narrow = inches(ax)[0] < NARROW and len(ax.get_lines()) > 3
        above = {"loc": "lower left", "bbox_to_anchor": (0, 1.02), "borderaxespad": 0}
        above |= {"frameon": False, "labelspacing": 0.2, "handlelength": 1.5}
        ax.legend(**(above if narrow else {}))  # inside it would lie on the curves
        fit_letters(ax)
        self.figure_, self.ax_ = ax.figure, ax
        return self

    def _notes(self, name, end):
        """What the legend tells of the images of a curve."""
        n, beyond = len(self.radii[name]), int((self.radii[name] > end).sum())
        notes = [f"{beyond} of {n} images beyond {end:.3g}"] if beyond else []
        limited = int(np.sum(self.limited.get(name, 0)))
        return notes + ([f"{limited} of {n} stopped by the budget"] if limited else [])


def _survival(radii, end):
    """Radii and the part of the images that have at least these, up to the end of the axis."""
    finite = np.sort(radii[np.isfinite(radii) & (radii >= 0)])
    x = np.concatenate([[0.0], finite])
    y = np.concatenate([[(radii >= 0).mean()], (radii[:, None] > finite).mean(0)])
    if x[-1] < end:  # images without a bound stay at all radii
        x, y = np.append(x, end), np.append(y, y[-1])
    return x, y
