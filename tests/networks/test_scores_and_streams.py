"""Scores of skorch's callbacks, curves, streams of batches, and transforms of torchvision."""

import numpy as np
import pytest
import skorch.callbacks
import torch
from nets_for_tests import make, same_weights
from sklearn.metrics import accuracy_score, f1_score, make_scorer
from skorch.callbacks import BatchScoring, EpochScoring
from skorch.dataset import ValidSplit
from torch.utils.data import DataLoader, TensorDataset

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
    load,
    save,
)

SPLIT = ValidSplit(3)
FIRST = "features.0.weight"


@pytest.fixture(scope="module")
def some(digits):
    X, y = digits
    return X[:90], np.array(list("abcdefghij"))[y[:90]]


# ---------------------------------------------------------------------------- scores


def as_given(net, X, y):
    """Is only right for images and labels as `fit` was given them."""
    assert X.shape[1:] == (8, 8, 1)
    assert set(y) <= set("abcdefghij")
    return accuracy_score(y, net.predict(X))


def is_b(net, X, y):
    return f1_score(y, net.predict(X), average="macro", labels=["b", "c"], zero_division=0.0)


@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize("on_train", [True, False])
@pytest.mark.parametrize("kind", [EpochScoring, BatchScoring])
@pytest.mark.parametrize("split", [SPLIT, None], ids=["split", "all"])
def test_scores_compare_the_labels_of_the_user(some, kind, use_caching, on_train, split):
    scorings = ["accuracy", None, as_given, is_b, make_scorer(accuracy_score), "neg_log_loss"]
    if kind is BatchScoring:
        scorings = scorings[:4]  # a batch may lack classes
    callbacks = [
        kind(
            scoring, name=f"s{at}", use_caching=use_caching, on_train=on_train, lower_is_better=None
        )
        for at, scoring in enumerate(scorings)
    ]
    options = {"max_epochs": 3, "lr": 0.01, "batch_size": 15, "train_split": split}
    net = make(callbacks=callbacks, **options).fit(*some)
    assert same_weights(net, make(**options).fit(*some))  # scores change nothing
    found = net.history_[-1]
    if split is None and not on_train:
        assert "s0" not in found
        return
    assert found["s0"] == found["s1"] == found["s2"]
    assert found["s0"] > 0.15
    if not on_train and kind is EpochScoring:  # the last of them is about the network as it is
        _, held_out = SPLIT(skorch.dataset.Dataset(some[0], some[1]), some[1])
        X, y = some[0][held_out.indices], some[1][held_out.indices]
        assert found["s0"] == net.score(X, y) == net.validation_scores_[-1]


@pytest.mark.parametrize("options", [{}, {"noise_std": 1.0}], ids=["tokens", "disturbed"])
@pytest.mark.parametrize("use_caching", [True, False])
def test_scores_are_about_images_made_of_tokens(some, options, use_caching):
    score = EpochScoring("neg_log_loss", name="s", use_caching=use_caching)
    net = make(train_split=SPLIT, callbacks=[score], **options)
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(*some)
    net = model[-1]
    _, held_out = SPLIT(skorch.dataset.Dataset(some[0], some[1]), some[1])
    at = held_out.indices
    by_hand = np.log(model.predict_proba(some[0][at]))[
        np.arange(len(at)), np.searchsorted(model.classes_, some[1][at])
    ].mean()
    np.testing.assert_allclose(net.history_[-1]["s"], by_hand, rtol=1e-4)
    np.testing.assert_allclose(net.history_[-1]["valid_loss"], -by_hand, rtol=1e-4)


def test_scores_in_bfloat16_and_of_a_regressor(some):
    score = EpochScoring("accuracy", name="s", on_train=True)
    assert "s" in make(autocast=True, callbacks=[score]).fit(*some).history_[-1]
    error = EpochScoring("neg_mean_absolute_error", name="s")
    y = 1000 + some[0].mean(1)
    net = make(PatchNetRegressor, train_split=SPLIT, callbacks=[error], max_epochs=2).fit(
        some[0], y
    )
    assert -5 < net.history_[-1]["s"] < 0  # in the units of y, and near to it
    assert len(net.validation_scores_) == 2


# ---------------------------------------------------------------------------- curves


def test_curves_as_in_scikit_learn(some, tmp_path):
    net = make(max_epochs=2)
    for name in ("loss_curve_", "validation_scores_"):
        assert not hasattr(net, name)
    net.fit(*some)
    assert net.loss_curve_ == list(net.history_[:, "train_loss"])
    assert net.validation_scores_ is None
    net.set_params(train_split=SPLIT).fit(*some)
    assert len(net.loss_curve_) == len(net.validation_scores_) == 2
    assert all(type(value) is float for value in net.loss_curve_ + net.validation_scores_)
    with pytest.warns(UserWarning, match="train_split"):
        save(net, tmp_path / "net.patchcert")
    again = load(tmp_path / "net.patchcert")
    assert again.loss_curve_ == net.loss_curve_
    assert again.validation_scores_ == net.validation_scores_


# ---------------------------------------------------------------------------- streams


def streams(X, y):
    images = torch.tensor(X.reshape(-1, 1, 8, 8), dtype=torch.float32)
    dataset = TensorDataset(images, torch.as_tensor(y))
    yield DataLoader(dataset, batch_size=45)
    yield dataset
    yield iter([(X, y)])
    yield skorch.dataset.Dataset(X, y)


@pytest.mark.parametrize("kind", [PatchNetClassifier, PatchNetRegressor])
def test_streams_are_refused_with_what_to_do_and_that_works(some, kind):
    X, y = some[0], np.arange(90) % 3
    for given in streams(X, y):
        net = make(kind)
        for call in (net.fit, net.partial_fit):
            for labels in ((), (y,), (None,)):
                with pytest.raises(TypeError, match=rf"{type(given).__name__}.*net\.partial_fit"):
                    call(given, *labels)
    net = make(kind, max_epochs=1, lr_schedule=None)
    classes = {"classes": [0, 1, 2]} if kind is PatchNetClassifier else {}
    for images, labels in next(streams(X, y)):
        net.partial_fit(np.moveaxis(np.asarray(images), 1, -1), labels, **classes)
    assert len(net.loss_curve_) == 2
    assert net.predict(X).shape == (90,)


# ---------------------------------------------------------------------------- torchvision


def transforms():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    crop = v2.RandomCrop(8, padding=1)
    return {
        "flip": v2.RandomHorizontalFlip(),
        "crop": crop,
        "color": v2.ColorJitter(brightness=0.5),
        "compose": v2.Compose([crop, v2.RandomHorizontalFlip(), v2.GaussianBlur(3)]),
        "sequential": torch.nn.Sequential(crop, v2.RandomVerticalFlip()),
        "doubles": v2.Compose([v2.ToDtype(torch.float64), v2.RandomHorizontalFlip()]),
        "resize": v2.Resize(6),
        "smaller": v2.RandomCrop(7),
        "integers": v2.ToDtype(torch.uint8),
    }


@pytest.mark.parametrize("name", ["flip", "crop", "color", "compose", "sequential", "doubles"])
def test_transforms_of_torchvision_augment(some, name):
    X, y = some[0] / 16, some[1]
    augment = transforms()[name]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = (make(augment=augment).fit(X, y) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same_weights(first, second)
    assert not same_weights(first, make().fit(X, y))
    assert not same_weights(first, make(augment=augment, random_state=1).fit(X, y))


def test_transforms_of_torchvision_draw_for_each_image():
    from sklearn_patchcert.networks.fitting.flip_training import disturbed_images

    images = torch.arange(8.0).expand(64, 1, 8, 8)
    torch.manual_seed(0)
    flipped = (disturbed_images(images, transforms()["flip"])[:, 0, 0, 0] == 7).sum()
    assert 10 < flipped < 54


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("name", ["resize", "smaller", "integers", "nothing"])
def test_what_augment_may_not_return_is_refused(some, name, tokens):
    augment = (lambda images: None) if name == "nothing" else transforms()[name]
    model = make(augment=augment)
    if tokens:
        vocabulary = PatchVocabulary(4, 4, strategy="kmeans", random_state=0)
        model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", model)])
    with pytest.raises(ValueError, match=r"augment (changed images of shape|must return)"):
        model.fit(*some)
