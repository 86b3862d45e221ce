"""The card of a model: its steps and the options that differ from their defaults, as text."""

from __future__ import annotations

import functools
import inspect
import re

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

_LONGEST = 160


def steps_card(estimator):
    """The steps of a pipeline, or the estimator as the only one.

    Parameters
    ----------
    estimator : estimator

    Returns
    -------
    steps : list of dict
        ``name``, ``kind`` and ``options``, a dict of str to str.  The text of an option never
        depends on where an object lies in memory.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from sklearn_patchcert.displays.report.cards import steps_card
    >>> steps_card(make_pipeline(MinMaxScaler(clip=True)))
    [{'name': 'minmaxscaler', 'kind': 'MinMaxScaler', 'options': {'clip': 'True'}}]
    """
    steps = [("model", estimator)]
    if hasattr(estimator, "mask_space_"):  # masks, and what is behind them
        inside = estimator.estimator_
        inside = getattr(inside, "best_estimator_", inside)
        inside = inside.estimator if isinstance(inside, FrozenEstimator) else inside
        steps = [("masks", estimator), *getattr(inside, "steps", [("classifier", inside)])]
    elif isinstance(estimator, Pipeline):
        steps = estimator.steps
    return [
        {"name": name, "kind": "passthrough", "options": {}}
        if step is None or isinstance(step, str)
        else {"name": name, "kind": type(step).__name__, "options": _options(step)}
        for name, step in steps
    ]


def _options(estimator):
    """Parameters that differ from their defaults, as text; steps of their own are left out."""
    signature = inspect.signature(type(estimator)).parameters
    return {
        name: _text(value)
        for name, value in estimator.get_params(deep=False).items()
        if name not in signature or not _same(value, signature[name].default)
        if not (name == "estimator" and hasattr(estimator, "mask_space_"))
    }


def _same(value, default):
    if value is default:
        return True
    plain = isinstance(value, str | bool | int | float | tuple | list)
    return plain and type(value) is type(default) and repr(value) == repr(default)


def _text(value):
    if isinstance(value, type):
        text = value.__name__
    elif isinstance(value, functools.partial):
        options = ", ".join(f"{name}={_text(one)}" for name, one in value.keywords.items())
        text = f"{_text(value.func)}({options})"
    elif isinstance(value, BaseEstimator):
        options = ", ".join(f"{name}={one}" for name, one in _options(value).items())
        text = f"{type(value).__name__}({options})"
    elif isinstance(value, np.ndarray):
        text = f"array of {value.dtype}, shape {value.shape}"
    elif isinstance(value, tuple | list):
        inner = ", ".join(_text(one) for one in value)
        comma = "," * (len(value) == 1)
        text = f"[{inner}]" if isinstance(value, list) else f"({inner}{comma})"
    elif isinstance(value, dict):
        text = "{" + ", ".join(f"{key!r}: {_text(one)}" for key, one in value.items()) + "}"
    elif callable(value) and hasattr(value, "__qualname__"):
        text = value.__qualname__
    else:
        text = re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(repr(value).split()))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
