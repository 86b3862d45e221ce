"""What decides the answer of a skorch network: its raw outputs, and the rule on top of them.

skorch answers the class of the largest probability, or, for binary networks of one output, whether
a probability exceeds a threshold.  Rounding is a matter of the raw outputs, since a softmax near 0
or 1 hides it.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from sklearn.utils import _safe_indexing
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.dataset import Dataset

from sklearn_patchcert.networks.estimators import PatchNetClassifier
from sklearn_patchcert.networks.fitting.loops import BatchIterator
from sklearn_patchcert.networks.fitting.passes import in_parts
from sklearn_patchcert.parallel import stop_if_told

_VALUES = 2**20  # values of images at once, at most: less than half a second of a small network
_PARTS = ("predict_proba", "forward", "forward_iter", "evaluation_step", "infer",
          "_get_predict_nonlinearity")  # fmt: skip
_AROUND = "_logits", "_outputs", "_set_training", "check_data", "get_dataset", "get_iterator"


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


def raw_scores(net, X, alone=()):
    """Outputs of the module, before any nonlinearity.

    Parameters
    ----------
    net : fitted network
    X : array-like (m, ...)
        Left as it is.  Where :func:`takes_parts`, also a sequence of slices, whose type has
        `made_when_asked`: the first image is checked, the others must be of the same kind.
    alone : sequence of int
        Rows that are computed once more, each by itself.

    Returns
    -------
    scores : ndarray of float64 (m + len(alone), n_outputs)
    unit : float
        Spacing of numbers near 1 in the coarsest floating-point type that the network computes in.
    """
    count, size = np.shape(X)[0], max(1, _VALUES // max(1, math.prod(np.shape(X)[1:])))
    parts = [slice(at, at + size) for at in range(0, count, size)]
    parts += [slice(row, row + 1) for row in alone]
    if takes_parts(net):
        made = getattr(type(X), "made_when_asked", False)
        out = net._logits(X[:1] if made else X, partial(in_parts, net, X if made else None, parts))
    elif len(parts) > 1:  # which can be stopped in between
        found = [raw_scores(net, _safe_indexing(X, part)) for part in parts]
        return np.concatenate([values for values, _ in found]), found[0][1]
    else:
        stop_if_told()
        out = net._logits(X) if isinstance(net, PatchNetClassifier) else net.forward(X)
    out = out[0] if isinstance(out, tuple) else out
    types = {part.dtype for part in net.module_.parameters() if part.dtype.is_floating_point}
    unit = max(torch.finfo(kind).eps for kind in {out.dtype, *types} if kind.is_floating_point)
    return out.detach().cpu().double().numpy().reshape(len(out), -1), unit


def takes_parts(net):
    """Whether the module can be asked for parts of the images without the data sets of skorch."""
    as_known = isinstance(net, PatchNetClassifier) and rule_of(net) is not None
    as_known = as_known and (net.dataset, net.iterator_valid) == (Dataset, BatchIterator)
    return as_known and all(_same(net, PatchNetClassifier, name) for name in _AROUND)


def output_of(estimator):
    """Function X -> ndarray (m, n_outputs) of a network that is understood, else None."""
    return (lambda X: raw_scores(estimator, X)[0]) if rule_of(estimator) else None


def _same(net, kind, name):
    """Whether a method is the one that a class of ours or of skorch defines."""
    return name not in vars(net) and getattr(type(net), name) is getattr(kind, name)
