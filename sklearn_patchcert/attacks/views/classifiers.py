"""A classifier as an attack sees it: images (n, C, H, W) to logits, one for each class.

Nothing is taken for granted: on the clean images the largest logit must be what `predict` answers.
Where it is not, for a threshold, another order of the classes, chance, an attack would look for
something else than it is judged by, and its failure would look like robustness.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_patchcert.attacks.evaluation import (
    agreed,
    classes_of,
    columns_of,
    evaluated,
    image_shape_of,
    numeric,
    steps_of,
    takes_x,
)
from sklearn_patchcert.attacks.views.tokenized_network import TokenizedNetwork
from sklearn_patchcert.attacks.views.torch_modules import as_torch_module

_AT_ONCE = 500
_LEAST = 1e-300  # of a probability, in float64
_SURE = 1e-15  # nearer to 0 or 1 a sigmoid has no digits left in float64
_NEAR = 1e-2  # of the spread of an image's logits: a lead below is decided by how a sum is rounded
_TRIALS = 8  # perturbations by a few units in the last place, which may take other tokens


class Case(NamedTuple):
    """A fitted estimator, and the images and labels that are attacked, once checked."""

    estimator: Any
    X: np.ndarray  # float32 or float64, whichever holds the values
    y: np.ndarray
    predicted: np.ndarray
    correct: np.ndarray
    frame: Any  # the DataFrame that X was, or None
    dtype: np.dtype  # that X was
    views: dict  # those of networks, made once

    def given(self, X):
        """A copy of images in the layout of X, a frame where X was one."""
        X = np.array(X, order="C")
        return X if self.frame is None else type(self.frame)(X, columns=self.frame.columns)


def case_of(estimator, X, y):
    """Check what is attacked, and ask the estimator for its predictions."""
    if not isinstance(estimator, nn.Module):
        check_is_fitted(estimator)
    model, X, y = evaluated(estimator, X, y)
    frame, values = X if hasattr(X, "columns") else None, np.asarray(X)
    dtype, values = values.dtype, as_floats(values)
    case = Case(model, values, y, y, y, frame, dtype, {})
    predicted = model.predict(case.given(values))
    return case._replace(predicted=predicted, correct=agreed(predicted, y))


def as_floats(X, name="X"):
    """X in float32 or float64, without a change of its values."""
    X = numeric(X, name)
    if not 2 <= X.ndim <= 4 or not X[0].size:
        raise ValueError(f"{name} must be rows or images of shape (n, H, W[, C]), got {X.shape}.")
    X = X.astype(np.float32 if X.dtype in (np.float16, np.float32) else np.float64)
    with np.errstate(over="ignore"):
        if not np.isfinite(X.astype(np.float32)).all():
            raise ValueError(
                f"{name} has NaN, inf or values beyond float32, in which attacks compute."
            )
    return X


class View(NamedTuple):
    """How an attack sees a classifier."""

    scores: Callable  # Tensor (n, C, H, W) -> logits (n, n_classes)
    classes: np.ndarray  # of the logits
    shape: tuple  # (H, W, C)
    channels_first: bool  # whether X has them first
    module: TokenizedNetwork | None = None
    read: Callable | None = None  # what the module answers -> logits
    device: Any = "cpu"

    def images(self, X, dtype=np.float32):
        """Images (n, H, W, C) of X."""
        X = X.transpose(0, 2, 3, 1) if self.channels_first else X.reshape(-1, *self.shape)
        return np.array(X, dtype=dtype, order="C")

    def as_given(self, images, shape):
        """Images (n, H, W, C) in the layout of X."""
        return (images.transpose(0, 3, 1, 2) if self.channels_first else images).reshape(shape)


def tensor(images, device="cpu"):
    """(n, H, W, C) to a Tensor (n, C, H, W)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)


def view_of(estimator, case, gradient="bpda", temperature=1.0, *, black_box=False):
    """The view of a classifier that knows X, its module where it has one.

    Parameters
    ----------
    estimator : fitted classifier
        That of the case, or the source of a transfer attack.
    case : Case
    gradient, temperature
        As of :func:`torch_modules.as_torch_module`.
    black_box : bool
        Whether the attack needs logits only, so that probabilities will do.

    Returns
    -------
    view : View

    Raises
    ------
    TypeError
        If the estimator has neither a network nor, for a black box, probabilities.
    ValueError
        If `predict` answers something else than the largest logit.
    """
    probable = black_box and hasattr(estimator, "predict_proba")
    key = id(estimator), gradient, temperature
    try:
        if key not in case.views:
            case.views[key] = _of_module(estimator, case, gradient, temperature)
        return case.views[key]
    except TypeError:
        if not probable:
            raise
    except _Differs:
        if not probable:
            raise
    return _of_probabilities(estimator, case)


class _Differs(ValueError):
    """`predict` answers something else than the largest logit."""


class _Scores(nn.Module):
    """Images (n, C, H, W) to logits, whatever the layout of X and the output of the network."""

    read_as: str | None = None  # "softmax" or "sigmoid" where the network answers probabilities

    def __init__(self, module, layout=None):
        super().__init__()
        self.module, self.layout = module, layout

    def forward(self, images):
        """Compute logits (n, n_classes)."""
        if self.layout is not None:
            images = images.permute(0, 2, 3, 1).reshape(len(images), *self.layout)
        return self.read(self.module(images))

    def read(self, found):
        """Logits of what the network answers."""
        found = found[0] if isinstance(found, tuple) else found
        if found.ndim != 2 or found.shape[1] < 2:
            raise TypeError("The network has no logit for each class, but a single output.")
        if self.read_as == "sigmoid":  # straight on beyond, should other images lead there
            inside = found.clamp(_SURE, 1 - _SURE)
            return inside.logit() + (found - inside) / _SURE
        return found.clamp_min(_LEAST).log() if self.read_as == "softmax" else found


def _of_module(estimator, case, gradient, temperature):
    layout = case.X.shape[1:]
    module = as_torch_module(estimator, gradient, temperature=temperature, input_shape=layout)
    shape, first = geometry_of(estimator, layout)
    scores = _Scores(module, layout if takes_x(estimator) and not first else None)
    device = next((p.device for p in module.parameters()), "cpu")
    view = View(scores, np.array([]), shape, first, module, scores.read, device)
    images = view.images(case.X)
    found = _asked(view, images)
    if (function := _ended_by(module.network, found)) is not None:
        # Probabilities, whose gradient float32 loses where the network is sure of itself.
        scores.read_as = function
        module.network.double()
        _check_probabilities(view, images, function)
    view = view._replace(classes=_classes(estimator, found.shape[1]))
    single = case.X.astype(np.float32)
    same = estimator is case.estimator and case.X.dtype == np.float32
    predicted = case.predicted if same else estimator.predict(case.given(single))
    differ = np.flatnonzero(~agreed(predicted, view.classes[found.argmax(1)]))
    differ = differ[~_near_tie(view, images[differ], found[differ])] if len(differ) else differ
    if len(differ):
        raise _Differs(
            f"predict of {type(steps_of(estimator)[-1]).__name__} answers something else than the "
            f"largest logit of its network for {len(differ)} of {len(found)} images, so an attack "
            "on the network would be judged by another model. Look for a threshold or "
            "nonlinearity of its own, classes in another order, images in another layout, or "
            'answers by chance; or use the attacks "square" and "noise", which ask predict, or '
            "attack another classifier by source=..."
        )
    return view


def _ended_by(network, found):
    """ "softmax" or "sigmoid" if the outputs of a network seem to be those, None for logits."""
    if (found < 0).any():
        return None
    if (np.abs(found.sum(1) - 1) < 1e-3).all():
        return "softmax"
    named = any(isinstance(part, nn.Sigmoid) for part in network.modules())
    near = (found > 1 - 1e-4).any() and (found < 1e-4).any()  # as plain logits hardly are
    return "sigmoid" if (found <= 1 + 1e-6).all() and (named or near) else None


def _check_probabilities(view, images, function):
    """Refuse probabilities that have lost the other classes, and with them the gradient."""
    remedy = 'Let the module return logits, or use the attacks "square" and "noise".'
    try:
        logs = _asked(view, images)
    except RuntimeError as error:
        raise _Differs(
            f"The network ends in a {function}, so its gradient is needed in float64, in which it "
            f"does not compute: {error}. {remedy}"
        ) from error
    ranked = np.sort(logs, axis=1)
    lost = ranked[:, -2] <= math.log(_LEAST) + 1
    if function == "sigmoid":  # the largest one must fall, or another one rise
        lost = (np.abs(ranked[:, -2:]) >= -math.log(_SURE) - 1).all(1)
    if lost.any():
        raise _Differs(
            f"The network ends in a {function} and is so sure of itself that probabilities are 0 "
            f"or 1, also in float64, so there is no gradient. {remedy}"
        )


def _asked(view, images):
    parts = range(0, len(images), _AT_ONCE)
    with torch.no_grad():
        found = [view.scores(tensor(images[at : at + _AT_ONCE], view.device)) for at in parts]
    return torch.cat(found).double().cpu().numpy()


def _near_tie(view, images, found):
    """Whether rounding decides the answer: the largest logit leads by little, or tokens tie."""
    ranked, best = np.sort(found, axis=1), found.argmax(1)
    near = ranked[:, -1] - ranked[:, -2] <= _NEAR * (ranked[:, -1] - ranked[:, 0])
    random = np.random.default_rng(0)
    size = 4 * np.finfo(np.float32).eps * np.abs(images).max((1, 2, 3), keepdims=True)
    wavers, chance = np.zeros_like(near), np.zeros_like(near)
    for _ in range(_TRIALS):
        noise = size * random.choice([-1.0, 1.0], size=images.shape)
        wavers |= _asked(view, (images + noise).astype(np.float32)).argmax(1) != best
        chance |= _asked(view, images).argmax(1) != best
    return near | (wavers & ~chance)


def geometry_of(estimator, given):
    """(H, W, C) of images that come in a shape of X, and whether that has the channels first."""
    known = image_shape_of(estimator)
    if known is not None:
        return known, False
    if len(given) == 3 and takes_x(estimator) and hasattr(steps_of(estimator)[-1], "module_"):
        return (*given[1:], given[0]), True
    side = math.isqrt(given[0])
    return ((side, side, 1) if given == (side * side,) else (*given, 1, 1)[:3]), False


def is_constant(estimator):
    """Whether a fitted classifier knows one class only."""
    return len(classes_of(estimator.classes_)) == 1 and not _answers_columns(estimator)


def _answers_columns(estimator):
    """Whether `predict` is skorch's, which gives the index; classes_ are those of the last fit."""
    last = steps_of(estimator)[-1]
    owner = next((kind for kind in type(last).__mro__ if "predict" in vars(kind)), type(last))
    return owner.__module__.partition(".")[0] == "skorch"


def _classes(estimator, width):
    """What `predict` answers where each logit is the largest."""
    if _answers_columns(estimator):
        return np.arange(width)
    classes = classes_of(estimator.classes_)
    if len(classes) != width:
        raise _Differs(
            f"The network has {width} outputs, but the estimator has {len(classes)} classes_."
        )
    return classes


def _of_probabilities(estimator, case):
    classes, told = classes_of(estimator.classes_), False
    shape, first = geometry_of(estimator, case.X.shape[1:])

    def scores(images):
        images = (images if first else images.permute(0, 2, 3, 1)).numpy()
        rows = images.astype(case.X.dtype).reshape(-1, *case.X.shape[1:])
        logs = np.log(np.maximum(estimator.predict_proba(case.given(rows)), 1e-30))
        if told:
            best = columns_of(classes, np.asarray(estimator.predict(case.given(rows))).reshape(-1))
            at = np.flatnonzero(best >= 0)
            logs[at, best[at]] = logs[at].max(1) + 1e-3
        return torch.from_numpy(logs)

    view = View(scores, classes, shape, first)
    found = _asked(view, view.images(case.X))
    predicted = estimator.predict(case.given(case.X))
    told = not agreed(predicted, classes[found.argmax(1)]).all()  # by a threshold, for instance
    return view
