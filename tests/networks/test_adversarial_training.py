"""Training on attacked images: within the budget, worse than noise, the network left alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
)
from sklearn_patchcert.attacks.robustness import run_attack
from sklearn_patchcert.attacks.views.tokenized_network import TokenizedNetwork
from sklearn_patchcert.networks import PatchConvNet
from sklearn_patchcert.networks.fitting import adversarial_training
from sklearn_patchcert.networks.fitting.adversarial_training import _OnDevice, attacked_images
from sklearn_patchcert.networks.fitting.mask_training import RandomMasks
from sklearn_patchcert.patches import images_to_patches

X, y = load_digits(return_X_y=True)
X = (X.reshape(-1, 8, 8) / 16).astype(np.float32)
SMALL = {"module__width": 8, "module__hidden": 32, "random_state": 0}


def tensors(n=60):
    return torch.from_numpy(X[:n, None]), torch.from_numpy(y[:n])


def code_of(vocabulary):
    return {
        "vocabulary": vocabulary.vocabulary_, "patch_size": vocabulary.patch_size_,
        "per_channel": bool(vocabulary.per_channel_),
    }  # fmt: skip


@pytest.fixture(scope="module")
def fitted():
    vocabulary = PatchVocabulary(32, 2, strategy="kmeans", random_state=0).fit(X[:600])
    net = PatchNetClassifier(max_epochs=6, batch_size=32, **SMALL)
    return vocabulary, net.fit(vocabulary.transform(X[:600]), y[:600])


@settings(max_examples=15, deadline=None)
@given(radius=st.floats(1e-3, 20.0), steps=st.integers(1, 4), tokens=st.booleans())
def test_the_budget_is_kept(fitted, radius, steps, tokens):
    vocabulary, net = fitted
    images, target = tensors(20)
    code = code_of(vocabulary) if tokens else {}
    moved = attacked_images(images, target, net.module_, radius=radius, steps=steps, **code)
    spent = (moved.double() - images).flatten(1).norm(dim=1)
    assert (spent <= radius * (1 + 1e-5) + 1e-6).all()  # the last bits of images near 1


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("far", [0.0, 300.0])
@pytest.mark.parametrize(
    ("per_channel", "n_tokens"), [(False, 40), ("shared", 40), (True, 40), (True, (40, 2, 3))]
)
def test_a_gpu_finds_the_same_tokens(per_channel, n_tokens, far, autocast):
    rng = np.random.default_rng(0)
    images = (far + rng.normal(size=(40, 7, 5, 3))).astype(np.float32)  # padded
    vocabulary = PatchVocabulary(n_tokens, 2, per_channel=per_channel, random_state=0).fit(images)
    code = code_of(vocabulary)
    moved = torch.from_numpy(images).permute(0, 3, 1, 2)
    patches = images_to_patches(images, (2, 2), per_channel=bool(per_channel)).astype(float)
    tokens = vocabulary.vocabulary_.astype(float)
    squares, ids = [], []
    for kind in (TokenizedNetwork, _OnDevice):
        model = kind(torch.nn.Identity(), **code)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            found = model.ids(moved).numpy().reshape(patches.shape[:4])
        group = np.arange(patches.shape[3])
        nearest = tokens[group, found] if tokens.ndim == 3 else tokens[found]
        ids.append(found)
        squares.append(np.square(patches - nearest).sum(-1))
    assert (ids[0] == ids[1]).mean() > 0.99
    size = 1 + max(np.square(patches).sum(-1).max(), np.square(tokens).sum(-1).max())
    assert np.abs(squares[0] - squares[1]).max() <= 1e-6 * size  # others tie, to float32


def test_training_as_on_a_gpu(fitted, monkeypatch):
    vocabulary, net = fitted
    images, target = tensors(20)
    found = []
    for kind in (TokenizedNetwork, _OnDevice):
        monkeypatch.setattr(adversarial_training, "TokenizedNetwork", kind)
        generator = torch.Generator().manual_seed(0)
        options = {"radius": 1.0, "generator": generator, **code_of(vocabulary)}
        found.append(attacked_images(images, target, net.module_, **options))
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tokens", [True, False])
def test_it_hurts_more_than_noise_and_leaves_the_network_alone(fitted, tokens):
    vocabulary, net = fitted
    images, target = tensors(300)
    module, code = net.module_, code_of(vocabulary) if tokens else {}
    module.train()
    module.features[1].eval()  # a part may be frozen
    before = {name: value.clone() for name, value in module.state_dict().items()}
    slopes = [parameter.grad.clone() for parameter in module.parameters()]
    generator = torch.Generator().manual_seed(0)
    moved = attacked_images(images, target, module, radius=1.5, generator=generator, **code)
    assert module.training
    assert not module.features[1].training
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    for parameter, slope in zip(module.parameters(), slopes, strict=True):
        torch.testing.assert_close(parameter.grad, slope, rtol=0, atol=0)
    module.eval()
    noise = torch.randn(images.shape, generator=generator)
    noise *= (moved - images).flatten(1).norm(dim=1)[:, None, None, None]
    noise /= noise.flatten(1).norm(dim=1)[:, None, None, None]

    def left(batch):
        batch = batch[:, 0].numpy()
        return net.score(vocabulary.transform(batch) if tokens else batch, y[:300])

    assert left(moved) < left(images + noise) - 0.1


EPS = 0.75


@pytest.fixture(scope="module")
def plain_and_trained():
    """The same pipeline, fitted without attacks and with them."""
    tokens = np.linspace(0, 1, 9, dtype=np.float32)[:, None]
    vocabulary = PatchVocabulary.from_tokens(tokens, patch_size=1, image_shape=(8, 8))
    models = []
    for radius in (0.0, EPS):
        net = PatchNetClassifier(max_epochs=4, batch_size=32, adversarial_radius=radius, **SMALL)
        model = CertifiedPatchClassifier([("vocab", FrozenEstimator(vocabulary)), ("clf", net)])
        models.append(model.fit(X[:900], y[:900]))
    return models


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["pgd", "flips"])
def test_trained_networks_stand_attacks_better(plain_and_trained, attack):
    left = []
    for model in plain_and_trained:
        held, labels = X[1200:1220], y[1200:1220]
        found = run_attack(model, held, labels, attack, eps=EPS)
        left.append(((model.predict(held) == labels) & ~found.success).mean())
    assert left[1] > left[0] + 0.1


def test_without_tokens_too_and_the_same_seed_gives_the_same_network():
    scores = [
        PatchNetClassifier(max_epochs=1, adversarial_radius=0.5, **{**SMALL, "random_state": seed})
        .fit(X[:300], y[:300])
        .predict_proba(X[:300])
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_errors_say_what_to_do():
    for options, words in (
        ({"adversarial_radius": -1.0}, "adversarial_radius"),
        ({"adversarial_radius": np.nan}, "adversarial_radius"),
        ({"adversarial_radius": 1.0, "adversarial_steps": 0}, "adversarial_steps"),
        ({"adversarial_radius": 1.0, "adversarial_steps": 2.5}, "adversarial_steps"),
        ({"adversarial_radius": 1.0, "adversarial_steps": True}, "adversarial_steps"),
        ({"adversarial_radius": 1.0, "flip_radius": 1.0}, "one of them"),
        ({"adversarial_radius": 1.0, "certified_radius": 1.0}, "one of them"),
        ({"certified_radius": 1.0, "flip_radius": 1.0}, "never trains on flip_radius"),
        ({"certified_radius": 1.0, "mask_training": abs}, "never trains on mask_training"),
    ):
        net = PatchNetClassifier(max_epochs=1, **options)
        with pytest.raises(ValueError, match=words):
            net.fit(X[:50], y[:50])
        assert not net.initialized_
    masks = RandomMasks(np.ones((1, *X.shape[1:3])), candidates=2)
    asking = dict.fromkeys(("adversarial_radius", "flip_radius", "certified_radius"), 1.0)
    for name, value in {**asking, "mask_training": masks}.items():
        net = PatchNetClassifier(max_epochs=1, **{name: value})
        with pytest.raises(ValueError, match=f"{name} would ask the module without 'hint'"):
            net.fit(X[:50], y[:50], hint=1)
        assert not net.initialized_
    with pytest.raises(ValueError, match="for classifiers"):
        PatchNetRegressor(max_epochs=1, adversarial_radius=1.0).fit(X[:50], y[:50])


class Hinted(PatchConvNet):
    """Has one more argument."""

    def forward(self, images, hint=0):
        assert hint in (0, 1)
        return super().forward(images)


def test_what_is_forwarded_goes_with_options_that_do_not_ask_the_module():
    one = RandomMasks(np.ones((1, *X.shape[1:3])), candidates=1)
    for options in ({"mask_training": one}, {"flip_radius": 1.0, "flip_share": 0.0},
                    {"noise_std": 0.1}):  # fmt: skip
        PatchNetClassifier(Hinted, max_epochs=1, **SMALL, **options).fit(X[:50], y[:50], hint=1)
    net = PatchNetClassifier(Hinted, flip_radius=1.0, flip_kind="random", max_epochs=1, **SMALL)
    vocabulary = PatchVocabulary(8, 2, strategy="kmeans", random_state=0)
    pipeline = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)])
    pipeline.fit(X[:50], y[:50], clf__hint=1)
    with pytest.raises(ValueError, match="flip_radius would ask the module without 'hint'"):
        pipeline.set_params(clf__flip_kind="adversarial").fit(X[:50], y[:50], clf__hint=1)
