"""ChannelStandardizer, and what the certificate makes of the steps before a vocabulary."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    ChannelStandardizer,
    PatchVocabulary,
    certify,
)
from sklearn_patchcert.patches import images_to_patches, patches_to_images
from sklearn_patchcert.preprocessing import IDENTITY, then
from sklearn_patchcert.voronoi.certificate import NORMS


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
    scaler, vocabulary = model["scale"], model["vocab"]
    Z = ((X.astype(np.float64) - scaler.mean_) / scaler.scale_).reshape(-1, 8, 8)
    lost = vocabulary.certify(Z.reshape(-1, 64)) * scaler.scale_ - model.certify(X)
    assert lost.max() > 1e-2


SCALERS = [
    StandardScaler,
    lambda: StandardScaler(with_mean=False),
    lambda: StandardScaler(with_std=False, copy=False),
    lambda: MinMaxScaler((-3, 5)),
    MaxAbsScaler,
    lambda: RobustScaler(unit_variance=True, copy=False),
    lambda: ChannelStandardizer((1, 2)),
]


@pytest.mark.filterwarnings("ignore:X has values from:UserWarning")  # data of any scale
@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.integers(0, 10**9),
    st.lists(st.sampled_from(SCALERS), min_size=1, max_size=3),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from(NORMS),
    st.floats(-3, 5),
)
def test_sound_on_both_sides_of_a_wall_behind_scalers(seed, chain, dtype, norm, offset):
    # Walk to arrays next to each other on two sides of a wall; each pair of arrays around there
    # with different tokens must lie apart by the radius at least, in exact arithmetic.
    rng = np.random.default_rng(seed)
    spread = 10 ** rng.uniform(-9, 9, size=2)
    X = spread * (rng.normal(size=(30, 2)) + rng.normal(size=2) * 10**offset)
    X = X.astype(dtype)
    steps, Z = [], X
    for number, make in enumerate(chain):
        steps.append((f"s{number}", make()))
        Z = steps[-1][1].fit_transform(Z.copy())
    Z = Z.astype(float)
    away = Z.std(0) * rng.normal(size=2) * 10 ** rng.uniform(-5, 0)
    tokens = [Z[0] - away, Z[0] + away]
    vocabulary = PatchVocabulary.from_tokens(tokens, patch_size=(1, 2), image_shape=(1, 2))
    model = CertifiedPatchClassifier([*steps, ("vocab", vocabulary)])

    def ids(arrays):
        for _, step in steps:
            arrays = step.transform(arrays.copy())
        return vocabulary.tokenize(arrays)[:, 0, 0]

    kinds = ids(X)
    if kinds.min() == kinds.max():
        return
    near, far = X[kinds == 0][:1], X[kinds == 1][:1]
    for _ in range(70):
        middle = (near / 2 + far / 2).astype(dtype)
        near, far = (middle, far) if ids(middle)[0] == 0 else (near, middle)
    around = [near, far]
    for base in (near, far):
        around += [
            base + (rng.integers(-30, 31, size=2) * np.spacing(np.abs(base))).astype(dtype)
            for _ in range(8)
        ]
        around += [
            (base + size * spread * rng.normal(size=2)).astype(dtype) for size in (1e-7, 1e-6, 1e-5)
        ]
    around = np.concatenate(around).astype(dtype)
    kinds, radii = ids(around), model.certify(around, norm)[:, 0, 0]
    assert (radii >= 0).all()
    for x, kind, radius in zip(around, kinds, radii, strict=True):
        for other in around[kinds != kind] if radius > 0 else ():
            step = [Fraction(float(a)) - Fraction(float(b)) for a, b in zip(x, other, strict=True)]
            size = {
                "l2": sum(v * v for v in step),
                "linf": max(map(abs, step)),
                "l1": sum(map(abs, step)),
            }[norm]
            limit = Fraction(float(radius))
            assert size >= (limit * limit if norm == "l2" else limit)


@pytest.mark.parametrize("make", SCALERS[:6])
def test_certify_leaves_its_input_alone_and_does_not_depend_on_copy(digits, make):
    X = (digits[0][:100] - 8.0).astype(np.float32)
    X[:, 1:] += np.linspace(1.0, 50.0, 63, dtype=np.float32)
    model = fitted([("scale", make())], X.copy(), digits[1][:100])
    before = X.copy()
    radii = model.certify(X)
    np.testing.assert_array_equal(X, before)
    model["scale"].set_params(copy=True)
    np.testing.assert_array_equal(model.certify(X), radii)


@pytest.mark.parametrize(
    "scaler", [MaxAbsScaler(), MinMaxScaler(), RobustScaler(), StandardScaler()]
)
def test_a_step_fitted_in_float32_is_sound_in_float64(scaler):
    rng = np.random.default_rng(0)
    X = (rng.random((60, 64)) * rng.uniform(0.5, 3, 64)).astype(np.float32)
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("scale", scaler), ("vocab", vocabulary)]).fit(X)
    images = rng.random((50, 64)) * 2
    radii, witness = model.certify(images, return_witness=True)
    steps = images_to_patches(witness.perturbation.reshape(-1, 8, 8, 1), (4, 4))
    steps *= (radii / np.linalg.norm(steps[..., 0, :], axis=-1))[..., None, None]
    moved = images + (1 - 1e-9) * patches_to_images(steps, (8, 8, 1), (4, 4)).reshape(-1, 64)
    ids, after = (model[-1].tokenize(model[:1].transform(Z)) for Z in (images, moved))
    assert (after == ids).all()


@pytest.mark.parametrize(
    "scaler", [MaxAbsScaler(), MinMaxScaler((-1, 3)), RobustScaler(), StandardScaler()]
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_map_of_a_step_is_in_float64_whatever_it_was_fitted_on(scaler, dtype):
    X = np.random.default_rng(0).random((60, 4)).astype(dtype)
    fitted = clone(scaler).fit(X)
    affine = then(IDENTITY, fitted, (2, 2, 1), np.float64)
    assert all(part.dtype == np.float64 for part in affine)
    assert (affine.base >= 2.0**-52 * np.abs(affine.shift)).all()  # what a sum may round
    values = X.astype(np.float64) + 1e-9
    error = np.abs(fitted.transform(values).reshape(-1, 2, 2, 1)
                   - (affine.scale * values.reshape(-1, 2, 2, 1) + affine.shift))  # fmt: skip
    assert (error <= affine.slope * np.abs(values).reshape(-1, 2, 2, 1) + affine.base).all()


@pytest.mark.parametrize("per_channel", [True, "shared"])
def test_every_channel_has_its_own_scale(per_channel):
    # Channels so unequal that the error or the scale of the wrong one would show.
    rng = np.random.default_rng(0)
    X = rng.normal([0.0, 1e6, -1e3], [1e-3, 1.0, 1e3], size=(200, 4, 4, 3)).astype(np.float32)
    scaler = ChannelStandardizer().fit(X)
    vocabulary = PatchVocabulary(6, 2, per_channel=per_channel, random_state=0)
    model = CertifiedPatchClassifier([("scale", scaler), ("vocab", vocabulary)]).fit(X)
    radii, ids = model.certify(X), model[-1].tokenize(scaler.transform(X))
    plain = model[-1].certify(scaler.transform(X)) * scaler.scale_
    assert (radii <= plain).all()
    lost = (plain - radii).max((0, 1, 2)) / scaler.scale_
    assert lost[1] > 100 * max(lost[0], lost[2])  # where rounding in float32 is a large part
    for _ in range(20):
        unit = rng.normal(size=(200, 2, 2, 2, 2, 3))  # n, row, y, column, x, channel
        unit *= (radii / np.sqrt(np.square(unit).sum((2, 4))))[:, :, None, :, None]
        moved = X + unit.transpose(0, 1, 2, 3, 4, 5).reshape(X.shape) * (1 - 1e-9)
        np.testing.assert_array_equal(model[-1].tokenize(scaler.transform(moved)), ids)


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("scaler", [StandardScaler(), ChannelStandardizer()], ids=repr)
def test_a_frozen_step_counts_as_the_step_in_it(digits, scaler):
    X, y = (part[:200] for part in digits)
    frozen = FrozenEstimator(FrozenEstimator(clone(scaler).fit(X)))
    one, other = fitted([("s", scaler)], X, y), fitted([("s", frozen)], X, y)
    np.testing.assert_array_equal(one.certify(X), other.certify(X))
    np.testing.assert_array_equal(certify(one, X), certify(other, X))


def test_a_frozen_step_that_is_not_known_raises(digits):
    X, y = (part[:200] for part in digits)
    model = fitted([("s", FrozenEstimator(Normalizer().fit(X)))], X, y)
    with pytest.raises(TypeError, match="Normalizer"):
        model.certify(X)


def test_parameters_that_lose_precision_are_refused(digits):
    X = digits[0][:50] * 1e-310
    model = fitted([("scale", StandardScaler())], X, digits[1][:50])
    with pytest.raises(ValueError, match="Rescale the data"):
        model.certify(X)


def test_a_vocabulary_behind_a_scaler_must_know_its_shape(digits):
    free = PatchVocabulary.from_tokens(np.eye(4), patch_size=2)
    model = CertifiedPatchClassifier([("s", StandardScaler().fit(digits[0])), ("vocab", free)])
    with pytest.raises(ValueError, match="pass image_shape to from_tokens"):
        model.certify(digits[0])


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
