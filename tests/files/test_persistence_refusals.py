"""What a safe file cannot hold, and that nothing is written then."""

import functools

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    OneHotEncoder,
)

from sklearn_patchcert import ModelFileError, PatchNetClassifier, PatchVocabulary, save
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
        (GridSearchCV(PatchVocabulary(), {}), "is a GridSearchCV.*of a search its best_estimator_"),
        (PatchNetClassifier(OwnNet), "module is .*OwnNet.*hold only PatchConvNet"),
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
