"""`ssl-mi runs [FOLDER...]`: which runs there are, how they ended, what they found, what they take on the disk."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl_mi.app.run_folders import Found

ABOUT = """\
List runs: state, objective, epochs, what the views share, linear probe, size on the disk.

A run is complete, stopped (an error, or an interrupt), diverged (its loss or its embeddings are beyond sense), or
unfinished: it has no report, since it is on its way or was killed."""

MORE = """\
examples
  ssl-mi runs                        those in runs/
  ssl-mi runs runs/sweeps/*/ --state diverged"""

STATES = ("complete", "stopped", "diverged", "unfinished")


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments.

    Args:
        parser: Of `ssl-mi runs`, changed in place.
    """
    parser.description, parser.epilog = ABOUT, MORE
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument("places", nargs="*", metavar="FOLDER", help="folders of runs, or above them; default: runs")
    parser.add_argument("--state", choices=STATES, help="only runs that ended so")


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each run, and return the exit status."""
    from rich.console import Console

    from ssl_mi.app.closing import print_table
    from ssl_mi.app.run_folders import JSON, find_runs

    try:
        found = find_runs(arguments.places or ["runs"])
    except (ValueError, OSError) as error:
        arguments.wrong_usage(str(error))
    shown = [entry for entry in found if arguments.state in (None, entry.state)]
    console = Console(markup=False, emoji=False, highlight=False)
    print_table(console, ["run", "state", "objective", "epochs", "nats", "probe", "disk"], list(map(_line, shown)))
    for entry in shown:
        if entry.state in ("stopped", "diverged") or (entry.state == "unfinished" and (entry.folder / JSON).exists()):
            console.print(f"{entry.folder}: {entry.state}: {entry.why}", soft_wrap=True)
    console.print(f"{len(shown)} runs" if shown else f"no run is {arguments.state}, of {len(found)}", soft_wrap=True)
    return 0


def _line(entry: Found) -> list[str]:
    from ssl_mi.app.comparison import headlines
    from ssl_mi.app.run_folders import in_words, size_on_disk

    document = entry.document
    values = headlines(document)
    nats = values.get("captured_nats", values.get("ksg_nats"))
    probe = values.get("linear_probe")
    epochs = max((int(e["epoch"]) for e in document.get("history", ())), default=0)
    return [
        _short(entry.folder),
        entry.state,
        str(document.get("objective", "")),
        f"{epochs}" if document else "",
        "" if nats is None else f"{nats:.3f}",
        "" if probe is None else f"{probe:.3f}",
        in_words(size_on_disk(entry.folder)),
    ]


def _short(folder: Path) -> str:
    """Relative to the current folder where it lies below."""
    here = Path.cwd()
    path = folder.resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(folder)
