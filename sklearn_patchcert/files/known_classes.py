"""The classes that a safe file may hold, and what a fitted one of each must look like."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import Bunch

from sklearn_patchcert.datasets.readers import ImageReader
from sklearn_patchcert.files import fitted_checks as checks
from sklearn_patchcert.files.fitted_checks import (
    are_classes,
    are_texts,
    array_of,
    is_count,
    is_number,
    list_of,
    maybe,
    sizes,
)
from sklearn_patchcert.files.net_states import net_state, restore_net
from sklearn_patchcert.networks import modules
from sklearn_patchcert.networks.estimators import PatchNetClassifier, PatchNetRegressor
from sklearn_patchcert.networks.fast_modules import WhiteningConvNet
from sklearn_patchcert.networks.fitting.flip_training import random_affine, random_crop
from sklearn_patchcert.pipeline import CertifiedPatchClassifier, CertifiedPatchRegressor
from sklearn_patchcert.prediction.committee import CertifiedCommittee
from sklearn_patchcert.prediction.masking.classifier import StickerCertifiedClassifier
from sklearn_patchcert.prediction.masking.regressor import StickerCertifiedRegressor
from sklearn_patchcert.preprocessing import ChannelStandardizer
from sklearn_patchcert.smoothing.classifier import SmoothedClassifier
from sklearn_patchcert.vocabulary.denoising import denoise
from sklearn_patchcert.vocabulary.estimator import PatchVocabulary


class Known(NamedTuple):
    """How one class is written and read.

    Parameters
    ----------
    kind : type
    fitted : dict of str to callable
        Attributes of a fitted one, and what is true of their values.
    optional : dict of str to callable
        The same, of those that it may lack.
    check : callable
        Raises a ValueError where these attributes do not fit each other or the parameters.
    choices : dict of str to dict
        Parameters that may be classes or functions, and those that they may be, by name.
    droppable : tuple of str
        Parameters that predictions do not need: what is not among the choices is left out, and
        the default comes back.
    parts : tuple of str
        Parameters and attributes that may be estimators or hold them; no others may.
    prefixes : tuple of str
        With which names of further parameters begin.
    derived : set of str
        Attributes that are not written, since `unpack` makes them anew.
    pack, unpack : callable or None
        What else there is: ``pack(estimator, trim)`` says it, ``unpack(estimator, state)`` is
        given what it said, or None.
    """

    kind: type
    fitted: dict[str, Callable]
    optional: dict[str, Callable] = {}
    check: Callable = lambda estimator: None
    choices: dict[str, dict[str, Any]] = {}
    droppable: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    derived: frozenset[str] = frozenset()
    pack: Callable | None = None
    unpack: Callable | None = None


_FLOATS, _VECTOR = array_of("f", 1, 2, 3), array_of("f", 1)
_FEATURES = {"n_features_in_": is_count}
_NAMES = {"feature_names_in_": are_texts}
_RANGE = {"input_range_": checks.is_range, "input_dtype_": checks.is_dtype}


def _named(committee, state):
    """What VotingClassifier's fit makes besides."""
    from sklearn.preprocessing import LabelEncoder

    if hasattr(committee, "estimators_"):
        committee.le_ = LabelEncoder().fit(committee.classes_)
        names = [name for name, member in committee.estimators if member != "drop"]
        committee.named_estimators_ = Bunch(**dict(zip(names, committee.estimators_, strict=True)))


def _planned(masked, state):
    """The masks that a certificate against stickers has."""
    if hasattr(masked, "mask_plan_"):
        masked._make_plan()


def _masked(classifier, regressor):
    """Both kinds that are certified against stickers."""
    fitted = {
        "estimator_": lambda value: hasattr(value, "predict"),
        "mask_space_": lambda value: value in ("tokens", "pixels"),
        "mask_values_": array_of("fi", 1),
        "mask_plan_": checks.is_mask_plan,
        "image_shape_": sizes([3]),
        "given_shape_": sizes([1, 2, 3]),
        "grid_": sizes([2]),
        "cell_size_": sizes([2]),
        **_FEATURES,
    }
    for kind, more in ((classifier, {"classes_": are_classes}), (regressor, {})):
        yield Known(
            kind,
            {**fitted, **more},
            {**_NAMES, **_RANGE},
            checks.check_masked,
            parts=("estimator", "estimator_"),
            derived=frozenset(("masks_", "_made_plan", "_decisions")),
            unpack=_planned,
        )


def _refit_encoder(encoder, state):
    """Let scikit-learn make what it derives from the categories."""
    if hasattr(encoder, "categories_"):
        given, found = encoder.categories, encoder.categories_
        names = getattr(encoder, "feature_names_in_", None)
        encoder.categories = found
        encoder.fit(np.stack([categories[:1] for categories in found], axis=1))
        encoder.categories, encoder.categories_ = given, found
        if names is not None:
            encoder.feature_names_in_ = names


_NET = {
    "image_shape_": sizes([3]),
    "n_outputs_": is_count,
    "channel_mean_": _VECTOR,
    "channel_std_": _VECTOR,
    **_FEATURES,
}
_NET_OPTIONS: dict[str, Any] = {
    "optional": {
        "patch_size_": sizes([2]), "micro_batch_size_": maybe(is_count), **_NAMES, **_RANGE,
    },
    "check": checks.check_network,
    "choices": {
        "module": {
            **{
                name: getattr(modules, name)
                for name in ("PatchConvNet", "PatchResNet", "ImageResNet", "AdditivePatchNet")
            },
            "WhiteningConvNet": WhiteningConvNet,
        },
        "criterion": {
            name: getattr(torch.nn, name)
            for name in (
                "CrossEntropyLoss", "NLLLoss", "MultiMarginLoss", "BCEWithLogitsLoss",
                "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss",
            )
        },
        "optimizer": {
            name: getattr(torch.optim, name)
            for name in (
                "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax",
                "NAdam", "RAdam", "RMSprop", "SGD",
            )
        },
        "augment": {"random_affine": random_affine, "random_crop": random_crop},
    },
    "droppable": (
        "augment", "mask_training", "train_split", "callbacks", "iterator_train", "iterator_valid",
        "dataset", "compile", "use_caching", "torch_load_kwargs",
    ),
    "prefixes": ("module__", "criterion__", "optimizer__"),
    "derived": frozenset(
        (
            "module_", "criterion_", "optimizer_", "callbacks_", "history_", "initialized_",
            "virtual_params_", "init_context_", "prefixes_", "cuda_dependent_attributes_",
            "_modules", "_criteria", "_optimizers", "_params_to_validate", "_made_with", "_made_as",
            "_frozen",
        )
    ),
    "pack": net_state,
    "unpack": restore_net,
}  # fmt: skip


@functools.cache
def known_classes():
    """Known by the name of the class."""
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import CategoricalNB
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import (
        MaxAbsScaler,
        MinMaxScaler,
        OneHotEncoder,
        RobustScaler,
        StandardScaler,
    )

    pipelines = [Pipeline, CertifiedPatchClassifier, CertifiedPatchRegressor]
    scaled = {"n_samples_seen_": is_number, **_FEATURES}
    vector = maybe(_VECTOR)
    table = [
        Known(
            PatchVocabulary,
            {
                "vocabulary_": _FLOATS,
                "token_counts_": array_of("iu", 1, 2),
                "patch_size_": sizes([2]),
                "per_channel_": lambda value: value is False or value is True or value == "shared",
                "history_": list_of(lambda value: type(value) in (int, float)),
                "n_iter_": is_count,
            },
            {
                "image_shape_": sizes([3]),
                "sample_shape_": sizes([1, 2, 3]),
                **_FEATURES,
                **_NAMES,
                **_RANGE,
            },
            checks.check_vocabulary,
            {"denoiser": {"denoise": denoise}},
            droppable=("loss", "denoiser", "augment"),
        ),
        Known(
            PatchNetClassifier,
            {**_NET, "classes_inferred_": are_classes},
            **{
                **_NET_OPTIONS,
                "optional": {
                    **_NET_OPTIONS["optional"],
                    "multilabel_": lambda value: value is True,
                },
            },
        ),
        Known(
            PatchNetRegressor,
            {**_NET, "target_mean_": _VECTOR, "target_std_": _VECTOR, "target_ndim_": is_count},
            **_NET_OPTIONS,
        ),
        Known(ImageReader, {}, {}, checks.check_reader),
        Known(
            ChannelStandardizer,
            {"mean_": _VECTOR, "scale_": _VECTOR, "image_shape_": sizes([3]), **_FEATURES},
            {**_NAMES, **_RANGE},
            checks.check_standardizer,
        ),
        *[
            Known(
                kind,
                {},
                {} if kind is Pipeline else _RANGE,
                checks.check_pipeline,
                droppable=("memory",),
                parts=("steps",),
            )
            for kind in pipelines
        ],
        Known(
            CertifiedCommittee,
            {"estimators_": lambda value: isinstance(value, list), "classes_": are_classes},
            _NAMES,
            checks.check_committee,
            parts=("estimators", "estimators_"),
            derived=frozenset(("le_", "named_estimators_")),
            unpack=_named,
        ),
        Known(
            SmoothedClassifier,
            {
                "estimator_": lambda value: hasattr(value, "predict"),
                "classes_": are_classes,
                "seed_": is_count,
            },
            {**_FEATURES, **_RANGE, **_NAMES},
            checks.check_smoothed,
            parts=("estimator", "estimator_"),
        ),
        *_masked(StickerCertifiedClassifier, StickerCertifiedRegressor),
        Known(FrozenEstimator, {}, {}, checks.check_frozen, parts=("estimator",)),
        Known(
            StandardScaler,
            {**scaled, "mean_": vector, "var_": vector, "scale_": vector},
            _NAMES,
            checks.check_scaler,
        ),
        Known(
            MinMaxScaler,
            {
                **scaled,
                **{f"data_{name}_": _VECTOR for name in ("min", "max", "range")},
                "min_": _VECTOR,
                "scale_": _VECTOR,
            },
            _NAMES,
            checks.check_scaler,
        ),
        Known(
            MaxAbsScaler,
            {**scaled, "max_abs_": _VECTOR, "scale_": _VECTOR},
            _NAMES,
            checks.check_scaler,
        ),
        Known(
            RobustScaler,
            {**_FEATURES, "center_": vector, "scale_": vector},
            _NAMES,
            checks.check_scaler,
        ),
        Known(
            OneHotEncoder,
            {"categories_": list_of(array_of("iuf", 1)), **_FEATURES},
            _NAMES,
            checks.check_encoder,
            {"dtype": {"float64": np.float64, "float32": np.float32}},
            derived=frozenset(
                ("drop_idx_", "_drop_idx_after_grouping", "_infrequent_enabled", "_n_features_outs")
            ),
            unpack=_refit_encoder,
        ),
        Known(
            LogisticRegression,
            {
                "coef_": array_of("f", 2),
                "intercept_": _VECTOR,
                "classes_": are_classes,
                "n_iter_": array_of("i", 1),
                **_FEATURES,
            },
            _NAMES,
            checks.check_linear,
        ),
        Known(
            CategoricalNB,
            {
                "category_count_": list_of(array_of("f", 2)),
                "feature_log_prob_": list_of(array_of("f", 2)),
                "class_count_": _VECTOR,
                "class_log_prior_": _VECTOR,
                "n_categories_": array_of("i", 1),
                "classes_": are_classes,
                **_FEATURES,
            },
            _NAMES,
            checks.check_bayes,
        ),
    ]
    return {known.kind.__name__: known for known in table}
