"""Training on disturbed tokens: within the budget, harder than without, and asked for properly."""

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import MinMaxScaler
from skorch.dataset import ValidSplit

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    PatchNetClassifier,
    PatchNetRegressor,
    PatchVocabulary,
)
from sklearn_patchcert.networks.fast_modules import WhiteningConvNet
from sklearn_patchcert.networks.fitting import flip_training
from sklearn_patchcert.networks.fitting.flip_training import (
    nearest_tokens,
    random_affine,
    random_crop,
    training_images,
)
from sklearn_patchcert.networks.modules import ImageResNet, PatchResNet
from sklearn_patchcert.patches import images_to_patches
from sklearn_patchcert.prediction import configurations

DIGITS = load_digits()
X, y = DIGITS.images[:300], DIGITS.target[:300]
RNG = np.random.default_rng(0)
COLOUR = RNG.random((40, 7, 6, 3))
CUTS = [False, True, "shared"]


def tokens_of(vocabulary):
    return {
        "tokens": torch.tensor(vocabulary.vocabulary_, dtype=torch.float32),
        "patch_size": vocabulary.patch_size_,
        "per_channel": bool(vocabulary.per_channel_),
    }


def channels_first(images):
    return torch.from_numpy(np.moveaxis(images, -1, 1)).float()


def linear(images):
    weight = torch.linspace(-1, 1, images[0].numel()).reshape(images[0].shape)
    return torch.stack([(images * weight).sum((1, 2, 3)), -(images * weight).sum((1, 2, 3))], 1)


class Linear(torch.nn.Module):
    def forward(self, images):
        return linear(images)


class Dense(torch.nn.Module):
    def __init__(self, image_shape, n_outputs):
        super().__init__()
        self.layer = torch.nn.Linear(int(np.prod(image_shape)), n_outputs)

    def forward(self, images):
        return self.layer(images.flatten(1))


@pytest.mark.parametrize("per_channel", CUTS)
def test_without_options_it_is_the_vocabularys_transform(per_channel):
    vocabulary = PatchVocabulary(5, (3, 2), per_channel=per_channel, random_state=0).fit(COLOUR)
    found = training_images(channels_first(COLOUR), None, Linear(), None, **tokens_of(vocabulary))
    wanted = channels_first(vocabulary.transform(COLOUR))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("size", "most"), [(5, 3), (5, 256), (130, 3)])
@pytest.mark.parametrize(("kind", "steps"), [("adversarial", 1), ("adversarial", 3), ("random", 1)])
@pytest.mark.parametrize("per_channel", [*CUTS, "unequal"])
def test_flips_stay_within_their_budget(per_channel, kind, steps, size, most):
    n_tokens = (size, 2, 4) if per_channel == "unequal" else size
    per_channel = True if per_channel == "unequal" else per_channel
    vocabulary = PatchVocabulary(n_tokens, (3, 2), per_channel=per_channel, random_state=0)
    vocabulary.fit(COLOUR)
    cut = {"patch_size": (3, 2), "per_channel": bool(per_channel)}
    target = torch.zeros(len(COLOUR), dtype=torch.int64)
    radius, code = 0.5, tokens_of(vocabulary)
    found = training_images(
        channels_first(COLOUR), target, Linear(), torch.nn.functional.cross_entropy,
        flip_radius=radius, flip_share=0.75, flip_kind=kind, flip_steps=steps,
        neighbours=nearest_tokens(code["tokens"], most), **code,
    )  # fmt: skip
    made = np.moveaxis(found.numpy(), 1, -1)
    ids, own = vocabulary.tokenize(made), vocabulary.tokenize(COLOUR)
    table = vocabulary.vocabulary_ if per_channel is True else vocabulary.vocabulary_[None]
    patches = images_to_patches(COLOUR, **cut)
    spent = np.zeros(len(COLOUR))
    for group in range(patches.shape[3]):
        block = patches[:, :, :, group].reshape(len(COLOUR), -1, patches.shape[-1])
        costs = configurations.wall_costs(block, table[group % len(table)])
        at = ids.reshape(*patches.shape[:4])[:, :, :, group].reshape(len(COLOUR), -1, 1)
        spent += np.take_along_axis(costs, at, 2)[..., 0] ** 2 @ np.ones(at.shape[1])
    assert (spent <= radius**2 * (1 + 1e-3)).all()
    assert (ids != own).reshape(len(COLOUR), -1).any(1)[:30].mean() > 0.5
    np.testing.assert_array_equal(ids[30:], own[30:])  # the rest of the batch is as it was


@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_images_that_carry_a_gradient_are_disturbed_as_others(kind):
    """For example those of an augmentation with parameters."""
    images, made = channels_first(X[:4, None].transpose(0, 2, 3, 1)), []
    vocabulary = PatchVocabulary(8, 2, strategy="kmeans", random_state=0).fit(X)
    for given in (images, images.clone().requires_grad_()):
        torch.manual_seed(0)
        made.append(
            training_images(
                given, torch.tensor(y[:4]), Linear(), torch.nn.functional.cross_entropy,
                **tokens_of(vocabulary), flip_radius=5.0, flip_kind=kind,
            )
        )  # fmt: skip
    assert torch.equal(*made)


@pytest.mark.parametrize("size", [20, 200])  # all products, or those with what is offered
def test_products_in_parts_are_those_at_once(size, monkeypatch):
    torch.manual_seed(0)
    tokens, vectors = torch.rand(size, 3), torch.rand(7, 5, 3)
    own = torch.randint(size, (7, 5))
    offers = flip_training._Offers(tokens, vectors, own, nearest_tokens(tokens, 4)[0])
    whole = torch.einsum("npd,npkd->npk", vectors, tokens[offers.ids])
    for most in (1, 2**20):
        monkeypatch.setattr(flip_training, "_CACHED", most)
        torch.testing.assert_close(offers.dots(vectors), whole)


def test_adversarial_flips_are_worse_than_random_ones():
    vocabulary = PatchVocabulary(8, 2, strategy="kmeans", random_state=0).fit(X)
    net = PatchNetClassifier(max_epochs=4, random_state=0, batch_size=64)
    net.fit(vocabulary.transform(X), y)
    loss = torch.nn.CrossEntropyLoss()
    images, target = channels_first(X[..., None]), torch.from_numpy(y)
    net.module_.eval()
    slopes = [parameter.grad.clone() for parameter in net.module_.parameters()]
    found = {}
    options = {
        "none": {}, "random": {"flip_radius": 5.0, "flip_kind": "random"},
        "adversarial": {"flip_radius": 5.0}, "8 steps": {"flip_radius": 5.0, "flip_steps": 8},
    }  # fmt: skip
    for name, flips in options.items():
        made = training_images(
            images, target, net.module_, loss, flip_share=1.0, **flips, **tokens_of(vocabulary)
        )
        with torch.no_grad():
            found[name] = loss(net.module_(made), target).item()
    assert found["8 steps"] > found["adversarial"] > found["random"] > found["none"]
    for before, parameter in zip(slopes, net.module_.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, before, rtol=0, atol=0)
    assert not net.module_.training


def test_noise_draws_flips_of_the_cheap_kind():
    vocabulary = PatchVocabulary(8, 2, strategy="kmeans", random_state=0).fit(X)
    images = channels_first(X[..., None])
    torch.manual_seed(0)
    made = training_images(images, None, Linear(), None, noise_std=3.0, **tokens_of(vocabulary))
    flipped = vocabulary.tokenize(made[:, 0].numpy()) != vocabulary.tokenize(X)
    radii = vocabulary.certify(X)
    assert radii[flipped].mean() < radii[~flipped].mean()


@pytest.mark.parametrize("make", [CertifiedPatchClassifier, CertifiedPatchRegressor])
def test_the_pipeline_hands_over_what_it_takes(make):
    net = PatchNetClassifier if make is CertifiedPatchClassifier else PatchNetRegressor
    options = {"noise_std": 0.2, "flip_radius": 0.5, "augment": random_affine}
    model = make(
        [
            ("scale", MinMaxScaler(clip=False)),
            ("vocab", PatchVocabulary(8, 3, random_state=0)),
            ("clf", net(PatchResNet, max_epochs=1, random_state=0, **options)),
        ]
    )
    rows = X.reshape(len(X), -1)
    state = torch.random.get_rng_state()
    first = model.fit(rows, y).predict(rows)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not hasattr(model[-1], "_disturbed")
    again = model.set_params(clf__max_epochs=1).fit(rows, y).predict(rows)
    np.testing.assert_array_equal(first, again)
    plain = model.set_params(clf__noise_std=0.0, clf__flip_radius=0.0, clf__augment=None)
    plain.fit(rows, y)
    assert plain[-1].module_.stem.kernel_size == (3, 3)  # the patch is known without options, too


def test_a_step_that_works_in_place_scales_the_images_once():
    rows, found = X.reshape(len(X), -1).astype(np.float64), []
    for in_place in (False, True):
        net = PatchNetClassifier(PatchResNet, max_epochs=1, random_state=0, noise_std=0.2)
        scale, vocab = (
            MinMaxScaler((-3, 5), copy=not in_place),
            PatchVocabulary(8, 3, random_state=0),
        )
        model = CertifiedPatchClassifier([("scale", scale), ("vocab", vocab), ("clf", net)])
        found.append(model.fit(rows.copy(), y)[-1].history[-1, "train_loss"])
    assert found[0] == found[1]


def test_a_search_over_the_options():
    model = CertifiedPatchClassifier().set_params(
        vocab__n_tokens=8, vocab__strategy="kmeans", clf__max_epochs=1, clf__train_split=None
    )
    search = GridSearchCV(model, {"clf__flip_radius": [0.0, 2.0]}, cv=2, error_score="raise")
    search.fit(X, y)
    assert len(search.cv_results_["mean_test_score"]) == 2


def test_images_held_out_are_not_disturbed():
    model = CertifiedPatchClassifier().set_params(
        vocab__n_tokens=8,
        vocab__strategy="kmeans",
        vocab__random_state=0,
        clf__max_epochs=1,
        clf__lr=0.0,
        clf__optimizer=torch.optim.SGD,
        clf__module=Dense,  # nothing but the disturbance differs
        clf__train_split=ValidSplit(3),
        clf__random_state=0,
    )
    train, valid = [], []
    for noise in (0.0, 5.0):
        history = model.set_params(clf__noise_std=noise).fit(X, y)[-1].history_
        train.append(history[-1, "train_loss"])
        valid.append(history[-1, "valid_loss"])
    assert train[0] != train[1]
    assert valid[0] == pytest.approx(valid[1], rel=1e-6)


def test_errors_say_what_to_do_and_leave_nothing_half_fitted():
    made = PatchVocabulary(8, random_state=0).fit_transform(X)
    net = PatchNetClassifier(max_epochs=1, flip_radius=1.0)
    with pytest.raises(ValueError, match="last step of a CertifiedPatchClassifier"):
        net.fit(made, y)
    assert not hasattr(net, "classes_")
    assert not net.initialized_
    for name, value in (
        ("noise_std", -1.0), ("flip_radius", np.inf), ("flip_share", 2.0), ("flip_share", np.nan),
        ("flip_kind", "worst"), ("flip_steps", 0), ("augment", 3), ("mask_training", 3),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            PatchNetClassifier(**{name: value}).fit(made, y)
    vocabulary = PatchVocabulary(8, random_state=0).fit(X)
    with pytest.raises(ValueError, match="between the vocabulary and the network"):
        net.fit(made, y, source=(vocabulary, X[:100]))
    ids = PatchVocabulary(8, output="ids", random_state=0)
    with pytest.raises(TypeError, match='output="images"'):
        CertifiedPatchClassifier([("vocab", ids), ("clf", net)]).fit(X, y)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (8, 8, 1)])
@pytest.mark.parametrize("patch_size", [1, (4, 3), 9])
def test_the_residual_network_takes_any_image(shape, patch_size):
    net = PatchResNet(shape, 3, [0.0] * shape[2], [1.0] * shape[2], patch_size, width=4, depth=1)
    images = torch.randn(2, shape[2], *shape[:2])
    assert net(images).shape == (2, 3)
    assert net(images[:1]).shape == (1, 3)


def test_affine_changes_are_none_at_zero_and_keep_constants():
    images = torch.rand(5, 2, 6, 7)
    torch.testing.assert_close(random_affine(images), images, atol=1e-4, rtol=0)
    flat = torch.full((3, 1, 5, 5), 0.7)
    torch.testing.assert_close(random_affine(flat, degrees=40, translate=3, scale=0.3), flat)
    torch.manual_seed(0)
    moved = random_affine(images[:1].expand(4, -1, -1, -1), translate=2)
    assert not torch.allclose(moved[0], moved[1])  # each image in its own way


def test_crops_are_windows_of_the_padded_image():
    torch.manual_seed(0)
    images = torch.rand(40, 2, 5, 6)
    moved = random_crop(images, pixels=2, mirror=True, fill=-1.0)
    padded = torch.nn.functional.pad(images, (2,) * 4, value=-1.0)
    windows = padded.unfold(2, 5, 1).unfold(3, 6, 1).permute(0, 2, 3, 1, 4, 5)
    windows = torch.cat([windows, windows.flip(5)], dim=1).flatten(1, 2)
    found = (windows == moved[:, None]).flatten(2).all(2)
    assert found.any(1).all()
    assert len(set(found.int().argmax(1).tolist())) > 10
    torch.testing.assert_close(random_crop(images, pixels=0), images)


def test_plain_images_are_disturbed_as_they_are():
    def darken(images):
        return images * 0

    net = PatchNetClassifier(max_epochs=1, augment=darken, random_state=0)
    blank = PatchNetClassifier(max_epochs=1, random_state=0)
    mean, std = X.mean(), X.std()
    sizes = {"module__mean": [mean], "module__std": [std]}
    net.set_params(**sizes).fit(X, y)
    blank.set_params(**sizes).fit(X * 0, y)
    for ours, theirs in zip(net.module_.parameters(), blank.module_.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_routing_that_hides_the_images_is_refused():
    model = CertifiedPatchClassifier().set_params(clf__noise_std=1.0, vocab__n_tokens=4)
    with config_context(enable_metadata_routing=True), pytest.raises(ValueError, match="routing"):
        model.fit(X, y)


@pytest.mark.parametrize("network", [ImageResNet, WhiteningConvNet])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 2), (5, 7, 3), (28, 28, 1), (3, 65, 4)])
def test_the_networks_on_pixels_take_any_image(network, shape, mirror):
    channels = [0.0] * shape[2], [1.0] * shape[2]
    net = network(shape, 3, *channels, width=2, mirror=mirror).eval()
    images = torch.randn(4, shape[2], *shape[:2])
    assert net(images).shape == (4, 3)
    assert torch.allclose(net(images), net(images.flip(3)), atol=1e-5) == (mirror or shape[1] == 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_layer_makes_white_noise_of_smooth_images(channels):
    net = WhiteningConvNet((32, 32, channels), 2, [0.0] * channels, [1.0] * channels)
    filters = net.filters.flatten(1)
    torch.testing.assert_close(filters @ filters.T, torch.eye(len(filters)), atol=1e-5, rtol=0)
    noise = torch.randn(64, channels + 1, 40, 40, generator=torch.Generator().manual_seed(0))
    smooth = 100 * torch.nn.functional.avg_pool2d(noise, 9, 1)
    images = smooth[:, :1] + 0.2 * smooth[:, 1:]  # channels that are nearly the same
    seen = torch.nn.functional.conv2d(images, net.filters)
    white = net.whiten(seen).transpose(0, 1).flatten(1)
    before = torch.linalg.eigvalsh(images.transpose(0, 1).flatten(1).cov().reshape(channels, -1))
    after = torch.linalg.eigvalsh(white.cov())
    torch.testing.assert_close(white.var(1), torch.ones(4 * channels), atol=2e-2, rtol=0)
    assert after.max() / after.min() < 5
    assert channels == 1 or before.max() / before.min() > 10
