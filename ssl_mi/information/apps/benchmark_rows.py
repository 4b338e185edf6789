"""The runs of a benchmark: estimators x tasks x seeds, each a row beside the truth, kept in a CSV.

A run that raises is a row as well, with the error in it. The numpy Generator of a run is seeded by (seed, task name, n)
alone, so that every estimator is given the same samples.
"""

from __future__ import annotations

import csv
import inspect
import io
import math
import re
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ssl_mi.information.distributions.conditional import ConditionalTask
from ssl_mi.information.distributions.suites import SUITES, Task, find_task

AnyTask = Task | ConditionalTask


def choose_tasks(suite: str, names: Sequence[str] | None = None, match: str | None = None) -> list[AnyTask]:
    """The named tasks, else those of the suite, whose name matches the pattern.

    Args:
        suite: a key of `SUITES`.
        names: tasks of any suite; None for all of `suite`.
        match: a regular expression to be found in the name; None for all.

    Raises:
        ValueError: an unknown task (with the nearest names), or no task left.
    """
    tasks: Sequence[AnyTask] = [find_task(name) for name in names] if names else SUITES[suite]
    chosen = [task for task in tasks if re.search(match or "", task.name)]
    if not chosen:
        raise ValueError(f"no task of {suite} matches {match!r}; see --list")
    return chosen


def check_samples(estimators: dict[str, Callable], tasks: Sequence[AnyTask]) -> None:
    """Raise ValueError for an estimator of I(x; y) on tasks with a z, or one that needs a z on tasks without.

    Args:
        estimators: name -> function of the samples.
        tasks: what they are to be run on.
    """
    for name, estimator in estimators.items():
        needed, most = _samples_taken(estimator)
        for task in tasks:
            given = 3 if isinstance(task, ConditionalTask) else 2
            if given > most:
                raise ValueError(f"{name} takes x and y, and {task.name} has a z: use conditional_mutual_information")
            if given < needed:
                raise ValueError(f"{name} takes x, y and z, and {task.name} has no z: use --suite conditional")


def _samples_taken(estimator: Callable) -> tuple[int, float]:
    """How many samples it needs, and how many it takes: arguments by place without a default value, or any."""
    try:
        parameters = inspect.signature(estimator).parameters.values()
    except ValueError:  # written in C
        return 0, math.inf
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 0, math.inf
    by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(p.default is p.empty for p in by_place)
    return needed, needed


class BenchmarkRow(NamedTuple):
    """One estimate of one task, in nats. None where the estimator gives no such number, or failed."""

    estimator: str
    task: str
    n: int
    seed: int
    dim_x: int
    dim_y: int
    true: float
    value: float | None
    se: float | None
    low: float | None
    high: float | None
    ceiling: float | None
    kind: str
    seconds: float
    warnings: str
    error: str
    p_value: float | None = None

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What makes two rows the same run."""
        return self.estimator, self.task, self.n, self.seed


WHOLE = {"n", "seed", "dim_x", "dim_y"}
REAL = {"true", "value", "se", "low", "high", "ceiling", "seconds", "p_value"}


# --------------------------------------------------------------------------------------------------- the run


def run(
    estimators: dict[str, Callable],
    tasks: Sequence[AnyTask],
    n: int,
    seeds: Iterable[int],
    out: Path | None = None,
    progress: bool = False,
) -> list[BenchmarkRow]:
    """Every estimator on every task and seed.

    Args:
        estimators: name -> (x, y) -> Estimate or a number, in nats.
        tasks: samplers that know their mutual information.
        n: rows of each sample.
        seeds: one sample of each task a seed.
        out: a CSV; rows already in it are taken from there, new ones appended. None keeps nothing.
        progress: show a bar.

    Raises:
        ValueError: `out` holds something else.
    """
    done = {row.key: row for row in load(out)} if out and out.exists() else {}
    rows = []
    wanted = [(e, t, s) for t in tasks for s in seeds for e in estimators]
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


def samples(task: AnyTask, n: int, seed: int) -> tuple[np.ndarray, ...]:
    """The rows that every estimator is given for this task, n and seed."""
    return task.sample(n, np.random.default_rng([seed, zlib.crc32(task.name.encode()), n]))


def measure(name: str, estimator: Callable[..., Any], task: AnyTask, n: int, seed: int) -> BenchmarkRow:
    """One estimate, timed. An estimator that raises, or returns no number, gives a row with the error.

    Args:
        name: of the estimator, as it stands in the row.
        estimator: (x [n, dx], y [n, dy]), and z [n, dz] where the task has one, -> Estimate or a number, in nats.
        task: where the samples come from, and their true mutual information.
        n: rows of the sample.
        seed: of the sample.
    """
    given = samples(task, n, seed)
    facts = (name, task.name, n, seed, *task.dims, task.mi)
    started = time.perf_counter()
    try:
        estimate = estimator(*given)
        value = float(estimate)
    except Exception as problem:  # an estimator may be anybody's, and fail in any way
        seconds = time.perf_counter() - started
        error = _one_line(f"{type(problem).__name__}: {problem}")
        return BenchmarkRow(*facts, None, None, None, None, None, "", seconds, "", error)
    seconds = time.perf_counter() - started
    low, high = getattr(estimate, "ci", None) or (None, None)
    se, ceiling, p_value = (getattr(estimate, key, None) for key in ("se", "ceiling", "p_value"))
    warnings = _one_line(" | ".join(map(str, getattr(estimate, "warnings", ()))))
    kind = getattr(estimate, "kind", "")
    return BenchmarkRow(*facts, value, se, low, high, ceiling, kind, seconds, warnings, "", p_value)


def failures(rows: Iterable[BenchmarkRow]) -> list[str]:
    """A sentence for each estimator that raised: how often, and the first reason."""
    errors: dict[str, list[str]] = {}
    for row in rows:
        if row.error:
            errors.setdefault(row.estimator, []).append(row.error)
    return [f"{name} failed {len(reasons)} times; first: {reasons[0]}" for name, reasons in errors.items()]


# ------------------------------------------------------------------------------------------------- the CSV


def load(path: Path) -> list[BenchmarkRow]:
    """Rows of a CSV written here, without a last line that a killed run left unfinished.

    ValueError if the columns are others, or a line in the middle is short.
    """
    text = path.read_text(encoding="utf-8")
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    if tuple(reader.fieldnames or ()) != BenchmarkRow._fields:
        raise ValueError(f"{path} has columns {reader.fieldnames}, not a benchmark's; choose another file")
    lines = list(reader)
    for number, line in enumerate(lines, start=2):
        if None in line.values() or None in line:
            raise ValueError(f"{path}, line {number}, has not {len(BenchmarkRow._fields)} fields; repair or remove it")
    return [_parse(line) for line in lines]


def _append(path: Path, row: BenchmarkRow) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists() or path.stat().st_size == 0
    if not fresh:
        _drop_torn_line(path)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(BenchmarkRow._fields)
        writer.writerow(row)


def _drop_torn_line(path: Path) -> None:
    """Cut a last line without its end, as a killed run leaves it: an open quote in it would swallow the next rows."""
    written = path.read_bytes()
    if not written.endswith(b"\n"):
        path.write_bytes(written[: written.rfind(b"\n") + 1])


def _parse(line: dict[str, str]) -> BenchmarkRow:
    values: list[Any] = []
    for name in BenchmarkRow._fields:
        text = line[name]
        if name in WHOLE:
            values.append(int(text))
        elif name in REAL:
            values.append(float(text) if text else None)
        else:
            values.append(text)
    return BenchmarkRow(*values)


def _one_line(text: str) -> str:
    return " ".join(text.split())
