"""A model that was fitted on one range of values and is given another says so, once."""

import copy
import pickle
import threading
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.preprocessing import StandardScaler
from test_image_inputs import MODELS

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary, load, save
from sklearn_patchcert.attacks import run_attack
from sklearn_patchcert.outofcore import certify_to

N = 20
METHODS = ("transform", "tokenize", "certify", "predict", "certify_prediction")


def photos(n=N):
    """Bytes as floats, of which every image uses nearly all."""
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3)).astype(np.float32)


LABELS = np.arange(N) % 2


def told(call):
    """The warnings of a call that are about ranges."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in found if "fitted on values" in str(one.message)]


def ask(model, X, name):
    options = {"max_configurations": 2} if name == "certify_prediction" else {}
    return getattr(model, name)(X, **options)


@pytest.mark.parametrize("name", [n for n in MODELS if n != "committee"])
@pytest.mark.parametrize("unit", [1 / 255, 255])
def test_another_unit_is_told_once_by_every_method_with_both_ranges(name, unit):
    X = photos() if unit < 1 else photos() / 255
    model = MODELS[name]().fit(X, LABELS)
    low, high = model.input_range_
    assert (low, high) == (X.min(), X.max())
    assert type(low) is type(high) is float
    assert model.input_dtype_ == "float32"
    for method in METHODS:
        if not hasattr(model, method):
            continue
        again = pickle.loads(pickle.dumps(model))
        (message,) = told(lambda a=again, m=method: [ask(a, X * unit, m) for _ in range(2)])
        assert f"to {(X * unit).max():g}, but this {type(model).__name__} was" in message
        assert f"from {low:g} to {high:g}" in message


def test_a_committee_says_it_once():
    model = MODELS["committee"]().fit(photos(), LABELS)
    for method in ("predict", "certify_prediction"):
        again = copy.deepcopy(model)
        assert len(told(lambda a=again, m=method: ask(a, photos() / 255, m))) == 1


SAME_UNIT = {
    "the same": lambda X: X,
    "one": lambda X: X[:1],
    "black": lambda X: np.zeros_like(X[:1]),
    "all black": lambda X: np.zeros_like(X),
    "nearly black": lambda X: np.minimum(X[:1], 3),
    "dark": lambda X: np.round(X[:1] / 16),
    "dark floats": lambda X: X[:1] / 40,
    "gray fog": lambda X: 120 + X / 10,
    "white": lambda X: np.full_like(X[:2], 255),
    "noisy": lambda X: X + 80 * np.random.default_rng(0).normal(size=X.shape),
    "centred": lambda X: X - 127.5,
    "bytes": lambda X: X.astype(np.uint8),
    "brighter": lambda X: 4 * X,
}


@pytest.mark.parametrize("kind", SAME_UNIT)
def test_no_alarm_for_images_in_the_same_unit(kind):
    for X in (photos(), photos() / 255):
        if kind == "bytes" and X.max() <= 1:
            continue
        scale = X.max() / 255
        for name in ("vocabulary", "classifier"):
            model = MODELS[name]().fit(X, LABELS)
            given = SAME_UNIT[kind](X / scale) * scale if kind != "bytes" else X.astype(np.uint8)
            assert not told(lambda m=model, g=given: m.certify(g)), name


def test_single_images_in_another_unit_are_told():
    for X in (photos(), photos() / 255):
        model = MODELS["classifier"]().fit(X, LABELS)
        unit = 255 if X.max() <= 1 else 1 / 255
        assert told(lambda m=model, g=X[:1] * unit: m.predict(g))


def test_clones_copies_and_new_fits_say_it_again():
    X = photos()
    model = MODELS["classifier"]().fit(X, LABELS)

    def ask_it(m):
        return told(lambda: m.certify(X / 255))

    assert [len(ask_it(model)) for _ in range(2)] == [1, 0]
    assert not told(lambda: model.predict(X / 255))
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert len(ask_it(other)) == 1
    assert not hasattr(clone(model), "input_range_")
    assert len(ask_it(clone(model).fit(X, LABELS))) == 1
    assert len(ask_it(model.fit(X, LABELS))) == 1
    assert not told(lambda: model.fit(X / 255, LABELS).certify(X / 255))


def test_threads_say_it_once():
    model, X = MODELS["vocabulary"]().fit(photos()), photos() / 255
    start = threading.Barrier(8)

    def work():
        start.wait()
        model.certify(X)

    def together():
        threads = [threading.Thread(target=work) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]

    assert len(told(together)) == 1


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_pieces_and_streams_are_judged_as_a_whole(n_jobs, tmp_path, monkeypatch):
    monkeypatch.setattr("sklearn_patchcert.vocabulary.tokenizer._VALUES_AT_ONCE", 500)
    X = photos()
    model = MODELS["scaled"]().set_params(vocab__n_jobs=n_jobs).fit(X, LABELS)
    dark_first = np.concatenate([X / 255, X])
    np.save(tmp_path / "X.npy", X / 255)
    given = {
        "array": lambda: model.certify(X / 255),
        "stream": lambda: model.certify(iter(np.split(X / 255, 10))),
        "mapped": lambda: model.certify(np.load(tmp_path / "X.npy", mmap_mode="r")),
        "file": lambda: certify_to(model, tmp_path / "X.npy", tmp_path / "radii.npy"),
    }
    assert not told(lambda: model.certify(dark_first))
    for name, call in given.items():
        model = pickle.loads(pickle.dumps(model))
        assert len(told(call)) == 1, name


def test_steps_after_a_scaler_judge_nothing():
    """A pixel that hardly varies in training is far away from it after scaling."""
    X = photos().reshape(N, -1)
    X[:, 0] = 0
    X[0, 0] = 1e-3
    steps = [("s", StandardScaler()), ("v", PatchVocabulary(4, image_shape=(8, 8, 3)))]
    model = CertifiedPatchClassifier([*steps, ("c", DummyClassifier())]).fit(X, LABELS)
    X[:, 0] = 255.0
    assert np.abs(model["s"].transform(X)).max() > 100 * np.ptp(model["v"].input_range_)
    for method in ("predict", "certify", "certify_prediction"):
        assert not told(lambda m=method: ask(model, X, m))


def test_attacks_and_noise_are_no_alarm():
    X = photos() / 255
    model = MODELS["classifier"]().fit(X, LABELS)
    assert not told(lambda: run_attack(model, X, LABELS, "noise", eps=1e4, norm="l2"))
    smoothed = MODELS["smoothed"]().set_params(sigma=20.0).fit(X, LABELS)
    assert not told(lambda: smoothed.certify(X))


def test_partial_fit_widens_the_range_and_tokens_of_ones_own_have_none():
    model = PatchVocabulary(4, strategy="kmeans", random_state=0)
    model.partial_fit(photos() + 5).partial_fit(photos() - 7)
    assert model.input_range_ == (-7.0, 260.0)
    own = PatchVocabulary.from_tokens(np.eye(12), patch_size=2)
    assert not hasattr(own, "input_range_")
    assert not told(lambda: [own.certify(photos() * unit) for unit in (1, 1e-3, 1e3)])


@pytest.mark.parametrize("name", ["vocabulary", "classifier", "scaled", "regressor"])
def test_files_keep_what_a_model_knows_of_its_input(name, tmp_path):
    model = MODELS[name]().fit(photos(), LABELS)
    save(model, tmp_path / "model.patchcert")
    again = load(tmp_path / "model.patchcert")
    assert again.input_range_ == model.input_range_
    assert again.input_dtype_ == model.input_dtype_
    assert told(lambda: again.certify(photos() / 255))
