"""A summary of a benchmark's rows: errors by task and by estimator, as a table and as a picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table
from rich.text import Text

from ssl_mi.information.apps.benchmark_rows import BenchmarkRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Cell(NamedTuple):
    """An estimator on a task over its seeds, nats."""

    true: float
    mean: float
    error: float  # mean over seeds of |value - true|
    bias: float  # mean - true
    spread: float  # standard deviation over seeds
    failed: int
    n: int


def summarise(rows: Iterable[BenchmarkRow]) -> dict[tuple[str, str], Cell]:
    """{(task, estimator): Cell}, in order of appearance."""
    groups: dict[tuple[str, str], list[BenchmarkRow]] = {}
    for row in rows:
        groups.setdefault((row.task, row.estimator), []).append(row)
    return {key: _cell(group) for key, group in groups.items()}


def _cell(group: list[BenchmarkRow]) -> Cell:
    true = group[0].true
    values = [row.value for row in group if row.value is not None]
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


def scores(rows: Sequence[BenchmarkRow]) -> dict[str, Score]:
    """{estimator: Score}. Failed runs are counted, and left out of the errors."""
    cells, result = summarise(rows), {}
    for name in dict.fromkeys(row.estimator for row in rows):
        mine = [row for row in rows if row.estimator == name]
        errors = {task: c.error for (task, e), c in cells.items() if e == name and not math.isnan(c.error)}
        deviations = [row.value - row.true for row in mine if row.value is not None]
        worst = max(errors, key=lambda task: errors[task], default="")
        result[name] = Score(
            tasks=len(errors),
            mae=statistics.fmean(errors.values()) if errors else math.nan,
            worst=errors.get(worst, math.nan),
            worst_task=worst,
            highest=max(deviations, default=math.nan),
            covered=_share(_covers(row) for row in mine if row.low is not None and not row.warnings),
            warned=_share(bool(row.warnings) for row in mine if _is_far_off(row)),
            small_p=_share(row.p_value < 0.05 for row in mine if row.p_value is not None and row.true == 0),
            seconds=statistics.fmean(row.seconds for row in mine),
            failed=len(mine) - len(deviations),
        )
    return result


def _covers(row: BenchmarkRow) -> bool:
    return row.low is not None and row.high is not None and row.low <= row.true <= row.high


def _is_far_off(row: BenchmarkRow) -> bool:
    return row.value is not None and abs(row.value - row.true) > max(0.1 * row.true, 0.1)


def _share(yes: Iterable[bool]) -> str:
    found = list(yes)
    return f"{sum(found) / len(found):.1%} of {len(found)}" if found else "-"


TOTALS = (
    ("mean absolute error", "mae", "{:.3f}"),
    ("worst task", "worst", "{:.3f}"),
    ("largest over-estimate", "highest", "{:+.3f}"),
    ("true value in the interval, no warning", "covered", "{}"),
    ("warned, of those far off", "warned", "{}"),
    ("p < .05, of those sharing nothing", "small_p", "{}"),
    ("seconds a run", "seconds", "{:.2f}"),
    ("failed runs", "failed", "{}"),
)


def table(rows: Sequence[BenchmarkRow]) -> Table:
    """A row a task: the truth, then mean (error) of each estimator; errors above max(10%, 0.1 nats) in red."""
    names = list(dict.fromkeys(row.estimator for row in rows))
    cells, totals = summarise(rows), scores(rows)
    drawn = Table(title="mutual information in nats: mean over seeds (mean absolute error)")
    drawn.add_column("task", no_wrap=True)
    drawn.add_column("true", justify="right")
    for name in names:
        drawn.add_column(Text(name), justify="right")
    for task in dict.fromkeys(row.task for row in rows):
        present = [cells.get((task, name)) for name in names]
        true = next(cell.true for cell in present if cell)
        drawn.add_row(task, f"{true:.4f}", *map(_text, present))
    drawn.add_section()
    for label, key, form in TOTALS:
        drawn.add_row(label, "", *(form.format(getattr(totals[name], key)) for name in names), style="bold")
    return drawn


def _text(cell: Cell | None) -> Text:
    if cell is None:
        return Text("-")
    if math.isnan(cell.mean):
        return Text(f"{cell.failed} failed", "red")
    far_off = cell.error > max(0.1 * cell.true, 0.1)
    return Text(f"{cell.mean:.3f} ({cell.error:.3f})", "red" if far_off else "")


def picture(rows: Sequence[BenchmarkRow], path: Path) -> None:
    """Tasks downwards, nats across: a bar for the truth, a dot for each estimate, one colour an estimator."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.estimator for row in rows))
    truth = {row.task: row.true for row in rows}
    place = {task: i for i, task in enumerate(truth)}
    totals = scores(rows)
    frame = -0.3, 1.6 * max(truth.values()) + 0.3
    figure = Figure(figsize=(10, 1.6 + 0.3 * len(truth)), layout="constrained")
    axes = figure.add_subplot()
    for task, i in place.items():
        axes.plot([truth[task]] * 2, [i - 0.4, i + 0.4], color="black", lw=2, zorder=3)
        if i % 2:
            axes.axhspan(i - 0.5, i + 0.5, color="0.95", zorder=0)
    for number, name in enumerate(names):
        offset = 0.6 * ((number + 0.5) / len(names) - 0.5)
        dots = [
            (row.value, place[row.task] + offset) for row in rows if row.estimator == name and row.value is not None
        ]
        _draw_dots(axes, dots, frame, f"C{number % 10}", f"{name}: mean absolute error {totals[name].mae:.3f}")
    axes.set_yticks(range(len(truth)), list(truth), fontsize=8)
    axes.set_ylim(len(truth) - 0.4, -0.6)
    axes.set_xlim(frame[0] - 0.05, frame[1] + 0.05)
    axes.set_xlabel("nats (black: the truth; arrows: beyond the frame)")
    figure.legend(loc="outside lower center", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _draw_dots(
    axes: Axes, dots: Sequence[tuple[float, float]], frame: tuple[float, float], colour: str, label: str
) -> None:
    """Estimates as dots; a wild one, which must not squeeze all the others, as an arrow at the edge it went over."""
    left, right = frame
    style: dict[str, Any] = {"s": 14, "color": colour, "alpha": 0.8, "zorder": 4}
    inside = [(value, height) for value, height in dots if left <= value <= right]
    axes.scatter([value for value, _ in inside], [height for _, height in inside], label=label, **style)
    for value, height in dots:
        if not left <= value <= right:
            edge, marker = (left, "<") if value < left else (right, ">")
            axes.scatter([edge], [height], marker=marker, **style)
