"""Work in parts, wherever joblib is told to do it: here, in threads, in processes, on a cluster."""

from __future__ import annotations

from joblib import effective_n_jobs, parallel_config
from sklearn.utils.parallel import Parallel, delayed


def over_parts(function, parts, n_jobs=None):
    """Yield what a function makes of each of the parts, in their order.

    Threads do it unless ``joblib.parallel_config`` says otherwise, so the function, with all that
    it is bound to, and the parts must be such that cloudpickle can send them.  What the function
    does in parallel itself is not divided any further.

    Parameters
    ----------
    function : callable, (*part) -> object
    parts : iterable of tuple
        Only a few more than there are jobs are asked for before the first of them are done.
    n_jobs : int or None
        As joblib has it.

    Yields
    ------
    result : object
    """
    if effective_n_jobs(n_jobs) == 1 or (isinstance(parts, list) and len(parts) < 2):
        for part in parts:
            yield function(*part)
        return
    run = _Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")
    work = _Undivided(function)
    yield from run(delayed(_call)(work, *part) for part in parts)


class _Parallel(Parallel):
    """That says nothing of work done in vain where somebody presses Ctrl-C."""

    def _warn_exit_early(self):  # a filter of warnings would not do: threads share the filters
        pass


class _Undivided:
    """A function whose own parallel work is done one after the other."""

    def __init__(self, function):
        self.function = function

    def __sizeof__(self):
        """Enough for joblib to send it to a Dask worker once, not with every part."""
        return 2**20

    def __call__(self, *part):
        with parallel_config(backend="sequential"):
            return self.function(*part)


def _call(function, *part):
    return function(*part)
