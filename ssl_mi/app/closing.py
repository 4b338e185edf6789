"""What a run prints before it trains and after: its facts and its closing table, for a terminal of 80 columns."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

NAMES = 17  # columns of a fact's name
WIDTH = 80


def fact_lines(facts: Mapping[str, Any], width: int | None = None) -> list[tuple[str, str]]:
    """(name, text) of each line; a fact of several lines has its name on the first, and folds at words.

    Args:
        facts: name -> value.
        width: Columns. None: of the terminal; of a file, 80.
    """
    width = (
        (shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH) if width is None else width
    )
    room = max(20, width - NAMES - 2)
    found = []
    for name, value in facts.items():
        parts = textwrap.wrap(str(value), room, break_long_words=False, break_on_hyphens=False) or [""]
        found += [(name if i == 0 else "", part) for i, part in enumerate(parts)]
    return found


def print_facts(console: Console, facts: Mapping[str, Any]) -> None:
    """Print the facts, their names to the right of a column.

    Args:
        console: Where to.
        facts: name -> value.
    """
    from rich.text import Text

    for name, text in fact_lines(facts):
        console.print(Text.assemble((f"{name:>{NAMES}}", "bold"), f"  {text}"), soft_wrap=True)


def print_table(console: Console, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table in columns as wide as their cells, without frames.

    Args:
        console: Where to.
        header: Titles of the columns.
        lines: Cells of each line.
    """
    from rich.text import Text

    if not lines:
        return
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    for number, line in enumerate([header, *lines]):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        console.print(Text("  ".join(cells).rstrip(), style="bold" if number == 0 else ""), soft_wrap=True)
        if number == 0:
            console.print(Text("-" * (sum(widths) + 2 * (len(widths) - 1))), soft_wrap=True)
