"""A folder of pictures, with a subfolder for each class, as images and labels."""

from __future__ import annotations

import collections
import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch
from tqdm.auto import tqdm

from sklearn_patchcert._version import __version__
from sklearn_patchcert.datasets.pictures import picture_suffixes
from sklearn_patchcert.datasets.readers import ImageReader
from sklearn_patchcert.whole_files import clear_leftovers, replacing

JOURNAL = ".patchcert.jsonl"  # what `patchcert certify` leaves in the folder that it writes to
OF_MAPS = "maps that patchcert certify wrote"
_MAPS = tuple(f".{what}.{end}" for what in ("radii", "places", "overlay") for end in ("png", "npy"))
_AT_ONCE = 256  # pictures between two writes to the cache


def load_image_folder(
    path: str | os.PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    mode: str = "RGB",
    resize: str | None = "crop",
    interpolation: str = "bilinear",
    background: str = "white",
    n_jobs: int | None = None,
    categories: list[str] | None = None,
    load_content: bool = True,
    cache: str | os.PathLike[str] | None = None,
    on_error: str = "warn",
    verbose: bool = False,
) -> Bunch:
    """Load pictures whose classes are the subfolders of a folder.

    This is the layout of :func:`sklearn.datasets.load_files` and of torchvision's ImageFolder::

        folder/cats/anything.jpg
        folder/cats/deeper/down.PNG
        folder/dogs/other.webp

    Parameters
    ----------
    path : path-like
    image_size, mode, resize, interpolation, background, n_jobs : optional
        As in :class:`ImageReader`.
    categories : list of str or None, default=None
        The subfolders to load; None: all whose names do not begin with a dot.
    load_content : bool, default=True
        False gives paths instead of images: for a pipeline that begins with an
        :class:`ImageReader`.  Files are not opened then, so that broken ones are not noticed.
    cache : path-like or None, default=None
        An ``.npy`` file for the images, for folders larger than memory: `data` is then mapped from
        it.  It is written at the first call, read at the next, and written again where pictures or
        options have changed, or the folder is another or was moved.  Beside it is a ``.json`` file
        of its name.
    on_error : {"warn", "raise"}, default="warn"
        What a file that can't be read does: "warn" leaves it out.
    verbose : bool, default=False
        Whether to show a bar.

    Returns
    -------
    data : Bunch
        data : ndarray of float32 (n, H, W, 3) or (n, H, W), images in [0, 1]; or paths (n,)
        target : ndarray of int (n,), the index of each class in `target_names`
        target_names : list of str, sorted
        filenames : ndarray of str (n,)
        skipped : dict of str to str, why a file was left out, by its name; hidden files are not
        in it.  A warning says how many there are.

    Raises
    ------
    ValueError
        If there are no subfolders with pictures, sizes differ while `image_size` is None, an
        option is out of range, or `cache` is the name of a file that is no cache.
    OSError
        If the folder is not there.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sklearn_patchcert.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, color in (("blue", "navy"), ("green", "olive")):
    ...         Path(folder, name).mkdir()
    ...         Image.new("RGB", (40, 30), color).save(Path(folder, name, "one.png"))
    ...     data = load_image_folder(folder, image_size=16)
    >>> data.data.shape, data.target, data.target_names
    ((2, 16, 16, 3), array([0, 1]), ['blue', 'green'])
    """
    if on_error not in ("warn", "raise"):
        raise ValueError(f'on_error must be "warn" or "raise", got {on_error!r}.')
    root = Path(path)
    reader = ImageReader(
        image_size,
        mode=mode,
        resize=resize,
        interpolation=interpolation,
        background=background,
        n_jobs=n_jobs,
        on_error=on_error,
    )
    files, target, names, skipped = find_classes(root, categories)
    reader.fit(files)
    data = files
    bar = tqdm(desc="reading", total=len(files), unit="image", disable=not verbose)
    if load_content:
        with bar:
            data, failed = _images(reader, root, files, cache, bar)
        skipped.update({files[at]: _without(files[at], why) for at, why in failed.items()})
        kept = [at for at in range(len(files)) if at not in failed]
        files, target = [files[at] for at in kept], target[kept]
    if skipped:
        warnings.warn(_summary(skipped, len(files)), UserWarning, stacklevel=2)
    named = np.array(files)
    return Bunch(
        data=data if load_content else named.copy(),
        target=target,
        target_names=names,
        filenames=named,
        skipped=skipped,
    )


def find_pictures(folder, above=None):
    """Paths below a folder that look like pictures, and those that do not.

    Parameters
    ----------
    folder : path-like
        Links to folders are followed, each folder once.
    above : path-like or None
        A folder that is not followed if a link leads back to it.

    Returns
    -------
    pictures : list of str, sorted
    others : dict of str to str
        Why a file is none, or a folder has none to look for.  Hidden files and folders are passed
        over.
    """
    pictures, others, mixed = [], {}, set()
    seen = set() if above is None else {os.path.realpath(above)}
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if JOURNAL in files:
            if not _is_of_maps(place):
                mixed.add(Path(place))
            elif place != os.fspath(folder):
                others[place] = OF_MAPS
                folders.clear()
                continue
        with_maps = not mixed.isdisjoint([Path(place), *Path(place).parents])
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            whole, ending = os.path.join(place, name), os.path.splitext(name)[1].lower()
            if name.startswith(".") or (with_maps and name.endswith(_MAPS)):
                continue
            if ending in picture_suffixes():
                pictures.append(whole)
            else:
                others[whole] = f"not the name of a picture ({ending or 'no ending'})"
    return sorted(pictures), others


def _is_of_maps(folder):
    """Whether `patchcert certify` wrote to a folder in which there is no other picture."""
    if not (Path(folder) / JOURNAL).is_file():
        return False
    names = (name for _, _, files in os.walk(folder) for name in files if not name.endswith(_MAPS))
    return not any(os.path.splitext(name)[1].lower() in picture_suffixes() for name in names)


def find_classes(folder, categories=None):
    """Pictures in the subfolders of a folder.

    Parameters
    ----------
    folder : path-like
    categories : list of str or None
        The subfolders; None: all that are not hidden.

    Returns
    -------
    files : list of str
    target : ndarray of int
        The class of each.
    names : list of str
        Of the classes.
    skipped : dict of str to str
        Why other files are left out.

    Raises
    ------
    ValueError
        If there are no pictures.
    OSError
        If the folder is not there.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder.")
    found = sorted(one.name for one in root.iterdir() if one.is_dir())
    maps = {name for name in found if _is_of_maps(root / name)}
    names = [name for name in found if not name.startswith(".") and name not in maps]
    if categories is not None:
        missing = sorted(set(categories) - set(found))
        if missing:
            raise ValueError(f"{root} has no folders {missing}, but {names}.")
        names = [name for name in found if name in set(categories)]
    skipped = {} if categories else {str(root / name): OF_MAPS for name in sorted(maps)}
    files: list[str] = []
    target: list[int] = []
    kept: list[str] = []
    for one in sorted(root.iterdir()):
        if one.is_file() and not one.name.startswith("."):
            skipped[str(one)] = "in no class folder"
    for name in names:
        pictures, others = find_pictures(root / name, above=root)
        skipped.update(others)
        if pictures:
            files += pictures
            target += [len(kept)] * len(pictures)
            kept.append(name)
        else:
            skipped[str(root / name)] = "a folder without pictures"
    if not files:
        raise ValueError(
            f"{root} has no subfolders with pictures: make one for each class, as "
            f"{root / 'cats' / '1.jpg'}."
        )
    return files, np.array(target), kept, skipped


def _images(reader, root, files, cache, bar):
    """Images and, by place, why files could not be read; mapped from the cache if there is one."""
    if cache is None:
        return _all_read(reader, files, bar)
    cache = Path(cache)
    if cache.suffix != ".npy":
        raise ValueError(f"cache must be the name of an .npy file, got {str(cache)!r}.")
    notes, key = cache.with_suffix(".json"), _key(reader, root, files)
    failed = _known(notes, key)
    if failed is None or not cache.exists():
        _check_own(cache, notes)
        clear_leftovers(cache.absolute().parent)
        failed = _write(reader, files, cache, bar)
        _note(notes, key, failed)
    if failed and reader.on_error == "raise":
        raise ValueError(next(iter(failed.values())))
    return np.load(cache, mmap_mode="r")[: len(files) - len(failed)], failed


def _all_read(reader, files, bar):
    images, failed = reader._read(files, bar=bar)
    if not len(images):
        raise ValueError(f"None of the files can be read: {next(iter(failed.values()))}, ...")
    return images, failed


def _check_own(cache, notes):
    """Refuse to replace files that are no cache."""
    try:
        own = set(json.loads(notes.read_text(encoding="utf-8"))) == {"key", "failed"}
    except FileNotFoundError:
        own = not os.path.lexists(cache)
    except (OSError, ValueError, TypeError):
        own = False
    if not own:
        raise ValueError(
            f"cache={str(cache)!r}: {cache.name} or {notes.name} is there and was not written as a "
            "cache, so it is not replaced: give another name."
        )


def _known(notes, key):
    """What failed when the cache was written for this key; None where it was not."""
    try:
        found = json.loads(notes.read_text(encoding="utf-8"))
        if found["key"] != key:
            return None
        return {int(at): str(why) for at, why in found["failed"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or a damaged one
        return None


def _write(reader, files, cache, bar):
    """Write the images of all files that can be read, one part after the other."""
    failed: dict = {}
    images: Any = None
    kept = 0
    with replacing(cache) as partial:
        for start in range(0, len(files), _AT_ONCE):
            like = None if images is None else images.shape[1:]
            found, bad = reader._read(files[start : start + _AT_ONCE], like, bar)
            failed.update({start + at: why for at, why in bad.items()})
            if images is None and len(found):
                images = np.lib.format.open_memmap(
                    partial, mode="w+", dtype=np.float32, shape=(len(files), *found.shape[1:])
                )
            if len(found):
                images[kept : kept + len(found)] = found
                kept += len(found)
        if images is None:
            raise ValueError(f"None of the files can be read: {next(iter(failed.values()))}, ...")
        images.flush()
        del images
        _note(cache.with_suffix(".json"), None, {})  # if this is killed, the array is still ours
    return failed


def _note(notes, key, failed):
    with replacing(notes) as partial:
        partial.write_text(json.dumps({"key": key, "failed": failed}), encoding="utf-8")


def _key(reader, root, files):
    """What images depend on: files, their sizes and times, options and versions."""
    import PIL

    told = [os.path.realpath(root), *(os.path.relpath(file, root) for file in files)]
    stats = [(one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in map(os.stat, files)]
    options = [str(reader._options()), __version__, PIL.__version__]
    return hashlib.sha256(json.dumps([told, stats, options]).encode()).hexdigest()


def _without(path, why):
    return why.removeprefix(f"{path}: ")


def _summary(skipped, n_kept):
    """How many files were left out, by reason."""
    reasons = collections.Counter(skipped.values())
    listed = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common(8))
    rest = len(reasons) - 8
    return (
        f"{len(skipped)} left out, {n_kept} pictures loaded: {listed}"
        f"{f'; {rest} more reasons' if rest > 0 else ''}. Names and reasons are in `skipped`."
    )
