"""ChannelStandardizer, and what the certificate makes of the steps before a vocabulary."""

import numpy as np
import pytest
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from sklearn_patchcert import CertifiedPatchClassifier, ChannelStandardizer, PatchVocabulary
from sklearn_patchcert.voronoi import NORMS


class Scaled(StandardScaler):
    """A subclass, which might transform as it likes."""


def fitted(steps, X, y, **options):
    from sklearn.linear_model import LogisticRegression

    vocabulary = PatchVocabulary(8, 3, strategy="kmeans", random_state=0, **options)
    steps = [*steps, ("vocab", vocabulary), ("clf", LogisticRegression(max_iter=20, tol=1))]
    return CertifiedPatchClassifier(steps).fit(X, y)


SCALERS = [
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    MinMaxScaler((-3, 5)),
    MaxAbsScaler(),
    RobustScaler(),
    RobustScaler(with_centering=False),
    RobustScaler(with_scaling=False),
    ChannelStandardizer(),
    StandardScaler(with_mean=False, with_std=False),
]


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("scaler", SCALERS, ids=repr)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_radii_are_exact_in_the_units_of_the_input(digits, scaler, norm, dtype):
    X, y = (part[:300] for part in digits)
    X = (X + 100).astype(dtype)  # an offset, so that rounding has something to round
    model = fitted([("scale", scaler)], X, y)
    vocabulary = model["vocab"]
    radii = model.certify(X, norm)
    assert radii.shape == (300, 3, 3)

    # the formula by hand, from the scaler's own effect on single pixels
    Z = scaler.fit(X.astype(np.float64)).transform(X.astype(np.float64))
    step = scaler.transform(X[:1].astype(float) + 1) - scaler.transform(X[:1].astype(float))
    scale = step.reshape(8, 8)[:3, 3:6].ravel()  # of the patch at (0, 1)
    x = Z.reshape(-1, 8, 8)[:, :3, 3:6].reshape(-1, 9)
    tokens = vocabulary.vocabulary_.astype(float)
    squares = ((x[:, None] - tokens) ** 2).sum(-1)
    own = squares.argmin(1)
    order = {"l2": 2, "linf": 1, "l1": np.inf}[norm]
    walls = np.linalg.norm(scale * (tokens[own][:, None] - tokens), order, axis=-1)
    gaps = squares - squares.min(1, keepdims=True)
    h = np.divide(gaps, 2 * walls, out=np.full_like(gaps, np.inf), where=walls > 0).min(1)
    allowed = 1e-9 if dtype == np.float64 else 2e-3
    np.testing.assert_allclose(radii[:, 0, 1], h, rtol=1e-6, atol=allowed)
    assert (radii[:, 0, 1] <= h * (1 + 1e-9) + (0 if dtype == np.float64 else 1e-4)).all()

    # and no perturbation of the input below the radius changes what the pipeline computes
    ids = vocabulary.tokenize(model[:1].transform(X))
    rng = np.random.default_rng(0)
    power = {"l2": 2, "linf": np.inf, "l1": 1}[norm]
    for toward in (rng.normal(size=(300, 9)), *(scale * (t - tokens[own]) for t in tokens)):
        keep = np.any(toward != 0, axis=1)
        unit = np.where(keep[:, None], toward, 1.0)
        unit = unit / np.linalg.norm(unit, power, axis=1, keepdims=True)
        moved = X.astype(np.float64).reshape(-1, 8, 8)
        moved[:, :3, 3:6] += (unit * radii[:, :1, 1] * (1 - 1e-7)).reshape(-1, 3, 3)
        rounded = moved.reshape(300, 64).astype(dtype)
        change = (rounded.astype(float) - X.astype(float)).reshape(-1, 8, 8)[:, :3, 3:6]
        inside = np.linalg.norm(change.reshape(300, 9), power, axis=1) < radii[:, 0, 1]
        after = vocabulary.tokenize(model[:1].transform(rounded))
        np.testing.assert_array_equal(after[inside], ids[inside])


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("norm", NORMS)
def test_a_chain_of_scalers_and_padding(digits, norm):
    X, y = (part[:300] for part in digits)
    chain = [("a", StandardScaler()), ("b", "passthrough"), ("c", MinMaxScaler((0, 7)))]
    model = fitted(chain, X, y)
    radii, ids = model.certify(X, norm), model["vocab"].tokenize(model[:3].transform(X))
    rng = np.random.default_rng(0)
    power = {"l2": 2, "linf": np.inf, "l1": 1}[norm]
    for _ in range(30):
        unit = np.pad(rng.normal(size=(300, 8, 8)), ((0, 0), (0, 1), (0, 1)))
        blocks = unit.reshape(300, 3, 3, 3, 3).transpose(0, 1, 3, 2, 4)
        size = np.linalg.norm(blocks.reshape(300, 3, 3, 9), power, axis=-1)
        factor = np.kron(radii / size * (1 - 1e-9), np.ones((1, 3, 3)))
        moved = X + (unit * factor)[:, :8, :8].reshape(300, 64)
        np.testing.assert_array_equal(model["vocab"].tokenize(model[:3].transform(moved)), ids)


def test_rounding_of_a_step_counts(digits):
    # In float32 around 1e6 a scaler moves a value by far more than float64 arithmetic does.
    X, y = (part[:200] for part in digits)
    X = (X + 1e6).astype(np.float32)
    model = fitted([("scale", ChannelStandardizer())], X, y)
    precise = fitted([("scale", ChannelStandardizer())], X.astype(np.float64), y)
    lost = precise.certify(X.astype(np.float64)) - model.certify(X)
    assert lost.max() > 1e-2


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize(
    "step",
    [Normalizer(), PowerTransformer(), MinMaxScaler(clip=True), Scaled()],
    ids=lambda step: type(step).__name__,
)
def test_a_step_that_is_not_known_raises(digits, step):
    X, y = (part[:100] for part in digits)
    model = fitted([("step", step)], X + 1, y)
    assert model.predict(X[:3]).shape == (3,)
    with pytest.raises(TypeError, match="certify cannot see through"):
        model.certify(X)


def test_channel_standardizer():
    rng = np.random.default_rng(0)
    X = rng.normal([1.0, -2.0, 5.0], [0.1, 3.0, 0.0], size=(30, 6, 7, 3)).astype(np.float32)
    scaler = ChannelStandardizer().fit(X)
    Z = scaler.transform(X)
    assert Z.dtype == np.float32
    np.testing.assert_allclose(Z.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(Z.std((0, 1, 2)), [1, 1, 0], atol=1e-4)
    np.testing.assert_allclose(scaler.inverse_transform(Z), X, rtol=1e-5)
    rows = ChannelStandardizer((6, 7, 3)).fit_transform(X.reshape(30, -1))
    np.testing.assert_array_equal(rows.reshape(X.shape), Z)
    with pytest.raises(ValueError, match="fitted with images"):
        scaler.transform(X.transpose(0, 2, 1, 3))
