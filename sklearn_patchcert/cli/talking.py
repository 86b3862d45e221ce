"""What a command says: a bar, messages above it, what was left out and why, and results."""

from __future__ import annotations

import collections
import contextlib
import json
import math
import sys
import warnings
from typing import Any

import numpy as np
from tqdm import tqdm

from sklearn_patchcert.cli.options import shown

_REASONS = 6  # that a summary counts


class LeftOut:
    """What was not done, and why; a bar and messages above it.

    Parameters
    ----------
    quiet : bool
    """

    def __init__(self, quiet):
        self.reasons: dict = {}
        self.quiet = quiet
        self.bar: Any = None

    @contextlib.contextmanager
    def progress(self, total, description, done=0):
        """A bar over images, with their rate."""
        with tqdm(
            total=total,
            initial=done,
            desc=description,
            unit="image",
            disable=self.quiet,
            file=sys.stderr,
            mininterval=0.2,
            dynamic_ncols=True,
        ) as self.bar:
            yield self.bar

    def add(self, name, error):
        """Leave a file out, and say so."""
        self.reasons[name] = first_line(error)
        say(f"left out {shown(name)}: {self.reasons[name]}")

    def note(self, text):
        """Say what is no failure."""
        if not self.quiet:
            say(text)

    def summary(self):
        """How many files were left out, by reason."""
        counts = collections.Counter(self.reasons.values()).most_common()
        listed = [f"{count} {reason}" for reason, count in counts[:_REASONS]]
        if rest := sum(count for _, count in counts[_REASONS:]):
            listed.append(f"{rest} for other reasons")
        return f"{len(self.reasons)} left out" + (f" ({'; '.join(listed)})" if listed else "")

    def end(self, done):
        """Say what was done, and how much was not."""
        self.note(f"{done}; {self.summary()}")

    @property
    def status(self):
        """Exit status."""
        return 1 if self.reasons else 0


def say(text):
    """A line on standard error, above the bar if there is one."""
    tqdm.write(f"patchcert: {text}", file=sys.stderr)


def first_line(error):
    """The first line of what an error says."""
    return shown(next(iter(str(error).splitlines()), "") or type(error).__name__)


@contextlib.contextmanager
def spoken_warnings():
    """Warnings as lines of the command, each once."""
    with warnings.catch_warnings():
        said = set()

        def show(message, category, filename, lineno, file=None, line=None):
            text = first_line(message)
            if text not in said:
                said.add(text)
                say(f"warning: {text}")

        warnings.showwarning = show
        yield


def told(result, as_json, text):
    """Print a result, as JSON or as text."""
    print(json.dumps(plain(result), indent=2, allow_nan=False) if as_json else text)


def plain(value):
    """A value as JSON has it, in which numbers that are not finite are texts such as "inf"."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
