"""What a command has done already, so that one that was interrupted goes on."""

from __future__ import annotations

import hashlib
import json
import os

from sklearn_patchcert._version import __version__
from sklearn_patchcert.datasets.folders import JOURNAL


class Journal:
    """Lines of JSON: the first says of what they are, each other one is an image that is done.

    Parameters
    ----------
    path : Path or None
        None keeps nothing.
    model : Path
        The model file, which counts by its contents.
    told : dict
        Options on which results depend.

    Notes
    -----
    A line that is cut off, as a kill in the midst of writing leaves it, is not there.  Journals of
    another model, of other options or of another version are begun again.
    """

    def __init__(self, path, model, told):
        self.path = path
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        self.head = {"version": __version__, "model": digest, "options": told}
        self.done = self._read()
        self._seen: dict = {}

    def _read(self):
        done: dict = {}
        if self.path is None:
            return done
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
            if not lines or json.loads(lines[0]) != self.head:
                return {}
            for line in lines[1:]:
                entry, checksum = json.loads(line)
                if checksum != _checksum(entry):
                    return {}
                done[entry["name"]] = entry
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return done

    def look(self, files):
        """Note how files are, before they are read: what changes in the midst is done again."""
        self._seen = {name: _state(path) for name, path in files.items()}

    def rows(self, files):
        """What was found for files that have not changed since."""
        self.look(files)
        found = {name: self.row(name) for name in files}
        return {name: row for name, row in found.items() if row is not None}

    def row(self, name):
        """What was found for a file that had not changed when it was looked at, or None."""
        entry, state = self.done.get(name), self._seen[name]
        return entry["row"] if entry is not None and entry["file"] == state is not None else None

    def key(self, name, *more):
        """A text that changes with the model, the options, the file and what was found."""
        told = json.dumps([self.head, self.done[name], *more], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def __enter__(self):
        if self.path is not None:
            text = json.dumps(self.head) + "\n" + "".join(map(_line, self.done.values()))
            partial = self.path.with_name(self.path.name + ".part")
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.path)
            self.stream = open(self.path, "a", encoding="utf-8")
        return self

    def add(self, name, row):
        """Note that an image is done; its files must be written before."""
        self.done[name] = {"name": name, "file": self._seen[name], "row": row}
        if self.path is not None:
            self.stream.write(_line(self.done[name]))
            self.stream.flush()

    def __exit__(self, *error):
        if self.path is not None:
            self.stream.close()

    def remove(self):
        """Nothing is left to do."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _line(entry):
    return json.dumps([entry, _checksum(entry)]) + "\n"


def _checksum(entry):
    return hashlib.sha256(json.dumps(entry).encode()).hexdigest()[:16]


def beside(path):
    """The journal of a command that writes one file, or None without a file."""
    return None if path is None else path.with_name(f".{path.name[:100]}{JOURNAL}")


def _state(path):
    try:
        found = path.stat()
    except OSError:  # gone since
        return None
    # Copies may keep a time, and files of one shape a size; the time of the inode is no copy.
    return [os.path.realpath(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns]
