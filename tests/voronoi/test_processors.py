"""Code is made for the processor that numba compiles for, not for the one that it runs on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_patchcert

CODE = """
import sys, types
import numpy as np
from numba import njit

door = types.ModuleType("sklearn_patchcert.voronoi")  # the real one imports torch, for seconds
door.__path__ = [sys.argv[1]]
sys.modules[door.__name__] = door
from sklearn_patchcert.voronoi.engines.products import INTEGERS, scaled16, scores4

@njit(cache=True)
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
print(INTEGERS, sum(scores.stats.cache_hits.values()))
"""
PACKAGE = Path(sklearn_patchcert.__file__).parent


def run(folder, **settings):
    """Whether products of integers are used, and how much of the code comes from the cache."""
    (folder / "code.py").write_text(CODE)  # numba keeps code of files only
    os.utime(folder / "code.py", (0, 0))
    settings = {"NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(PACKAGE.parent), **settings}
    command = [sys.executable, folder / "code.py", PACKAGE / "voronoi"]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


LESSER = [
    {"NUMBA_ENABLE_AVX": "0"},
    {"NUMBA_CPU_FEATURES": "-avx512vnni"},
    {"NUMBA_CPU_FEATURES": "+avx2,+fma"},
]


@pytest.mark.parametrize("settings", LESSER, ids=lambda settings: "=".join(*settings.items()))
def test_products_of_integers_on_lesser_processors(tmp_path, settings):
    assert run(tmp_path, **settings)[0] == "False"


def test_a_cache_serves_several_processors(tmp_path):
    """Each compiles code of its own, and finds only that again."""
    lesser = {"NUMBA_CPU_NAME": "generic"}
    usual, other, again = (run(tmp_path, **settings) for settings in ({}, lesser, {}))
    assert other == ["False", "0"]
    assert (usual[1], again) == ("0", [usual[0], "1"])


def test_an_ordinary_process_uses_what_the_processor_has():
    from llvmlite import binding

    from sklearn_patchcert.voronoi.engines.products import INTEGERS

    usual = not any(name in os.environ for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"))
    if usual and os.environ.get("NUMBA_ENABLE_AVX", "1") != "0":
        assert bool(INTEGERS) == bool(binding.get_host_cpu_features().get("avx512vnni"))
