"""Code is made for the processor that numba compiles for, not for the one that it runs on."""

import os
import subprocess
import sys

import pytest

CODE = """
import numpy as np
from numba import njit
from sklearn_patchcert.voronoi.engines.products import INTEGERS, scaled16, scores4

@njit
def scores(points, factor, steps, tokens, half, dim, out, lows):
    whole = np.zeros(points.shape[0], np.int16)
    for o in range(0, points.shape[0], 16):
        scaled16(points, factor, whole, o)
    scores4(whole, steps, tokens, half, dim, half.shape[0] // 64, 0, out, lows)

rng = np.random.default_rng(0)
points = rng.integers(-32000, 32001, size=(4, 8))
tokens = rng.integers(-32767, 32768, size=(64, 8)) // 8
steps, half = np.float32([1, 2, 4, 8]), np.zeros(64, np.float32)
out, lows = np.zeros(256, np.float32), np.zeros(64, np.float32)
pairs = tokens.reshape(64, 4, 2).transpose(1, 0, 2).astype(np.int16).ravel()
some = (points / 1024).astype(np.float32).ravel()
scores(some, np.float32(1024), steps, pairs, half, 8, out, lows)
wanted = (points @ tokens.T).astype(np.float32) * steps[:, None]
np.testing.assert_array_equal(out.reshape(4, 64), wanted)
np.testing.assert_array_equal(lows.reshape(4, 16), wanted.reshape(4, 4, 16).min(1))
print(INTEGERS)
"""


def run(code, **settings):
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    "settings",
    [
        {"NUMBA_CPU_NAME": "generic"},
        pytest.param({"NUMBA_ENABLE_AVX": "0"}, marks=pytest.mark.slow),
        pytest.param({"NUMBA_CPU_FEATURES": "-avx512vnni"}, marks=pytest.mark.slow),
        pytest.param({"NUMBA_CPU_FEATURES": "+avx2,+fma"}, marks=pytest.mark.slow),
    ],
    ids=lambda settings: "=".join(*settings.items()),
)
def test_products_of_integers_on_lesser_processors(settings):
    assert run(CODE, **settings) == ["False"]


@pytest.mark.slow
def test_a_cache_serves_several_processors(tmp_path):
    code = (
        "import sys; import numpy as np; from sklearn_patchcert.voronoi import certify; "
        "tokens = np.random.default_rng(0).normal(size=(40, 3)); "
        "ids, radii = certify(tokens[:, None] * 0.7, tokens); print(ids.sum(), radii.sum().hex())"
    )
    settings = {"NUMBA_CACHE_DIR": str(tmp_path)}
    found = [run(code, **settings, **more) for more in ({}, {"NUMBA_CPU_NAME": "generic"}, {})]
    assert found[0] == found[1] == found[2]


def test_an_ordinary_process_uses_what_the_processor_has():
    from llvmlite import binding

    from sklearn_patchcert.voronoi.engines.products import INTEGERS

    usual = not any(name in os.environ for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"))
    if usual and os.environ.get("NUMBA_ENABLE_AVX", "1") != "0":
        assert bool(INTEGERS) == bool(binding.get_host_cpu_features().get("avx512vnni"))
