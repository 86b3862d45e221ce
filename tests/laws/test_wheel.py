"""The wheel holds the whole package: modules, templates, and the mark that it is typed."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import sklearn_patchcert

ROOT = Path(__file__).parents[2]
PACKAGE = Path(sklearn_patchcert.__file__).parent
SOURCES = {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*.py")}
DATA = {
    path.relative_to(PACKAGE.parent).as_posix()
    for path in [PACKAGE / "py.typed", *PACKAGE.glob("displays/report/templates/*")]
}
IMPORT = """
import importlib, pathlib, sys
root = pathlib.Path(sys.path[0])
for path in sorted(root.glob("sklearn_patchcert/**/*.py")):
    name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    found = importlib.import_module(name).__file__
    assert pathlib.Path(found).resolve() == path.resolve(), (name, found)
print("imported")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the sources, built without a network from a copy that holds nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    names = ["pyproject.toml", "README.md", "LICENSE", *SOURCES, *DATA]
    for name in names:
        (folder / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "copy" / name).write_bytes((ROOT / name).read_bytes())
    code = f"import setuptools.build_meta as b; b.build_wheel({str(folder)!r})"
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=folder / "copy", capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr[-2000:]
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_module_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    held = {name for name in names if ".dist-info/" not in name}
    assert held == SOURCES | DATA
    assert len(DATA) == 4


@pytest.mark.slow
def test_every_module_is_imported_from_the_wheel(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    (tmp_path / "all.py").write_text(IMPORT)
    found = subprocess.run(
        [sys.executable, tmp_path / "all.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.stdout == "imported\n", found.stderr[-2000:]
