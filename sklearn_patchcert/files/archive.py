"""The file format: a zip archive of a JSON manifest and arrays, of which every byte is checked.

Nothing here knows what the manifest says of the arrays; :mod:`files.model_files` does.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import struct
import zlib

FORMAT = "sklearn_patchcert"
FORMAT_VERSION = 1
MAX_BYTES = 2**30
_MANIFEST, _ARRAYS, _SUMS = "manifest.json", "arrays.safetensors", "SHA256SUMS"
_MANIFEST_BYTES = 2**24
_ZIP_BYTES = 2**32 - 2**16  # what a zip archive holds without its 64-bit extension
_HEADER = struct.Struct("<4s5H3I2H")


class ModelFileError(ValueError):
    """The file is not a model file, is damaged, or describes a model that must not be opened.

    The only exception with which :func:`sklearn_patchcert.load` refuses what a file holds.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from sklearn_patchcert import ModelFileError, load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "model.patchcert"
    ...     _ = path.write_bytes(b"no model")
    ...     try:
    ...         load(path)
    ...     except ModelFileError:
    ...         print("refused")
    refused
    """


def pack(content, arrays):
    """The bytes of a file.

    The same content always gives the same bytes: members are stored one after the other, without
    compression, dates or anything else that could differ.

    Parameters
    ----------
    content : dict
        What the manifest says; plain JSON, finite numbers.
    arrays : dict of str to ndarray
        Contiguous.

    Returns
    -------
    data : bytes

    Raises
    ------
    ValueError
        If it is more than a file may hold.
    """
    from safetensors.numpy import save

    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, **content}
    text = json.dumps(manifest, allow_nan=False).encode()
    members = {_MANIFEST: text, _ARRAYS: save(arrays)}
    members[_SUMS] = _sums(members)
    if len(text) > _MANIFEST_BYTES or sum(map(len, members.values())) > _ZIP_BYTES:
        raise ValueError(
            f"The model is too large for a file: {len(text)} bytes of parameters (at most "
            f"{_MANIFEST_BYTES}) and {len(members[_ARRAYS])} of arrays (at most {_ZIP_BYTES})."
        )
    heads, tail = _frame(members)
    parts = zip(heads, members.values(), strict=True)
    return b"".join([*(piece for pair in parts for piece in pair), tail])


def unpack(data):
    """What :func:`pack` was given; the bytes must be those, and all those, that it makes.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    content : dict
        With "format" and "format_version".
    arrays : dict of str to ndarray

    Raises
    ------
    ModelFileError
        If a single bit is another.
    """
    members = _members(data)
    if _sums(members) != members[_SUMS]:
        raise ModelFileError("The file is damaged: its contents do not have the checksums it says.")
    content = _parsed(members[_MANIFEST])
    if content.get("format") != FORMAT:
        raise ModelFileError(f"The file says of itself that it is {content.get('format')!r:.40}.")
    version = content.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise ModelFileError(
            f"The file has format version {version!r:.40}, and this library reads "
            f"{FORMAT_VERSION}: update sklearn_patchcert, or save the model again."
        )
    return content, _arrays(members[_ARRAYS])


def _frame(members):
    """Headers of the members, and what stands after the last: the directory and the end."""
    heads, directory, offset = [], b"", 0
    for name, data in members.items():
        # Version 2.0 of the format, no flags, not compressed, 1 January 1980.
        size = len(data)
        entry = 20, 0, 0, 0, 33, zlib.crc32(data), size, size, len(name), 0
        heads.append(_HEADER.pack(b"PK\3\4", *entry) + name.encode())
        directory += struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, *entry, 0, 0, 0, 0, offset)
        directory += name.encode()
        offset += len(heads[-1]) + size
    n = len(members)
    return heads, directory + struct.pack(
        "<4s4H2IH", b"PK\5\6", 0, 0, n, n, len(directory), offset, 0
    )


def _members(data):
    """Contents by name, once all that is around them is what pack makes of them."""
    if not data.startswith(b"PK\3\4"):
        raise ModelFileError(
            "This is no model file: those are zip archives. Files of joblib or pickle are read by "
            "these, and only where you trust them."
        )
    members, found, at = {}, [], 0
    for name in (_MANIFEST, _ARRAYS, _SUMS):
        start = at + _HEADER.size + len(name)
        if len(data) < start:
            raise ModelFileError(f"The file ends before {name}: it is truncated.")
        size, length = struct.unpack_from("<IH", data, at + 22)
        named = data[start - len(name) : start - len(name) + length]
        if data[at : at + 4] != b"PK\3\4" or named != name.encode():
            raise ModelFileError(
                f"The archive has {named[:60]!r} where {name!r} must be: it is no model file, or "
                "it is damaged."
            )
        if len(data) < start + size:
            raise ModelFileError(
                f"The file ends inside {name}, which has {size} bytes: it is truncated or damaged."
            )
        found.append(data[at:start])
        members[name] = data[start : start + size]
        at = start + size
    heads, tail = _frame(members)
    if found != heads or data[at:] != tail:
        raise ModelFileError(
            "The archive is damaged or was packed by something else: `save` compresses nothing, "
            "and there is nothing before, between, behind or beside its three members."
        )
    return members


def _sums(members):
    """Checksums of the manifest and the arrays, as sha256sum writes and checks them."""
    return b"".join(
        f"{hashlib.sha256(members[name]).hexdigest()}  {name}\n".encode()
        for name in (_MANIFEST, _ARRAYS)
    )


def _parsed(text):
    """A JSON object without repeated names, infinities and NaN."""

    def unique(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name stands twice in an object")
        return found

    def finite(digits):
        value = float(digits)
        if not math.isfinite(value):
            raise ValueError(f"{digits[:40]} is no finite number")
        return value

    if len(text) > _MANIFEST_BYTES:
        raise ModelFileError(f"The manifest has {len(text)} bytes, more than {_MANIFEST_BYTES}.")
    try:
        found = json.loads(
            text.decode(), object_pairs_hook=unique, parse_float=finite, parse_constant=finite
        )
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"The manifest is no JSON that is understood here: {error}") from error
    if not isinstance(found, dict):
        raise ModelFileError("The manifest is no JSON object.")
    return found


def _arrays(data):
    from safetensors.numpy import load

    try:
        return load(data)
    except Exception as error:  # of several kinds, which its documentation does not name
        raise ModelFileError(f"The arrays are no safetensors that NumPy has: {error}") from error


def read(path, max_bytes=MAX_BYTES):
    """Read a file whole, unless it is too large.

    Parameters
    ----------
    path : path-like
    max_bytes : int

    Returns
    -------
    data : bytes

    Raises
    ------
    OSError
        If the file is not there or not to be read.
    ModelFileError
        If it is no regular file, or larger.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ModelFileError(f"{os.fspath(path)!r} is no regular file.")
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        data = b"" if size > max_bytes else stream.read(size + 1)  # one more, if it grows
    if max(size, len(data)) > max_bytes:
        raise ModelFileError(
            f"{os.fspath(path)!r} has {size} bytes, more than max_bytes={max_bytes}: pass more if "
            "you expect it."
        )
    return data
