"""Parameters of a model from a file of YAML, checked before anything is read."""

from __future__ import annotations

import difflib
import inspect

from sklearn_patchcert.cli.options import Impossible
from sklearn_patchcert.files.known_classes import known_classes


def configured(model, path, text):
    """Set the parameters that a file names, and check all of them.

    Parameters
    ----------
    model : Pipeline
        Of a reader, a vocabulary and a network that is called clf.
    path : Path or None
        For the words of errors.
    text : str
        What is in that file, or nothing: YAML, with a line ``name: value`` for each parameter.
        Names of networks, losses and optimizers become the classes.

    Returns
    -------
    model : Pipeline

    Raises
    ------
    Impossible
        If it is no such file, a parameter is unknown, or a value is out of range.
    """
    found = {} if path is None else _read(path, text)
    known = set(model.get_params())
    for name in found:
        if _part_of(name) not in known:
            _check_known(path, name, known)
    try:
        model.set_params(**{name: value for name, value in found.items() if name in known})
        handed_on = _handed_on(model)
        for name in set(found) - known:
            _check_known(path, name, handed_on)
        model.set_params(**found)
        for _, step in model.steps:
            if hasattr(step, "_parameter_constraints"):  # of skorch's it is another method
                step._validate_params()
        model.steps[0][1]._options()
        model._check()
    except (TypeError, ValueError) as error:
        raise Impossible(f"{path}: {error}" if path else error) from None
    return model


def _check_known(path, name, known):
    """Refuse a name that is not among those that are known."""
    if name not in known:
        near = difflib.get_close_matches(name, sorted(known), 3, 0.7)
        meant = f": is it {' or '.join(near)}?" if near else ""
        raise Impossible(f"{path} has an unknown parameter {name}{meant}")


def _part_of(name):
    """The part of the network that takes a parameter: clf__optimizer of clf__optimizer__lr."""
    return name.rpartition("__")[0] if name.startswith("clf__") and name.count("__") == 2 else None


def _handed_on(model):
    """Parameters of the network's parts, as clf__optimizer__lr."""
    found = set()
    for name, value in model.get_params().items():
        if name.startswith("clf__") and inspect.isclass(value):
            found |= {f"{name}__{own}" for own in inspect.signature(value).parameters}
    return found


def text_of(path):
    """What is in a file of YAML; a pipe can be read only once."""
    try:
        return "" if path is None else path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Impossible(f"{path} is no YAML: {error}") from None


def _read(path, text):
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Impossible(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise Impossible(f"{path} must have a line `name: value` for each parameter")
    choices = known_classes()["PatchNetClassifier"].choices
    classes = {f"clf__{name}": ones for name, ones in choices.items()}
    return {name: _named(path, name, value, classes.get(name)) for name, value in found.items()}


def _named(path, name, value, classes):
    """A class by its name, where a parameter is one."""
    if not classes or not isinstance(value, str):
        return value
    if value not in classes:
        listed = ", ".join(sorted(classes))
        raise Impossible(f"{path}: {name} must be one of {listed}, got {value!r}")
    return classes[value]
