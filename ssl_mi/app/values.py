"""Values of a configuration, held against the types of what they are given to.

A part of the configuration names a class or a function by `_target_`; its signature has the types. A value that does
not fit is an error before anything is built: `data.num_workers=inf` is no number of processes.
"""

from __future__ import annotations

import collections.abc
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
PLAIN = (bool, int, float, str)


class Page:
    """The keys of the page itself, which no class takes, and their types."""

    name: str
    seed: int
    ckpt_path: str | None
    resume_changes: str | list[str] | None
    overwrite: bool
    progress: Literal["auto", "bar", "lines", "none"]
    matmul_precision: Literal["highest", "high", "medium"]
    run_dir: str
    optimizer_note: str | None
    precision_note: str | None
    objective_schedule: bool


#: Values that are replaced before the class that takes the key is called.
SETTLED = {"trainer.precision": "fastest"}
#: What Hydra's own words take.
HYDRA = {"_partial_": bool, "_recursive_": bool, "_convert_": Literal["none", "partial", "object", "all"]}


def misfit(key: str, value: Any, annotation: Any) -> str | None:
    """What is wrong with a value in a sentence, or None where it fits.

    Args:
        key: Its full key, for the message.
        value: Plain: number, text, list or mapping.
        annotation: The type of what it is given to; one that says nothing fits all values.
    """
    if fits(value, annotation):
        return None
    arguments = get_args(annotation)
    if get_origin(annotation) in (dict, collections.abc.Mapping) and isinstance(value, Mapping):
        inner = (misfit(f"{key}.{name}", part, arguments[1]) for name, part in value.items())
        return next(text for text in inner if text is not None)
    return f"{key}={_shown(value)}: it must be {describe(annotation)}"


def fits(value: Any, annotation: Any) -> bool:
    """Whether a plain value is one of an annotated type. NaN is no number."""
    if isinstance(value, Mapping) and "_target_" in value:
        return True  # what it makes is not known here
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return True
    if annotation in (None, type(None)):
        return value is None
    if origin in (Union, types.UnionType):
        nowhere = value == "" and Path in arguments
        return not nowhere and any(fits(value, part) for part in arguments)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in arguments)
    if origin is typing.Annotated:
        return fits(value, arguments[0])
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if annotation is str:
        return isinstance(value, str)
    if annotation is Path:
        return isinstance(value, str) and value != ""
    return _fits_container(value, origin or annotation, arguments)


def _fits_container(value: Any, kind: Any, arguments: Sequence[Any]) -> bool:
    if kind in (list, tuple, set, collections.abc.Sequence, collections.abc.Iterable):
        if not isinstance(value, list | tuple):
            return False
        if kind is tuple and arguments and arguments[-1] is not Ellipsis:
            return len(value) == len(arguments) and all(map(fits, value, arguments))
        return not arguments or all(fits(part, arguments[0]) for part in value)
    if kind in (dict, collections.abc.Mapping):
        return isinstance(value, Mapping) and (
            len(arguments) < 2 or all(fits(part, arguments[1]) for part in value.values())
        )
    return _fits_other(value, kind)


def _fits_other(value: Any, kind: Any) -> bool:
    """Types that only objects have; a plain value never fits them, a type that says nothing takes all."""
    if kind is collections.abc.Callable:
        return False
    if not inspect.isclass(kind) or kind is object:
        return True
    ours = kind.__module__.startswith(("ssl_mi", "torch", "pytorch_lightning", "lightning"))
    return not ours or (not getattr(kind, "_is_protocol", False) and isinstance(value, kind))


def describe(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is None:
        return "null"
    if annotation in WORDS:
        return WORDS[annotation]
    if origin in (Union, types.UnionType):
        parts = list(dict.fromkeys(describe(part) for part in arguments))
        if "a number" in parts and "a whole number" in parts:
            parts.remove("a whole number")
        return ", ".join(parts[:-1]) + f" or {parts[-1]}" if len(parts) > 1 else parts[0]
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    kind = origin or annotation
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)}: " + ", ".join(map(describe, arguments))
    if kind in (list, tuple, set, collections.abc.Sequence, collections.abc.Iterable):
        return "a list" + (f" of which each is {describe(arguments[0])}" if arguments else "")
    if kind in (dict, collections.abc.Mapping):
        return "a mapping"
    if kind is Path:
        return "a path"
    return f"an object ({getattr(kind, '__name__', kind)}): give its _target_"


def types_of(target: Callable[..., Any]) -> dict[str, Any]:
    """{parameter: its type}, of a class or function; where it has none, that of its default, if that is plain.

    A class that hands **kwargs on to its base has the base's parameters too.
    """
    if not inspect.isclass(target):
        return _types(target)
    found: dict[str, Any] = {}
    for base in target.__mro__[:-1]:
        maker = vars(base).get("__init__")
        if maker is None:
            continue
        found = {**_types(maker), **found}
        if not _is_open(maker):
            break
    return found


def _types(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):  # of a builtin
        return {}
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a name that only type checkers see
        hints = {}
    found = {}
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        default = parameter.default
        if name in hints:
            # A default of None is a value that may be given too.
            found[name] = hints[name] | None if default is None and _is_plain(hints[name]) else hints[name]
        elif type(default) in PLAIN:
            found[name] = float | None if isinstance(default, float) else type(default) | None
    return found


def _is_plain(annotation: Any) -> bool:
    return annotation in PLAIN or get_origin(annotation) in (Union, types.UnionType, list, tuple, dict, Literal)


def _is_open(function: Callable[..., Any]) -> bool:
    try:
        return any(p.kind == p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return True


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else repr(value) if value == "" else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
