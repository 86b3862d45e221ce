"""Training that cannot end well stops with an error that says why, and leaves nothing behind."""

import warnings

import numpy as np
import pytest
import torch
from nets_for_tests import KINDS, Orders, make, same_weights, weights
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import FunctionTransformer
from skorch.dataset import ValidSplit
from torch import nn
from torch.utils.data import DataLoader

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
)

# ---------------------------------------------------------------------------- numbers of outputs


class Outputs(nn.Module):
    """As many outputs as it is told, of random images in training and of none in evaluation."""

    def __init__(self, outputs=10, shape=(), several=False):
        super().__init__()
        self.norm, self.last = nn.BatchNorm2d(1), nn.Linear(64, outputs)
        self.shape, self.several = shape, several

    def forward(self, images):
        made = self.last(self.norm(images).flatten(1))
        made = made.reshape(len(made), *self.shape) if self.shape else made
        return (made, made[:, :1]) if self.several else made


def target_of(kind, few, wanted):
    return few[1] % wanted if kind is PatchNetClassifier else few[0][:, 20 : 20 + wanted]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("outputs", "wanted"), [(20, 10), (3, 10), (1, 2), (11, 10), (2, 3)])
@pytest.mark.parametrize("several", [False, True])
def test_another_number_of_outputs_is_refused_with_both_numbers(
    few, kind, outputs, wanted, several
):
    seen = Orders()
    for name in ("fit", "partial_fit"):
        for options in ({}, {"noise_std": 1.0}):
            net = make(kind, module=Outputs, module__outputs=outputs, module__several=several,
                       callbacks=[seen], **options)  # fmt: skip
            with pytest.raises(ValueError, match=rf"\b{outputs}\b.*\b{wanted}\b"):
                getattr(net, name)(few[0], target_of(kind, few, wanted))
            assert not net.initialized_
            assert not hasattr(net, "module_")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (-1, 5, 1)])
def test_outputs_that_are_not_one_row_an_image_are_refused(few, kind, shape):
    net = make(kind, module=Outputs, module__outputs=5, module__shape=shape)
    with pytest.raises(ValueError, match=r"\(n, 5\)"):
        net.fit(few[0], target_of(kind, few, 5))


def test_one_value_of_a_regressor_is_not_spread_over_the_batch(few):
    def squeezed():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))

    net = make(PatchNetRegressor, module=squeezed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch only warns
        with pytest.raises(ValueError, match=r"\(n, 1\)"):
            net.fit(few[0], few[0].mean(1))


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_single_class_is_content_with_one_output_or_two(few, outputs):
    net = make(module=Outputs, module__outputs=outputs).fit(few[0], np.zeros(150))
    np.testing.assert_array_equal(net.predict_proba(few[0]), np.ones((150, 1)))


class Uneasy(Outputs):
    """Draws from the generator in every pass, and counts passes where batch statistics change."""

    def forward(self, images):
        return super().forward(images) + 0 * torch.rand(())


def test_the_look_at_the_outputs_changes_nothing(few, monkeypatch):
    looked = make(module=Uneasy, max_epochs=2).fit(*few)
    from sklearn_patchcert.networks import base

    monkeypatch.setattr(base, "check_outputs", lambda *args: None)
    assert same_weights(looked, make(module=Uneasy, max_epochs=2).fit(*few))


# ---------------------------------------------------------------------------- one image left over


@pytest.mark.parametrize("split", [None, ValidSplit(5)], ids=["all", "split"])
@pytest.mark.parametrize(("n", "batch_size"), [(33, 2), (34, 2), (3, 2), (33, 32), (32, 2)])
def test_every_image_is_trained_on_with_batch_norm(few, n, batch_size, split):
    net = make(module=Outputs, module__outputs=2, batch_size=batch_size, callbacks=[Orders()])
    if split is not None and n < 10:
        pytest.skip("too few to hold some out")
    net.set_params(train_split=split).fit(few[0][:n], np.arange(n) % 2)
    sizes = np.array(net.history_[0, "batches", :, "train_batch_size"], dtype=object)
    sizes = [size for size in sizes if isinstance(size, int)]
    assert min(sizes) > 1
    assert sum(sizes) == (n if split is None else sum(sizes))
    assert max(sizes) <= max(batch_size, 3)


@pytest.mark.parametrize(
    ("n", "options"),
    [
        (33, {"batch_size": 1}),
        (1, {}),
        (33, {"batch_size": 2, "iterator_train": DataLoader}),
        (33, {"iterator_train__batch_size": 1}),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_batch_norm_on_one_image_says_what_to_do(few, kind, n, options):
    X = few[0][:n, :1]

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.last = nn.BatchNorm1d(1), nn.Linear(1, 2)

        def forward(self, images):
            return self.last(self.norm(images.flatten(1)))

    y = np.arange(n) % 2 if kind is PatchNetClassifier else np.zeros((n, 2))
    net = make(kind, module=Norm, **options)
    with pytest.raises(ValueError, match=r"one image.*batch_size"):
        net.fit(X + np.arange(n)[:, None], y)
    assert not net.initialized_


# ---------------------------------------------------------------------------- what is not finite


class Large(nn.Sequential):
    """Has gradients that a large learning rate carries beyond float32, but a small loss."""

    def forward(self, images):
        return super().forward(images).tanh() + 1e22 * (self[1].bias - self[1].bias.detach())


def plain(n_outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, n_outputs))


def large(n_outputs):
    return Large(nn.Flatten(), nn.Linear(64, n_outputs))


EXPLODES = {
    "lr": {"lr": 1e18, "lr_schedule": None, "optimizer": torch.optim.SGD, "max_epochs": 3},
    "lr of one step": {"lr": 1e18, "lr_schedule": None, "batch_size": -1},
    "lr without end": {"lr": 1e18, "lr_schedule": None, "module": large, "batch_size": -1,
                       "optimizer": torch.optim.SGD},
    "adversarial_radius": {"adversarial_radius": 1e18, "optimizer": torch.optim.SGD, "lr": 10.0},
    "noise_std": {"noise_std": 1e18, "optimizer": torch.optim.SGD, "lr": 10.0},
}  # fmt: skip


@pytest.mark.parametrize("case", EXPLODES)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "more"])
def test_training_to_nan_stops_and_names_the_option(few, case, method):
    option = case.split()[0]
    module = EXPLODES[case].get("module", plain)
    net = PatchNetClassifier(module, random_state=0, max_epochs=1, batch_size=50, lr=1e-30)
    if method == "more":
        net.fit(*few)
        before, epochs = weights(net), len(net.history_)
        net.set_params(**EXPLODES[case])
    else:
        net.set_params(**EXPLODES[case])
    with pytest.raises(ValueError, match=rf"epoch \d+(.|\n)*{option}="):
        (net.fit if method == "fit" else net.partial_fit)(*few)
    if method == "more":
        assert same_weights(net, before)
        assert len(net.history_) == epochs
        assert np.isfinite(net.predict_proba(few[0])).all()
    else:
        assert not net.initialized_


class NoLoss(nn.Module):
    """A loss that is not finite for any outputs."""

    def forward(self, outputs, target):
        return outputs.sum() * np.inf


@pytest.mark.parametrize("criterion", [NoLoss, nn.NLLLoss])  # which takes probabilities
def test_before_the_first_step_the_criterion_is_to_blame(few, criterion):
    net = make(criterion=criterion, batch_size=50)
    with pytest.raises(
        ValueError, match=rf"epoch 1, batch 1(.|\n)*={criterion.__name__}"
    ) as caught:
        net.fit(*few)
    assert "lr=" not in str(caught.value)
    assert not net.initialized_


class Augment:
    """Returns values that are not finite from its third call on."""

    def __init__(self, value):
        self.value, self.calls = value, 0

    def __call__(self, images):
        self.calls += 1
        return images * (self.value if self.calls > 2 else 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("tokens", [False, True])
def test_augmented_images_must_be_finite(few, value, tokens):
    net = make(augment=Augment(value), batch_size=50)
    vocabulary = PatchVocabulary(4, 4, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]) if tokens else net
    with pytest.raises(ValueError, match="augment"):
        model.fit(*few)
    assert not net.initialized_


def test_a_search_goes_on_without_a_network_that_explodes(few):
    net = PatchNetClassifier(plain, random_state=0, max_epochs=2)
    search = GridSearchCV(net, {"lr": [0.01, 1e18]}, cv=2, error_score=np.nan)
    with (
        pytest.warns(FitFailedWarning, match="2 fits failed"),
        pytest.warns(UserWarning, match="non-finite"),
    ):
        search.fit(*few)
    np.testing.assert_array_equal(np.isnan(search.cv_results_["mean_test_score"]), [False, True])


# ---------------------------------------------------------------------------- steps between


def mirrored(X):
    return X.reshape(-1, 8, 8)[:, :, ::-1].reshape(X.shape)


@pytest.mark.parametrize(
    "options",
    [{"flip_radius": 2.0}, {"adversarial_radius": 2.0}, {"noise_std": 1.0}, {"augment": mirrored}],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("step", [mirrored, np.negative, lambda X: X / 16, lambda X: X + 1e-3])
def test_a_step_between_that_training_would_pass_by_is_refused(few, options, step):
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0)
    between = ("between", FunctionTransformer(step))
    model = CertifiedPatchClassifier(
        [("vocab", vocabulary), between, ("clf", make(**options, batch_size=150))]
    )
    with pytest.raises(ValueError, match=r"'between'.*between the vocabulary and the network"):
        model.fit(*few)
    assert not model.named_steps["clf"].initialized_


def test_a_source_of_other_images_is_refused(few):
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0).fit(few[0])
    made = vocabulary.transform(few[0])
    net = make(noise_std=1.0).fit(made, few[1], source=(vocabulary, few[0]))
    made[-1, -1] += 1
    with pytest.raises(ValueError, match=r"1 of 150"):
        net.fit(made, few[1], source=(vocabulary, few[0]))


def test_a_step_that_changes_no_value_may_stand_between(few):
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0)
    shaped = FunctionTransformer(lambda X: X.reshape(-1, 8, 8))
    for between in (FunctionTransformer(), shaped, "passthrough"):
        model = CertifiedPatchClassifier(
            [("vocab", vocabulary), ("between", between), ("clf", make(flip_radius=1.0))]
        )
        assert model.fit(*few).predict(few[0]).shape == (150,)
