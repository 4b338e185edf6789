"""Estimators x tasks x seeds -> rows of a CSV, a table and a picture, each beside the truth.

    python -m ssl_mi.information.apps.benchmark --estimators mutual_information,ksg:k=10,cca_mi,infonce \\
        --suite beyond-normal -n 10000 --seeds 3 --out results.csv --picture results.png

Rows already in the CSV (same estimator, task, n, seed) are not computed again: an interrupted run goes on where
it stopped, and a longer one adds to a shorter. A run that raises is a row as well, with the error in it.

Estimators are named as in `named.py`: ksg, ksg:k=10,variant=2, infonce:critic=concat, package.file:function.
All are given the same samples: the numpy Generator of a run is seeded by (seed, task name, n) alone.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import re
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ssl_mi.information.apps.answer import console as plain_console
from ssl_mi.information.apps.catalogue import find_estimator
from ssl_mi.information.distributions.suites import SUITES, Task, find_task


class Row(NamedTuple):
    """One estimate of one task. Nats; empty strings where the estimator says nothing."""

    estimator: str
    task: str
    n: int
    seed: int
    dim_x: int
    dim_y: int
    true: float
    value: float | str
    se: float | str
    low: float | str
    high: float | str
    ceiling: float | str
    kind: str
    seconds: float
    warnings: str
    error: str
    p_value: float | str = ""

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.estimator, self.task, self.n, self.seed


WHOLE = {"n", "seed", "dim_x", "dim_y"}
REAL = {"true", "value", "se", "low", "high", "ceiling", "seconds", "p_value"}


# --------------------------------------------------------------------------------------------------- the run


def run(
    estimators: dict[str, Callable],
    tasks: Sequence[Task],
    n: int,
    seeds: Iterable[int],
    out: Path | None = None,
    progress: bool = False,
) -> list[Row]:
    """Every estimator on every task and seed; rows already in `out` are taken from there, new ones appended."""
    done = {row.key: row for row in load(out)} if out and out.exists() else {}
    rows, wanted = [], [(e, t, s) for t in tasks for s in seeds for e in estimators]
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), disable=not progress) as bar:
        job = bar.add_task("benchmark", total=len(wanted))
        for name, task, seed in wanted:
            bar.update(job, description=f"{name} on {task.name}, seed {seed}")
            row = done.get((name, task.name, n, seed))
            if row is None:
                row = measure(name, estimators[name], task, n, seed)
                if out:
                    _append(out, row)
            rows.append(row)
            bar.advance(job)
    return rows


def samples(task: Task, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that every estimator is given for this task, n and seed."""
    return task.sample(n, np.random.default_rng([seed, zlib.crc32(task.name.encode()), n]))


def measure(name: str, estimator: Callable, task: Task, n: int, seed: int) -> Row:
    """One estimate, timed. An estimator that raises ValueError or ArithmeticError gives a row with the error."""
    x, y = samples(task, n, seed)
    facts = (name, task.name, n, seed, *task.dims, task.mi)
    started = time.perf_counter()
    try:
        estimate = estimator(x, y)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as problem:
        seconds = time.perf_counter() - started
        return Row(*facts, "", "", "", "", "", "", seconds, "", _one_line(f"{type(problem).__name__}: {problem}"))
    seconds = time.perf_counter() - started
    low, high = getattr(estimate, "ci", None) or ("", "")
    se, ceiling, p_value = (_or_empty(getattr(estimate, key, None)) for key in ("se", "ceiling", "p_value"))
    warnings = _one_line(" | ".join(getattr(estimate, "warnings", ())))
    kind = getattr(estimate, "kind", "")
    return Row(*facts, float(estimate), se, low, high, ceiling, kind, seconds, warnings, "", p_value)


# ------------------------------------------------------------------------------------------------- the CSV


def load(path: Path) -> list[Row]:
    """Rows of a CSV written here, without a last line that a killed run left unfinished.

    ValueError if the columns are others, or a line in the middle is short.
    """
    text = path.read_text()
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    if tuple(reader.fieldnames or ()) != Row._fields:
        raise ValueError(f"{path} has columns {reader.fieldnames}, not a benchmark's; choose another file")
    lines = list(reader)
    for number, line in enumerate(lines, start=2):
        if None in line.values() or None in line:
            raise ValueError(f"{path}, line {number}, has not {len(Row._fields)} fields; repair or remove it")
    return [_parse(line) for line in lines]


def _append(path: Path, row: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists() or path.stat().st_size == 0
    if not fresh:
        _drop_torn_line(path)
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(Row._fields)
        writer.writerow(row)


def _drop_torn_line(path: Path) -> None:
    """Cut a last line without its end, as a killed run leaves it: an open quote in it would swallow the next rows."""
    written = path.read_bytes()
    if not written.endswith(b"\n"):
        path.write_bytes(written[: written.rfind(b"\n") + 1])


def _parse(line: dict[str, str]) -> Row:
    values = []
    for name in Row._fields:
        text = line[name]
        if name in WHOLE:
            values.append(int(text))
        elif name in REAL and text:
            values.append(float(text))
        else:
            values.append(text)
    return Row(*values)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _or_empty(value):
    return "" if value is None else value


# ------------------------------------------------------------------------------------ the table, the picture


class Cell(NamedTuple):
    """An estimator on a task over its seeds, nats."""

    true: float
    mean: float
    error: float  # mean over seeds of |value - true|
    bias: float  # mean - true
    spread: float  # standard deviation over seeds
    failed: int
    n: int


def summarise(rows: Iterable[Row]) -> dict[tuple[str, str], Cell]:
    """{(task, estimator): Cell}, in order of appearance."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.task, row.estimator), []).append(row)
    return {key: _cell(group) for key, group in groups.items()}


def _cell(group: list[Row]) -> Cell:
    true = group[0].true
    values = [row.value for row in group if row.value != ""]
    if not values:
        return Cell(true, math.nan, math.nan, math.nan, math.nan, len(group), len(group))
    mean = statistics.fmean(values)
    error = statistics.fmean(abs(v - true) for v in values)
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return Cell(true, mean, error, mean - true, spread, len(group) - len(values), len(group))


class Score(NamedTuple):
    """An estimator over all its tasks, nats."""

    tasks: int
    mae: float  # mean over tasks of the mean absolute error
    worst: float  # largest of those
    worst_task: str
    highest: float  # largest value - true of any single run
    covered: str  # intervals that hold the truth, of those without a warning
    warned: str  # estimates off by more than max(10%, 0.1 nats) that a warning stands beside
    small_p: str  # p-values below .05 where nothing is shared
    seconds: float  # mean of a run
    failed: int


def scores(rows: Sequence[Row]) -> dict[str, Score]:
    """{estimator: Score}. Failed runs are counted, and left out of the errors."""
    cells, result = summarise(rows), {}
    for name in dict.fromkeys(row.estimator for row in rows):
        mine = [row for row in rows if row.estimator == name]
        errors = {task: c.error for (task, e), c in cells.items() if e == name and not math.isnan(c.error)}
        over = [row.value - row.true for row in mine if row.value != ""]
        worst = max(errors, key=errors.get, default="")
        result[name] = Score(
            tasks=len(errors),
            mae=statistics.fmean(errors.values()) if errors else math.nan,
            worst=errors.get(worst, math.nan),
            worst_task=worst,
            highest=max(over, default=math.nan),
            covered=_share(row.low <= row.true <= row.high for row in mine if row.low != "" and not row.warnings),
            warned=_share(bool(row.warnings) for row in mine if row.value != "" and _far(row)),
            small_p=_share(row.p_value < 0.05 for row in mine if row.p_value != "" and row.true == 0),
            seconds=statistics.fmean(row.seconds for row in mine),
            failed=sum(row.value == "" for row in mine),
        )
    return result


def _far(row: Row) -> bool:
    return abs(row.value - row.true) > max(0.1 * row.true, 0.1)


def _share(yes: Iterable[bool]) -> str:
    found = list(yes)
    return f"{sum(found) / len(found):.1%} of {len(found)}" if found else "-"


def table(rows: Sequence[Row]) -> Table:
    """A row a task: the truth, then mean (error) of each estimator; errors above max(10%, 0.1 nats) in red."""
    names = list(dict.fromkeys(row.estimator for row in rows))
    cells = summarise(rows)
    drawn = Table(title="mutual information in nats: mean over seeds (mean absolute error)")
    drawn.add_column("task", no_wrap=True)
    drawn.add_column("true", justify="right")
    for name in names:
        drawn.add_column(name, justify="right")
    for task in dict.fromkeys(row.task for row in rows):
        present = [cells.get((task, name)) for name in names]
        true = next(c.true for c in present if c)
        drawn.add_row(task, f"{true:.4f}", *(_text(c) for c in present))
    drawn.add_section()
    totals = scores(rows)
    for label, key, form in (
        ("mean absolute error", "mae", "{:.3f}"),
        ("worst task", "worst", "{:.3f}"),
        ("largest over-estimate", "highest", "{:+.3f}"),
        ("true value in the interval, no warning", "covered", "{}"),
        ("warned, of those far off", "warned", "{}"),
        ("p < .05, of those sharing nothing", "small_p", "{}"),
        ("seconds a run", "seconds", "{:.2f}"),
        ("failed runs", "failed", "{}"),
    ):
        drawn.add_row(label, "", *(form.format(getattr(totals[name], key)) for name in names), style="bold")
    return drawn


def _text(cell: Cell | None) -> Text:
    if cell is None:
        return Text("-")
    if math.isnan(cell.mean):
        return Text(f"{cell.failed} failed", style="red")
    far = cell.error > max(0.1 * cell.true, 0.1)
    return Text(f"{cell.mean:.3f} ({cell.error:.3f})", style="red" if far else "")


def picture(rows: Sequence[Row], path: Path) -> None:
    """Tasks downwards, nats across: a bar for the truth, a dot for each estimate, one colour an estimator."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.estimator for row in rows))
    tasks = list(dict.fromkeys(row.task for row in rows))
    truth = {row.task: row.true for row in rows}
    totals = scores(rows)
    left, right = -0.3, 1.6 * max(truth.values()) + 0.3
    figure = Figure(figsize=(10, 1.6 + 0.3 * len(tasks)), layout="constrained")
    axes = figure.add_subplot()
    for place, task in enumerate(tasks):
        axes.plot([truth[task]] * 2, [place - 0.4, place + 0.4], color="black", lw=2, zorder=3)
        if place % 2:
            axes.axhspan(place - 0.5, place + 0.5, color="0.95", zorder=0)
    for k, name in enumerate(names):
        offset = 0.6 * ((k + 0.5) / len(names) - 0.5)
        mine = [row for row in rows if row.estimator == name and row.value != ""]
        style = {"s": 14, "color": f"C{k % 10}", "alpha": 0.8, "zorder": 4}
        label = f"{name}: mean absolute error {totals[name].mae:.3f}"
        inside = [row for row in mine if left <= row.value <= right]
        axes.scatter([r.value for r in inside], [tasks.index(r.task) + offset for r in inside], label=label, **style)
        # A wild estimate must not squeeze all the others: it becomes an arrow at the edge it went over.
        for row in mine:
            if not left <= row.value <= right:
                edge, marker = (left, "<") if row.value < left else (right, ">")
                axes.scatter([edge], [tasks.index(row.task) + offset], marker=marker, **style)
    axes.set_yticks(range(len(tasks)), tasks, fontsize=8)
    axes.set_ylim(len(tasks) - 0.4, -0.6)
    axes.set_xlim(left - 0.05, right + 0.05)
    axes.set_xlabel("nats (black: the truth; arrows: beyond the frame)")
    figure.legend(loc="outside lower center", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


# --------------------------------------------------------------------------------------------- command line


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ssl_mi.information.apps.benchmark",
        description="Estimate mutual information where it is known, and draw the errors.",
        epilog="Estimators: a function of ssl_mi.information (ksg, cca_mi, ...), with settings (ksg:k=10), a bound "
        "(infonce, mine:critic=concat), or package.file:function. Separate several by commas. An interrupted run goes "
        "on where it stopped when given the same --out.",
    )
    parser.add_argument("--estimators", action="append", metavar="NAME[:SETTINGS]", help="default: ksg")
    parser.add_argument("--suite", default="beyond-normal", choices=SUITES, help="named tasks (default: %(default)s)")
    parser.add_argument("--tasks", action="append", metavar="NAME", help="only these tasks, of any suite")
    parser.add_argument("--match", metavar="REGEX", help="only tasks of the suite whose name matches")
    parser.add_argument("-n", type=int, default=10_000, help="rows a sample (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="samples a task (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmark.csv"), help="default: %(default)s")
    parser.add_argument("--picture", type=Path, help="where to draw, .png, .pdf or .svg")
    parser.add_argument("--list", action="store_true", help="name the tasks with their truth, and stop")
    arguments = parser.parse_args(argv)
    console = plain_console(160)
    try:
        chosen = [find_task(t) for t in arguments.tasks] if arguments.tasks else SUITES[arguments.suite]
        chosen = [t for t in chosen if re.search(arguments.match or "", t.name)]
        if not chosen:
            raise ValueError(f"no task of {arguments.suite} matches {arguments.match!r}; see --list")
        if arguments.list:
            for task in chosen:
                console.print(Text.assemble(f"{task.mi:8.5f}  {task.name}  ", (task.title, "dim")))
            return 0
        names = [s.strip() for given in arguments.estimators or ["ksg"] for s in _split(given)]
        estimators = {name: find_estimator(name) for name in names}
        rows = run(estimators, chosen, arguments.n, range(arguments.seeds), arguments.out, console.is_terminal)
    except ValueError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    console.print(table(rows))
    if arguments.picture:
        picture(rows, arguments.picture)
        console.print(f"drawn: {arguments.picture}")
    console.print(f"written: {arguments.out}")
    return 0


def _split(given: str) -> list[str]:
    """Names separated by commas or semicolons; a comma before `name=` belongs to the settings."""
    return [spec for spec in re.split(r"[;,](?!\s*\w+=)", given) if spec.strip()]


if __name__ == "__main__":
    raise SystemExit(main())
