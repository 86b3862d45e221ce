"""Patch certificates of estimators that have certified pipelines inside."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import FeatureUnion
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert._validation import BaseSearchCV, _ConstantPredictor, told_shape
from sklearn_patchcert.datasets.readers import holds_paths, in_batches, reader_of
from sklearn_patchcert.prediction.arrangement import holds_vocabulary
from sklearn_patchcert.prediction.committee import CertifiedCommittee
from sklearn_patchcert.prediction.estimator_tree import (
    ANSWERS,
    inner,
    is_pipeline,
    real_steps,
)
from sklearn_patchcert.prediction.masking.classifier import StickerCertifiedClassifier
from sklearn_patchcert.prediction.masking.model import MaskedModel
from sklearn_patchcert.prediction.masking.regressor import StickerCertifiedRegressor
from sklearn_patchcert.preprocessing import scaled
from sklearn_patchcert.vocabulary.estimator import PatchVocabulary

# Their answers are made of those of these attributes, which are given X as it is.  Exact types: a
# subclass may do otherwise.
_MEMBERS: dict[Any, str] = {
    BaggingClassifier: "estimators_",
    BaggingRegressor: "estimators_",
    CertifiedCommittee: "estimators_",
    FixedThresholdClassifier: "estimator_",
    MultiOutputClassifier: "estimators_",
    MultiOutputRegressor: "estimators_",
    OneVsOneClassifier: "estimators_",
    OneVsRestClassifier: "estimators_",
    OutputCodeClassifier: "estimators_",
    SelfTrainingClassifier: "estimator_",
    StackingClassifier: "estimators_",
    StackingRegressor: "estimators_",
    StickerCertifiedClassifier: "estimator_",
    StickerCertifiedRegressor: "estimator_",
    TransformedTargetRegressor: "regressor_",
    TunedThresholdClassifierCV: "estimator_",
    VotingClassifier: "estimators_",
    VotingRegressor: "estimators_",
}


class _Route(NamedTuple):
    """A way that all pixels take: steps, then a vocabulary, which is at `where`."""

    before: tuple
    vocabulary: PatchVocabulary
    where: str


def certify(model: Any, X: Any, norm: str = "l2") -> NDArray[np.float64]:
    """Patch radii of any estimator that sees the images through vocabularies only.

    Finds the certified pipelines inside searches, calibrated, thresholded, frozen, stacked, voting
    and bagged classifiers, and the like.  A patch that moves by less than its radius keeps its
    token in every pipeline inside, so that no answer of the model changes.

    Parameters
    ----------
    model : fitted estimator
        A vocabulary, a certified pipeline, a scikit-learn Pipeline or FeatureUnion with
        vocabularies, or one of these inside GridSearchCV and other searches, FrozenEstimator,
        CalibratedClassifierCV, FixedThresholdClassifier, TunedThresholdClassifierCV,
        SelfTrainingClassifier, TransformedTargetRegressor, stacking, voting, bagging,
        CertifiedCommittee, StickerCertifiedClassifier or StickerCertifiedRegressor that mask
        tokens, or scikit-learn's estimators for several classes and outputs.  They may be nested.
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C), or iterator of such batches
        Of a model whose pipelines begin with an :class:`ImageReader`, paths (n,), too.
    norm : {"l2", "linf", "l1"}, default="l2"
        The norm, within a patch, of the perturbation.

    Returns
    -------
    radii : ndarray of float64 (n, rows, cols) or (n, rows, cols, C)
        For each patch the smallest radius among all fitted vocabularies that receive it, in the
        units of X, rounded down.  Every patch may change at once, each by less than its own radius.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If a part of the model receives pixels and not tokens, if it is not known what an estimator
        does with its input, or if the vocabularies inside cut different patches.
    ValueError
        If the norm is unknown or X does not fit.

    See Also
    --------
    CertifiedPatchClassifier.certify_prediction : Of a certified pipeline itself, for the whole
        image.

    Examples
    --------
    >>> from sklearn.calibration import CalibratedClassifierCV
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary, certify
    >>> X, y = load_digits(return_X_y=True)
    >>> vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0)
    >>> pipeline = CertifiedPatchClassifier(
    ...     [("vocab", vocabulary), ("clf", DecisionTreeClassifier())]
    ... )
    >>> model = CalibratedClassifierCV(pipeline, cv=3).fit(X[:500], y[:500])
    >>> certify(model, X[500:510]).shape           # the smallest radii of three pipelines
    (10, 2, 2)
    """
    routes = _routes(model, (), "model")
    if not routes:
        raise TypeError("Every member of the model is constant: no vocabulary receives the images.")
    _check_together(routes)
    routes = list({(id(r.vocabulary), *map(id, r.before)): r for r in routes}.values())
    names = list(getattr(model, "feature_names_in_", ()))
    if names and hasattr(X, "columns") and list(X.columns) != names:
        raise ValueError("X has other columns than the model was fitted on, or another order.")
    readers = [reader_of(route.before) for route in routes]
    if None not in readers:  # they hand images on as they are
        routes = [route._replace(before=route.before[1:]) for route in routes]
        if holds_paths(X) or isinstance(X, Iterator):
            _check_readers(readers)
        X = in_batches(readers[0], X)
    if len(routes) == 1 or not isinstance(X, Iterator):
        return _smallest(routes, X, norm)
    parts = [_smallest(routes, batch, norm) for batch in X]
    if not parts:
        raise ValueError("The iterator of batches of images is empty.")
    return np.concatenate(parts)


def _check_readers(readers):
    """Refuse readers that make different images of a file."""
    first, *others = ({**reader._options(), "on_error": reader.on_error} for reader in readers)
    if any(other != first for other in others):
        raise TypeError(
            "The readers inside the model make different images of one file, and a radius is "
            "about an image: certify each pipeline by itself."
        )


def _smallest(routes, X, norm):
    """The smallest radii of some routes; each is given what its first step was fitted on."""
    found = []
    for before, vocabulary, _ in routes:
        first = before[0] if before else vocabulary
        unnamed = hasattr(X, "columns") and not hasattr(first, "feature_names_in_")
        way = functools.partial(scaled, before, vocabulary) if before else None
        found.append(vocabulary._radii(np.asarray(X) if unnamed else X, norm, before=way))
    return np.minimum.reduce(found)


def _check_together(routes):
    """Refuse routes whose maps are not of the same patches, or that disturb one another."""
    first, *others = routes
    for route in others:
        if _grid(route) != _grid(first):
            raise TypeError(
                f"The maps of {first.where}, of {_described(first)}, and of {route.where}, of "
                f"{_described(route)}, have no common patches: certify each by itself."
            )
    for step in (step for route in routes for step in route.before):
        if others and not getattr(step, "copy", True):
            raise TypeError(
                f"{step!r} works in place: it may change the images that other members of the "
                "model receive. Fit it with copy=True."
            )


def _grid(route):
    vocabulary = route.vocabulary
    shape = told_shape(vocabulary)
    return vocabulary.patch_size_, shape, bool(vocabulary.per_channel_)


def _described(route):
    patch, shape, by_channel = _grid(route)
    whole = "images of any size" if shape is None else f"images {shape}"
    return f"patches {patch}{' of each channel' if by_channel else ''} in {whole}"


def _routes(model, before, where):
    """All ways from the pixels to the answer of a fitted model; TypeError if one has no tokens."""
    kind = type(model)
    name = kind.__name__ if hasattr(model, "fit") else repr(model)
    if isinstance(model, PatchVocabulary):
        check_is_fitted(model, "vocabulary_")
        return [_Route(before, model, where)]
    if kind is _ConstantPredictor:  # of a class that all images have, or none
        return []
    if isinstance(model, BaseSearchCV) and not model.refit:
        raise TypeError(
            f"{where} ({name}) has refit=False and no best_estimator_: fit the model that you "
            "choose, and certify that."
        )
    if not holds_vocabulary(model):
        raise TypeError(
            f"{where} ({name}) has no vocabulary, so that nothing is known of how its answer "
            "depends on the pixels."
        )
    check_is_fitted(model)
    if is_pipeline(model, *ANSWERS):
        return _of_pipeline(model, before, where)
    return [route for part, at in _members(model, where) for route in _routes(part, before, at)]


def _of_pipeline(pipeline, before, where):
    """The routes of the first step with a vocabulary, behind which there are only tokens."""
    steps = real_steps(pipeline)
    at = next(at for at, (_, step) in enumerate(steps) if holds_vocabulary(step))
    name, step = steps[at]
    before = *before, *(step for _, step in steps[:at])
    return _routes(step, before, f"{where}[{name!r}]")


def _members(model, where):
    """Pairs of the estimators that are given X as it is, and of the ways to them."""
    kind = type(model)
    inside = inner(model)
    if inside is not None:
        name = "best_estimator_" if isinstance(model, BaseSearchCV) else "estimator"
        return [(inside, f"{where}.{name}")]
    if kind is CalibratedClassifierCV:
        return [
            (part.estimator, f"{where}.calibrated_classifiers_[{at}].estimator")
            for at, part in enumerate(model.calibrated_classifiers_)
        ]
    if kind is FeatureUnion:
        return [
            (part, f"{where}.transformer_list[{at}][1]")
            for at, (_, part) in enumerate(model.transformer_list)
            if not isinstance(part, str) or part != "drop"
        ]
    if kind not in _MEMBERS:
        held = [n for n, v in vars(model).items() if n.endswith("_") and holds_vocabulary(v)]
        there = f", at {', '.join(f'{where}.{n}' for n in held)}" if held else ""
        raise TypeError(
            f"certify does not know what {kind.__name__} ({where}) does with its input. Certify "
            f"the models inside{there}: such a certificate is about these, not about the whole."
        )
    _check_input(model, where)
    members, where = getattr(model, _MEMBERS[kind]), f"{where}.{_MEMBERS[kind]}"
    if not isinstance(members, (list, tuple)):
        return [(members, where)]
    return [(member, f"{where}[{at}]") for at, member in enumerate(members)]


def _check_input(model, where):
    """Refuse estimators that give more or less than X to one of their members."""
    name = f"{where} ({type(model).__name__})"
    if isinstance(model, (StackingClassifier, StackingRegressor)) and model.passthrough:
        raise TypeError(f"{name} has passthrough=True: its final_estimator_ receives the pixels.")
    if isinstance(model, MaskedModel) and model.mask_space_ != "tokens":
        raise TypeError(
            f"{name} masks pixels, so that its vocabularies receive patches that are hidden in "
            "part, and nothing is known of how far these may move. Pass it one pipeline, so that "
            "tokens are masked."
        )
    if isinstance(model, (BaggingClassifier, BaggingRegressor)):
        every = np.arange(model.n_features_in_)
        if not all(np.array_equal(drawn, every) for drawn in model.estimators_features_):
            raise TypeError(
                f"The members of {name} receive drawn features, not images: fit it with "
                "max_features=1.0 and bootstrap_features=False."
            )
    if getattr(model, "pairwise_indices_", None) is not None:
        raise TypeError(f"{name} gives each member other columns of X.")
