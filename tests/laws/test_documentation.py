"""Every public name has a numpydoc docstring, an example and a place in the reference."""

import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import re
import shlex
from pathlib import Path

import pytest

import sklearn_patchcert
from sklearn_patchcert import cli

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
DOCS = ROOT / "docs"
DOORS = sorted(wing.name for wing in pkgutil.iter_modules(sklearn_patchcert.__path__) if wing.ispkg)
ROOMS = [  # rooms of the wings, and modules without a wing, whose names are for advanced users
    "networks.additive",
    "networks.fitting.flip_training",
    "networks.fitting.adversarial_training",
    "attacks.perturbations",
    "attacks.flips",
    "model_selection",
    "patches",
]
# Docstring, summary, parameters as in the signature, what is returned or yielded.
CHECKS = {"GL03", "GL08", "SS01", "SS03", "PR01", "PR02", "PR03", "RT01", "YD01"}


def value_of(name):
    """What a name means, imported as a user would import it."""
    module, _, last = f"sklearn_patchcert.{name}".rpartition(".")
    try:
        return getattr(importlib.import_module(module), last)
    except ModuleNotFoundError:  # a method: the module is a class
        return getattr(value_of(module.removeprefix("sklearn_patchcert.")), last)


def public():
    """Every public function and class, by the first of its names: package, doors, rooms."""
    names = [name for name in sklearn_patchcert.__all__ if name != "__version__"]
    for door in DOORS:
        names += [f"{door}.{name}" for name in door_of(door).__all__]
    for room in ROOMS:
        found = door_of(room)
        names += [
            f"{room}.{name}"
            for name, value in vars(found).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == found.__name__
        ]
    first = {}
    for name in names:
        value = value_of(name)
        if inspect.isfunction(value) or inspect.isclass(value):
            first.setdefault(value, name)
    return list(first.values())


def door_of(name):
    return importlib.import_module(f"sklearn_patchcert.{name}")


def methods_of(name):
    """Public methods of a class, as far as this package defines them."""
    thing = value_of(name)
    if not inspect.isclass(thing):
        return []
    return [
        f"{name}.{method}"
        for method, value in inspect.getmembers(thing, callable)
        if not method.startswith("_")
        and (getattr(value, "__module__", None) or "").startswith("sklearn_patchcert")
        and not method.endswith("_request")
    ]


NAMES = public()


def validate(path):
    """What numpydoc says about a docstring."""
    tool = pytest.importorskip(
        "numpydoc.validate", reason="numpydoc, in the extra test, is missing"
    )
    return tool.validate(path)


def faults(name, checks=CHECKS):
    value = value_of(name)
    path = f"{value.__module__}.{value.__qualname__}"
    found = validate(path)["errors"]
    return [f"{code} {text}" for code, text in found if code in checks]


def test_every_door_hands_on_names_and_every_room_has_some_of_its_own():
    assert all(door_of(door).__all__ for door in DOORS)
    for room in ROOMS:
        assert any(name.startswith(f"{room}.") for name in NAMES), room


@pytest.mark.parametrize("name", NAMES)
def test_it_is_documented_and_has_an_example(name):
    assert faults(name, CHECKS | {"EX01"}) == []
    assert ">>> " in value_of(name).__doc__


@pytest.mark.parametrize("name", [method for name in NAMES for method in methods_of(name)])
def test_methods_are_documented(name):
    assert faults(name) == []


def _undocumented(x):
    """Do something."""
    return x


def _stale(y):
    """Do something.

    Parameters
    ----------
    x : int

    Returns
    -------
    int
    """
    return y


def test_the_check_sees_what_is_missing():
    codes = [
        {code for code, _ in validate(f"{__name__}.{function.__name__}")["errors"]}
        for function in (_undocumented, _stale)
    ]
    assert codes[0] >= {"PR01", "RT01", "EX01"}
    assert codes[1] >= {"PR01", "PR02", "EX01"}
    assert "RT01" not in codes[1]


def listed(page):
    """Names in the tables of a page of the reference."""
    blocks = re.findall(
        r"\.\. autosummary::\n(?: +:.*\n)*\n((?: +\S+\n)+)", page.read_text() + "\n"
    )
    return [name for block in blocks for name in block.split()]


def test_the_reference_lists_what_is_public_and_nothing_else():
    wings = [name for page in (DOCS / "api").glob("*.rst") for name in listed(page)]
    assert sorted(wings) == sorted(NAMES)
    assert sorted(listed(DOCS / "api.rst")) == sorted(NAMES)


def test_every_wing_of_the_reference_is_in_its_sidebar():
    pages = re.findall(r"^   api/(\w+)$", (DOCS / "api.rst").read_text(), re.M)
    assert sorted(pages) == sorted(page.stem for page in (DOCS / "api").glob("*.rst"))


BUILT = {"_build", "auto_examples", "generated"}
PAGES = sorted(
    path for path in DOCS.rglob("*.rst") if not BUILT & set(path.relative_to(DOCS).parts)
)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.stem == "own_photos" else [])
        for page in PAGES
        if ">>> " in page.read_text()
    ],
    ids=lambda page: str(page.relative_to(DOCS)),
)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, request):
    text = page.read_text(encoding="utf-8")
    if page.stem == "own_photos":  # whose figures of the attacks are not compared
        request.getfixturevalue("quick_attacks")
    for package in ("skimage", "dask", "zarr"):
        if re.search(rf">>> (import|from) {package}\b", text):
            pytest.importorskip(package, reason=f"the page needs {package}, an extra")
    monkeypatch.chdir(tmp_path)
    assert run(text, page.stem) == (0, True)


def run(text, name="page"):
    """How many examples of a page fail, and whether there are any; commands are examples, too."""
    test = doctest.DocTestParser().get_doctest(
        with_commands(text), {"patchcert": patchcert}, name, name, 0
    )
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False).run(test)
    return found.failed, found.attempted > 0


CONSOLE = re.compile(r"^\.\. code-block:: console\n\n((?: +.*\n)+)", re.M)


def with_commands(text):
    """A page whose console blocks are code: a command has status 0, or what `echo $?` shows."""

    def code(match):
        lines = []
        for line in match.group(1).splitlines():
            if line.strip() == "$ echo $?":
                lines.pop()  # it is not 0
            elif line.startswith("   $ patchcert "):
                lines += [f">>> patchcert({line[len('   $ patchcert ') :]!r})", "0"]
            elif re.fullmatch(" +[0-9]+", line):
                lines.append(line.strip())
            assert not line.startswith("   $") or "patchcert" in line or "echo $?" in line, line
        return "\n".join([*lines, "", ""])

    return CONSOLE.sub(code, text)


def patchcert(command):
    """Run a command; what it prints is not compared."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return cli.main(shlex.split(command))


def test_the_commands_of_a_page_run_and_have_the_status_that_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = ".. code-block:: console\n\n   $ patchcert info no.patchcert\n{}\n"
    assert run(block.format("   patchcert: error: ...\n   $ echo $?\n   2\n")) == (0, True)
    assert run(block.format("   $ echo $?\n   1\n")) == (1, True)
    assert run(block.format("")) == (1, True)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_an_example_has_a_title_for_the_gallery(path):
    title, line = re.match(r'"""(.+)\n(=+)\n\n', path.read_text()).groups()
    assert len(line) >= len(title)


EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_that_is_not_run_has_a_small_picture_for_the_gallery(path):
    run = re.search(r"RUN_AT_BUILD = \((.+)\)", (DOCS / "conf.py").read_text()).group(1)
    named = re.findall(r'sphinx_gallery_thumbnail_path = "(.+)"', path.read_text())
    if f'"{path.stem}"' not in run:
        assert len(named) == 1
    for picture in named:
        assert (DOCS / picture).stat().st_size < 60_000


BRITISH = r"\b\w*(?:colour|neighbour|behaviour|tokenis|discretis(?!ed\b)|standardis|maximis)\w*"


@pytest.mark.parametrize("path", PAGES + EXAMPLES, ids=lambda path: path.name)
def test_spelling_is_american(path):
    text = re.sub(r"\.\. begin .+?\.\. end ", "", path.read_text(), flags=re.S)  # tables
    assert re.findall(BRITISH, text) == []
