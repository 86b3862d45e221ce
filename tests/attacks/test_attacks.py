"""Attacks: within their norm, as strong as they must be, never inside a certificate."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchVocabulary,
)
from sklearn_patchcert.attacks import gradients, perturbations
from sklearn_patchcert.attacks.offers import tables
from sklearn_patchcert.attacks.robustness import ATTACKS, reproject, run_attack, worst_case
from sklearn_patchcert.attacks.views.torch_modules import as_torch_module
from sklearn_patchcert.scorers.functions import attack_accuracy, sspgd_accuracy
from sklearn_patchcert.scorers.reports import robustness_report

SOFT = {"gradient": "soft", "temperature": 2.0}
SMALL = {
    "max_epochs": 4,
    "batch_size": 32,
    "module__width": 8,
    "module__hidden": 32,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def images(digits):
    return digits[0].reshape(-1, 8, 8).astype(np.float32), digits[1]


@pytest.fixture(scope="module")
def discrete(images):
    X, y = images
    vocabulary = PatchVocabulary(8, 2, random_state=0, max_iter=2)
    net = PatchNetClassifier(**SMALL)
    steps = [("scale", ChannelStandardizer()), ("vocab", vocabulary), ("clf", net)]
    return CertifiedPatchClassifier(steps).fit(X[:1200], y[:1200])


@pytest.fixture(scope="module")
def plain(images):
    return PatchNetClassifier(**SMALL).fit(images[0][:1200], images[1][:1200])


@pytest.fixture(scope="module")
def held(images):
    return images[0][1200:1240], images[1][1200:1240]


def linear(dim=12, seed=0):
    """A linear model of two classes, whose L2 and Linf distances are known."""
    torch.manual_seed(seed)
    weight = torch.randn(1, dim)
    model = nn.Sequential(nn.Flatten(), nn.Linear(dim, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.cat([weight, -weight]))
        model[1].bias.zero_()
    X = torch.randn(40, 1, 3, 4)
    score = 2 * (X.flatten(1) @ weight[0])
    y = (score < 0).long()
    return model, X, y, {"l2": score.abs() / (2 * weight.norm()),
                         "linf": score.abs() / (2 * weight.abs().sum())}  # fmt: skip


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", ["sspgd", "pgd", "apgd-ce", "apgd-dlr"])
def test_on_a_linear_model_attacks_are_exact(name, norm):
    model, X, y, distance = linear()
    eps = float(distance[norm].median())
    options = {"start": "zero"} if name in ("sspgd", "pgd") else {}
    with torch.random.fork_rng():
        generator = torch.Generator().manual_seed(0)
        found = ATTACKS[name](model, X, y, eps=eps, norm=norm, generator=generator, **options)
    fooled = model(found).argmax(1) != y
    near = distance[norm] < 0.98 * eps
    assert fooled[near].all()
    assert not fooled[distance[norm] > 1.0001 * eps].any()


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_stays_within_its_norm_and_bounds(plain, held, name, norm):
    X, y = held
    few = {"steps": 100} if name == "square" else {}
    found = run_attack(plain, X, y, name, eps=1.5, norm=norm, bounds=(0, 16), **few)
    delta = (found.adversarial.astype(float) - X).reshape(len(X), -1)
    size = np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)
    assert size.max() <= 1.5
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 16
    np.testing.assert_allclose(found.norms, size)
    again = run_attack(plain, X, y, name, eps=1.5, norm=norm, bounds=(0, 16), **few)
    np.testing.assert_array_equal(found.adversarial, again.adversarial)
    misclassified = plain.predict(found.adversarial) != y
    np.testing.assert_array_equal(found.success, misclassified & found.correct)


def test_normalize_and_project_are_what_they_say():
    g = torch.randn(5, 2, 3, 3)
    assert torch.allclose(perturbations.normalize(g, "l2").flatten(1).norm(dim=1), torch.ones(5))
    assert (perturbations.normalize(g, "linf").abs() == 1).all()
    for norm, order in (("l2", 2), ("linf", torch.inf)):
        inside = perturbations.project(g, 0.5, norm)
        sizes = inside.flatten(1).norm(order, dim=1)
        assert (sizes <= 0.5 + 1e-6).all()
        assert torch.equal(perturbations.project(1e-3 * g, 0.5, norm), 1e-3 * g)
        start = perturbations.random_start(g, 0.5, norm, torch.Generator().manual_seed(0))
        assert (start.flatten(1).norm(order, dim=1) <= 0.5 + 1e-6).all()


@pytest.mark.parametrize("gradient", ["bpda", "soft", "none"])
def test_the_module_is_the_model(discrete, plain, held, gradient):
    X, _ = held
    for model in (discrete, plain):
        module = as_torch_module(model, gradient)
        batch = torch.from_numpy(X)[:, None].requires_grad_()
        logits = module(batch)
        np.testing.assert_array_equal(logits.argmax(1).numpy(), model.predict(X))
        probabilities = logits.softmax(1).detach().numpy()
        np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-5)
        logits.sum().backward()
        assert (batch.grad.abs().sum() > 0) == (gradient != "none" or model is plain)


def test_what_is_no_network_is_refused(images, discrete):
    X, y = images
    rows = X.reshape(len(X), -1)
    vocabulary = PatchVocabulary(4, 4, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier(
        [("vocab", vocabulary), ("clf", LogisticRegression(max_iter=5000, C=1e-3))]
    ).fit(rows[:300], y[:300])
    with pytest.raises(TypeError, match="no torch network"):
        model.as_torch_module()
    with pytest.raises(TypeError, match="no torch network"):
        run_attack(model, rows[:5], y[:5], "pgd", eps=1.0)
    found = run_attack(model, rows[300:320], y[300:320], "noise", eps=10.0)  # asks for scores only
    assert found.norms.max() <= 10
    with pytest.raises(ValueError, match="gradient"):
        discrete.as_torch_module("hard")
    with pytest.raises(ValueError, match="flips"):
        run_attack(discrete, X[:5], y[:5], "flips", eps=1.0, norm="linf")


SUITE = ["noise", ("square", {"steps": 60}), "sspgd", ("pgd", {"steps": 10}),
         ("apgd-ce", {"steps": 10}), ("pgd", {"steps": 10, **SOFT}), "flips"]  # fmt: skip


def test_no_attack_succeeds_inside_the_certificate(discrete, held):
    X, y = (part[:12] for part in held)
    for eps in (0.3, 4.0):
        found = worst_case(discrete, X, y, SUITE, eps=eps)
        radii = discrete.certify(X).reshape(len(X), -1)
        assert (found.norms[found.correct] >= radii.min(1)[found.correct]).all()
        for name, options in [("apgd-ce", {"steps": 10}), ("flips", {})]:
            result = run_attack(discrete, X, y, name, eps=eps, **options)
            moved = discrete[:1].transform(result.adversarial)
            changed = discrete["vocab"].tokenize(moved) != discrete["vocab"].tokenize(
                discrete[:1].transform(X)
            )
            delta = (result.adversarial.astype(float) - X).reshape(-1, 4, 2, 4, 2)
            sizes = np.sqrt(np.square(delta).sum((2, 4))).reshape(len(X), -1)
            assert not (changed.reshape(len(X), -1) & (sizes < radii)).any()


def test_flips_are_stronger_than_gradients(discrete, held):
    X, y = (part[:20] for part in held)
    found = worst_case(discrete, X, y, SUITE, eps=4.0)
    counts = {name: success.sum() for name, success in found.success.items()}
    assert counts["flips"] >= max(counts.values())


@pytest.mark.parametrize("after", [None, "apgd-ce"])
def test_flips_among_the_tokens_that_can_be_paid_for(discrete, held, monkeypatch, after):
    X, y = (part[:10] for part in held)
    found = run_attack(discrete, X, y, "flips", eps=5.0, after=after)
    monkeypatch.setattr(tables, "_MOST", 16 * 6)  # six in each place
    again = run_attack(discrete, X, y, "flips", eps=5.0, after=after)
    assert found.success.any()
    assert again.success.sum() <= found.success.sum() + 1  # but for luck
    assert again.norms.max() <= 5.0


def test_flips_spend_what_another_attack_left(discrete, held):
    X, y = held
    alone = run_attack(discrete, X, y, "apgd-ce", eps=8.0)
    after = run_attack(discrete, X, y, "flips", eps=8.0, after="apgd-ce", steps=0)
    assert (after.success | ~alone.success).mean() > 0.98  # what it found, but for rounding
    assert after.success.sum() > alone.success.sum()
    assert after.norms[alone.success].mean() < alone.norms[alone.success].mean()


def test_reprojection_keeps_the_tokens_and_never_costs_more(discrete, held):
    X, y = held
    found = run_attack(discrete, X, y, "apgd-ce", eps=6.0, steps=20)
    smaller = reproject(discrete, X, found.adversarial)
    tokens = [
        discrete["vocab"].tokenize(discrete[:1].transform(x)) for x in (found.adversarial, smaller)
    ]
    same = (tokens[0] == tokens[1]).reshape(len(X), -1).all(1)
    assert same.mean() > 0.9  # others lie on an edge of a cell, to float32
    norms = [np.linalg.norm((x.astype(float) - X).reshape(len(X), -1), axis=1)
             for x in (found.adversarial, smaller)]  # fmt: skip
    assert (norms[1] <= norms[0] * (1 + 1e-3) + 1e-6).all()
    assert norms[1].mean() < 0.9 * norms[0].mean()


def test_scorers_and_report(discrete, plain, held):
    X, y = held
    one = sspgd_accuracy(discrete, X, y, eps=3.0)
    many = attack_accuracy(discrete, X, y, eps=3.0, attack_list=["apgd-ce", "flips"], steps=10)
    assert many <= one <= 1
    assert sspgd_accuracy(discrete, X, y, eps=3.0, n_samples=20) == sspgd_accuracy(
        discrete, X, y, eps=3.0, n_samples=20
    )
    report = robustness_report(discrete, X[:12], y[:12], eps=2.0, steps=3, sigma=1.0, n=20)
    table = dict(zip(report.table["name"], report.table["accuracy"], strict=True))
    assert table["worst case"] <= min(v for k, v in table.items() if not k.startswith(
        ("certified", "smoothed")))  # fmt: skip
    assert table["certified: smallest patch radius"] <= table["worst case"]
    assert all(isinstance(ok, bool) for ok in report.checks.values())
    assert len(report.checks) == 6
    assert report.checks["an unbounded budget leaves nothing"]
    shown = str(report).splitlines()
    assert len(shown) == len(table) + 6
    assert f"{table['worst case']:7.2f} %  worst case" in shown
    assert "   pass    an unbounded budget leaves nothing" in shown


@pytest.mark.parametrize("options", [{}, {"norm": "linf"}, {"bounds": (0, 16)}], ids=str)
def test_tokens_are_searched_wherever_they_can_be_and_it_is_told_where_not(
    discrete, plain, held, options
):
    """Gradients alone leave too many images of a model with tokens."""
    X, y = (values[:12] for values in held)
    eps = 0.5 if "norm" in options else 2.0
    name = "tokens were searched, which needs L2 without bounds"
    report = robustness_report(discrete, X, y, eps=eps, steps=2, **options)
    assert report.checks[name] is (not options)
    assert name not in robustness_report(plain, X, y, eps=eps, steps=2, **options).checks
    for model in (discrete, plain):
        attacks = ["apgd-ce", "apgd-dlr", *["flips"] * (model is discrete and not options)]
        named = attack_accuracy(model, X, y, eps=eps, attack_list=attacks, steps=5, **options)
        assert attack_accuracy(model, X, y, eps=eps, steps=5, **options) == named
    moved = {"eps": eps, "steps": 5, "source": plain, **options}  # a source without tokens
    gradients_alone = attack_accuracy(discrete, X, y, attack_list=["apgd-ce", "apgd-dlr"], **moved)
    assert attack_accuracy(discrete, X, y, **moved) == gradients_alone


def test_an_attack_of_the_users_own(plain, held):
    def straight(model, images, labels, *, eps, norm="l2", generator=None, bounds=None, part=1.0):
        return gradients.sspgd(model, images, labels, eps=part * eps, norm=norm, start="zero")

    X, y = held
    alone = run_attack(plain, X, y, straight, eps=4.0)
    found = worst_case(plain, X, y, [straight, (straight, {"part": 0.5}), "noise"], eps=4.0)
    assert list(found.success) == ["straight", "straight part=0.5", "noise"]
    np.testing.assert_array_equal(found.success["straight"], alone.success)
    assert alone.success.any()
    score = attack_accuracy(plain, X, y, eps=4.0, attack_list=[straight], part=0.5)
    assert score == (alone.correct & ~found.success["straight part=0.5"]).mean()
