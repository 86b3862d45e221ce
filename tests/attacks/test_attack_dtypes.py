"""What an attack finds and a scorer counts does not depend on how X is stored, and X stays."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.attacks.budgets import norms_of, settled
from sklearn_patchcert.attacks.robustness import reproject, run_attack, worst_case
from sklearn_patchcert.scorers.functions import (
    attack_accuracy,
    average_certified_radius,
    certified_accuracy,
    image_certificate,
    min_patch_certificate,
    neg_reconstruction_error,
    patch_certificate,
    smoothing_accuracy,
    smoothing_radius,
    sspgd_accuracy,
)
from sklearn_patchcert.scorers.reports import robustness_report

SMALL = {"module__width": 8, "module__hidden": 32, "random_state": 0}


@pytest.fixture(scope="module")
def models(digits):
    X, y = digits[0][:600].astype(np.float32), digits[1][:600]
    vocabulary = PatchVocabulary(8, 2, strategy="kmeans", random_state=0)
    steps = [("vocab", vocabulary), ("clf", PatchNetClassifier(max_epochs=6, **SMALL))]
    return {
        "net": PatchNetClassifier(max_epochs=6, **SMALL).fit(X, y),
        "tokens": CertifiedPatchClassifier(steps).fit(X, y),
        "forest": RandomForestClassifier(10, random_state=0).fit(X, y),
    }


def stored(X):
    """The same values in every way that holds them."""
    wide = np.full((2 * len(X), X.shape[1] + 3), 7.0)
    wide[::2, 3:] = X
    backwards, locked = X[::-1, ::-1].copy()[::-1, ::-1], X.copy()
    locked.flags.writeable = False
    single = X.astype(np.float32)
    single.flags.writeable = False
    return {
        "float64": X, "float32": X.astype(np.float32), "float16": X.astype(np.float16),
        "uint8": X.astype(np.uint8), "int64": X.astype(np.int64),
        "column by column": np.asfortranarray(X), "strided": wide[::2, 3:],
        "backwards": backwards, "read-only": locked, "read-only float32": single,
        "lists": X.tolist(), "frame": pd.DataFrame(X),
        "objects": X.astype(object),
    }  # fmt: skip


ATTACKS = {
    "net": [("pgd", {"steps": 8}), ("apgd-ce", {"steps": 8, "norm": "linf", "eps": 2.0}),
            ("square", {"steps": 20, "norm": "linf", "eps": 2.0, "bounds": (0, 16)})],
    "tokens": [("apgd-dlr", {"steps": 8}), ("flips", {"steps": 4, "greedy": 4})],
    "forest": [("noise", {"steps": 20, "eps": 8.0})],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "attack", "options"), [(n, a, o) for n, some in ATTACKS.items() for a, o in some]
)
def test_success_is_the_same_however_x_is_stored(models, digits, name, attack, options):
    X, y = digits[0][600:620], digits[1][600:620]
    found = {}
    for way, values in stored(X).items():
        before = np.array(values)
        one = run_attack(models[name], values, y, attack, **{"eps": 3.0, **options})
        np.testing.assert_array_equal(np.asarray(values), before, err_msg=way)
        found[way] = one
    assert found["float32"].success.any()
    for way, one in found.items():
        np.testing.assert_array_equal(one.success, found["float32"].success, err_msg=way)
        # Steps into cells end a little past a wall, as far as the dtype needs it.
        np.testing.assert_allclose(one.norms, found["float32"].norms, rtol=1e-5, err_msg=way)
        np.testing.assert_array_equal(one.correct, found["float32"].correct, err_msg=way)
        assert one.adversarial.dtype == (np.float32 if "32" in way or "16" in way else np.float64)


@pytest.mark.parametrize("attack", ["pgd", "apgd-ce", "square", "noise"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.1)])
def test_images_that_float32_cannot_hold_are_attacked_as_strongly(digits, attack, norm, eps):
    X = np.round(digits[0] * 255 / 16) / 255
    y = digits[1]
    net = PatchNetClassifier(max_epochs=3, **SMALL).fit(X[:600], y[:600])
    ranked = np.sort(net.predict_proba(X[600:]), axis=1)
    near = 600 + np.argsort(ranked[:, -1] - ranked[:, -2])[:300]  # the easy ones
    held, labels = X[near], y[near]
    single = held.astype(np.float32)
    assert (single != held).any()
    options = {"eps": eps, "norm": norm, "bounds": (0, 1)}
    if attack != "noise":
        options["steps"] = 20
    double, single = (run_attack(net, Z, labels, attack, **options) for Z in (held, single))
    assert double.success.sum() >= 0.95 * single.success.sum()
    assert single.success.any() or attack == "noise"
    delta = double.adversarial.astype(np.float64) - held
    size = np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)
    np.testing.assert_array_equal(double.norms, size)
    assert size.max() <= eps
    assert double.adversarial.min() >= 0
    assert double.adversarial.max() <= 1
    misclassified = double.correct & (net.predict(double.adversarial) != labels)
    np.testing.assert_array_equal(double.success, misclassified)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.004), ("l2", 0.03)])
def test_a_ball_of_a_few_roundings_of_float32(digits, dtype, norm, eps):
    X, y = (1e4 + digits[0]).astype(dtype), digits[1]
    net = PatchNetClassifier(max_epochs=3, **SMALL).fit(X[:600], y[:600])
    found = run_attack(net, X[600:640], y[600:640], "pgd", eps=eps, norm=norm)
    assert 0.5 * eps < found.norms[found.correct].min()
    assert found.norms.max() <= eps


IN_PLACE = {
    "standard": lambda: StandardScaler(copy=False),
    "min-max": lambda: MinMaxScaler(copy=False),
}
CALLS = {
    "run_attack": lambda m, X, y: run_attack(m, X, y, "pgd", eps=3.0, steps=5).success.mean(),
    "worst_case": lambda m, X, y: worst_case(m, X, y, ["noise", "sspgd"], eps=3.0).robust.mean(),
    "attack_accuracy": lambda m, X, y: attack_accuracy(m, X, y, eps=3.0, steps=5),
    "sspgd_accuracy": lambda m, X, y: sspgd_accuracy(m, X, y, eps=3.0),
    "reproject": lambda m, X, y: np.square(reproject(m, X, X + 1.0)).sum(),
    "robustness_report": lambda m, X, y: robustness_report(m, X, y, eps=1.0, steps=2).robust.sum(),
    "patch_certificate": patch_certificate,
    "image_certificate": image_certificate,
    "min_patch_certificate": min_patch_certificate,
    "neg_reconstruction_error": neg_reconstruction_error,
    "smoothing_accuracy": lambda m, X, y: smoothing_accuracy(m, X, y, sigma=2.0, n=50),
    "smoothing_radius": lambda m, X, y: smoothing_radius(m, X, y, sigma=2.0, n=50),
    "certified_accuracy": lambda m, X, y: certified_accuracy(
        m, X, y, radius=0.1, max_configurations=5
    ),
    "average_certified_radius": lambda m, X, y: average_certified_radius(
        m, X, y, max_configurations=5
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def in_place(digits):
    """Pipelines that begin with a step that works in place, and the same with one that copies."""
    X, y = digits[0][:400], digits[1][:400]
    made = {}
    for name, make in IN_PLACE.items():
        vocabulary = PatchVocabulary(6, 4, strategy="kmeans", random_state=0)
        net = PatchNetClassifier(max_epochs=4, **SMALL)
        steps = [("scale", make()), ("vocab", vocabulary), ("clf", net)]
        model = CertifiedPatchClassifier(steps).fit(X.copy(), y)
        made[name] = model
    return made


@pytest.mark.parametrize(
    ("name", "scaler", "dtype"),
    [
        (name, scaler, dtype)
        for name, scaler, dtype in itertools.product(CALLS, IN_PLACE, (np.float32, np.float64))
        if name != "robustness_report" or (scaler == "standard" and dtype == np.float64)  # slow
    ],
)
def test_steps_that_work_in_place_change_neither_x_nor_the_answer(
    in_place, digits, name, scaler, dtype
):
    X, y = digits[0][400:408].astype(dtype), digits[1][400:408]
    model, before = in_place[scaler], X.copy()
    found = CALLS[name](model, X, y)
    np.testing.assert_array_equal(X, before)
    model.set_params(scale__copy=True)
    try:
        assert found == CALLS[name](model, X, y)
    finally:
        model.set_params(scale__copy=False)


def doubled(Z):
    Z *= 2
    return Z


@pytest.mark.parametrize("attack", ["noise", "square"])
def test_black_boxes_that_work_in_place(digits, attack):
    X, y = digits[0], digits[1]
    found = []
    for copy in (False, True):
        steps = StandardScaler(copy=copy), FunctionTransformer(doubled), KNeighborsClassifier()
        model = make_pipeline(*steps).fit(X[:400].copy(), y[:400])
        Z = X[400:420].copy()
        found.append(run_attack(model, Z, y[400:420], attack, eps=30.0, steps=10).success)
        np.testing.assert_array_equal(Z, X[400:420])
    assert found[0].any()
    np.testing.assert_array_equal(*found)


def test_columns_of_a_frame_reach_the_estimator(digits):
    names = [f"pixel {i}" for i in range(64)]
    X, y = pd.DataFrame(digits[0], columns=names), digits[1]
    model = RandomForestClassifier(10, random_state=0).fit(X[:400], y[:400])
    bare = RandomForestClassifier(10, random_state=0).fit(X[:400].to_numpy(), y[:400])
    found = run_attack(model, X[400:420], y[400:420], "noise", eps=20.0)  # warns without names
    plain = run_attack(bare, X[400:420].to_numpy(), y[400:420], "noise", eps=20.0)
    np.testing.assert_array_equal(found.success, plain.success)
    assert found.success.any()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_judged_lies_within_its_ball_and_bounds(data):
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    random = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    size, shift = (10.0 ** data.draw(st.integers(-6, 6)) for _ in range(2))
    X = (shift + size * random.random((4, 5))).astype(dtype)
    far = 10.0 ** data.draw(st.integers(-9, 2)) * random.normal(size=X.shape)
    moved = (X + size * far * (random.random(X.shape) < 0.7)).astype(np.float32)
    eps, norm = (
        10.0 ** data.draw(st.integers(-9, 3)) * size,
        data.draw(st.sampled_from(["l2", "linf"])),
    )
    bounds = (float(X.min()), float(X.max())) if data.draw(st.booleans()) else None
    made = settled(X, moved, eps, norm, bounds)
    assert made.dtype == dtype
    delta = made.astype(np.float64) - X.astype(np.float64)
    sizes = np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)
    assert (sizes <= eps).all()
    np.testing.assert_array_equal(sizes, norms_of(X, made, norm))
    untouched = moved == X.astype(np.float32)
    np.testing.assert_array_equal(made[untouched], X[untouched])
    if bounds is not None:
        assert bounds[0] <= made.min() <= made.max() <= bounds[1]
    wanted = moved.astype(np.float64) - X
    inside = np.abs(wanted).max() <= eps / 3 and bounds is None
    if inside and not untouched.any():  # what was allowed is kept, to a unit in the last place
        np.testing.assert_allclose(made, moved, rtol=2 * np.finfo(dtype).eps)
