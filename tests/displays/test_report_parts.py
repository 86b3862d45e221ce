"""The parts of a report: numbers never promise too much, charts draw what the radii are."""

import base64
import functools
import io
import itertools
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import beta
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler

from sklearn_patchcert import PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.displays.report import charts, pixels
from sklearn_patchcert.displays.report.cards import steps_card
from sklearn_patchcert.displays.report.rendering import (
    exact_text,
    percent_text,
    radius_text,
    visible,
)
from sklearn_patchcert.displays.report.reports import interval
from sklearn_patchcert.displays.report.sentences import median


def decoded(uri):
    head, data = uri.split(",")
    assert re.fullmatch(r"data:image/(png|jpeg);base64", head)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@given(st.floats(0, allow_nan=False, allow_infinity=False))
@example(0.99999999)
@example(12345.6)
@example(1e-12)
def test_a_radius_is_rounded_down_and_by_little(value):
    shown = float(radius_text(value))
    assert shown <= value
    assert shown >= value * (1 - 1e-3) or value < 1e-300


@given(st.floats(0, 1), st.sampled_from(["down", "up"]))
def test_ends_of_an_interval_are_rounded_outwards(share, way):
    shown = float(percent_text(share, way).removesuffix(" %")) / 100
    assert shown <= share + 1e-9 if way == "down" else shown >= share - 1e-9
    assert abs(shown - share) < 0.0011


def test_what_is_no_plain_number():
    assert [radius_text(value) for value in (0.0, np.inf, np.nan)] == ["0", "∞", "-"]
    assert exact_text(np.inf) == "Infinity"
    assert median(np.array([1.0, np.inf])) == 1.0


@given(st.text(st.characters(), max_size=20))
@example("\u202egnp.exe")
@example("\udcff.png")
def test_every_character_of_a_name_is_seen(text):
    shown = visible(text)
    assert shown.isprintable()
    shown.encode()
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(("k", "n"), [(0, 7), (3, 7), (7, 7)])
def test_the_interval_is_that_of_clopper_and_pearson(k, n):
    low, high = interval(k, n)
    assert low == pytest.approx(beta.ppf(0.025, k, n - k + 1) if k else 0)
    assert high == pytest.approx(beta.ppf(0.975, k + 1, n - k) if k < n else 1)


@given(st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_are_a_few_round_numbers_within_the_axis(top, most):
    found = np.array(charts.ticks(top, most))
    assert found[0] == 0
    assert 2 <= len(found) <= most + 1
    assert found[-1] <= top * (1 + 1e-6)
    assert found[-1] + found[1] > top * (1 - 1e-6)
    np.testing.assert_allclose(np.diff(found), found[1], rtol=1e-6)


@pytest.mark.parametrize("n", [1, 40, 5000])
def test_a_curve_is_the_share_that_is_certified_and_never_above_it(n):
    rng = np.random.default_rng(n)
    radii, counted = rng.gamma(2, 1, n).round(2 if n < 100 else 8), rng.random(n) < 0.8
    radii[: n // 10] = np.inf
    at, share = charts.survival(radii, counted)
    assert len(at) <= 601
    for radius in rng.uniform(0, at[-1], 50):
        k = np.searchsorted(at, radius, side="left")  # the value holds back to the radius before
        truth = (counted & (radii >= radius)).mean()
        assert share[k] <= truth
        assert truth - share[k] < 0.01
    np.testing.assert_allclose(share, [(counted & (radii >= r)).mean() for r in at])


def points(path):
    """Corners of a path of M, H and V."""
    x = y = None
    for letter, *numbers in re.findall(r"([MHV])([\d.]+)(?: ([\d.]+))?", path):
        x = float(numbers[0]) if letter in "MH" else x
        y = float(numbers[1] or numbers[0]) if letter in "MV" else y
        yield x, y


def test_a_drawn_curve_ends_at_the_share_of_infinite_radii():
    radii, all_ = np.array([1.0, 2.0, 4.0, np.inf]), np.ones(4, dtype=bool)
    chart = charts.curve_chart([("mine", radii, all_)], "radius", "share")
    box, corners = chart["box"], list(points(chart["curves"][0]["path"]))
    assert corners[0] == (box["left"], box["top"])
    down = (box["bottom"] - corners[-1][1]) / (box["bottom"] - box["top"])
    assert down == pytest.approx(0.25, abs=0.01)
    assert corners[-1][0] == box["right"]
    assert all(a <= b for (_, a), (_, b) in itertools.pairwise(corners))


@pytest.mark.parametrize("values", [np.zeros(3), np.full(3, np.inf), np.array([1, 2, np.inf])])
def test_a_histogram_of_any_radii_has_axes(values):
    chart = charts.histogram_chart(values, "radius", "share")
    assert len(chart["x_ticks"]) >= 2
    assert bool(chart["bars"]) == bool(np.isfinite(values).any())
    assert "nan" not in chart["bars"]


def test_a_map_has_a_pixel_for_each_patch_brighter_with_the_radius():
    radii = np.array([[0.0, 1.0, 2.0], [3.0, 9.0, np.inf]])
    drawn = decoded(pixels.map_uri(radii, top=3.0)).astype(int)
    assert drawn.shape == (2, 3, 4)
    assert drawn[..., 3].ravel().tolist() == [255] * 5 + [0]
    light = drawn[..., :3] @ [299, 587, 114]
    assert light[0, 0] < light[0, 1] < light[0, 2] < light[1, 0] == light[1, 1]


@pytest.mark.parametrize("shape", [(5, 7, 1), (40, 30, 3), (200, 120, 2)])
def test_images_of_all_sizes_are_drawn(shape):
    image = np.random.default_rng(0).random(shape)
    drawn = decoded(pixels.image_uri(image, (0, 1), 96))
    assert drawn.shape[2] == 3
    assert max(drawn.shape[:2]) == min(max(shape), 96)
    if shape[2] == 3:
        np.testing.assert_array_equal(drawn, np.round(255 * image))


def test_tokens_stand_in_their_order():
    tokens = np.array([[[0.0], [1.0], [0.5]]])
    drawn = decoded(pixels.tokens_uri(tokens, np.array([[1, 2, 0]]), (1, 1), 2))
    first, second, third = drawn[0, 0], drawn[0, -1], drawn[-1, 0]
    assert [one[0] for one in (first, second, third)] == [255, 128, 0]
    assert drawn[-1, -1, 3] == 0


def own_function(X):
    return X


class Own(BaseEstimator):
    def __init__(self, option=None, other=()):
        self.option, self.other = option, other


@pytest.mark.parametrize(
    ("estimator", "options"),
    [
        (MinMaxScaler(), {}),
        (MinMaxScaler(feature_range=(0, 2)), {"feature_range": "(0, 2)"}),
        (PatchVocabulary(64, 4), {}),
        (PatchVocabulary(8, 4), {"n_tokens": "8"}),
        (PatchNetClassifier(lr=0.5), {"lr": "0.5"}),
        (FunctionTransformer(own_function), {"func": "own_function"}),
        (Own(functools.partial(own_function, X=2)), {"option": "own_function(X=2)"}),
        (Own(MinMaxScaler(clip=True)), {"option": "MinMaxScaler(clip=True)"}),
        (Own(np.zeros((2, 3))), {"option": "array of float64, shape (2, 3)"}),
        (Own({"a": [own_function, MinMaxScaler]}),
         {"option": "{'a': [own_function, MinMaxScaler]}"}),
        (Own(True, other=(1,)), {"option": "True", "other": "(1,)"}),
    ],
)  # fmt: skip
def test_a_card_lists_the_options_that_differ(estimator, options):
    assert steps_card(estimator)[0]["options"] == options
    (step,) = steps_card(make_pipeline(estimator))
    assert (step["kind"], step["options"]) == (type(estimator).__name__, options)


def test_a_card_is_short_and_does_not_depend_on_places_in_memory():
    (step,) = steps_card(Own(object(), other=["x" * 1000]))
    assert step["options"]["option"] == "<object object>"
    assert len(step["options"]["other"]) <= 160
