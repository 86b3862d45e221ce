"""Every public name has a numpydoc docstring, an example and a place in the reference."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest
from numpydoc.validate import validate

import sklearn_patchcert

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PUBLIC = {  # modules whose functions and classes are for users
    "additive",
    "adversarial_training",
    "attacks",
    "cell_steps",
    "datasets",
    "denoising",
    "fast_networks",
    "flip_training",
    "flips",
    "losses",
    "model_selection",
    "networks",
    "outofcore",
    "patches",
    "perturbations",
    "prediction",
    "reports",
    "robustness",
    "scorers",
    "smoothing",
    "stickers",
    "tokenised",
    "torch_modules",
    "voronoi",
    "voting",
}
INSIDE = {  # all others: what is public in them is exported by the package
    "answers",
    "consistency",
    "estimator_tree",
    "net_scores",
    "score_errors",
    "certified_scorers",
    "fingerprints",
    "net_parameters",
    "torch_globals",
    "scored",
    "attack_runs",
    "attack_views",
    "checks",
    "evaluated",
    "settled",
    "token_attack",
    "values",
    "stores",
    "persistence",
    "parallel",
    "net_states",
    "known_classes",
    "image_files",
    "fitted_checks",
    "descriptions",
    "cli",
    "archive",
    "_validation",
    "_version",
    "classifier",
    "committee",
    "curves",
    "disturbance",
    "encoding",
    "exemplars",
    "image_certificates",
    "kmeans",
    "loops",
    "nets",
    "pipeline",
    "plotting",
    "preprocessing",
    "prototypes",
    "smoothed",
    "surrogates",
    "token_costs",
    "tokenizer",
    "training",
    "vocabulary",
    "vocabulary_display",
    "vocabulary_options",
    "voronoi_cells",
}
# Docstring, summary, parameters as in the signature, what is returned or yielded.
CHECKS = {"GL03", "GL08", "SS01", "SS03", "PR01", "PR02", "PR03", "RT01", "YD01"}


def names_in(module):
    """Functions and classes that a module defines or says it has, without an underscore."""
    found = importlib.import_module(f"sklearn_patchcert.{module}")
    return [
        f"{module}.{name}"
        for name, value in vars(found).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and (value.__module__ == found.__name__ or name in getattr(found, "__all__", ()))
    ]


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


def value_of(name):
    value = sklearn_patchcert
    for part in name.split("."):
        value = getattr(value, part)
    return value


EXPORTED = sorted(set(sklearn_patchcert.__all__) - {"__version__"})
NAMES = EXPORTED + [name for module in sorted(PUBLIC) for name in names_in(module)]


def faults(name, checks=CHECKS):
    value = value_of(name)
    path = f"{value.__module__}.{value.__qualname__}"
    found = validate(path)["errors"]
    return [f"{code} {text}" for code, text in found if code in checks]


def test_every_module_is_for_users_or_not():
    modules = {path.stem for path in Path(sklearn_patchcert.__file__).parent.glob("*.py")}
    assert modules - {"__init__"} == PUBLIC | INSIDE
    assert not PUBLIC & INSIDE


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


def test_the_reference_lists_what_is_public_and_nothing_else():
    text = (DOCS / "api.rst").read_text()
    blocks = re.findall(r"\.\. autosummary::\n(?: +:.*\n)*\n((?: +\S+\n)+)", text)
    listed = [name for block in blocks for name in block.split()]
    assert sorted(listed) == sorted(NAMES)


PAGES = sorted(path.name for path in DOCS.glob("*.rst"))


@pytest.mark.parametrize("page", [p for p in PAGES if ">>> " in (DOCS / p).read_text()])
def test_the_code_of_a_page_runs(page):
    failed, tried = doctest.testfile(
        str(DOCS / page), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert tried
    assert failed == 0


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_an_example_has_a_title_for_the_gallery(path):
    title, line = re.match(r'"""(.+)\n(=+)\n\n', path.read_text()).groups()
    assert len(line) >= len(title)
