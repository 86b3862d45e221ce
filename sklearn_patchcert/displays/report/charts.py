"""The geometry of charts: curves and bars as paths of SVG, and the ticks of their axes."""

from __future__ import annotations

import math

import numpy as np

WIDTH, HEIGHT = 360, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 40
_MOST_STEPS = 600  # of a curve


def ticks(top, most=5):
    """Round numbers from 0 up to a largest value.

    Parameters
    ----------
    top : float
        Positive.
    most : int
        Largest number of steps.

    Returns
    -------
    numbers : list of float
    """
    raw = top / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * part for part in (1, 2, 2.5, 5, 10) if power * part >= raw * (1 - 1e-9))
    return [float(f"{step * at:.10g}") for at in range(math.floor(top / step * (1 + 1e-9)) + 1)]


def survival(radii, counted):
    """The share of images that are counted and have at least a radius, as a function of it.

    Parameters
    ----------
    radii : ndarray (n,)
    counted : ndarray of bool (n,)
        The others have no radius, and are in the share's denominator only.

    Returns
    -------
    at : ndarray (m,)
        Increasing, the first is 0.  Many radii are thinned out.
    share : ndarray (m,)
        The share at `at`, which holds back to the value before; thinning never raises it.
    """
    found = np.sort(radii[counted])
    at = np.unique(np.concatenate([[0.0], found[np.isfinite(found)]]))
    if len(at) > _MOST_STEPS:
        at = np.concatenate([[0.0], np.linspace(0, at[-1], _MOST_STEPS)[1:]])
    share = (len(found) - np.searchsorted(found, at, side="left")) / max(len(radii), 1)
    return at, share


def curve_chart(series, x_label, y_label):
    """A chart of shares over radii.

    Parameters
    ----------
    series : list of (name, radii (n,), counted (n,) of bool)
    x_label, y_label : str

    Returns
    -------
    chart : dict
        As the template draws it.
    """
    top = _top(np.concatenate([radii[counted] for _, radii, counted in series]))
    curves = []
    for name, radii, counted in series:
        at, share = survival(radii, counted)
        beyond = (np.isinf(radii) & counted).mean() if len(radii) else 0.0
        path = [f"M{_x(0, top)} {_y(share[0])}"]
        for before, after, height in zip(at[:-1], at[1:], share[1:], strict=True):
            path.append(f"V{_y(height)}H{_x(after, top)}" if after > before else "")
        path.append(f"V{_y(beyond)}H{_x(top, top)}")
        curves.append({"name": name, "path": "".join(path)})
    return {"curves": curves, "bars": "", **_axes(top, 1.0, x_label, y_label)}


def histogram_chart(values, x_label, y_label, bins=30):
    """A histogram of finite values.

    Parameters
    ----------
    values : ndarray (n,)
        From 0 on; infinite ones are in the shares' denominator only.
    x_label, y_label : str
    bins : int

    Returns
    -------
    chart : dict
        As the template draws it.
    """
    finite = values[np.isfinite(values)]
    top = _top(values)
    counts, edges = np.histogram(finite, bins, (0.0, top))
    share = counts / max(len(values), 1)
    highest = float(share.max(initial=0.0)) or 1.0
    bars = [
        f"M{_x(low + 0.08 * (high - low), top)} {_y(0)}V{_y(height / highest)}"
        f"H{_x(high - 0.08 * (high - low), top)}V{_y(0)}Z"
        for low, high, height in zip(edges[:-1], edges[1:], share, strict=True)
        if height
    ]
    return {"curves": [], "bars": "".join(bars), **_axes(top, highest, x_label, y_label)}


def _top(values):
    """The end of an axis: the largest finite value, or 1 if there is none above 0."""
    return float(values.max(initial=0.0, where=np.isfinite(values))) or 1.0


def _axes(top, highest, x_label, y_label):
    across = [{"at": _x(tick, top), "label": f"{tick:g}"} for tick in ticks(top)]
    up = [{"at": _y(tick / highest), "label": f"{100 * tick:g} %"} for tick in ticks(highest)]
    box = {"left": _LEFT, "right": WIDTH - _RIGHT, "top": _TOP, "bottom": HEIGHT - _BOTTOM}
    return {
        "width": WIDTH, "height": HEIGHT, "box": box, "x_ticks": across, "y_ticks": up,
        "x_label": x_label, "y_label": y_label, "top": top,
    }  # fmt: skip


def _x(value, top):
    return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * float(value) / top, 1)


def _y(share):
    return round(HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * float(share), 1)
