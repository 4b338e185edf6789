"""Bounds and critics by name: `name` of a built-in one, or the import path package.module:Class of any other."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TypeVar

from torch import nn

from ssl_mi.information.variational import bounds, critics, gaussian_critic
from ssl_mi.information.variational.bounds import Bound
from ssl_mi.information.variational.critics import Critic

Part = TypeVar("Part", Bound, Critic)


@cache
def built_in_bounds() -> dict[str, type[Bound]]:
    """{name: class} of the bounds of bounds.py, in the order of the file."""
    return {part.name: part for part in _classes(Bound, bounds)}


@cache
def built_in_critics() -> dict[str, type[Critic]]:
    """{name: class} of the critics of gaussian_critic.py and critics.py."""
    return {part.name: part for part in _classes(Critic, gaussian_critic, critics)}


def find_bound(bound: str | Bound | type[Bound]) -> tuple[Bound, str]:
    """A bound to train with, and its name.

    Args:
        bound: the name of a built-in one, an import path package.module:Class, a class (built with its defaults) or
            an object (copied, so that it stays as it is).

    Raises:
        ValueError: for an unknown name, a path that leads nowhere, or what is no `Bound`.
    """
    part = _find("bound", bound, built_in_bounds()) if isinstance(bound, str) else bound
    found = bounds.own_bound(part)
    return found, bound if isinstance(bound, str) else type(found).__name__


def find_critic(critic: str | type[Critic] | Callable[[int, int], nn.Module]) -> Callable[[int, int], Critic]:
    """What makes a critic of the dimensions of x and y.

    Args:
        critic: the name of a built-in one, an import path package.module:Class, a class, or a function
            (dim_x, dim_y) -> module with forward(x [n, dim_x], y [m, dim_y]) -> scores [n, m].

    Raises:
        ValueError: for an unknown name, a path that leads nowhere, or what cannot be called so.
    """
    part = _find("critic", critic, built_in_critics()) if isinstance(critic, str) else critic
    make = critics.critic_factory(part)
    return lambda dim_x, dim_y: critics.as_critic(make(dim_x, dim_y))


def _classes(base: type[Part], *modules: ModuleType) -> list[type[Part]]:
    """The classes with a name that these modules define, imported ones left out."""
    every = [part for module in modules for part in vars(module).values() if isinstance(part, type)]
    homes = {module.__name__ for module in modules}
    return [part for part in every if issubclass(part, base) and part.__module__ in homes and part.name]


def _find(kind: str, name: str, known: dict[str, type]) -> object:
    if name in known:
        return known[name]
    if ":" not in name:
        near = difflib.get_close_matches(name, list(known), 1)
        hint = f" (nearest: {near[0]})" if near else ""
        raise ValueError(f"{kind} must be one of {', '.join(known)} or package.module:Class, got {name!r}{hint}")
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        raise ValueError(f"no {kind} {name}: {problem}") from problem
