"""The work behind `ssl-mi estimate TABLE --matrix`: every pair of columns of one file."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ssl_mi.information.apps.columns import SideSpec
from ssl_mi.information.apps.files import open_columns
from ssl_mi.information.apps.render import console
from ssl_mi.information.apps.status import DONE, WARNED, failed
from ssl_mi.information.core.estimate import finite
from ssl_mi.information.matrix import MIMatrix, mi_matrix

UNUSED = ("y", "y_columns", "y_key", "symbols", "k", "interval", "given", "given_columns", "bits")
PICTURES = (".png", ".svg", ".pdf")


def check_usage(arguments: argparse.Namespace) -> None:
    """Raise ValueError for arguments that do not go with --matrix, or files that cannot be written."""
    given = [name for name in UNUSED if getattr(arguments, name, None)]
    if given:
        named = "a second file" if given[0] == "y" else f"--{given[0].replace('_', '-')}"
        raise ValueError(f"--matrix takes one file and pairs its columns: leave out {named}")
    for name in ("out", "picture"):
        path = getattr(arguments, name)
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise ValueError(f"--{name} {path}: there is no folder {Path(path).parent}")
    if arguments.picture is not None and Path(arguments.picture).suffix.lower() not in PICTURES:
        raise ValueError(f"--picture {arguments.picture}: name a file that ends in {', '.join(PICTURES)}")


def run(arguments: argparse.Namespace, estimator: Any, dependence: dict[str, Any]) -> int:
    """Estimate every pair, print, write what was asked for, and return the exit status.

    Args:
        arguments: of the command.
        estimator: of a pair; None is the default.
        dependence: groups and blocks, where they were given.
    """
    try:
        table = open_columns(arguments.x, arguments.x_key, arguments.header, None)
        columns = table.find(SideSpec("x", None, arguments.x_columns))
        if arguments.groups_column is not None and arguments.groups in (None, arguments.x):
            left_out = table.find(SideSpec("groups", None, arguments.groups_column))
            columns = [column for column in columns if column not in left_out]
        data = {table.names[column]: table.take([column]).reshape(-1) for column in columns}
        with redirect_stdout(sys.stderr):
            found = mi_matrix(
                data,
                estimator=estimator,
                level=arguments.level,
                permutations=arguments.permutations,
                seed=arguments.seed,
                **dependence,
            )
    except (ValueError, OSError) as problem:
        return failed(str(problem))
    if arguments.out is not None:
        found.to_csv(arguments.out)
    if arguments.picture is not None:
        found.heatmap(arguments.picture)
    if arguments.json:
        warnings = [caution.to_dict() for caution in found.warnings]
        print(json.dumps({"pairs": finite(found.rows()), "warnings": warnings}, allow_nan=False))
    else:
        _show(found)
    any_warning = found.warnings or any(pair.estimate.warnings for pair in found.pairs)
    return WARNED if arguments.strict and any_warning else DONE


def _show(found: MIMatrix) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("x", "y", "nats", "interval", "p", "Holm", "BH", "warnings"):
        table.add_column(name)
    for row in found.rows():
        interval = "" if row["low"] is None else f"{row['low']:.3f} .. {row['high']:.3f}"
        numbers = ["" if row[name] is None else f"{row[name]:.3g}" for name in ("p", "p_holm", "p_bh")]
        cells = (row["first"], row["second"], f"{round(row['nats'], 3) + 0.0:.3f}", interval, *numbers, row["warnings"])
        table.add_row(*map(Text, cells))
    out = console()
    out.print(table)
    for warning in found.warnings:
        out.print(Text.assemble(("warning: ", "yellow"), str(warning)), soft_wrap=True)
