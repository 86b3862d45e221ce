"""Files with changed values: refused, or a model that predicts."""

import contextlib
import copy
import random
import threading
import time

import numpy as np
import pytest
from hostile_makers import CHAIN, additive, bayes, chain, deep_list, whole
from sklearn.base import clone
from sklearn.datasets import load_digits

from sklearn_patchcert import ModelFileError, load
from sklearn_patchcert.files import archive

VALUES = [None, True, False, 0, -1, 1, 7, 10**6, 10**12, 2**63, -(10**30), 0.5, 1e-300, 1e300, "",
          "auto", "cuda:7", [], [1], {"tuple": []}, {"tuple": [8, 8, 1]}, {"float": "nan"},
          {"float": "-inf"}, {"texts": [2**24, ["a"]]}, {"texts": [None, ["b", "a"]]}, CHAIN,
          {"estimator": chain(5)}, {"dict": []}, deep_list(60)]  # fmt: skip
FACTORS = [0, -1, 1e30, 1e-30, 3]


def places(found, at=()):
    """Paths of all values in JSON."""
    yield at
    if isinstance(found, dict | list):
        for key in found if isinstance(found, dict) else range(len(found)):
            yield from places(found[key], (*at, key))


def mutated(content, arrays, rng):
    """The content and the arrays with one to three things changed."""
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.25:
            name = rng.choice(list(arrays))
            with np.errstate(all="ignore"):
                changed = np.asarray(arrays[name] * rng.choice(FACTORS))
                arrays[name] = changed.astype(arrays[name].dtype)
            continue
        *way, last = rng.choice([at for at in places(content["model"], ("model",)) if at[1:]])
        place = content
        for key in way:
            place = place[key]
        kind = rng.random()
        if kind < 0.15:
            del place[last]
        elif kind < 0.35:
            name = rng.choice(list(arrays))
            place[last] = {rng.choice(["array", "tensor"]): name}
        elif kind < 0.5 and type(place[last]) in (int, float):
            place[last] = place[last] * rng.choice([-1, 0, 2, 10**6, 0.5])
        else:
            place[last] = copy.deepcopy(rng.choice(VALUES))


def harmless(data, path, X):
    """Whether a file was loaded; fails where that, or what comes of it, does harm."""
    path.write_bytes(data)
    start, before = time.process_time(), threading.active_count()
    model = None
    with contextlib.suppress(ModelFileError):
        model = load(path)
    assert time.process_time() - start < 1
    if model is None:
        return False
    assert len(repr(model)) < 10**5
    clone(model)
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        assert np.isfinite(model.predict_proba(X)).all()
    assert time.process_time() - start < 4
    assert threading.active_count() - before < 20
    return True


def fuzz(rounds, seed, path, makers=(whole, additive, bayes)):
    rng, X = random.Random(seed), load_digits().data[:3]
    loaded = 0
    for _ in range(rounds):
        content, arrays = archive.unpack(rng.choice(makers)())
        content = copy.deepcopy(content)
        mutated(content, arrays, rng)
        loaded += harmless(archive.pack(content, arrays), path, X)
    return loaded


@pytest.mark.filterwarnings("ignore")
def test_files_with_changed_values_do_no_harm(tmp_path):
    assert 0 < fuzz(60, 0, tmp_path / "model.patchcert") < 60
