"""What an estimator answers, and which of its answers rounding cannot change.

The last bits of a score depend on how many images are predicted at once, on the device and on the
number of threads.  Near a tie they decide the class.  A certificate may count an answer only if the
scores lead by more than these bits.  How that is told depends on the estimator:

==============================================  ================================================
estimator                                       an answer counts if
==============================================  ================================================
Pipeline                                        its last step allows it; all other steps must
                                                treat every value by itself, as scalers do
FrozenEstimator, GridSearchCV and its like      the estimator inside allows it
VotingClassifier                                the average leads by more than the rounding of
                                                its members; with hard votes, all votes count
FixedThresholdClassifier,                       the score is farther from the threshold than
TunedThresholdClassifierCV                      its rounding
networks of skorch                              the outputs lead by more than their rounding,
                                                relative to the largest
linear classifiers                              the lead exceeds a bound for sums of products
forests                                         the lead exceeds the rounding of the average
KNeighborsClassifier with uniform weights       the vote is the same whoever of those that are
                                                equally near, but for rounding, takes part
trees, HistGradientBoostingClassifier,          always, because a row is computed by itself
CategoricalNB, DummyClassifier without chance
all others                                      it is the same in batches of another order and
                                                size, for images that move by 2e-5 of their
                                                values, when networks inside are disturbed by
                                                rounding, and for single images; scores must
                                                lead by more than they move
==============================================  ================================================

Subclasses count among "all others", and so do networks with methods of their own.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils import _safe_indexing

from sklearn_patchcert.networks import outputs
from sklearn_patchcert.networks.fitting.passes import disturbed
from sklearn_patchcert.prediction.estimator_tree import inner, is_pipeline, nested, split
from sklearn_patchcert.prediction.score_errors import (
    Scores,
    computes_by_row,
    decisive,
    few_rows,
    linear,
    probabilities,
    through,
)

_MOVED = 2.0**-16  # part of a value, by which images move to see whether an answer is stable
_TIED = 30  # training images beyond the neighbors, as far as ties are followed
_CLEAR = 1000  # times the margin: by such a lead no single image needs to be asked
_MARGIN, _UNITS = 32, 64  # times the rounding that was seen; units in the last place of float32


def reader(estimator):
    """Function that tells the answers of a fitted classifier, and which of them count.

    Parameters
    ----------
    estimator : fitted classifier

    Returns
    -------
    read : callable, X (m, ...) -> labels (m,), sure (m,) of bool
        Where `sure`, `predict` gives the same label in any batch.  X is left as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_patchcert.prediction.answers import reader
    >>> X, y = np.array([[-1.0, -1.0], [1.0, 1.0]]), [0, 1]
    >>> labels, sure = reader(LogisticRegression().fit(X, y))(np.array([[-1.0, -0.5], [1.0, -1.0]]))
    >>> sure
    array([ True, False])
    """
    return _understood(estimator) or partial(_by_trial, estimator)


def _understood(estimator):
    kind, inside = type(estimator), inner(estimator)
    if inside is not None:
        return reader(inside)
    if is_pipeline(estimator):
        steps, last = split(estimator)
        read = reader(last)
        return lambda X: read(through(steps, X))
    if computes_by_row(estimator):
        return lambda X: (_labels(estimator, X), np.ones(X.shape[0], dtype=bool))
    if kind is KNeighborsClassifier and _is_plain_vote(estimator):
        return partial(_of_neighbors, estimator)
    if kind is VotingClassifier and estimator.voting == "hard":
        return partial(_of_votes, estimator, [reader(one) for one in estimator.estimators_])
    if kind in (FixedThresholdClassifier, TunedThresholdClassifierCV):
        scores = _compared(estimator)
        return scores and partial(_of_threshold, estimator, scores)
    if outputs.rule_of(estimator) == "threshold":
        return partial(_of_threshold, estimator, probabilities(estimator))
    scores = decisive(estimator)
    return scores and partial(_of_largest, estimator, scores)


def _labels(estimator, X):
    """Answers to a copy: nobody may change what we ask about."""
    return np.asarray(estimator.predict(X.copy()))


def _of_largest(estimator, scores, X):
    values, error = scores(X)
    best, sure = values.argmax(1), np.ones(len(values), dtype=bool)
    if values.shape[1] > 1:
        top = np.partition(values, -2, axis=1)[:, -2:]
        sure = (top[:, 1] - top[:, 0] > 2 * error) | (error == 0)  # the first of equal ones
    return best if outputs.answers_columns(estimator) else estimator.classes_[best], sure


def _of_threshold(estimator, scores, X):
    threshold = getattr(estimator, "best_threshold_", None)
    threshold = estimator.threshold if threshold is None else threshold
    values, error = scores(X)
    if isinstance(threshold, str):  # "auto"
        threshold = 0.5 if values.shape[1] == 2 else 0.0
    gaps = np.abs(np.concatenate([values, -values], axis=1) - threshold)  # for either class
    return _labels(estimator, X), gaps.min(1) > error


def _compared(estimator):
    """The scores that a classifier compares with its threshold, if they are understood."""
    inside, response = estimator.estimator_, estimator.response_method
    if response in ("auto", "predict_proba") and hasattr(inside, "predict_proba"):
        return probabilities(inside)
    scores = linear(inside)
    return scores and partial(_second_column, scores)


def _second_column(scores, X):
    values, error = scores(X)
    return Scores(values[:, 1:], error)


def _of_votes(estimator, readers, X):
    return _labels(estimator, X), np.all([read(X)[1] for read in readers], axis=0)


def _is_plain_vote(neighbors):
    return neighbors.weights == "uniform" and neighbors.effective_metric_ == "euclidean"


def _of_neighbors(estimator, X, tied=_TIED):
    """Votes of which it does not matter who of the equally near is a neighbor."""
    labels, k = _labels(estimator, X), estimator.n_neighbors
    distances, near = estimator.kneighbors(X.copy(), min(k + tied, estimator.n_samples_fit_))
    squares = np.square(distances.astype(np.float64))
    error = _error_of_squares(X, estimator._fit_X, squares[:, -1])
    last = squares[:, k - 1]
    within = squares < (last - 2 * error)[:, None]  # neighbors for certain
    equal = ~within & (squares <= (last + 2 * error)[:, None])
    votes = estimator._y[near]
    n_classes = len(estimator.classes_)
    least, pool = (
        np.stack([(some & (votes == c)).sum(1) for c in range(n_classes)], axis=1)
        for some in (within, equal)
    )
    free, rows = k - within.sum(1), np.arange(len(labels))
    winner = np.searchsorted(estimator.classes_, labels)
    own = least[rows, winner] + np.maximum(free - (pool.sum(1) - pool[rows, winner]), 0)
    most = least + np.minimum(pool, free[:, None])
    most[rows, winner] = -1
    most = most - (np.arange(n_classes) > winner[:, None])  # of as many votes the first class wins
    sure = own > most.max(1)
    cut = np.flatnonzero(equal[:, -1]) if squares.shape[1] < estimator.n_samples_fit_ else ()
    if len(cut):  # there are more of them
        sure[cut] = _of_neighbors(estimator, _safe_indexing(X, cut), tied=64 * tied)[1]
    return labels, sure


def _error_of_squares(X, others, farthest):
    """By how much squared distances may be wrong: |x|^2 - 2 x y + |y|^2 loses digits."""
    X, others = (values if issparse(values) else np.asarray(values) for values in (X, others))
    whole = [values.data if issparse(values) else values for values in (X, others)]
    sizes = _squares(X) + _squares(others).max() + farthest
    if all((np.rint(values) == values).all() for values in whole) and sizes.max() < 2**22:
        return np.full(len(farthest), 1e-6)  # sums of whole numbers are exact; their roots are not
    same = X.dtype == others.dtype == np.float64
    return 4 * (X.shape[1] + 8) * np.finfo(np.float64 if same else np.float32).eps * sizes


def _squares(X):
    return np.asarray(X.multiply(X).sum(1)).ravel() if issparse(X) else np.square(X).sum(1)


def _by_trial(estimator, X):
    """Answers of an estimator that is not understood: those that stay as they are count."""
    labels, count = _labels(estimator, X), X.shape[0]
    sure = np.ones(count, dtype=bool)
    if not count:
        return labels, sure
    again = _safe_indexing(X, np.append(np.arange(count)[::-1], 0))
    sure &= _labels(estimator, again)[:count][::-1] == labels
    nets = [part for part in nested(estimator) if hasattr(part, "module_")]
    for seed, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):  # to both sides of a tie
        moved = _moved(X, seed, sign)
        if moved is not None:
            sure &= _labels(estimator, moved) == labels
        if nets:
            with disturbed(nets, seed, sign):
                sure &= _labels(estimator, X) == labels
    lead, margin = _leads(estimator, X, again, labels)
    sure &= lead > margin
    clear = lead >= _CLEAR * margin
    rows = np.union1d(few_rows(count), np.flatnonzero(sure & ~clear))
    alone = np.array([_labels(estimator, _safe_indexing(X, [row]))[0] for row in rows])
    sure[rows] &= alone == labels[rows]
    if (alone != labels[rows])[clear[rows]].any():
        sure[:] = False  # something else than the scores decides
    return labels, sure


def _moved(X, seed, sign):
    """X with every value moved by a random part of it; None where it holds no such numbers."""
    frame, values = X if hasattr(X, "columns") else None, X if issparse(X) else np.asarray(X)
    if values.dtype.kind != "f":
        return None
    made = values.copy()
    numbers: Any = made.data if issparse(made) else made
    part = np.random.default_rng(seed).uniform(-1, 1, numbers.shape)
    numbers *= (1 + sign * _MOVED * part).astype(numbers.dtype)
    return made if frame is None else type(frame)(made, columns=frame.columns)


def _leads(estimator, X, again, labels):
    """By how much the scores of each row lead, and by how much they must to be beyond doubt.

    Where `predict` does not take the largest score, nobody knows what decides: the lead is what it
    must be, so that single images are asked.
    """
    names = [n for n in ("predict_proba", "decision_function") if hasattr(estimator, n)]
    unknown = np.full(len(labels), 1.0), np.full(len(labels), 1 - 1e-9)
    if not names:
        return unknown
    compute, count = getattr(estimator, names[0]), len(labels)
    values = np.asarray(compute(X.copy()), dtype=np.float64).reshape(count, -1)
    spread = np.abs(np.asarray(compute(again.copy()))[:count][::-1].reshape(count, -1) - values)
    for row in few_rows(count):
        alone = np.asarray(compute(_safe_indexing(X, [row]))).reshape(-1)
        spread[row] = np.maximum(spread[row], np.abs(alone - values[row]))
    if values.shape[1] == 1:
        values = np.concatenate([-values, values], axis=1)
    ranked = np.sort(values, axis=1)
    classes = getattr(estimator, "classes_", ())
    if ranked.shape[1] < 2 or len(classes) != ranked.shape[1]:
        return unknown
    if (classes[values.argmax(1)] != labels).any():
        return unknown
    seen = np.maximum(spread.max(1), np.quantile(spread.max(1), 0.9))
    unit = np.finfo(np.float32).eps
    margin = np.maximum(_MARGIN * seen, _UNITS * unit * np.abs(values).max(1))
    return ranked[:, -1] - ranked[:, -2], margin
