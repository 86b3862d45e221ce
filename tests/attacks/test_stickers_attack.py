"""The attack with a sticker: inside its window, judged by the model, never at a proven place."""

import itertools

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.preprocessing import StandardScaler

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchVocabulary,
    StickerCertifiedClassifier,
)
from sklearn_patchcert.attacks.stickers import attack, windows
from sklearn_patchcert.attacks.stickers.attack import run_sticker_attack
from sklearn_patchcert.patches import images_to_patches
from sklearn_patchcert.scorers import sticker_accuracy, sticker_attack_accuracy

FAST = {"steps": 5, "n_places": 2, "n_views": 4, "n_trials": 2}


def vocabulary(**options):
    return PatchVocabulary(8, 2, strategy="kmeans", random_state=0, **options)


def net():
    small = {"max_epochs": 6, "batch_size": 32, "module__width": 8, "module__hidden": 16}
    return PatchNetClassifier(random_state=0, **small)


def tokens(*last):
    return CertifiedPatchClassifier([("vocab", vocabulary()), *last])


MODELS = {
    "network behind tokens": lambda: tokens(("clf", net())),
    "rows behind scaled tokens": lambda: CertifiedPatchClassifier(
        [("scale", StandardScaler(with_std=False)), ("vocab", vocabulary()),
         ("clf", LogisticRegression(C=0.1))]
    ),
    "network": lambda: net(),
    "no probabilities": lambda: RidgeClassifier(),
}  # fmt: skip


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits
    chosen = y < 4  # few classes, so that small networks have certificates
    return X[chosen].astype(np.float64), y[chosen]


@pytest.fixture(scope="module")
def models(data):
    made = {}

    def fitted(kind, **options):
        key = kind, str(options)
        if key not in made:
            options = {"sticker_size": 2, "n_masks": 3, **options}
            model = StickerCertifiedClassifier(MODELS[kind](), **options)
            made[key] = model.fit(data[0][:300], data[1][:300])
        return made[key]

    return fitted


@pytest.fixture
def some(data):
    return data[0][300:312], data[1][300:312]


@pytest.mark.parametrize("kind", MODELS)
def test_no_attack_succeeds_at_a_certified_place(models, some, kind):
    model, (X, y) = models(kind), some
    found = model.certify(X)
    best = {**FAST, "certified_places": found.places, "n_places": 4}
    hard = run_sticker_attack(model, X, y, **best)
    worst = run_sticker_attack(model, X, y, **{**best, "certified_places": ~found.places})
    assert hard.success.any()
    assert found.places.any()
    for result in (hard, worst):
        rows = np.flatnonzero(result.success)
        cells = result.places[rows] // model.cell_size_
        assert not found.places[rows, cells[:, 0], cells[:, 1]].any()
        assert not result.success[found.certified].any()
        assert (model.predict(result.adversarial) != y)[rows].all()
    proven = (found.certified & (found.prediction == y)).mean()
    assert proven <= (hard.correct & ~hard.success).mean() < hard.correct.mean()


def test_two_stickers_are_no_weaker_than_one_and_never_at_a_certified_place(models, some):
    model, (X, y) = models("network behind tokens", n_stickers=2, sticker_size=1, n_masks=2), some
    found = model.certify(X)
    best = {**FAST, "certified_places": found.places, "share": 0.0}
    one, two = (run_sticker_attack(model, X, y, n_stickers=count, **best) for count in (1, None))
    assert (one.success <= two.success).all()
    assert one.success.sum() < two.success.sum()
    assert two.places.shape == two.sizes.shape == (len(X), 2, 2)
    assert not (two.success & found.certified).any()
    proven = (found.certified & (found.prediction == y)).mean()
    assert proven <= (two.correct & ~two.success).mean()
    for row in np.flatnonzero(two.success):
        change = (two.adversarial[row] - X[row]).reshape(8, 8)
        used = [at for at in two.places[row] if at[0] >= 0]
        for at in used:
            change[tuple(at)] = 0
            assert not found.places[row][tuple(at // model.cell_size_)]
        assert not change.any()
    assert (two.places[two.success] >= 0).all((1, 2)).any()


@pytest.mark.parametrize("share", [0.0, 0.99])
@pytest.mark.parametrize("kind", ["network behind tokens", "rows behind scaled tokens", "network"])
def test_what_is_tried_differs_in_one_window_and_less_than_the_radii(
    models, some, monkeypatch, kind, share
):
    model, (X, y) = models(kind), some
    asked, judge_of = [], attack.judge_of
    monkeypatch.setattr(
        attack, "judge_of",
        lambda one: lambda Z: asked.append(Z.copy()) or judge_of(one)(Z),
    )  # fmt: skip
    sizes = [2, (1, 4)]
    found = run_sticker_attack(model, X, y, sizes, share=share, bounds=(0, 17), **FAST)
    tried = np.concatenate(asked).reshape(-1, 1, 8, 8)
    assert tried.min() >= 0
    assert tried.max() <= 17
    clean = X.reshape(1, -1, 8, 8)
    radii = model.certify(X).radii
    moved, inside = tried - clean, np.zeros(tried.shape[0], dtype=bool)
    for top, left, height, width in windows.boxes_of([(2, 2), (1, 4)], (8, 8)):
        beside, far = np.ones((2, 8, 8), dtype=bool)
        beside[top : top + height, left : left + width] = False
        if radii is not None:  # patches that the sticker does not touch move, but not too far
            far[top // 2 * 2 : -(-(top + height) // 2) * 2,
                left // 2 * 2 : -(-(left + width) // 2) * 2] = False  # fmt: skip
            steps = images_to_patches((moved * far).reshape(-1, 8, 8, 1), (2, 2))
            norms = np.linalg.norm(steps, axis=-1).reshape(*moved.shape[:2], 4, 4)
            within = ((norms < radii) | (norms == 0)).all((2, 3))
            beside &= ~far if share else beside
        else:
            within = True
        inside |= (within & (moved[..., beside] == 0).all(-1)).any(1)
    assert inside.all()
    rows = np.flatnonzero(found.success)
    assert rows.size
    assert (found.places[~found.success] == -1).all()
    np.testing.assert_array_equal(found.adversarial[~found.success], X[~found.success])
    assert set(map(tuple, found.sizes[rows])) <= {(2, 2), (1, 4)}
    for row in rows:
        (top, left), (height, width) = found.places[row], found.sizes[row]
        change = (found.adversarial[row] - X[row]).reshape(8, 8)
        beside = change.copy()
        beside[top : top + height, left : left + width] = 0
        assert (np.abs(beside).max() > 0) == (share > 0 and radii is not None)


def test_patches_move_and_keep_their_tokens(data):
    X, _ = data
    vocab = vocabulary().fit(X[:200])
    images, n = X[200:230].reshape(-1, 8, 8, 1), 30
    for norm in ("l2", "linf", "l1"):
        radii, witness = vocab.certify(X[200:230], norm, return_witness=True)
        walls = witness.perturbation.reshape(images.shape)
        covered = windows.windows_of(np.tile([1, 3, 3, 2], (n, 1)), (8, 8))
        moved = windows.moved_patches(
            images, radii[..., None], walls, covered, patch_size=(2, 2), share=0.999, norm=norm,
            bounds=(0, 16), generator=[np.random.default_rng(at) for at in range(n)],
        )  # fmt: skip
        np.testing.assert_array_equal(vocab.tokenize(moved), vocab.tokenize(images))
        cells = images_to_patches(moved - images, (2, 2)).any((-1, -2))
        touched = images_to_patches(covered[..., None], (2, 2), pad_value=0).any((-1, -2))
        assert not cells[touched].any()
        assert cells[~touched].mean() > 0.3


def test_the_same_seed_gives_the_same_attack(models, some):
    model, (X, y) = models("network behind tokens"), some
    first, again, other = (
        run_sticker_attack(model, X, y, random_state=seed, **FAST) for seed in (3, 3, 4)
    )
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first.adversarial, other.adversarial)


@pytest.mark.parametrize("kind", ["network behind tokens", "no probabilities"])
@pytest.mark.parametrize(
    ("option", "values"),
    [("n_places", (1, 3)), ("restarts", (1, 2)), ("max_queries", (8, 20, 60, None))],
)
def test_a_larger_budget_finds_no_less(models, some, kind, option, values):
    model, (X, y) = models(kind), some
    options = {**FAST, "n_places": 2, "steps": 5}
    found = [run_sticker_attack(model, X, y, **{**options, option: value}) for value in values]
    for less, more in itertools.pairwise(found):
        assert (less.success <= more.success).all()
        assert (less.n_queries <= more.n_queries).all()
    if option == "max_queries":
        assert all((one.n_queries <= v).all() for one, v in zip(found, values[:-1], strict=False))
        assert found[0].success.sum() < found[-1].success.sum()


def test_the_gradient_finds_more_than_chance_and_a_scorer_bounds_the_other(models, some):
    model, (X, y) = models("network"), some
    bare, options = FrozenEstimator(model.estimator_), {**FAST, "sticker_size": 2}
    assert sticker_attack_accuracy(bare, X, y, **options) < bare.score(X, y)
    assert sticker_accuracy(model, X, y) <= sticker_attack_accuracy(model, X, y, **FAST)
    by_gradient = run_sticker_attack(bare, X, y, 2, method="gradient", **FAST)
    by_chance = run_sticker_attack(bare, X, y, 2, method="search", **{**FAST, "n_trials": 1})
    assert by_gradient.success.sum() > by_chance.success.sum()
    transferred = run_sticker_attack(model, X, y, source=bare, **FAST)
    assert (model.predict(transferred.adversarial) != y)[transferred.success].all()


def test_what_cannot_be_attacked_is_refused(models, some):
    X, y = some
    linear = models("no probabilities")
    with pytest.raises(TypeError, match="no gradient"):
        run_sticker_attack(linear, X, y, method="gradient")
    with pytest.raises(ValueError, match="sticker_size must be given"):
        run_sticker_attack(linear.estimator_, X, y)
    for norm in ("l3", "l0", None, True):
        with pytest.raises(ValueError, match="norm"):
            run_sticker_attack(linear, X, y, norm=norm)
    with pytest.raises(ValueError, match=r"certified_places must be bool of shape \(12, 8, 8\)"):
        run_sticker_attack(linear, X, y, certified_places=np.ones((12, 4, 4), dtype=bool))


class Cautious(PatchNetClassifier):
    """The last class wherever it has a chance."""

    def predict(self, X):
        found = self.predict_proba(X)
        return self.classes_[np.where(found[:, -1] > 0.05, -1, found.argmax(1))]


@pytest.mark.parametrize("behind", ["pixels", "tokens"])
def test_who_attacks_a_network_without_its_gradient_is_told(data, some, behind):
    model = Cautious(max_epochs=1, module__width=4, module__hidden=8, random_state=0)
    model = tokens(("clf", model)) if behind == "tokens" else model
    model.fit(data[0][:300], data[1][:300])
    (X, _), options = some, {"sticker_size": 2, **FAST}
    with pytest.warns(UserWarning, match="without its gradient.*largest logit"):
        run_sticker_attack(model, X, model.predict(X), **options)
    with pytest.raises(ValueError, match="largest logit"):
        run_sticker_attack(model, X, model.predict(X), method="gradient", **options)


def test_ctrl_c_leaves_the_model_as_it_is(models, some, monkeypatch):
    model, (X, y) = models("network behind tokens"), some
    before, copied = model.predict(X), X.copy()

    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklearn_patchcert.attacks.stickers.contents.gradient_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_sticker_attack(model, X, y, **FAST)
    np.testing.assert_array_equal(X, copied)
    np.testing.assert_array_equal(model.predict(X), before)
