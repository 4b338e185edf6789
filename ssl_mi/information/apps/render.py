"""Estimates and estimators as the command line prints them: tables for people, JSON for programs, nats or bits."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssl_mi.information.apps import catalogue
from ssl_mi.information.apps.files import Side
from ssl_mi.information.core.estimate import Estimate

IN_NATS = ("value", "se", "ci", "null", "ceiling")


class Answer(NamedTuple):
    """An estimate, and what the command itself adds to it."""

    estimate: Estimate
    notes: tuple[str, ...] = ()
    given: Side | None = None


# ------------------------------------------------------------------------------------------------ an estimate


def document(answer: Answer, x: Side, y: Side, bits: bool) -> dict[str, Any]:
    """The answer as JSON has it: null where there is nothing; `unit` is that of value, se, ci, null and ceiling."""
    unit, from_nats = _unit(bits)
    fields = answer.estimate.to_dict()
    for name in IN_NATS:
        fields[name] = [*map(from_nats, fields[name])] if isinstance(fields[name], list) else from_nats(fields[name])
    return {
        "value": fields.pop("value"),
        "unit": unit,
        **fields,
        "notes": [*answer.notes, *_note_of_unit(answer.estimate, bits)],
        "x": _described(x),
        "y": _described(y),
        **({} if answer.given is None else {"given": _described(answer.given)}),
    }


def _described(side: Side) -> dict[str, Any]:
    return {"source": side.source, "shape": list(side.values.shape), "dtype": str(side.values.dtype)}


def show(answer: Answer, x: Side, y: Side, bits: bool) -> None:
    """Print the answer as a table, its warnings and its notes."""
    out = console()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in _lines(answer, x, y, bits).items():
        if text is not None:
            table.add_row(name, Text(text))
    out.print(table)
    for warning in answer.estimate.warnings:
        out.print(Text.assemble(("warning: ", "yellow"), str(warning)), soft_wrap=True)
    for note in (*answer.notes, *_note_of_unit(answer.estimate, bits)):
        out.print(Text(f"note: {note}"), soft_wrap=True)


def _lines(answer: Answer, x: Side, y: Side, bits: bool) -> dict[str, str | None]:
    estimate, given = answer.estimate, answer.given
    unit, from_nats = _unit(bits)

    def number(nats: float | None) -> str:
        value = from_nats(nats)
        return "-" if value is None else f"{round(value, 4) + 0.0:.4f}"  # no -0.0000

    def with_unit(nats: float | None) -> str | None:
        return None if nats is None else f"{number(nats)} {unit}"

    interval = None
    if estimate.ci is not None and estimate.ci_level is not None:
        interval = f"{' .. '.join(map(number, estimate.ci))} {unit} at {100 * estimate.ci_level:g}%"
    return {
        "I(x; y)" if given is None else "I(x; y | z)": with_unit(estimate.value),
        "interval": interval,
        "se": with_unit(estimate.se),
        "p": estimate.p_text and estimate.p_text.removeprefix("p ").removeprefix("= "),
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
        "z": None if given is None else f"{given.source} {shape_of(given)}",
    }


def _unit(bits: bool) -> tuple[str, Callable[[float | None], float | None]]:
    """The unit, and the function that brings nats to it."""
    scale = 1 / math.log(2) if bits else 1.0
    return "bits" if bits else "nats", lambda nats: None if nats is None else nats * scale


def _note_of_unit(estimate: Estimate, bits: bool) -> tuple[str, ...]:
    in_words = estimate.warnings or "chosen" in estimate.settings
    return ("figures inside settings and warnings are in nats",) if bits and in_words else ()


def shape_of(side: Side) -> str:
    """[n, d] and the type, for people."""
    return f"{list(side.values.shape)} {'text' if side.values.dtype.kind in 'US' else side.values.dtype}"


def console() -> Console:
    """The terminal, or a file of fixed width."""
    found = Console(markup=False, emoji=False, highlight=False)
    if found.is_terminal:
        return found
    return Console(width=140, markup=False, emoji=False, highlight=False)


# -------------------------------------------------------------------------------------------------- estimators


def show_catalogue() -> None:
    """Print all estimators of the command line, and those that are for Python only."""
    table = Table(title="ssl-mi estimate --estimator NAME[:SETTINGS]", title_justify="left")
    for column in ("name", "what its number means", "when to use it"):
        table.add_column(column)
    for name, entry in catalogue.CATALOGUE.items():
        fits = " (fits networks)" if entry.fits else ""
        table.add_row(Text(name, "bold"), Text(entry.number), Text(entry.when + fits))
    out = console()
    out.print(table)
    out.print(
        "One in detail, with its settings: ssl-mi estimators NAME. From Python only, for they take other samples: "
        "conditional_ksg(x, y, given), discrete_conditional_mi(x, y, given), differential_entropy(x), "
        "discrete_entropy(x), nsb_entropy(x), discrete_conditional_entropy(x, given), total_correlation(x, y, ...), "
        "interaction_information(x, y, z), pointwise_mi(x, y), pointwise_neural_mi(x, y). Given a third variable: "
        "ssl-mi estimate --given. Every pair of columns: ssl-mi estimate --matrix.",
        soft_wrap=True,
    )


def show_estimator(spec: str, function: Callable) -> None:
    """Print what is known of the estimator that `spec` names: its number, when to use it, settings, description."""
    out = console()
    entry = catalogue.find_entry(catalogue.split_settings(spec)[0])
    if entry is not None:
        out.print(Text.assemble((spec, "bold"), f"\n  number: {entry.number}\n  when:   {entry.when}"))
    taken = catalogue.settings_of(function)
    if taken is not None:
        parameters = inspect.signature(function).parameters
        out.print(Text("  takes:  " + ", ".join(f"{name}={parameters[name].default!r}" for name in taken)))
    out.print(Text("\n" + (inspect.getdoc(getattr(function, "func", function)) or "")))
