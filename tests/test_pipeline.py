"""The certified pipelines: the law from end to end, steps of every kind, refusals."""

import numpy as np
import pytest
from pipelines_for_tests import clone_steps, net, vocabulary
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    ChannelStandardizer,
    PatchNetRegressor,
    PatchVocabulary,
)
from sklearn_patchcert.patches import images_to_patches, patches_to_images
from sklearn_patchcert.voronoi.certificate import NORMS

ORDER = {"l2": 2, "linf": np.inf, "l1": 1}
DUAL = {"l2": 2, "linf": 1, "l1": np.inf}


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[:200], y[:200]


@pytest.fixture(scope="module")
def colour():
    rng = np.random.default_rng(0)
    X = rng.normal([0, 5, -30], [1, 10, 0.1], size=(60, 7, 8, 3))
    return X, (X[:, :3, :3, 0].mean((1, 2)) > 0).astype(int)


class Flatten(BaseEstimator):
    """Images to rows, for classifiers that take rows only."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.asarray(X).reshape(len(X), -1)

    def __sklearn_is_fitted__(self):
        return True


def move(X, model, directions, factor, norm, plus=0.0):
    """All patches moved at once, each by `factor` of its radius (plus something) in its own way."""
    step = model["vocab"]
    cut = {"patch_size": step.patch_size_, "per_channel": bool(step.per_channel)}
    patches = images_to_patches(directions.reshape(len(X), *step.image_shape_), **cut)
    size = np.linalg.norm(patches, ORDER[norm], axis=-1, keepdims=True)
    radii = model.certify(X, norm).reshape(size.shape)
    moved = patches / np.where(size > 0, size, 1) * (radii * factor + plus)
    return X + patches_to_images(moved, step.image_shape_, **cut).reshape(X.shape)


# ---------------------------------------------------------------------------- the law


def one_hot():
    return OneHotEncoder(handle_unknown="ignore")


PIPELINES = {
    "network": lambda: [
        ("vocab", vocabulary(strategy="learned", max_iter=2)),
        ("clf", net(max_epochs=4)),
    ],
    "tokens as images": lambda: [("vocab", vocabulary()), ("clf", KNeighborsClassifier(1))],
    "tokens as ids": lambda: [
        ("vocab", vocabulary(output="ids")),
        ("code", one_hot()),
        ("clf", LogisticRegression()),
    ],
    "scaled": lambda: [
        ("scale", StandardScaler()),
        ("vocab", vocabulary()),
        ("clf", DecisionTreeClassifier(random_state=0)),
    ],
    "something between": lambda: [
        ("scale", MinMaxScaler((-1, 3))),
        ("vocab", vocabulary(patch_size=4)),
        ("between", PCA(10, random_state=0)),
        ("clf", KNeighborsClassifier(1)),
    ],
}


@pytest.mark.filterwarnings("ignore:X has values from:UserWarning")  # 30 radii away
@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("norm", NORMS)
def test_the_prediction_stays_when_every_patch_moves_inside_its_radius(few, name, norm):
    X, y = few
    model = CertifiedPatchClassifier(PIPELINES[name]()).fit(X, y)
    before = model.predict_proba(X)
    rng = np.random.default_rng(0)
    for kind in range(8):
        directions = rng.normal(size=X.shape)
        if kind % 2:  # sparse ones reach further in some pixels
            directions *= rng.random(X.shape) < 0.2
        moved = move(X, model, directions, 1 - 1e-9, norm)
        assert np.abs(moved - X).max() > 0.1
        np.testing.assert_array_equal(model.predict_proba(moved), before)
    # and the law is no accident: outside the radii the outputs do change
    far = move(X, model, rng.normal(size=X.shape), 30, norm)
    assert (model.predict_proba(far) != before).any(axis=1).mean() > 0.5


def wall_directions(X, model, scale, norm):
    """Steepest ways, in the input's units, to the wall that is nearest to every patch."""
    step = model["vocab"]
    cut = {"patch_size": step.patch_size_, "per_channel": bool(step.per_channel)}
    before = X if model.steps[0][0] == "vocab" else model[:-2].transform(X)
    patches = images_to_patches(before.reshape(len(X), *step.image_shape_), **cut)
    # Beyond the image is padding that nobody moves: scale 0.
    scales = images_to_patches(np.broadcast_to(scale, step.image_shape_)[None], **cut)[0]
    normals = np.zeros(patches.shape)
    for group in range(patches.shape[3]):
        tokens = step.vocabulary_[group] if step.per_channel is True else step.vocabulary_
        x, s = patches[:, :, :, group, None], scales[None, :, :, group, None]
        squares = ((x - tokens) ** 2).sum(-1)
        own = tokens[squares.argmin(-1)][..., None, :]
        walls = np.linalg.norm(s * (tokens - own), DUAL[norm], axis=-1)
        gaps = squares - squares.min(-1, keepdims=True)
        heights = np.divide(gaps, walls, out=np.full_like(gaps, np.inf), where=walls > 0)
        nearest = tokens[heights.argmin(-1)][..., None, :]
        normals[:, :, :, group] = (s * (nearest - own))[..., 0, :]
    if norm == "linf":
        normals = np.sign(normals)
    if norm == "l1":
        normals *= np.abs(normals) == np.abs(normals).max(-1, keepdims=True)
    return patches_to_images(normals, step.image_shape_, **cut)


def tight_cases(few, colour):
    """Models, images, and how the steps before the vocabulary scale a pixel."""
    for scaler in (StandardScaler(), MinMaxScaler((-3, 5)), RobustScaler()):
        X, y = few
        scaled = scaler.fit(X)
        scale = 1 / scaled.scale_ if type(scaler) is not MinMaxScaler else scaled.scale_
        yield [("scale", clone(scaler)), ("vocab", vocabulary())], X, y, scale.reshape(8, 8, 1)
    X, y = colour
    scale = 1 / X.std((0, 1, 2))
    for per_channel in (False, True, "shared"):
        steps = [("scale", ChannelStandardizer()), ("vocab", vocabulary(per_channel=per_channel))]
        yield steps, X, y, scale
    yield [("vocab", vocabulary(per_channel=True))], X, y, np.ones(3)


@pytest.mark.filterwarnings("ignore:X has values from:UserWarning")  # walls may be far away
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("case", range(7))
def test_tight_all_patches_at_once_in_the_units_of_the_input(few, colour, norm, case):
    steps, X, y, scale = list(tight_cases(few, colour))[case]
    model = CertifiedPatchClassifier([*steps, ("clf", DummyClassifier())]).fit(X, y)
    before = Pipeline(model.steps[:-2]) if len(model.steps) > 2 else FunctionTransformer()

    def tokenize(images):
        return model["vocab"].tokenize(before.transform(images))

    ids, radii = tokenize(X), model.certify(X, norm)
    assert ids.shape == radii.shape
    assert np.isfinite(radii).all()
    directions = wall_directions(X, model, scale, norm)
    inside = move(X, model, directions, 1 - 1e-6, norm)
    np.testing.assert_array_equal(tokenize(inside), ids)
    # What the rounding of a scaler may cost, for the pipeline may be given float32 too.
    slack = 16 * np.finfo(np.float32).eps * np.abs(X).max() * 27 if len(steps) > 1 else 1e-9
    assert slack < 5e-2 * radii.mean()
    outside = move(X, model, directions, 1 + 1e-3, norm, plus=slack)
    assert (tokenize(outside) != ids).all()


# ---------------------------------------------------------------------------- steps


def test_the_certificate_is_the_vocabularys_own_whatever_follows(few):
    X, y = few
    alone = vocabulary().fit(X)
    ends = {
        "images": (vocabulary(), LogisticRegression(max_iter=5000)),
        "ids": (vocabulary(output="ids"), one_hot(), LogisticRegression()),
        "between": (vocabulary(), StandardScaler(), PCA(5), KNeighborsClassifier()),
        "nothing": (vocabulary(), "passthrough"),
        "network": (vocabulary(), net()),
    }
    names = ("vocab", "a", "b", "c")
    for steps in ends.values():
        model = CertifiedPatchClassifier(list(zip(names, steps, strict=False))).fit(X, y)
        for norm in NORMS:
            np.testing.assert_array_equal(model.certify(X, norm), alone.certify(X, norm))
    for last in (net(PatchNetRegressor), Ridge()):
        steps = [("vocab", vocabulary()), ("clf", last)]
        model = CertifiedPatchRegressor(steps).fit(X, X.mean(axis=1))
        np.testing.assert_array_equal(model.certify(X), alone.certify(X))
        assert model.predict(X).shape == (200,)


def test_classifier_and_regressor_certify_the_same_behind_a_scaler(few):
    X, y = few
    before = [("scale", MinMaxScaler()), ("vocab", vocabulary())]
    first = CertifiedPatchClassifier([*before, ("clf", net())]).fit(X, y)
    second = CertifiedPatchRegressor([*clone_steps(before), ("clf", Ridge())]).fit(X, y / 7)
    np.testing.assert_array_equal(first.certify(X, "linf"), second.certify(X, "linf"))


def test_a_pipeline_is_what_its_steps_are(few):
    X, y = few
    model = CertifiedPatchClassifier([("vocab", vocabulary()), ("clf", net())]).fit(X, y)
    step = vocabulary().fit(X)
    by_hand = net().fit(step.transform(X), y)
    np.testing.assert_array_equal(model.predict_proba(X), by_hand.predict_proba(step.transform(X)))
    np.testing.assert_array_equal(model.classes_, np.arange(10))
    assert model.n_features_in_ == 64
    assert model.score(X, y) == np.mean(model.predict(X) == y)


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize(
    "step",
    [FunctionTransformer(np.sqrt), FunctionTransformer(), PCA(64), PCA(16, whiten=True)],
    ids=["sqrt", "any function", "rotation", "projection"],
)
def test_a_step_before_that_is_no_scaler_raises(few, step):
    X, y = few
    steps = [("step", step), ("vocab", vocabulary()), ("clf", LogisticRegression(max_iter=5))]
    model = CertifiedPatchClassifier(steps).fit(X, y)
    assert model.predict(X).shape == (200,)
    with pytest.raises(TypeError, match=f"see through {type(step).__name__}"):
        model.certify(X)


def test_passthrough_steps_before_count_as_nothing(few):
    X, y = few
    plain = vocabulary().fit(X).certify(X)
    for nothing in ("passthrough", None):
        steps = [("scale", nothing), ("vocab", vocabulary()), ("clf", DummyClassifier())]
        np.testing.assert_array_equal(CertifiedPatchClassifier(steps).fit(X, y).certify(X), plain)


def test_images_in_every_layout_through_a_scaler_of_channels(colour):
    X, y = colour
    shape = (7, 8, 3)

    def model(image_shape=None):
        steps = [
            ("scale", ChannelStandardizer(image_shape)),
            ("vocab", vocabulary(image_shape=image_shape)),
            ("flat", Flatten()),
            ("clf", KNeighborsClassifier(1)),
        ]
        return CertifiedPatchClassifier(steps)

    images, rows = model().fit(X, y), model(shape).fit(X.reshape(60, -1), y)
    assert images.certify(X).shape == (60, 3, 3)
    np.testing.assert_array_equal(images.certify(X), rows.certify(X.reshape(60, -1)))
    np.testing.assert_array_equal(images.predict(X), rows.predict(X.reshape(60, -1)))
    # gray images with and without an axis of channels
    gray = X[..., 0]
    flat = model().fit(gray, y).certify(gray)
    np.testing.assert_array_equal(model().fit(gray[..., None], y).certify(gray[..., None]), flat)


# ---------------------------------------------------------------------------- refusals


def test_without_a_vocabulary_there_is_no_certificate(few):
    X, y = few
    model = CertifiedPatchClassifier().set_params(vocab="passthrough", clf=KNeighborsClassifier())
    with pytest.raises(NotFittedError):
        model.certify(X)
    model.fit(X, y)
    assert model.predict(X).shape == (200,)
    with pytest.raises(ValueError, match="No PatchVocabulary among the steps"):
        model.certify(X)


def test_unfitted_and_unknown_norm(few):
    X, y = few
    for kind in (CertifiedPatchClassifier, CertifiedPatchRegressor):
        for method in ("certify", "predict"):
            with pytest.raises(NotFittedError):
                getattr(kind(), method)(X)
    for before in ([], [("scale", StandardScaler())]):
        steps = [*before, ("vocab", vocabulary()), ("clf", DummyClassifier())]
        model = CertifiedPatchClassifier(steps).fit(X, y)
        with pytest.raises(ValueError, match="norm must be one of"):
            model.certify(X, "l3")
        with pytest.raises(ValueError, match="NaN"):
            model.certify(np.full((2, 64), np.nan))
        with pytest.raises(ValueError, match=r"features|shape"):
            model.certify(X[:, :63])


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1)])
@pytest.mark.parametrize("scaled", [False, True])
def test_steps_for_rows_say_what_images_need(digits, shape, scaled):
    X, y = digits[0][:50].reshape(-1, *shape), digits[1][:50]
    vocabulary = PatchVocabulary(4, 4, strategy="kmeans", random_state=0)
    steps = [("vocab", vocabulary), ("clf", LogisticRegression())]
    if scaled:
        steps = [("scale", StandardScaler()), ("vocab", vocabulary), ("clf", DummyClassifier())]
    with pytest.raises(ValueError, match=r'output="ids".*ChannelStandardizer scales images'):
        CertifiedPatchClassifier(steps).fit(X, y)


@pytest.mark.parametrize("kind", [CertifiedPatchClassifier, CertifiedPatchRegressor])
def test_a_pipeline_without_steps_says_so(digits, kind):
    with pytest.raises(ValueError, match="has no steps: name a PatchVocabulary"):
        kind([]).fit(*digits)
