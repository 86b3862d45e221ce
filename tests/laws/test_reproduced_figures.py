"""The rules of benchmarks/agreement.py: each can find that figures agree, and that they differ."""

import json
import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RULES = runpy.run_path(str(BENCHMARKS / "agreement.py"))
CASES = {  # arguments with which a rule agrees, and with which it differs
    "equal": [(36, 36), (36, 37)],
    "close": [(2.0, 2.03, 2), (2.0, 2.05, 2), (2.0, float("nan"), 2)],
    "near": [(90.0, 86.0, 5, 0.5), (90.0, 84.9, 5, 0.5), (90.0, 91.0, 5, 0.5)],
    "factor": [(2.0, 3.9, 2), (2.0, 4.1, 2), (2.0, 0.9, 2)],
    "shares": [(50.0, 1000, 55.0, 100), (50.0, 1000, 80.0, 100), (3.0, 1000, 20.0, 60)],
    "ordered": [([1, 2], [5, 9]), ([1, 2], [9, 5]), ([1, 2], [5, 5])],
    "none": [(0, 0), (0, 1), (1, 1)],
}


@pytest.mark.parametrize("name", CASES)
def test_every_rule_can_agree_and_can_fail(name):
    rule, (fine, *wrong) = RULES[name], CASES[name]
    assert rule("figure", *fine, "why")["verdict"] == RULES["AGREES"]
    for case in wrong:
        assert rule("figure", *case, "why")["verdict"] == RULES["DIFFERS"]


def test_published_figures_that_tie_have_no_order():
    with pytest.raises(ValueError, match="tie"):
        RULES["ordered"]("figure", [1, 1], [1, 2], "why")


def test_cells_are_compared_by_their_spread_and_missing_rows_are_found():
    header = ("model", "accuracy %", "patch radius", "seconds per image")
    rows = [
        ("a", "98.0 ± 1.0", "1.00", "5.0"),
        ("b", "90.0", "2.00", ""),
        ("*quoted*", "1", "", ""),
    ]
    again = [("a", "95.5 ± 1.0", "1.10", "9.0")]
    found = {
        one["figure"]: one["verdict"] for one in RULES["cells"]((header, rows), (header, again))
    }
    assert found == {
        "a: accuracy %": "agrees", "a: patch radius": "DIFFERS",
        "a: seconds per image": "not comparable", "b: accuracy %": "DIFFERS",
        "b: patch radius": "DIFFERS",
    }  # fmt: skip


def test_every_table_of_the_page_is_reproduced_or_left_out_with_a_reason():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        script = runpy.run_path(str(BENCHMARKS / "reproduce.py"))
    finally:
        sys.path.remove(str(BENCHMARKS))
    page = (BENCHMARKS.parent / "docs" / "results.rst").read_text()
    tables = {
        line.split(maxsplit=2)[2] for line in page.splitlines() if line.startswith(".. begin ")
    }
    assert tables == {*script["NAMES"], *script["LEFT_OUT"]}
    path = BENCHMARKS / "results" / "reproduced.json"
    assert {*json.loads(path.read_text())["tables"]} <= {*script["NAMES"]}
