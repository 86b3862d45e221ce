"""Runs of attacks: those of one's own, several at once, and what they are judged by."""

import contextlib

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.attacks import gradients
from sklearn_patchcert.attacks.robustness import reproject, run_attack, worst_case
from sklearn_patchcert.scorers.functions import attack_accuracy
from sklearn_patchcert.scorers.reports import robustness_report

SMALL = {
    "max_epochs": 4,
    "batch_size": 16,
    "module__width": 4,
    "module__hidden": 16,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def plain(digits):
    net = PatchNetClassifier(**SMALL)
    net.fit(digits[0][:200], digits[1][:200])
    right = np.flatnonzero(net.predict(digits[0]) == digits[1])[:6]
    return net, digits[0][right], digits[1][right]


@pytest.fixture(scope="module")
def fitted(digits):
    X, y = digits[0][:200], digits[1][:200]
    vocabulary = PatchVocabulary(6, 4, strategy="kmeans", random_state=0)
    net = PatchNetClassifier(**SMALL)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", net)]).fit(X, y)
    right = np.flatnonzero(model.predict(digits[0]) == digits[1])[:6]
    return model, digits[0][right], digits[1][right]


def own(model, images, labels, *, eps, norm, generator, bounds=None, share=1.0):
    return gradients.pgd(
        model, images, labels, eps=share * eps, norm=norm, generator=generator, steps=3
    )


@pytest.mark.parametrize("attack", ["noise", "pgd", own])
def test_an_unknown_option_is_named_even_if_no_image_is_left(fitted, attack):
    model, X, y = fitted
    wrong = model.classes_[(y + 1) % 10]
    for labels in (y, wrong):
        with pytest.raises(TypeError, match="stepz"):
            run_attack(model, X, labels, attack, eps=1.0, stepz=3)


def test_what_an_own_attack_returns_is_looked_at(fitted):
    model, X, y = fitted

    def far(model, images, labels, *, eps, norm, generator, bounds):
        return images + 100.0

    found = run_attack(model, X, y, far, eps=1.0, bounds=(0, 16))
    assert found.norms.max() <= 1.0
    assert found.adversarial.max() <= 16
    for broken, words in (
        (lambda m, x, y, **options: x * float("nan"), "finite"),
        (lambda m, x, y, **options: x[:1], "shape"),
        (lambda m, x, y, **options: x.numpy(), "Tensor"),
    ):
        with pytest.raises(ValueError, match=words):
            run_attack(model, X, y, broken, eps=1.0)


def test_an_own_attack_is_given_a_module(fitted):
    model, X, y = fitted
    given = []

    def own(model, images, labels, *, eps, norm, generator, bounds):
        given.append(model)
        return images

    run_attack(model, X, y, own, eps=1.0)
    assert isinstance(given[0], torch.nn.Module)  # which other libraries insist on


def test_equal_names_do_not_overwrite_each_other(plain):
    model, X, y = plain
    weak = clone(model).set_params(max_epochs=1, random_state=5).fit(X, y)

    def strong(model, images, labels, *, eps, norm, generator, bounds):
        return gradients.pgd(model, images, labels, eps=eps, norm=norm, generator=generator)

    def nothing(model, images, labels, *, eps, norm, generator, bounds):
        return images

    strong.__name__ = nothing.__name__ = "<lambda>"
    entries = [("pgd", {"source": model}), ("pgd", {"source": weak}), strong, nothing, "noise"]
    for order in (entries, entries[::-1]):
        found = worst_case(model, X, y, order, eps=4.0)
        assert len(found.success) == 5
        assert found.success["pgd"].any() or found.success["pgd (2)"].any()
        np.testing.assert_array_equal(
            found.robust, found.correct & ~np.any(list(found.success.values()), axis=0)
        )
        np.testing.assert_array_equal(found.robust, found.correct & (found.norms == np.inf))
        assert attack_accuracy(model, X, y, eps=4.0, attack_list=order) == found.robust.mean()


def test_the_smallest_norm_of_all_attacks_counts_in_any_order(plain):
    model, X, y = plain
    attacks = [(own, {"share": share}) for share in (0.5, 1.0)]
    runs = [run_attack(model, X, y, own, eps=8.0, share=share) for share in (0.5, 1.0)]
    assert (runs[0].success & runs[1].success).any()
    norms = np.min([np.where(run.success, run.norms, np.inf) for run in runs], axis=0)
    for order in (attacks, attacks[::-1]):
        found = worst_case(model, X, y, order, eps=8.0)
        np.testing.assert_array_equal(found.norms, norms)
        np.testing.assert_array_equal(found.robust, np.isinf(norms))


def test_an_image_that_is_wrong_at_once_needs_no_attack_and_has_no_certificate(fitted):
    model, X, y = fitted
    y = y.copy()
    y[:3] = model.classes_[(y[:3] + 1) % 10]
    found = worst_case(model, X, y, ["noise"], eps=1e-6, steps=1)
    np.testing.assert_array_equal(found.norms == 0, ~found.correct)
    report = robustness_report(model, X, y, eps=1e-6, steps=1)
    table = dict(zip(report.table["name"], report.table["accuracy"], strict=True))
    assert table["certified: smallest patch radius"] == table["clean"] == 50.0


def test_reprojection(fitted, plain):
    model, X, _ = fitted
    with pytest.raises(ValueError, match="adversarial"):
        reproject(model, X, X[:3])
    for name in ("X", "adversarial"):
        with pytest.raises(ValueError, match=name):
            reproject(model, **{"X": X, "adversarial": X + 1.0, name: np.full_like(X, np.nan)})
    with pytest.raises(TypeError, match="vocabulary"):
        reproject(plain[0], X, X + 1.0)


@contextlib.contextmanager
def double():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, double])
@pytest.mark.parametrize(
    ("name", "options"),
    [("pgd", {"steps": 2}), ("square", {"steps": 2}), ("flips", {"steps": 2, "greedy": 2})],
)
def test_the_globals_of_torch_change_nothing(fitted, mode, name, options):
    model, X, y = fitted
    wanted = run_attack(model, X, y, name, eps=6.0, **options)
    with mode():
        found = run_attack(model, X, y, name, eps=6.0, **options)
    np.testing.assert_array_equal(found.success, wanted.success)
    np.testing.assert_allclose(found.norms, wanted.norms, rtol=1e-5)
    assert wanted.norms.any()


@pytest.mark.parametrize("attack", ["noise", "square"])
def test_what_has_neither_network_nor_probabilities(digits, attack):
    model = RidgeClassifier().fit(digits[0][:100], digits[1][:100])
    with pytest.raises(TypeError, match="source"):
        run_attack(model, digits[0][:5], digits[1][:5], attack, eps=1.0)
