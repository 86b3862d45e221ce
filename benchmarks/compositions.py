"""Pipelines of many kinds, and perturbations inside the certified radius of their predictions.

`soundness.py` and the tests go through this table: what follows the tokens, what wraps it, what
scales, in which dtype.  Some models are made to be hard.  Their scores tie in real numbers and
differ by rounding alone, or are very large, or the tie is not at the largest score.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from hard_models import (
    Above,
    Flattened,
    Likely,
    Only,
    Search,
    Second,
    Tie,
    Unknown,
    halve,
    loud_tie,
    neighbors,
    net,
    single,
    skorch_net,
    tie,
)
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsOneClassifier
from sklearn.naive_bayes import CategoricalNB, GaussianNB
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetBinaryClassifier
from torch import nn

from sklearn_patchcert import (
    CertifiedCommittee,
    CertifiedPatchClassifier,
    PatchVocabulary,
)


class Refused(Exception):
    """certify_prediction says that a model is no function of one image."""


LOOKS = 40  # token assignments that are certified for an image


def vote(*members, voting="soft"):
    return VotingClassifier([(str(at), m) for at, m in enumerate(members)], voting=voting)


def freeze(model, X):
    """The last step frozen."""
    name, last = model.steps[-1]
    model.steps[-1] = name, FrozenEstimator(last)
    return model


def threshold_of_an_image(model, X):
    """A threshold at the probability of an image, where the answer of a binary model is tied."""
    last = model.steps[-1][1]
    scores = getattr(last, "estimator_", last).predict_proba(model[:-1].transform(X.copy()))[:, 1]
    last.set_params(threshold=float(np.sort(scores)[len(scores) // 2]))
    return model


def nothing(model, X):
    return model


class Composition(NamedTuple):
    """A pipeline before it is fitted, and what is done to it after."""

    name: str
    after: list
    before: list = []
    dtypes: tuple = (np.float64, np.float64)  # of the tokens, and of the images
    output: str = "images"
    finish: Callable = nothing
    binary: bool = False


LASTS = {
    "network": net,
    "logits that tie": tie,
    "logits x 1e5": lambda: net(module__factor=1e5),
    "logits x 1e5 that tie": loud_tie,
    "second largest logit": lambda: net(kind=Second),
    "logistic regression": lambda: LogisticRegression(max_iter=1000),
    "ridge": RidgeClassifier,
    "discriminant analysis": LinearDiscriminantAnalysis,
    "nearest neighbors": neighbors,
    "nearest neighbors, weighted": lambda: neighbors(weights="distance"),
    "nearest centroid": NearestCentroid,
    "naive Bayes": GaussianNB,
    "forest of four": lambda: RandomForestClassifier(4, random_state=0),
    "boosted trees": lambda: HistGradientBoostingClassifier(max_iter=3, max_leaf_nodes=8),
    "perceptron": lambda: MLPClassifier((8,), max_iter=3000, tol=1e-2, random_state=0),
    "support vectors": SVC,
}
WRAPPERS = {
    "Pipeline": make_pipeline,
    "soft vote": lambda one: vote(one, net(max_epochs=1)),
    "soft vote of one": vote,
    "hard vote": lambda one: vote(one, net(max_epochs=1), GaussianNB(), voting="hard"),
    "calibrated": lambda one: CalibratedClassifierCV(one, cv=2),
    "bagged": lambda one: BaggingClassifier(one, 2, random_state=0),
    "stacked": lambda one: StackingClassifier([("a", one)], cv=2),
    "search": lambda one: GridSearchCV(one, {}, cv=2),
}
SCALERS = {
    "StandardScaler in place": lambda: StandardScaler(copy=False),
    "MinMaxScaler in place": lambda: MinMaxScaler(copy=False),
    "in-place function": lambda: FunctionTransformer(halve),
}


def table():
    """All compositions, each with models of its own."""
    for name, make in LASTS.items():
        yield Composition(name, [make()])
        yield Composition(f"{name}, float32", [make()], [], (np.float32, np.float32))
    for wrapper, wrap in WRAPPERS.items():
        for name in ("network", "logits that tie", "logits x 1e5 that tie", "nearest neighbors"):
            yield Composition(f"{wrapper}: {name}", [wrap(LASTS[name]())])
    for scaler, scale in SCALERS.items():
        for name in ("network", "logits that tie", "second largest logit", "nearest neighbors"):
            yield Composition(f"{scaler}, {name}", [scale(), LASTS[name]()])
            yield Composition(f"{scaler}, {name}, frozen", [scale(), LASTS[name]()], finish=freeze)
        yield Composition(
            f"{scaler}, float32, skorch network", [scale(), skorch_net()], [],
            (np.float32, np.float32),
        )  # fmt: skip
    for dtype in (np.float32, np.float64):
        yield Composition(f"scaled before, {dtype.__name__}", [net()],
                          [StandardScaler(copy=False)], (dtype, dtype))  # fmt: skip
    yield Composition("skorch network", [FunctionTransformer(single), skorch_net()])
    yield Composition("skorch network that ties",
                      [FunctionTransformer(single), skorch_net(Tie, lr=1e-30)])  # fmt: skip
    yield Composition("components, network that ties", [PCA(64), tie()])
    yield Composition("components, nearest neighbors", [PCA(8), neighbors()])
    yield Composition("one against one: logits that tie", [OneVsOneClassifier(tie())])
    yield Composition("no scores: logits that tie", [Only(tie())])
    yield Composition("no scores: network", [Only(net())])
    logistic = LogisticRegression(max_iter=1000)
    yield Composition("search with its own predict", [Search(logistic, {}, cv=2)])
    parts = Flattened([("scale", StandardScaler()), ("clf", logistic)])
    weak = LogisticRegression(C=1e-3, max_iter=1000)
    yield Composition("soft vote: pipeline with its own probabilities", [vote(parts, weak)])
    tree = DecisionTreeClassifier(max_depth=4, random_state=0)
    yield Composition(
        "soft vote: logistic regression and tree", [vote(logistic, tree)], binary=True
    )
    likely = skorch_net(Likely, NeuralNetBinaryClassifier, criterion=nn.BCELoss)
    yield Composition("binary skorch network of probabilities",
                      [FunctionTransformer(single), likely], binary=True)  # fmt: skip
    for name in ("network", "logits that tie"):
        yield Composition(
            f"fixed threshold: {name}", [FixedThresholdClassifier(LASTS[name]())],
            finish=threshold_of_an_image, binary=True,
        )  # fmt: skip
        yield Composition(
            f"unknown threshold: {name}", [Unknown(LASTS[name]())],
            finish=threshold_of_an_image, binary=True,
        )  # fmt: skip
    yield Composition(
        "binary skorch network with a threshold",
        [FunctionTransformer(single), skorch_net(Above, NeuralNetBinaryClassifier)],
        finish=threshold_of_an_image, binary=True,
    )  # fmt: skip
    yield Composition("tables of tokens", [CategoricalNB(min_categories=4)], output="ids")
    hot = OneHotEncoder(handle_unknown="ignore")
    yield Composition("one-hot tokens", [hot, LogisticRegression(max_iter=1000)], output="ids")
    yield Composition("one-hot tokens, neighbors", [hot, neighbors()], output="ids")


def fitted(composition, n_train=240, n_tokens=4):
    """The pipeline of a composition, fitted to digits in [0, 1], and the images held out."""
    X, y = load_digits(return_X_y=True)
    X, y = (X / 16).astype(composition.dtypes[1]), y % (2 if composition.binary else 3)
    if "binary skorch" in composition.name:
        y = y.astype(np.float32)
    tokens = PatchVocabulary(n_tokens, 2, strategy="kmeans", random_state=0).fit(X[:n_train])
    vocabulary = PatchVocabulary(
        n_tokens, 2, strategy="kmeans", output=composition.output, random_state=0
    )
    if not composition.before:
        given = tokens.vocabulary_.astype(composition.dtypes[0])
        vocabulary = PatchVocabulary.from_tokens(given, patch_size=2, image_shape=(8, 8))
        vocabulary = FrozenEstimator(vocabulary.set_params(output=composition.output))
    steps = [*composition.before, vocabulary, *composition.after]
    names = [f"step{at}" for at in range(len(steps))]
    model = CertifiedPatchClassifier(list(zip(names, steps, strict=True)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.fit(X[:n_train].copy(), y[:n_train])
    return composition.finish(model, X[n_train : n_train + 50]), X[n_train:]


def committee(n_train=240):
    """A committee whose members begin with scalers that work in place."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    members = [
        (str(size), CertifiedPatchClassifier([
            ("scale", StandardScaler(copy=False)),
            ("vocab", PatchVocabulary(4, size, strategy="kmeans", random_state=0)),
            ("clf", net()),
        ]))
        for size in (2, 4, (2, 4))
    ]  # fmt: skip
    return CertifiedCommittee(members).fit(X[:n_train].copy(), y[:n_train] % 3), X[n_train:]


def inside(model, X, radii, rng, per_image):
    """Perturbations of norms below the radii, in the dtype of X: images, and whose they are."""
    rows = np.repeat(np.arange(len(X)), per_image)
    steps = np.zeros((len(rows), X[0].size))
    walls = _to_walls(model, X)
    for at, row in enumerate(rows):
        kind = at % per_image
        if kind == 0:
            continue  # the image itself
        if kind % 4:  # over some of the nearest walls, just so
            pick = walls[row][rng.permutation(len(walls[row]))]
            total = np.cumsum(np.square(pick).sum(1))
            count = rng.integers(1, 1 + max(1, (total < radii[row] ** 2).sum()))
            steps[at] = pick[:count].sum(0) if total[count - 1] < radii[row] ** 2 else 0
        else:
            direction = rng.normal(size=X[0].size)
            length = min(radii[row], 4.0) * (1 - 1e-7) * rng.choice([1, 0.999, 0.5])
            steps[at] = direction / np.linalg.norm(direction) * length
    moved = (X[rows] + steps).astype(X.dtype)
    apart = moved.astype(np.longdouble) - X[rows]
    good = np.sqrt(np.square(apart).sum(1)) < radii[rows]
    return moved[good], rows[good]


def _to_walls(model, X):
    """For each image the smallest steps (m, n_features) that give one patch another token."""
    members = getattr(model, "estimators_", [model])
    steps = [member.certify(X.copy(), return_witness=True)[1].perturbation for member in members]
    found = []
    for row in range(len(X)):
        parts = []
        for step in steps:
            grid = np.nan_to_num(step[row].reshape(4, 2, 4, 2)).transpose(0, 2, 1, 3) * (1 + 1e-5)
            for at in range(16):
                one = np.zeros((16, 2, 2))
                one[at] = grid.reshape(16, 2, 2)[at]
                parts.append(one.reshape(4, 4, 2, 2).transpose(0, 2, 1, 3).ravel())
        parts = np.array(parts)
        found.append(parts[parts.any(1)])
    return found


def attack(composition, n_images=10, per_image=130, singles=60, seed=0):
    """Tries inside the certified radii of one composition, and how many changed the class.

    Each is predicted in a large batch; some also alone, and in batches of seven.
    """
    model, X = committee() if composition is None else fitted(composition)
    X, rng = X[:n_images], np.random.default_rng(seed)
    try:
        found = model.certify_prediction(X.copy(), max_configurations=LOOKS)
    except ValueError as error:
        if "instead of in a batch" in str(error):
            raise Refused(str(error)) from error
        raise
    given = found.prediction
    moved, rows = inside(model, X, found.radius, rng, per_image)
    if not len(moved):
        return {"tries": 0, "changed": 0, "certified": 0, "images": len(X), "median_radius": 0.0}
    wrong = int((model.predict(moved.copy()) != given[rows]).sum())
    some = rng.permutation(len(moved))[:singles]
    alone = np.concatenate([model.predict(moved[[at]]) for at in some]) if len(some) else given[:0]
    wrong += int((alone != given[rows[some]]).sum())
    for at in range(0, len(some), 7):
        part = some[at : at + 7]
        wrong += int((model.predict(moved[part]) != given[rows[part]]).sum())
    return {"tries": len(moved) + 2 * len(some), "changed": wrong,
            "certified": int((found.radius > 0).sum()), "images": len(X),
            "median_radius": float(np.median(found.radius))}  # fmt: skip
