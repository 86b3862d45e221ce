"""Networks of skorch's own classes: attacked as what their `predict` computes, or refused."""

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn
from torch.nn import functional

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary
from sklearn_patchcert.attacks.robustness import run_attack, worst_case
from sklearn_patchcert.attacks.views.torch_modules import as_torch_module
from sklearn_patchcert.scorers import robustness_report


class Linear(nn.Module):
    """Logits that are linear in the pixels, so that the distance to each other class is known."""

    def __init__(self, last=None, size=64):
        super().__init__()
        self.linear, self.last = nn.Linear(size, 10), last

    def forward(self, images):
        logits = self.linear(images.flatten(1))
        return logits if self.last is None else self.last(logits)


class ChannelsLast(Linear):
    def forward(self, images):
        return super().forward(images.permute(0, 3, 1, 2))


def skorch_net(X, y, weights, module=Linear, kind=NeuralNetClassifier, **options):
    """A fitted network of skorch with these weights."""
    options = {"criterion": nn.CrossEntropyLoss, "lr": 0.0, "max_epochs": 1, "verbose": 0,
               "train_split": None, **options}  # fmt: skip
    net = kind(module, **options)
    with torch.random.fork_rng():
        net.fit(X, y)
    with torch.no_grad():
        for mine, given in zip(net.module_.linear.parameters(), weights, strict=True):
            mine.copy_(torch.as_tensor(given))
    return net


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits[0].astype(np.float32), digits[1]
    model = LogisticRegression(C=1e-3, max_iter=2000).fit(X[:1000], y[:1000])
    return X, y, (model.coef_.astype(np.float32), model.intercept_.astype(np.float32))


def distances(X, y, weights):
    """L2 distance of each image to another class; 0 where it is there already."""
    weight, bias = (np.asarray(part, dtype=np.float64) for part in weights)
    logits, rows = X.reshape(len(X), -1) @ weight.T + bias, np.arange(len(X))
    lead = logits[rows, y][:, None] - logits
    apart = np.linalg.norm(weight[y][:, None] - weight, axis=2)
    apart[rows, y], lead[rows, y] = 1.0, np.inf
    return np.maximum(lead / apart, 0).min(1)


EPS = 5.0
LAYOUTS = {
    "rows": ((64,), Linear),
    "images": ((8, 8), Linear),
    "channels first": ((1, 8, 8), Linear),
    "channels first, four": ((4, 4, 4), Linear),
    "channels last": ((8, 8, 1), ChannelsLast),
}


@pytest.mark.parametrize("attack", ["pgd", "apgd-ce", "apgd-dlr"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_attack_sees_the_layout_that_predict_sees(data, layout, attack):
    X, y, weights = data
    shape, module = LAYOUTS[layout]
    net = skorch_net(X[:50].reshape(-1, *shape), y[:50], weights, module)
    held, labels = X[1000:1100].reshape(-1, *shape), y[1000:1100]
    found = run_attack(net, held, labels, attack, eps=EPS)
    far = distances(held, labels, weights)
    np.testing.assert_array_equal(found.correct, far > 0)
    assert found.success[found.correct & (far < 0.95 * EPS)].mean() > 0.9
    assert not found.success[far > EPS].any()
    assert 10 < found.success.sum() < 90
    assert found.adversarial.shape == held.shape


@pytest.mark.parametrize("attack", ["square", "noise"])
def test_black_boxes_see_it_too(data, attack):
    X, y, weights = data
    net = skorch_net(X[:50].reshape(-1, 1, 8, 8), y[:50], weights)
    rows = skorch_net(X[:50], y[:50], weights)
    found = [
        run_attack(model, X[1000:1050].reshape(-1, *shape), y[1000:1050], attack, eps=8.0, steps=50)
        for model, shape in ((net, (1, 8, 8)), (rows, (64,)))
    ]
    assert found[0].success.any()
    np.testing.assert_array_equal(found[0].success, found[1].success)


def test_labels_with_gaps_are_indices_of_logits(data):
    X, y, weights = data
    some = np.isin(y, [2, 5, 9])
    net = skorch_net(X[some][:50], y[some][:50], weights)
    assert net.classes_.tolist() == [2, 5, 9]
    held, labels = X[some][-60:], y[some][-60:]
    found = run_attack(net, held, labels, "pgd", eps=EPS)
    far = distances(held, labels, weights)
    np.testing.assert_array_equal(found.correct, far > 0)
    assert found.success[found.correct & (far < 0.95 * EPS)].mean() > 0.9


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss, nn.NLLLoss])
@pytest.mark.parametrize("attack", ["apgd-dlr", "square"])
def test_a_softmax_at_the_end_hides_nothing(data, criterion, attack):
    X, y, weights = data
    sure = [100 * part for part in weights]  # probabilities of 0 and 1, to float32
    held, labels = X[1000:1060], y[1000:1060]
    options = {"module__last": nn.Softmax(dim=1), "criterion": criterion}
    found, bare = (
        run_attack(skorch_net(X[:50], y[:50], sure, **more), held, labels, attack, eps=EPS)
        for more in (options, {})
    )
    assert bare.success.sum() > 4
    assert found.success.sum() >= 0.9 * bare.success.sum()


def test_a_module_is_not_given_channels_for_rows(data):
    """(n, 1, H, W), torch's own layout, would be images of one row with H columns."""
    X, y, weights = data
    net = skorch_net(X[:50], y[:50], weights).module_
    images = X[1000:1040].reshape(-1, 8, 8).astype(np.float32)
    found = run_attack(net, images, y[1000:1040], "pgd", eps=EPS)
    assert found.correct.mean() > 0.8
    with pytest.raises(ValueError, match="channels seem to come first"):
        run_attack(net, images[:, None], y[1000:1040], "pgd", eps=EPS)


def test_a_source_of_one_class_is_refused(data):
    X, y, weights = data
    net = skorch_net(X[:50], y[:50], weights)
    one = DummyClassifier().fit(X[:5], np.full(5, 3))
    with pytest.raises(ValueError, match="does not know all classes"):
        run_attack(net, X[1000:1040], y[1000:1040], "square", eps=EPS, source=one)


@pytest.mark.parametrize("name", ["eps", "norm", "generator"])
def test_an_attack_of_the_users_own_cannot_set_its_budget(data, name):
    """It would be judged by another than the rest of the list."""
    X, y, weights = data
    net = skorch_net(X[:50], y[:50], weights)

    def own(model, images, labels, **options):
        return images

    with pytest.raises(TypeError, match=f"no option {name}"):
        worst_case(net, X[:40], y[:40], [(own, {name: 5.0, "mine": 1})], eps=0.5)
    assert worst_case(net, X[:40], y[:40], [(own, {"mine": 1})], eps=0.5).robust.any()


def test_training_mode_is_not_what_is_attacked(data):
    X, y, weights = data
    dropout = nn.Sequential(nn.Dropout(0.9), nn.Identity())
    net = skorch_net(X[:50], y[:50], weights, module__last=dropout)
    found = []
    for mode in (True, False):
        net.module_.train(mode)
        found.append(run_attack(net, X[1000:1040], y[1000:1040], "pgd", eps=EPS).success)
    assert found[0].any()
    np.testing.assert_array_equal(*found)


class Thresholded(NeuralNetClassifier):
    """Answers 0 unless it is sure."""

    def predict(self, X):
        probabilities = self.predict_proba(X)
        return np.where(probabilities.max(1) > 0.7, probabilities.argmax(1), 0)


class Shuffled(NeuralNetClassifier):
    """Its classes are in another order than its logits."""

    def predict(self, X):
        return (super().predict(X) + 1) % 10


class Chance(nn.Module):
    def forward(self, logits):
        return functional.dropout(logits, 0.5, training=True)


def single(logits):
    return logits[:, 1]


STRANGE = {
    "nonlinearity": {"predict_nonlinearity": lambda logits: -logits},
    "threshold": {"kind": Thresholded},
    "order": {"kind": Shuffled},
    "chance": {"module__last": Chance()},
}


@pytest.mark.parametrize("strange", STRANGE)
def test_what_predict_does_to_the_logits_is_noticed(data, strange):
    X, y, weights = data
    net = skorch_net(X[:50], y[:50], weights, **STRANGE[strange])
    held = X[1000:1060]
    labels = net.predict(held)  # all are right, but for those of chance
    with torch.random.fork_rng(), pytest.raises(ValueError, match=r"of 60 images"):
        run_attack(net, held, labels, "pgd", eps=EPS)
    with torch.random.fork_rng(), pytest.raises(ValueError, match="another layout"):
        worst_case(net, held, labels, ["noise", "apgd-ce"], eps=EPS)
    ours = skorch_net(X[:50], y[:50], weights)
    with torch.random.fork_rng():
        found = run_attack(net, held, labels, "pgd", eps=EPS, source=ours)  # judged by the strange
        again = net.predict(found.adversarial)
    if strange != "chance":
        np.testing.assert_array_equal(found.success, found.correct & (again != labels))


def test_a_threshold_is_found_by_those_that_ask_predict(data):
    """A class that is taken from 0.7 on alone has its border there, not where two are equal."""
    X, y, weights = data
    held = X[1000:1060]
    net = skorch_net(X[:50], y[:50], weights, kind=Thresholded)
    plain = skorch_net(X[:50], y[:50], weights)
    found, other = (
        run_attack(model, held, model.predict(held), "square", eps=2.0, steps=100)
        for model in (net, plain)
    )
    sure = found.correct & (net.predict(held) > 0)
    assert found.success[sure].sum() > other.success[sure].sum()


def test_single_outputs(data):
    X, y, weights = data
    options = {"criterion": nn.BCEWithLogitsLoss, "module__last": single}
    labels = (y == 1).astype(np.float32)
    net = skorch_net(
        X[:50], labels[:50], weights, kind=NeuralNetBinaryClassifier, threshold=0.9, **options
    )
    held = X[1000:1060]
    with pytest.raises(TypeError, match="single output"):
        run_attack(net, held, net.predict(held), "pgd", eps=EPS)
    found = run_attack(net, held, net.predict(held), "square", eps=6.0, steps=100)
    assert found.success.any()


@pytest.mark.filterwarnings("ignore:The gradient of the loss is zero")  # all weights are 0
def test_a_near_tie_is_no_difference(data):
    X, y, weights = data
    net = skorch_net(X[:50], y[:50], [np.zeros_like(part) for part in weights])
    found = run_attack(net, X[1000:1010], np.zeros(10, dtype=int), "pgd", eps=EPS)
    assert found.correct.all()


@pytest.mark.parametrize("shape", [(64,), (8, 8), (8, 8, 1)])
@pytest.mark.parametrize("wrapper", [Pipeline, CertifiedPatchClassifier])
def test_behind_a_vocabulary_it_is_given_the_layout_of_x(data, shape, wrapper):
    X, y, weights = data
    images = X.reshape(-1, *shape)
    vocabulary = PatchVocabulary(12, 2, strategy="kmeans", random_state=0).fit(images[:500])
    net = skorch_net(vocabulary.transform(images[:50]), y[:50], weights)
    model = wrapper([("vocab", vocabulary), ("clf", net)])
    held, labels = images[1000:1020], y[1000:1020]
    rows = Pipeline([("vocab", PatchVocabulary.from_tokens(
        vocabulary.vocabulary_, patch_size=2, image_shape=(8, 8))), ("clf", net)])  # fmt: skip
    for attack in ("pgd", "flips"):
        found = run_attack(model, held, labels, attack, eps=4.0)
        wanted = run_attack(rows, X[1000:1020], labels, attack, eps=4.0)
        assert found.success.any()
        np.testing.assert_array_equal(found.success, wanted.success)


def test_behind_a_scaler(data):
    X, y, _ = data
    model = LogisticRegression(C=1e-3, max_iter=2000)
    piped = make_pipeline(StandardScaler(), model).fit(X[:1000], y[:1000])
    weights = model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
    scaler = piped[0]
    net = skorch_net(scaler.transform(X[:50]), y[:50], weights)
    found = run_attack(make_pipeline(scaler, net), X[1000:1060], y[1000:1060], "pgd", eps=EPS)
    weight = weights[0].astype(float) / scaler.scale_
    far = distances(X[1000:1060], y[1000:1060], (weight, weights[1] - weight @ scaler.mean_))
    np.testing.assert_array_equal(found.correct, far > 0)
    assert found.success[found.correct & (far < 0.9 * EPS)].all()
    assert not found.success[far > EPS].any()


class Sign(nn.Module):
    """Class 1 where the sum of the pixels is positive."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, images):
        total = images.flatten(1).sum(1) + 0 * self.linear.weight.sum()
        return torch.stack([-total, total], dim=1)


def test_a_tie_of_tokens_is_no_difference():
    """A pixel halfway between two tokens takes either one, by how the scaling rounds."""
    X, y = np.arange(16, dtype=np.float32).reshape(8, 2), np.arange(8) % 2
    net = skorch_net(X, y, [torch.zeros(1, 1), torch.zeros(1)], Sign)
    differ = 0
    for seed in range(60):
        scaler = StandardScaler().fit(np.random.default_rng(seed).normal(3.0, 2.0, size=(50, 2)))
        pixel = np.full((1, 2), 3.0, dtype=np.float32)
        middle = scaler.transform(pixel)[0, 0]
        vocabulary = PatchVocabulary.from_tokens(
            np.float32([[middle - 1], [middle + 1]]), patch_size=1,
            image_shape=(1, 2),
        )  # fmt: skip
        model = Pipeline([("scale", scaler), ("vocab", vocabulary), ("clf", net)])
        module = as_torch_module(model, input_shape=(2,))
        answer = model.predict(pixel)
        differ += module(torch.tensor(pixel).reshape(1, 1, 1, 2)).argmax(1).numpy() != answer
        run_attack(model, pixel, answer, "pgd", eps=1.0, steps=2)
    assert differ


# ---------------------------------------------------------------------------- plain modules


def plain(weights, size=64):
    module = Linear(size=size)
    with torch.no_grad():
        for mine, given in zip(module.linear.parameters(), weights, strict=True):
            mine.copy_(torch.as_tensor(given))
    return module.train()


@pytest.mark.parametrize("attack", ["square", "pgd", "apgd-ce", "sspgd", "noise"])
def test_a_plain_module_is_attacked_as_the_network_that_it_is(data, attack):
    X, y, weights = data
    module = plain(weights)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    held, labels = X[1000:1100].reshape(-1, 8, 8, 1), y[1000:1100]
    found = run_attack(module, held, labels, attack, eps=EPS)
    far = distances(held, labels, weights)
    np.testing.assert_array_equal(found.correct, far > 0)
    assert not found.success[far > EPS].any()
    if attack in ("pgd", "apgd-ce"):
        assert found.success[found.correct & (far < 0.95 * EPS)].mean() > 0.9
    assert module.training
    assert all(bool((before[name] == value).all()) for name, value in module.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in module.parameters())


def test_a_report_and_a_view_of_a_plain_module(data):
    X, y, weights = data
    module, images = plain(weights), torch.as_tensor(X[:5]).reshape(-1, 1, 8, 8)
    view = as_torch_module(module)
    torch.testing.assert_close(view(images), module(images))
    report = robustness_report(module, X[:20].reshape(-1, 8, 8), y[:20], eps=EPS, steps=5)
    assert len(report.robust) == 20


def test_what_a_plain_module_cannot_be(data):
    X, y, weights = data
    with pytest.raises(ValueError, match="rows of"):
        run_attack(plain(weights), X[:5], y[:5], "pgd", eps=1.0)
    with pytest.raises(ValueError, match=r"logits \(n, n_classes\)"):
        run_attack(nn.Flatten(0), X[:5].reshape(-1, 8, 8), y[:5], "pgd", eps=1.0)
    with pytest.raises(ValueError, match="classes"):
        run_attack(plain(weights), X[:5].reshape(-1, 8, 8), np.arange(5) + 100, "pgd", eps=1.0)
