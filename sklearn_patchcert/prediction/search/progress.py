"""A bar that also moves while one image lasts long."""

from __future__ import annotations

import threading
import time

from tqdm.auto import tqdm

_EVERY = 0.2  # seconds between two looks of the bar


class Progress:
    """A bar of images that tells how many assignments were classified, and how fast.

    Parameters
    ----------
    total : int
        Images.
    shown : bool

    Notes
    -----
    Threads tell the bar itself.  Other processes get a copy that is not shown.
    """

    def __init__(self, total=0, shown=False):
        self.bar = tqdm(desc="certifying", total=total, unit="image", disable=not shown)
        self.shown, self.count, self.lock = shown, 0, threading.Lock()
        self.begun = self.last = time.monotonic()

    def __reduce__(self):
        return Progress, ()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._tell()
        self.bar.close()

    def seen(self, count):
        """Tell that so many more assignments were classified."""
        with self.lock:
            self.count += count
            due = self.shown and time.monotonic() - self.last > _EVERY
            if due:
                self.last = time.monotonic()
        if due:
            self._tell()

    def _tell(self):
        if self.shown and self.count:
            rate = self.count / max(1e-9, time.monotonic() - self.begun)
            self.bar.set_postfix_str(f"{self.count:,} assignments, {rate:,.0f}/s")
