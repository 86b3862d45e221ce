"""The attack of benchmarks/soundness.py, on a few digits."""

import itertools
import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def attack():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return runpy.run_path(str(BENCHMARKS / "soundness.py"))["attack"]
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("engine", ["dense", "walk", "two_pass"])
@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_nothing_changes_inside_a_radius_and_almost_all_just_beyond(attack, digits, engine, norm):
    images = digits[0].reshape(-1, 8, 8)
    for dtype, (scale, n_tokens) in itertools.product(
        ("float32", "float64"), [(1e-20, 64), (1.0, 64), (1.0, 600), (1e20, 64)]
    ):
        found = attack(images, engine, norm, dtype, scale, n_tokens, 100)
        assert found["inside"] == 600
        assert found["changed"] == 0
        assert found["changed_beyond"] >= 99
        assert found["median_part_of_the_radius"] > 1 - 1e-4
