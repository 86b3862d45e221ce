"""Ctrl-C in certificates, attacks, commands and whole processes, and bars that move."""

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import repeat

import numpy as np
import pytest
from interrupts_for_tests import heard, network, some_digits
from sklearn.dummy import DummyClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from tqdm.auto import tqdm

from sklearn_patchcert import (
    CertifiedPatchClassifier,
    PatchVocabulary,
    SmoothedClassifier,
    StickerCertifiedClassifier,
)
from sklearn_patchcert.attacks.robustness import worst_case
from sklearn_patchcert.networks import outputs
from sklearn_patchcert.networks.fitting import passes
from sklearn_patchcert.outofcore.certification import certify_to
from sklearn_patchcert.prediction.search import progress


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    with heard():
        yield


@pytest.fixture(scope="module")
def data(digits):
    return some_digits(digits)


# ---------------------------------------------------------------------------- after fit


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_certificates_can_be_interrupted(data, monkeypatch, n_jobs):
    X, y = data
    model = CertifiedPatchClassifier(
        [("vocab", PatchVocabulary(6, 4, random_state=0)), ("clf", RidgeClassifier())]
    ).fit(X, y)
    smoothed = SmoothedClassifier(model, sigma=1.0, n=100, random_state=0).fit(X, y)
    monkeypatch.setattr("sklearn_patchcert.vocabulary.tokenizer._VALUES_AT_ONCE", 64 * 50)
    monkeypatch.setattr("sklearn_patchcert.smoothing.classifier._COPIES_AT_ONCE", 200)
    smoothed.set_params(batch_size=200)
    work = [
        lambda: model.certify(X),
        lambda: model.certify_prediction(X[:8], max_configurations=50).radius,
        lambda: smoothed.certify(X[:8])[1],
    ]
    expected = [do() for do in work]
    model.set_params(vocab__n_jobs=n_jobs)
    smoothed.set_params(n_jobs=n_jobs)
    smoothed.estimator_.set_params(vocab__n_jobs=n_jobs)
    for do, radii in zip(work, expected, strict=True):
        with monkeypatch.context() as patch:
            patch.setattr(tqdm, "update", lambda self, n: signal.raise_signal(signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                do()
        np.testing.assert_array_equal(do(), radii)


LONG = {"max_configurations": 10**7}
ENDLESS = {  # work that takes minutes
    "certify": lambda model, smoothed, X, path: model.certify(repeat(X)),
    "l2": lambda model, smoothed, X, path: model.certify_prediction(X, **LONG),
    "cells": lambda model, smoothed, X, path: model.certify_prediction(X, cells=True, **LONG),
    "linf": lambda model, smoothed, X, path: model.certify_prediction(X, norm="linf", **LONG),
    "l0": lambda model, smoothed, X, path: model.certify_prediction(X, norm="l0", **LONG),
    "sticker": lambda model, smoothed, X, path: model.certify_prediction(X, norm="sticker", **LONG),
    "smoothing": lambda model, smoothed, X, path: smoothed.certify(X),
    "masks": lambda model, smoothed, X, path: (
        StickerCertifiedClassifier(FrozenEstimator(model), 1, n_jobs=2)
        .fit(X, model.predict(X))
        .certify(X.repeat(1000, 0))
    ),
    "file": lambda model, smoothed, X, path: certify_to(
        model, np.broadcast_to(X[0], (5 * 10**7, X.shape[1])), path, chunk_size=20_000
    ),
}


@pytest.fixture(scope="module")
def endless(data):
    X, y = data
    vocabulary = PatchVocabulary(16, 4, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", DummyClassifier())]).fit(X, y)
    model.certify_prediction(X[:1], max_configurations=1)  # compiles
    model.set_params(vocab__n_jobs=2)
    smoothed = SmoothedClassifier(FrozenEstimator(model), n=10**7, n_jobs=2, random_state=0)
    return model, smoothed.fit(X, y)


@pytest.mark.parametrize("work", ENDLESS)
def test_no_thread_goes_on_after_an_interrupt(endless, data, tmp_path, work):
    timer = threading.Timer(0.15, _thread.interrupt_main)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            ENDLESS[work](*endless, data[0], tmp_path / "radii.npy")
    finally:
        timer.cancel()  # if the work was done before
    begin = time.process_time()
    time.sleep(0.15)
    assert time.process_time() - begin < 0.05


INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from tqdm import tqdm
from sklearn_patchcert import *
from sklearn_patchcert.attacks.robustness import run_attack
from sklearn_patchcert.cli import main
from sklearn_patchcert.outofcore import certify_to

tqdm.set_lock(threading.RLock())  # its own is shared: a child killed while it holds it stops all
tqdm.monitor_interval = 0
os.chdir(sys.argv[1])
X, y = load_digits(return_X_y=True)
X, long = X[:100].astype(np.float32), {"max_configurations": 10**7}
many = np.broadcast_to(X[0], (5 * 10**7, 64))
vocabulary = PatchVocabulary(16, 4, strategy="kmeans", random_state=0)
model = CertifiedPatchClassifier(
    [("vocab", vocabulary), ("clf", PatchNetClassifier(max_epochs=1, random_state=0))]
).fit(X, y[:100])
model.certify_prediction(X[:2], max_configurations=40)
model.set_params(vocab__n_jobs=2)
smoothed = SmoothedClassifier(FrozenEstimator(model), n=10**7, n_jobs=2, random_state=0)
smoothed.fit(X, y[:100])
save(model, "model")
np.save("image.npy", X[0])
command = "certify image.npy --model model --out maps --prediction --configurations 9999999".split()


certify_prediction = CertifiedPatchClassifier.certify_prediction


def certify_once_the_command_has_read_its_files(*args, **options):
    count_work()
    return certify_prediction(*args, **options)


def count_work():  # in seconds of work: a machine that is busy otherwise changes nothing
    signal.setitimer(signal.ITIMER_PROF, 0.5, 0.05)


def say_if_under_way(*_):
    if name in ("attack", "command") or threading.active_count() > 1:
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(tell, b"!")


work = {
    "l2": lambda: model.certify_prediction(X, **long),
    "smoothing": lambda: smoothed.certify(X),
    "file": lambda: certify_to(model, many, "radii.npy", chunk_size=20_000),
    "attack": lambda: run_attack(model, X.repeat(100, 0), y[:100].repeat(100), "sspgd", eps=1.0),
    "command": lambda: sys.exit(main(command)),
}
for name, do in work.items():
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open("said", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGPROF, say_if_under_way)
        if name == "command":
            CertifiedPatchClassifier.certify_prediction = (
                certify_once_the_command_has_read_its_files
            )
        else:
            count_work()
        do()
        sys.exit(0)
    os.close(tell)
    os.read(ready, 1)  # or the child has ended
    os.kill(child, signal.SIGINT)
    begin, status = time.monotonic(), None
    while status is None and time.monotonic() - begin < 60:
        time.sleep(0.02)
        ended, code = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if ended else None
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    print(name, status, open("said").read().strip().splitlines()[-1:], sep="|")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
def test_an_interrupted_process_ends_as_such(tmp_path):
    found = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert found.returncode == 0, found.stderr
    lines = [line.split("|") for line in found.stdout.splitlines() if line.count("|") == 2]
    assert len(lines) == 5
    for name, status, said in lines:
        if name == "command":
            assert (status, "interrupted; start the same command again" in said) == ("130", True)
        else:  # 1: torch raises an error of its backward pass again
            assert status in (str(-signal.SIGINT), "1"), (name, status, said)
            assert "KeyboardInterrupt" in said


def test_bars_are_shown_where_they_are_asked_for(data, capsys):
    X, y = data
    model = CertifiedPatchClassifier(
        [("vocab", PatchVocabulary(6, 4, random_state=0)), ("clf", network(max_epochs=1))]
    ).fit(X, y)
    smoothed = SmoothedClassifier(model, sigma=1.0, n=50, random_state=0).fit(X, y)

    def shown(verbose):
        model.set_params(vocab__verbose=verbose, clf__verbose=verbose)
        work = {
            "k-means": lambda: model.fit(X, y),
            "/3 [": lambda: model.fit(X, y),  # batches of the network's epoch
            "PatchVocabulary": lambda: model.certify(X[:5]),
            "certifying": lambda: model.certify_prediction(X[:5], max_configurations=20),
            "counting": lambda: smoothed.set_params(verbose=verbose).certify(X[:5]),
            "sspgd": lambda: worst_case(model, X, y, ["sspgd"], eps=1.0, verbose=bool(verbose)),
        }
        for name, do in work.items():
            capsys.readouterr()
            do()
            yield name, capsys.readouterr()

    for _, printed in shown(0):
        assert printed.out == printed.err == ""
    for name, printed in shown(1):
        assert name in printed.err
    for strategy, name in {"denoised": "distance", "supervised": "vocabulary"}.items():
        PatchVocabulary(12, 8, strategy=strategy, max_iter=1, verbose=1, random_state=0).fit(X, y)
        assert name in capsys.readouterr().err


@pytest.mark.parametrize("norm", ["l2", "sticker"])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_bar_moves_while_one_image_lasts_long(data, monkeypatch, capsys, n_jobs, norm):
    """It tells how many assignments were classified, all of them, and before the image is done."""
    vocabulary = PatchVocabulary(16, 4, strategy="kmeans", random_state=0)
    model = CertifiedPatchClassifier([("vocab", vocabulary), ("clf", DummyClassifier())])
    model.fit(*data).set_params(vocab__n_jobs=n_jobs, vocab__verbose=1)
    monkeypatch.setattr(progress, "_EVERY", -1.0)
    told = []
    real = tqdm.set_postfix_str

    def set_postfix_str(bar, text, **options):
        told.append((bar.n, int(text.split()[0].replace(",", ""))))
        return real(bar, text, **options)

    monkeypatch.setattr(tqdm, "set_postfix_str", set_postfix_str)
    found = model.certify_prediction(data[0][:2], norm=norm, max_configurations=9000)
    assert sum(done == 0 for done, _ in told) >= 2
    assert len({count for _, count in told}) >= 4
    assert told[-1] == (2, found.n_configurations.sum() + 2 * (norm == "sticker"))
    assert "assignments" in capsys.readouterr().err


def test_a_batch_of_large_images_can_be_stopped_in_between(data, monkeypatch):
    """A thread asks whether to stop after few images, and the outputs are those of all at once."""
    X, y = data
    net = network().fit(X, y)
    wanted, unit = outputs.raw_scores(net, X[:100])
    asked = []
    monkeypatch.setattr(passes, "stop_if_told", lambda: asked.append(None))
    monkeypatch.setattr(outputs, "_VALUES", 64 * 7)
    found, again = outputs.raw_scores(net, X[:100])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert (len(asked), again) == (15, unit)
