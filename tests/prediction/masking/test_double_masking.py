"""Double masking is PatchCleanser's algorithm, and its certificate holds whatever else changes."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_patchcert.prediction.masking.masks import everywhere, mask_plan, places_of
from sklearn_patchcert.prediction.masking.rounds import (
    Answers,
    certified_masks,
    decide,
    double_masking,
)

PLANS = [
    mask_plan((1, 4), [(1, 1)]),
    mask_plan((3, 3), [(2, 2)]),
    mask_plan((2, 4), [(1, 2), (2, 1)]),
    mask_plan((5, 5), [(2, 2)], 2),
    mask_plan((1, 4), [(1, 1)], None, 2),
]


def transcribed(answer, n_masks):
    """Algorithm 1 of the paper: `answer` of two masks of one image, in plain Python."""

    def mask_pred(first):
        answers = [answer(m if first is None else first, m) for m in range(n_masks)]
        counts = Counter(answers)
        most = max(counts.values())
        majority = min(label for label, count in counts.items() if count == most)
        return majority, [(m, label) for m, label in enumerate(answers) if label != majority]

    majority, disagreers = mask_pred(None)
    if not disagreers:
        return majority
    for mask, label in disagreers:
        _, others = mask_pred(mask)
        if not others:
            return label
    return majority


def tables(plan, seed, n=6, n_classes=3):
    """Answers (n, n_unions) that mostly agree, more or less so from image to image."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_classes, size=(n, len(plan.unions)))
    usual = rng.integers(n_classes, size=(n, 1))
    common = rng.random(labels.shape) < np.linspace(0.3, 1.0, n)[:, None]
    labels = np.where(common, usual, labels)
    # A mask that hides a sticker: what involves it has another answer.
    for row in range(0, n, 2):
        mask = rng.integers(len(plan.masks))
        labels[row, plan.holds[:, mask]] = (usual[row, 0] + 1) % n_classes
    return labels


def asked(table, sure=None, batch_size=1024):
    sure = np.ones_like(table, dtype=bool) if sure is None else sure
    return Answers(lambda *at: (table[at], sure[at]), table.shape, batch_size)


@given(st.sampled_from(PLANS), st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 1000]))
@settings(max_examples=60, deadline=None)
def test_it_is_the_algorithm_of_the_paper(plan, seed, batch_size):
    table = tables(plan, seed)
    found = double_masking(lambda *at: table[at], len(table), plan.pairs, batch_size=batch_size)
    for row, label in enumerate(found):
        assert label == transcribed(
            lambda a, b, row=row: table[row, plan.pairs[a, b]], len(plan.masks)
        )


@given(st.sampled_from(PLANS), st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 1000]))
@settings(max_examples=60, deadline=None)
def test_a_mask_is_certified_if_all_its_pairs_have_the_answer_beyond_doubt(plan, seed, batch_size):
    table = tables(plan, seed)
    sure = np.random.default_rng(seed).random(table.shape) < 0.97
    answers = asked(table, sure, batch_size)
    labels = decide(answers, plan.pairs)
    found = certified_masks(answers, plan.pairs, plan.holds, labels)
    full = (table == labels[:, None]) & sure
    np.testing.assert_array_equal(found, full[:, plan.pairs].all(2))


@given(st.sampled_from(PLANS), st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 1000]))
@settings(max_examples=60, deadline=None)
def test_whether_all_places_are_certified_needs_no_more_answers(plan, seed, batch_size):
    table, found = tables(plan, seed), []

    whole = everywhere(plan)
    for condition in (None, whole):
        answers = asked(table, batch_size=batch_size)
        labels = decide(answers, plan.pairs)
        masks = certified_masks(answers, plan.pairs, plan.holds, labels, condition)
        found.append((whole(masks), answers.asked, masks))
    (every, full, masks), (same, fewer, kept) = found
    np.testing.assert_array_equal(every, same)
    np.testing.assert_array_equal(every, places_of(plan, masks).all((1, 2)))
    np.testing.assert_array_equal(kept, masks & every[:, None])
    assert (fewer == full)[every].all()
    assert batch_size > 1 or (fewer <= full).all()  # a larger batch may ask beyond the last one


@given(st.sampled_from(PLANS), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_what_a_certified_mask_does_not_hide_cannot_change_the_answer(plan, seed):
    table, rng = tables(plan, seed), np.random.default_rng(seed)
    answers = asked(table)
    labels = decide(answers, plan.pairs)
    certified = certified_masks(answers, plan.pairs, plan.holds, labels)
    for row, mask in zip(*np.nonzero(certified), strict=True):
        others = np.repeat(table[row][None], 16, axis=0)
        change = ~plan.holds[:, mask]
        others[:8, change] = rng.integers(3, size=(8, change.sum()))
        others[8:, change] = rng.integers(3, size=(8, 1))  # as an attack that aims at one class
        assert set(decide(asked(others), plan.pairs)) == {labels[row]}


def test_uncertified_answers_do_change():
    """So that the law above can fail."""
    changed = 0
    for plan in PLANS:
        for seed in range(5):
            table = tables(plan, seed)
            answers = asked(table)
            labels = decide(answers, plan.pairs)
            certified = certified_masks(answers, plan.pairs, plan.holds, labels)
            for row, mask in zip(*np.nonzero(~certified), strict=True):
                others = np.repeat(table[row][None], 3, axis=0)
                others[:, ~plan.holds[:, mask]] = np.arange(3)[:, None]
                changed += (decide(asked(others), plan.pairs) != labels[row]).any()
    assert changed > 50


def test_nothing_is_asked_twice_and_little_where_answers_disagree():
    plan, rng = mask_plan((6, 6), [(2, 2)]), np.random.default_rng(0)
    seen, table = [], rng.integers(3, size=(8, len(plan.unions)))
    table[:4] = 1

    def ask(rows, unions):
        seen.extend(zip(rows.tolist(), unions.tolist(), strict=True))
        assert len(rows) <= 32
        return table[rows, unions], np.ones(len(rows), dtype=bool)

    answers = Answers(ask, table.shape, 32)
    labels = decide(answers, plan.pairs)
    assert len(seen) < 8 * len(plan.masks) * 8
    certified = certified_masks(answers, plan.pairs, plan.holds, labels)
    assert len(seen) == len(set(seen)) == answers.asked.sum()
    assert certified.all(1).tolist() == [True] * 4 + [False] * 4
    assert (answers.asked[:4] == len(plan.unions)).all()
    assert (answers.asked[4:] < len(plan.unions) / 2).all()


@pytest.mark.parametrize(("votes", "label"), [([1, 1, 2, 2], 1), ([2, 2, 0, 0], 0)])
def test_of_equally_frequent_answers_the_first_class_wins(votes, label):
    plan = mask_plan((1, 4), [(1, 1)])
    table = np.full((1, len(plan.unions)), 5)  # the second round decides nothing
    table[0, np.diagonal(plan.pairs)] = votes
    assert double_masking(lambda *at: table[at], 1, plan.pairs)[0] == label
