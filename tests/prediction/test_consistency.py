"""Steps that are no function of one image are refused, by name; the others are left alone."""

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sklearn_patchcert import (
    CertifiedCommittee,
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchVocabulary,
    SmoothedClassifier,
)
from sklearn_patchcert.networks.modules import AdditivePatchNet
from sklearn_patchcert.prediction.consistency import check_one_image_at_a_time


class OfTheBatch(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, n_outputs)
        )

    def forward(self, X):
        out = self.body(X)
        return out - out.mean(0)


class BatchStatistics(nn.Sequential):
    def __init__(self, n_outputs):
        norm = nn.BatchNorm2d(1, track_running_stats=False)
        super().__init__(norm, nn.Flatten(), nn.Linear(64, n_outputs))


class Dropping(nn.Sequential):
    def __init__(self, n_outputs):
        super().__init__(nn.Flatten(), nn.Linear(64, n_outputs))

    def forward(self, X):
        return super().forward(nn.functional.dropout(X, 0.1))


class Wandering(ClassifierMixin, BaseEstimator):
    """Has no scores, and counts how often it is asked."""

    def fit(self, X, y):
        self.classes_, self.calls_ = np.unique(y), 0
        return self

    def predict(self, X):
        self.calls_ += 1
        return self.classes_[(np.arange(len(X)) + self.calls_) % len(self.classes_)]


def centred(X):
    return X - X.mean(0)


def of_the_largest(X):
    return X / X.max()


def shaken(X):
    return X + np.random.default_rng().normal(size=X.shape)


def net(module):
    return PatchNetClassifier(module, max_epochs=1, random_state=0)


def fitted(digits, *after, **options):
    vocabulary = PatchVocabulary(4, 4, strategy="kmeans", random_state=0, **options)
    steps = [("vocab", vocabulary), *((f"step{at}", step) for at, step in enumerate(after))]
    with torch.random.fork_rng():
        return CertifiedPatchClassifier(steps).fit(digits[0][:200], digits[1][:200])


@pytest.mark.parametrize("n_images", [1, 30])
@pytest.mark.parametrize(
    ("after", "name", "why"),
    [
        ([net(OfTheBatch)], "step0", "depends on the other images"),
        ([net(BatchStatistics)], "step0", "depends on the other images"),
        ([net(Dropping)], "step0", "depends on chance"),
        ([DummyClassifier(strategy="stratified")], "step0", "depends on chance"),
        ([DummyClassifier(strategy="uniform", random_state=0)], "step0", "other images"),
        ([Wandering()], "step0", "depends on chance"),
        ([FunctionTransformer(centred), net(OfTheBatch)], "step0", "depends on the other images"),
        ([FunctionTransformer(centred), LogisticRegression()], "step0", "other images"),
        ([FunctionTransformer(shaken), LogisticRegression()], "step0", "depends on chance"),
        ([Pipeline([("s", FunctionTransformer(centred)), ("k", KNeighborsClassifier())])],
         "step0", "other images"),
        ([SmoothedClassifier(LogisticRegression(), n=20)], "step0", "noise by the place"),
        ([Pipeline([("s", SmoothedClassifier(LogisticRegression(), n=20))])], "step0", "noise by"),
        ([GridSearchCV(SmoothedClassifier(LogisticRegression(), n=20), {}, cv=2)],
         "step0", "noise by"),
        ([FunctionTransformer(of_the_largest), KNeighborsClassifier()], "step0", "other images"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_functions_of_the_batch_or_of_chance_are_refused(digits, after, name, why, n_images):
    model = fitted(digits, *after)
    with pytest.raises(ValueError, match=f"The step '{name}'.*{why}"):
        model.certify_prediction(digits[0][200 : 200 + n_images], max_configurations=10)


def test_one_output_at_a_time(digits):
    two = np.stack([digits[1][:200] > 4, digits[1][:200] % 2], axis=1)
    vocabulary = PatchVocabulary(4, 4, strategy="kmeans", random_state=0)
    for last in (KNeighborsClassifier(), MultiOutputClassifier(DummyClassifier())):
        model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", last)])
        model.fit(digits[0][:200], two)
        for most in (1, 2, 100):  # as many as outputs, too
            with pytest.raises(ValueError, match="one output"):
                model.certify_prediction(digits[0][200:202], max_configurations=most)


def test_a_pipeline_with_a_predict_of_its_own_is_refused(digits):
    class Other(CertifiedPatchClassifier):
        def predict(self, X):
            return np.full(len(X), super().predict(X)[0])

    vocabulary = PatchVocabulary(4, 4, strategy="kmeans", random_state=0)
    steps = [("vocab", vocabulary), ("clf", KNeighborsClassifier())]
    model = Other(steps).fit(digits[0][:200], digits[1][:200])
    with pytest.raises(TypeError, match="predict of its own"):
        model.certify_prediction(digits[0][200:210])


@pytest.mark.parametrize(
    ("option", "bad"),
    [
        ("max_configurations", [0, -1, 1.5, 1e4, np.inf, np.nan, None, "9", True]),
        ("max_seconds", [0, -1.0, np.nan, "9", True]),
        ("max_total_seconds", [0, -1.0, np.nan, "9", True]),
        ("norm", ["l1", "L3", 2, None]),
        ("method", ["", None, "bound"]),
        ("cells", ["yes", 2, None]),
    ],
)
def test_options_out_of_range(digits, option, bad):
    model = fitted(digits, KNeighborsClassifier())
    for value in bad:
        with pytest.raises(ValueError, match=option):
            model.certify_prediction(digits[0][:2], **{option: value})


@pytest.mark.parametrize("name", ["weights", "voting", "flatten_transform"])
def test_the_vote_that_is_certified_is_the_only_one(digits, name):
    committee = CertifiedCommittee([("a", fitted(digits, KNeighborsClassifier()))])
    with pytest.raises(AttributeError):
        setattr(committee, name, [5])


def first(outputs):
    """Turns what is likely into what is not."""
    return 1 - outputs.softmax(-1)


@pytest.mark.parametrize("nonlinearity", [first, lambda outputs: -outputs])
def test_additive_bounds_are_for_answers_by_the_largest_logit(digits, nonlinearity):
    last = PatchNetClassifier(
        AdditivePatchNet, max_epochs=1, random_state=0, predict_nonlinearity=nonlinearity
    )
    model = fitted(digits, last)
    with pytest.raises(TypeError, match="predict_nonlinearity"):
        model.certify_prediction(digits[0][200:205], method="additive")
    found = model.certify_prediction(digits[0][200:205], max_configurations=50)
    assert (found.radius <= found.upper).all()


def test_additive_bounds_are_for_the_network_that_answers(digits):
    class Shifted(AdditivePatchNet):
        def forward(self, images):
            return -super().forward(images)

    model = fitted(digits, net(Shifted))
    with pytest.raises(TypeError, match="not the sums"):
        model.certify_prediction(digits[0][200:205], method="additive")


@pytest.mark.parametrize(("few", "refused"), [(0, False), (5, False), (6, True), (20, True)])
def test_only_a_quarter_of_the_images_may_tie(few, refused):
    """On few images an answer may hang on rounding, which the certificate of each leaves out."""
    X = np.arange(20.0)[:, None]
    step = FunctionTransformer(lambda X: X + (few > X if len(X) == 1 else 0))
    pipeline = Pipeline([("a", step), ("b", DummyClassifier().fit(X, X[:, 0] > 3))])
    if refused:
        with pytest.raises(ValueError, match=f"The step 'a'.*for {few} of 20 images"):
            check_one_image_at_a_time(pipeline, X)
    else:
        check_one_image_at_a_time(pipeline, X)


def test_additive_bounds_look_at_blocks_that_differ(digits):
    class Between(AdditivePatchNet):
        def forward(self, images):  # more than the terms, but not where all blocks are alike
            half = images.shape[-1] // 2
            return super().forward(images) + (
                images[..., :half].mean((1, 2, 3)) - images[..., half:].mean((1, 2, 3))
            )[:, None] * torch.arange(10.0)

    model = fitted(digits, net(Between))
    with pytest.raises(TypeError, match="not the sums"):
        model.certify_prediction(digits[0][200:205], method="additive")


def test_a_committee_that_votes_in_its_own_way_is_refused(digits):
    class First(CertifiedCommittee):
        def predict(self, X):
            return self.classes_[np.zeros(len(X), dtype=int)]

    vocabulary = PatchVocabulary(4, 4, strategy="kmeans", random_state=0)
    member = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", KNeighborsClassifier())])
    committee = First([("a", member)]).fit(digits[0][:200], digits[1][:200])
    with pytest.raises(TypeError, match="its own way"):
        committee.certify_prediction(digits[0][:3])


@pytest.mark.parametrize("norm", ["l2", "linf", "l0", "sticker"])
def test_an_image_that_is_tied_itself_has_radius_zero_in_every_norm(digits, norm):
    class Same(nn.Module):
        def __init__(self, n_outputs):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.n_outputs = n_outputs

        def forward(self, X):
            return self.weight * X.mean((1, 2, 3))[:, None].repeat(1, self.n_outputs)

    model = fitted(digits, net(Same))
    found = model.certify_prediction(digits[0][200:203], norm=norm, max_configurations=300)
    np.testing.assert_array_equal(found.radius, 0)
    assert not found.exact.any()
