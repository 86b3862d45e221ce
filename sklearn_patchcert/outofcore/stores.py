"""Files for work in chunks: images to read, radii to write, and a record of what is finished."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import numpy as np

from sklearn_patchcert._layouts import as_batch


def open_images(images):
    """How to read images, given as a path or as any array that can be sliced.

    Parameters
    ----------
    images : str, path or array (n, ...)

    Returns
    -------
    read : callable, (start, stop) -> ndarray (stop - start, ...)
    shape : tuple of int
    dtype : str
    chunk : int
        Images that are best read together.

    Raises
    ------
    TypeError
        If the images have no shape, dtype or slices.
    ValueError
        If there are none, or if their number is not known.
    """
    if isinstance(images, str | os.PathLike):
        path = Path(images)

        def opened():
            return _zarr(path, "r") if path.suffix == ".zarr" else _npy(path)

        array = opened()
    else:
        array = images = as_batch(images)

        def opened():
            return images

    if not all(hasattr(array, name) for name in ("shape", "dtype", "__getitem__")):
        raise TypeError(
            f"images must be a path or an array with a shape, a dtype and slices, got "
            f"{type(images).__name__}."
        )
    shape = tuple(as_batch(array).shape)
    if len(shape) < 2 or not all(size > 0 for size in shape):  # a size that Dask lacks is NaN
        raise ValueError(f"images must be (n, ...) with sizes that are known, got {shape}.")
    chunks = (getattr(array, "chunks", None) or [1])[0]
    chunk = chunks[0] if isinstance(chunks, tuple) else chunks

    def read(start, stop):
        return np.asarray(opened()[start:stop])  # a file is mapped anew: its pages are let go

    return read, tuple(map(int, shape)), str(array.dtype), int(chunk)


def output(path, starts):
    """The store that a path names.

    Parameters
    ----------
    path : Path
    starts : range
        ``range(0, n, chunk_size)``.

    Returns
    -------
    store : NpyStore or ZarrStore

    Raises
    ------
    ValueError
        If the name ends with neither .npy nor .zarr.
    """
    kinds = {".npy": NpyStore, ".zarr": ZarrStore}
    if path.suffix not in kinds:
        raise ValueError(f"The output must be a .npy or a .zarr, got {path.name!r}.")
    return kinds[path.suffix](path, starts)


class _Store:
    """Chunks of rows of float64, each on the disk when `write` returns.

    Parameters
    ----------
    path : Path
    starts : range
    """

    def __init__(self, path, starts):
        self.path, self.starts = path, starts

    def rows(self, index):
        """The slice of rows of a chunk."""
        start = self.starts[index]
        return slice(start, min(start + self.starts.step, self.starts.stop))

    def view(self):
        """The whole, opened for reading."""
        raise NotImplementedError

    def read(self, index):
        """Rows of a chunk, ndarray."""
        return np.asarray(self.view()[self.rows(index)])


class NpyStore(_Store):
    """A .npy file: written at its place, so that a full disk is an error and not a crash."""

    def create(self, row_shape):
        """Make a file of zeros, without taking up its space."""
        with open(self.path, "wb") as file:
            shape = self.starts.stop, *row_shape
            header = {"descr": "<f8", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + 8 * int(np.prod(shape)))
            _synchronise(file)
        _synchronise_folder(self.path.parent)

    def view(self):
        """The whole, mapped for reading."""
        return _npy(self.path)

    def write(self, index, rows):
        """Write the rows (chunk_size, ...) of a chunk."""
        offset = self.view().offset + self.starts[index] * rows[0].nbytes
        with open(self.path, "r+b") as file:
            file.seek(offset)
            file.write(rows.astype("<f8", order="C", copy=False).data)
            _synchronise(file)


class ZarrStore(_Store):
    """A .zarr folder with a file for each chunk."""

    def create(self, row_shape):
        """Make an empty folder in the place of what is there."""
        import zarr

        zarr.create_array(
            store=str(self.path),
            shape=(self.starts.stop, *row_shape),
            chunks=(self.starts.step, *row_shape),
            dtype="float64",
            fill_value=np.nan,
            overwrite=True,
        )
        for file in self.path.iterdir():
            with open(file, "rb+") as opened:  # Windows flushes no file that is only read
                _synchronise(opened)
        _synchronise_folder(self.path)

    def view(self):
        """The whole, opened for reading."""
        return _zarr(self.path, "r")

    def write(self, index, rows):
        """Write the rows (chunk_size, ...) of a chunk."""
        array = _zarr(self.path, "r+")
        array[self.rows(index)] = rows
        key = array.metadata.encode_chunk_key((index, *[0] * (rows.ndim - 1)))
        file = self.path / key
        with open(file, "rb+") as opened:
            _synchronise(opened)
        while file != self.path:
            file = file.parent
            _synchronise_folder(file)


class Record:
    """Which chunks of an output are finished: a line for each, below one of the settings.

    A line that is not whole counts for nothing, since a kill may leave it so.

    Parameters
    ----------
    path : Path
        Of the output.
    """

    def __init__(self, path):
        self.path = path.with_name(f"{path.name}.progress")

    def read(self):
        """Settings, and checksums by chunk; None where there is no record."""
        if not self.path.exists():
            return None
        lines = [_parsed(line) for line in self.path.read_text(encoding="utf-8").split("\n")]
        if not isinstance(lines[0], dict):
            raise ValueError(f"{self.path} is no record of finished chunks.")
        return lines[0], dict(line for line in lines[1:] if isinstance(line, list))

    def write(self, settings, sums):
        """Begin the record anew, in one step."""
        fresh = self.path.with_name(f"{self.path.name}.new")
        lines = [settings, *([index, found] for index, found in sums.items())]
        with open(fresh, "w", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            _synchronise(file)
        fresh.replace(self.path)
        _synchronise_folder(self.path.parent)

    def add(self, index, found):
        """Note that a chunk is finished, with the checksum of its rows."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps([index, found]) + "\n")
            _synchronise(file)


def checksum(rows):
    """Of the bytes of rows, the same for the same values and shape."""
    return zlib.crc32(np.ascontiguousarray(rows, dtype="<f8").data, len(rows))


def _parsed(line):
    try:
        return json.loads(line)
    except ValueError:
        return None


def _npy(path):
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _zarr(path, mode):
    try:
        import zarr
    except ImportError as error:
        raise ImportError(f"{path} needs zarr: pip install sklearn-patchcert[zarr].") from error
    return zarr.open_array(store=str(path), mode=mode)


def _synchronise(file):
    file.flush()
    os.fsync(file.fileno())


def _synchronise_folder(folder):
    """Have the names in a folder on the disk, where the system knows how."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
