"""What a command has done already, so that one that was interrupted goes on."""

from __future__ import annotations

import hashlib
import json

from sklearn_patchcert._version import __version__


class Journal:
    """Lines of JSON: the first says of what they are, each other one is an image that is done.

    Parameters
    ----------
    path : Path
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

    def _read(self):
        done: dict = {}
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
            if not lines or json.loads(lines[0]) != self.head:
                return {}
            for line in lines[1:]:
                entry = json.loads(line)
                done[entry["name"]] = entry
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return done

    def row(self, name, path):
        """What was found for a file that has not changed since, or None."""
        entry = self.done.get(name)
        return entry["row"] if entry is not None and entry["file"] == _state(path) else None

    def __enter__(self):
        lines = [self.head, *self.done.values()]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        partial = self.path.with_name(self.path.name + ".part")
        partial.write_text(text, encoding="utf-8")
        partial.replace(self.path)
        self.stream = open(self.path, "a", encoding="utf-8")
        return self

    def add(self, name, path, row):
        """Note that an image is done; its files must be written before."""
        entry = {"name": name, "file": _state(path), "row": row}
        self.stream.write(json.dumps(entry) + "\n")
        self.stream.flush()

    def __exit__(self, *error):
        self.stream.close()


def _state(path):
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
