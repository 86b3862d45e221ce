"""The card of a model file: plain values that say where a model comes from."""

from __future__ import annotations

import math
import os
from typing import Any

from sklearn_patchcert.files import archive

_DEPTH, _VALUES = 8, 10_000


def read_card(path: str | os.PathLike[str], *, max_bytes: int = archive.MAX_BYTES) -> dict:
    """Read what :func:`save` was told of a model, without opening the model.

    Parameters
    ----------
    path : path-like
    max_bytes : int, default=2**30
        A larger file is not read.

    Returns
    -------
    card : dict
        Empty where the file has none.

    Raises
    ------
    ModelFileError
        If it is no model file, or the card is none.
    OSError
        If there is no such file, or it may not be read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from sklearn_patchcert import PatchVocabulary, save
    >>> from sklearn_patchcert.files import read_card
    >>> vocabulary = PatchVocabulary.from_tokens([[0.0], [1.0]], patch_size=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "model.patchcert"
    ...     save(vocabulary, path, card={"made of": "black and white"})
    ...     read_card(path)
    {'made of': 'black and white'}
    """
    content, _ = archive.unpack(archive.read(path, max_bytes))
    try:
        return checked_card(content.get("card", {}))
    except (TypeError, ValueError) as error:
        raise archive.ModelFileError(f"The file has no card that is understood: {error}") from None


def checked_card(card: Any) -> dict:
    """The card, if it is a dict of plain values.

    Parameters
    ----------
    card : dict of str to plain values
        Texts, finite numbers, True, False, None, and lists and dicts of such.

    Returns
    -------
    card : dict

    Raises
    ------
    TypeError
        If a value is of another type.
    ValueError
        If there are too many, they are nested too deeply, or a number is not finite.
    """
    if type(card) is not dict:
        raise TypeError(f"card must be a dict, got {type(card).__name__}.")
    left = [(card, 1)]
    seen = 0
    while left:
        value, depth = left.pop()
        seen += 1
        if depth > _DEPTH or seen > _VALUES:
            raise ValueError(f"card must have at most {_VALUES} values, {_DEPTH} levels deep.")
        if type(value) is dict:
            names = [name for name in value if type(name) is not str]
            if names:
                raise TypeError(f"names in card must be str, got {type(names[0]).__name__}.")
            left += [(part, depth + 1) for part in value.values()]
        elif type(value) is list:
            left += [(part, depth + 1) for part in value]
        elif type(value) is float and not math.isfinite(value):
            raise ValueError("card must have finite numbers.")
        elif value is not None and type(value) not in (str, int, float, bool):
            raise TypeError(f"card must have plain values, got {type(value).__name__}.")
    return card
