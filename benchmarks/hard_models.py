"""Models that are hard to certify: what `compositions.py` puts after the tokens.

Their scores tie in real numbers and differ by rounding alone, or are very large, or something else
than the largest score decides.
"""

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier
from torch import nn

from sklearn_patchcert import PatchNetClassifier


class TwoLayers(nn.Module):
    """Rows or images to logits, times a factor."""

    def __init__(self, n_outputs=3, factor=1.0):
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, n_outputs)
        )
        self.factor = factor

    def forward(self, X):
        return self.factor * self.body(X)


class Tie(TwoLayers):
    """Logits that are equal in real numbers: the same terms, added in another order."""

    def __init__(self, n_outputs=3, factor=1.0):
        super().__init__(n_outputs, factor)
        with torch.no_grad():
            first, last = self.body[1], self.body[3]
            first.weight[16:] = first.weight[:16].flip(0)
            first.bias[16:] = first.bias[:16].flip(0)
            last.weight[0] = torch.linspace(0.5, 1.5, 32)
            last.weight[1:] = last.weight[:1].flip(1)
            last.bias[:] = 0


class Above(TwoLayers):
    """One logit."""

    def __init__(self):
        super().__init__(1)

    def forward(self, X):
        return self.body(X)[:, 0]


class Second(PatchNetClassifier):
    """A network whose answer is the second largest logit."""

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argsort(axis=1)[:, -2]]


class Unknown(ClassifierMixin, BaseEstimator):
    """Somebody's wrapper with a threshold, of which the library knows nothing."""

    def __init__(self, estimator=None, threshold=0.5):
        self.estimator = estimator
        self.threshold = threshold

    def fit(self, X, y):
        self.estimator.fit(X, y)
        self.classes_ = self.estimator.classes_
        return self

    def predict_proba(self, X):
        return self.estimator.predict_proba(X)

    def predict(self, X):
        return self.classes_[(self.predict_proba(X)[:, 1] > self.threshold).astype(int)]


class Only(ClassifierMixin, BaseEstimator):
    """Somebody's wrapper that has no scores."""

    def __init__(self, estimator=None):
        self.estimator = estimator

    def fit(self, X, y):
        self.estimator.fit(X, y)
        self.classes_ = self.estimator.classes_
        return self

    def predict(self, X):
        return self.estimator.predict(X)


class Search(GridSearchCV):
    """A search whose answers are not those of its best estimator."""

    def predict(self, X):
        return self.classes_[(self.predict_proba(X)[:, 1] > 0.4).astype(int)]


class Flattened(Pipeline):
    """A pipeline with probabilities of its own."""

    def predict_proba(self, X):
        flat = super().predict_proba(X) ** 0.2
        return flat / flat.sum(axis=1, keepdims=True)


class Likely(Above):
    """One probability."""

    def forward(self, X):
        return torch.sigmoid(super().forward(X))


def halve(X):
    """Change an array in place."""
    X /= 2
    X += 1
    return X


def single(X):
    """float32, in which the networks of torch compute."""
    return np.asarray(X, dtype=np.float32)


def net(module=TwoLayers, kind=PatchNetClassifier, **options):
    return kind(module, **{"max_epochs": 3, "lr": 0.02, "random_state": 0, **options})


def skorch_net(module=TwoLayers, kind=NeuralNetClassifier, **options):
    if kind is NeuralNetClassifier:
        options["criterion"] = nn.CrossEntropyLoss
    options = {"train_split": None, "verbose": 0, "max_epochs": 3, "lr": 0.05, **options}
    return kind(module, **options)


def tie(**options):
    return net(Tie, lr=1e-30, max_epochs=1, **options)


def loud_tie():
    return tie(module__factor=1e5)


def neighbors(**options):
    return KNeighborsClassifier(4, **options)
