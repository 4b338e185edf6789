"""`ssl-mi staircase`: bias and spread of every variational estimator as the true information increases.

Nothing is imported here but what the parser needs, so that --help is quick.
"""

from __future__ import annotations

import argparse
from pathlib import Path

ABOUT = """\
Train each variational estimator on Gaussians that share 2, 4, 6, 8 and 10 nats, and show its bias and its spread
beside theory. All estimators with their defaults take about 10 minutes of one core."""
MORE = """\
examples
  ssl-mi staircase --out staircase.csv --picture staircase.png           all of them
  ssl-mi staircase --estimators infonce,nwj --steps 50 --seeds 1 --run   a table only, seconds

An estimator is a bound or a density estimator of `ssl-mi estimators`, or a bound of your own as package.module:Class.
Nothing is written without --out and --picture."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments.

    Args:
        parser: of `ssl-mi staircase`, changed in place.
    """
    parser.description, parser.epilog = ABOUT, MORE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument("--estimators", metavar="A,B", help="which, separated by commas (default: all)")
    parser.add_argument("--steps", type=int, default=800, help="training steps per level (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=100, help="evaluated batches per level (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="fits per estimator (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the numbers here")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw here: .png, .pdf or .svg")
    parser.add_argument("--run", action="store_true", help="start without --out and --picture: print the table only")


def run(arguments: argparse.Namespace) -> int:
    """Train, evaluate, print the table, write what was asked for, and return the exit status."""
    if not (arguments.run or arguments.out or arguments.picture):
        arguments.wrong_usage(
            "this takes minutes: choose where it goes with --out FILE.csv and --picture FILE.png, or --run for a table"
        )
    from rich.console import Console

    from ssl_mi.information.apps import staircase_experiment, staircase_rows

    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(width=120, markup=False, emoji=False)  # a log file has no width of its own
    names = [name.strip() for name in (arguments.estimators or "").split(",") if name.strip()]
    try:
        rows = staircase_experiment.staircase(
            names or staircase_experiment.ESTIMATORS,
            batch_size=arguments.batch_size,
            steps=arguments.steps,
            batches=arguments.batches,
            seeds=range(arguments.seeds),
            progress=console.is_terminal,
        )
    except ValueError as problem:
        arguments.wrong_usage(str(problem))
    console.print(staircase_rows.table(rows))
    if arguments.out:
        staircase_rows.write(rows, arguments.out)
    if arguments.picture:
        from ssl_mi.information.apps.staircase_plot import picture

        picture(rows, arguments.picture)
    written = [str(path) for path in (arguments.out, arguments.picture) if path]
    console.print(f"written: {', '.join(written)}" if written else "the rows were not kept: --out FILE.csv keeps them")
    return 0
