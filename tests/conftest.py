import functools
import os
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from sklearn_patchcert.voronoi import preparation
from sklearn_patchcert.voronoi.engines import walk

matplotlib.use("agg")
# One thread each, so that test workers and the processes they start do not fight over cores.
torch.set_num_threads(1)
threadpool_limits(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def digits():
    """Digits as rows in 0..16, and their labels; copied, so that no test changes another's."""
    X, y = load_digits(return_X_y=True)
    return X.copy(), y.copy()


@pytest.fixture(scope="session")
def tree_engine():
    """An engine "tree": what "walk" does with large vocabularies, for vocabularies of any size."""
    tree = SimpleNamespace(
        prepare=functools.partial(walk.prepare, small_vocabulary=0),
        tokenize=walk.tokenize,
        certify=walk.certify,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(preparation._ENGINES, "tree", tree)
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
