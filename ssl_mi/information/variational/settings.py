"""Settings by flat names: `infonce:max_steps=100,cross_fit=True` for what Python spells as `Training` and `Split`.

The estimators that fit networks take few parameters, some of which are frozen dataclasses with documented fields.
Command lines and configuration files name the fields alone; `flat` is the one place that knows which field belongs
to which parameter: whatever parameter has a dataclass for its default value is spelled by its fields.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

FORMER_NAMES = {"read_batch": "eval_batch_size"}  # still accepted


def from_settings(function: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `function` from flat names.

    Args:
        function: its parameters whose default value is a dataclass are spelled by the fields of it.
        settings: flat names and their values.

    Returns:
        The same with fields gathered: {"max_steps": 9, "seed": 1} -> {"training": Training(max_steps=9), "seed": 1}.
        Names that are no field stay, so that the call itself refuses those that `function` does not take.
    """
    arguments = {FORMER_NAMES.get(name, name): value for name, value in settings.items()}
    signature = inspect.signature(function)
    for parameter in _grouped(signature):
        named = [f.name for f in fields(parameter.default) if f.name not in signature.parameters]
        own = {name: arguments.pop(name) for name in named if name in arguments}
        if own:
            arguments[parameter.name] = replace(arguments.get(parameter.name, parameter.default), **own)
    return arguments


def flat(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, called by flat names, and with a signature that lists them.

    Functions without a parameter that is a dataclass are returned as they are.
    """
    signature = inspect.signature(function)
    grouped = {parameter.name: parameter for parameter in _grouped(signature)}
    if not grouped:
        return function

    @functools.wraps(function)
    def called(*arguments: Any, **settings: Any) -> Any:
        return function(*arguments, **from_settings(function, settings))

    listed = []
    for parameter in signature.parameters.values():
        if parameter.name not in grouped:
            listed.append(parameter)
            continue
        for f in fields(parameter.default):
            if f.name in signature.parameters:  # it is the function's own
                continue
            value = getattr(parameter.default, f.name)
            listed.append(inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=value))
    called.__signature__ = signature.replace(parameters=listed)  # type: ignore[attr-defined]
    return called


def _grouped(signature: inspect.Signature) -> list[inspect.Parameter]:
    return [p for p in signature.parameters.values() if is_dataclass(p.default) and not isinstance(p.default, type)]
