"""`ssl-mi compare RUN...`: runs grouped by what differs, seeds pooled, with intervals."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl_mi.app.comparison import Comparison, Group, Quantity

ABOUT = """\
Compare runs: grouped by what differs in their configurations, seeds pooled. Of each quantity the mean, the standard
deviation and Student's 95% interval over seeds, and the differences to a reference group, paired by seed. Runs that
diverged or stopped are named and enter no mean. At the end, Kendall's tau of mutual information and linear probe."""

MORE = """\
examples
  ssl-mi compare runs/sweeps/2026-01-01_12-00-00-000
  ssl-mi compare 'runs/simclr-*' 'runs/vicreg-*' --out comparison

--out writes comparison.md, .csv (every quantity), .tex (booktabs), and the figure as .pdf and .svg."""

NAME = 19  # letters of a group in a table of 80 columns
FORMATS = ("terminal", "markdown", "csv", "latex")


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments.

    Args:
        parser: Of `ssl-mi compare`, changed in place.
    """
    parser.description, parser.epilog = ABOUT, MORE
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument("places", nargs="+", metavar="RUN", help="folders of runs, sweeps, or patterns")
    parser.add_argument(
        "--metric", action="append", metavar="KEY", help="a quantity; default: the headlines; repeatable"
    )
    parser.add_argument(
        "--reference", metavar="GROUP", help="what differences are to, a part of its name; default: the first"
    )
    parser.add_argument("--format", choices=FORMATS, default="terminal", help="of what is printed; default: terminal")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the files here")


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison, write it where asked, and return the exit status."""
    from ssl_mi.app.comparison import compare
    from ssl_mi.app.comparison_tables import as_csv, chosen, latex, markdown
    from ssl_mi.app.run_folders import find_runs

    try:
        found = compare(find_runs(arguments.places))
        quantities = chosen(found, arguments.metric)
        reference = _reference(found, arguments.reference)
    except (ValueError, OSError) as error:
        arguments.wrong_usage(str(error))
    texts = {"markdown": markdown, "csv": as_csv, "latex": latex}
    if arguments.format == "terminal":
        _print(found, quantities, reference)
    else:
        print(texts[arguments.format](found, quantities, reference), end="")
    if arguments.out is not None:
        for path in _write(found, quantities, reference, arguments.out):
            print(f"written: {path}")
    elif arguments.format == "terminal":
        print("nothing was written: --out DIR keeps tables and the figure")
    return 0


def _reference(found: Comparison, name: str | None) -> Group | None:
    """The group that differences are to; None where there is one only."""
    if name is None:
        measured = [group for group in found.groups if group.measured]
        return measured[0] if len(measured) > 1 else None
    exact = [group for group in found.groups if group.name == name]
    matching = exact or [group for group in found.groups if name in group.name]
    if len(matching) != 1:
        names = "; ".join(group.name for group in found.groups)
        raise ValueError(f"--reference {name} fits {len(matching)} groups, and must fit one of: {names}")
    return matching[0]


def _print(found: Comparison, quantities: list[Quantity], reference: Group | None) -> None:
    """A block a quantity, so that a line fits 80 columns."""
    from rich.console import Console
    from rich.text import Text

    from ssl_mi.app.closing import print_table
    from ssl_mi.app.comparison_tables import labels, main_table, sentences

    console = Console(markup=False, emoji=False, highlight=False)
    called = dict(zip((group.name for group in found.groups), labels(found, NAME), strict=True))
    for name, label in called.items():
        if name != label:
            console.print(f"{label} {name}", soft_wrap=True)
    for quantity in quantities:
        _, lines = main_table(found, [quantity], reference)
        if not lines:
            continue
        console.print()
        console.print(Text(lines[0][1], style="bold"), soft_wrap=True)
        last = [] if reference is None else [f"minus {called[reference.name]} (95%)"]
        short = ["", "n", "mean", "sd", "95% interval", *last]
        print_table(console, short, [[called[line[0]], *line[2:]] for line in lines])
    console.print()
    if reference is not None:
        console.print(f"Differences are to {called[reference.name]}, paired by seed.", soft_wrap=True)
    for text in sentences(found):
        console.print(text, soft_wrap=True)


def _write(found: Comparison, quantities: list[Quantity], reference: Group | None, folder: Path) -> list[Path]:
    from ssl_mi import atomic
    from ssl_mi.app.comparison_figure import draw
    from ssl_mi.app.comparison_tables import as_csv, latex, markdown

    texts = {"md": markdown, "csv": as_csv, "tex": latex}
    paths = [
        atomic.write(folder / f"comparison.{ending}", text(found, quantities, reference))
        for ending, text in texts.items()
    ]
    return paths + draw(found, quantities, [folder / f"comparison.{ending}" for ending in ("pdf", "svg")])
