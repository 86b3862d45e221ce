"""Work in parts, wherever joblib is told to do it: here, in threads, in processes, on a cluster."""

from __future__ import annotations

from joblib import effective_n_jobs, parallel_config
from sklearn.utils.parallel import Parallel, delayed


def over_parts(function, parts, n_jobs=None):
    """Yield what a function makes of each of the parts, in their order.

    Threads do it unless the user's ``joblib.parallel_config`` says otherwise, so the function and
    the parts must be such that they can be pickled.  What a function computes in parallel itself is
    not divided further.

    Parameters
    ----------
    function : callable, (*part) -> object
    parts : iterable of tuple
        Only a few more than there are jobs are asked for ahead of what has been yielded.
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
    run = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")
    yield from run(delayed(_undivided)(function, *part) for part in parts)


def _undivided(function, *part):
    with parallel_config(backend="sequential"):
        return function(*part)
