"""Work in parts: in order, asked for little by little, and never divided twice."""

import re
import threading
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest
from joblib.parallel import BACKENDS, ThreadingBackend
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier

import sklearn_patchcert
from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary, SmoothedClassifier
from sklearn_patchcert.parallel import over_parts

PACKAGE = Path(sklearn_patchcert.__file__).parent


def double(number):
    return 2 * number


@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1])
def test_results_come_in_the_order_of_the_parts(n_jobs):
    parts = [(number,) for number in range(50)]
    assert list(over_parts(double, parts, n_jobs)) == [2 * number for number in range(50)]
    assert list(over_parts(double, iter(parts), n_jobs)) == [2 * number for number in range(50)]


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


def test_no_other_file_divides_work():
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "parallel.py"]
    forbidden = re.compile(r"\b(Parallel|ThreadPool\w*|ProcessPool\w*|multiprocessing)\b\(?")
    assert not [path.name for path in files if forbidden.search(path.read_text())]
    assert forbidden.search((PACKAGE / "parallel.py").read_text())
