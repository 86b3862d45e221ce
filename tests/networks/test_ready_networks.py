"""Modules that are trained already: predictions without epochs, preprocessing, and radii."""

import pickle

import numpy as np
import pytest
import torch
from pretrained_for_tests import NAMES, Convolutional, Small, X, small, train, y
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
)
from sklearn_patchcert.attacks import as_torch_module, run_attack
from sklearn_patchcert.networks import Preprocessed
from sklearn_patchcert.networks.modules import PatchConvNet


@pytest.fixture(scope="module")
def trained():
    return train()


# ------------------------------------------------------------------------------ ready without fit


@pytest.mark.parametrize("options", [{"max_epochs": 0}, {"trainable": "none"}])
@pytest.mark.parametrize("kind", [PatchNetClassifier, PatchNetRegressor])
@pytest.mark.parametrize("module", [PatchConvNet, None])
def test_no_epochs_fit_and_predict(trained, options, kind, module):
    target = y if kind is PatchNetClassifier else np.eye(10)[y]
    net = kind(module or trained, random_state=0, **options).fit(X, target)
    assert net.predict(X).shape == target.shape
    if kind is PatchNetClassifier:
        assert net.classes_.tolist() == list(range(10))
        assert module or net.score(X, y) > 0.8


@pytest.mark.parametrize("head", ["linear", "convolution"])
@pytest.mark.parametrize("dtype", ["U", "O", "i"])
def test_every_output_keeps_its_label(trained, dtype, head):
    module = (
        trained
        if head == "linear"
        else small(Convolutional, max_epochs=15, lr=0.05).fit(X, y).module_
    )
    labels = np.array([3, 1, 4, 15, 9, 2, 6, 5, 35, 8]) if dtype == "i" else NAMES.astype(dtype)
    with torch.no_grad():
        expected = module.eval()(torch.as_tensor(X)[:, None])
    net = PatchNetClassifier.from_pretrained(module, labels, image_shape=(8, 8))
    assert net.classes_.tolist() == sorted(labels.tolist())
    np.testing.assert_array_equal(net.predict(X), labels[expected.argmax(1)])
    chances = net.predict_proba(X)[:, np.searchsorted(net.classes_, labels)]
    np.testing.assert_allclose(chances, expected.softmax(1), atol=1e-5)
    for again in (clone(net).fit(X, labels[y]), pickle.loads(pickle.dumps(net))):
        np.testing.assert_allclose(again.predict_proba(X), net.predict_proba(X), atol=1e-6)


class Backwards(nn.Module):
    """Returns the outputs of its last layer in another order."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(64, 10)

    def forward(self, images):
        return self.last(images.flatten(1)).flip(1)


def test_outputs_that_cannot_be_ordered_are_refused():
    sorted_ones = PatchNetClassifier.from_pretrained(Backwards(), range(10), image_shape=(8, 8))
    assert sorted_ones.predict(X).shape == (120,)
    with pytest.raises(ValueError, match="order of sorted classes"):
        PatchNetClassifier.from_pretrained(Backwards(), NAMES, image_shape=(8, 8))


@pytest.mark.parametrize(
    ("classes", "shape", "words"),
    [(NAMES[:3], (8, 8), "but the option classes has 3 classes: its last layer, 'he"),
     (["a"] * 10, (8, 8), "'a' more than once"), (None, (8,), "image_shape")],
)  # fmt: skip
def test_what_does_not_fit_a_pretrained_module_is_refused(trained, classes, shape, words):
    with pytest.raises(ValueError, match=words):
        PatchNetClassifier.from_pretrained(trained, classes, image_shape=shape)
    with pytest.raises(ValueError, match="Pass classes, or an instance"):
        PatchNetClassifier.from_pretrained(Small, image_shape=(8, 8))


def test_a_pretrained_network_warns_of_another_scale(trained):
    net = PatchNetClassifier.from_pretrained(trained, image_shape=(8, 8))
    with pytest.warns(UserWarning, match="values from 0 to 255, but this PatchNetClassifier"):
        net.predict(X * 255)
    anything = PatchNetClassifier.from_pretrained(trained, image_shape=(8, 8), input_range=None)
    anything.predict(X * 255)


def test_a_pretrained_regressor_predicts_what_its_module_computes(trained):
    net = PatchNetRegressor.from_pretrained(trained, image_shape=(8, 8))
    with torch.no_grad():
        expected = trained.eval()(torch.as_tensor(X)[:, None])
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-5, atol=1e-5)


# ----------------------------------------------------------------------------- behind a vocabulary


@pytest.mark.parametrize("wrap", [lambda net: net, FrozenEstimator, clone,
                                  lambda net: make_pipeline(FrozenEstimator(net))],
                         ids=["itself", "frozen", "clone", "pipeline"])  # fmt: skip
def test_a_pipeline_trains_only_the_vocabulary_and_everything_works(trained, wrap):
    net = PatchNetClassifier.from_pretrained(trained, NAMES, image_shape=(8, 8))
    vocabulary = PatchVocabulary(16, 2, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", wrap(net))]).fit(X, NAMES[y])
    some, labels = X[:4], NAMES[y[:4]]
    expected = net.predict(model[:-1].transform(X))
    np.testing.assert_array_equal(model.predict(X), expected)
    found = model.certify_prediction(some, max_configurations=20)
    assert (found.radius >= 0).all()
    assert found.radius.max() > 0
    logits = model.as_torch_module()(torch.as_tensor(some)[:, None])
    np.testing.assert_array_equal(net.classes_[logits.argmax(1)], expected[:4])
    attacked = run_attack(model, some, labels, eps=0.3, steps=2)
    assert attacked.adversarial.shape == some.shape
    assert as_torch_module(net)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_a_frozen_network_needs_no_labels(trained):
    net = PatchNetClassifier.from_pretrained(trained, image_shape=(8, 8))
    vocabulary = PatchVocabulary(16, 2, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", FrozenEstimator(net))]).fit(X)
    assert model.score(X, y) > 0.5


# ---------------------------------------------------------------------------------- preprocessing


def test_preprocessing_is_what_torchvision_does_with_tensors():
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    images = torch.rand(3, 3, 9, 12)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for way in ("bilinear", "bicubic", "nearest"):
        made = Preprocessed(nn.Identity(), mean, std, (6, 5), way)(images)
        resized = functional.resize(
            images, [6, 5], functional.InterpolationMode(way), antialias=True
        )
        expected = functional.normalize(resized, mean, std)
        torch.testing.assert_close(made, expected)
    plain = Preprocessed(nn.Identity())(images)
    torch.testing.assert_close(plain, images)


@pytest.mark.parametrize("way", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_images_are_resized_in_every_precision(dtype, way):
    """Torch resizes no half precision on the CPU, in which autocast hands images on."""
    images = torch.rand(2, 3, 8, 8).to(dtype)
    made = Preprocessed(nn.Identity(), size=16, interpolation=way).to(dtype)(images)
    assert made.dtype == dtype
    expected = Preprocessed(nn.Identity(), size=16, interpolation=way)(images.float())
    torch.testing.assert_close(made.float(), expected, atol=0.01, rtol=0.01)


def test_a_network_behind_a_layer_of_its_own_trains_in_bfloat16(trained):
    module = nn.Sequential(nn.Conv2d(1, 1, 1), Preprocessed(trained, size=8))
    large = np.repeat(np.repeat(X, 2, axis=1), 2, axis=2)
    net = PatchNetClassifier(module, autocast=True, max_epochs=1, random_state=0).fit(large, y)
    assert np.isfinite(net.loss_curve_).all()


def test_a_gray_image_becomes_one_of_equal_channels():
    mean, std = [0.1, 0.2, 0.3], [1, 2, 4]
    made = Preprocessed(nn.Identity(), mean, std)(torch.full((2, 1, 4, 4), 0.5))
    assert made.shape == (2, 3, 4, 4)
    np.testing.assert_allclose(made[0, :, 0, 0], [0.4, 0.15, 0.05], atol=1e-7)
    with pytest.raises(ValueError, match="2 channels, but mean and std are those of 3"):
        Preprocessed(nn.Identity(), mean, std)(torch.zeros(1, 2, 4, 4))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"std": [0, 1]}, "std must be positive"), ({"mean": [np.nan]}, "mean must be finite"),
     ({"mean": [1, 2], "std": [1, 2, 3]}, "different lengths"), ({"size": 0}, "size"),
     ({"size": (1, 2, 3)}, "size"), ({"interpolation": "box"}, "interpolation")],
)  # fmt: skip
def test_preprocessing_that_means_nothing_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Preprocessed(nn.Identity(), **options)


def test_radii_and_attacks_stay_in_the_pixels_of_x(trained):
    """Images of 0 to 255 and twice the size, and a network of images of 0 to 1."""
    large = np.repeat(np.repeat(X, 2, axis=1), 2, axis=2) * np.float32(255)
    module = Preprocessed(trained, mean=[0.0], std=[255.0], size=8)
    net = PatchNetClassifier.from_pretrained(module, image_shape=(16, 16), input_range=(0, 255))
    assert net.score(large, y) > 0.8
    vocabulary = PatchVocabulary(16, 4, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", FrozenEstimator(net))])
    radii = model.fit(large, y).certify_prediction(large[:3], max_configurations=20).radius
    small_net = PatchNetClassifier.from_pretrained(
        Preprocessed(trained, size=8), image_shape=(16, 16)
    )
    tokens = PatchVocabulary.from_tokens(model[0].vocabulary_ / 255, patch_size=4)
    same = CertifiedPatchClassifier(
        [("vocab", FrozenEstimator(tokens)), ("clf", FrozenEstimator(small_net))]
    ).fit(large / 255, y)
    found = same.certify_prediction(large[:3] / 255, max_configurations=20).radius
    np.testing.assert_allclose(radii, found * 255, rtol=1e-3)
