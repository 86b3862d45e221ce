"""skorch's callbacks around our networks: which of them end training, and what scores compare."""

from __future__ import annotations

import dis
import functools
import re
import signal
import sys

import numpy as np
import torch
from sklearn.base import is_classifier
from skorch.callbacks import LRScheduler, PrintLog
from skorch.callbacks.scoring import ScoringBase
from skorch.dataset import get_len
from skorch.utils import data_from_dataset, is_skorch_dataset, to_numpy


class EndOfTraining(KeyboardInterrupt):
    """A callback has ended the training, as skorch's EarlyStopping does."""


def is_ctrl_c(error):
    """Whether a KeyboardInterrupt comes from Ctrl-C and not from a callback that ends training.

    A callback ends training by a ``raise KeyboardInterrupt`` of its own.  Ctrl-C comes between two
    instructions, so the innermost line of its traceback is no ``raise``, unless it is one of a
    handler for SIGINT that was set in Python.  An interrupt that was caught and raised again, or
    raised while Ctrl-C was handled, still is Ctrl-C, and so is everything that cannot be told.

    Parameters
    ----------
    error : KeyboardInterrupt

    Returns
    -------
    is_ctrl_c : bool

    Examples
    --------
    >>> from sklearn_patchcert.networks.fitting.callbacks import is_ctrl_c
    >>> try:
    ...     raise KeyboardInterrupt
    ... except KeyboardInterrupt as error:
    ...     is_ctrl_c(error)
    False
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, KeyboardInterrupt) and not _raised_on_purpose(found):
            return True
        found = found.__cause__ or found.__context__
    return False


def _raised_on_purpose(error):
    """Whether the innermost line of the traceback is a `raise` outside a handler of SIGINT."""
    place, handler = error.__traceback__, _code_of(signal.getsignal(signal.SIGINT))
    if place is None:
        return False
    while True:
        if handler is not None and place.tb_frame.f_code is handler:
            return False
        if place.tb_next is None:
            break
        place = place.tb_next
    instructions = place.tb_frame.f_code.co_code
    inside = 0 <= place.tb_lasti < len(instructions)
    return inside and dis.opname[instructions[place.tb_lasti]] == "RAISE_VARARGS"


def _code_of(handler):
    function = getattr(handler, "func", handler)  # of a partial
    own = getattr(function, "__code__", None)
    return own or getattr(vars(type(function)).get("__call__"), "__code__", None)


def sets_rates(callbacks):
    """Whether one of some callbacks, (name, callback), sets the learning rate."""
    return any(isinstance(callback, LRScheduler) for _, callback in callbacks)


def held_out_score(net, X, y):
    """`net.score`, or NaN where that is not defined: R squared needs two images."""
    return net.score(X, y) if is_classifier(net) or len(y) > 1 else float("nan")


def compare_as_given(callbacks):
    """Let callbacks that score receive images and targets as `fit` was given them.

    skorch hands on what a network is trained on: images with the channels first and encoded
    targets, which are not what `predict` and scikit-learn's scorers take.

    Parameters
    ----------
    callbacks : list of (str, Callback)
        Initialized.  Those that score get an attribute; their parameters stay as they are.
    """
    for _, callback in callbacks:
        if isinstance(callback, ScoringBase):
            callback._scoring = functools.partial(_scored, callback)


def _scored(callback, net, X, y):
    if hasattr(net, "_decode_target"):
        X = net._images_of(_array_of(X), made="forward_iter" not in vars(net))  # else cached
        y = net._decode_target(y) if callback.target_extractor is to_numpy else y
    return type(callback)._scoring(callback, net, X, y)


def _array_of(X):
    """Images (n, C, H, W) of a Dataset, of a batch or as they come, an ndarray."""
    if isinstance(X, torch.utils.data.Dataset):
        if is_skorch_dataset(X):
            X, _ = data_from_dataset(X)
        else:
            images = [X[at][0] for at in range(get_len(X))]
            images = [one["images"] if isinstance(one, dict) else one for one in images]
            return np.stack([to_numpy(torch.as_tensor(one)) for one in images])
    X = X["images"] if isinstance(X, dict) else X
    return to_numpy(X)


class Log(PrintLog):
    """skorch's table of epochs, in colors only on a terminal."""

    def _sink(self, text, verbose):
        on_terminal = getattr(sys.stdout, "isatty", bool)()
        plain = text if on_terminal else re.sub(r"\x1b\[[0-9;]*m", "", text)
        super()._sink(plain, verbose)
