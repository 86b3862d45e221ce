"""The state of an estimator: pickles of other versions, and fits that fail or are interrupted."""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings

from sklearn_patchcert._version import __version__


class VersionedState:
    """Mixin that stamps pickles with the library's version and warns where it differs.

    An option that the pickle lacks gets its default, and the warning names it.  A pickle that
    lacks only some of what a fit makes is refused, since it would fail later, at its use.

    joblib hashes the state, so `memory=` forgets what another version computed.
    """

    _made_by_fit: tuple[str, ...] = ()

    def __getstate__(self):
        state: dict = super().__getstate__()  # type: ignore[assignment]  # BaseEstimator's
        return {**state, "_patchcert_version": __version__}

    def __setstate__(self, state):
        state = dict(state)
        version = state.pop("_patchcert_version", "unknown")
        missing = [name for name in self._made_by_fit if name not in state]
        if 0 < len(missing) < len(self._made_by_fit):
            raise old_pickle(self, version, missing)
        options = inspect.signature(type(self).__init__).parameters.values()
        added = {one.name: one.default for one in options if one.default is not one.empty}
        added = {name: default for name, default in added.items() if name not in state}
        if version != __version__ or added:
            gets = f"it has no {', '.join(added)} and gets the defaults; " if added else ""
            warnings.warn(
                f"This {type(self).__name__} was pickled by sklearn_patchcert {version} and is "
                f"read by {__version__}: {gets}fit it again where results must not differ.",
                UserWarning,
                stacklevel=2,
            )
        super().__setstate__({**state, **added})  # type: ignore[misc]  # BaseEstimator's


def old_pickle(estimator, version, missing):
    """The error for a pickle that lacks attributes which its estimator needs."""
    return ValueError(
        f"This {type(estimator).__name__} was pickled by sklearn_patchcert {version} and has no "
        f"{', '.join(missing)}, which {__version__} needs. Fit it again, or load it with the "
        "version that wrote it."
    )


@contextlib.contextmanager
def as_before(*objects):
    """Put the attributes of some objects back where the block fails or is interrupted."""
    kept = [dict(vars(one)) for one in objects]
    try:
        yield
    except BaseException:
        for one, before in zip(objects, kept, strict=True):
            vars(one).clear()
            vars(one).update(before)
        raise


def all_or_nothing(method):
    """Leave an estimator as it was where a method that fits it fails or is interrupted."""

    @functools.wraps(method)
    def wrapper(self, *args, **kwargs):
        with as_before(self):
            return method(self, *args, **kwargs)

    return wrapper
