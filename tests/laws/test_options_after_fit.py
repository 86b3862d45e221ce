"""An option that is set to nonsense after the fit is refused by name, and nothing is computed."""

import copy

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.utils._param_validation import InvalidParameterError

from sklearn_patchcert import (
    PatchNetClassifier,
    PatchVocabulary,
    SmoothedClassifier,
    StickerCertifiedClassifier,
    StickerCertifiedRegressor,
)

MAKE = {
    "smoothing": lambda: SmoothedClassifier(
        FrozenEstimator(RidgeClassifier()), sigma=1.0, n=20, n0=5, random_state=0
    ),
    "stickers": lambda: StickerCertifiedClassifier(RidgeClassifier(), sticker_size=1),
    "stickers of values": lambda: StickerCertifiedRegressor(Ridge(), sticker_size=1, n_masks=2),
}
NONSENSE = {
    "batch_size": (0, -5, 2.5, None),
    "n_jobs": (1.5,),
    "n": (0, -3),
    "n0": (0,),
    "sigma": (0.0, -1.0),
    "alpha": (0.0, 1.0, 2.0, -1.0),
    "verbose": ("much",),
}


@pytest.fixture(scope="module")
def fitted(few):
    X, y = few
    RidgeClassifier().fit(X, y)
    made = {}
    for name, make in MAKE.items():
        model = make()
        if name == "smoothing":
            model.estimator.estimator.fit(X, y)
        made[name] = model.fit(X, y)
    return made


CASES = [
    (name, option, value)
    for name, make in MAKE.items()
    for option, values in NONSENSE.items()
    if option in make().get_params(deep=False)
    for value in values
]


@pytest.mark.parametrize(("name", "option", "value"), CASES)
def test_nonsense_is_refused_by_name_and_leaves_the_model_as_it_was(
    fitted, few, name, option, value
):
    model, X = fitted[name], few[0][:3]
    before, good = model.predict(X), getattr(model, option)
    try:
        model.set_params(**{option: value})
        for method in (model.predict, model.certify):
            with pytest.raises(InvalidParameterError, match=f"'{option}'"):
                method(X)
    finally:
        model.set_params(**{option: good})
    np.testing.assert_array_equal(model.predict(X), before)


OF_VOCABULARIES = [
    ("output", "id", ("transform",)),
    ("output", None, ("transform",)),
    ("n_jobs", 1.5, ("transform", "tokenize", "certify")),
    ("device", "gpu", ("transform", "tokenize", "certify")),
    ("verbose", "much", ("transform", "tokenize", "certify")),
]


@pytest.mark.parametrize(("option", "value", "methods"), OF_VOCABULARIES)
def test_the_same_of_vocabularies(few, option, value, methods):
    vocabulary = PatchVocabulary(4, strategy="kmeans", random_state=0).fit(few[0])
    vocabulary.set_params(**{option: value})
    for method in methods:
        with pytest.raises(ValueError, match=option):
            getattr(vocabulary, method)(few[0][:3])


OF_NETWORKS = [
    ("batch_size", 0), ("batch_size", -5), ("batch_size", 2.5),
    ("iterator_valid__batch_size", 0),
    ("working_memory", -1), ("micro_batch_size", 0), ("device", "gpu"),
]  # fmt: skip


def test_the_same_of_networks(few):
    net = PatchNetClassifier(max_epochs=1, random_state=0, module__width=2).fit(*few)

    def used(option, value, method):
        other = copy.deepcopy(net).set_params(**{option: value})
        getattr(other, method)(few[0][:3])

    for option, value in OF_NETWORKS:
        for method in ("predict", "predict_proba"):
            with pytest.raises(ValueError, match=option):
                used(option, value, method)
