"""Names of the package that are imported when they are first asked for.

So ``patchcert --help`` does not wait for torch, and neither does whoever needs one wing.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any


def attach(
    package: str, path: Iterable[str], rooms: dict[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """What a package needs for names that it imports later (PEP 562).

    Parameters
    ----------
    package : str
    path : list of str
        Its ``__path__``.
    rooms : dict of str to str
        The module, below the package, from which each name comes.

    Returns
    -------
    getattr, dir : callable
        For the names ``__getattr__`` and ``__dir__`` of the package.
    """
    wings = {found.name for found in pkgutil.iter_modules(path) if not found.name.startswith("_")}

    def find(name: str) -> Any:
        if name in rooms:
            return getattr(importlib.import_module(f"{package}.{rooms[name]}"), name)
        if name in wings:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find, lambda: sorted({*rooms, *wings, "__version__"})
