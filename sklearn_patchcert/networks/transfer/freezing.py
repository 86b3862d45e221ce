"""Which parameters of a network are trained, and what the others are spared."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn


class Frozen(NamedTuple):
    """Names of what training must leave alone."""

    parameters: frozenset[str] = frozenset()
    parts: tuple[str, ...] = ()  # modules that stay in evaluation mode
    as_made: frozenset[str] = frozenset()  # parameters that took no gradient from the beginning


def freeze(module: nn.Module, chosen: Callable[[str], bool] | None, as_made=None) -> Frozen:
    """Let only some parameters of a module take gradients.

    Parameters
    ----------
    module : nn.Module
        It is changed.
    chosen : callable, name -> bool, or None
        Whether a parameter is trained; None: as the module was made.
    as_made : frozenset of str or None
        Names of parameters that took no gradient when the module was made; None: as now.

    Returns
    -------
    frozen : Frozen
    """
    named = dict(module.named_parameters())
    if as_made is None:
        as_made = frozenset(name for name, value in named.items() if not value.requires_grad)
    if chosen is None:
        for name, value in named.items():
            value.requires_grad_(name not in as_made)
        return Frozen(as_made=as_made)
    for name, value in named.items():
        value.requires_grad_(chosen(name) and value.is_floating_point())
    frozen = frozenset(name for name in named if not chosen(name))
    return Frozen(frozen, tuple(_parts(module, "", frozen, chosen)), as_made)


def patterns(module: nn.Module, wanted: list[str]) -> Callable[[str], bool]:
    """Choose parameters by patterns of their names.

    Raises
    ------
    ValueError
        If a pattern fits no name.
    """
    names = [name for name, _ in module.named_parameters()]
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            shown = ", ".join([*names[:2], "...", *names[-2:]] if len(names) > 4 else names)
            raise ValueError(
                f"trainable has the pattern {pattern!r}, which fits no parameter of the module. "
                f"Their names are {shown}."
            )
    return lambda name: any(fnmatchcase(name, pattern) for pattern in wanted)


def takes_gradients(module: nn.Module) -> bool:
    """Whether there is anything to train."""
    return any(value.requires_grad for value in module.parameters())


def rest(module: nn.Module, frozen: Frozen) -> None:
    """Put the frozen parts of a module, which is in training mode, into evaluation mode."""
    for name in frozen.parts:
        module.get_submodule(name).eval()


def _parts(module, name, frozen, chosen):
    """Names of the largest parts of which nothing is trained."""
    below = [f"{name}.{end}".lstrip(".") for end, _ in module.named_parameters()]
    if below and frozen.issuperset(below):
        yield name
    elif isinstance(module, nn.modules.batchnorm._NormBase) and not below:
        if not chosen(f"{name}.running_mean".lstrip(".")):
            yield name
    else:
        for end, part in module.named_children():
            yield from _parts(part, f"{name}.{end}".lstrip("."), frozen, chosen)
