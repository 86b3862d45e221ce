"""Files that are safe to open: save a fitted model, and load it whoever wrote the file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import sklearn
import torch

from sklearn_patchcert._version import __version__
from sklearn_patchcert.files import archive
from sklearn_patchcert.files.archive import ModelFileError
from sklearn_patchcert.files.budgets import Supply
from sklearn_patchcert.files.cards import checked_card
from sklearn_patchcert.files.descriptions import describe, rebuilt
from sklearn_patchcert.whole_files import clear_leftovers, replacing


def save(
    model: Any,
    path: str | os.PathLike[str],
    *,
    trim: bool = True,
    card: dict[str, Any] | None = None,
) -> None:
    """Write a fitted estimator to a file that is safe to open.

    The file is a zip archive of a JSON manifest, the arrays as safetensors, and their checksums.
    It holds no code, and names only classes from a table of known classes: the estimators of
    this library with the modules of :mod:`networks`, scikit-learn's Pipeline, FrozenEstimator,
    StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, OneHotEncoder, LogisticRegression and
    CategoricalNB, and losses and optimizers of torch.  Of a module of your own the file holds the
    weights and the name, and :func:`load` must be given the module.  Loading a joblib file can
    run arbitrary code, so use joblib for other classes only between people who trust each other.

    Parameters
    ----------
    model : estimator
        Alone, or a pipeline, a committee, a smoothed or a sticker-certified estimator of such.
    path : path-like
        Is replaced at once when the file is whole, or else stays as it was.
    trim : bool, default=True
        Whether to leave out what only `partial_fit` and `warm_start` of a network need, the state
        of the optimizer, about two thirds of its size, and the single batches of its history.
    card : dict or None, default=None
        Plain values, such as what the model was trained on, for :func:`files.read_card`.

    Raises
    ------
    TypeError
        If a class, a parameter, an attribute or a value of `card` is none that a file can hold.
    ValueError
        If the model is in a state that :func:`load` would refuse, such as weights that are NaN.

    Warns
    -----
    UserWarning
        If parameters that predictions do not need are left out, as they are code or places on this
        machine: `loss`, `denoiser` and `augment` of your own, callbacks, `train_split`, iterators,
        `compile`, `memory`.  The loaded model has their defaults, and so would a new fit of it.

    See Also
    --------
    load : The way back.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchVocabulary, load, save
    >>> X = load_digits().data
    >>> vocabulary = PatchVocabulary(n_tokens=8, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "vocabulary.patchcert"
    ...     save(vocabulary, path)
    ...     same = load(path)
    >>> bool((same.certify(X) == vocabulary.certify(X)).all())
    True
    """
    dropped: list = []
    arrays: dict = {}
    versions = {
        "sklearn_patchcert": __version__,
        "scikit-learn": sklearn.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    own: dict = {}
    description = describe(model, arrays, type(model).__name__, trim, dropped, own)
    content = {"versions": versions, "model": description}
    if card is not None:
        content["card"] = checked_card(card)
    data = archive.pack(content, arrays)
    try:
        content, arrays = archive.unpack(data)
        _opened(content, arrays, len(data), modules=own)
    except ModelFileError as error:
        raise ValueError(f"The model could not be loaded again: {error}") from error
    clear_leftovers(os.path.dirname(path) or ".")
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    if dropped:
        warnings.warn(
            f"Left out of the file, since predictions do not need them: {', '.join(dropped)}. "
            "The loaded model has the defaults there.",
            UserWarning,
            stacklevel=2,
        )


def load(
    path: str | os.PathLike[str],
    *,
    max_bytes: int = archive.MAX_BYTES,
    modules: Mapping[str, Any] | None = None,
) -> Any:
    """Load an estimator that :func:`save` wrote, safely even if somebody changed the file.

    Nothing in the file is executed, unpickled or imported.  Every byte is compared with what `save`
    would have written, the checksums with the contents, and all that the file says with what a
    fitted estimator can be.  The checksums find damage, not forgery: whoever can write the file can
    make another model of it, which may predict anything, but only predict.

    Parameters
    ----------
    path : path-like
    max_bytes : int, default=2**30
        A larger file is not read, and no values of more bytes are made of a file.  They are also
        at most 32 times the size of the file, and 64 MiB, since a file keeps equal arrays once.
    modules : dict of str to class, callable or torch.nn.Module, or None, default=None
        Modules of your own, by the names of their classes or functions: what the network was
        fitted with, ``{"MyNet": MyNet}``.  The file has their weights, and never their code.  An
        instance is copied.

    Returns
    -------
    model : estimator
        Predictions, radii and certificates are, bit for bit, those of the saved one on the same
        machine with the same versions of the libraries.  It can be cloned and fitted again.

    Raises
    ------
    ModelFileError
        If the file is truncated, damaged, tampered with, too large, foreign, of another version of
        the format, or describes no model that can be; if a module of your own is missing in
        `modules`, or is not the one that was saved, by its sizes and by what it answers.
    OSError
        If there is no such file, or it may not be read.

    Warns
    -----
    UserWarning
        If another version of this library wrote the file; or if it asks for a device that is not
        here, which becomes "auto", or for more threads than there are cores, which become as many.

    See Also
    --------
    save

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from sklearn_patchcert import PatchVocabulary, load, save
    >>> vocabulary = PatchVocabulary.from_tokens([[0.0], [1.0]], patch_size=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "vocabulary.patchcert"
    ...     save(vocabulary, path)
    ...     load(path).vocabulary_
    array([[0.],
           [1.]])
    """
    data = archive.read(path, max_bytes)
    content, arrays = archive.unpack(data)
    model, version, notes = _opened(content, arrays, len(data), max_bytes, modules)
    if version != __version__:
        notes = [
            f"The file was written by sklearn_patchcert {version:.40} and is read by "
            f"{__version__}: fit the model again where results must not differ.",
            *notes,
        ]
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    return model


def _opened(content, arrays, size=0, max_bytes=None, modules=None):
    """The model, the version of the library that wrote it, and what a user should be told."""
    supply = Supply(arrays, size, max_bytes, modules)
    notes: list = []
    try:
        checked_card(content.get("card", {}))
        if {*content, "card"} != {"format", "format_version", "versions", "model", "card"}:
            raise ValueError(f"unknown entries: {sorted(content)!r:.80}")
        version = content["versions"]["sklearn_patchcert"]
        if type(version) is not str:
            raise TypeError("the version of the library is no text")
        model = rebuilt(content["model"], supply, notes)
        if supply.used != set(arrays):
            unused = sorted(set(arrays) - supply.used)
            raise ValueError(f"nothing uses the arrays {unused!r:.80}")
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(
            f"The file describes no model: {type(error).__name__}: {error!s:.300}"
        ) from error
    return model, version, notes
