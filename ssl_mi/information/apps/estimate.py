"""`ssl-mi estimate x.npy y.npy`: the mutual information of paired samples in files.

Exit status: 0 estimated; 1 could not be estimated (the reason on stderr); 2 wrong usage; 3 estimated, with warnings,
under --strict. Nothing is imported here but what the parser needs, so that --help is quick.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from ssl_mi.information.apps.status import exit_status

SUBSETS = 5  # as inference.subsampling has it, which a test checks: importing it here would import numpy
PERMUTATIONS = 19  # of an estimator that does not bring its own
DEFAULT = "mutual_information"

ABOUT = """\
Mutual information I(x; y) = E[log p(x,y) / (p(x) p(y))]: how much information x and y share, in nats
(1 nat = 1.443 bits). 0 when they are independent; never less. Estimated from paired samples, with a
confidence interval, a permutation test of independence, and warnings."""

MORE = f"""\
input
  Row i of x and row i of y are one pair; a row holds one or more columns.
  .npy      [n] or [n, d]
  .npz      one array of it: views.npz:zx, or --x-key zx; arrays called x and y are found
  .csv .tsv columns by name or number (from 0): --x-columns a,b or 'z_*' or 0:8; the first line is a
            header when it holds no number or a word above a number (--header, --no-header to override)
  .parquet  columns by name; a column of lists (embeddings) counts as many columns
  One file may hold both sides: name the columns of each (or of one: the other is all the rest), or the arrays.
  A side of text (labels) is treated as symbols; --symbols y treats numbers so too.
  Missing values, text among numbers, and Python objects are refused, with their place.

estimators (all of them: ssl-mi estimators)
  mutual_information   the default: chooses an estimator from the samples; seconds
  ksg                  continuous, up to 4 dimensions a side; milliseconds
  mixed_ksg_ross       x continuous, y labels
  discrete_mi          symbols on both sides
  infonce, mine, ...   neural lower bounds for many dimensions; minutes
  package.module:name  a function of your own, (x, y) -> Estimate
  Settings of any of them: --estimator ksg:k=10,variant=2

output
  value      in nats, or bits with --bits; never clipped: a small negative value is 0 and noise
  interval   from estimates on {SUBSETS} parts of the rows; for networks: at the fitted critic
  p, null    p-value and mean estimate over randomly re-paired rows: dependence is shown by a small p;
             a null away from 0 is bias
  ceiling    the largest value that could have been estimated here: near it the truth may be larger
  kind       point estimate; lower or upper bound (in expectation); surrogate
  warnings   what may be wrong and what to do; each is explained in docs/estimating.md under its code

examples
  ssl-mi estimate x.npy y.npy
  ssl-mi estimate table.csv --x-columns age,height --y-columns weight --bits
  ssl-mi estimate embeddings.parquet --x-columns h --y-columns label --symbols y
  ssl-mi estimate views.npz:zx views.npz:zy --estimator infonce:critic=concat --progress
  ssl-mi estimate x.npy y.npy --estimator ksg --k 5 --permutations 99 --json --strict
  ssl-mi estimate table.csv --x-columns dose --y-columns pulse --given-columns age,weight
  ssl-mi estimate table.csv --matrix --out pairs.csv --picture pairs.png

exit status
  0  estimated      1  could not be estimated: the reason on stderr      2  wrong usage
  3  estimated, but with warnings, when --strict was given"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments.

    Args:
        parser: of `ssl-mi estimate`, changed in place.
    """
    parser.description, parser.epilog = ABOUT, MORE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = "%(prog)s X [Y] [options]; %(prog)s --help lists them"
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument("x", metavar="X", help=".npy, .npz[:key], .csv, .tsv or .parquet")
    parser.add_argument("y", metavar="Y", nargs="?", help="the same; left out when X holds both sides")
    _add_samples(parser.add_argument_group("samples"))
    _add_estimate(parser.add_argument_group("estimate"))
    pairs = parser.add_argument_group("every pair of columns")
    pairs.add_argument("--matrix", action="store_true", help="estimate all pairs of the columns of X, with corrected p")
    pairs.add_argument("--out", metavar="FILE", help="write the pairs as .csv")
    pairs.add_argument("--picture", metavar="FILE", help="draw them as a heat map: .png, .svg or .pdf")
    output = parser.add_argument_group("output")
    output.add_argument("--bits", action="store_true", help="in bits instead of nats")
    output.add_argument("--json", action="store_true", help="one JSON object on stdout, and nothing else")
    output.add_argument("--strict", action="store_true", help="exit status 3 when there are warnings")
    output.add_argument("--progress", action="store_true", help="show progress on stderr")


@exit_status
def run(arguments: argparse.Namespace) -> int:
    """Estimate, print, and return the exit status."""
    from ssl_mi.information.apps import estimation

    return estimation.run(arguments)


def _add_samples(group: argparse._ArgumentGroup) -> None:
    for side in "xy":
        group.add_argument(f"--{side}-key", metavar="NAME", help=f"the array of an .npz that is {side}")
        group.add_argument(f"--{side}-columns", metavar="A,B", help=f"the columns that are {side}; default: all")
    group.add_argument(
        "--symbols",
        "--categorical",
        choices=("x", "y", "both", "none"),
        help=f"treat this side's values as symbols (labels); none: whole numbers are numbers, of {DEFAULT}",
    )
    group.add_argument("--groups", metavar="FILE", help="the source of each row, where rows share sources; default: X")
    group.add_argument("--groups-column", metavar="A", help="the column of that file that names the source")
    group.add_argument(
        "--blocks", type=_at_least(1), metavar="N", help="rows are in the order of time, and independent N apart"
    )
    group.add_argument("--given", metavar="Z", help="estimate I(x; y | z), z being this file; default: X")
    group.add_argument("--given-columns", metavar="A,B", help="the columns of that file that are z")
    group.add_argument("--header", action=argparse.BooleanOptionalAction, help="whether a .csv has a header")


def _add_estimate(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--estimator", default=DEFAULT, metavar="NAME[:SETTINGS]", help="default: %(default)s")
    group.add_argument("--k", type=_at_least(1), metavar="K", help="neighbours, of estimators that have them")
    group.add_argument("--seed", type=_at_least(0), default=0, metavar="N", help="default: 0")
    group.add_argument("--level", type=_level, default=0.95, metavar="P", help="of the interval; default: 0.95")
    group.add_argument(
        "--permutations",
        type=_at_least(0),
        metavar="B",
        help=f"re-pairings for null and p >= 1/(1+B); default: 99 for {DEFAULT}, 0 for networks (each is a fit), "
        f"else {PERMUTATIONS}",
    )
    group.add_argument(
        "--interval",
        action=argparse.BooleanOptionalAction,
        help=f"estimate on {SUBSETS} parts of the rows for it; default: yes, but for networks, which have their own",
    )


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
