"""Scores of classifiers, and by how much rounding may move them from one batch to the next.

A sum of products depends on the order of its terms, and the order on the number of rows, on the
device and on the threads.  For linear classifiers the effect has a bound (Higham, Accuracy and
Stability of Numerical Algorithms, 2002, section 3.1).  For networks it is measured on some rows,
and it counts as no less than a multiple of the spacing of numbers at the size of the outputs.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    Perceptron,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.naive_bayes import CategoricalNB
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from sklearn_patchcert.networks import outputs
from sklearn_patchcert.networks.fitting import passes
from sklearn_patchcert.prediction.estimator_tree import inner, is_pipeline, split
from sklearn_patchcert.prediction.search.images import Images

_MARGIN = 32  # times what a few outputs moved by between a batch and single images
_ALONE = 4  # rows of each batch whose outputs are computed again, one by one
_SINGLE = float(np.finfo(np.float32).eps)

_BY_ROW = (DecisionTreeClassifier, ExtraTreeClassifier, HistGradientBoostingClassifier,
           CategoricalNB)  # fmt: skip
_FORESTS = RandomForestClassifier, ExtraTreesClassifier
_LINEAR = (LogisticRegression, LogisticRegressionCV, LinearSVC, RidgeClassifier, RidgeClassifierCV,
           SGDClassifier, Perceptron)  # fmt: skip


class Scores(NamedTuple):
    """Scores, and by how much at most each may come out differently.

    values : ndarray of float64 (m, n_scores);  error : ndarray of float64 (m,)
    """

    values: np.ndarray
    error: np.ndarray


def computes_by_row(estimator):
    """Whether a row gets the same bits in every batch.

    Parameters
    ----------
    estimator : classifier

    Returns
    -------
    by_row : bool
        For trees, boosted trees of histograms, tables, and constants.
    """
    kind = type(estimator)
    if kind is DummyClassifier:
        return estimator.strategy not in ("stratified", "uniform")
    return kind in _BY_ROW


def decisive(estimator):
    """Function to the scores of which `predict` takes the largest.

    Parameters
    ----------
    estimator : fitted classifier

    Returns
    -------
    scores : callable, X (m, ...) -> Scores; or None
        None where the estimator is not understood.  X is left as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn_patchcert.prediction.score_errors import decisive
    >>> X = np.array([[-1.0], [1.0]])
    >>> values, error = decisive(RidgeClassifier().fit(X, [0, 1]))(X)
    >>> values.argmax(1), bool((error < 1e-13).all())
    (array([0, 1]), True)
    """
    if outputs.rule_of(estimator) == "largest":
        return _outputs(estimator)
    return linear(estimator) or probabilities(estimator)


def linear(estimator):
    """Function to the scores of a linear classifier, else None; two columns for two classes."""
    if type(estimator) not in _LINEAR:
        return None

    def scores(X):
        values = estimator.decision_function(X.copy())
        values = values.astype(np.float64).reshape(len(values), -1)
        rows = X if issparse(X) else np.asarray(X)
        weights = estimator.coef_.toarray() if issparse(estimator.coef_) else estimator.coef_
        sizes = abs(rows) @ abs(np.atleast_2d(weights)).T + abs(estimator.intercept_)
        unit = np.finfo(np.result_type(rows.dtype, estimator.coef_.dtype, np.float32)).eps
        error = (rows.shape[1] + 8) * unit * np.asarray(sizes, dtype=np.float64).max(1)
        if values.shape[1] == 1:  # the sign decides
            values = np.concatenate([-values, values], axis=1)
        return Scores(values, error)

    return scores


def probabilities(estimator):
    """Function to the probabilities of an estimator, else None, as :func:`decisive` returns it."""
    kind, inside = type(estimator), inner(estimator)
    if inside is not None:
        return probabilities(inside)
    if is_pipeline(estimator, "predict_proba"):
        steps, last = split(estimator)
        scores = probabilities(last)
        return scores and (lambda X: scores(through(steps, X)))
    if computes_by_row(estimator) or kind in _FORESTS:
        return partial(_of_trees, estimator)
    if kind is VotingClassifier and estimator.voting == "soft":
        members = [probabilities(member) for member in estimator.estimators_]
        return partial(_average, members, _weights(estimator)) if all(members) else None
    if kind in (LogisticRegression, LogisticRegressionCV):
        return partial(_linked, estimator, linear(estimator))
    if outputs.rule_of(estimator):
        return partial(_linked, estimator, _outputs(estimator))
    return None


def through(steps, X):
    """X after some transformers, each of which gets an array of its own."""
    for step in steps:
        X = step.transform(X.copy())
    return X


def few_rows(count):
    """Some row numbers of a batch, spread over it."""
    return np.unique(np.linspace(0, count - 1, _ALONE).astype(int)) if count else []


def _outputs(net):
    """Function to the outputs of a network, whose rounding is the largest seen so far."""
    spread = 0.0

    def scores(X):
        nonlocal spread
        rows, count = few_rows(len(X)), len(X)
        given = X if isinstance(X, Images) else X.copy()
        values, unit = outputs.raw_scores(net, given, rows)
        values, alone = values[:count], values[count:]
        spread = max(spread, float(np.abs(alone - values[rows]).max(initial=0.0)))
        size = np.abs(values).max(1)
        # A softmax in float32 cannot tell outputs that are nearer than its own spacing.
        error = np.maximum(passes._UNITS * unit * size + 8 * unit, _MARGIN * spread)
        return Scores(values, np.where(np.isfinite(size), error, np.inf))

    return scores


def _of_trees(estimator, X):
    values = np.asarray(estimator.predict_proba(X.copy()), dtype=np.float64)
    count = len(getattr(estimator, "estimators_", ()))
    # The trees of a forest are added up in any order, which does not matter where all are certain.
    whole = np.abs(count * values - np.rint(count * values)).max(1) < 1e-9
    return Scores(values, np.where(whole, 0.0, 4 * count * np.finfo(np.float64).eps))


def _average(members, weights, X):
    found = [scores(X) for scores in members]
    values = np.average([one.values for one in found], axis=0, weights=weights)
    error = np.average([one.error for one in found], axis=0, weights=weights)
    return Scores(values, error + 8 * len(found) * _SINGLE)


def _weights(vote):
    weights = [1.0] * len(vote.estimators) if vote.weights is None else vote.weights
    pairs = zip(vote.estimators, weights, strict=True)
    return [weight for (_, member), weight in pairs if member != "drop"]


def _linked(estimator, scores, X):
    """Probabilities of outputs: softmax, sigmoid and identity have no slope above one."""
    values = np.asarray(estimator.predict_proba(X.copy()), dtype=np.float64)
    return Scores(values, scores(X).error + 8 * _SINGLE)
