"""StickerCertifiedClassifier where scikit-learn chooses, validates and stores models."""

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import CategoricalNB

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary, StickerCertifiedClassifier
from sklearn_patchcert.scorers import sticker_accuracy


def masked(**options):
    vocabulary = PatchVocabulary(
        6, patch_size=2, strategy="kmeans", output="ids", random_state=0, max_iter=5
    )
    steps = [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=8))]
    return StickerCertifiedClassifier(CertifiedPatchClassifier(steps), 2, **options)


@pytest.fixture(scope="module")
def few(digits):
    return digits[0][:80], digits[1][:80] % 2


def test_a_search_over_stickers_masks_and_tokens(few, tmp_path):
    grid = [
        {"sticker_size": [1, 3], "n_masks": [2]},
        {"n_masks": [(1, 2)], "estimator__vocab__n_tokens": [4]},
    ]
    scoring = {"accuracy": "accuracy", "stickers": sticker_accuracy}
    search = GridSearchCV(masked(), grid, scoring=scoring, refit="stickers", cv=2).fit(*few)
    results = search.cv_results_
    for chosen, accuracy, certified in zip(
        results["params"], results["mean_test_accuracy"], results["mean_test_stickers"],
        strict=True,
    ):  # fmt: skip
        again = masked().set_params(**chosen)
        assert cross_val_score(again, *few, cv=2).mean() == accuracy
        found = cross_val_score(again, *few, cv=2, scoring=sticker_accuracy).mean()
        assert found == certified <= accuracy
    assert search.best_score_ == results["mean_test_stickers"].max() > 0
    joblib.dump(search, tmp_path / "search")
    loaded = joblib.load(tmp_path / "search")
    one, other = (found.best_estimator_.certify(few[0][:20]) for found in (search, loaded))
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key])
