"""export_network: a program that answers what the model's network answers, for any batch."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from torch import nn

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
)
from sklearn_patchcert.files import export_network
from sklearn_patchcert.networks import ImageResNet, PatchResNet, Preprocessed


class Branching(nn.Linear):
    def forward(self, images):
        if images.sum() > 0:
            return super().forward(images.flatten(1))
        return super().forward(-images.flatten(1))


def answers(path, X):
    return torch.export.load(path).module()(torch.as_tensor(X).reshape(-1, 1, 8, 8)).detach()


@pytest.mark.parametrize("module", ["default", PatchResNet, ImageResNet, "own"])
def test_the_program_answers_what_the_model_answers(digits, tmp_path, module):
    X, y = digits[0][:120].astype(np.float32), digits[1][:120]
    net = PatchNetClassifier(max_epochs=1, random_state=0)
    if module == "own":
        own = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 10))
        net.set_params(module=Preprocessed(own, mean=[8.0], std=[4.0]))
    elif module != "default":
        net.set_params(module=module)
    vocabulary = PatchVocabulary(8, 2, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(X, y)
    before = {name: value.clone() for name, value in net.module_.state_dict().items()}
    export_network(model, tmp_path / "net.pt2")
    made = vocabulary.transform(X)
    found = answers(tmp_path / "net.pt2", made)
    np.testing.assert_allclose(found.softmax(1), model.predict_proba(X), atol=1e-4)
    assert all(bool((before[n] == v).all()) for n, v in net.module_.state_dict().items())
    np.testing.assert_array_equal(model.classes_[found.argmax(1)], model.predict(X))


def test_regressors_and_frozen_networks(digits, tmp_path):
    X, y = digits[0][:60].astype(np.float32), digits[1][:60]
    net = PatchNetRegressor(max_epochs=1, random_state=0).fit(X, y)
    for model in (net, FrozenEstimator(net)):
        export_network(model, tmp_path / "net.pt2")
        found = answers(tmp_path / "net.pt2", X).numpy() * net.target_std_ + net.target_mean_
        np.testing.assert_allclose(found[:, 0], net.predict(X), rtol=1e-4)


def test_what_cannot_be_exported_is_refused_and_leaves_no_file(digits, tmp_path):
    X, y = digits[0][:60].astype(np.float32), digits[1][:60]
    vocabulary = PatchVocabulary(8, 2, strategy="kmeans", random_state=0)
    linear = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", LogisticRegression())])
    with pytest.raises(TypeError, match="LogisticRegression"):
        export_network(linear.fit(X, y), tmp_path / "net.pt2")
    branching = PatchNetClassifier(Branching(64, 10), max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="Branching"):
        export_network(branching, tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())
