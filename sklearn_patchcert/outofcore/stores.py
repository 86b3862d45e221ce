"""Files for work in chunks: images to read, radii to write, and a record of what is finished."""

from __future__ import annotations

import io
import json
import math
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
        If there are none, if their number is not known, or if the file is none of arrays.
    """
    if isinstance(images, str | os.PathLike):
        path = Path(images)

        def opened():
            return _zarr(path, "r") if path.suffix == ".zarr" else _npy(path)

        try:
            array = opened()
        except (EOFError, ValueError) as error:
            raise ValueError(f"{path} holds no images that can be read: {error}") from error
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


def files_of(images):
    """Names of the files that images are read from, as far as they can be told.

    Parameters
    ----------
    images : str, path or array

    Returns
    -------
    names : list of str
    """
    if isinstance(images, str | os.PathLike):
        return [os.fspath(images)]
    names, array = [], images
    while array is not None:  # an array may be a view of a mapped file
        of_zarr = getattr(getattr(array, "store", None), "root", None)
        of_h5py = getattr(getattr(array, "file", None), "filename", None)
        names += [getattr(array, "filename", None), of_zarr, of_h5py]
        array = getattr(array, "base", None)
    return [os.fspath(name) for name in names if isinstance(name, str | os.PathLike)]


def is_within(name, folder):
    """Whether two names lead to the same file, or the first into the second, a folder.

    Parameters
    ----------
    name, folder : str or path
        Neither has to exist.

    Returns
    -------
    within : bool
    """
    if os.path.exists(name) and os.path.exists(folder) and os.path.samefile(name, folder):
        return True  # a hard link, or another spelling
    inner, outer = Path(os.path.realpath(name)), Path(os.path.realpath(folder))
    return outer == inner or outer in inner.parents


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

    def is_as_created(self, row_shape):
        """Whether all but the rows is what `create` would make."""
        raise NotImplementedError

    def holds(self, read, shape):
        """Whether what is there begins with the images, or the images with what is there.

        Parameters
        ----------
        read, shape
            As :func:`open_images` returns them.

        Returns
        -------
        same : bool
        """
        try:
            found = self.view()
        except Exception:  # whatever a damaged file makes of its reader
            return False
        n = min(found.shape[0], shape[0]) if found.ndim > 1 else 0
        if n == 0 or math.prod(found.shape[1:]) != math.prod(shape[1:]):
            return False

        def same(start, stop):
            rows = np.asarray(found[start:stop])
            return bool((rows == np.reshape(read(start, stop), rows.shape)).all())

        step = self.starts.step
        return same(0, 1) and all(same(i, min(i + step, n)) for i in range(0, n, step))

    def read(self, index):
        """Rows of a chunk, ndarray."""
        return np.asarray(self.view()[self.rows(index)])


class NpyStore(_Store):
    """A .npy file: written at its place, so that a full disk is an error and not a crash."""

    def create(self, row_shape):
        """Make a file of zeros, without taking up its space."""
        header, size = self._header(row_shape)
        with open(self.path, "wb") as file:
            file.write(header)
            file.truncate(size)
            _synchronise(file)
        _synchronise_folder(self.path.parent)

    def _header(self, row_shape):
        """The bytes before the rows, and the size of the file."""
        shape = self.starts.stop, *row_shape
        file = io.BytesIO()
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        return file.getvalue(), file.tell() + 8 * math.prod(shape)

    def is_as_created(self, row_shape):
        """Whether all but the rows is what `create` would make."""
        header, size = self._header(row_shape)
        with open(self.path, "rb") as file:
            return file.read(len(header)) == header and file.seek(0, os.SEEK_END) == size

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
        if self.path.is_file():
            self.path.unlink()
        self._created(str(self.path), row_shape)
        for file in self.path.iterdir():
            with open(file, "rb+") as opened:  # Windows flushes no file that is only read
                _synchronise(opened)
        _synchronise_folder(self.path)

    def _created(self, store, row_shape):
        import zarr

        return zarr.create_array(
            store=store,
            shape=(self.starts.stop, *row_shape),
            chunks=(self.starts.step, *row_shape),
            dtype="float64",
            fill_value=np.nan,
            overwrite=True,
        )

    def is_as_created(self, row_shape):
        """Whether all but the rows is what `create` would make."""
        found, expected = self.view().metadata, self._created({}, row_shape).metadata
        return json.dumps(found.to_dict(), default=str) == json.dumps(
            expected.to_dict(), default=str
        )

    def view(self):
        """The whole, opened for reading."""
        return _zarr(self.path, "r")

    def write(self, index, rows):
        """Write the rows (chunk_size, ...) of a chunk."""
        array = _zarr(self.path, "r+")
        key = array.metadata.encode_chunk_key((index, *[0] * (rows.ndim - 1)))
        file = self.path / key
        if file.exists():  # what a kill has left may be damaged, and must not be read
            file.unlink()
        for partial in file.parent.glob(f"{file.name}.*.partial"):  # zarr's own
            partial.unlink()
        array[self.rows(index)] = rows
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
        self.fresh = path.with_name(f"{path.name}.progress.new")

    def read(self):
        """Settings, and checksums by chunk, of its radii and images; None without a record."""
        if not self.path.exists():
            return None
        lines = self.path.read_bytes().decode("utf-8", "replace").split("\n")
        first, *others = map(_parsed, lines)
        if others and others[-1] is None:
            others.pop()
        whole = [
            isinstance(line, list) and len(line) == 3 and all(type(part) is int for part in line)
            for line in others
        ]
        if not isinstance(first, dict) or not all(whole):
            raise ValueError(
                f"{self.path} is no record of finished chunks of this version, or is damaged."
            )
        return first, {index: tuple(found) for index, *found in others}

    def write(self, settings, sums):
        """Begin the record anew, in one step."""
        lines = [settings, *([index, *found] for index, found in sums.items())]
        with open(self.fresh, "w", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            _synchronise(file)
        self.fresh.replace(self.path)
        _synchronise_folder(self.path.parent)

    def add(self, index, found):
        """Note that a chunk is finished, with the checksums of its radii and its images."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps([index, *found]) + "\n")
            _synchronise(file)


def checksum(rows):
    """Of the bytes of rows, the same for the same values and shape."""
    return zlib.crc32(np.ascontiguousarray(rows, dtype="<f8").data, len(rows))


def checksum_as_given(images):
    """Of the bytes of images, in the dtype in which they are read."""
    values = np.asarray(images)
    values = values.astype(float) if values.dtype.kind == "O" else np.ascontiguousarray(values)
    return zlib.crc32(values.reshape(-1).view(np.uint8).data)


def _parsed(line):
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
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
