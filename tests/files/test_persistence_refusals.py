"""What a safe file cannot hold, and that nothing is written then."""

import functools
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    OneHotEncoder,
)
from sklearn.svm import SVC

from sklearn_patchcert import ModelFileError, PatchNetClassifier, PatchVocabulary, load, save
from sklearn_patchcert.networks.modules import PatchResNet


class OwnNet(torch.nn.Linear):
    def __init__(self, image_shape, n_outputs):
        super().__init__(image_shape[1], n_outputs)

    def forward(self, images):
        return super().forward(images.mean((1, 2)))


class OwnVocabulary(PatchVocabulary):
    pass


class Impostor(PatchVocabulary):
    pass


Impostor.__name__ = "PatchVocabulary"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Ridge(), "is a Ridge, and safe files hold only PatchVocabulary"),
        (OwnVocabulary(), "is a OwnVocabulary"),
        (Impostor(), "is a Impostor"),
        (make_pipeline(PatchVocabulary(), Ridge()), r"steps\[1\]\[1\] is a Ridge"),
        (
            GridSearchCV(PatchVocabulary(), {}),
            r"is a GridSearchCV.*Fit the search.*best_estimator_",
        ),
        (PatchNetClassifier(functools.partial(PatchResNet, depth=1)), "module is functools"),
        (PatchNetClassifier(criterion=OwnNet), "criterion is .*OwnNet"),
        (PatchNetClassifier(optimizer=torch.optim.LBFGS), "optimizer is .*LBFGS"),
        (PatchNetClassifier(predict_nonlinearity=torch.exp), "predict_nonlinearity is"),
        (PatchVocabulary(random_state=np.random.RandomState(0)), "random_state is RandomState"),
        (PatchVocabulary(n_tokens={1, 2}), "n_tokens is {1, 2}"),
        (OneHotEncoder(dtype=int), "dtype is .*int.*hold only float64, float32"),
        ("no model", "is a str"),
        (PatchVocabulary, "is a type"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(model, says, tmp_path):
    with pytest.raises(TypeError, match=says):
        save(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_error_is_a_value_error():
    assert issubclass(ModelFileError, ValueError)


X, Y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 0, 1, 0, 1])
JOBLIB = "loading such a file can run arbitrary code"
WAYS_OUT = {
    "forest": (RandomForestClassifier(2), ["skops.io.dump", "CertifiedPatchClassifier", JOBLIB]),
    "boosting": (HistGradientBoostingClassifier(max_iter=1), ["skops.io.dump", JOBLIB]),
    "support vectors": (SVC(), ["skops.io.dump", JOBLIB]),
    "search": (
        GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2),
        ["save(search.best_estimator_, path)"],
    ),
    "own": (
        OwnVocabulary(2, image_shape=(1, 2), patch_size=1, strategy="kmeans"),
        ["Save the parts", JOBLIB],
    ),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", WAYS_OUT)
def test_the_error_names_a_way_out(name, nested, tmp_path):
    model, ways = WAYS_OUT[name]
    model = clone(model).fit(X, Y)
    with pytest.raises(TypeError) as caught:
        save(make_pipeline(FrozenEstimator(model)) if nested else model, tmp_path / "model")
    for way in ways:
        assert way in str(caught.value)
    assert ("pip install skops" in str(caught.value)) <= (find_spec("skops") is None)


def test_what_a_search_has_found_is_saved_as_the_error_says(tmp_path):
    search = GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2).fit(X, Y)
    save(search.best_estimator_, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(X), search.predict(X))
