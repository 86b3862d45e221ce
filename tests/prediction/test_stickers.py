"""Windows in which anything may change: equal to trying everything."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary
from sklearn_patchcert.prediction.stickers import certify_stickers, touched


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3),
       st.integers(1, 3), st.sampled_from([1, 9, 60, 600, 10**4]))  # fmt: skip
@settings(max_examples=100, deadline=None, derandomize=True)
def test_stickers_are_brute_force(seed, rows, cols, ph, pw, most):
    rng = np.random.default_rng(seed)
    own = rng.integers(2, size=(rows, cols, 1))
    every = list(itertools.product(range(2), repeat=rows * cols))
    often = rng.choice([0, 0.002, 0.05])
    bad = {ids for ids in every if rng.random() < often} - {tuple(own.ravel())}
    seen = []

    def changes(ids):
        seen.extend(map(tuple, ids.tolist()))
        return np.array([tuple(i) in bad for i in ids.tolist()])

    side, exact, looked, changing = certify_stickers(
        changes, own, 2, (ph, pw), max_configurations=most, batch_size=7
    )
    assert len(set(seen)) == len(seen)
    assert looked <= most

    def smallest(ids):
        """Side of the smallest window that touches all patches that differ."""
        differs = np.reshape(ids, own.shape[:2]) != own[..., 0]
        lines = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
        spans = [line[-1] - line[0] for line in lines]
        return max(1 if s == 0 else (s - 1) * p + 2 for s, p in zip(spans, (ph, pw), strict=True))

    truth = min(map(smallest, bad), default=np.inf)
    assert side <= truth
    if exact:
        assert side == truth
        assert tuple(changing) in bad
    elif side == np.inf:
        assert looked == 2 ** (rows * cols) - 1  # all but the image itself, each once
        assert truth == np.inf
    else:  # the windows of that side have more configurations than are left
        size = np.minimum(touched(int(side), (ph, pw)), (rows, cols)).tolist()
        places = (rows - size[0] + 1) * (cols - size[1] + 1)
        assert 2 ** (size[0] * size[1]) * places > most - looked


@pytest.mark.parametrize("patch", [1, 3, 4])
def test_no_window_touches_more(patch):
    for side in range(1, 14):
        most = max((at + side - 1) // patch - at // patch + 1 for at in range(patch))
        assert touched(side, (patch, patch)) == (most, most)


@pytest.mark.filterwarnings("ignore:X has values from:UserWarning")  # anything is stuck on
def test_nothing_that_is_stuck_on_changes_the_class(digits):
    vocabulary = PatchVocabulary(3, 2, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", RidgeClassifier())])
    X, y = digits[0][800:900], digits[1][:800]
    found = model.fit(digits[0][:800], y).certify_prediction(X, norm="sticker")
    assert {1.0, 2.0} <= set(found.radius) <= {1.0, 2.0, 4.0}  # one patch, 2x2 of them, 3x3
    np.testing.assert_array_equal(found.exact, found.radius < 4)  # which are too many
    sure = found.radius >= 2
    rng = np.random.default_rng(0)
    for _ in range(100):  # windows of one pixel
        moved = X.copy()
        moved[np.arange(100), rng.integers(64, size=100)] = rng.normal(scale=1e3, size=100)
        assert (model.predict(moved) == found.prediction)[sure].all()
    for _ in range(100):  # and of three by three
        moved = X.copy().reshape(-1, 8, 8)
        top, left = rng.integers(6, size=2)
        moved[:, top : top + 3, left : left + 3] = rng.normal(scale=20, size=(100, 3, 3))
        same = model.predict(moved.reshape(100, -1)) == found.prediction
        assert same[found.radius == 4].all()
    values = model.certify_prediction(X, norm="l0")
    assert (values.radius >= 1).all()
    np.testing.assert_array_equal(values.radius > 1, sure)  # one value, one patch
