"""write_report: the page shows what the model computes, loads nothing and believes no name."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages_for_tests import HOSTILE, Page, faults
from PIL import Image
from scipy.stats import binomtest
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.naive_bayes import CategoricalNB
from sklearn.preprocessing import StandardScaler

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    CertifiedPatchRegressor,
    ImageReader,
    PatchVocabulary,
    reporting,
    write_report,
)
from sklearn_patchcert.displays.report import rendering as pages

WHOLE = {"max_configurations": 40}
REASONS = {"broken <b>.jpg": "truncated & odd", "notes.txt": "not the name of a picture (.txt)"}


def pipeline(*before, n_tokens=8, patch_size=4, last=None, **options):
    vocabulary = PatchVocabulary(
        n_tokens, patch_size, strategy="kmeans", output="ids", random_state=0, **options
    )
    last = last or CategoricalNB(min_categories=n_tokens)
    return CertifiedPatchClassifier([*before, ("vocab", vocabulary), ("clf", last)])


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits
    return X[:60], y[:60], X[60:90], y[60:90]


@pytest.fixture(scope="module")
def model(data):
    return pipeline().fit(data[0], data[1])


@pytest.fixture(scope="module")
def page(model, data, tmp_path_factory):
    """A page with all that there is, of images with hostile names."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    names = [*HOSTILE, *(f"{at}.png" for at in range(30 - len(HOSTILE)))]
    report = write_report(model, *data[2:], path, names=names, whole_image=WHOLE, skipped=REASONS,
                          title="<i>Digits</i>", units="gray <levels>",
                          target_names=[f"<u>{c}" for c in range(10)])  # fmt: skip
    return report, path.read_text(encoding="utf-8")


def test_labels_of_another_type_are_the_same_classes(model, data, tmp_path):
    """Numbers that a table has made floats."""
    pages = []
    for y in (data[3], data[3].astype(float)):
        write_report(model, data[2], y, tmp_path / "page.html", title="t")
        pages.append(Page((tmp_path / "page.html").read_text(encoding="utf-8")))
    assert pages[0].rows == pages[1].rows
    assert any("".join(row).startswith("7") for row in pages[0].rows)


def test_it_returns_what_the_model_computes(model, data, page):
    report, (_, _, X, y) = page[0], data
    radii = model.certify(X).reshape(30, -1)
    np.testing.assert_array_equal(report.smallest, radii.min(1))
    np.testing.assert_allclose(report.mean, radii.mean(1))
    np.testing.assert_array_equal(report.whole, model.certify_prediction(X, **WHOLE).radius)
    np.testing.assert_array_equal(report.prediction, model.predict(X))
    right = int((model.predict(X) == y).sum())
    assert report.accuracy == right / 30
    assert report.accuracy_interval == tuple(binomtest(right, 30).proportion_ci(0.95, "exact"))
    ranks = report.whole[report.weakest]
    assert (np.diff(ranks) >= 0).all()
    assert ranks.max() <= report.whole[report.strongest].min()
    assert not set(report.weakest) & set(report.strongest)
    assert report.skipped == REASONS


def test_what_is_already_certified_is_taken_over(model, data, page, tmp_path):
    found = model.certify_prediction(data[2], **WHOLE)
    report = write_report(model, *data[2:], tmp_path / "page.html",
                          whole_image={**WHOLE, "previous": found})  # fmt: skip
    np.testing.assert_array_equal(report.whole, page[0].whole)


def test_the_page_shows_it(page, data):
    report, html = page
    found = Page(html)
    head, *rows = found.rows
    assert head[1:] == ["Name", "Label", "Prediction", "Right", "Smallest radius", "Mean radius",
                        "Whole-image radius"]  # fmt: skip
    assert len(rows) == 30
    for at, row in enumerate(rows):
        assert row[2:4] == [f"<u>{data[3][at]}", f"<u>{report.prediction[at]}"]
        assert row[4] == ("right" if report.prediction[at] == data[3][at] else "wrong")
        for text, value in zip(row[5:], (report.smallest, report.mean, report.whole), strict=True):
            assert value[at] * 0.999 <= float(text) <= value[at]
    text = " ".join(" ".join(found.text).split())
    assert f"{100 * report.accuracy:.1f} %" in text
    assert "is not a radius of anything" in text
    assert "2 files left out, 30 images used" in text
    for words in ("truncated & odd", "n_tokens", "scikit-learn", "8 x 8 pixels", "<i>Digits</i>"):
        assert words in text
    assert len(found.all("h1")) == 1
    assert all("alt" in image for image in found.all("img"))
    maps = [one for one in found.all("img") if one.get("class") == "map"]
    assert len(maps) == len(report.weakest) + len(report.strongest) == 24


def test_the_page_loads_nothing_and_believes_no_name(page):
    assert faults(page[1]) == []
    rows = Page(page[1]).rows[1:]
    assert [row[1] for row in rows[: len(HOSTILE)]] == [pages.visible(name) for name in HOSTILE]
    assert "{{7*7}}" in page[1]


def test_the_check_sees_what_is_believed(page, data, model, tmp_path, monkeypatch):
    environment = pages._environment().overlay(autoescape=False)
    monkeypatch.setattr(pages, "_environment", lambda: environment)
    write_report(model, *data[2:], tmp_path / "page.html", names=(3 * HOSTILE)[:30])
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    found = faults(html)
    assert {"img has onerror", "img loads x", "svg has onload"} <= set(found)


def test_the_same_input_gives_the_same_bytes(model, data, tmp_path):
    for name in ("a.html", "b.html"):
        write_report(model, *data[2:], tmp_path / name)
    first, second = (tmp_path / "a.html").read_bytes(), (tmp_path / "b.html").read_bytes()
    assert first == second
    assert str(tmp_path).encode() not in first
    assert b" at 0x" not in first


def test_without_labels_there_are_no_accuracies(model, data, tmp_path, capsys):
    report = write_report(model, data[2], path=tmp_path / "page.html", max_thumbnails=0,
                          max_images=2, verbose=True)  # fmt: skip
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (report.accuracy, report.accuracy_interval, report.whole) == (None, None, None)
    assert Page(html).rows[0] == ["Name", "Prediction", "Smallest radius", "Mean radius"]
    assert "accuracy" not in html.lower()
    assert html.count("<img") == 9  # four images with their maps, and the tokens
    assert "30 images" in capsys.readouterr().err


def test_thumbnails_are_those_of_the_weakest(model, data, tmp_path):
    report = write_report(model, *data[2:], tmp_path / "page.html", max_thumbnails=5)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    table = html[html.index('id="table"') :]
    rows = table[table.index("<tbody>") :].split("<tr>")[1:]
    assert sorted(report.weakest[:5]) == [at for at, row in enumerate(rows) if "<img" in row]


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("shape", [(8, 8), (6, 7), (6, 7, 3), (5, 5, 2)])
def test_images_of_all_shapes(shape, norm, tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.random((12, *shape)), np.arange(12) % 2
    model = pipeline(per_channel=len(shape) == 3).fit(X, y)
    report = write_report(model, X, y, tmp_path / "page.html", norm=norm)
    assert report.smallest.shape == (12,)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    rows, columns = -(-shape[0] // 4), -(-shape[1] // 4)
    styles = {one["style"] for one in Page(html).all("img") if one.get("class") == "map"}
    wide, high = re.fullmatch(r"width:([\d.]+)%;height:([\d.]+)%", *styles).groups()
    assert float(wide) == pytest.approx(400 * columns / shape[1], abs=1e-3)
    assert float(high) == pytest.approx(400 * rows / shape[0], abs=1e-3)


def test_infinite_radii_and_a_single_image(tmp_path):
    X = np.zeros((1, 4, 4))
    vocabulary = PatchVocabulary.from_tokens(np.zeros((1, 16)), patch_size=4, image_shape=(4, 4))
    last = DummyClassifier().fit(np.zeros((2, 16)), ["a", "b"])
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", last)])
    report = write_report(model, X, ["a"], tmp_path / "page.html")
    assert np.isinf(report.smallest).all()
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert Page(html).rows[1][-2:] == ["∞", "∞"]
    assert len(report.strongest) == 0
    assert "nan" not in html.lower().replace("nano", "")


def test_frames_and_scaling_steps(data, tmp_path):
    X, y = pd.DataFrame(data[0]).add_prefix("p"), data[1]
    model = pipeline(("scale", StandardScaler())).fit(X, y)
    before = X.copy()
    report = write_report(model, X, y, tmp_path / "page.html")
    np.testing.assert_array_equal(report.smallest, model.certify(X).reshape(60, -1).min(1))
    pd.testing.assert_frame_equal(X, before)
    assert "after the steps before the vocabulary" in (tmp_path / "page.html").read_text("utf-8")


@pytest.fixture
def folder(tmp_path):
    """Eight pictures of two classes, and one that only claims to be a picture."""
    paths = []
    for at in range(8):
        paths.append(tmp_path / "in" / f"{at}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(at).integers(0, 128, (20, 16, 3)) + 127 * (at % 2)
        Image.fromarray(noise.astype(np.uint8)).save(paths[-1])
    paths.insert(3, tmp_path / "in" / "broken.png")
    paths[3].write_bytes(b"no picture")
    return paths


def test_paths_and_files_that_cannot_be_read(folder, tmp_path):
    good = [path for path in folder if path.name != "broken.png"]
    X, y = ImageReader(8).transform(good), np.array(["dark", "light"] * 4)
    inner = pipeline().fit(X, y)
    reader = ImageReader(8, on_error="warn")
    model = CertifiedPatchClassifier([("reader", reader), *inner.steps])
    labels = np.insert(y.astype(object), 3, "light")
    report = write_report(model, folder, labels, tmp_path / "page.html", skipped={"a": "b"})
    assert report.n_images == 8
    assert report.accuracy == inner.score(X, y)
    assert set(report.skipped) == {"a", "broken.png"}
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert [row[1] for row in Page(html).rows[1:]] == [path.name for path in good]
    assert str(tmp_path) not in html
    model.set_params(reader__on_error="raise")
    with pytest.raises(ValueError, match=r"broken\.png"):
        write_report(model, folder, labels, tmp_path / "page.html")


@pytest.mark.parametrize(
    ("error", "match", "options"),
    [
        (ValueError, "norm must be", {"norm": "l3"}),
        (ValueError, "whole_image is for", {"norm": "l1", "whole_image": True}),
        (ValueError, "unknown options", {"whole_image": {"max_second": 1}}),
        (TypeError, "whole_image must be", {"whole_image": 3}),
        (ValueError, "names has 2 entries", {"names": ["a", "b"]}),
        (ValueError, "target_names has 1 entries", {"target_names": ["a"]}),
        (ValueError, "max_images must be", {"max_images": 0}),
        (ValueError, "max_thumbnails must be", {"max_thumbnails": -1}),
        (ValueError, "y must have the shape", {"y": [0, 1]}),
        (ValueError, "No label of y", {"y": ["cat"] * 30}),
        (ValueError, "no images", {"X": np.zeros((0, 64)), "y": None}),
        (ValueError, "NaN", {"X": np.full((30, 64), np.nan)}),
        (FileNotFoundError, "no folder", {"path": "no/where/page.html"}),
        (IsADirectoryError, "is a folder", {"path": "."}),
        (TypeError, "got PatchVocabulary", {"model": PatchVocabulary()}),
        (TypeError, "got CertifiedPatchRegressor", {"model": CertifiedPatchRegressor()}),
        (NotFittedError, "not fitted", {"model": CertifiedPatchClassifier()}),
    ],
)
def test_what_is_refused_leaves_no_file(model, data, tmp_path, error, match, options):
    path = tmp_path / "page.html"
    path.write_text("as it was")
    with pytest.raises(error, match=match):
        write_report(**{"model": model, "X": data[2], "y": data[3], "path": path, **options})
    assert path.read_text() == "as it was"
    assert os.listdir(tmp_path) == ["page.html"]


def test_a_page_is_whole_or_not_there(model, data, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("as it was")

    def broken(content):
        raise KeyboardInterrupt

    monkeypatch.setattr(reporting, "report_page", broken)
    with pytest.raises(KeyboardInterrupt):
        write_report(model, *data[2:], path)
    assert path.read_text() == "as it was"


def test_labels_that_the_model_does_not_know_are_wrong_and_told(model, data, tmp_path):
    y = data[3].copy()
    y[:2] = 99
    report = write_report(model, data[2], y, tmp_path / "page.html")
    assert report.accuracy == np.mean(report.prediction == y)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "2 images with a label that is not a class of the model count as wrong" in text
    assert "99" in {row[2] for row in Page(text).rows[1:]}


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)  # fmt: skip
PROBE = """
const radii = () => Array.from(
  document.querySelectorAll("#table tbody tr"), (row) => row.cells[5].dataset.value);
const heads = document.querySelectorAll("#table thead th"), before = radii();
heads[5].querySelector("button").click();
const up = radii(), sort = heads[5].getAttribute("aria-sort");
heads[5].querySelector("button").click();
const down = radii(), again = heads[5].getAttribute("aria-sort");
heads[1].querySelector("button").click();
const slider = document.getElementById("opacity");
slider.value = 20;
slider.dispatchEvent(new Event("input"));
parent.postMessage(JSON.stringify({
  before, up, sort, down, again, width: document.documentElement.scrollWidth,
  window: window.innerWidth, marked: document.querySelectorAll("[aria-sort]").length,
  opacity: getComputedStyle(document.querySelector(".map")).opacity,
  policy: (() => { try { return eval("1"); } catch { return "refused"; } })(),
}), "*");
"""


OUTSIDE = """<body><script>
onmessage = (event) => { document.body.dataset.found = event.data; };
</script><iframe src="probed.html" style="width:380px;height:900px;border:0"></iframe></body>"""


def in_browser(html, folder):
    """A document with a page in a frame of 380 pixels, and what is written to the console."""
    Path(folder, "probed.html").write_text(html, encoding="utf-8")
    path = Path(folder, "outside.html")  # no window is as narrow
    path.write_text(OUTSIDE, encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
               "--virtual-time-budget=3000", f"--user-data-dir={folder}/profile",
               "--enable-logging=stderr", "--dump-dom",
               path.as_uri()]  # fmt: skip
    found = subprocess.run(command, capture_output=True, timeout=60)
    console = [line for line in found.stderr.decode(errors="replace").splitlines()
               if "CONSOLE" in line]  # fmt: skip
    return found.stdout.decode(), console


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_in_a_browser(page, data):
    report, html = page
    allowed = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    probed = html.replace("script-src ", f"script-src 'sha256-{allowed}' ", 1)
    probed = probed.replace("</body>", f"<script>{PROBE}</script></body>")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        dom, console = in_browser(probed, folder)
    assert [line for line in console if "eval" not in line] == []  # which the probe tries
    (found,) = (one["data-found"] for one in Page(dom).all("body"))
    found = json.loads(found)
    assert found["policy"] == "refused"
    assert found["window"] == 380
    assert found["width"] <= 380
    assert found["opacity"] == "0.2"
    assert [float(text) for text in found["before"]] == report.smallest.tolist()
    assert [float(text) for text in found["up"]] == sorted(report.smallest)
    assert [float(text) for text in found["down"]] == sorted(report.smallest)[::-1]
    assert (found["sort"], found["again"], found["marked"]) == ("ascending", "descending", 1)
