"""write_report of models that are certified against stickers."""

import math

import numpy as np
import pytest
from pages_for_tests import HOSTILE, Page, faults
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import CategoricalNB

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchVocabulary,
    StickerCertifiedClassifier,
    write_report,
)
from sklearn_patchcert.displays.report.stickers import least_and_most


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits
    return X[:200], y[:200], X[200:230], y[200:230]


@pytest.fixture(scope="module")
def models(data):
    vocabulary = PatchVocabulary(8, 2, strategy="kmeans", output="ids", random_state=0)
    steps = [("vocab", vocabulary), ("clf", CategoricalNB(min_categories=8))]
    pipeline = CertifiedPatchClassifier(steps)
    made = {
        "tokens": StickerCertifiedClassifier(pipeline, [2, (1, 3)]),
        "frozen": StickerCertifiedClassifier(
            FrozenEstimator(pipeline.fit(*data[:2])), 2, n_stickers=2, n_masks=2
        ),
        "pixels": StickerCertifiedClassifier(LogisticRegression(max_iter=2000), 1, n_masks=3),
    }
    return {name: model.fit(*data[:2]) for name, model in made.items()}


def down(share):
    return f"{math.floor(round(1000 * share, 6)) / 10:.1f} %"


@pytest.mark.parametrize("name", ["tokens", "frozen", "pixels"])
def test_the_page_says_what_the_model_certifies(name, models, data, tmp_path):
    model, (_, _, X, y) = models[name], data
    names = [HOSTILE[at] if at < len(HOSTILE) else str(at) for at in range(len(X))]
    report = write_report(model, X, y, tmp_path / "page.html", names=names, max_images=5)
    found, right = model.certify(X), model.predict(X) == y
    np.testing.assert_array_equal(report.prediction, found.prediction)
    np.testing.assert_array_equal(report.stickers.certified, found.certified)
    np.testing.assert_array_equal(report.stickers.shares, found.places.mean((1, 2)))
    html = (tmp_path / "page.html").read_text()
    page = Page(html)
    assert faults(html) == []
    text = " ".join(" ".join(page.text).split())
    assert down((found.certified & right).mean()) in text
    assert down(found.places.mean()) in text
    head, *rows = page.rows
    at = [one.strip() for one in head].index("Stickers")
    for row, safe, places in zip(rows, found.certified, found.places, strict=True):
        assert row[at].strip() == ("certified" if safe else "not certified")
        assert row[at + 1].strip() == down(places.mean())
    joint = "every patch outside may change by less than its patch radius" in text
    assert joint == ("Mean patch radius" in text) == ("curve" in page.ids) == (name != "pixels")
    assert ("The rest of the image must not change at all" in text) == (name == "pixels")
    assert ("one sticker of up to 2 x 2 or 1 x 3 pixels" in text) == (name == "tokens")
    assert ("2 stickers of up to 2 x 2 pixels" in text) == (name == "frozen")
    assert (report.smallest is None) == (name == "pixels")
    if name != "pixels":
        np.testing.assert_array_equal(report.smallest, found.radii.reshape(len(X), -1).min(1))


def test_without_labels_nothing_is_said_of_accuracy(models, data, tmp_path):
    write_report(models["tokens"], data[2], None, tmp_path / "page.html")
    text = " ".join(" ".join(Page((tmp_path / "page.html").read_text()).text).split())
    assert "Certified share, stickers" in text
    assert "ccuracy" not in text


def test_the_images_that_are_drawn_are_of_both_ends():
    shares = np.array([0.5, 0.0, 1.0, 0.25, 0.75])
    assert least_and_most(shares, 3).tolist() == [1, 3, 2]
    assert least_and_most(shares, 9).tolist() == [1, 3, 0, 4, 2]


def test_what_such_a_model_has_not_is_refused(models, data, tmp_path):
    path = tmp_path / "page.html"
    with pytest.raises(ValueError, match=r"whole_image is for .*double masking"):
        write_report(models["tokens"], data[2], data[3], path, whole_image=True)
    with pytest.raises(TypeError, match=r"or StickerCertifiedClassifier.*LogisticRegression"):
        write_report(LogisticRegression(), data[2], data[3], path)
    assert not path.exists()
