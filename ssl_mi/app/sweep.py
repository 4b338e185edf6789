"""`ssl-mi sweep RUN...`: one table, and one picture, of runs that were started one by one.

A sweep by `ssl-mi train -m` writes its own (`sweep_callback`). Runs that were a job each, as under SLURM, are put
together here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

ABOUT = """\
One table of many runs, from their folders: what was varied, what the views share, what the embeddings
share, the objective's own bound, accuracies. --out keeps it as sweep.csv, beside a picture over the exact
information where the runs are on views whose information is known."""

MORE = """\
examples
  ssl-mi sweep runs/patches/*/
  ssl-mi sweep runs/*/*/ --out runs/all

A sweep by `ssl-mi train -m objective=infonce,mine seed=0,1` writes both into its own folder."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments.

    Args:
        parser: Of `ssl-mi sweep`, changed in place.
    """
    parser.description, parser.epilog = ABOUT, MORE
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="folders of runs, or of sweeps")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write sweep.csv and staircase.png here")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, write it where asked, and return the exit status."""
    from ssl_mi.app.sweep_table import lines_of, print_table, write

    try:
        lines = lines_of(arguments.folders)
    except (ValueError, OSError) as error:
        arguments.wrong_usage(str(error))
    if not lines:
        arguments.wrong_usage(f"no report.json in {', '.join(map(str, arguments.folders))} nor one level below")
    print_table(lines)
    if arguments.out is None:
        print("nothing was written: --out DIR keeps the table")
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    for path in write(lines, arguments.out):
        print(f"written: {path}")
    return 0
