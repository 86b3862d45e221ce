"""Which files are meant by the paths that a command is given."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sklearn_patchcert.cli.options import Impossible, shown
from sklearn_patchcert.datasets.folders import OF_MAPS, find_pictures
from sklearn_patchcert.datasets.pictures import picture_suffixes


def find_files(places, left_out, apart_from=None):
    """Pictures that are meant by files and folders.

    Parameters
    ----------
    places : list of Path
        Folders are searched with all that is below them.  What is hidden is passed over, and so
        are folders that `patchcert certify` wrote to.
    left_out : LeftOut
        Is told of files that are no pictures.
    apart_from : Path or None
        The folder that is written to: nothing below it is read.

    Returns
    -------
    found : dict of str to Path
        By the name below the folder, or below the folder of all places; sorted.

    Raises
    ------
    Impossible
        If there are none.
    """
    parents = [os.path.abspath(p if p.is_dir() else p.parent) for p in places]
    root = os.path.commonpath(parents)
    out = None if apart_from is None else Path(os.path.realpath(apart_from))
    found: dict = {}
    for place in places:
        written: set = set()
        if not place.is_dir():
            pictures, others = [], {str(place): "not the name of a picture"}
            if place.suffix.lower() in picture_suffixes() or not place.exists():
                pictures, others = [str(place)], {}
        else:
            pictures, others = find_pictures(place)
            if out is not None and Path(os.path.realpath(place)) in out.parents:
                written.add(out)
            for folder in [path for path, why in others.items() if why == OF_MAPS]:
                del others[folder]
                if (real := Path(os.path.realpath(folder))) not in written:
                    left_out.note(f"passed over the maps in {shown(below(folder, root))}")
                    written.add(real)
        for path in pictures:
            if _is_below(path, written):
                continue
            if why := _special(path):
                left_out.add(below(path, root), why)
            else:
                found[below(path, root)] = Path(path)
        for path, why in others.items():
            if not _is_below(path, written):
                left_out.add(below(path, root), why)
    if not found:
        raise Impossible("there are no pictures: " + ", ".join(map(shown, places)))
    return dict(sorted(found.items()))


def below(path, folder):
    """The name of a file below a folder."""
    return Path(os.path.relpath(os.path.abspath(path), os.path.abspath(folder))).as_posix()


def _is_below(path, folders):
    return not folders.isdisjoint(Path(os.path.realpath(path)).parents)


def _special(path):
    """What a path leads to if reading that might never end."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None  # the reader says it better
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "it is no regular file"
