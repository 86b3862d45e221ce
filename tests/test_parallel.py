"""Work in parts: in order, asked for little by little, and never divided twice."""

import re
import threading
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from joblib.parallel import BACKENDS, ThreadingBackend
from sklearn.ensemble import BaggingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from torch import nn

import sklearn_patchcert
from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchNetClassifier,
    PatchVocabulary,
    SmoothedClassifier,
    TorchFeatures,
)
from sklearn_patchcert.networks.fitting.passes import disturbed
from sklearn_patchcert.parallel import in_threads, over_parts

PACKAGE = Path(sklearn_patchcert.__file__).parent


def double(number):
    return 2 * number


@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1])
def test_results_come_in_the_order_of_the_parts(n_jobs):
    parts = [(number,) for number in range(50)]
    assert list(over_parts(double, parts, n_jobs)) == [2 * number for number in range(50)]
    assert list(over_parts(double, iter(parts), n_jobs)) == [2 * number for number in range(50)]


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_threads_work_here_wherever_joblib_does_and_tell_of_errors(backend):
    found = np.zeros(5)

    def fill(at):
        found[at] = 1 / (at + 1)

    with joblib.parallel_config(backend=backend, n_jobs=2):
        in_threads(fill, [])
        in_threads(fill, [0])
        assert found.sum() == 1
        in_threads(fill, [0, 1, 2, 3])
        np.testing.assert_array_equal(found, [1, 1 / 2, 1 / 3, 1 / 4, 0])
        with pytest.raises(IndexError):
            in_threads(fill, [0, 9])


def test_few_parts_are_held_at_once():
    asked, done, most = 0, 0, 0

    def parts():
        nonlocal asked, most
        for number in range(200):
            asked += 1
            most = max(most, asked - done)
            yield (number,)

    def work(_):
        nonlocal done
        threading.Event().wait(0.001)
        done += 1

    assert len(list(over_parts(work, parts(), 2))) == asked == 200
    assert most < 10


def test_what_is_divided_is_not_divided_again():
    def jobs(_):
        return joblib.effective_n_jobs(4)

    assert list(over_parts(jobs, [(0,), (1,)], 2)) == [1, 1]
    assert list(over_parts(jobs, [(0,)], 2)) == [4]  # a single part is not divided


def test_the_configuration_of_joblib_decides():
    def name(_):
        return threading.current_thread().name

    here = threading.current_thread().name
    assert set(over_parts(name, iter([(0,), (1,), (2,)]))) == {here}
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert here not in set(over_parts(name, iter([(0,), (1,), (2,)])))


@pytest.mark.parametrize("norm", ["l2", "linf", "sticker"])
def test_certified_predictions_do_not_depend_on_jobs(digits, norm):
    X, y = digits[0][:200], digits[1][:200]
    model = CertifiedPatchClassifier(
        [("vocab", PatchVocabulary(6, 4, random_state=0)), ("clf", RidgeClassifier())]
    ).fit(X, y)
    options = {"norm": norm, "max_configurations": 60}
    serial = model.certify_prediction(X[:20], **options)
    threads = model.set_params(vocab__n_jobs=2).certify_prediction(X[:20], **options)
    for name, values in serial.items():
        np.testing.assert_array_equal(values, threads[name])


def test_smoothing_does_not_depend_on_jobs_or_parts(digits, monkeypatch):
    X, y = digits[0][:200], digits[1][:200]
    smoothed = SmoothedClassifier(RidgeClassifier(), 3.0, n=200, random_state=0).fit(X, y)
    expected = smoothed.certify(X[:20])
    for n_jobs, copies in ((2, 16_000), (2, 400), (None, 400)):
        monkeypatch.setattr("sklearn_patchcert.smoothing.classifier._COPIES_AT_ONCE", copies)
        found = smoothed.set_params(n_jobs=n_jobs, batch_size=200).certify(X[:20])
        np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------------------- backends


class Plain(ThreadingBackend):
    """A backend of somebody else's, without results one by one."""

    supports_return_generator = False


@pytest.mark.parametrize(
    "backend",
    [
        "threading",
        "multiprocessing",
        "sequential",
        "plain",
        pytest.param("loky", marks=pytest.mark.slow),
    ],
)
def test_any_backend_gives_the_same_bits(digits, monkeypatch, backend):
    monkeypatch.setattr("sklearn_patchcert.vocabulary.tokenizer._VALUES_AT_ONCE", 64 * 50)
    monkeypatch.setattr("sklearn_patchcert.smoothing.classifier._COPIES_AT_ONCE", 200)
    monkeypatch.setitem(BACKENDS, "plain", Plain)
    X, y = digits[0][:200], digits[1][:200]
    vocabulary = PatchVocabulary(6, 4, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", RidgeClassifier())]).fit(X, y)
    smoothed = SmoothedClassifier(FrozenEstimator(model), 3.0, n=100, batch_size=100).fit(X, y)
    smoothed.set_params(random_state=0)
    work = {
        "certify": lambda: model.certify(X),
        "batches": lambda: model.certify(iter([X, X])),
        "transform": lambda: model[0].transform(X),
        "tokenize": lambda: model[0].tokenize(X),
        **{
            norm: partial(certified, model, X[:6], norm) for norm in ("l2", "linf", "l0", "sticker")
        },
        "smoothing": lambda: np.array(smoothed.certify(X[:6])),
    }
    expected = {name: do() for name, do in work.items()}
    for own, given in ((2, None), (None, 2)):
        model.set_params(vocab__n_jobs=own)
        smoothed.set_params(n_jobs=own)
        with joblib.parallel_config(backend=backend, n_jobs=given):
            for name, do in work.items():
                np.testing.assert_array_equal(do(), expected[name], err_msg=name)


def certified(model, X, norm):
    return model.certify_prediction(X, norm=norm, max_configurations=40).radius


def refilled(X, kind, size=10):
    """Batches of X, each written over the one before it, as readers of streams hand them out."""
    buffer = np.empty_like(X[:size])
    for start in range(0, len(X), size):
        buffer[:] = X[start : start + size]
        yield kind(buffer)


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("kind", [np.asarray, list, pd.DataFrame])
def test_a_batch_that_is_written_over_is_not_read_afterwards(digits, kind, n_jobs):
    X = digits[0][:600]
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", random_state=0).fit(X)
    radii, ids = vocabulary.certify(X), vocabulary.tokenize(X)
    vocabulary.set_params(n_jobs=n_jobs)
    np.testing.assert_array_equal(vocabulary.certify(refilled(X, kind)), radii)
    np.testing.assert_array_equal(vocabulary.tokenize(refilled(X, kind)), ids)


def networks_by_trial():
    """Classifiers around a network, which the library disturbs to know how sure they are."""
    net = PatchNetClassifier(module__width=4, module__hidden=8, max_epochs=4, random_state=0)
    features = TorchFeatures(nn.Sequential(nn.Flatten(), nn.Linear(64, 16)), layer="1")
    return {
        "bagging": BaggingClassifier(net, n_estimators=1, random_state=0),
        "features": make_pipeline(features, RidgeClassifier()),
    }


@pytest.mark.parametrize("name", ["bagging", "features"])
def test_threads_that_share_a_network_do_not_disturb_each_other(digits, name):
    X, y = digits[0][:400].astype(np.float32) / 16, digits[1][:400]
    vocabulary = PatchVocabulary(6, 4, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", networks_by_trial()[name])])
    model.fit(X, y)
    options = {"max_configurations": 20}
    wanted = model.certify_prediction(X[:16], **options)
    model.set_params(vocab__n_jobs=4)
    for _ in range(2):
        found = model.certify_prediction(X[:16], **options)
        for field in ("radius", "exact", "upper", "limited", "n_configurations"):
            np.testing.assert_array_equal(found[field], wanted[field], err_msg=field)


def test_a_disturbance_is_for_the_thread_that_asked_for_it(digits):
    X, y = digits[0][:200].astype(np.float32), digits[1][:200]
    net = PatchNetClassifier(max_epochs=1, random_state=0).fit(X, y)
    bagged = BaggingClassifier(FrozenEstimator(net), n_estimators=2, random_state=0).fit(X, y)
    bagged.set_params(n_jobs=2)
    before, others = net.predict_proba(X[:5]), []
    with disturbed([net], 0, 1), joblib.parallel_config("threading"):
        thread = threading.Thread(target=lambda: others.append(net.predict_proba(X[:5])))
        thread.start()
        thread.join()
        own = net.predict_proba(X[:5])
    with disturbed([net], 0, 1):
        bag = bagged.predict_proba(X[:5])  # which would divide its work
    np.testing.assert_array_equal(others[0], before)
    np.testing.assert_array_equal(net.predict_proba(X[:5]), before)
    assert (own != before).any()
    np.testing.assert_array_equal(bag, own)


def test_no_other_file_divides_work():
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "parallel.py"]
    forbidden = re.compile(r"\b(Parallel|ThreadPool\w*|ProcessPool\w*|multiprocessing)\b\(?")
    assert not [path.name for path in files if forbidden.search(path.read_text())]
    assert forbidden.search((PACKAGE / "parallel.py").read_text())
