"""Work in parts, wherever joblib is told to do it: here, in threads, in processes, on a cluster."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from joblib import effective_n_jobs, parallel_config
from joblib.parallel import get_active_backend
from sklearn.utils.parallel import Parallel, delayed

_here = threading.local()  # the work of which this thread does a part


def over_parts(function, parts, n_jobs=None):
    """Yield what a function makes of each of the parts, in their order.

    Threads do it unless ``joblib.parallel_config`` says otherwise, so the function, with all that
    it is bound to, and the parts must be such that cloudpickle can send them.  A backend that
    cannot return results one by one, like joblib's "multiprocessing", is replaced by threads.  What
    the function does in parallel itself is not divided any further.

    If the generator is closed early, by an error or Ctrl-C, threads stop at the next call of
    :func:`stop_if_told`, and the generator waits for them.  A thread that outlives its interpreter
    may abort the process.

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
    jobs = effective_n_jobs(n_jobs)
    if alone(n_jobs) or (isinstance(parts, list) and len(parts) < 2):
        for part in parts:
            yield function(*part)
        return
    backend, _ = get_active_backend(prefer="threads")
    options = {"n_jobs": n_jobs, "prefer": "threads"}
    if not backend.supports_return_generator:
        options = {"n_jobs": jobs, "backend": "threading"}
    work, results = _Work(function), None
    try:
        results = _Parallel(return_as="generator", **options)(
            delayed(_call)(work, *part) for part in parts
        )
        for result in results:  # noqa: UP028  # `yield from` would close them before they are told
            yield result
    except BaseException:
        work.stopped = True
        if results is not None:
            results.close()
        work.wait()
        raise


def in_threads(function, parts):
    """Call a function with each of the parts, here, wherever joblib is told to work.

    For what takes less time than to send it elsewhere.

    Parameters
    ----------
    function : callable, (part) -> object
    parts : list
        As many as there shall be threads.
    """
    if len(parts) < 2:
        for part in parts:
            function(part)
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(function, parts))  # a list, so that errors are raised


def alone(n_jobs=None):
    """Whether :func:`over_parts` does one part after the other, here."""
    return effective_n_jobs(n_jobs) == 1


def stop_if_told():
    """Leave a part of the work of :func:`over_parts` that nobody waits for any more.

    Call it for each batch within a part that takes long.  Elsewhere it does nothing.
    """
    work = getattr(_here, "work", None)
    if work is not None and work.stopped:
        raise _Stopped


class _Stopped(BaseException):
    """Ends a part, and passes every ``except Exception`` on its way."""


class _Parallel(Parallel):
    """That says nothing of work done in vain where somebody presses Ctrl-C."""

    def _warn_exit_early(self):  # a filter of warnings would not do: threads share the filters
        pass


class _Work:
    """A function whose own parallel work is done one after the other, and that can be stopped.

    What another process receives is a copy, which joblib or the cluster stops.
    """

    def __init__(self, function):
        self.function, self.stopped = function, False
        self.running, self.changed = 0, threading.Condition()

    def __reduce__(self):
        return _Work, (self.function,)

    def __sizeof__(self):
        """Enough for joblib to send it to a Dask worker once, not with every part."""
        return 2**20

    def __call__(self, *part):
        before, _here.work = getattr(_here, "work", None), self
        self._count(1)
        try:
            stop_if_told()
            with parallel_config(backend="sequential"):
                return self.function(*part)
        except _Stopped:
            return None
        finally:
            _here.work = before
            self._count(-1)

    def _count(self, step):
        with self.changed:
            self.running += step
            self.changed.notify_all()

    def wait(self):
        """Until no part is running."""
        with self.changed:
            self.changed.wait_for(lambda: not self.running)


def _call(function, *part):
    return function(*part)
