"""Certificates of predictions: equal to brute force, and below every attack."""

import itertools
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import RidgeClassifier
from sklearn.naive_bayes import CategoricalNB
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchNetClassifier,
    PatchVocabulary,
)
from sklearn_patchcert.attacks.robustness import run_attack
from sklearn_patchcert.prediction.configurations import certify_configurations, wall_costs
from sklearn_patchcert.scorers.functions import average_certified_radius, certified_accuracy
from sklearn_patchcert.voronoi import certificate


def total(costs, ids, norm):
    chosen = costs[np.arange(len(ids)), list(ids)]
    return np.sqrt(np.square(chosen).sum()) if norm == "l2" else chosen.max()


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.sampled_from(["l2", "linf"]),
       st.booleans(), st.sampled_from([1, 2, 5, 17, 32, 33, 40, 100, 300]))  # fmt: skip
@settings(max_examples=150, deadline=None, derandomize=True)
def test_enumeration_is_brute_force(seed, positions, choices, norm, ties, most):
    rng = np.random.default_rng(seed)
    shape = positions, choices
    costs = rng.integers(0, 3, size=shape).astype(float) if ties else rng.random(shape)
    costs[rng.random(shape) < 0.1] = np.inf
    own = rng.integers(choices, size=positions)
    costs[np.arange(positions), own] = 0
    everything = list(itertools.product(range(choices), repeat=positions))
    bad = {ids for ids in everything if rng.random() < 0.2} - {tuple(costs.argmin(-1))}
    seen = []

    def changes(rows, ids):
        seen.extend(map(tuple, ids.tolist()))
        return np.array([tuple(i) in bad for i in ids.tolist()])

    radius, exact, looked, changing, _ = certify_configurations(
        changes, costs[None], norm, max_configurations=most
    )
    prices = {ids: total(costs, ids, norm) for ids in everything}
    truth = min((prices[ids] for ids in bad), default=np.inf)
    assert radius[0] <= truth
    assert len(set(seen)) == len(seen)
    assert looked[0] <= most
    reachable = sum(np.isfinite(price) for price in prices.values())
    if exact[0]:
        assert radius[0] == pytest.approx(truth)
        assert tuple(changing[0]) in bad
    elif most >= reachable:
        assert radius[0] == np.inf == truth
    else:
        order = sorted(prices.values())
        assert radius[0] == pytest.approx(order[most])


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_wall_costs_are_the_walls_and_sound(norm, scale):
    rng = np.random.default_rng(0)
    tokens, patches = scale * rng.normal(size=(6, 4)), scale * rng.normal(size=(30, 2, 4))
    weights = rng.uniform(0.5, 2, size=(2, 4))
    costs = wall_costs(patches, tokens, norm, weights=weights)
    ids, radii, others = certificate.certify(
        patches, tokens, norm, weights=weights, return_witness=True
    )
    assert (np.take_along_axis(costs, ids[..., None], -1) == 0).all()
    masked = costs.copy()
    np.put_along_axis(masked, ids[..., None], np.inf, -1)
    np.testing.assert_allclose(masked.min(-1), radii, rtol=1e-12)
    np.testing.assert_array_equal(masked.argmin(-1), others)
    for b in range(6):  # at a wall's price times (1 - 1e-9) its token is not reached
        steps = certificate.step_to_wall(
            patches, tokens, ids, np.full_like(ids, b), norm, weights=weights
        )
        moved = patches + weights * np.nan_to_num(steps) * (1 - 1e-9)
        assert not ((certificate.tokenize(moved, tokens) == b) & (ids != b)).any()


@given(
    st.integers(0, 10**6),
    st.sampled_from(certificate.NORMS),
    st.integers(1, 4),
    st.sampled_from([1e-6, 1e-10, 1e-13]),
    st.sampled_from([1.0, 1e8, 1e-150, 1e-200]),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_wall_costs_are_below_the_rational_truth(seed, norm, dim, apart, unit):
    rng = np.random.default_rng(seed)
    tokens, weights = rng.normal(size=(4, dim)), unit * rng.uniform(0.1, 3, size=(1, dim))
    tokens[1] = tokens[0] * (1 + apart)
    patches = tokens[rng.integers(4, size=(5, 1))] + apart * rng.normal(size=(5, 1, dim))
    costs = wall_costs(patches, tokens, norm, weights=weights)
    own = certificate.tokenize(patches, tokens)
    a_b = [[Fraction(v) for v in token] for token in tokens.tolist()]
    w = [Fraction(v) for v in weights[0].tolist()]
    for row, a in enumerate(own[:, 0]):
        x = [Fraction(v) for v in patches[row, 0].tolist()]
        squares = [sum((p - q) ** 2 for p, q in zip(x, t, strict=True)) for t in a_b]
        for b in set(range(4)) - {int(a)}:
            normal = [abs(s * (p - q)) for s, p, q in zip(w, a_b[a], a_b[b], strict=True)]
            gap, cost = squares[b] - squares[a], Fraction(float(costs[row, 0, b]))
            if norm == "l2":
                assert (2 * cost) ** 2 * sum(n * n for n in normal) <= gap**2
            else:
                assert 2 * cost * (sum(normal) if norm == "linf" else max(normal)) <= gap


@pytest.mark.parametrize("norm", certificate.NORMS)
@pytest.mark.parametrize("n_walls", [1, 2, 4, 7, 20])
def test_costs_are_the_farthest_of_the_walls_that_are_measured(norm, n_walls):
    rng = np.random.default_rng(0)
    tokens, patches = rng.normal(size=(7, 3)), rng.normal(size=(12, 2, 3))
    weights = np.array([[1.0, 2.0, 0.5], [1.0, 1.0, 1.0]])
    costs = wall_costs(patches, tokens, norm, weights=weights, n_walls=n_walls)
    order = {"l2": 2, "linf": 1, "l1": np.inf}[norm]
    for row, p in np.ndindex(12, 2):
        squares = np.square(patches[row, p] - tokens).sum(1)
        near = squares.argsort()[:n_walls]
        for b in range(7):
            walls = [
                (squares[b] - squares[a])
                / (2 * np.linalg.norm(weights[p] * (tokens[a] - tokens[b]), order))
                for a in near
                if a != b
            ]
            wanted = 0.0 if b == squares.argmin() else max(0.0, *walls)
            assert costs[row, p, b] == pytest.approx(wanted, rel=1e-9)


def pipeline(digits, *before, clf=None, **options):
    options = {"n_tokens": 6, "patch_size": 4, "random_state": 0, "strategy": "kmeans", **options}
    steps = [(f"s{i}", step) for i, step in enumerate(before)]
    clf = [("clf", clf or RidgeClassifier())]
    if options.get("output") == "ids":
        clf = [("hot", OneHotEncoder(handle_unknown="ignore")), *clf]
    vocab = ("vocab", PatchVocabulary(**options))
    return CertifiedPatchClassifier([*steps, vocab, *clf]).fit(digits[0][:800], digits[1][:800])


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("output", ["images", "ids"])
@pytest.mark.parametrize("before", [(), (ChannelStandardizer(),)])
def test_equal_to_all_configurations_of_a_small_model(digits, norm, output, before):
    model = pipeline(digits, *before, output=output)
    X = digits[0][800:812]
    found = model.certify_prediction(X, norm=norm)
    np.testing.assert_array_equal(found.prediction, model.predict(X))
    vocabulary = model["vocab"]
    every = np.array(list(itertools.product(range(6), repeat=4)))
    scaled = model[: len(before)].transform(X) if before else X
    rest = model[len(before) + 1 :]
    classes = rest.predict(every if output == "ids" else vocabulary.inverse_transform(every))
    patches = scaled.reshape(-1, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 16)
    scale = 1 / model[0].scale_[0] if before else 1.0
    weights = np.full((4, 16), scale)
    costs = wall_costs(patches, vocabulary.vocabulary_, norm, weights=weights, n_walls=6)
    for row in range(len(X)):
        prices = np.array([total(costs[row], ids, norm) for ids in every])
        truth = prices[classes != found.prediction[row]].min()
        assert found.radius[row] <= truth * (1 + 1e-9)
        assert found.radius[row] == pytest.approx(truth, rel=1e-5)
        assert found.exact[row]
    smallest = model.certify(X, norm).reshape(len(X), -1).min(1)
    assert (found.radius >= smallest * (1 - 1e-6)).all()
    assert (found.radius > 1.5 * smallest).any()


def test_adversarial_images_are_real_and_no_nearer_than_the_radius(digits):
    model = pipeline(digits)
    X = digits[0][800:830]
    walls, cells = (model.certify_prediction(X, cells=c) for c in (False, True))
    assert (cells.radius >= walls.radius * (1 - 1e-5)).all()
    assert (cells.radius > 1.001 * walls.radius).any()
    for found in (walls, cells):
        there = ~np.isnan(found.adversarial).any(1)
        assert there.sum() >= 25
        moved = found.adversarial[there]
        norms = np.linalg.norm(moved - X[there], axis=1)
        assert (model.predict(moved) != found.prediction[there]).all()
        assert (norms >= found.radius[there]).all()
    norms = np.linalg.norm(cells.adversarial - X, axis=1)
    assert np.nanmedian(norms / cells.radius) < 1.001  # and next to it, where cells are priced


def test_a_network_is_certified_below_every_attack_and_more_looks_help(digits):
    net = PatchNetClassifier(max_epochs=4, random_state=0)
    model = pipeline(digits, clf=net, patch_size=2, n_tokens=6)
    X, y = digits[0][800:820].astype(np.float32), digits[1][800:820]
    few, many = (model.certify_prediction(X, max_configurations=n) for n in (20, 2000))
    assert (many.radius >= few.radius).all()
    assert (many.n_configurations <= 2000).all()
    assert many.radius.mean() > 2 * model.certify(X).reshape(20, -1).min(1).mean()
    for name, options in [("flips", {}), ("apgd-ce", {"steps": 20})]:
        attacked = run_attack(model, X, y, name, eps=12.0, **options)
        norms = np.where(attacked.success, attacked.norms, np.inf)
        assert (norms >= many.radius).all()
    exact = many.exact & ~np.isnan(many.adversarial).any(1)
    assert (model.predict(many.adversarial[exact]) != many.prediction[exact]).all()


def test_tokens_by_channel_and_padding():
    rng = np.random.default_rng(0)
    X = rng.random((60, 5, 7, 2))
    y = (X.mean((1, 2, 3)) > 0.5).astype(int)

    class Mean(RidgeClassifier):
        def fit(self, X, y):
            return super().fit(X.reshape(len(X), -1), y)

        def decision_function(self, X):
            return super().decision_function(X.reshape(len(X), -1))

    vocabulary = PatchVocabulary(4, 4, per_channel=True, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", Mean())]).fit(X, y)
    found = model.certify_prediction(X[:20])
    assert (found.radius >= model.certify(X[:20]).reshape(20, -1).min(1) * (1 - 1e-6)).all()
    rng = np.random.default_rng(1)
    for _ in range(50):  # nothing inside the radius changes the class
        delta = rng.normal(size=(20, 5, 7, 2))
        delta /= np.linalg.norm(delta.reshape(20, -1), axis=1)[:, None, None, None]
        size = np.minimum(found.radius, 10) * (1 - 1e-9)
        moved = X[:20] + size[:, None, None, None] * delta
        np.testing.assert_array_equal(model.predict(moved), found.prediction)


@pytest.mark.parametrize("apart", [1e-3, 1e-11, 1e-13, 1e-14, 4e-16])
def test_cells_of_tokens_that_nearly_coincide_are_priced_as_the_tokeniser_rounds(apart):
    tokens = [[0.0, 0.0], [4.0, 0.0], [4.0, apart]]
    vocabulary = PatchVocabulary.from_tokens(tokens, patch_size=(1, 2), image_shape=(1, 2))
    vocabulary.set_params(output="ids")
    ids = np.array([[0], [1], [2]])
    second = CategoricalNB(min_categories=3, alpha=1e-9).fit(ids, [0, 1, 0])
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", second)])
    X = np.array([[1.0, 1.0]])
    radius = model.certify_prediction(X, cells=True).radius[0]
    assert radius >= 1 - 1e-9  # the wall of the second token, at least
    moved = np.stack([np.full(5001, 2 + 1e-9), np.linspace(0, 1, 5001)], axis=1)
    changed = model.predict(moved) != 0
    assert radius <= np.linalg.norm(moved - X, axis=1)[changed].min()


@pytest.mark.parametrize("output", ["images", "ids"])
def test_steps_that_pass_all_through_or_work_in_place(digits, output):
    digits = [part.copy() for part in digits]  # to fit in place is to change it
    X = digits[0][800:812].copy()
    before = X.copy()
    plain = pipeline(digits, output=output)
    found = plain.certify_prediction(X)
    steps = [("none", "passthrough"), *plain.steps]
    again = CertifiedPatchClassifier(steps).certify_prediction(X)
    np.testing.assert_array_equal(again.radius, found.radius)
    scaled = [
        pipeline(digits, StandardScaler(copy=copy), output=output).certify_prediction(X)
        for copy in (True, False)
    ]
    np.testing.assert_array_equal(scaled[0].radius, scaled[1].radius)
    np.testing.assert_array_equal(X, before)


def test_one_pixel_a_token_as_ids_behind_nothing():
    # Ids that look like images must not be tokenised once more.
    vocabulary = PatchVocabulary.from_tokens([[0.0], [5.0]], patch_size=1, image_shape=(1, 2))
    vocabulary.set_params(output="ids")
    last = CategoricalNB(min_categories=2).fit([[0, 0], [1, 0], [0, 1], [1, 1]], [0, 1, 0, 1])
    steps = [("none", "passthrough"), ("vocab", vocabulary), ("clf", last)]
    found = CertifiedPatchClassifier(steps).certify_prediction(np.array([[1.0, 1.0], [4.0, 0.0]]))
    np.testing.assert_allclose(found.radius, 1.5, rtol=1e-9)
    assert found.exact.all()


def test_rows_and_frames_as_in_predict(digits):
    X, y = digits[0][:300], digits[1][:300]
    names = [f"p{i}" for i in range(64)]
    frame = pd.DataFrame(X, columns=names)
    tokens = PatchVocabulary(4, 4, strategy="kmeans", random_state=0).fit(X).vocabulary_
    vocabulary = PatchVocabulary.from_tokens(tokens, patch_size=4, image_shape=(8, 8))
    last = RidgeClassifier().fit(vocabulary.transform(X), y)
    own = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", last)])
    np.testing.assert_array_equal(own.certify_prediction(X[:5]).prediction, own.predict(X[:5]))
    steps = [
        ("scale", StandardScaler()),
        ("vocab", PatchVocabulary(4, strategy="kmeans")),
        *own.steps[1:],
    ]
    model = CertifiedPatchClassifier(steps).fit(frame, y)
    found = model.certify_prediction(frame[:5])
    assert (found.radius > 0).all()
    with pytest.raises(ValueError, match="feature names"):
        model.certify_prediction(frame[:5][names[::-1]])


def test_a_network_whose_answer_is_not_its_largest_logit(digits):
    class Second(PatchNetClassifier):
        def predict(self, X):
            return self.classes_[self.predict_proba(X).argsort(axis=1)[:, -2]]

    class Hidden(ClassifierMixin, BaseEstimator):  # the same answers, not known to be a network's
        def __init__(self, net=None):
            self.net = net

        def fit(self, X, y):
            raise NotImplementedError

        def predict(self, X):
            return self.net.predict(X)

        def __sklearn_is_fitted__(self):
            return True

    X = digits[0][800:806]
    model = pipeline(digits, clf=Second(max_epochs=1, random_state=0))
    hidden = CertifiedPatchClassifier([model.steps[0], ("clf", Hidden(model[-1]))])
    found, truth = (m.certify_prediction(X, max_configurations=100) for m in (model, hidden))
    np.testing.assert_array_equal(found.prediction, model.predict(X))
    assert (found.radius <= truth.upper).all()
    assert (truth.exact & (found.radius > 0)).any()
    with pytest.raises(TypeError, match="largest"):
        model.certify_prediction(X, method="additive")


def test_scorers(digits):
    model = pipeline(digits)
    X, y = digits[0][800:830], digits[1][800:830]
    found = model.certify_prediction(X, max_configurations=100)
    right = found.prediction == y
    at = float(np.median(found.radius))
    options = {"max_configurations": 100}
    scored = [certified_accuracy(model, X, y, radius=r, **options) for r in (0.0, at, 1e9)]
    assert scored == [right.mean(), (right & (found.radius >= at)).mean(), 0.0]
    average = average_certified_radius(model, X, y, **options)
    assert average == pytest.approx(np.where(right, found.radius, 0).mean())
    few = certified_accuracy(model, X, y, radius=at, n_samples=7, **options)
    assert few == certified_accuracy(model, X, y, radius=at, n_samples=7, **options)


def test_bad_input(digits):
    model = pipeline(digits)
    with pytest.raises(ValueError, match="norm"):
        model.certify_prediction(digits[0][:2], norm="l1")
    with pytest.raises(ValueError, match="cells"):
        model.certify_prediction(digits[0][:2], norm="linf", cells=True)
