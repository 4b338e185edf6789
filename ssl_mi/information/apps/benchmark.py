"""`ssl-mi benchmark`: estimators x tasks whose truth is known x seeds -> a table, a CSV and a picture.

Nothing is imported here but what the parser needs, so that --help is quick.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from ssl_mi.information.apps.status import DONE, WRONG_USAGE, exit_status

SUITES = (
    "beyond-normal",
    "bmi",
    "everyday",
    "everyday-tuning",
    "everyday-report",
    "more",
    "conditional",
    "all",
)  # those of distributions.suites, which a test checks

ABOUT = """\
Estimate mutual information where it is known, and show the errors. All estimators are given the same samples: those
of (seed, task, n)."""
MORE = """\
examples
  ssl-mi benchmark --estimators ksg,cca_mi --match 1v1 -n 1000            seconds
  ssl-mi benchmark --estimators mutual_information,ksg:k=10,infonce --suite all --out results.csv --picture results.png
  ssl-mi benchmark --estimators my_package.my_module:my_estimator:setting=3
  ssl-mi benchmark --suite conditional --estimators conditional_mutual_information --seeds 1
  ssl-mi benchmark --list                                                 the tasks and their truth

An estimator is a name of `ssl-mi estimators` with its settings, or package.module:function, (x, y) -> Estimate or a
number; of the suite conditional, (x, y, z).

Nothing is written without --out and --picture. Rows already in --out (same estimator, task, n and seed) are
not computed again: an interrupted benchmark continues, and a longer one adds to a shorter."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments.

    Args:
        parser: of `ssl-mi benchmark`, changed in place.
    """
    parser.description, parser.epilog = ABOUT, MORE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument("--estimators", action="append", metavar="NAME[:SETTINGS]", help="what to run, comma-separated")
    parser.add_argument("--suite", default=SUITES[0], choices=SUITES, help="named tasks (default: %(default)s)")
    parser.add_argument("--tasks", action="append", metavar="NAME", help="only these tasks, of any suite")
    parser.add_argument("--match", metavar="REGEX", help="only tasks of the suite whose name matches")
    parser.add_argument("-n", type=int, default=10_000, help="rows per sample (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="samples per task (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="CSV", help="write the rows here; rows that the file has are not computed again"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw here: .png, .pdf or .svg")
    parser.add_argument("--list", action="store_true", help="list the tasks with their truth, and stop")


@exit_status
def run(arguments: argparse.Namespace) -> int:
    """Run or list the benchmark, print, and return the exit status."""
    if not (arguments.list or arguments.estimators):
        arguments.wrong_usage(
            "name what to run: --estimators ksg,cca_mi (ssl-mi estimators lists them), or --list for the tasks"
        )
    from rich.console import Console
    from rich.text import Text

    from ssl_mi.information.apps import benchmark_report, benchmark_rows
    from ssl_mi.information.apps.catalogue import find_estimator

    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console = Console(width=160, markup=False, emoji=False, highlight=False)  # a log file has no width of its own
    try:
        chosen = benchmark_rows.choose_tasks(arguments.suite, arguments.tasks, arguments.match)
        if arguments.list:
            for task in chosen:
                console.print(Text(f"{task.mi:8.5f}  {task.name}  {task.title}"))
            return DONE
        names = [name.strip() for given in arguments.estimators for name in split_names(given)]
        estimators = {name: find_estimator(name) for name in names}
        benchmark_rows.check_samples(estimators, chosen)
        rows = benchmark_rows.run(
            estimators, chosen, arguments.n, range(arguments.seeds), arguments.out, console.is_terminal
        )
    except (ValueError, OSError) as problem:
        print(f"ssl-mi: {problem}", file=sys.stderr)
        return WRONG_USAGE
    console.print(benchmark_report.table(rows))
    if arguments.picture:
        benchmark_report.picture(rows, arguments.picture)
        console.print(Text(f"drawn: {arguments.picture}"))
    for sentence in benchmark_rows.failures(rows):
        print(f"ssl-mi: {sentence}", file=sys.stderr)
    kept = f"written: {arguments.out}" if arguments.out else "the rows were not kept: --out FILE.csv keeps them"
    console.print(Text(kept))
    return DONE


def split_names(given: str) -> list[str]:
    """Names separated by commas or semicolons; a comma before `name=` belongs to the settings."""
    return [spec for spec in re.split(r"[;,](?!\s*\w+=)", given) if spec.strip()]
