"""Mutual information of two files, from the command line: `ssl-mi estimate x.npy y.npy`; see `ssl-mi --help`.

Exit status: 0 estimated; 1 could not be estimated (the reason on stderr); 2 wrong usage; 3 estimated, with warnings,
under --strict.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ssl_mi.information.apps import catalogue as named
from ssl_mi.information.apps.answer import Answer, console, document, shape_of, show
from ssl_mi.information.apps.files import Side, read_sides
from ssl_mi.information.apps.source import Asked
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.inference.uncertainty import REPEATS, SUBSETS, assess

FEWEST_ROWS = 40 * SUBSETS  # parts of fewer than 40 rows say nothing
PERMUTATIONS = 19  # of an estimator that does not bring its own

ABOUT = """\
Mutual information I(x; y) = E[log p(x,y) / (p(x) p(y))]: how much one thing tells of another, in nats
(1 nat = 1.443 bits). 0 when they are independent; never less. Estimated from paired samples, with an
interval, what the same procedure reads where nothing is shared, and warnings."""

FIRST_STEPS = """\
  ssl-mi estimate x.npy y.npy     row i of x and row i of y are one pair
  ssl-mi estimate --help          files, estimators, what the answer means, examples
  ssl-mi estimators               a table of all of them"""

ESTIMATE = """\
what goes in
  Row i of x and row i of y are one pair; a row holds one or more columns.
  .npy      [n] or [n, d]
  .npz      one array of it: views.npz:zx, or --x-key zx; arrays called x and y are found
  .csv .tsv columns by name or number (from 0): --x-columns a,b or 'z_*' or 0:8; the first line is a
            header when it holds no number or a word above a number (--header, --no-header to say so)
  .parquet  columns by name; a column of lists (embeddings) is as many columns (pip install 'ssl_mi[parquet]')
  One file may hold both sides: name the columns of each (or of one: the other is all the rest), or the arrays.
  A side of text (labels) is read as symbols; --symbols y reads numbers so too.
  Missing values, text among numbers, and Python objects are refused, with their place.

which estimator (all of them: ssl-mi estimators)
  mutual_information   the default: looks at the samples and chooses; seconds
  ksg                  continuous, up to 4 dimensions a side; milliseconds
  mixed_ksg_ross       x continuous, y labels
  discrete_mi          symbols on both sides
  infonce, mine, ...   neural lower bounds for many dimensions; minutes
  Settings of any of them: --estimator ksg:k=10,variant=2

what comes out
  value      in nats, or bits with --bits; never clipped: a small negative value is 0 and noise
  interval   from reading ten parts of the rows; of networks: of the reading, not of the fit
  p, null    how often, and how much, it reads when rows are re-paired at random: dependence is shown by a
             small p; a null away from 0 is bias
  ceiling    the largest value it could have read here: near it the truth may be larger
  kind       point estimate; lower or upper bound (in expectation); surrogate
  warnings   what may be wrong and what to do; all are explained in docs/estimating.md

examples
  ssl-mi estimate x.npy y.npy
  ssl-mi estimate table.csv --x-columns age,height --y-columns weight --bits
  ssl-mi estimate embeddings.parquet --x-columns h --y-columns label --symbols y
  ssl-mi estimate views.npz:zx views.npz:zy --estimator infonce:critic=concat --progress
  ssl-mi estimate x.npy y.npy --estimator ksg --k 5 --permutations 99 --json --strict

exit status
  0  estimated      1  could not be estimated: the reason on stderr      2  wrong usage
  3  estimated, but with warnings, when --strict was given"""


def main(argv: Sequence[str] | None = None) -> int:
    parser, estimate_parser = _parsers()
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "estimators":
            return _estimators(arguments, parser)
        return _estimate(arguments, estimate_parser)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("ssl-mi", description=ABOUT, epilog=FIRST_STEPS, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    estimators = commands.add_parser("estimators", help="what there is, what each number means, when to take it")
    estimators.add_argument("name", nargs="?", help="tell all about one: its mathematics and settings")

    estimate = commands.add_parser(
        "estimate",
        help="estimate from one or two files",
        description=ABOUT,
        epilog=ESTIMATE,
        usage="%(prog)s X [Y] [options]; ssl-mi estimate --help tells them",
        formatter_class=raw,
    )
    estimate.add_argument("x", metavar="X", help=".npy, .npz[:key], .csv, .tsv or .parquet")
    estimate.add_argument("y", metavar="Y", nargs="?", help="the same; left out when X holds both sides")
    data = estimate.add_argument_group("the samples")
    for side in "xy":
        data.add_argument(f"--{side}-key", metavar="NAME", help=f"the array of an .npz that is {side}")
        data.add_argument(f"--{side}-columns", metavar="A,B", help=f"the columns that are {side}; default: all")
    data.add_argument("--symbols", choices=("x", "y", "both"), help="take this side's values for symbols (labels)")
    data.add_argument("--header", action=argparse.BooleanOptionalAction, help="whether a .csv has a header")
    how = estimate.add_argument_group("the estimate")
    default = "mutual_information"
    how.add_argument("--estimator", default=default, metavar="NAME[:SETTINGS]", help="default: %(default)s")
    how.add_argument("--k", type=_at_least(1), metavar="K", help="neighbours, of estimators that have them")
    how.add_argument("--seed", type=_at_least(0), default=0, metavar="N", help="default: 0")
    how.add_argument("--level", type=_level, default=0.95, metavar="P", help="of the interval; default: 0.95")
    how.add_argument(
        "--permutations",
        type=_at_least(0),
        metavar="B",
        help=f"re-pairings for null and p >= 1/(1+B); default: 99 for {default}, 0 for networks (each is a fit), "
        f"else {PERMUTATIONS}",
    )
    how.add_argument(
        "--interval",
        action=argparse.BooleanOptionalAction,
        help=f"read {SUBSETS} parts of the rows for it; default: yes, but for networks, which have their own",
    )
    out = estimate.add_argument_group("the answer")
    out.add_argument("--bits", action="store_true", help="in bits instead of nats")
    out.add_argument("--json", action="store_true", help="one JSON object on stdout, and nothing else")
    out.add_argument("--strict", action="store_true", help="exit status 3 when there are warnings")
    out.add_argument("--progress", action="store_true", help="show on stderr how far it is")
    return parser, estimate


def _at_least(fewest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < fewest:
            raise argparse.ArgumentTypeError(f"a whole number, {fewest} or more, is needed; got {text!r}")
        return int(text)

    return number


def _level(text: str) -> float:
    try:
        level = float(text)
    except ValueError:
        level = math.nan
    if not 0 < level < 1:
        raise argparse.ArgumentTypeError(f"a number between 0 and 1 is needed, as 0.95; got {text!r}")
    return level


# ------------------------------------------------------------------------------------------------------ estimate


def _estimate(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        estimator, wrapped = _prepared(arguments)
    except ValueError as problem:
        parser.error(str(problem))
    try:
        x, y = _samples(arguments)
    except (ValueError, OSError) as problem:
        return _failed(str(problem))
    where = f"x is {x.source} {shape_of(x)}, y is {y.source} {shape_of(y)}"
    try:
        # Whatever anything below prints is not the answer.
        with redirect_stdout(sys.stderr):
            answer = _read(estimator, wrapped, x.values, y.values, arguments)
    except TypeError as problem:  # of settings that are only passed on, the last to take them knows which it takes
        if "unexpected keyword argument" not in str(problem):
            raise
        parser.error(f"{arguments.estimator}: {str(problem).split('() ')[-1]}; see ssl-mi estimators NAME")
    except (ValueError, ArithmeticError, MemoryError, RuntimeError) as problem:
        return _failed(f"{problem or type(problem).__name__}\n  {where}")
    if arguments.json:
        print(json.dumps(document(answer, x, y, arguments.bits), allow_nan=False))
    else:
        show(answer, x, y, arguments.bits)
    return 3 if arguments.strict and answer.estimate.warnings else 0


def _failed(why: str) -> int:
    print(f"ssl-mi: {why}", file=sys.stderr)
    return 1


def _prepared(arguments: argparse.Namespace) -> tuple[Callable[..., Estimate], bool]:
    """The estimator with its settings, and whether `assess` goes around it. ValueError for wrong usage."""
    name, settings = named.split_settings(arguments.estimator)
    estimator = named.find_estimator(arguments.estimator)
    taken = named.settings_of(estimator)
    own = taken is not None and "permutations" in taken  # it brings its own interval and null
    if own and arguments.interval is False:
        raise ValueError(f"{name} always states its interval: leave out --no-interval")
    flags = {"k": arguments.k} | ({"permutations": arguments.permutations} if own else {})
    given = {setting: value for setting, value in flags.items() if value is not None}
    for setting in given:
        if setting in settings:
            raise ValueError(f"--{setting} {given[setting]} and {arguments.estimator} say it twice: leave out one")
    named.check_settings(name, estimator, given)
    # What has a default here goes to those that take it; those of the catalogue that pass on what they get do.
    for setting in ("seed", "level"):
        if setting not in settings and (name in named.CATALOGUE if taken is None else setting in taken):
            given[setting] = getattr(arguments, setting)
    return functools.partial(estimator, **given) if given else estimator, not own


def _samples(arguments: argparse.Namespace) -> tuple[Side, Side]:
    asked = (
        Asked(side, getattr(arguments, f"{side}_key"), getattr(arguments, f"{side}_columns"), symbols)
        for side, symbols in (("x", arguments.symbols in ("x", "both")), ("y", arguments.symbols in ("y", "both")))
    )
    x, y = read_sides(arguments.x, arguments.y, *asked, arguments.header)
    if len(x.values) != len(y.values):
        raise ValueError(
            f"x has {len(x.values)} rows ({x.source}) and y has {len(y.values)} ({y.source}): row i of one belongs to "
            "row i of the other, so give as many of each"
        )
    return x, y


def _read(estimator: Callable, wrapped: bool, x: np.ndarray, y: np.ndarray, arguments: argparse.Namespace) -> Answer:
    """The estimate, with interval and null around it unless it brings its own."""
    name = named.split_settings(arguments.estimator)[0]
    fits = name in named.CATALOGUE and named.CATALOGUE[name].fits
    notes = []
    subsets, permutations = (0, 0) if fits else (SUBSETS, PERMUTATIONS)
    if arguments.permutations is not None:
        permutations = arguments.permutations
    if arguments.interval is not None:
        subsets = SUBSETS if arguments.interval else 0
    elif subsets and len(x) < FEWEST_ROWS:
        subsets = 0
        notes.append(f"no interval: {len(x)} rows are too few to read {SUBSETS} parts; it takes {FEWEST_ROWS}")
    if not wrapped:
        with _progress(name, None, arguments.progress):
            return Answer(_checked(estimator(x, y), name))
    if fits and not subsets + permutations:
        return Answer(_checked(estimator(x, y, progress=arguments.progress), name))  # with a bar of its own
    readings = 1 + REPEATS * subsets + permutations + ("k" in inspect.signature(estimator).parameters)
    with _progress(name, readings, arguments.progress) as counted:
        how = {"level": arguments.level, "permutations": permutations, "seed": arguments.seed}
        try:
            estimate = assess(counted(estimator), x, y, subsets=subsets, **how)
        except ValueError as problem:
            # Of the whole? Then it fails again. Else the parts are too small, and nobody insisted on them.
            if not subsets or arguments.interval:
                raise
            estimate = assess(counted(estimator), x, y, subsets=0, **how)
            notes.append(f"no interval: a part of a fifth of the rows was refused: {problem}")
    return Answer(_checked(estimate, name), tuple(notes))


def _checked(estimate: Any, name: str) -> Estimate:
    if not isinstance(estimate, Estimate):
        raise ValueError(f"{name} returned a {type(estimate).__name__}: an estimator returns an Estimate")
    if not math.isfinite(estimate.value):
        raise ValueError(f"{name} read {estimate.value}: nothing can be said of these samples; try another estimator")
    return estimate


@contextmanager
def _progress(name: str, total: int | None, shown: bool) -> Iterator[Callable[[Callable], Callable]]:
    """Gives a function that makes an estimator count its readings on a bar, on stderr."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    if total is None:
        columns = (columns[0], columns[1], columns[3])
    with Progress(
        *columns, console=Console(stderr=True, markup=False, emoji=False), disable=not shown, transient=True
    ) as bar:
        task = bar.add_task(name, total=total)

        def counted(estimator: Callable) -> Callable:
            @functools.wraps(estimator)
            def reading(*args, **kwargs):
                answer = estimator(*args, **kwargs)
                bar.advance(task)
                return answer

            return reading

        yield counted


# ---------------------------------------------------------------------------------------------------- estimators


def _estimators(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    out = console()
    if arguments.name is not None:
        try:
            function = named.find_estimator(arguments.name)
        except ValueError as problem:
            parser.error(str(problem))
        entry = named.CATALOGUE.get(named.split_settings(arguments.name)[0])
        if entry is not None:
            facts = f"\n  number: {entry.number}\n  when:   {entry.when}"
            out.print(Text.assemble((arguments.name, "bold"), facts))
        taken = named.settings_of(function)
        if taken is not None:
            parameters = inspect.signature(function).parameters
            out.print("  takes:  " + ", ".join(f"{name}={parameters[name].default!r}" for name in taken))
        out.print("\n" + (inspect.getdoc(getattr(function, "func", function)) or ""))
        return 0
    table = Table(title="ssl-mi estimate --estimator NAME[:SETTINGS]", title_justify="left")
    for column in ("name", "what its number means", "when to take it"):
        table.add_column(column)
    for name, entry in named.CATALOGUE.items():
        table.add_row(Text(name, style="bold"), entry.number, entry.when + (" (fits networks)" if entry.fits else ""))
    out.print(table)
    out.print(
        "All about one, with its settings: ssl-mi estimators NAME. From Python only, as they take other samples: "
        "conditional_ksg(x, y, given), entropy_kl(x), entropy(x), conditional_entropy(x, given), pointwise_mi(x, y).",
        soft_wrap=True,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
