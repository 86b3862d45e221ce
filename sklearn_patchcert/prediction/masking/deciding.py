"""Decisions, values and certificates of many images: in parts, batches and threads."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import NamedTuple

import numpy as np
from sklearn.utils import _safe_indexing
from tqdm.auto import tqdm

from sklearn_patchcert._ranges import quiet
from sklearn_patchcert.parallel import over_parts, stop_if_told
from sklearn_patchcert.prediction.consistency import check_one_image_at_a_time
from sklearn_patchcert.prediction.masking.intervals import middle, spans
from sklearn_patchcert.prediction.masking.masks import MaskPlan, everywhere
from sklearn_patchcert.prediction.masking.rounds import Answers, certified_masks, decide
from sklearn_patchcert.prediction.masking.views import MaskedView
from sklearn_patchcert.prediction.score_errors import few_rows

_AT_ONCE, _PARTS = 32, 16  # images at once, at most; parts of few images, for several jobs
_PROBES = 16  # masked images on which the estimator is asked twice
_MARGIN = 32  # times by how much a few values differ between a batch and single images
_UNITS = 64 * float(np.finfo(np.float32).eps)  # of the largest value that an image has


class Setting(NamedTuple):
    """An estimator of masked images, its masks, what replaces hidden values, and the batch size."""

    view: MaskedView
    plan: MaskPlan
    values: np.ndarray
    batch_size: int

    def masked(self, given, rows, unions):
        """Some images, each behind a union of masks."""
        return self.view.masked(given, self.values, rows, self.plan.unions[unions])

    def answers(self, ask, given):
        """Answers to the images behind all unions, of which none has been asked for."""

        def of(rows, unions):
            stop_if_told()
            return ask(self.masked(given, rows, unions))

        return Answers(of, (len(given), len(self.plan.unions)), self.batch_size)


@quiet()  # where it runs, in other threads and processes, nobody has judged X
def decided(setting, given):
    """Double masking of some images.

    Parameters
    ----------
    setting : Setting
    given : array or frame (n, ...)
        What :meth:`MaskedView.given` returns.

    Returns
    -------
    labels : ndarray of int (n,)
        Indices of classes.
    singles : ndarray of int (n, n_masks)
        The answers behind one mask.
    """
    answers = setting.answers(lambda masked: (setting.view.predict(masked), True), given)
    labels = decide(answers, setting.plan.pairs)
    return labels, answers.labels[:, np.diagonal(setting.plan.pairs)]


@quiet()
def certified(setting, given, whole=False):
    """As :func:`decided`, with the certified masks (n, n_masks) and the numbers of answers (n,).

    If only images that are certified as a `whole` count, the others have no certified masks.
    """
    plan, answers = setting.plan, setting.answers(setting.view.read(), given)
    labels = decide(answers, plan.pairs)
    needed = everywhere(plan) if whole else None
    masks = certified_masks(answers, plan.pairs, plan.holds, labels, needed)
    return labels, answers.labels[:, np.diagonal(plan.pairs)], masks, answers.asked


@quiet()
def valued(setting, given):
    """Values of a regressor on some images, and what bounds them.

    Parameters
    ----------
    setting : Setting
    given : array or frame (n, ...)

    Returns
    -------
    values : ndarray of float64 (n,)
    low, high : ndarray of float64 (n, n_masks)
        Of the values behind each mask and any other one, apart by what rounding may change.
    """
    columns = [_valued(setting, given, row) for row in range(len(given))]
    return tuple(np.array(column) for column in zip(*columns, strict=True))


def _valued(setting, given, row):
    """The same of one image.

    The batches are the same for every image, so that a masked image that an attacker cannot change
    has the same bits in the same batch.
    """

    def ask(unions):
        stop_if_told()
        return setting.view.numbers(setting.masked(given, np.full(len(unions), row), unions))

    every = np.arange(len(setting.plan.unions))
    parts = [every[at : at + setting.batch_size] for at in range(0, len(every), setting.batch_size)]
    table, few = np.concatenate([ask(part) for part in parts]), few_rows(len(every))
    table = np.where(np.isnan(table), -np.inf, table)  # as any value: an attacker may want it
    low, high = spans(table, setting.plan.pairs)
    alone = np.array([ask(every[at : at + 1])[0] for at in few])
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.fmax(_MARGIN * np.abs(alone - table[few]).max(), _UNITS * np.abs(table).max())
        low, high = low - error, high + error
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    return middle(table, setting.plan.pairs), low, high


def in_parts(work, setting, given, n_jobs, label=None, keep=None):
    """What :func:`decided`, :func:`certified` or :func:`valued` returns, for many images.

    Parameters
    ----------
    work : callable
        One of these.
    setting : Setting
    given : array or frame (n, ...)
    n_jobs : int or None
    label : str or None
        Of a progress bar.  None: there is no bar.
    keep : callable (slice, columns) or None
        Told at once what is done.  Parts are smaller then.

    Returns
    -------
    columns : list of ndarray (n, ...)
    """
    n, found = len(given), []
    least = 1 if keep is not None else -(-setting.batch_size // len(setting.plan.masks))
    size = min(_AT_ONCE, max(least, -(-n // _PARTS)))  # a first round fills a batch
    parts = [slice(at, min(at + size, n)) for at in range(0, n, size)]
    pieces = over_parts(
        partial(work, setting), ((_safe_indexing(given, part),) for part in parts), n_jobs
    )
    bar = tqdm(desc=label, total=n, unit="image", disable=label is None)
    with bar, closing(pieces):
        for part, columns in zip(parts, pieces, strict=True):
            if keep is not None:
                keep(part, columns)
            found.append(columns)
            bar.update(part.stop - part.start)
    return [np.concatenate(column) for column in zip(*found, strict=True)]


@quiet()
def mean_probabilities(setting, given, labels, agree):
    """Mean probabilities behind some masks, of which the largest is that of the label.

    Parameters
    ----------
    setting : Setting
    given : array or frame (n, ...)
    labels : ndarray of int (n,)
        Indices of classes.
    agree : ndarray of bool (n, n_masks)
        Which masks count.

    Returns
    -------
    probabilities : ndarray of float64 (n, n_classes)
        1 for the label where another class has the largest mean.
    """
    (rows, masks), n_classes = np.nonzero(agree), len(setting.view.classes)
    unions, sums = np.diagonal(setting.plan.pairs)[masks], np.zeros((len(labels), n_classes))
    for start in range(0, len(rows), setting.batch_size):
        part = slice(start, start + setting.batch_size)
        masked = setting.masked(given, rows[part], unions[part])
        np.add.at(sums, rows[part], setting.view.rest.predict_proba(masked))
    mean = sums / np.maximum(sums.sum(1, keepdims=True), np.finfo(float).tiny)
    other = mean.argmax(1) != labels
    mean[other] = np.eye(n_classes)[labels[other]]
    return mean


def check_one_at_a_time(setting, given):
    """Refuse an estimator whose answer is not a function of one image."""
    unions = np.random.default_rng(0).integers(len(setting.plan.unions), size=_PROBES)
    with quiet():
        masked = setting.masked(given, np.arange(_PROBES) % len(given), unions)
        check_one_image_at_a_time(setting.view.rest, masked)
        if setting.view.classes is None:
            _check_company(setting.view, masked)


def _check_company(view, masked):
    """Refuse a regressor whose value for an image depends on the other images, or on chance.

    Beside large values, such as years, either effect is small, but may be larger than the interval.
    Rounding is the same in a batch of the same size, so the tolerances are small.
    """
    every = np.arange(len(masked))
    first, again, other = (
        view.numbers(_safe_indexing(masked, rows))
        for rows in (every, every, np.where(every % 2, 0, every))
    )
    size = np.abs(first[np.isfinite(first)]).max(initial=0.0)
    with np.errstate(invalid="ignore"):
        noise = np.abs(first - again)
        apart = np.abs(first - other)[::2]
    noise = noise[np.isfinite(noise)].max(initial=0.0)
    for much, limit, why in (
        (noise, _UNITS * size, "chance: it gives other values when asked again"),
        (apart, _UNITS / 64 * size + 8 * noise, "the other images of a batch"),
    ):
        if (much > limit).any():
            raise ValueError(
                f"The value that the regressor predicts for an image depends on {why}. A "
                "certificate needs a regressor that looks at one image at a time and always "
                "answers the same."
            )
