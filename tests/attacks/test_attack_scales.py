"""Laws of scale: what multiplies logits or images must not make a network look robust."""

import copy

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.attacks.robustness import run_attack, worst_case
from sklearn_patchcert.scorers import robustness_report

EPS = 3.0


class Linear(nn.Module):
    """Logits that are linear in the pixels, whose unit may be any."""

    def __init__(self, unit=1.0):
        super().__init__()
        self.linear, self.unit = nn.Linear(64, 10), unit

    def forward(self, images):
        return self.linear(images / self.unit)


def linear_net(X, y, unit=1.0):
    net = NeuralNetClassifier(
        Linear, module__unit=unit, criterion=nn.CrossEntropyLoss, lr=0.02, max_epochs=20,
        train_split=None, verbose=0, optimizer__momentum=0.9,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return net.fit((X * unit).astype(np.float32), y)


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits
    X = X.reshape(len(X), -1) / 16
    return X[:500], y[:500], X[500:560], y[500:560]


def successes(net, X, y, attack, eps=EPS, **options):
    return run_attack(net, X.astype(np.float32), y, attack, eps=eps, **options).success.mean()


@pytest.mark.parametrize("attack", ["pgd", "apgd-ce", "apgd-dlr"])
@pytest.mark.parametrize("factor", [1e2, 1e4, 1e6])
def test_larger_logits_hide_nothing(data, attack, factor):
    X, y, T, t = data
    net = linear_net(X, y)
    sure = copy.deepcopy(net)
    with torch.no_grad():
        for part in sure.module_.parameters():
            part.mul_(factor)
    eps = 0.5
    expected = successes(net, T, t, attack, eps)
    assert 0.2 < expected < 0.9
    assert successes(sure, T, t, attack, eps) >= expected - 0.05


@pytest.mark.parametrize("attack", ["pgd", "apgd-ce", "apgd-dlr"])
@pytest.mark.parametrize("unit", [1e-25, 1e-20, 1e5, 1e15, 1e25])
def test_the_unit_of_the_images_does_not_matter(data, attack, unit):
    X, y, T, t = data
    expected = successes(linear_net(X, y), T, t, attack, 0.5)
    found = successes(linear_net(X, y, unit), T * unit, t, attack, 0.5 * unit)
    assert found >= expected - 0.05


def test_a_network_that_last_saw_one_class_is_attacked(data):
    X, y, T, t = data
    net = linear_net(X, y)
    expected = successes(net, T, t, "pgd")
    net.set_params(lr=0.0).partial_fit(X[y == 3].astype(np.float32), y[y == 3])
    assert net.classes_.tolist() == [3]
    assert successes(net, T, t, "pgd") == expected > 0.5


def test_the_report_takes_a_pipeline_without_its_vocabulary(data):
    X, y, T, t = data
    net = PatchNetClassifier(max_epochs=2, random_state=0)
    model = CertifiedPatchClassifier().set_params(vocab="passthrough", clf=net).fit(X, y)
    report = robustness_report(model, T[:10], t[:10], eps=0.5, steps=2)
    assert report.robust.shape == (10,)


class Softmax(Linear):
    def __init__(self, sharpness=1.0, single=False):
        super().__init__()
        self.sharpness, self.single = sharpness, single

    def forward(self, images):
        logits = self.linear(images.float() if self.single else images)
        return (self.sharpness * logits).softmax(1)


class Sigmoid(Linear):
    """A probability for each class by itself, as many networks of several labels end."""

    def __init__(self, sharpness=1.0):
        super().__init__()
        self.sharpness = sharpness

    def forward(self, images):
        return (self.sharpness * self.linear(images)).sigmoid()


def success_of_both(data, attack, module):
    """Of an attack on the linear network, and on a module with the same weights."""
    X, y, T, t = data
    net = linear_net(X, y)
    ended = copy.deepcopy(net)
    ended.module_ = module
    ended.module_.load_state_dict(net.module_.state_dict())
    return [successes(one, T, t, attack, eps=0.5) for one in (net, ended)]


@pytest.mark.parametrize("attack", ["pgd", "apgd-ce", "apgd-dlr"])
@pytest.mark.parametrize("sharpness", [1.0, 5.0])
def test_a_sigmoid_at_the_end_hides_nothing(data, attack, sharpness):
    bare, found = success_of_both(data, attack, Sigmoid(sharpness))
    assert 0.1 < bare < 1
    assert found >= bare - 0.04


@pytest.mark.parametrize("attack", ["pgd", "apgd-dlr"])
@pytest.mark.parametrize("last", ["softmax mean", "clamp", "small"])
def test_outputs_from_0_to_1_of_other_kinds_hide_nothing(data, attack, last):
    """A mean of softmaxes whose sum rounds above 1; logits that are clamped or just small."""
    bare, found = success_of_both(data, attack, Ended(last))
    assert 0.1 < bare < 1
    assert found >= bare - (0.1 if last == "clamp" else 0.04)


class Ended(Linear):
    def __init__(self, last):
        super().__init__()
        self.last = last

    def forward(self, images):
        logits = self.linear(images)
        if self.last == "softmax mean":
            return sum(0.1 * (20 * logits).softmax(1) for _ in range(10))
        return (logits / 40 + 0.5).clamp(0, 1) if self.last == "clamp" else logits / 100 + 0.5


def test_a_sigmoid_without_a_gradient_is_refused(data):
    X, y, T, t = data
    net = linear_net(X, y)
    sure = copy.deepcopy(net)
    sure.module_ = Sigmoid(1e5)
    sure.module_.load_state_dict(net.module_.state_dict())
    with pytest.raises(ValueError, match="ends in a sigmoid"):
        successes(sure, T, t, "pgd")


@pytest.mark.parametrize("attack", ["pgd", "apgd-ce", "square"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_steps_that_float32_loses_are_refused(data, attack, norm):
    """An attack that stands still would call any network robust."""
    X, y, T, t = data
    net = make_pipeline(StandardScaler(), PatchNetClassifier(max_epochs=3, random_state=0))
    net.fit(16 * X + 1e7, y)
    with pytest.raises(ValueError, match=r"eps=0\.4 is lost beside"):
        run_attack(net, 16 * T + 1e7, t, attack, eps=0.4, norm=norm)


@pytest.mark.parametrize("option", [{"sharpness": 1e5}, {"single": True}])
def test_a_softmax_without_a_gradient_is_refused(data, option):
    X, y, T, t = data
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = NeuralNetClassifier(Softmax, lr=0.1, max_epochs=5, train_split=None, verbose=0)
        net.fit(X.astype(np.float32), y)
    assert successes(net, T, t, "pgd") > 0.2
    for name, value in option.items():
        setattr(net.module_, name, value)
    with pytest.raises(ValueError, match="ends in a softmax"):
        successes(net, T, t, "pgd")
    assert successes(net, T, t, "noise", steps=2) >= 0


def test_an_own_attack_cannot_spoil_the_next(data):
    X, y, T, t = data

    def spoil(model, images, labels, *, eps, norm, generator, bounds):
        with torch.no_grad():
            for part in model.parameters():
                part.zero_()
        return images

    net, T = linear_net(X, y), T.astype(np.float32)
    alone = worst_case(net, T, t, ["pgd"], eps=0.5).robust
    assert not alone.all()
    np.testing.assert_array_equal(worst_case(net, T, t, [spoil, "pgd"], eps=0.5).robust, alone)


def test_flips_find_as_much_where_images_are_far_from_zero(digits):
    """In float64 a scaler takes the offset away, and the search must see that."""
    X, y = digits[0][:300], digits[1][:300]
    left = []
    for offset in (0.0, 1e3, 1e5):
        vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0)
        net = PatchNetClassifier(max_epochs=4, module__width=8, module__hidden=16, random_state=0)
        steps = [("scale", StandardScaler()), ("vocab", vocabulary), ("clf", net)]
        model = CertifiedPatchClassifier(steps).fit(X + offset, y)
        right = np.flatnonzero(model.predict(X + offset) == y)[:20]
        found = run_attack(model, X[right] + offset, y[right], "flips", eps=6.0)
        left.append(found.success.mean())
    assert left[0] > 0.3
    assert min(left) >= left[0] - 0.1
