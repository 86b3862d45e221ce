"""Certified pipelines inside other estimators: a map that holds for the whole, or an error."""

import functools
import re

import numpy as np
import pandas as pd
import pytest
from pipelines_for_tests import vocabulary
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from sklearn_patchcert import (
    CertifiedCommittee,
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    PatchVocabulary,
    SmoothedClassifier,
    StickerCertifiedClassifier,
    certify,
)


def pipeline(seed=0, scale=False, kind=CertifiedPatchClassifier, last=None, **options):
    """Images of 8 x 8 in 4 patches, tokens, a tree."""
    before = [("scale", StandardScaler())] if scale else []
    vocab = vocabulary(patch_size=4, random_state=seed, **options)
    return kind(
        [*before, ("vocab", vocab), ("clf", last or DecisionTreeClassifier(random_state=0))]
    )


def regressor(seed=0):
    return pipeline(seed, kind=CertifiedPatchRegressor, last=DecisionTreeRegressor(random_state=0))


def two(make=pipeline):
    return [("a", make(0)), ("b", make(1))]


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[:120], y[:120]


def binary(X, y):
    return X, y % 2


def of_three(X, y):
    return X, y % 3


def columns(X, y):
    return X, np.stack([y % 2, y % 3], axis=1)


def itself(X, y):
    return X, y


class Inside:
    """An estimator around pipelines, the data it is fitted on, the pipelines it then asks."""

    def __init__(self, estimator, asked, data=itself):
        self.estimator, self.asked, self.data = estimator, asked, data


def of(name):
    return lambda model: [getattr(model, name)]


def estimators(model):
    return model.estimators_


def calibrated(model):
    return [one.estimator for one in model.calibrated_classifiers_]


INSIDE = {
    "itself": Inside(pipeline(), lambda model: [model]),
    "plain pipeline": Inside(pipeline(kind=Pipeline), lambda m: [m["vocab"]]),
    "vocabulary": Inside(vocabulary(patch_size=4), lambda model: [model]),
    "grid search": Inside(
        GridSearchCV(pipeline(), {"vocab__n_tokens": [4, 8]}, cv=2), of("best_estimator_")
    ),
    "frozen": Inside(FrozenEstimator(pipeline()), of("estimator")),
    "tuned": Inside(TunedThresholdClassifierCV(pipeline(), cv=2), of("estimator_"), binary),
    "fixed": Inside(FixedThresholdClassifier(pipeline()), of("estimator_"), binary),
    "calibrated": Inside(CalibratedClassifierCV(pipeline(), cv=2), calibrated),
    "calibrated at once": Inside(
        CalibratedClassifierCV(pipeline(), cv=2, ensemble=False), calibrated
    ),
    "calibrated, frozen": Inside(CalibratedClassifierCV(FrozenEstimator(pipeline())), calibrated),
    "stacking": Inside(StackingClassifier(two(), DecisionTreeClassifier(), cv=2), estimators),
    "voting": Inside(VotingClassifier([*two(), ("c", "drop")], voting="soft"), estimators),
    "voting regressor": Inside(VotingRegressor(two(regressor)), estimators),
    "bagging": Inside(BaggingClassifier(pipeline(), 3, random_state=0), estimators),
    "bagging regressor": Inside(BaggingRegressor(regressor(), 2, random_state=0), estimators),
    "committee": Inside(CertifiedCommittee(two()), estimators),
    "one vs. rest": Inside(OneVsRestClassifier(pipeline()), estimators, of_three),
    "one vs. one": Inside(OneVsOneClassifier(pipeline()), estimators, of_three),
    "output code": Inside(
        OutputCodeClassifier(pipeline(), random_state=0),  # one code is the same for all classes
        lambda model: [one for one in model.estimators_ if hasattr(one, "certify")],
        of_three,
    ),
    "outputs": Inside(MultiOutputClassifier(pipeline()), estimators, columns),
    "self-training": Inside(
        SelfTrainingClassifier(pipeline(), threshold=0.9),
        of("estimator_"),
        lambda X, y: (X, np.where(np.arange(len(y)) % 3, y, -1)),
    ),
    "target": Inside(TransformedTargetRegressor(regressor()), of("regressor_")),
    "stickers": Inside(
        StickerCertifiedClassifier(pipeline(scale=True), 1, mask=3), of("estimator_")
    ),
    "search of stickers": Inside(
        GridSearchCV(StickerCertifiedClassifier(pipeline()), {"sticker_size": [1]}, cv=2),
        lambda model: [model.best_estimator_.estimator_],
    ),
    "union of vocabularies": Inside(
        FeatureUnion(
            [("a", vocabulary(patch_size=4)), ("b", vocabulary(patch_size=4, n_tokens=4))]
        ),
        lambda model: [step for _, step in model.transformer_list],
    ),
    "search of calibrated votes": Inside(
        GridSearchCV(
            CalibratedClassifierCV(VotingClassifier(two(), voting="soft"), cv=2),
            {"method": ["sigmoid"]},
            cv=2,
        ),
        lambda m: [p for v in calibrated(m.best_estimator_) for p in v.estimators_],
    ),
}


@pytest.fixture(scope="module")
def fitted(few):
    return functools.cache(lambda name: fit(INSIDE[name], *INSIDE[name].data(*few)))


def fit(inside, X, y):
    if isinstance(inside.estimator, FrozenEstimator):
        return FrozenEstimator(clone(inside.estimator.estimator).fit(X, y))
    if isinstance(getattr(inside.estimator, "estimator", None), FrozenEstimator):
        frozen = FrozenEstimator(clone(inside.estimator.estimator.estimator).fit(X, y))
        return clone(inside.estimator).set_params(estimator=frozen).fit(X, y)
    return clone(inside.estimator).fit(X, y)


def answers(model, X):
    names = [n for n in ("predict", "predict_proba", "decision_function") if hasattr(model, n)]
    found = [getattr(model, n)(X) for n in names or ["transform"]]
    return [np.hstack(one) if isinstance(one, list) else one for one in found]


def moved(X, radii, directions):
    """Images of 8 x 8 whose patches of 4 x 4 are moved by less than their radii."""
    patches = directions.reshape(-1, 2, 4, 2, 4).astype(float)
    norms = np.sqrt(np.square(patches).sum((2, 4), keepdims=True))
    step = radii[:, :, None, :, None] * 0.999 * patches / np.maximum(norms, 1e-30)
    return X + step.reshape(X.shape)


@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_it_is_the_smallest_of_the_pipelines_that_are_asked(few, fitted, name, norm):
    inside, model, X = INSIDE[name], fitted(name), few[0][:40]
    wanted = np.min([one.certify(X, norm) for one in inside.asked(model)], axis=0)
    assert (wanted > 0).mean() > 0.5
    np.testing.assert_array_equal(certify(model, X, norm), wanted)


@pytest.mark.parametrize("name", INSIDE)
def test_no_change_inside_the_radii_changes_an_answer(few, fitted, name):
    inside, model, X = INSIDE[name], fitted(name), few[0][:40]
    radii, before = certify(model, X), answers(model, X)
    rng = np.random.default_rng(0)
    tries = [rng.standard_normal(X.shape)]
    for one in inside.asked(model)[:4]:  # to the nearest walls of each
        tries.append(np.nan_to_num(one.certify(X, return_witness=True)[1].perturbation))
    for directions in tries:
        for found, was in zip(answers(model, moved(X, radii, directions)), before, strict=True):
            np.testing.assert_array_equal(found, was)


def test_steps_before_count_in_the_units_of_the_whole(few):
    X, y = few
    inner = pipeline(scale=True)
    by_hand = Pipeline([("first", StandardScaler(with_mean=False)), *clone(inner).steps])
    wanted = CertifiedPatchClassifier(by_hand.steps).fit(X, y).certify(X)
    search = GridSearchCV(inner, {"vocab__n_tokens": [8]}, cv=2)
    for last in (inner, VotingClassifier([("a", inner)]), search):
        model = Pipeline([("first", StandardScaler(with_mean=False)), ("clf", clone(last))])
        np.testing.assert_array_equal(certify(model.fit(X, y), X), wanted)
    assert (wanted != inner.fit(X, y).certify(X)).any()


def test_batches_frames_and_what_does_not_depend_on_names(few):
    X, y = few
    model = VotingClassifier(two()).fit(X, y)
    wanted = certify(model, X)
    np.testing.assert_array_equal(certify(model, iter([X[:50], X[50:]])), wanted)
    with pytest.raises(ValueError, match="iterator"):
        certify(model, iter([]))
    frame = pd.DataFrame(X).add_prefix("pixel")
    np.testing.assert_array_equal(certify(model, frame), wanted)
    bagging = BaggingClassifier(pipeline(), 2, random_state=0).fit(frame, y)
    assert certify(bagging, frame).shape == (120, 2, 2)
    with pytest.raises(ValueError, match="columns"):
        certify(bagging, frame[frame.columns[::-1]])


# ---------------------------------------------------------------------------- refusals


class Loose(VotingClassifier):
    """What a subclass does with its input is its own affair."""


class Best(GridSearchCV):
    """A search whose scores are of other pixels."""

    def decision_function(self, X):
        return super().decision_function(X[:, ::-1])


class Lookup(ClassifierMixin, BaseEstimator):
    """An estimator of one's own around another."""

    def __init__(self, estimator=None):
        self.estimator = estimator

    def fit(self, X, y):
        self.inside_ = clone(self.estimator).fit(X, y)
        self.classes_ = self.inside_.classes_
        return self

    def predict(self, X):
        return self.inside_.predict(np.roll(X, 1, axis=1))


def in_place(seed):
    model = pipeline(seed, scale=True, kind=Pipeline)
    return model.set_params(scale__copy=False)


def sized(patch_size):
    steps = [("vocab", vocabulary(patch_size=patch_size)), ("clf", DecisionTreeClassifier())]
    return CertifiedPatchClassifier(steps)


REFUSED = {
    "a member without tokens": (
        VotingClassifier([("a", pipeline()), ("raw", DecisionTreeClassifier())]),
        r"model\.estimators_\[1\] \(DecisionTreeClassifier\).*no vocabulary",
    ),
    "pixels beside the members": (
        StackingClassifier(two(), DecisionTreeClassifier(), cv=2, passthrough=True),
        "passthrough=True.*pixels",
    ),
    "features": (BaggingClassifier(pipeline(), 2, max_features=0.75), "features.*max_features"),
    "drawn features": (
        BaggingClassifier(pipeline(), 2, bootstrap_features=True),
        "features.*bootstrap_features",
    ),
    "masks of pixels": (
        StickerCertifiedClassifier(VotingClassifier(two()), 1, n_masks=2),
        "masks pixels.*hidden in part",
    ),
    "masks and no vocabulary": (
        StickerCertifiedClassifier(DecisionTreeClassifier(), 1, n_masks=2), "no vocabulary",
    ),
    "no vocabulary": (DecisionTreeClassifier(), "DecisionTreeClassifier.*no vocabulary"),
    "baseline": (pipeline().set_params(vocab="passthrough"), "no vocabulary"),
    "tokens of features": (
        Pipeline([("pca", PCA(36)), ("clf", sized(3))]), "see through PCA",
    ),
    "a union with pixels": (
        Pipeline([
            ("u", FeatureUnion([("v", vocabulary(patch_size=4)), ("p", "passthrough")])),
            ("clf", DecisionTreeClassifier()),
        ]),
        r"model\['u'\]\.transformer_list\[1\]\[1\] \(FunctionTransformer\).*no vocabulary",
    ),
    "columns": (
        Pipeline([
            ("u", ColumnTransformer([("v", vocabulary(patch_size=4), list(range(64)))])),
            ("clf", DecisionTreeClassifier()),
        ]),
        r"ColumnTransformer.*model\['u'\]\.transformers_",
    ),
    "a subclass": (Loose(two()), r"Loose.*model\.estimators_"),
    "of one's own": (Lookup(pipeline()), r"Lookup.*model\.inside_"),
    "noise": (
        SmoothedClassifier(pipeline(), sigma=1.0, n=10), r"SmoothedClassifier.*model\.estimator_",
    ),
    "no refit": (
        GridSearchCV(pipeline(), {"vocab__n_tokens": [8]}, cv=2, refit=False), "refit=False",
    ),
    "two sizes": (
        VotingClassifier([("a", sized(4)), ("b", sized(5))]),
        r"model\.estimators_\[0\].*\(4, 4\).*model\.estimators_\[1\].*\(5, 5\)",
    ),
    "in place": (VotingClassifier([("a", in_place(0)), ("b", in_place(1))]), "copy=True"),
    "a search of one's own": (Best(pipeline(), {"vocab__n_tokens": [8]}, cv=2), "Best"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_is_refused_by_name(few, name):
    estimator, message = REFUSED[name]
    X, y = few[0].copy(), few[1]  # some work in place
    model = clone(estimator).fit(X, y)
    with pytest.raises(TypeError, match=message):
        certify(model, X[:5])


def test_one_pipeline_that_is_asked_often_must_not_work_in_place(few):
    X, y = few
    frozen = FrozenEstimator(in_place(0).fit(X.copy(), y))
    model = CalibratedClassifierCV(frozen, cv=2, ensemble=True).fit(X.copy(), y)
    with pytest.raises(TypeError, match="copy=True"):
        certify(model, X)


def test_a_chain_is_refused_because_later_members_see_pixels_and_answers(few):
    X, y = columns(*few)
    model = ClassifierChain(sized(1)).fit(X, y)
    with pytest.raises(TypeError, match=r"ClassifierChain.*model\.estimators_"):
        certify(model, X)


@pytest.mark.filterwarnings("ignore:Label")
def test_members_that_are_all_constant_have_no_map(few):
    X = few[0]
    model = OneVsRestClassifier(pipeline()).fit(X, np.ones((len(X), 2), dtype=int))
    with pytest.raises(TypeError, match="constant"):
        certify(model, X)


def test_unfitted_and_unknown_norm(few):
    for unfitted in (pipeline(), VotingClassifier(two()), vocabulary()):
        with pytest.raises(NotFittedError):
            certify(unfitted, few[0])
    with pytest.raises(ValueError, match="norm"):
        certify(VotingClassifier(two()).fit(*few), few[0], norm="l3")
    for other in ("model.patchcert", None):
        with pytest.raises(TypeError, match=re.escape(repr(other)) + ".*no vocabulary"):
            certify(other, few[0])


def test_a_vocabulary_of_any_size_goes_with_others_of_any_size(few):
    any_size = [PatchVocabulary.from_tokens(np.eye(16) * k, patch_size=4) for k in (1, 2)]
    model = FeatureUnion([(str(k), FrozenEstimator(one)) for k, one in enumerate(any_size)])
    model.fit(few[0])
    wanted = np.min([one.certify(few[0]) for one in any_size], axis=0)
    np.testing.assert_array_equal(certify(model, few[0]), wanted)


def test_logistic_regression_behind_tokens_in_a_stack(few):
    """The final estimator may be anything: it sees answers about tokens."""
    X, y = few
    last = LogisticRegression(max_iter=1000)
    model = StackingClassifier(two(), last, cv=2).fit(X, y)
    members = [one.certify(X) for one in model.estimators_]
    np.testing.assert_array_equal(certify(model, X), np.min(members, axis=0))
