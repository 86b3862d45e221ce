"""Certified pipelines without their vocabulary: the undefended baseline of a search."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import sklearn
from pipelines_for_tests import clone_steps, net, vocabulary
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    ChannelStandardizer,
    PatchNetRegressor,
    load,
    save,
)
from sklearn_patchcert.model_selection import best_index
from sklearn_patchcert.networks.fitting.flip_training import random_crop
from sklearn_patchcert.networks.modules import PatchResNet
from sklearn_patchcert.scorers.functions import patch_certificate

LAST = {
    "network": net(),
    "noise": net(noise_std=1.0),
    "augment": net(augment=partial(random_crop, pixels=1)),
    "attack": net(adversarial_radius=1.0, adversarial_steps=1),
    "told patches": net(module=PatchResNet, module__width=8, module__depth=1),
    "neighbours": KNeighborsClassifier(3),
}
BEFORE = {
    "nothing": [],
    "scaled": [("scale", StandardScaler())],
    "in place": [("scale", StandardScaler(copy=False))],
    "channels": [("scale", ChannelStandardizer())],
}
WITHOUT = [None, "passthrough"]
CASES = [("network", before, vocab) for before in BEFORE for vocab in WITHOUT]
CASES += [(last, "in place", "passthrough") for last in LAST]


def model_of(before, last, vocab, kind=CertifiedPatchClassifier):
    return kind([*clone_steps(before), ("vocab", vocab), ("clf", clone(last))])


@pytest.mark.parametrize(("last", "before", "vocab"), CASES)
def test_it_is_the_last_step_alone(few, last, before, vocab):
    X, y = few
    scaled = X.copy()
    for _, step in BEFORE[before]:
        scaled = clone(step).fit_transform(scaled)
    wanted = clone(LAST[last]).fit(scaled, y).predict_proba(scaled)
    model = model_of(BEFORE[before], LAST[last], vocab).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X.copy()), wanted)
    for refused in (model.certify, model.certify_prediction):
        with pytest.raises(ValueError, match="No PatchVocabulary among the steps"):
            refused(X.copy())


@pytest.mark.parametrize("last", LAST)
def test_a_pipeline_that_had_a_vocabulary_forgets_it(few, last):
    X, y = few
    model = model_of([], LAST[last], vocabulary(patch_size=2)).fit(X, y)
    model.set_params(vocab="passthrough").fit(X, y)
    wanted = clone(LAST[last]).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), wanted.predict_proba(X))
    again = model.set_params(vocab=vocabulary(patch_size=2)).fit(X, y)
    fresh = model_of([], LAST[last], vocabulary(patch_size=2)).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), fresh.predict_proba(X))
    assert again.certify(X).shape == (len(X), 4, 4)


@pytest.mark.parametrize("vocab", WITHOUT)
def test_regression(few, vocab):
    X, y = few
    last = net(PatchNetRegressor, noise_std=0.5)
    model = model_of([], last, vocab, CertifiedPatchRegressor).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), clone(last).fit(X, y).predict(X))
    with pytest.raises(ValueError, match="No PatchVocabulary among the steps"):
        model.certify(X)


@pytest.mark.parametrize("options", [{"flip_radius": 1.0}, {"certified_radius": 1.0}])
def test_options_about_tokens_are_refused(few, options):
    model = model_of([], net(**options), "passthrough")
    with pytest.raises(ValueError, match="before they become tokens"):
        model.fit(*few)


def test_with_metadata_routing(few):
    X, y = few
    wanted = net(noise_std=1.0).fit(X, y).predict_proba(X)
    with sklearn.config_context(enable_metadata_routing=True):
        model = model_of([], net(noise_std=1.0), "passthrough").fit(X, y)
        with pytest.raises(ValueError, match="routing"):
            model_of([], net(noise_std=1.0), vocabulary()).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), wanted)


def test_in_a_search(few):
    X, y = few
    model = model_of([], net(noise_std=0.5), vocabulary())
    grid = {"vocab": ["passthrough", None, vocabulary(n_tokens=4)]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    first, second, third = search.cv_results_["mean_test_score"]
    assert first == second
    assert np.isfinite(third)
    search = GridSearchCV(
        model,
        grid,
        cv=2,
        scoring={"accuracy": "accuracy", "radius": patch_certificate},
        refit=partial(best_index, maximize="radius", floors={"accuracy": 0.0}),
    )
    with pytest.warns(UserWarning, match=r"Scoring failed|non-finite"):
        search.fit(X, y)
    assert search.best_index_ == 2
    assert np.isnan(search.cv_results_["mean_test_radius"][:2]).all()


def test_as_a_file_and_as_a_module(few, tmp_path):
    torch = pytest.importorskip("torch")
    X, y = few
    model = model_of(BEFORE["scaled"], net(), "passthrough").fit(X, y)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), model.predict_proba(X))
    images = torch.as_tensor(X.reshape(-1, 1, 8, 8), dtype=torch.float32)
    found = model.as_torch_module()(images).detach().softmax(1)
    np.testing.assert_allclose(found.numpy(), model.predict_proba(X), atol=1e-4)


# ---------------------------------------------------------------------------- X stays as it is


def double(X):
    X *= 2
    return X


FIRST = {
    "nothing": [],
    "standard": [("a", StandardScaler(copy=False))],
    "minmax": [("a", FunctionTransformer()), ("b", MinMaxScaler(copy=False))],
    "two": [("a", StandardScaler(copy=False)), ("b", MinMaxScaler(copy=False))],
    "copies, then not": [("a", StandardScaler()), ("b", MinMaxScaler(copy=False))],
    "function": [("a", FunctionTransformer(double))],
    "frozen": [("a", FrozenEstimator(StandardScaler(copy=False).fit(np.eye(64))))],
}
KINDS = {
    "array": lambda X: X.copy(),
    "float32": lambda X: X.astype(np.float32),
    "frame": lambda X: pd.DataFrame(X.copy()),
    "read-only": lambda X: np.frombuffer(X.tobytes()).reshape(X.shape),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("tokens", [True, False])
def test_fit_leaves_the_callers_images_alone(few, tokens, first, kind):
    X, y = few
    given, untouched = KINDS[kind](X), KINDS[kind](X)
    vocab, last = "passthrough", RidgeClassifier(copy_X=False)
    if tokens:
        vocab, last = vocabulary(), net(noise_std=0.5)
    model = model_of(FIRST[first], last, vocab).fit(given, y)
    np.testing.assert_array_equal(np.asarray(given), np.asarray(untouched))
    copying = clone(model)
    for name, step in copying.named_steps.items():
        if isinstance(step, StandardScaler | MinMaxScaler):
            copying.set_params(**{f"{name}__copy": True})
    copying.fit(KINDS[kind](X), y)
    np.testing.assert_array_equal(model.predict(X.copy()), copying.predict(X.copy()))


def test_a_denoiser_may_work_in_place(few):
    X, _ = few

    def darken(images):
        images /= 2
        return images

    given = X.copy()
    model = vocabulary(strategy="denoised", denoiser=darken).fit(given)
    np.testing.assert_array_equal(given, X)
    assert model.vocabulary_.max() <= X.max() / 2


@pytest.mark.parametrize("copy", [False, True])
def test_no_method_changes_its_input(digits, copy):
    """Or one scorer after another would see other images."""
    X, y = digits[0][:200].copy(), digits[1][:200]
    tokens = vocabulary(n_tokens=6, patch_size=4)
    steps = [("scale", StandardScaler(copy=copy)), ("vocab", tokens)]
    model = CertifiedPatchClassifier([*steps, ("clf", LogisticRegression(max_iter=500))])
    model.fit(X, y)
    before = X.copy()
    scores = [model.score(X, y) for _ in range(3)]
    assert len(set(scores)) == 1
    for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        first, second = getattr(model, name)(X), getattr(model, name)(X)
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(X, before)
    first = CertifiedPatchClassifier(steps)  # as fitted
    np.testing.assert_array_equal(first.transform(X), first.transform(X))
    np.testing.assert_array_equal(X, before)
    found = model.certify_prediction(X[:3], max_configurations=20)
    np.testing.assert_array_equal(found.prediction, model.predict(X[:3]))
