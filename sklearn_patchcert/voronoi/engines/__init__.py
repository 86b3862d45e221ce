"""Two ways to the same tokens and radii: compare with all tokens, or search among them.

The engines that numba compiles are imported when they are first asked for, as
``engines.measure``: importing numba takes longer than the rest of the library together.
"""

from importlib import import_module
from types import ModuleType

_COMPILED = "cutting", "farthest", "measure", "projection", "walls"


def __getattr__(name: str) -> ModuleType:
    if name in _COMPILED:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
