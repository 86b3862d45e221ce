"""What is true of every fitted estimator that a safe file may hold; the file may say otherwise."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert.networks import modules
from sklearn_patchcert.networks.estimators import PatchNetClassifier, PatchNetRegressor
from sklearn_patchcert.patches import grid_shape
from sklearn_patchcert.prediction.masking.masks import pairs_to_make
from sklearn_patchcert.prediction.masking.views import MaskedView
from sklearn_patchcert.vocabulary.estimator import PatchVocabulary
from sklearn_patchcert.vocabulary.tokenizer import count_groups

_CELLS = 2**29  # of all pairs of masks


def require(condition, message):
    """Raise a ValueError where a condition does not hold."""
    if not condition:
        raise ValueError(message)


def array_of(kinds, *dimensions):
    def true_of(value):
        right = isinstance(value, np.ndarray) and value.dtype.kind in kinds
        right = right and value.dtype != np.float16
        return right and value.ndim in dimensions and bool(np.isfinite(value).all())

    return true_of


def list_of(true_of_one):
    return lambda value: isinstance(value, list) and all(map(true_of_one, value))


def maybe(true_of):
    return lambda value: value is None or true_of(value)


def is_count(value):
    return type(value) is int and 0 <= value < 2**53


def is_number(value):
    return type(value) in (int, float) or array_of("iuf", 1)(value)


def sizes(length):
    def true_of(value):
        right = type(value) is tuple and len(value) in length
        return right and all(is_count(size) and size > 0 for size in value)

    return true_of


def are_classes(value):
    """Labels: sorted, each once."""
    if not isinstance(value, np.ndarray) or value.ndim != 1 or not len(value):
        return False
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        return False
    return bool((value[:-1] < value[1:]).all()) if value.dtype.kind != "O" else _sorted(value)


def _sorted(texts):
    return all(a < b for a, b in itertools.pairwise(texts))


def is_range(value):
    """(low, high), or None where the values of a pipeline's input have no range."""
    right = type(value) is tuple and [type(limit) for limit in value] == [float, float]
    return value is None or (right and -math.inf < value[0] <= value[1] < math.inf)


def is_dtype(value):
    return type(value) is str and len(value) < 80


def are_texts(value):
    return isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 1


def check_features(estimator, *names):
    """Names of features, and vectors with a value for each, must be as many as there are."""
    n = getattr(estimator, "n_features_in_", None)
    for name in ("feature_names_in_", *names):
        value = getattr(estimator, name, None)
        require(value is None or len(value) == n, f"{name} is not of {n} features")


def check_vocabulary(vocabulary):
    shape = getattr(vocabulary, "image_shape_", None)
    tokens = vocabulary.vocabulary_
    require(tokens.dtype in (np.float32, np.float64), "tokens must be float32 or float64")
    remade = PatchVocabulary.from_tokens(
        tokens,
        patch_size=vocabulary.patch_size_,
        image_shape=shape,
        per_channel=vocabulary.per_channel_,
    )
    require(np.array_equal(remade.vocabulary_, tokens), "the tokens are not distinct")
    counts = vocabulary.token_counts_
    require(counts.shape == tokens.shape[:-1] and (counts >= 0).all(), "token_counts_ do not fit")
    require(vocabulary.n_iter_ == len(vocabulary.history_), "n_iter_ does not fit history_")
    has = [hasattr(vocabulary, name) for name in ("image_shape_", "sample_shape_")]
    require(has[0] == has[1] == hasattr(vocabulary, "n_features_in_"), "half an image's shape")
    if shape is not None:
        n = math.prod(shape)
        layouts = [(n,), shape, shape[:2] if shape[2] == 1 else shape]
        require(vocabulary.n_features_in_ == n, "n_features_in_ does not fit image_shape_")
        require(vocabulary.sample_shape_ in layouts, "sample_shape_ does not fit image_shape_")
    check_features(vocabulary)


def check_reader(reader):
    reader._validate_params()
    reader._options()


def check_standardizer(scaler):
    shape = scaler.image_shape_
    require(scaler.mean_.shape == scaler.scale_.shape == shape[2:], "mean_, scale_ do not fit")
    require(scaler.mean_.dtype == scaler.scale_.dtype == np.float64, "they must be float64")
    require((scaler.scale_ > 0).all(), "scale_ must be positive")
    require(scaler.n_features_in_ == math.prod(shape), "n_features_in_ does not fit image_shape_")
    check_features(scaler)


def check_scaler(scaler):
    check_features(scaler, "mean_", "var_", "scale_", "center_", "min_", "max_abs_", "data_min_")
    needed = {"with_mean": "mean_", "with_std": "scale_"}
    needed |= {"with_centering": "center_", "with_scaling": "scale_"}
    for option, name in needed.items():
        missing = getattr(scaler, option, False) and getattr(scaler, name, 0) is None
        require(not missing, f"{name} is missing")
    require(scaler.scale_ is None or (scaler.scale_ != 0).all(), "scale_ must not be 0")


def check_network(net):
    shape = net.image_shape_
    require(net.n_features_in_ == math.prod(shape), "n_features_in_ does not fit image_shape_")
    for name in ("channel_mean_", "channel_std_"):
        require(getattr(net, name).shape == shape[2:], f"{name} is not of {shape[2]} channels")
    require((net.channel_std_ > 0).all(), "channel_std_ must be positive")
    require(getattr(net, "micro_batch_size_", None) != 0, "micro_batch_size_ must be positive")
    if isinstance(net, PatchNetClassifier):
        require(net.n_outputs_ == max(2, len(net.classes_)), "n_outputs_ does not fit classes_")
        columns = np.array_equal(net.classes_, np.arange(net.n_outputs_))
        require(columns or not net.multilabel_, "multilabel_ does not fit classes_")
    else:
        fits = net.target_mean_.shape == net.target_std_.shape == (net.n_outputs_,)
        require(fits and (net.target_std_ > 0).all(), "target_mean_, target_std_ do not fit")
        require(net.target_ndim_ in ((1, 2) if net.n_outputs_ == 1 else (2,)), "target_ndim_")
    check_features(net)


def check_pipeline(pipeline):
    """Each step must take as many features as the one before makes."""
    names = [name for name, _ in pipeline.steps]
    require(all(type(name) is str and "__" not in name for name in names), "names of steps")
    require(0 < len(names) == len(set(names)), "steps must have names of their own")
    size, vocabulary = None, None
    for name, step in pipeline.steps:
        if step is None or (isinstance(step, str) and step == "passthrough"):
            continue
        method = "fit" if name == names[-1] else "transform"
        require(hasattr(step, method), f"step {name!r:.40} has no {method}")
        step = step.estimator if isinstance(step, FrozenEstimator) else step
        takes = getattr(step, "n_features_in_", None)
        require(None in (size, takes) or takes == size, "a step takes other features")
        if isinstance(step, PatchNetClassifier | PatchNetRegressor) and vocabulary is not None:
            _check_blocks(step, vocabulary)
        if isinstance(step, PatchVocabulary):
            vocabulary = step
        size = _features_out(step)


def _features_out(step):
    """How many features a fitted step makes; None where that is not known."""
    takes = getattr(step, "n_features_in_", None)
    if isinstance(step, PatchVocabulary):
        if step.output == "images":
            return takes
        if takes is None or not hasattr(step, "vocabulary_"):
            return None
        grid = grid_shape(step.image_shape_, step.patch_size_)
        return math.prod(grid) * count_groups(step.image_shape_, step.per_channel_)
    if hasattr(step, "categories_"):
        return sum(map(len, step.categories_))
    return takes


def _check_blocks(net, vocabulary):
    """The blocks of an additive network must be made of the vocabulary's patches."""
    module = getattr(net, "module_", None)
    if isinstance(module, modules.AdditivePatchNet):
        block = tuple(np.multiply(module.block, vocabulary.patch_size_).tolist())
        require(module.stem.kernel_size == block, "blocks of the network are of other patches")


def check_committee(committee):
    members = [member for _, member in committee.estimators if member != "drop"]
    require(len(members) == len(committee.estimators_) > 0, "estimators_ are not the members")
    for member in committee.estimators_:
        same = np.array_equal(member.classes_, np.arange(len(committee.classes_)))
        require(same, "a member has other classes")


def check_smoothed(smoothed):
    same = np.array_equal(smoothed.estimator_.classes_, smoothed.classes_)
    require(same and -1 not in smoothed.classes_.tolist(), "classes_ are not the estimator's")


def is_mask_plan(value):
    """(windows, masks along each axis or None, number of stickers)."""
    if type(value) is not tuple or len(value) != 3 or type(value[0]) is not tuple:
        return False
    pair = sizes([2])
    windows, counts, n_stickers = value
    right = 0 < len(windows) < 100 and all(map(pair, windows)) and maybe(pair)(counts)
    return right and n_stickers in (1, 2)


def check_masked(masked):
    """The masks must be of the cells that the estimator has."""
    classes: Any = getattr(masked, "classes_", None)
    view = MaskedView(masked.estimator_, masked.image_shape_, classes)
    own = masked.mask_space_, masked.grid_, masked.cell_size_
    require((view.space, view.grid, view.patch_size) == own, "the masks are of other cells")
    theirs: Any = getattr(masked.estimator_, "classes_", None)
    same = theirs is classes is None or np.array_equal(theirs, classes)
    require(same, "classes_ are not the estimator's")
    n, values = math.prod(masked.image_shape_), masked.mask_values_
    require(masked.n_features_in_ == n, "n_features_in_ does not fit image_shape_")
    require(len(values) == len(view.cells), "mask_values_ do not fit the image")
    layouts = [(len(values),)]
    if view.images:
        layouts += [masked.image_shape_, masked.image_shape_[: 2 + (masked.image_shape_[2] > 1)]]
    require(masked.given_shape_ in layouts, "given_shape_ does not fit")
    masked._sticker_sizes()  # raises a ValueError where the masks are of other stickers
    if not view.images:
        tokens = view.vocabulary.vocabulary_.shape[-2]
        require(values.dtype.kind == "i" and values.min() >= 0, "mask_values_ are no tokens")
        require(values.max() < tokens, "mask_values_ are no tokens")
    windows = np.array(masked.mask_plan_[0])
    require((windows <= masked.grid_).all(), "the windows are larger than the image")
    cells = math.prod(masked.grid_)
    require(pairs_to_make(masked.grid_, *masked.mask_plan_) * cells < _CELLS, "too many masks")
    check_features(masked)


def check_frozen(frozen):
    require(hasattr(frozen.estimator, "fit"), "what is frozen is no estimator")


def check_encoder(encoder):
    require(len(encoder.categories_) == encoder.n_features_in_ > 0, "categories_ do not fit")
    plain = encoder.drop is encoder.min_frequency is encoder.max_categories is None
    require(plain, "drop, min_frequency and max_categories are not known to files")
    require(all(map(are_classes, encoder.categories_)), "categories_ are not sorted")


def check_linear(model):
    k, n = len(model.classes_), model.n_features_in_
    rows = 1 if k == 2 else k
    require(k > 1 and model.coef_.shape == (rows, n), "coef_ does not fit")
    require(model.intercept_.shape == (rows,), "intercept_ does not fit")
    check_features(model)


def check_bayes(model):
    k, n = len(model.classes_), model.n_features_in_
    sizes = [(k, int(m)) for m in model.n_categories_]
    for name in ("category_count_", "feature_log_prob_"):
        shapes = [table.shape for table in getattr(model, name)]
        require(len(sizes) == n and shapes == sizes, f"{name} does not fit")
    require(model.class_log_prior_.shape == model.class_count_.shape == (k,), "class_log_prior_")
    check_features(model)
