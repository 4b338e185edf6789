"""An estimate as the command line shows it: a table for people, one JSON object for programs, in nats or bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssl_mi.information.apps.files import Side
from ssl_mi.information.core.estimate import Estimate


class Answer(NamedTuple):
    """An estimate, and what the command itself has to say of it."""

    estimate: Estimate
    notes: tuple[str, ...] = ()


def document(answer: Answer, x: Side, y: Side, bits: bool) -> dict[str, Any]:
    """The answer as JSON has it: null where there is nothing; `unit` is that of value, se, ci, null and ceiling."""
    estimate, unit, nats = answer.estimate, *_unit(bits)
    return _plain(
        {
            "value": nats(estimate.value),
            "unit": unit,
            "kind": estimate.kind,
            "se": nats(estimate.se),
            "ci": None if estimate.ci is None else [nats(end) for end in estimate.ci],
            "ci_level": estimate.ci_level,
            "p_value": estimate.p_value,
            "null": nats(estimate.null),
            "ceiling": nats(estimate.ceiling),
            "n": estimate.n,
            "dims": estimate.dims,
            "projection": estimate.projection,
            "estimator": estimate.estimator,
            "settings": estimate.settings,
            "seconds": estimate.seconds,
            "warnings": estimate.warnings,
            "notes": [*answer.notes, *_note_of_unit(estimate, bits)],
            "x": {"source": x.source, "shape": x.values.shape, "dtype": str(x.values.dtype)},
            "y": {"source": y.source, "shape": y.values.shape, "dtype": str(y.values.dtype)},
        }
    )


def _unit(bits: bool) -> tuple[str, Callable[[float | None], float | None]]:
    """The unit, and what brings nats to it."""
    scale = 1 / math.log(2) if bits else 1.0
    return "bits" if bits else "nats", lambda nats: None if nats is None else nats * scale


def _note_of_unit(estimate: Estimate, bits: bool) -> tuple[str, ...]:
    told = (*estimate.warnings, str(estimate.settings.get("chosen", "")))
    return ("figures inside settings and warnings are in nats",) if bits and any(told) else ()


def _plain(value: Any) -> Any:
    """Only what JSON has: no NaN, no infinity, nothing of numpy."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def show(answer: Answer, x: Side, y: Side, bits: bool) -> None:
    estimate, unit, nats = answer.estimate, *_unit(bits)
    out = console()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()

    def number(value: float) -> str:
        return f"{round(nats(value), 4) + 0.0:.4f}"  # no -0.0000

    def with_unit(value: float | None) -> str | None:
        return None if value is None else f"{number(value)} {unit}"

    interval = None
    if estimate.ci is not None:
        interval = f"{' .. '.join(map(number, estimate.ci))} {unit} at {100 * estimate.ci_level:g}%"
    lines = {
        "I(x; y)": with_unit(estimate.value),
        "interval": interval,
        "se": with_unit(estimate.se),
        "p": None if estimate.p_value is None else f"{estimate.p_value:.3g}",
        "null": with_unit(estimate.null),
        "ceiling": with_unit(estimate.ceiling),
        "kind": estimate.kind,
        "n": None if estimate.n is None else str(estimate.n),
        "dims": None if estimate.dims is None else " x ".join(map(str, estimate.dims)),
        "projection": estimate.projection,
        "estimator": estimate.estimator,
        "settings": ", ".join(f"{name}={value}" for name, value in estimate.settings.items()) or None,
        "seconds": None if estimate.seconds is None else f"{estimate.seconds:.2f}",
        "x": f"{x.source} {shape_of(x)}",
        "y": f"{y.source} {shape_of(y)}",
    }
    for name, text in lines.items():
        if text is not None:
            table.add_row(name, text)
    out.print(table)
    for warning in estimate.warnings:
        out.print(Text.assemble(("warning:", "yellow"), f" {warning}"), soft_wrap=True)
    for note in (*answer.notes, *_note_of_unit(estimate, bits)):
        out.print(f"note: {note}", soft_wrap=True)


def shape_of(side: Side) -> str:
    return f"{list(side.values.shape)} {'text' if side.values.dtype.kind in 'US' else side.values.dtype}"


def console(width: int = 140) -> Console:
    """Prints texts as they stand: [n, d] is no markup. width: where the output is a file, which has none of its own."""
    found = Console(markup=False, emoji=False, highlight=False)
    return found if found.is_terminal else Console(width=width, markup=False, emoji=False, highlight=False)
