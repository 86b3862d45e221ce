"""Certify more images than fit in memory, chunk by chunk, into a file that survives a kill.

The order in which things reach the disk is what makes a run resumable: a chunk's radii are written
and synchronized first, and only then does the record beside the output name the chunk, with a
checksum of its bytes.  So a kill, at whatever moment, can lose work but never claim work that is
not there, and what is damaged later is found by its checksum.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import joblib
from filelock import FileLock, Timeout
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from sklearn_patchcert._layouts import check_layout
from sklearn_patchcert._validation import told_shape
from sklearn_patchcert._version import __version__
from sklearn_patchcert.outofcore.stores import (
    Record,
    checksum,
    checksum_as_given,
    files_of,
    is_within,
    open_images,
    output,
)
from sklearn_patchcert.voronoi import certificate

_VALUES_IN_CHUNK = 2**25


def certify_to(
    model: Any,
    images: Any,
    path: str | os.PathLike[str],
    *,
    norm: str = "l2",
    chunk_size: int | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> Any:
    """Certify images chunk by chunk into a file, and continue after an interruption.

    Radii are those of ``model.certify(images, norm)``, to the last bit, whatever the chunks are and
    however often the work was interrupted.  No more than a chunk of images and its radii are held
    at a time.  What a chunk costs is divided as ``certify`` divides it: into threads by the
    vocabulary's `n_jobs`, or over a cluster by ``joblib.parallel_config``.

    Parameters
    ----------
    model : fitted PatchVocabulary, CertifiedPatchClassifier or CertifiedPatchRegressor
        Or a search over such.
    images : str, path or array of shape (n, n_features), (n, H, W) or (n, H, W, C)
        A path names a .npy file, which is mapped and never read as a whole, or a .zarr folder.  An
        array may be of any kind that has a shape, a dtype and slices: NumPy's, memory-mapped or
        not, Dask's, Zarr's, h5py's.
    path : str or path
        Of the output: ``*.npy``, or ``*.zarr`` with a chunk of the file for each chunk of images.
        Beside it stand the record of finished chunks, ``path + ".progress"``, and a lock.
    norm : {"l2", "linf", "l1"}, default="l2"
        The norm, within a patch, of the perturbation.
    chunk_size : int or None, default=None
        Images in a chunk.  None: about 32 million values, in whole chunks of an array that has
        chunks of its own.  With many workers make it larger: they share one chunk at a time.
    overwrite : bool, default=False
        What becomes of an output that cannot be continued, because it comes from another model,
        norm, chunk size, version or other images, or has no record: an error, or a new start.  A
        run that can be continued is continued in any case.
    verbose : bool, default=False
        Whether to show a progress bar.

    Returns
    -------
    radii : ndarray of float64 (n, rows, cols) or (n, rows, cols, C), or zarr.Array
        In the units of the images, rounded down; mapped or opened for reading.

    Raises
    ------
    FileExistsError
        If there is something at `path` that has no record.
    ValueError
        If the output comes from other settings or other images, or it or its record is damaged; if
        the output is the file of the images; or if some images are bad. Those before them stay
        certified.
    TypeError
        If the model has no patch certificate, or the images no shape.
    RuntimeError
        If another process writes to `path`.

    Notes
    -----
    A run that goes on compares the checksums of every finished chunk's images and radii, and
    certifies one of these chunks again: if its radii differ by a single bit, the machine is not the
    same, and nothing is continued.  Until a run has ended, radii not yet computed are 0 in a .npy
    file and NaN in a .zarr folder.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchVocabulary
    >>> from sklearn_patchcert.outofcore import certify_to
    >>> X = load_digits().images
    >>> vocabulary = PatchVocabulary(8, 4, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     radii = certify_to(vocabulary, X, Path(folder) / "radii.npy", chunk_size=500)
    ...     bool((radii == vocabulary.certify(X)).all())
    True
    """
    model = getattr(model, "best_estimator_", model)
    read, shape, dtype, chunk = open_images(images)
    vocabulary = model._split()[1] if hasattr(model, "_split") else model
    fitted = getattr(vocabulary, "image_shape_", None)
    check_layout(shape, owner=type(vocabulary).__name__, fitted=fitted, outright=True)
    if chunk_size is None:
        chunk_size = max(chunk, _VALUES_IN_CHUNK // math.prod(shape[1:]) // chunk * chunk)
    if isinstance(chunk_size, bool) or not chunk_size >= 1:
        raise ValueError(f"chunk_size must be at least 1 or None, got {chunk_size!r}.")
    settings = {
        "library": __version__,
        "model": _fingerprint(model),
        "norm": certificate.check_norm(norm),
        "images": [list(shape), dtype],
        "chunk_size": int(chunk_size),
    }
    starts = range(0, shape[0], settings["chunk_size"])
    path = Path(os.path.realpath(path))  # the lock and the record of all links to it are the same
    store, record = output(path, starts), Record(path)
    lock = path.with_name(f"{path.name}.lock")
    _check_apart(images, [path, record.path, record.fresh, lock])

    def holds_images():
        return store.holds(read, shape)

    def certified(index):
        rows = store.rows(index)
        part = read(rows.start, rows.stop)
        of_images = checksum_as_given(part)  # before anything can work in place
        try:
            return model.certify(part, norm), of_images
        except ValueError as error:
            raise ValueError(f"Images {rows.start} to {rows.stop - 1}: {error}") from error

    def of_images(index):
        rows = store.rows(index)
        return checksum_as_given(read(rows.start, rows.stop))

    bar = tqdm(desc=path.name, total=shape[0], unit="image", disable=not verbose)
    try:
        with FileLock(lock, timeout=0), bar:
            look = certified, of_images
            done = _continued(store, record, settings, look, overwrite, holds_images)
            bar.update(sum(rows.stop - rows.start for rows in map(store.rows, done)))
            for index in range(len(starts)):
                if index in done:
                    continue
                radii, seen = certified(index)
                if not done:
                    store.create(radii.shape[1:])
                store.write(index, radii)  # first the radii, then the record
                done[index] = checksum(radii), seen
                record.add(index, done[index])
                bar.update(len(radii))
            return store.view()
    except Timeout:
        raise RuntimeError(f"Another process is writing to {path}: wait for its end.") from None


def _check_apart(images, written):
    """Refuse to write to a file that images are read from."""
    for name in files_of(images):
        for path in written:
            if is_within(name, path) or is_within(path, name):
                raise ValueError(
                    f"The images are read from {name}, and {path} would be written there: choose "
                    "another path for the output."
                )


def _continued(store, record, settings, look, overwrite, holds_images):
    """Checksums of the finished chunks of an output; a record that names these and no others."""
    try:
        done = _finished(store, record, settings, *look)
    except (FileExistsError, ValueError) as error:
        if not overwrite:
            raise type(error)(
                f"{store.path} cannot be continued: {error} Choose another path, or pass "
                "overwrite=True to start again."
            ) from error
        if holds_images():  # an array need not tell from which file it comes
            raise ValueError(
                f"{store.path} holds these images: choose another path for the output."
            ) from error
        done = {}
    record.write(settings, done)
    return done


def _finished(store, record, settings, certified, of_images):
    """Checksums, by their index, of the chunks that are there as they should be."""
    known = record.read()
    if known is None:
        if store.path.exists():
            raise FileExistsError(f"it exists, but {record.path.name} does not.")
        return {}
    before, sums = known
    other = [name for name in settings if before.get(name) != settings[name]]
    if other:
        listed = ", ".join(f"{name} {before.get(name)!r}, now {settings[name]!r}" for name in other)
        raise ValueError(f"it was made with {listed}.")
    if not sums or not store.path.exists():
        return {}
    if not all(0 <= index < len(store.starts) for index in sums):
        raise ValueError(f"{record.path} names chunks that the output does not have.")
    first = min(sums)
    radii, seen = certified(first)
    for index in sums:
        if (seen if index == first else of_images(index)) != sums[index][1]:
            rows = store.rows(index)
            raise ValueError(f"the images {rows.start} to {rows.stop - 1} are other images now.")
    if checksum(radii) != sums[first][0]:
        rows = store.rows(first)
        raise ValueError(
            f"the radii of the images {rows.start} to {rows.stop - 1} are others now, of the same "
            "images: this is another machine."
        )
    try:
        same = store.is_as_created(radii.shape[1:])
        done = {i: sum_ for i, sum_ in sums.items() if same and checksum(store.read(i)) == sum_[0]}
    except PermissionError:
        raise
    except Exception as error:  # whatever a damaged file makes of its reader
        raise ValueError(f"it is damaged ({type(error).__name__}: {error}).") from error
    if not same:
        raise ValueError(
            "its size, shape, dtype or layout is not what was written: something has changed it."
        )
    return done


def _fingerprint(model):
    """Hash of all that the radii depend on."""
    before, vocabulary = model._split() if hasattr(model, "_split") else ([], model)
    if not hasattr(vocabulary, "_code"):
        raise TypeError(
            f"{type(model).__name__} has no patch certificate: pass a PatchVocabulary, a "
            "CertifiedPatchClassifier or a CertifiedPatchRegressor. What holds several of them is "
            "certified in memory, by sklearn_patchcert.certify(model, X)."
        )
    check_is_fitted(vocabulary, "vocabulary_")
    return joblib.hash([before, vocabulary._code(), told_shape(vocabulary)])
