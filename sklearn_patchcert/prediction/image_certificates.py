"""certify_prediction: the certified radius of a pipeline's answer for a whole image."""

from __future__ import annotations

import copy
from contextlib import closing
from functools import partial
from numbers import Integral

import joblib
import numpy as np
from joblib import effective_n_jobs
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch, _safe_indexing

from sklearn_patchcert._ranges import quiet
from sklearn_patchcert._validation import told_shape
from sklearn_patchcert.checks import wide_bounds
from sklearn_patchcert.networks import outputs
from sklearn_patchcert.networks.additive import additive_radius
from sklearn_patchcert.networks.fitting.disturbance import blocks_of
from sklearn_patchcert.parallel import over_parts, stop_if_told
from sklearn_patchcert.prediction import configurations, stickers
from sklearn_patchcert.prediction.answers import reader
from sklearn_patchcert.prediction.consistency import check_one_image_at_a_time
from sklearn_patchcert.prediction.estimator_tree import inner, is_pipeline, real_steps
from sklearn_patchcert.prediction.fingerprints import fingerprint
from sklearn_patchcert.prediction.search import budgets
from sklearn_patchcert.prediction.search.assignments import Assignments
from sklearn_patchcert.prediction.search.images import Decoder, Images
from sklearn_patchcert.prediction.search.progress import Progress
from sklearn_patchcert.prediction.token_costs import TokenCosts
from sklearn_patchcert.vocabulary import encoding

NORMS = ("l2", "linf", "l0", "sticker")
_UNITS = 128  # in the last place of the terms of an additive network: the rounding of their sum
_DRAWN = 256  # images on which an additive network must be the sum of its terms
_PROBES = 16  # images, and as many assignments at random, on which the steps are asked twice
_PROBED = 2**19  # values, beyond which there are fewer probes, but no fewer than a quarter
_AT_ONCE, _PARTS = 64, 16  # images at once, at most; parts of few images, for several jobs
_BATCH, _IN_PARTS = 2048, 2  # assignments at once; times as many if images are made in parts
_CLAIM = 2  # one more whenever certificates of before are not to be trusted any longer
_NO_MATTER = ("steps", "memory", "verbose", "input_range_", "input_dtype_")  # for predictions
_KEPT = ("prediction", "radius", "n_configurations", "upper", "adversarial")


def certify_prediction(
    pipeline,
    X,
    *,
    scaled,
    norm="l2",
    max_configurations=10_000,
    max_seconds=None,
    max_total_seconds=None,
    cells=False,
    bounds=None,
    previous=None,
    method="enumeration",
    verbose=False,
):
    """Certified radii of predictions; see :meth:`CertifiedPatchClassifier.certify_prediction`.

    Parameters
    ----------
    pipeline : fitted CertifiedPatchClassifier
    X : array-like (n, n_features), (n, H, W) or (n, H, W, C)
    scaled : callable, X -> (Z, dict)
        The images as the vocabulary sees them, and scale, error and error_growth as
        :func:`vocabulary.encoding.certify` takes them.
    norm, max_configurations, max_seconds, max_total_seconds, cells, bounds, previous, method
        As there.
    verbose : bool

    Returns
    -------
    result : Bunch
    """
    begun = budgets.now()
    before, vocabulary = pipeline._split()
    max_seconds = budgets.seconds_of("max_seconds", max_seconds)
    max_total_seconds = budgets.seconds_of("max_total_seconds", max_total_seconds)
    limits = {"max_seconds": max_seconds, "max_total_seconds": max_total_seconds}
    _check_options(norm, max_configurations, limits, cells, method, before)
    vocabulary._check_own_tokens()
    if not is_pipeline(pipeline):
        raise TypeError(
            f"{type(pipeline).__name__} has a predict of its own, of which nothing is known: "
            "certify a CertifiedPatchClassifier."
        )
    frame = X if hasattr(X, "columns") else np.asarray(X)
    X = np.asarray(frame)
    if bounds is not None and not cells:
        raise ValueError("bounds are for cells=True: other costs do not know of them.")
    bounds = wide_bounds(bounds, X)
    predicted, n = np.asarray(pipeline.predict(frame.copy())), len(X)  # a step may work in place
    if predicted.ndim != 1:
        raise ValueError(
            f"{pipeline.steps[-1][0]!r} predicts arrays of shape {predicted.shape[1:]} for an "
            "image: certificates are for one output. Fit a pipeline for each output."
        )
    _check_steps(pipeline, vocabulary, scaled, frame)
    key = _key(pipeline, X, norm, cells, bounds)
    result = Bunch(
        prediction=predicted,
        radius=np.zeros(n),
        exact=np.zeros(n, dtype=bool),
        n_configurations=np.zeros(n, dtype=np.int64),
        adversarial=np.full(X.shape, np.nan),
        limited=np.ones(n, dtype=bool),
        upper=np.full(n, np.inf),
        key=key,
    )
    if previous is not None:
        if (
            not isinstance(previous, Bunch)
            or previous.get("key") != key
            or (previous.prediction != predicted).any()
        ):
            raise ValueError(
                "previous is not of these X, norm, cells and bounds, and this pipeline."
            )
        result = copy.deepcopy(previous)
    table = _Table(pipeline, vocabulary) if method == "additive" else None
    left = np.flatnonzero(result.limited)
    size = max(1, min(_AT_ONCE, -(-len(left) // _PARTS)))
    parts = [left[at : at + size] for at in range(0, len(left), size)]
    jobs = min(effective_n_jobs(vocabulary.n_jobs), max(1, len(parts)))
    each, until = np.inf, np.inf
    if max_seconds is not None:  # with its share of what was done for all
        each = max_seconds - (budgets.now() - begun) / max(1, len(left))
    if max_total_seconds is not None:
        until = begun + max_total_seconds
    progress = Progress(len(left), bool(verbose))
    work = (
        (
            _safe_indexing(frame, part),
            {name: result[name][part] for name in _KEPT},
            budgets.Share(each, until, len(left) - number * size, jobs),
        )
        for number, part in enumerate(parts)
    )
    certify = partial(
        _certified, pipeline, scaled, table, norm, (max_configurations, cells, bounds), progress
    )
    pieces = over_parts(certify, work if len(parts) > 1 else list(work), vocabulary.n_jobs)
    with progress, closing(pieces):
        for part, found in zip(parts, pieces, strict=True):
            for name, values in found.items():
                result[name][part] = values
            progress.bar.update(len(part))
    return result


def _check_options(norm, max_configurations, limits, cells, method, before):
    """Refuse options that are out of range or do not go together."""
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {NORMS} for a whole image, got {norm!r}.")
    most = max_configurations
    if not isinstance(most, Integral) or isinstance(most, bool) or most < 1:
        raise ValueError(f"max_configurations must be a positive integer, got {most!r}.")
    if not isinstance(cells, bool | np.bool_):
        raise ValueError(f"cells must be True or False, got {cells!r}.")
    if cells and (before or norm != "l2"):
        raise ValueError('cells=True is for norm="l2" and no scaling step before the vocabulary.')
    if method not in ("enumeration", "additive"):
        raise ValueError(f'method must be "enumeration" or "additive", got {method!r}.')
    if method == "additive" and norm != "l2":
        raise ValueError(f'method="additive" is for norm="l2", got {norm!r}.')
    given = {**limits, "cells": cells or None}
    useless = [name for name, value in given.items() if value is not None]
    if method == "additive" and useless:
        raise ValueError(
            f'method="additive" has no search: leave {" and ".join(useless)} out, or use '
            'method="enumeration".'
        )


def _check_steps(pipeline, vocabulary, scaled, frame):
    """Refuse steps that do not look at one image at a time, found out on a few images."""
    size = np.prod(np.shape(frame)[1:], dtype=np.int64)
    probes = max(_PROBES // 4, min(_PROBES, _PROBED // max(1, int(size))))
    Z, options = scaled(_safe_indexing(frame, np.arange(min(probes, len(frame)))))
    costs = TokenCosts(vocabulary._check(Z), vocabulary, options, "l2")
    rng, ids = np.random.default_rng(0), np.repeat(costs.own[:1], 2 * probes, axis=0)
    for at, tokens in costs.parts:
        count = encoding.count_own(tokens)
        ids[:probes, at] = rng.integers(count, size=ids[:probes, at].shape)
        ids[probes:, at] = np.arange(probes)[:, None] % count  # images of one token each
    given = _given(vocabulary, costs, Z)(np.concatenate([costs.own, ids]))
    check_one_image_at_a_time(_after(pipeline, vocabulary), given)


def _after(pipeline, vocabulary):
    """The steps after the vocabulary."""
    own = [_holds(step, vocabulary) for _, step in pipeline.steps]
    return Pipeline(pipeline.steps[own.index(True) + 1 :])


def _key(pipeline, X, norm, cells, bounds):
    """Fingerprint of all that a certificate depends on."""
    _, vocabulary = pipeline._split()
    code = [vocabulary._code(), vocabulary.output, told_shape(vocabulary)]
    rest = {name: value for name, value in vars(pipeline).items() if name not in _NO_MATTER}
    steps = [type(vocabulary) if _holds(step, vocabulary) else step for _, step in pipeline.steps]
    told = fingerprint((type(pipeline), rest, steps))
    return joblib.hash((_CLAIM, X, norm, bool(cells), bounds, code, told))


def _holds(step, vocabulary):
    return step is vocabulary or (
        isinstance(step, FrozenEstimator) and step.estimator is vocabulary
    )


@quiet()  # where it runs, in other threads and processes, nobody has judged X
def _certified(pipeline, scaled, table, norm, limits, progress, frame, before, share):
    """What becomes of the fields of the result for some images, a dict of arrays (n, ...).

    Empty if the time for all images is over before it is their turn.
    """
    if share.over():
        return {}
    pace_of = share.paces(len(before["prediction"]))
    _, vocabulary = pipeline._split()
    Z, options = scaled(frame)
    most, cells, bounds = limits
    costs = TokenCosts(vocabulary._check(Z), vocabulary, options, norm, bounds)
    predicted = before["prediction"]
    if table is not None:
        return {"radius": np.maximum(before["radius"], table.radii(costs, predicted))}
    answers, in_parts = _answers(pipeline, vocabulary, costs, Z)

    def changes(rows, ids):
        stop_if_told()
        found, sure = answers(ids)
        progress.seen(len(ids))
        return (found != predicted[rows]) | ~sure

    def cell(row, ids):
        stop_if_told()
        return costs.cell(row, ids)

    if norm == "sticker":
        found = _stickers(costs, changes, most, pace_of)
    else:
        found = configurations.searched(
            changes,
            costs.cheapest,
            costs.own,
            norm,
            max_configurations=most,
            pace_of=pace_of,
            looked=before["n_configurations"],
            known=before["upper"],
            refine=cell if cells else None,
            batch_size=budgets.at_once(costs.own.shape[1], _BATCH, _IN_PARTS if in_parts else 1),
        )
    radius, exact, looked, changing, upper = found
    result = {
        "radius": np.maximum(before["radius"], radius),  # what another method has shown stays true
        "n_configurations": looked,
        "upper": upper,
        "limited": ~exact & ~np.isinf(radius),
        "exact": exact.copy(),
        "adversarial": before["adversarial"].copy(),
    }
    new = np.flatnonzero(np.isfinite(upper))
    if not len(new):
        return result
    doubtful = answers(changing[new])[0] == predicted[new]  # only too near to a tie
    result["exact"][new[doubtful]] = False
    if norm == "l2":
        for row in new[~doubtful]:
            stop_if_told()
            image = _safe_indexing(frame, [row])
            moved = costs.moved(np.asarray(image), row, changing[row])
            named = moved.copy()
            if hasattr(image, "columns"):
                named = type(image)(named, columns=image.columns)
            if pipeline.predict(named)[0] != predicted[row]:
                result["adversarial"][row] = moved[0]
    return result


def _stickers(costs, changes, most, pace_of):
    """As certify_configurations, for windows of pixels."""
    n, positions = costs.own.shape
    radius, exact, looked = np.zeros(n), np.zeros(n, dtype=bool), np.zeros(n, dtype=np.int64)
    changing = np.empty((n, positions), dtype=np.int64)
    n_tokens = [encoding.count_own(tokens) for _, tokens in costs.parts]
    changing[:] = costs.own
    for row, own in enumerate(costs.own.reshape(n, *costs.grid[1:4])):
        pace = budgets.Pace() if pace_of is None else pace_of(row)
        if not pace.next(1):
            continue
        radius[row], exact[row], looked[row], changing[row] = stickers.certify_stickers(
            lambda ids, row=row: changes(np.full(len(ids), row), ids),
            own,
            n_tokens,
            costs.cut["patch_size"],
            max_configurations=most,
            max_seconds=pace.left,
        )
    return radius, exact, looked, changing, np.where(exact, radius, np.inf)


def _given(vocabulary, costs, Z, in_parts=False):
    """Function of Assignments or token ids (m, positions): what the vocabulary hands on for them.

    Z, some images, are in the layout in which it is given images, and gives them on.  `in_parts`:
    as Images instead of an array.
    """
    handed_on = vocabulary.transform(_safe_indexing(Z, [0]))
    decode = Decoder(costs.grid[1:4], costs.shape, **vocabulary._code())

    def given(some):
        if in_parts:
            return Images(decode, some, np.shape(handed_on)[1:])
        if vocabulary.output == "images":
            made = decode(some)
        else:
            made = some.whole() if isinstance(some, Assignments) else some.copy()
        made = made.reshape(len(made), *np.shape(handed_on)[1:])
        if hasattr(handed_on, "columns"):
            made = type(handed_on)(made, columns=handed_on.columns)
        return made

    return given


def _answers(pipeline, vocabulary, costs, Z):
    """Function of Assignments or token ids (m, positions): their classes, and which are sure.

    And whether it makes the images in parts, because only a network comes after the vocabulary.
    """
    after = _after(pipeline, vocabulary)
    steps = real_steps(after)
    last = steps[-1][1]
    while (inside := inner(last)) is not None:
        last = inside
    parts = len(steps) == 1 and outputs.rule_of(last) == "largest" and outputs.takes_parts(last)
    parts &= vocabulary.output == "images"
    read, given = reader(after), _given(vocabulary, costs, Z, parts)
    return lambda some: read(given(some)), parts


class _Table:
    """The terms of an additive network for all configurations of its blocks."""

    def __init__(self, pipeline, vocabulary):
        last = pipeline.steps[-1][1]
        if pipeline.steps[-2][1] is not vocabulary or vocabulary.output != "images":
            raise TypeError('method="additive" is for a network right behind the vocabulary.')
        if hasattr(last, "module_") and outputs.rule_of(last) != "largest":
            raise TypeError(
                f'The answer of {type(last).__name__} is not its largest logit: method="additive" '
                "needs the `predict` of PatchNetClassifier and a predict_nonlinearity that is "
                '"auto" or None.'
            )
        self.blocks = blocks_of(getattr(last, "module_", last), vocabulary)
        self.classes = pipeline.classes_
        made = vocabulary.inverse_transform(self.blocks.images())
        self.terms = last.terms(made)[..., : len(self.classes)]
        unit = np.finfo(np.float32).eps
        self.error = unit * (_UNITS * float(np.abs(self.terms).max((0, 2)).sum()) + 8)
        if not self._are_sums(last, vocabulary):
            raise TypeError(
                f"The outputs of {type(last.module_).__name__} are not the sums of its terms: "
                'method="additive" would certify another network.'
            )

    def _are_sums(self, last, vocabulary):
        """Whether the network answers the sums of its terms, for blocks drawn at random."""
        n_choices, n_blocks, _ = self.terms.shape
        chosen = np.random.default_rng(0).integers(n_choices, size=(_DRAWN, n_blocks))
        ids = np.stack([self.blocks.tokens(choices) for choices in chosen])
        found, _ = outputs.raw_scores(last, vocabulary.inverse_transform(ids))
        sums = self.terms[chosen, np.arange(n_blocks)].sum(1)
        return bool((np.abs(found - sums) <= self.error).all())

    def radii(self, costs, predicted):
        prices = self.blocks.prices(np.square(costs.walls()))
        labels = np.searchsorted(self.classes, predicted)
        pairs = zip(prices, labels, strict=True)
        return np.array(
            [additive_radius(self.terms, p, label, 2 * self.error) for p, label in pairs]
        )
