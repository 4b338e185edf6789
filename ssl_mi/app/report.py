"""`ssl-mi report RUN...`: write report.html and report.md of a run again."""

from __future__ import annotations

import argparse
from pathlib import Path

ABOUT = """\
Write report.html and report.md again from what a run left: report.json, samples.npz and its pictures. Nothing is
measured again. report.html is one file that opens without a network."""

MORE = """\
examples
  ssl-mi report runs/shapes/2026-01-01_12-00-00-000
  ssl-mi report runs/sweeps/2026-01-01_12-00-00-000"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments.

    Args:
        parser: Of `ssl-mi report`, changed in place.
    """
    parser.description, parser.epilog = ABOUT, MORE
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument("places", nargs="+", type=Path, metavar="RUN", help="folders of runs, or above them")


def run(arguments: argparse.Namespace) -> int:
    """Write the pages, print where they are, and return the exit status."""
    from ssl_mi.app.run_folders import UNFINISHED, find_runs
    from ssl_mi.report import rebuild

    try:
        found = find_runs(arguments.places)
    except (ValueError, OSError) as error:
        arguments.wrong_usage(str(error))
    written = 0
    for entry in found:
        if entry.state == UNFINISHED:
            print(f"{entry.folder} is passed over: {entry.why}")
            continue
        print(f"written: {rebuild(entry.folder).page}")
        written += 1
    return 0 if written else 1
