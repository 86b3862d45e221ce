"""Small estimators and images that the tests of masks share."""

import itertools

import numpy as np
from sklearn.linear_model import LogisticRegression

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary


def tokens(clf=None, **options):
    options = {"n_tokens": 8, "patch_size": 2, "strategy": "kmeans", "random_state": 0, **options}
    clf = LogisticRegression(C=0.1) if clf is None else clf
    return CertifiedPatchClassifier([("vocab", PatchVocabulary(**options)), ("clf", clf)])


def small_net(**options):
    small = {"max_epochs": 1, "module__width": 4, "module__hidden": 8, "random_state": 0}
    return PatchNetClassifier(**{**small, **options})


SHAPE, CELL, TOKENS = (5, 8), (2, 2), 3  # 3 x 4 patches, the last row cut off


def images(n, seed):
    """Images of which most patches are near the token of their class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % TOKENS
    usual = rng.random((n, 3, 4)) < rng.choice([0.7, 0.85, 1.0], size=(n, 1, 1))
    ids = np.where(usual, y[:, None, None], rng.integers(TOKENS, size=(n, 3, 4)))
    X = ids.repeat(2, 1).repeat(2, 2)[:, : SHAPE[0]].astype(float)
    return X + rng.uniform(-0.3, 0.3, X.shape), y


def vocabulary(**options):
    """About one color for each token."""
    return PatchVocabulary(TOKENS, CELL, strategy="kmeans", random_state=0, **options)


def contents(window):
    """All token contents of a window."""
    cells = window[0] * window[1]
    every = itertools.product(range(TOKENS), repeat=cells)
    return np.array(list(every)).reshape(-1, *window)


def sizes_of(model):
    several = model.sticker_size if isinstance(model.sticker_size, list) else [model.sticker_size]
    return [(one, one) if isinstance(one, int) else one for one in several]
