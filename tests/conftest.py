import functools
import gc
import os
from importlib.util import find_spec
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from sklearn_patchcert.voronoi import preparation
from sklearn_patchcert.voronoi.engines import small, walk

missing = [name for name in ("hypothesis", "pandas") if find_spec(name) is None]
if missing:
    raise pytest.UsageError(f"The tests need {', '.join(missing)}: pip install -e '.[test]'")
# The laws are those of the CPU: equal bits of equal fits, tensors that NumPy can read.  Those of a
# GPU are in voronoi/test_gpu.py: PATCHCERT_GPU=1 pytest tests/voronoi/test_gpu.py
if not os.environ.get("PATCHCERT_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks, and for processes started here

matplotlib.use("agg")
# One thread each, so that test workers and the processes they start do not fight over cores.
torch.set_num_threads(1)
threadpool_limits(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish():
    """What is there before the tests stays: no collection of garbage need look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def digits():
    """Digits as rows in 0..16, and their labels; copied, so that no test changes another's."""
    X, y = load_digits(return_X_y=True)
    return X.copy(), y.copy()


@pytest.fixture(scope="session")
def tree_engine():
    """What "walk" does with some tokens or on some processors, as engines for all: "tree" as with
    large vocabularies, "integers" and "floats" as with small ones.
    """

    def small_prepare(tokens, weights, norm, device, integers):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(small, "prepare", functools.partial(prepare, integers=integers))
            return walk.prepare(tokens, weights, norm, device, small_vocabulary=1000)

    prepare = small.prepare
    ways = {
        "tree": functools.partial(walk.prepare, small_vocabulary=0),
        "integers": functools.partial(small_prepare, integers=True),
        "floats": functools.partial(small_prepare, integers=False),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, way in ways.items():
            engine = SimpleNamespace(prepare=way, tokenize=walk.tokenize, certify=walk.certify)
            patch.setitem(preparation._ENGINES, name, engine)
        yield


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[:150], y[:150]


@pytest.fixture(scope="module")
def colour():
    rng = np.random.default_rng(0)
    X = (rng.random((60, 6, 7, 3)) * [1, 10, 100] + [0, 5, -30]).astype(np.float32)
    return X, (X[..., 0].mean((1, 2)) > 0.5).astype(int)


# ---------------------------------------------------------------------------- for tests/cli


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Three classes of eight pictures each."""
    from pictures_for_cli import make_photos

    return make_photos(tmp_path_factory.mktemp("cli") / "photos")


@pytest.fixture(scope="session")
def model_file(photos):
    """What `patchcert fit` makes of them."""
    from pictures_for_cli import run

    path = photos.parent / "model.patchcert"
    options = ("--image-size", 16, "--tokens", 8, "--epochs", 8, "--quiet")
    assert run("fit", photos, "--out", path, *options) == 0
    return path


@pytest.fixture
def odd(tmp_path):
    """A folder with oddities, and why some of its files cannot be read."""
    from pictures_for_cli import make_odd, make_photos

    folder = make_photos(tmp_path / "odd", 3)
    return folder, make_odd(folder)


@pytest.fixture
def quick_attacks(monkeypatch):
    """Attacks of one step, which are no good attacks."""
    from sklearn_patchcert.attacks import flips
    from sklearn_patchcert.scorers import reports

    monkeypatch.setattr(flips, "search", functools.partial(flips.search, steps=1, greedy=1))
    quick = functools.partial(reports.robustness_report, steps=1)
    monkeypatch.setattr(reports, "robustness_report", quick)
