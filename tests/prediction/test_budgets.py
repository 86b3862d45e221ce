"""Time limits of certificates of predictions, on a clock that only the tests move."""

from fractions import Fraction

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from sklearn_patchcert import CertifiedCommittee, CertifiedPatchClassifier, PatchVocabulary
from sklearn_patchcert.cli import options as cli_options
from sklearn_patchcert.prediction import image_certificates
from sklearn_patchcert.prediction.search import budgets
from sklearn_patchcert.prediction.token_costs import TokenCosts

CHECKS, PREPARATION, ASSIGNMENT = 4.0, 2.0, 0.25  # seconds: for all, for an image, for one


class Clock:
    """Work takes its time; nothing else does."""

    def __init__(self, patch):
        self.time = self.begun = 1e9
        patch.setattr(budgets, "now", lambda: self.time)
        real_checks, real_reader = image_certificates._check_steps, image_certificates.reader
        real_cheapest = TokenCosts.cheapest

        def checks(*arguments):
            self.time += CHECKS
            return real_checks(*arguments)

        def reader(estimator):
            read = real_reader(estimator)

            def slow(X):
                self.time += ASSIGNMENT * len(X)
                return read(X)

            return slow

        def cheapest(*arguments):
            self.time += PREPARATION
            return real_cheapest(*arguments)

        patch.setattr(image_certificates, "_check_steps", checks)
        patch.setattr(image_certificates, "reader", reader)
        patch.setattr(TokenCosts, "cheapest", cheapest)

    @property
    def spent(self):
        return self.time - self.begun


@pytest.fixture(scope="module")
def model(digits):
    vocabulary = PatchVocabulary(6, 2, strategy="kmeans", random_state=0)
    steps = [("vocab", vocabulary), ("clf", RidgeClassifier())]
    return CertifiedPatchClassifier(steps).fit(digits[0][:500], digits[1][:500])


@pytest.fixture
def clock(monkeypatch, model):
    model.certify_prediction(np.zeros((1, 64)), max_configurations=1)
    return Clock(monkeypatch)


def stays_valid(found, whole):
    assert (found.radius <= whole.radius * (1 + 1e-12)).all()
    assert (found.limited | found.exact | np.isinf(found.radius)).all()
    assert not (found.limited & found.exact).any()


@pytest.fixture(scope="module")
def whole(model, digits):
    return model.certify_prediction(digits[0][500:516], max_configurations=3000)


@pytest.mark.parametrize("norm", ["l2", "sticker"])
@pytest.mark.parametrize("n", [1, 2, 16])
@pytest.mark.parametrize("seconds", [10.0, 30.0, 100.0])
def test_the_time_of_an_image_has_its_preparation_in_it(model, digits, clock, norm, n, seconds):
    found = model.certify_prediction(
        digits[0][500 : 500 + n], norm=norm, max_configurations=3000, max_seconds=seconds
    )
    assert clock.spent <= 1.1 * n * seconds
    assert (found.n_configurations >= 1).all()
    if seconds > 10 and norm == "l2":
        least = 0.5 * (seconds - CHECKS - PREPARATION) / ASSIGNMENT
        assert (found.exact | (found.n_configurations >= least)).all()


@pytest.mark.parametrize("seconds", [60.0, 200.0, 1000.0])
def test_all_images_share_the_time_of_a_call(model, digits, clock, whole, seconds):
    X = digits[0][500:516]
    found = model.certify_prediction(X, max_configurations=3000, max_total_seconds=seconds)
    stays_valid(found, whole)
    assert clock.spent <= 1.1 * seconds
    fair = (seconds - CHECKS) / 16 - PREPARATION
    starved = found.limited & (found.n_configurations < 0.4 * fair / ASSIGNMENT)
    assert not starved.any()
    early = found.exact & (found.n_configurations < 0.3 * fair / ASSIGNMENT)
    if seconds == 200.0:  # what is left over is used by those that come later
        assert early[:8].any()
        assert found.limited.any()
        assert clock.spent >= 0.8 * seconds
    more = model.certify_prediction(X, max_configurations=3000, previous=found)
    np.testing.assert_array_equal(more.radius, whole.radius)


def test_the_shorter_of_two_limits_counts(model, digits, clock):
    X, most = digits[0][500:504], {"max_configurations": 3000}
    model.certify_prediction(X, max_seconds=15.0, max_total_seconds=1e9, **most)
    assert clock.spent <= 66
    clock.begun = clock.time
    model.certify_prediction(X, max_seconds=1e9, max_total_seconds=60.0, **most)
    assert 30 <= clock.spent <= 66


def test_images_whose_turn_comes_too_late_have_a_radius_that_holds(model, digits, clock, whole):
    X = digits[0][500:516]
    found = model.certify_prediction(X, max_configurations=3000, max_total_seconds=1e-3)
    np.testing.assert_array_equal(found.prediction, model.predict(X))
    assert (found.radius == 0).all()
    assert found.limited.all()
    assert not found.exact.any()
    assert clock.spent == CHECKS
    more = model.certify_prediction(X, max_configurations=3000, previous=found)
    np.testing.assert_array_equal(more.radius, whole.radius)


def test_an_image_that_is_prepared_is_classified(model, digits, clock, whole):
    """Its own tokens, at least, if there is no time for more: the radius is then not 0."""
    seconds = CHECKS + 16 * PREPARATION / 2
    found = model.certify_prediction(digits[0][500:516], max_total_seconds=seconds)
    stays_valid(found, whole)
    assert (found.n_configurations[:6] >= 1).all()
    assert clock.spent <= seconds + PREPARATION + 2 * ASSIGNMENT


@pytest.mark.parametrize("jobs", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 3])
def test_workers_have_as_much_time_as_there_is(monkeypatch, jobs, count):
    """Parts that all use up their time end together with it, whoever works on them."""
    clock = [0.0]
    monkeypatch.setattr(budgets, "now", lambda: clock[0])
    n, ready = 12 * count, [0.0] * jobs
    for left in range(n, 0, -count):
        clock[0] = ready[0]
        share = budgets.Share(until=90.0, left=left, jobs=jobs)
        assert not share.over()
        pace_of = share.paces(count)
        for place in range(count):
            pace = pace_of(place)
            assert pace.left >= 90.0 * jobs / n * 0.5
            clock[0] += pace.left
        ready = sorted([*ready[1:], clock[0]])
    assert max(ready) <= 90.0 + 1e-6
    assert max(ready) >= 89.0


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int8, Fraction])
def test_seconds_are_what_they_say_whatever_number_they_are(model, digits, clock, kind):
    """The clock in float32 goes in steps of two minutes."""
    X, most = digits[0][500:504], {"max_configurations": 3000}
    for name in ("max_seconds", "max_total_seconds"):
        spent, results = [], []
        for seconds in (kind(50), 50.0):
            clock.begun = clock.time
            results.append(model.certify_prediction(X, **{name: seconds}, **most))
            spent.append(clock.spent)
        assert spent[0] == pytest.approx(spent[1])
        np.testing.assert_array_equal(results[0].radius, results[1].radius)
    assert budgets.Pace(kind(50)).until == pytest.approx(clock.time + 50, abs=1e-3)


@pytest.mark.parametrize("kind", ["max_seconds", "max_total_seconds", "max_configurations"])
@pytest.mark.parametrize("norm", ["l2", "l0", "sticker"])
def test_limits_beyond_what_a_float_or_an_index_holds_are_none(model, digits, kind, norm):
    X, options = digits[0][500:502], {"norm": norm, "max_configurations": 200}
    more = model.certify_prediction(X, norm=norm, max_configurations=2000).radius
    if kind == "max_configurations":
        X = X[model.certify_prediction(X, norm=norm, max_configurations=2000).exact]
        more = model.certify_prediction(X, norm=norm, max_configurations=2000).radius
    for huge in (2**62, 10**400):
        found = model.certify_prediction(X, **{**options, kind: huge})
        if kind == "max_configurations":
            np.testing.assert_array_equal(found.radius, more)
        assert (found.radius <= more).all()


def test_no_limits_are_no_paces():
    assert budgets.Share().paces(3) is None
    assert not budgets.Share().over()


def test_members_of_a_committee_share_the_time(model, digits, clock):
    committee = CertifiedCommittee([("a", model), ("b", model), ("c", model)])
    committee.fit(digits[0][:500], digits[1][:500])
    X, most = digits[0][500:504], {"max_configurations": 3000}
    clock.begun = clock.time
    committee.certify_prediction(X, max_seconds=60.0, **most)
    assert 100 <= clock.spent <= 1.1 * 4 * 60
    clock.begun = clock.time
    committee.certify_prediction(X, max_total_seconds=150.0, **most)
    assert 75 <= clock.spent <= 165
    for name in ("max_seconds", "max_total_seconds"):
        with pytest.raises(ValueError, match=name):
            committee.certify_prediction(X, **{name: True})


@pytest.mark.parametrize(
    "option", [{"max_total_seconds": 9.0}, {"max_seconds": 9.0}, {"cells": True}]
)
def test_a_bound_without_a_search_has_no_option_of_one(model, digits, option):
    with pytest.raises(ValueError, match=f"no search: leave {next(iter(option))} out"):
        model.certify_prediction(digits[0][:1], method="additive", **option)


def test_a_command_shares_the_time_among_its_images(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(cli_options.time, "monotonic", lambda: clock[0])
    shares = cli_options.sharing({"max_total_seconds": 60.0, "norm": "l2"}, 3)
    given = []
    for used in (5.0, 20.0, 40.0):  # the first leaves something over, the last takes too long
        given.append(next(shares)["max_total_seconds"])
        clock[0] += used
    assert given == [20.0, 27.5, 35.0]
    assert next(cli_options.sharing({"max_total_seconds": None}, 1)) == {"max_total_seconds": None}
