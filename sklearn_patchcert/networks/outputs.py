"""What decides the answer of a skorch network: its raw outputs, and the rule on top of them.

skorch answers the class of the largest probability, or, for binary networks of one output, whether
a probability exceeds a threshold.  Rounding is a matter of the raw outputs, since a softmax near 0
or 1 hides it.
"""

from __future__ import annotations

import contextlib
import math

import numpy as np
import torch
from sklearn.utils import _safe_indexing
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier

from sklearn_patchcert.networks.estimators import PatchNetClassifier
from sklearn_patchcert.parallel import stop_if_told

_UNITS = 1024  # in the last place of the largest output: rounding in a network of some layers
_VALUES = 2**20  # values of images at once, at most: less than half a second of a small network
_PARTS = ("predict_proba", "forward", "forward_iter", "evaluation_step", "infer",
          "_get_predict_nonlinearity")  # fmt: skip


def rule_of(net):
    """How a network answers.

    Parameters
    ----------
    net : object

    Returns
    -------
    rule : {"largest", "threshold", None}
        The class of the largest output, or whether the only one is above a threshold.  None where
        `net` is not a network, or its answer cannot be told from the outputs.  That is the case
        with methods of its own, with a `predict_nonlinearity` that is a function, and with
        several labels for an image.

    Examples
    --------
    >>> from sklearn_patchcert import PatchNetClassifier, PatchNetRegressor
    >>> from sklearn_patchcert.networks.outputs import rule_of
    >>> rule_of(PatchNetClassifier()), rule_of(PatchNetRegressor())
    ('largest', None)
    """
    for kind, rule in (
        (PatchNetClassifier, "largest"),
        (NeuralNetBinaryClassifier, "threshold"),
        (NeuralNetClassifier, "largest"),
    ):
        if isinstance(net, kind):
            if getattr(net, "multilabel_", False):
                return None
            as_known = all(_same(net, kind, name) for name in ("predict", *_PARTS))
            return rule if as_known and net.predict_nonlinearity in ("auto", None) else None
    return None


def answers_columns(estimator):
    """Whether `predict` gives the number of a column, as skorch does, instead of a class."""
    return isinstance(estimator, NeuralNetClassifier) and not isinstance(
        estimator, PatchNetClassifier
    )


def raw_scores(net, X):
    """Outputs of the module, before any nonlinearity.

    Parameters
    ----------
    net : fitted network
    X : array-like (m, ...)

    Returns
    -------
    scores : ndarray of float64 (m, n_outputs)
    unit : float
        Spacing of numbers near 1 in the coarsest floating-point type that the network computes in.
    """
    count, size = np.shape(X)[0], max(1, _VALUES // max(1, math.prod(np.shape(X)[1:])))
    parts = [slice(at, at + size) for at in range(0, count, size)]
    if len(parts) > 1:  # which can be stopped in between
        found = [raw_scores(net, _safe_indexing(X, part)) for part in parts]
        return np.concatenate([values for values, _ in found]), found[0][1]
    stop_if_told()
    out = net._logits(X) if isinstance(net, PatchNetClassifier) else net.forward(X)
    out = out[0] if isinstance(out, tuple) else out
    types = {part.dtype for part in net.module_.parameters() if part.dtype.is_floating_point}
    unit = max(torch.finfo(kind).eps for kind in {out.dtype, *types} if kind.is_floating_point)
    return out.detach().cpu().double().numpy().reshape(len(out), -1), unit


def output_of(estimator):
    """Function X -> ndarray (m, n_outputs) of a network that is understood, else None."""
    return (lambda X: raw_scores(estimator, X)[0]) if rule_of(estimator) else None


@contextlib.contextmanager
def disturbed(nets, seed, sign):
    """Add to the outputs of networks what rounding may do to them, and more, inside the block.

    Parameters
    ----------
    nets : list of fitted networks
    seed : int
    sign : {-1, 1}
        The disturbance of one sign is the negative of the other's: on different sides of a tie.
    """

    def disturb(module, inputs, outputs):
        first = outputs[0] if isinstance(outputs, tuple) else outputs
        generator = torch.Generator().manual_seed(seed)
        part = 2 * torch.rand(first.shape, generator=generator).to(first) - 1
        unit = torch.finfo(first.dtype).eps
        size = first.abs().reshape(len(first), -1).amax(1).reshape(-1, *[1] * (first.ndim - 1))
        moved = first + sign * part * (_UNITS * size + 8) * unit
        return (moved, *outputs[1:]) if isinstance(outputs, tuple) else moved

    with contextlib.ExitStack() as hooks:
        for net in nets:
            hooks.callback(net.module_.register_forward_hook(disturb).remove)
        yield


def _same(net, kind, name):
    """Whether a method is the one that a class of ours or of skorch defines."""
    return name not in vars(net) and getattr(type(net), name) is getattr(kind, name)
