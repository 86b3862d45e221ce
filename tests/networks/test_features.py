"""TorchFeatures: the same features in any batch, in any layout, cached, and never trained."""

import pickle

import joblib
import numpy as np
import pytest
import torch
from nets_for_tests import Bare
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary, TorchFeatures, certify
from sklearn_patchcert.networks import Preprocessed

DIGITS = load_digits()
X, y = (DIGITS.images[:150] / 16).astype(np.float32), DIGITS.target[:150]
CALLS = []


class Backbone(nn.Module):
    """Random features, and what training would change: dropout and batch statistics."""

    def __init__(self, seed=0):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.pool, self.drop = nn.MaxPool2d(2), nn.Dropout(0.5)
        self.head = nn.Linear(128, 10)
        with torch.no_grad():
            for value in self.parameters():
                value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(seed)))

    def forward(self, images):
        CALLS.append(len(images))
        return self.head(self.drop(self.pool(self.norm(self.first(images)).relu())).flatten(1))


@pytest.fixture(scope="module")
def backbone():
    return Backbone()


@pytest.mark.parametrize(("layer", "size"), [(None, 10), ("pool", 128), ("first", 512)])
def test_features_are_what_the_part_computes(backbone, layer, size):
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    features = TorchFeatures(backbone, layer=layer, batch_size=40)
    found = features.fit_transform(X)
    assert found.shape == (150, size)
    assert found.dtype == np.float32
    assert features.get_feature_names_out().shape == (size,)
    images = torch.as_tensor(X)[:, None]
    with torch.no_grad():
        expected = images
        for part in {"first": "first", "pool": "first norm relu pool"}.get(layer, "all").split():
            if part == "all":
                model = clone(features).module.eval()
                expected = model(images)
            elif part == "relu":
                expected = expected.relu()
            else:
                expected = getattr(clone(features).module.eval(), part)(expected)
    np.testing.assert_allclose(found, expected.flatten(1), rtol=1e-4, atol=1e-4)
    assert backbone.training
    assert all(torch.equal(before[name], v) for name, v in backbone.state_dict().items())
    assert all(value.requires_grad for value in backbone.parameters())


def test_batches_layouts_and_pickles_change_nothing(backbone):
    reference = TorchFeatures(backbone, layer="pool").fit(X)
    expected = reference.transform(X)
    for size in (1, 7, 1000):
        found = TorchFeatures(backbone, layer="pool", batch_size=size).fit_transform(X)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    rows = TorchFeatures(backbone, layer="pool", image_shape=(8, 8)).fit(X.reshape(150, -1))
    np.testing.assert_array_equal(rows.transform(X), expected)
    np.testing.assert_array_equal(reference.transform(X[..., None]), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reference)).transform(X), expected)
    np.testing.assert_array_equal(reference.transform(X), expected)


def test_a_class_gives_the_same_features_twice():
    first, second = (TorchFeatures(Bare).fit_transform(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, TorchFeatures(Bare, random_state=1).fit_transform(X))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"layer": "nothing"}, "no part 'nothing'; its parts are first, norm, pool"),
     ({"batch_size": 0}, "batch_size"), ({"device": "abacus"}, "abacus")],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(backbone, options, words):
    features = TorchFeatures(backbone, **options)
    with pytest.raises(ValueError, match=words):
        features.fit(X)
    assert not hasattr(features, "module_")


def test_a_name_without_what_wraps_the_network_is_answered_by_the_whole_name(backbone):
    with pytest.raises(ValueError, match=r"no part 'pool'; it has module\.pool"):
        TorchFeatures(Preprocessed(backbone), layer="pool").fit(X)


def test_features_that_are_no_numbers_are_refused():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    nn.init.constant_(module[1].weight, torch.inf)
    with pytest.raises(ValueError, match="features are not finite"):
        TorchFeatures(module).fit_transform(X)


def test_equal_modules_have_equal_hashes_and_others_have_not(backbone):
    features = TorchFeatures(backbone)
    assert joblib.hash(features) == joblib.hash(clone(features))
    assert joblib.hash(features) != joblib.hash(TorchFeatures(Backbone(seed=1)))


def test_a_search_with_memory_computes_features_once_per_fold(backbone, tmp_path):
    steps = make_pipeline(
        PatchVocabulary(8, 2, strategy="kmeans", random_state=0),
        TorchFeatures(backbone, layer="pool", batch_size=1000),
        LogisticRegression(max_iter=200),
        memory=str(tmp_path),
    )
    counts = []
    for costs in ([1.0], [1.0, 0.1, 0.01]):
        CALLS.clear()
        GridSearchCV(steps, {"logisticregression__C": costs}, cv=2, refit=False).fit(X, y)
        counts.append([size for size in CALLS if size == 75])  # of training and of test halves
    assert len(counts[0]) == 4
    assert len(counts[1]) == 6  # of test halves only


@pytest.mark.parametrize(
    "last", [LogisticRegression(C=0.01, max_iter=2000), HistGradientBoostingClassifier(max_iter=3)]
)
def test_tokens_features_and_any_classifier_are_certified(backbone, last):
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier(
        [("vocab", vocabulary), ("features", TorchFeatures(backbone, layer="pool")), ("clf", last)]
    ).fit(X, y)
    assert model.score(X, y) > 0.5
    found = model.certify_prediction(X[:3], max_configurations=10)
    np.testing.assert_array_equal(found.prediction, model.predict(X[:3]))
    assert found.radius.max() > 0
    np.testing.assert_array_equal(certify(model, X[:3]), model.certify(X[:3]))


def test_progress_is_shown_only_if_asked_for(backbone, capsys):
    TorchFeatures(backbone).fit_transform(X)
    assert capsys.readouterr() == ("", "")
    TorchFeatures(backbone, verbose=True).fit_transform(X)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "TorchFeatures" in shown.err
    assert "150/150" in shown.err
