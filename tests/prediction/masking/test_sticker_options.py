"""StickerCertifiedClassifier as an estimator: searches, weights, training with masks, refusals."""

import numpy as np
import pytest
import sklearn
from masked_for_tests import small_net, tokens
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import CategoricalNB

from sklearn_patchcert import CertifiedPatchClassifier, StickerCertifiedClassifier
from sklearn_patchcert.networks import RandomMasks
from sklearn_patchcert.networks.fitting.mask_training import losses_behind
from sklearn_patchcert.scorers import sticker_accuracy


class Weighted(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        self.weight_ = sample_weight
        return super().fit(X, y, sample_weight)


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits
    return X[:200] / 16, y[:200]


def test_it_can_be_searched_over_and_cloned(data):
    X, y = data
    model = StickerCertifiedClassifier(tokens(), 2)
    grid = {"n_masks": [2, None], "estimator__vocab__n_tokens": [8]}
    search = GridSearchCV(model, grid, scoring=sticker_accuracy, cv=2).fit(X[:100], y[:100])
    assert (search.cv_results_["mean_test_score"] > 0).any()
    assert sticker_accuracy(search, X[100:120], y[100:120]) <= search.predict(X).size
    assert clone(model).get_params().keys() == model.get_params().keys()
    with pytest.raises(TypeError, match="no certificate against stickers"):
        sticker_accuracy(search.best_estimator_.estimator_, X[:5], y[:5])


def test_weights_reach_the_classifier(data):
    X, y = data
    weight = np.random.default_rng(0).random(len(y))
    model = StickerCertifiedClassifier(tokens(Weighted(C=0.1)), 2, n_masks=2)
    model.fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(model.estimator_.named_steps["clf"].weight_, weight)
    plain = StickerCertifiedClassifier(Weighted(C=0.1), 2).fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(plain.estimator_.weight_, weight)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = StickerCertifiedClassifier(Weighted(C=0.1).set_fit_request(sample_weight=True), 2)
        routed.fit(X, y, sample_weight=weight)
        np.testing.assert_array_equal(routed.estimator_.weight_, weight)
        with pytest.raises(ValueError, match="sample_weight"):
            StickerCertifiedClassifier(Weighted(C=0.1), 2).fit(X, y, sample_weight=weight)


def test_training_draws_the_masks_of_the_certificate(data, monkeypatch):
    X, y = data
    seen = []
    call = RandomMasks.__call__
    monkeypatch.setattr(
        RandomMasks, "__call__", lambda self, images: seen.append(self) or call(self, images)
    )
    model = StickerCertifiedClassifier(tokens(small_net()), 2).fit(X, y)
    pixels = model.masks_.repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(seen[0].masks, pixels)
    np.testing.assert_allclose(
        np.broadcast_to(seen[0].values, (1, 8, 8)).ravel(), model.mask_values_, rtol=1e-6
    )
    assert model.estimator_.named_steps["clf"].mask_training is None
    seen.clear()
    StickerCertifiedClassifier(tokens(small_net()), 2, mask_training=3).fit(X, y)
    assert [masks.candidates for masks in seen[:3]] == [3, 3, 3]
    seen.clear()
    StickerCertifiedClassifier(tokens(small_net()), 2, mask_training=False).fit(X, y)
    assert not seen
    own = RandomMasks(np.eye(64, dtype=bool).reshape(64, 8, 8), 0.0)
    model = StickerCertifiedClassifier(tokens(small_net(mask_training=own)), 2).fit(X, y)
    np.testing.assert_array_equal(seen[0].masks, own.masks)
    assert model.estimator_.named_steps["clf"].mask_training is not None


def test_of_several_masks_training_takes_the_hardest():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    few = RandomMasks(np.eye(4, dtype=bool).reshape(4, 2, 2), 0.0, pairs=0.0, candidates=40)
    images = torch.rand(50, 1, 2, 2)
    masked = few.hardest(images, lambda found: -found.sum((1, 2, 3)))  # hides the largest value
    wanted = images.clone().flatten(1)
    wanted[torch.arange(50), wanted.argmax(1)] = 0.0
    torch.testing.assert_close(masked.flatten(1), wanted)


@pytest.mark.parametrize("kind", ["classes", "values", "labels", "pair"])
def test_losses_behind_masks_are_those_of_each_image(kind):
    """By a network that stays in training, and whose statistics stay as they are."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5)
    )
    images, target = torch.rand(9, 1, 2, 2), torch.arange(9) % 3
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    if kind != "classes":
        target = torch.rand(9, 3).round() if kind == "labels" else torch.rand(9, 3)
        criterion = torch.nn.BCEWithLogitsLoss() if kind == "labels" else torch.nn.MSELoss()
    if kind == "pair":
        inner = net

        class Pair(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = inner

            def forward(self, images):
                return self.inner(images), 0

        class First(torch.nn.MSELoss):
            def forward(self, outputs, target):
                return super().forward(outputs[0], target)

        net, criterion = Pair(), First()
    before = {name: part.clone() for name, part in net.state_dict().items()}
    found = losses_behind(net, criterion, images, target)
    assert net.training
    assert not found.requires_grad
    for name, part in net.state_dict().items():
        assert torch.equal(part, before[name])
    net.eval()
    wanted = [criterion(net(images[i : i + 1]), target[i : i + 1]) for i in range(9)]
    torch.testing.assert_close(found, torch.stack(wanted))
    assert criterion.reduction == "mean"


def test_a_loss_of_the_whole_batch_cannot_choose_masks():
    torch = pytest.importorskip("torch")
    net, images, target = torch.nn.Flatten(), torch.rand(5, 1, 2, 2), torch.rand(5, 4)
    net.train()

    class Whole(torch.nn.MSELoss):
        def forward(self, outputs, target):
            return (outputs.std(0) - target.std(0)).abs().sum()

    with pytest.raises(ValueError, match="candidates of masks need one for each image"):
        losses_behind(net, Whole(), images, target)
    with pytest.raises(ValueError, match="candidates of masks need the loss of each image"):
        losses_behind(net, lambda outputs, target: outputs.sum(), images, target)
    assert net.training


def test_training_is_on_the_hardest_masks(data, monkeypatch):
    X, y = data
    losses = []
    hardest = RandomMasks.hardest

    def watched(self, images, judge):
        draws = []
        found = hardest(self, images, lambda masked: draws.append(judge(masked)) or draws[-1])
        losses.append((draws, judge(found)))
        return found

    monkeypatch.setattr(RandomMasks, "hardest", watched)
    masks = RandomMasks(np.eye(64, dtype=bool).reshape(64, 8, 8), 0.0, candidates=3)
    small_net(mask_training=masks).fit(X, y)
    for draws, kept in losses:
        assert len(draws) == 3
        np.testing.assert_allclose(np.max(draws, axis=0), kept, rtol=1e-4)
    assert (np.ptp(losses[0][0], axis=0) > 0).mean() > 0.5


def test_the_token_of_a_mask_is_known_to_training_and_inference_alike(data, monkeypatch):
    X, y = data
    seen = []
    monkeypatch.setattr(
        RandomMasks, "__call__", lambda self, images: seen.append(self.values) or images
    )
    model = StickerCertifiedClassifier(tokens(small_net()), 2, mask=3).fit(X, y)
    tile = model.estimator_[0].vocabulary_[3].reshape(2, 2)
    np.testing.assert_array_equal(model.mask_values_.reshape(8, 8), np.tile(tile, (4, 4)))
    np.testing.assert_array_equal(seen[0][0], np.tile(tile, (4, 4)))


def test_the_token_of_a_mask_needs_a_vocabulary(data):
    masks = RandomMasks(np.ones((1, 8, 8)), 3)
    with pytest.raises(ValueError, match="there is no vocabulary"):
        small_net(mask_training=masks).fit(*data)
    with pytest.raises(ValueError, match="not one of 0 to 7"):
        tokens(small_net(mask_training=RandomMasks(np.ones((1, 8, 8)), 8))).fit(*data)


def test_random_masks_hide_what_they_say():
    torch = pytest.importorskip("torch")
    masks = RandomMasks(np.eye(4, dtype=bool).reshape(4, 2, 2), -1.0, share=0.5, pairs=0.5)
    images = torch.rand(4000, 3, 2, 2)
    hidden = (masks(images) == -1).all(1).sum((1, 2)).numpy()
    assert np.bincount(hidden).tolist()[0] == pytest.approx(2000, abs=200)
    assert (hidden == 2).sum() == pytest.approx(4000 * 0.5 * 0.5 * 0.75, abs=200)
    for wrong in ({"share": 2}, {"pairs": -1}, {"masks": np.zeros((2, 2))}, {"candidates": 0}):
        with pytest.raises(ValueError, match="must be"):
            RandomMasks(**{"masks": np.zeros((1, 2, 2)), **wrong})
    with pytest.raises(ValueError, match="masks are for images"):
        masks(torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sticker_size": 0}, "sticker_size must be"),
        ({"mask": "median"}, "mask must be"),
        ({"mask": True}, "mask must be"),
        ({"mask": -1e39}, "mask must be"),
        ({"mask": [10.0**300]}, "mask must be"),
        ({"mask": 10**400, "estimator": LogisticRegression()}, "mask must be"),
        ({"mask": [np.nan]}, "mask must be"),
        ({"mask": 8}, "not one of the tokens 0 to 7"),
        ({"mask": [1.0, 2.0]}, "does not broadcast"),
        ({"n_masks": 0}, "n_masks"),
        ({"n_masks": (1, 2, 3)}, "n_masks must be"),
        ({"n_stickers": 3}, "n_stickers"),
        ({"estimator": Ridge()}, "is a regressor"),
        ({"estimator": tokens(CategoricalNB(min_categories=8), output="ids"), "mask": 0.5},
         "must be \"mean\" or a token id"),
        ({"estimator": CertifiedPatchClassifier([("pca", PCA(64)), *tokens().steps])},
         "cannot see through PCA"),
    ],
)  # fmt: skip
def test_options_that_would_not_do_are_refused(data, options, match):
    model = StickerCertifiedClassifier(tokens(), 2).set_params(**options)
    with pytest.raises((ValueError, TypeError), match=match):
        model.fit(*data)
    assert not hasattr(model, "estimator_")


def test_several_labels_are_refused(data):
    X, y = data
    with pytest.raises(ValueError, match="several labels for each image"):
        StickerCertifiedClassifier(small_net(), 2).fit(X, np.eye(10, dtype=int)[y])


def test_a_classifier_that_depends_on_chance_or_others_is_not_certified(data):
    X, y = data
    model = StickerCertifiedClassifier(tokens(DummyClassifier(strategy="uniform")), 2).fit(X, y)
    with pytest.raises(ValueError, match="depends on chance"):
        model.certify(X[:20])


@pytest.mark.parametrize("output", ["images", "ids"])
def test_ids_that_no_vocabulary_makes_are_refused(data, output):
    X, y = data
    clf = CategoricalNB(min_categories=8) if output == "ids" else None
    model = StickerCertifiedClassifier(tokens(clf, output=output), 2).fit(X, y)
    ids = model.estimator_["vocab"].tokenize(X[:3])
    flat = model.predict_tokens(ids.reshape(3, -1))
    np.testing.assert_array_equal(flat, model.predict_tokens(ids))
    wrong = {
        "integers": ids + 0.5, "lie in": -1 - ids, "range": ids + 8, "bool": ids > 3,
        "str": ids.astype(str), "more": np.concatenate([ids, ids], 2), "fewer": ids[:, :2],
        "one image": ids[0], "none": [],
    }  # fmt: skip
    for name, some in wrong.items():
        with pytest.raises(ValueError, match=r"Token ids must|An image has"):
            pytest.fail(f"{name}: {model.predict_tokens(some)}")
