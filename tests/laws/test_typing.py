"""The package is typed: what the front doors hand on has annotations that can be read."""

import importlib
import inspect
import pkgutil
import typing
from pathlib import Path

import pytest

import sklearn_patchcert

PACKAGE = Path(sklearn_patchcert.__file__).parent
DOORS = ["sklearn_patchcert"] + [
    f"sklearn_patchcert.{found.name}"
    for found in pkgutil.iter_modules(sklearn_patchcert.__path__)
    if found.ispkg
]
GROUND = ["sklearn_patchcert.patches", "sklearn_patchcert.model_selection"]


def functions(door):
    """Functions that a door hands on, by name; of a module on the ground, those it defines."""
    module = importlib.import_module(door)
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    found = {name: getattr(module, name) for name in names}
    return {name: value for name, value in found.items() if inspect.isfunction(value)}


def holes(function):
    """Parameters, and "return", of which a function does not say the type."""
    hints = typing.get_type_hints(function, localns={"torch": importlib.import_module("torch")})
    return {*inspect.signature(function).parameters, "return"} - set(hints)


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("door", DOORS + GROUND)
def test_every_function_of_a_door_has_types(door):
    assert {name: holes(value) for name, value in functions(door).items() if holes(value)} == {}


def test_the_check_sees_holes():
    def half(a: int, b) -> int:
        return a

    assert holes(half) == {"b"}
