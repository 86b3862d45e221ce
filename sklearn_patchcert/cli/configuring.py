"""Parameters of a model from a file of YAML, checked before anything is read."""

from __future__ import annotations

import difflib
import inspect

from sklearn_patchcert.cli.options import Impossible
from sklearn_patchcert.files.known_classes import known_classes


def configured(model, path):
    """Set the parameters that a file names, and check all of them.

    Parameters
    ----------
    model : Pipeline
    path : Path or None
        A file of YAML, with a line ``name: value`` for each parameter.  Names of networks, losses
        and optimizers become the classes.

    Returns
    -------
    model : Pipeline

    Raises
    ------
    Impossible
        If the file is no such, a parameter is unknown, or a value is out of range.
    """
    found = {} if path is None else _read(path)
    known = set(model.get_params())
    for name, step in model.steps:  # also those that a network hands on, as clf__module__width
        known |= {f"{name}__{own}" for own in inspect.signature(type(step)).parameters}
    for name in found:
        handed_on = any(name.startswith(f"{one}__") for one in known - set(dict(model.steps)))
        if name not in known and not handed_on:
            near = difflib.get_close_matches(name, sorted(known), 3, 0.7)
            meant = f": is it {' or '.join(near)}?" if near else ""
            raise Impossible(f"{path} has an unknown parameter {name}{meant}")
    try:
        model.set_params(**found)
        for _, step in model.steps:
            step._validate_params()
        model.steps[0][1]._options()
        model._check()
    except (TypeError, ValueError) as error:
        raise Impossible(f"{path}: {error}" if path else error) from None
    return model


def _read(path):
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Impossible(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise Impossible(f"{path} must have a line `name: value` for each parameter")
    choices = known_classes()["PatchNetClassifier"].choices
    classes = {f"clf__{name}": ones for name, ones in choices.items()}
    for name, value in found.items():
        if name in classes and isinstance(value, str):
            if value not in classes[name]:
                raise Impossible(
                    f"{path}: {name} must be one of {', '.join(sorted(classes[name]))}, "
                    f"got {value!r}"
                )
            found[name] = classes[name][value]
    return found
