"""Channels with different numbers of tokens: the copies that fill up the table change nothing."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import CategoricalNB

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchVocabulary,
    load,
    save,
)
from sklearn_patchcert.attacks.robustness import run_attack
from sklearn_patchcert.attacks.token_attack import Tokens
from sklearn_patchcert.vocabulary.encoding import count_own

SIZES = (9, 2, 4)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    X = rng.random((120, 4, 6, 3)) + 0.5 * y[:, None, None, None]
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def vocabulary(data):
    return PatchVocabulary(SIZES, 2, per_channel=True, random_state=0).fit(data[0])


@pytest.fixture(scope="module")
def model(data):
    tokens = PatchVocabulary(SIZES, 2, per_channel=True, random_state=0)
    net = PatchNetClassifier(max_epochs=3, random_state=0)
    return CertifiedPatchClassifier([("vocab", tokens), ("clf", net)]).fit(*data)


def test_own_tokens_are_counted_up_to_the_copies_of_the_last():
    rows = np.array([[0.0, 1], [2, 3], [0, 1], [2, 3]])
    for tokens in (rows, torch.tensor(rows)):
        assert count_own(tokens) == 4
        assert count_own(tokens[[0, 1, 1, 1]]) == 2
        assert count_own(tokens[[1, 1]]) == 1
        assert count_own(tokens[:1]) == 1


@pytest.mark.parametrize("strategy", ["kmeans", "learned", "denoised"])
def test_every_channel_has_as_many_tokens_as_asked_for(data, strategy):
    if strategy == "denoised":
        pytest.importorskip("skimage", reason="the denoiser is that of scikit-image")
    X = data[0]
    options = {"per_channel": True, "strategy": strategy, "random_state": 0}
    vocabulary = PatchVocabulary(list(SIZES), 2, **options).fit(X)
    sizes = tuple(map(count_own, vocabulary.vocabulary_))
    assert vocabulary.vocabulary_.shape == (3, max(sizes), 4)
    if strategy == "denoised":  # an upper bound
        assert sizes[1] <= 2 < sizes[2] <= 4 < sizes[0] <= 9
    else:
        assert sizes == SIZES
    ids, radii = vocabulary.tokenize(X), vocabulary.certify(X)
    for channel, size in enumerate(sizes):
        alone = PatchVocabulary.from_tokens(vocabulary.vocabulary_[channel, :size], patch_size=2)
        np.testing.assert_array_equal(ids[..., channel], alone.tokenize(X[..., channel]))
        np.testing.assert_array_equal(radii[..., channel], alone.certify(X[..., channel]))
    assert (vocabulary.token_counts_.sum(1) > 0).all()


def test_learning_goes_on_without_the_copies(data):
    vocabulary = PatchVocabulary(SIZES, 2, per_channel=True, strategy="kmeans", random_state=0)
    for batch in np.array_split(data[0], 3):
        vocabulary.partial_fit(batch)
    assert tuple(map(count_own, vocabulary.vocabulary_)) == SIZES


@pytest.mark.parametrize(
    ("sizes", "per_channel"),
    [((3, 3, 3), False), ((3, 3, 3), "shared"), ((3, 3), True), ((3, 0, 3), True),
     ((3, 2.5, 3), True), ((), True), ("abc", True)],
)  # fmt: skip
def test_other_sizes_are_refused(data, sizes, per_channel):
    with pytest.raises(ValueError, match="n_tokens"):
        PatchVocabulary(sizes, 2, per_channel=per_channel).fit(data[0])


def test_the_soft_gradient_is_that_of_the_own_tokens(data, model):
    images = torch.tensor(data[0][:5]).permute(0, 3, 1, 2).requires_grad_(True)
    module = model.as_torch_module(gradient="soft", temperature=0.3)
    soft = module.discretised(images)
    slope = torch.randn(soft.shape, generator=torch.Generator().manual_seed(0))
    (ours,) = torch.autograd.grad((soft * slope).sum(), images)
    for channel, size in enumerate(SIZES):
        tokens = module.tokens[channel, :size]
        patches = images[:, channel].unfold(1, 2, 2).unfold(2, 2, 2).flatten(3)
        weights = (-torch.cdist(patches, tokens) / 0.3).softmax(-1)
        mixed = (weights @ tokens).unflatten(-1, (2, 2)).permute(0, 1, 3, 2, 4).reshape(5, 4, 6)
        (theirs,) = torch.autograd.grad((mixed * slope[:, channel]).sum(), images)
        torch.testing.assert_close(ours[:, channel], theirs[:, channel], rtol=1e-3, atol=1e-4)


def test_copies_are_no_flips(data, model):
    X, y = data
    offers = Tokens(model, X[:4]).offers(np.inf, True)
    for place, (begin, end) in enumerate(itertools.pairwise(offers.start)):
        assert sorted(offers.token[begin:end]) == list(range(SIZES[place % len(SIZES)]))
    for name, options in (("flips", {}), ("apgd-ce", {"steps": 5, "gradient": "soft"})):
        found = run_attack(model, X, y, name, eps=3.0, **options)
        assert found.success.any()
        assert (found.norms[found.success] >= model.certify(X).min((1, 2, 3))[found.success]).all()


@pytest.mark.parametrize("norm", ["l2", "linf", "l0"])
def test_certified_predictions_look_at_no_copies(norm):
    rng = np.random.default_rng(1)
    X, y = rng.random((40, 2, 2, 2)), np.arange(40) % 2
    vocabulary = PatchVocabulary((3, 2), 1, per_channel=True, output="ids", random_state=0)
    model = CertifiedPatchClassifier(
        [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=3))]
    ).fit(X, y)
    found = model.certify_prediction(X, norm=norm, max_configurations=10**4)
    assert found.exact.all()
    assert found.n_configurations.max() <= 3**4 * 2**4
    sticker = model.certify_prediction(X, norm="sticker", max_configurations=1400)
    assert (sticker.exact | np.isinf(sticker.radius)).all()  # all has been looked at
    images = rng.normal(X[:, None], 0.1, size=(40, 50, 2, 2, 2))
    if norm != "l0":
        moved = images - X[:, None]
        size = np.abs(moved).max((2, 3, 4)) if norm == "linf" else np.sqrt(
            np.square(moved).sum((2, 3, 4)))  # fmt: skip
        inside = size < found.radius[:, None]
        assert inside.any()
        labels = model.predict(images.reshape(-1, 2, 2, 2)).reshape(40, 50)
        assert (labels == found.prediction[:, None])[inside].all()


def test_files_keep_the_sizes(data, vocabulary, tmp_path):
    save(vocabulary, tmp_path / "vocabulary")
    again = load(tmp_path / "vocabulary")
    assert tuple(again.n_tokens) == SIZES
    np.testing.assert_array_equal(again.certify(data[0]), vocabulary.certify(data[0]))
