"""Time for a search, for an image and for all images together.

A budget is kept by never beginning what is not expected to end in time.  What an assignment takes
is measured on those that were classified before.
"""

from __future__ import annotations

import math
import time
from numbers import Real
from typing import NamedTuple

_VALUES = 2**22  # token ids at once, at most: what a batch holds of images of any size
_LAST = 3  # assignments' worth of time that is left for what follows the search


def now():
    """Seconds since the epoch, so that workers on several machines have the same clock."""
    return time.time()


def seconds_of(name, value):
    """Read a time limit: None or a float, since NumPy's float32 would round the clock to minutes.

    Raises
    ------
    ValueError
        If it is neither None nor a positive number.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if value is not None and not (number and value > 0):
        raise ValueError(f"{name} must be positive or None, got {value!r}.")
    try:
        return None if value is None else float(value)
    except OverflowError:
        return math.inf


def at_once(positions, batch_size, times=1):
    """How many assignments of an image of so many patches to classify at once."""
    return max(1, min(batch_size, times * _VALUES // max(1, positions)))


class Pace:
    """How many assignments of an image to classify next, so that its time is kept.

    Parameters
    ----------
    seconds : float
        From now on; inf for no limit.
    always : bool
        Whether one assignment is classified in any case.

    Examples
    --------
    >>> from sklearn_patchcert.prediction.search.budgets import Pace
    >>> Pace(60.0).next(1000), Pace(float("inf")).next(1000), Pace(-1.0).next(1000)
    (1, 1000, 0)
    """

    def __init__(self, seconds=math.inf, always=False):
        self.always, seconds = always, float(seconds)
        self.limited = seconds < math.inf
        self.until = now() + seconds if self.limited else math.inf
        self.each = math.nan  # seconds for an assignment
        self.begun = math.nan

    @property
    def left(self):
        """Seconds, inf without limit."""
        return self.until - now() if self.limited else math.inf

    def next(self, most):
        """Size of the next batch, at most `most`; 0 if there is no time for one."""
        if not self.limited:
            return most
        self.begun = now()
        left = self.until - self.begun
        if math.isnan(self.each):
            return 1 if left > 0 or self.always else 0
        if self.each <= 0:
            return most if left > 0 else 0
        fit = left / self.each - _LAST
        return 0 if fit < 1 else min(most, max(1, int(fit / 2)))  # the rest is planned later

    def done(self, count):
        """Tell that a batch of so many is classified."""
        if self.limited and count:
            self.each = (now() - self.begun) / count


class Share(NamedTuple):
    """The time of some images of a call, of which others may run at the same time.

    image : float
        Seconds for each image; inf for no limit.
    until : float
        When the whole call should end; inf for no limit.
    left : int
        These images and those after them.
    jobs : int
        How many parts of the images are worked on at once.
    """

    image: float = math.inf
    until: float = math.inf
    left: int = 1
    jobs: int = 1

    def paces(self, count):
        """Function of the place of an image among the next `count`: its pace, from then on.

        Their time begins now, with what is done for all of them together.  What an image leaves
        over belongs to those after it.  None without limits.
        """
        if min(self.image, self.until) == math.inf:
            return None
        begun = now()
        whole = max(0.0, self.until - begun)
        waiting = self.left + (self.jobs - 1) * count  # others are at work on as many
        end = begun + min(whole, whole * self.jobs * count / waiting)
        together = None

        def pace(place):
            nonlocal together
            at = now()
            together = (at - begun) / count if together is None else together
            own, shared = self.image - together, (end - at) / (count - place)
            return Pace(min(own, shared), always=at < self.until)

        return pace

    def over(self):
        """Whether the call should have ended."""
        return now() >= self.until


def shared(options, count):
    """Yield options for each of `count` calls, one after the other, that share the time limits."""
    names = "max_seconds", "max_total_seconds"
    each, whole = (seconds_of(name, options.get(name)) for name in names)
    until = None if whole is None else now() + whole
    for left in range(count, 0, -1):
        given = dict(options)
        if each is not None:
            given["max_seconds"] = each / count
        if until is not None:
            given["max_total_seconds"] = max(1e-9, (until - now()) / left)
        yield given
