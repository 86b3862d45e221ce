"""What each option of a learned or denoised vocabulary is there for, on real patches."""

import warnings

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from sklearn.base import clone
from sklearn.datasets import load_sample_image

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.scorers.functions import neg_reconstruction_error, patch_certificate
from sklearn_patchcert.vocabulary import denoise, losses
from sklearn_patchcert.vocabulary.exemplars import exemplar_tokens


@pytest.fixture(scope="module")
def crops():
    """Gray crops of a photograph, 16 x 16, values in 0..255."""
    image = load_sample_image("china.jpg")[:416, :640].mean(2)
    return image.reshape(26, 16, 40, 16).transpose(0, 2, 1, 3).reshape(-1, 16, 16)


@pytest.fixture(scope="module")
def colours():
    image = load_sample_image("flower.jpg")[:416, :640].astype(float)
    return image.reshape(26, 16, 40, 16, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 16, 16, 3)


def fitted(X, **options):
    return PatchVocabulary(**{"n_tokens": 24, "random_state": 0, **options}).fit(X)


def test_entropy_and_noise_make_the_use_of_tokens_more_even(crops):
    plain = fitted(crops)
    assert fitted(crops, entropy_weight=3.0).perplexity_ > 1.02 * plain.perplexity_
    assert fitted(crops, noise_std=40.0).perplexity_ > 1.02 * plain.perplexity_


def test_perplexity_is_the_exponential_of_the_entropy_of_use(colours):
    vocabulary = fitted(colours, n_tokens=5, per_channel=True, max_iter=1)
    for c, found in enumerate(vocabulary.perplexity_):
        ids = vocabulary.tokenize(colours)[..., c]
        shares = np.bincount(ids.ravel(), minlength=5) / ids.size
        assert found == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=0.05)
    own = PatchVocabulary.from_tokens([[0.0], [1.0]], patch_size=1)
    assert np.isnan(own.perplexity_)  # has stood for nothing


def test_the_structure_loss_lowers_the_sobel_error(crops):
    def sobel_error(vocabulary):
        pictures = vocabulary.transform(crops), crops
        tensors = [torch.tensor(np.asarray(x, float))[:, None] for x in pictures]
        return float(losses.structure_loss(*tensors))

    assert sobel_error(fitted(crops, structure_weight=1.0)) < 0.97 * sobel_error(fitted(crops))


def test_the_margin_enlarges_radii_at_nearly_the_same_error(crops):
    plain, wide = fitted(crops), fitted(crops, margin_weight=1.0)
    assert patch_certificate(wide, crops) > 1.05 * patch_certificate(plain, crops)
    assert neg_reconstruction_error(wide, crops) > 1.05 * neg_reconstruction_error(plain, crops)


def test_each_channel_may_have_a_margin_of_its_own(colours):
    def fit(margin):
        return fitted(colours, n_tokens=4, per_channel=True, margin_weight=margin)

    plain, wide, mixed = fit(0.0), fit(3.0), fit((0.0, 3.0, 0.0))
    assert not np.array_equal(plain.vocabulary_[1], wide.vocabulary_[1])
    for channel, same in enumerate((plain, wide, plain)):
        np.testing.assert_array_equal(mixed.vocabulary_[channel], same.vocabulary_[channel])


@pytest.mark.parametrize(
    ("margin", "per_channel"),
    [((1.0, 0.0), True), ((1.0, -1.0, 0.0), True), ((1.0, np.nan, 0.0), True),
     (("1", 0, 0), True), ((1.0, np.inf, 0.0), True), ((1.0, 0.0, 0.0), False),
     ((1.0, 0.0, 0.0), "shared"), ((), True)],
)  # fmt: skip
def test_wrong_margins_are_told(colours, margin, per_channel):
    with pytest.raises(ValueError, match="margin_weight must be a number from 0 on"):
        fitted(colours, n_tokens=4, per_channel=per_channel, margin_weight=margin)


def test_tokens_by_channel_keep_more_of_colour_images(colours):
    joint, shared, own = (fitted(colours, per_channel=how) for how in (False, "shared", True))
    # errors are per patch: a joint patch has the values of three
    error = [-neg_reconstruction_error(v, colours) for v in (joint, shared, own)]
    assert 3 * max(error[1:]) < error[0]
    assert error[2] < error[1]


def test_soft_training_is_close_to_hard_where_it_is_cold(crops):
    hard, cold, hot = (fitted(crops, soft_temperature=t) for t in (None, 0.01, 2.0))
    errors = [-neg_reconstruction_error(v, crops) for v in (hard, cold, hot)]
    assert errors[1] == pytest.approx(errors[0], rel=0.01)
    assert errors[2] > 1.05 * errors[0]
    annealed = fitted(crops, soft_temperature=(2.0, 0.01))
    assert -neg_reconstruction_error(annealed, crops) < errors[2]
    ids = annealed.tokenize(crops[:3])  # inference is hard, however it was trained
    np.testing.assert_array_equal(annealed.inverse_transform(ids), annealed.transform(crops[:3]))


@pytest.mark.parametrize("bad", [(1.0,), (1.0, 0.0), (1.0, -1.0), "cold", 0.0, (1, 2, 3)])
def test_bad_temperatures(crops, bad):
    with pytest.raises(ValueError, match="soft_temperature"):
        fitted(crops, soft_temperature=bad)


def test_dead_tokens_are_revived(crops):
    from sklearn_patchcert.vocabulary.training import learn_tokens

    patches = crops.reshape(-1, 4, 4, 4, 4).transpose(0, 1, 3, 2, 4).reshape(len(crops), 16, 16)
    patches = patches / 128
    start = np.concatenate([patches[:4, 0], 100 + np.zeros((20, 16))])
    generator = torch.Generator().manual_seed(0)
    tokens, _ = learn_tokens(patches, start, max_iter=8, generator=generator)
    used = ((patches[:, :, None] - tokens) ** 2).sum(-1).argmin(-1)
    assert len(np.unique(used)) > 18


def even(batch):
    """A loss of one's own: the reconstruction error, and tokens of even brightness."""
    error = losses.reconstruction_loss(batch.reconstruction, batch.patches)
    return error + 10 * batch.tokens.var(1).mean()


def test_a_loss_of_ones_own(crops):
    own = fitted(crops, loss=even)
    assert clone(own).loss is even
    assert own.vocabulary_.var(1).mean() < 0.3 * fitted(crops).vocabulary_.var(1).mean()


@pytest.mark.parametrize(
    ("distance", "dtype"), [(None, np.float32), (200.0, np.float64), (400.0, np.float32)]
)
def test_denoised_tokens_are_a_net(crops, distance, dtype):
    pytest.importorskip("skimage")
    X = crops[::2].astype(dtype)
    vocabulary = fitted(X, strategy="denoised", min_token_distance=distance, n_tokens=600)
    tokens = vocabulary.vocabulary_.astype(float)
    assert len(tokens) <= 600
    apart = pdist(tokens)
    if distance is not None:
        assert apart.min() >= distance * (1 - 1e-12)
        assert len(tokens) < 600  # so that every patch it was made of is within the distance
        made = vocabulary._denoised(X[..., None]).reshape(-1, 4, 4, 4, 4).transpose(0, 1, 3, 2, 4)
        far = cdist(made.reshape(-1, 16), tokens).min(1)
        assert far.max() <= distance * (1 + 1e-6)
    else:
        assert len(tokens) > 400
    radii = vocabulary.certify(
        vocabulary.inverse_transform((np.arange(16) % len(tokens)).reshape(1, 4, 4))
    )
    assert radii.min() >= apart.min() / 2 * (1 - 1e-6)


def test_nets_of_fewer_patches_than_tokens_and_of_patches_all_alike():
    patches = np.repeat(np.eye(3), 5, axis=0)
    assert len(exemplar_tokens(patches, 10)) == 3
    assert len(exemplar_tokens(patches, 2)) == 1  # all distances are the same
    assert len(exemplar_tokens(patches, 2, 0.5)) == 2
    assert len(exemplar_tokens(np.ones((5, 2)), 4)) == 1


def test_partial_fit_of_a_net_adds_what_is_far_from_it(crops):
    pytest.importorskip("skimage")
    whole = PatchVocabulary(500, strategy="denoised", min_token_distance=150.0, random_state=0)
    first = whole.partial_fit(crops[:200]).vocabulary_
    both = whole.partial_fit(crops[200:]).vocabulary_
    np.testing.assert_array_equal(both[: len(first)], first)
    assert len(both) > len(first)
    apart = np.sqrt(((both[:, None] - both) ** 2).sum(-1))[~np.eye(len(both), dtype=bool)]
    assert apart.min() >= 150 * (1 - 1e-12)


@pytest.mark.parametrize("power", [-100, -70, 0, 60, 66])
def test_images_of_any_scale_are_denoised_alike(crops, power):
    pytest.importorskip("skimage", reason="scikit-image is optional")
    images = np.asarray(crops[:5], dtype=np.float32).reshape(5, *np.shape(crops)[1:3], -1)
    scale = np.float32(2.0**power)
    wanted = denoise(images.astype(np.float64))
    np.testing.assert_allclose(denoise(images * scale) / scale, wanted, atol=1e-3)
    assert not np.allclose(wanted, images, atol=1e-2)


def test_a_denoiser_of_ones_own_and_a_bad_one(crops):
    flat = fitted(crops, strategy="denoised", denoiser=np.zeros_like)
    assert flat.vocabulary_.shape == (1, 16)
    with pytest.raises(ValueError, match="denoiser"):
        fitted(crops, strategy="denoised", denoiser=lambda images: images[:, :-1])
    with pytest.raises(ValueError, match="denoiser"):
        fitted(crops, strategy="denoised", denoiser=lambda images: images * np.nan)


IDLE = {
    "learned": {
        "soft_temperature": 0.1,
        "entropy_weight": 0.1,
        "structure_weight": 0.1,
        "margin_weight": 1.0,
        "noise_std": 0.1,
        "loss": lambda batch: (batch.reconstruction - batch.patches).abs().mean(),
    },
    "denoised": {"min_token_distance": 0.1, "denoiser": np.array},
    "supervised": {"target_radius": 1.0, "augment": torch.clone},
}


@pytest.mark.parametrize("strategy", [*IDLE, "kmeans"])
def test_options_of_another_strategy_are_told(strategy):
    X, y = np.random.default_rng(0).random((12, 4, 4)), np.arange(12) % 2

    def fit(**options):
        vocabulary = PatchVocabulary(4, 4, strategy=strategy, max_iter=1, random_state=0)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            vocabulary.set_params(**options).fit(X, y)
        return [str(one.message) for one in told if "has no effect" in str(one.message)]

    assert fit() == []
    for other, options in IDLE.items():
        for name, value in options.items():
            told = fit(**{name: value})
            assert len(told) == (other != strategy)
            assert all(f"{name} of strategy='{other}' has no effect" in one for one in told)
