"""What contributors are told: the picture of the wings and the files that guides name."""

import importlib.util
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from sklearn_patchcert import __version__

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("wings", ROOT / "docs" / "_ext" / "wings.py")
wings = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(wings)
GUIDES = ["CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "docs/developers.rst"]
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))


def test_all_arrows_go_down_and_every_wing_has_a_floor():
    arrows = wings.arrows()
    floor = wings.floors(arrows)
    assert set(floor) == set(arrows)
    assert all(floor[below] < floor[wing] for wing in arrows for below in arrows[wing])
    assert max(floor.values()) <= 9


def test_the_table_of_the_wings_goes_down_and_leaves_none_out():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split("| wing | what it holds |")[1].split("\n\n")[0]
    row = {
        name.removesuffix("/").removesuffix(".py"): at
        for at, line in enumerate(table.splitlines())
        for name in re.findall(r"`([\w/.]+)`", line.split("|")[1] if "|" in line else "")
    }
    arrows = wings.arrows()
    assert set(row) == set(arrows)
    up = {(w, b) for w in arrows for b in arrows[w] if row[b] < row[w]}
    assert up == set()


def test_a_circle_has_no_picture():
    with pytest.raises(ValueError, match="go in a circle: a -> b -> a"):
        wings.floors({"a": {"b"}, "b": {"a"}})


def test_arrows_that_follow_from_others_are_left_out():
    assert wings.needed({"a": {"b", "c"}, "b": {"c"}, "c": set()})["a"] == {"b"}


def test_imports_are_found_wherever_they_are():
    text = "import os\ndef f():\n    from sklearn_patchcert import patches\n"
    text += (
        "from sklearn_patchcert.voronoi.engines import walk\nimport sklearn_patchcert.files.values"
    )
    assert wings.imported(text) == {"patches", "voronoi", "files"}


def test_the_picture_shows_every_wing_once():
    arrows = wings.arrows()
    picture = ET.fromstring(wings.drawn(arrows))
    names = [text.text.removesuffix("/").removesuffix(".py") for text in picture.iter() if text.text
             and text.tag.endswith("}text")]  # fmt: skip
    assert sorted(names) == sorted(wing for wing in arrows if not wing.startswith("_"))


@pytest.mark.parametrize("guide", GUIDES)
def test_files_and_tests_that_a_guide_names_are_there(guide):
    text = (ROOT / guide).read_text(encoding="utf-8")
    named = re.findall(r"`((?:sklearn_patchcert|docs|tests|\.ci|\.github)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []
    laws = re.findall(r"`(test_\w+?)(\.py)?`", text)
    missing = [
        name + suffix
        for name, suffix in laws
        if not (list((ROOT / "tests").rglob(name + suffix)) if suffix else f"def {name}(" in TESTS)
    ]
    assert missing == []


def test_the_citation_has_the_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", text, re.M)[1] == __version__


def test_the_lowest_versions_are_those_of_the_project():
    tomllib = pytest.importorskip("tomllib")
    found = subprocess.run(
        [sys.executable, ROOT / ".ci" / "lowest.py"], capture_output=True, text=True, check=True
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [project["optional-dependencies"][n] for n in ("plot", "denoise", "dask", "zarr")]
    wanted = set()
    for line in sum(extras, project["dependencies"]):
        name, bound = re.sub(r"\[.*?\]", "", line).split(";")[0].split(">=")
        wanted.add(f"{name}=={bound}")
    assert set(found.stdout.split()) == wanted
