"""What a certified pipeline refuses when it is fitted, instead of at a later call."""

import numpy as np
import pandas as pd
import pytest
from pipelines_for_tests import vocabulary
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest, StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import CategoricalNB
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from sklearn_patchcert import CertifiedPatchClassifier, CertifiedPatchRegressor, PatchVocabulary

TREE = DecisionTreeClassifier(random_state=0)
EVERY = list(range(64))
HIDDEN = {
    "union": [("union", FeatureUnion([("v", vocabulary()), ("s", StandardScaler())]))],
    "columns": [("columns", ColumnTransformer([("v", vocabulary(), EVERY)]))],
    "remainder": [
        ("rest", ColumnTransformer([("s", StandardScaler(), [])], remainder=vocabulary()))
    ],
    "pipeline": [("steps", make_pipeline(StandardScaler(), vocabulary()))],
    "deep": [
        ("scale", StandardScaler()), ("u", FeatureUnion([("p", make_pipeline(vocabulary()))]))
    ],
    "frozen": [("steps", FrozenEstimator(make_pipeline(vocabulary())))],
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("kind", [CertifiedPatchClassifier, CertifiedPatchRegressor])
def test_a_vocabulary_inside_a_step_is_refused_by_the_name_of_the_step(few, name, kind):
    X, y = few
    last = TREE if kind is CertifiedPatchClassifier else DecisionTreeRegressor()
    model = kind([*HIDDEN[name], ("clf", last)])
    step = HIDDEN[name][-1][0]
    with pytest.raises(ValueError, match=f"inside {step!r}.*step of its own"):
        model.fit(X, y)
    assert not hasattr(model["clf"], "tree_")


def test_a_vocabulary_inside_the_last_step_is_refused_too(few):
    inner = CertifiedPatchClassifier([("vocab", vocabulary()), ("clf", TREE)])
    model = CertifiedPatchClassifier([("clf", GridSearchCV(inner, {"vocab__n_tokens": [4]}))])
    with pytest.raises(ValueError, match=r"inside 'clf'.*sklearn_patchcert\.certify"):
        model.fit(*few)


def test_after_the_vocabulary_anything_may_hold_another(few):
    X, y = few
    steps = [("vocab", vocabulary()), ("again", make_pipeline(vocabulary(n_tokens=4)))]
    model = CertifiedPatchClassifier([*steps, ("clf", clone(TREE))]).fit(X, y)
    np.testing.assert_array_equal(model.certify(X), model["vocab"].certify(X))


LAST = {
    "regressor": (Ridge(), "regressor"),
    "regressor in a pipeline": (make_pipeline(StandardScaler(), Ridge()), "regressor"),
    "search of regressors": (GridSearchCV(Ridge(), {"alpha": [1.0]}), "regressor"),
    "frozen regressor": (FrozenEstimator(Ridge()), "regressor"),
    "clusterer": (KMeans(3), "clusterer"),
    "outliers": (IsolationForest(), "outlier detector"),
    "density": (GaussianMixture(2), "density estimator"),
}


@pytest.mark.parametrize("name", LAST)
@pytest.mark.parametrize("vocab", ["passthrough", vocabulary()])
def test_the_last_step_of_a_classifier_classifies(few, name, vocab):
    last, word = LAST[name]
    model = CertifiedPatchClassifier([("vocab", clone(vocab, safe=False)), ("clf", last)])
    with pytest.raises(ValueError, match=f"'clf'.*{type(last).__name__}.*a.*{word}"):
        model.fit(*few)
    assert vocab == "passthrough" or not hasattr(model["vocab"], "vocabulary_")
    for method in ("fit_predict", "fit_transform"):
        if hasattr(model, method):
            with pytest.raises(ValueError, match=word):
                getattr(model, method)(*few)


@pytest.mark.parametrize("last", [TREE, KMeans(3), GridSearchCV(TREE, {"max_depth": [2]})])
def test_the_last_step_of_a_regressor_regresses(few, last):
    model = CertifiedPatchRegressor([("vocab", vocabulary()), ("clf", last)])
    with pytest.raises(ValueError, match=f"'clf'.*{type(last).__name__}.*CertifiedPatchClassifier|"
                                         "clusterer"):  # fmt: skip
        model.fit(*few)


class Duck(BaseEstimator):
    """A classifier that does not say so."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


@pytest.mark.parametrize(
    "last", [Duck(), GridSearchCV(TREE, {"max_depth": [2]}, cv=2), StandardScaler(), "passthrough"]
)
def test_all_others_may_come_last(few, last):
    model = CertifiedPatchClassifier([("vocab", vocabulary()), ("clf", last)]).fit(*few)
    assert model.certify(few[0]).shape == (150, 3, 3)


# ---------------------------------------------------------------------------- tokens as categories


def ids(**options):
    return vocabulary(**{"n_tokens": 32, "output": "ids", **options})


def linear():
    return LogisticRegression(max_iter=1000)


CLOSED = {  # know the tokens of the training images only
    "hot": [("hot", OneHotEncoder()), ("clf", linear())],
    "ordinal": [("ordinal", OrdinalEncoder()), ("clf", clone(TREE))],
    "bayes": [("clf", CategoricalNB())],
    "columns": [("hot", ColumnTransformer([("h", OneHotEncoder(), [0, 1])])), ("clf", linear())],
    "inside": [("clf", make_pipeline(OneHotEncoder(), linear()))],
    "search": [("clf", GridSearchCV(CategoricalNB(), {"alpha": [1.0]}, cv=2))],
    # These meet other tokens in their own folds.
    "calibrated": [("clf", CalibratedClassifierCV(CategoricalNB(), cv=2))],
    "stacked": [
        ("clf", StackingClassifier([("hot", make_pipeline(OneHotEncoder(), linear()))], TREE, cv=2))
    ],
}
OPEN = {
    "hot": [("hot", OneHotEncoder(handle_unknown="ignore")), ("clf", linear())],
    "listed": [("hot", OneHotEncoder(categories=[np.arange(32)] * 9)), ("clf", linear())],
    "ordinal": [
        ("ordinal", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)),
        ("clf", clone(TREE)),
    ],
    "bayes": [("clf", CategoricalNB(min_categories=32))],
    "columns": [
        ("hot", ColumnTransformer([("h", OneHotEncoder(handle_unknown="ignore"), ["patch_0_0"])])),
        ("clf", linear()),
    ],
    "tree": [("clf", clone(TREE))],
}


@pytest.mark.filterwarnings("ignore:Scoring failed", "ignore:One or more of the test scores")
@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("pandas", [False, True])
def test_what_fails_on_tokens_unseen_in_training_is_refused_with_the_remedy(few, name, pandas):
    model = CertifiedPatchClassifier([("vocab", ids()), *map(clone_step, CLOSED[name])])
    if pandas:
        model["vocab"].set_output(transform="pandas")
    remedy = r'OneHotEncoder\(handle_unknown="ignore"\)(.|\n)*min_categories=32(.|\n)*categories_'
    with pytest.raises(ValueError, match=remedy) as caught:
        model.fit(*few)
    assert caught.value.__cause__ is not None
    with pytest.raises(NotFittedError):
        model.predict(few[0])
    with pytest.raises(NotFittedError):
        model["vocab"].transform(few[0])


def test_errors_of_other_kinds_stay_as_they_are(few):
    X, y = few
    hot = OneHotEncoder(categories=[np.arange(32)] * 9), linear().set_params(C="much")
    for steps in (hot, (CategoricalNB(alpha="much"),)):
        model = CertifiedPatchClassifier([("vocab", ids()), ("clf", make_pipeline(*steps))])
        with pytest.raises(ValueError, match="much"):
            model.fit(X, y)


def clone_step(step):
    return step[0], clone(step[1])


@pytest.mark.parametrize("name", OPEN)
def test_what_takes_every_token_predicts_and_certifies(few, name):
    X, y = few
    steps = [("vocab", ids().set_output(transform="pandas")), *map(clone_step, OPEN[name])]
    model = CertifiedPatchClassifier(steps).fit(X, y)
    found = model.certify_prediction(X[:2], max_configurations=300)
    assert found.radius.shape == (2,)


def test_an_encoder_that_has_seen_every_token_everywhere_is_let_through(few):
    X, y = few
    model = CertifiedPatchClassifier(
        [("vocab", ids(n_tokens=2, patch_size=8)), ("hot", OneHotEncoder()), ("clf", linear())]
    )
    assert model.fit(X, y).certify_prediction(X[:2]).radius.shape == (2,)


@pytest.mark.parametrize(
    "options",
    [{}, {"per_channel": "shared"}, {"per_channel": True, "n_tokens": [3, 5, 4]}],
    ids=["one", "shared", "own"],
)
def test_ids_know_their_categories(colour, options):
    X, y = colour[0][:, :, :6], colour[1]
    vocab = vocabulary(**{"output": "ids", **options})
    with pytest.raises(NotFittedError):
        vocab.categories_  # noqa: B018
    hot = OneHotEncoder(categories=vocab.fit(X).categories_, sparse_output=False)
    made = vocab.transform(X)
    columns = hot.fit_transform(made)
    assert columns.sum() == made.size
    for at, known in enumerate(vocab.categories_):
        np.testing.assert_array_equal(known, np.arange(len(known)))
        maps = made.copy()
        maps[:, at] = len(known) - 1
        again = vocab.transform(vocab.inverse_transform(maps))  # it is a token of its own
        np.testing.assert_array_equal(again[:, at], len(known) - 1)
    sizes = {len(known) for known in vocab.categories_}
    assert sizes == {3, 4, 5} if "n_tokens" in options else {8}
    model = CertifiedPatchClassifier(
        [("vocab", FrozenEstimator(vocab)), ("hot", hot), ("clf", linear())]
    )
    assert model.fit(X, y).predict(X).shape == (60,)


def test_tokens_for_images_of_any_size_have_no_list_of_categories():
    with pytest.raises(AttributeError, match="image_shape"):
        PatchVocabulary.from_tokens(np.eye(4), patch_size=2).categories_  # noqa: B018


def test_the_check_leaves_frames_and_input_alone(few):
    X, y = few
    frame = pd.DataFrame(X).add_prefix("pixel")
    steps = [("scale", StandardScaler(copy=False)), ("vocab", ids()), *map(clone_step, OPEN["hot"])]
    model = CertifiedPatchClassifier(steps).set_output(transform="pandas")
    model.set_params(hot__sparse_output=False).fit(frame, y)
    np.testing.assert_array_equal(frame, X)
    assert isinstance(model[:-1], Pipeline)
