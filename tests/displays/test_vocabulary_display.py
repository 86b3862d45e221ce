"""VocabularyDisplay and TokenUsageDisplay: the tokens and counts that are drawn are the model's."""

import io

import numpy as np
import pytest
from matplotlib import pyplot
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchVocabulary,
    TokenUsageDisplay,
    VocabularyDisplay,
)
from sklearn_patchcert.displays.inputs import own_tokens
from sklearn_patchcert.displays.report.sentences import vocabulary_text


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def vocabulary(**options):
    return PatchVocabulary(
        **{"n_tokens": 6, "patch_size": 4, "strategy": "kmeans", "random_state": 0, **options}
    )


@pytest.fixture(scope="module")
def gray(digits):
    return digits[0][:100].reshape(-1, 8, 8)


@pytest.fixture(scope="module")
def colour():
    return np.random.default_rng(0).normal([0, 5, -30], [1, 10, 0.1], size=(30, 7, 8, 3))


def render(display):
    display.figure_.savefig(io.BytesIO(), format="png", dpi=40)


def cells(display, shape):
    """The pictures in a gallery: what is neither ground nor frame, from left to right."""
    picture = np.asarray(display.image_.get_array())
    ground = (picture == picture[0, 0]).all(-1)
    rows = np.flatnonzero(~ground.all(1))
    columns = np.flatnonzero(~ground.all(0))
    found = []
    for band in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
        for part in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1):
            block = picture[band[0] : band[-1] + 1, part[0] : part[-1] + 1]
            if not (block == picture[0, 0]).all():
                steps = [np.linspace(0, n - 1, 2 * s + 1)[1::2].round().astype(int)
                         for n, s in zip(block.shape, shape, strict=False)]  # fmt: skip
                found.append(block[np.ix_(*steps)])
    return np.array(found)


def test_the_gallery_shows_all_tokens_the_most_used_first(gray):
    model = vocabulary().fit(gray)
    display = VocabularyDisplay.from_estimator(model)
    render(display)
    counts = model.token_counts_[display.order_]
    assert sorted(display.order_) == list(range(6))
    assert (np.diff(counts) <= 0).all()
    tokens = model.vocabulary_[display.order_].reshape(6, 4, 4, 1)
    span = model.vocabulary_.min(), model.vocabulary_.max()
    expected = np.repeat((tokens - span[0]) / (span[1] - span[0]), 3, axis=3)
    np.testing.assert_allclose(cells(display, (4, 4)), expected)
    shown = [float(text.get_text()) for text in display.ax_.texts]
    np.testing.assert_allclose(shown, 100 * counts / counts.sum(), atol=0.051)


def test_colours_are_the_tokens(colour):
    model = vocabulary(n_tokens=5).fit(colour)
    display = VocabularyDisplay.from_estimator(model)
    render(display)
    tokens = model.vocabulary_[display.order_].reshape(5, 4, 4, 3)
    low, high = tokens.min(), tokens.max()
    np.testing.assert_allclose(cells(display, (4, 4)), (tokens - low) / (high - low))


@pytest.mark.parametrize("per_channel", [True, "shared"])
def test_channels(colour, per_channel):
    model = vocabulary(per_channel=per_channel).fit(colour)
    display = VocabularyDisplay.from_estimator(model, colour)
    render(display)
    ids = model.tokenize(colour)
    shape = (3, 6) if per_channel is True else (6,)
    assert display.order_.shape == display.counts.shape == shape
    counts = [np.bincount(ids[..., c].ravel(), minlength=6) for c in range(3)]
    expected = counts if per_channel is True else np.sum(counts, axis=0)
    np.testing.assert_array_equal(display.counts, expected)
    assert len(cells(display, (4, 4))) == np.prod(shape)
    usage = TokenUsageDisplay.from_estimator(model, colour)
    render(usage)
    assert len(usage.lines_) == (3 if per_channel is True else 1)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels_is_drawn(channels):
    X = np.random.default_rng(0).random((20, 6, 6, channels))
    render(VocabularyDisplay.from_estimator(vocabulary(patch_size=(2, 3)).fit(X)))


def test_part_of_a_large_vocabulary(gray):
    model = vocabulary(n_tokens=150, patch_size=2).fit(gray)
    display = VocabularyDisplay.from_estimator(model)
    render(display)
    assert not display.ax_.texts  # so many numbers would hide the tokens
    few = VocabularyDisplay.from_estimator(model, n_tokens=7, columns=7)
    render(few)
    assert len(cells(few, (2, 2))) == len(few.ax_.texts) == 7
    assert len(few.order_) == 150


@pytest.mark.parametrize("kind", ["certified", "plain"])
def test_pipelines_count_behind_their_first_steps(digits, kind):
    X, y = digits[0][:100], digits[1][:100]
    steps = MinMaxScaler(), vocabulary(output="ids"), DummyClassifier()
    model = make_pipeline(*steps)
    if kind == "certified":
        model = CertifiedPatchClassifier(model.steps)
    model.fit(X, y)
    ids = model[1].tokenize(model[0].transform(X[:20]))
    before = X.copy()
    for display in (
        VocabularyDisplay.from_estimator(model, X[:20]),
        TokenUsageDisplay.from_estimator(model, X[:20]),
    ):
        render(display)
        np.testing.assert_array_equal(display.counts, np.bincount(ids.ravel(), minlength=6))
    np.testing.assert_array_equal(X, before)


def test_the_curve_is_of_shares(gray):
    model = vocabulary().fit(gray)
    display = TokenUsageDisplay.from_estimator(model, name="mine")
    render(display)
    np.testing.assert_allclose(display.lines_[0].get_ydata(), display.shares_)
    assert display.shares_.sum() == pytest.approx(1)
    assert (np.diff(display.shares_) <= 0).all()
    assert display.perplexity_ == pytest.approx(model.perplexity_)
    (label,) = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert label == f"mine, perplexity {model.perplexity_:.1f} of 6"
    other = TokenUsageDisplay.from_counts([3, 0, 1], name="other", ax=display.ax_, lw=3)
    assert other.figure_ is display.figure_
    assert other.lines_[0].get_linewidth() == 3
    np.testing.assert_array_equal(other.lines_[0].get_ydata(), [0.75, 0.25, np.nan])
    assert len(display.ax_.get_legend().get_texts()) == 2


def test_into_axes_of_the_users(gray):
    model = vocabulary().fit(gray)
    _, axes = pyplot.subplots(1, 2)
    first = VocabularyDisplay.from_estimator(model, ax=axes[0])
    second = TokenUsageDisplay.from_estimator(model, ax=axes[1])
    assert first.figure_ is second.figure_
    assert pyplot.get_fignums() == [1]
    assert first.plot() is first
    assert first.ax_ is not axes[0]


def test_tokens_that_nothing_has_been_counted_with(gray):
    tokens = np.linspace(0, 16, 48).reshape(3, 16)
    own = PatchVocabulary.from_tokens(tokens, patch_size=4)
    display = VocabularyDisplay.from_estimator(own)
    render(display)
    assert display.order_.tolist() == [0, 1, 2]
    assert not display.ax_.texts
    with pytest.raises(ValueError, match="pass images X"):
        TokenUsageDisplay.from_estimator(own)
    assert TokenUsageDisplay.from_estimator(own, gray).counts.sum() == 400
    render(VocabularyDisplay.from_tokens(np.full((1, 4), 7.0), patch_size=(2, 2)))


def test_refusals(gray):
    for display in (VocabularyDisplay, TokenUsageDisplay):
        with pytest.raises(NotFittedError):
            display.from_estimator(vocabulary())
        with pytest.raises(TypeError, match="no PatchVocabulary"):
            display.from_estimator(LogisticRegression().fit([[0], [1]], [0, 1]))
    for counts in ([-1, 2], [0, 0], [[1, 2], [0, 0]], ["a"], [], [np.nan]):
        with pytest.raises(ValueError, match="count"):
            TokenUsageDisplay.from_counts(counts)
    with pytest.raises(ValueError, match="no patches"):
        VocabularyDisplay.from_tokens(np.ones((3, 5)), patch_size=(2, 2))
    with pytest.raises(ValueError, match="do not fit"):
        VocabularyDisplay.from_tokens(np.ones((3, 4)), [1, 2], patch_size=(2, 2))
    assert pyplot.get_fignums() == []


def test_channels_show_their_own_tokens_only():
    """A shorter vocabulary ends in copies of its last token, which are none of its tokens."""
    random = np.random.default_rng(0)
    tokens = [random.random((n, 4)) for n in (5, 2, 1)]
    padded = np.stack([np.pad(one, ((0, 5 - len(one)), (0, 0)), mode="edge") for one in tokens])
    assert own_tokens(padded) == [5, 2, 1]
    counts = np.stack([np.pad(np.arange(1, len(one) + 1), (0, 5 - len(one))) for one in tokens])
    display = VocabularyDisplay.from_tokens(padded, counts, patch_size=(2, 2))
    assert display.ax_.get_title().startswith("5, 2 and 1 tokens")
    assert len(display.text_) == 8
    text = vocabulary_text([5, 2, 1], (2, 2), 5, True, False)
    assert "3 channels, which begin a new row, have 5, 2 and 1 tokens" in text
