"""Estimators as JSON and arrays, and back: what a safe file says, and what is made of it."""

from __future__ import annotations

import functools
import inspect
from importlib.util import find_spec

import torch
from joblib import cpu_count
from sklearn.base import BaseEstimator

from sklearn_patchcert._validation import BaseSearchCV, check_device
from sklearn_patchcert.files.archive import ModelFileError
from sklearn_patchcert.files.known_classes import known_classes
from sklearn_patchcert.files.values import decode, encode, shown

_DEVICES = ("cpu", "cuda", "mps", "xpu")
# What an option may ask of memory and time where the model is used.
_MOST = {"n_jobs": 4096, "batch_size": 2**20, "n": 10**7, "n0": 10**7}


def describe(estimator, arrays, where, trim, dropped, own):
    """JSON of an estimator.

    Parameters
    ----------
    estimator : estimator
    arrays : dict of str to ndarray
        The arrays of the fitted estimator are added.
    where : str
        Its place, for names of arrays and for errors.
    trim : bool
        As in :func:`files.save`.
    dropped : list of str
        Names of parameters that are left out are added.
    own : dict
        Modules of the user's own are added by their names.

    Returns
    -------
    description : JSON

    Raises
    ------
    TypeError
        If a class, a parameter or an attribute is none that a file can hold.
    """
    known = known_classes().get(type(estimator).__name__)
    if known is None or type(estimator) is not known.kind:
        raise TypeError(
            f"{where} is a {type(estimator).__qualname__}, and safe files hold only "
            f"{', '.join(known_classes())}. {_way_out(estimator)}"
        )

    def other(value, at):
        if isinstance(value, BaseEstimator):
            return {"estimator": describe(value, arrays, at, trim, dropped, own)}
        return str(value) if isinstance(value, torch.device) else None

    params, given = {}, estimator.get_params(deep=False)
    signature = inspect.signature(known.kind).parameters
    for name, value in given.items():
        at = f"{where}.{name}"
        choice = _choice(known.choices.get(name, {}), value)
        if choice is not None:
            params[name] = {"name": encode(list(choice), arrays, at)}
        elif _is_written(known, name, signature):
            params[name] = encode(value, arrays, at, other)
        elif name in signature and _same(value, signature[name].default):
            continue  # which a new one has anyway
        elif name == "module" and name in known.choices:
            params[name] = {"own": _named(value, own, at)}
        elif name in known.choices and name not in known.droppable:
            raise TypeError(
                f"{at} is {value!r:.80}, and safe files hold only {', '.join(known.choices[name])}."
            )
        else:
            dropped.append(at)
    state = vars(estimator)
    attributes = {**known.fitted, **known.optional}
    strange = state.keys() - given - attributes.keys() - known.derived - {"_sklearn_output_config"}
    there = known.fitted.keys() & state.keys()
    if strange or there not in (set(), known.fitted.keys()):
        raise TypeError(
            f"{where} is not as fit leaves a {known.kind.__name__}: a file has no place for "
            f"{sorted(strange)}, and {sorted(known.fitted.keys() - there)} are not there."
        )
    description = {"class": known.kind.__name__, "params": params, "fitted": None}
    if "_sklearn_output_config" in state:
        description["output"] = state["_sklearn_output_config"].get("transform")
    if there or not known.fitted:
        description["fitted"] = {
            name: encode(state[name], arrays, f"{where}.{name}", other)
            for name in attributes
            if name in state
        }
        if known.pack is not None:
            description["state"] = encode(known.pack(estimator, trim), arrays, where)
    return description


def _named(module, own, where):
    """The name of a module of the user's own, by which the reader of the file gives it."""
    kind = module if callable(module) and not isinstance(module, torch.nn.Module) else type(module)
    name = getattr(kind, "__name__", None)
    if name is None or not name.isidentifier():
        raise TypeError(
            f"{where} is {module!r:.80}, which has no name by which load could be given it: pass "
            "a class, a function with a name, or an instance of a module."
        )
    first = own.setdefault(name, module)
    if first is not module and not _is_copy(module, first):
        raise TypeError(f"There are two different modules {name!r}: give them different names.")
    return name


def _is_copy(module, other):
    """Whether two modules are alike, as a module and its copy inside a cloned estimator are."""
    if not isinstance(module, torch.nn.Module) or type(module) is not type(other):
        return False
    state, own = module.state_dict(), other.state_dict()
    return (
        _attributes(module) == _attributes(other)
        and state.keys() == own.keys()
        and all(
            state[name].dtype == own[name].dtype and torch.equal(state[name], own[name])
            for name in state
        )
    )


def _attributes(module):
    """The plain attributes of a module and of all modules inside it."""
    plain = (type(None), bool, int, float, str, tuple)
    return [
        (type(part), {name: value for name, value in vars(part).items() if type(value) in plain})
        for part in module.modules()
    ]


def _way_out(estimator):
    """What to do with an estimator that no file can hold.

    Files of skops are not put into ours: skops asks which types are trusted, but does not look at
    values, and a tree whose children point at each other or beyond its end hangs or crashes.
    """
    joblib = (
        "joblib.dump and joblib.load store anything, but loading such a file can run arbitrary "
        "code: only load files from people you trust."
    )
    if hasattr(estimator, "best_estimator_"):
        return "Save what the search has found: save(search.best_estimator_, path)."
    if isinstance(estimator, BaseSearchCV):
        return "Fit the search and save what it has found: save(search.best_estimator_, path)."
    if type(estimator).__module__.startswith("sklearn."):
        install = "" if find_spec("skops") else " (pip install skops)"
        return (
            f"Save the vocabulary here and this part with skops.io.dump{install}, whose files do "
            f"not run code; load both and put them into a CertifiedPatchClassifier. {joblib}"
        )
    return f"Save the parts of the model that are among these. {joblib}"


def _choice(table, value):
    """Name of a class or function, and the options where it is a partial of a function."""
    partial = isinstance(value, functools.partial) and not value.args
    thing, options = (value.func, dict(value.keywords)) if partial else (value, None)
    if partial and isinstance(thing, type):
        return None
    return next(((name, options) for name, one in table.items() if one is thing), None)


def _same(value, default):
    return value is default or (isinstance(value, str | bool) and value == default)


def _is_written(known, name, signature):
    """Whether any value of a parameter is written that can be."""
    if name in signature:
        return name not in known.droppable and name not in known.choices
    return name.startswith(known.prefixes) if known.prefixes else False


def rebuilt(description, supply, notes, level=1):
    """The estimator that :func:`describe` was given.

    Parameters
    ----------
    description : JSON
    supply : Supply
        The arrays, and the budget for what is made of the file.
    notes : list of str
        Sentences are added that the user should be told.
    level : int
        1 for the model, one more for what is in it.

    Returns
    -------
    estimator : estimator

    Raises
    ------
    ModelFileError
        If it describes nothing that one of the known classes can be.
    """
    supply.enter(level)
    known = known_classes()[description["class"]]
    try:
        return _estimator(known, description, supply, notes, level)
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(
            f"The file describes nothing that a {known.kind.__name__} can be: "
            f"{type(error).__name__}: {error!s:.300}"
        ) from error


def _estimator(known, description, supply, notes, level):
    if not description.keys() <= {"class", "params", "fitted", "output", "state"}:
        raise ValueError(f"unknown entries: {sorted(description)!r:.80}")

    def value(name, found):
        def other(kind, content):
            if kind != "estimator":
                raise LookupError(f"unknown kind of value: {kind!r:.40}")
            if name not in known.parts:
                raise ValueError(f"{name} holds an estimator, and it may hold only plain values")
            return rebuilt(content, supply, notes, level + 1)

        return decode(found, supply, other)

    params, signature = {}, inspect.signature(known.kind).parameters
    for name, found in description["params"].items():
        if name == "module" and set(found) == {"own"}:
            params[name] = _given(found["own"], supply)
        elif name in known.choices:
            label, options = decode(found["name"], supply)
            thing = known.choices[name][label]
            if options is not None and isinstance(thing, type):
                raise ValueError(f"{name} has options")
            params[name] = thing if options is None else functools.partial(thing, **options)
        elif _is_written(known, name, signature):
            params[name] = value(name, found)
        else:
            raise ValueError(f"{name!r:.40} is no parameter that a file has")
    _check_resources(known, params, notes)
    estimator = known.kind(**params)
    if "_parameter_constraints" in dir(known.kind):
        estimator._validate_params()
    output = description.get("output")
    if output is not None:
        if output not in ("default", "pandas", "polars"):
            raise ValueError(f"unknown output {shown(output)}")
        estimator.set_output(transform=output)
    fitted, state = description["fitted"], value("state", description.get("state"))
    if fitted is None and known.fitted:
        if state is not None:
            raise ValueError("it is not fitted, but has a state")
        return estimator
    if not known.fitted.keys() <= fitted.keys() <= {**known.fitted, **known.optional}.keys():
        raise ValueError(f"a fitted one has other attributes than {sorted(fitted)!r:.200}")
    for name, found in fitted.items():
        attribute = value(name, found)
        if not {**known.fitted, **known.optional}[name](attribute):
            raise ValueError(f"{name} is {shown(attribute)}, which a fit would not leave")
        setattr(estimator, name, attribute)
    known.check(estimator)
    if (known.pack is None) != (state is None):
        raise ValueError("the state is missing, or there should be none")
    if known.unpack is not None:
        known.unpack(estimator, state)
    return estimator


def _given(name, supply):
    """The module that the reader of the file gives for a name."""
    if type(name) is not str or not name.isidentifier():
        raise ValueError(f"{shown(name)} is no name of a module")
    if name not in supply.modules:
        raise ModelFileError(
            f"The file has the weights of a module {name:.80}, and no code: pass the class, the "
            "function or the instance that it was fitted with, as in "
            f"load(path, modules={{{name!r:.80}: ...}})."
        )
    return supply.modules[name]


def _check_resources(known, params, notes):
    """Parameters that speak of the machine: they were made for another one."""
    for name, most in _MOST.items():
        value = params.get(name)
        if type(value) is int and abs(value) > most:
            raise ValueError(f"{name} is {value!r:.40}, and a file may have at most {most}")
    jobs, device, cores = params.get("n_jobs"), params.get("device", "auto"), cpu_count()
    if jobs is not None and (type(jobs) is not int or jobs == 0):
        raise ValueError(f"n_jobs is {shown(jobs)}")
    if jobs is not None and jobs > cores:
        params["n_jobs"] = cores
        notes.append(
            f"{known.kind.__name__} was saved with n_jobs={jobs}, and this machine has {cores} "
            f"cores: it has n_jobs={cores} now."
        )
    if device == "auto":
        return
    name, _, index = device.partition(":") if type(device) is str else ("", "", "")
    if name not in _DEVICES or not (device == name or (index.isdecimal() and len(index) < 4)):
        raise ValueError(f"device is {shown(device)}")
    try:
        check_device(device)
    except ValueError:
        params["device"] = "auto"
        notes.append(
            f"{known.kind.__name__} was saved with device={device!r}, which is not here: it has "
            '"auto" now.'
        )
