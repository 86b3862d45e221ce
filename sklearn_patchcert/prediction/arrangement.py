"""What a certified pipeline refuses when it is fitted, since later calls could not go well."""

from __future__ import annotations

import contextlib
import copy

import numpy as np
from sklearn.naive_bayes import CategoricalNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.utils import _safe_indexing, gen_batches, get_tags

from sklearn_patchcert.datasets.readers import ImageReader
from sklearn_patchcert.prediction.estimator_tree import nested, real_steps
from sklearn_patchcert.vocabulary import encoding
from sklearn_patchcert.vocabulary.estimator import PatchVocabulary

_OF_CATEGORIES = OneHotEncoder, OrdinalEncoder, CategoricalNB
_AT_ONCE = 256  # rows of token ids


def holds_vocabulary(thing):
    """Whether an estimator, or one inside it, is a vocabulary."""
    return any(isinstance(part, PatchVocabulary) for part in nested(thing))


def check_arrangement(pipeline, kind):
    """Refuse the steps of an unfitted certified pipeline that later calls could not use.

    Parameters
    ----------
    pipeline : CertifiedPatchClassifier or CertifiedPatchRegressor
    kind : {"classifier", "regressor"}
        What the last step may be, if scikit-learn knows what it is.

    Raises
    ------
    ValueError
        If the last step is of another kind, or the only vocabulary is hidden inside a step.
    """
    own = type(pipeline).__name__
    if not pipeline.steps:
        raise ValueError(f"The {own} has no steps: name a PatchVocabulary and a {kind}.")
    name, last = pipeline.steps[-1]
    found = _kind(last)
    if found not in (None, kind):
        other = {"classifier": "CertifiedPatchClassifier", "regressor": "CertifiedPatchRegressor"}
        remedy = f", or use {other[found]}" if found in other else ""
        raise ValueError(
            f"The last step of a {own} must be a {kind}, but {name!r} ({type(last).__name__}) is "
            f"a {found.replace('_', ' ')}: pass a {kind}{remedy}."
        )
    for name, step in real_steps(pipeline)[1:]:
        if isinstance(step, ImageReader):
            raise ValueError(f"{name!r} reads files, so it must be the first step of a {own}.")
    if pipeline._working_steps()[1] is not None:
        return
    for name, step in real_steps(pipeline):
        if holds_vocabulary(step):
            raise ValueError(
                f"The vocabulary inside {name!r} ({type(step).__name__}) would not be found by "
                f"certify: make it a step of its own of the {own}, with only scaling steps before "
                "it, or use scikit-learn's Pipeline and sklearn_patchcert.certify(model, X)."
            )


def _kind(step):
    """What scikit-learn takes a step for; None for transformers, and if it cannot tell."""
    try:
        return get_tags(step).estimator_type
    except (AttributeError, TypeError, ValueError):
        return None


def check_all_tokens(pipeline, X):
    """Refuse fitted steps that fail on token ids that training had not at the same place.

    Only steps with an estimator of categories are tried.

    Parameters
    ----------
    pipeline : fitted CertifiedPatchClassifier or CertifiedPatchRegressor
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C)

    Raises
    ------
    ValueError
        If a step fails.
    """
    working, at = pipeline._working_steps()
    if at is None or not _of_categories(working[at + 1 :]):
        return
    before, vocabulary = pipeline._split()
    if vocabulary.output != "ids":
        return
    sample = copy.deepcopy(_safe_indexing(X, [0]))  # a step may work in place
    for step in [*before, vocabulary]:
        sample = step.transform(sample)
    own = [encoding.count_own(tokens) for tokens in vocabulary._own(vocabulary.vocabulary_)]
    sizes = np.resize(own, np.shape(sample)[1])  # channels alternate
    after = Pipeline([(str(at), step) for at, step in enumerate(working[at + 1 :])])
    for part in gen_batches(max(own), _AT_ONCE):
        ids = np.minimum(np.arange(part.start, part.stop)[:, None], sizes - 1)
        if hasattr(sample, "columns"):
            ids = type(sample)(ids, columns=sample.columns)
        try:
            (after.predict if hasattr(after, "predict") else after.transform)(ids)
        except Exception as error:
            raise _of_unseen_tokens(error, max(own)) from error


@contextlib.contextmanager
def explained(pipeline):
    """Say what an error of a fit means: of tokens that its folds had not met, or of images.

    Parameters
    ----------
    pipeline : CertifiedPatchClassifier or CertifiedPatchRegressor

    Raises
    ------
    ValueError
        If scikit-learn's estimators of categories fail on categories that they do not know, or
        a step that takes rows is given images.
    """
    try:
        yield
    except (IndexError, ValueError) as error:
        if "while dim <= 2 is required" in str(error):
            raise ValueError(
                f"{error} It was given images. Estimators that take rows follow a vocabulary with "
                'output="ids", such as a OneHotEncoder or CategoricalNB, or get rows if the '
                "pipeline is given rows; ChannelStandardizer scales images."
            ) from error
        steps, at = pipeline._working_steps()
        unseen = isinstance(error, IndexError) or "Found unknown categories" in str(error)
        if not unseen or at is None or not _of_categories(steps[at + 1 :]):
            raise
        raise _of_unseen_tokens(error, np.max(pipeline._split()[1].n_tokens)) from error


def _of_categories(steps):
    return any(isinstance(part, _OF_CATEGORIES) for part in nested(steps))


def _of_unseen_tokens(error, n_tokens):
    return ValueError(
        f"The steps after the vocabulary fail on tokens that training images do not have at the "
        f"same place, as later images may ({type(error).__name__}: {error}). Make them accept all "
        f'tokens: OneHotEncoder(handle_unknown="ignore"), CategoricalNB(min_categories='
        f"{n_tokens}), OrdinalEncoder(categories=...) with the `categories_` of the fitted "
        "vocabulary."
    )
