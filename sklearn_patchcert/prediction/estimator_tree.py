"""Estimators that hand their input to another one: which, and in what way."""

from __future__ import annotations

from sklearn.feature_selection import SelectKBest, SelectPercentile, VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from sklearn_patchcert._validation import BaseSearchCV
from sklearn_patchcert.preprocessing import ChannelStandardizer

VALUE_BY_VALUE = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, ChannelStandardizer,
                  OneHotEncoder, OrdinalEncoder, QuantileTransformer, Binarizer, KBinsDiscretizer,
                  VarianceThreshold, SelectKBest, SelectPercentile)  # fmt: skip
"""Transformers that compute each value from one value, in the same way in every batch."""

ANSWERS = "predict", "predict_proba", "predict_log_proba", "decision_function", "transform"
"""Methods of pipelines and searches that a subclass may compute in its own way."""


def inner(estimator):
    """The fitted estimator that another one asks for every answer, with the same X.

    Parameters
    ----------
    estimator : object

    Returns
    -------
    inside : object or None
        That of a FrozenEstimator or of a search; None for all others.

    Examples
    --------
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.svm import SVC
    >>> from sklearn_patchcert.prediction.estimator_tree import inner
    >>> inner(FrozenEstimator(SVC())), inner(SVC())
    (SVC(), None)
    """
    if type(estimator) is FrozenEstimator:
        return estimator.estimator
    if _inherits(estimator, BaseSearchCV, *ANSWERS):
        return estimator.best_estimator_
    return None


def is_pipeline(estimator, *methods):
    """Whether an estimator predicts, and has other methods, as scikit-learn's Pipeline does."""
    return _inherits(estimator, Pipeline, "predict", *methods)


def _inherits(estimator, base, *methods):
    """Whether an estimator is of a class, and some methods are those of that class."""
    if not isinstance(estimator, base):
        return False
    kinds = type(estimator).__mro__
    found = [next(vars(kind)[name] for kind in kinds if name in vars(kind)) for name in methods]
    # Our own pipelines compute what Pipeline does, on a copy.
    computed = [getattr(method, "inherited", method) for method in found]
    return all(one is vars(base)[name] for one, name in zip(computed, methods, strict=True))


def nested(estimator):
    """An estimator and all that it holds: steps, members, what a search has found.

    Parameters
    ----------
    estimator : object

    Returns
    -------
    estimators : list
        Each once.  Networks are not looked into.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import SVC
    >>> from sklearn_patchcert.prediction.estimator_tree import nested
    >>> nested(make_pipeline(SVC()))[1:]
    [SVC()]
    """
    found: dict = {}

    def look(thing):
        if isinstance(thing, (list, tuple)):
            for part in thing:
                look(part)
        elif isinstance(thing, dict):
            look(list(thing.values()))
        elif hasattr(thing, "__dict__") and _holds_estimators(thing) and id(thing) not in found:
            found[id(thing)] = thing
            if not hasattr(thing, "module_"):
                look(list(vars(thing).values()))

    look(estimator)
    return list(found.values())


def _holds_estimators(thing):
    """Whether something predicts or transforms, or is what scikit-learn wraps a member in."""
    if isinstance(thing, type):
        return False
    return any(hasattr(thing, name) for name in ("predict", "transform", "calibrators"))


def real_steps(pipeline):
    """Names and steps of a pipeline, without those that pass everything on.

    Parameters
    ----------
    pipeline : Pipeline

    Returns
    -------
    steps : list of (str, estimator)
    """
    return [(n, s) for n, s in pipeline.steps if s is not None and s != "passthrough"]


def split(pipeline):
    """The first steps of a fitted pipeline, while these treat every value by itself, and the rest.

    Parameters
    ----------
    pipeline : Pipeline

    Returns
    -------
    steps : list of transformers
    rest : estimator
        The last step, or all steps from the first that is not understood.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn.svm import SVC
    >>> from sklearn_patchcert.prediction.estimator_tree import split
    >>> split(make_pipeline(StandardScaler(), SVC()))
    ([StandardScaler()], SVC())
    >>> split(make_pipeline(StandardScaler(), PCA(), SVC()))[1].steps
    [('pca', PCA()), ('svc', SVC())]
    """
    steps = real_steps(pipeline)
    count = 0
    while count < len(steps) - 1 and _is_value_by_value(steps[count][1]):
        count += 1
    rest = steps[count][1] if count == len(steps) - 1 else _NotUnderstood(steps[count:])
    return [step for _, step in steps[:count]], rest


def _is_value_by_value(step):
    inside = inner(step)
    return type(step if inside is None else inside) in VALUE_BY_VALUE


class _NotUnderstood(Pipeline):
    """Steps of which the first may compute otherwise in another batch."""

    def predict(self, X):
        return super().predict(X)
