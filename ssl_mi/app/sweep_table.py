"""The table of many runs, and a picture of those on views whose mutual information is known.

The staircase shows, for each objective, what the embeddings were found to share and the objective's own bound, over
the exact I(V1; V2) of the views, beside all that keeps them below it: the bound's ceiling, and the most that nearest
neighbours can find in so many pairs.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ssl_mi import atomic
from ssl_mi.report.summary import DIVERGED, ending

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Columns that hold a measurement of a run's last evaluation, whose `headline` names the column.
DEFAULT_METRIC = "mi_z_nats"  # of the default estimator's measurement under "captured_nats"
HEADLINES = ("true_nats", "captured_nats", "capture_ratio", "ksg_nats", "bound_nats", "linear_probe", "knn")


class Line(NamedTuple):
    """One run of a sweep. nats; NaN for what it has not measured. others: headlines of evaluations of one's own."""

    run: str
    ended: str
    objective: str
    seed: int
    overrides: str
    true_nats: float
    captured_nats: float
    captured_low: float
    captured_high: float
    reach_nats: float  # the most that the estimator can find in so many pairs
    capture_ratio: float
    ksg_nats: float  # through the run's first projection
    bound_nats: float
    ceiling_nats: float  # of the bound
    linear_probe: float
    knn: float
    seconds: float
    captured_warnings: str
    others: Mapping[str, float] = {}


def lines_of(folders: Sequence[str | Path]) -> list[Line]:
    """A line for every run at or one level below these folders, in their order."""
    reports = []
    for folder in map(Path, folders):
        here = [folder / "report.json"] if (folder / "report.json").is_file() else folder.glob("*/report.json")
        reports += sorted(here, key=lambda path: (len(path.parent.name), path.parent.name))
    return [line_of(path) for path in reports]


def line_of(path: Path) -> Line:
    """A run's report.json -> its line. ValueError where it is something else."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(report, dict) or not {"rows", "ended", "seconds"} <= set(report):
        raise ValueError(f"{path} is not the report of a run: leave its folder out")
    rows = [row for row in report["rows"] if row["encoder"] == "trained"]
    last = max((row["epoch"] for row in rows), default=0)
    # The test split comes after the validation split of the same epoch.
    if rows and not any("headline" in row for row in rows):
        raise ValueError(
            f"{path} was written by an earlier version, which did not mark the measurements that a sweep shows: "
            "summarise it with that version, or leave its folder out"
        )
    found = {row["headline"]: row for row in rows if row["epoch"] == last and row["headline"]}
    captured = found.get("captured_nats", {})
    values = {column: _number(found.get(column, {}).get("value")) for column in HEADLINES}
    others = {column: _number(row["value"]) for column, row in found.items() if column not in HEADLINES}
    return Line(
        run=path.parent.name,
        ended=_ended(report),
        objective=report.get("objective", ""),
        seed=report.get("seed", 0),
        overrides=_overrides(path.parent),
        captured_low=_number(captured.get("low")),
        captured_high=_number(captured.get("high")),
        reach_nats=_reach(captured),
        ceiling_nats=_number(found.get("bound_nats", {}).get("ceiling")),
        seconds=report["seconds"],
        captured_warnings=captured.get("note", ""),
        others=others,
        **values,
    )


def _ended(report: Mapping[str, Any]) -> str:
    """As the run recorded it, but for one whose numbers are beyond sense: that diverged, however it ended."""
    state, why = ending(report)
    return f"{state}: {why}" if state == DIVERGED else report["ended"]


def _reach(captured: Mapping[str, Any]) -> float:
    """The estimator's own ceiling, or where the default estimator has none, what its neighbours can show."""
    if captured.get("ceiling") is not None or captured.get("metric") != DEFAULT_METRIC:
        return _number(captured.get("ceiling"))
    return reach(captured["n"])


def reach(n: int, k: int = 3) -> float:
    """psi(n / 2) - psi(k), nats: the largest KSG estimate on half of n pairs, which the default estimator takes."""
    return sum(1 / i for i in range(k, n // 2))  # psi(m) - psi(k) of whole numbers


def _overrides(folder: Path) -> str:
    from omegaconf import OmegaConf

    path = folder / ".hydra" / "overrides.yaml"
    return " ".join(OmegaConf.load(path)) if path.is_file() else ""


def _number(x: float | None) -> float:
    return math.nan if x is None else float(x)


def write(lines: Sequence[Line], folder: Path) -> list[Path]:
    """sweep.csv and, where views of several known MI were swept, staircase.png: replaced as a whole; their paths."""
    if not lines:
        return []
    others = list(dict.fromkeys(name for line in lines for name in line.others))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*(name for name in Line._fields if name != "others"), *others], math.nan)
    writer.writeheader()
    for line in lines:
        columns = line._asdict()
        writer.writerow({**columns.pop("others"), **columns})
    table = atomic.write(folder / "sweep.csv", text.getvalue())
    known = [line for line in lines if not math.isnan(line.true_nats + line.captured_nats)]
    several = len({line.true_nats for line in known}) > 1
    return [table, draw_staircase(known, folder / "staircase.png")] if several else [table]


# ---------------------------------------------------------------------------------------------------- the staircase


def draw_staircase(lines: Sequence[Line], path: Path) -> Path:
    """A panel an objective: captured and bound over the truth, with their limits; then the capture ratio of all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    objectives = list(dict.fromkeys(line.objective for line in lines))
    across = min(3, len(objectives) + 1)
    down = math.ceil((len(objectives) + 1) / across)
    figure = Figure(figsize=(3.9 * across, 3.5 * down + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    top = 1.05 * max(line.true_nats for line in lines)
    for panel, name in zip(panels, objectives, strict=False):
        _stairs(panel, [line for line in lines if line.objective == name], top)
        panel.set(title=name, xlabel="exact I(V1; V2), nats", ylabel="estimate, nats", xlim=(0, top), ylim=(-0.5, top))
    panels[0].legend(frameon=False, fontsize=7, loc="upper left")
    ratios = panels[len(objectives)]
    for number, name in enumerate(objectives):
        curve = _by_truth([line for line in lines if line.objective == name])
        means = [sum(line.capture_ratio for line in some) / len(some) for some in curve.values()]
        ratios.plot(list(curve), means, marker="osD^v<>*"[number % 8], ms=4, label=name)
    ratios.axhline(1, color="black", lw=1)
    ratios.set(title="capture ratio", xlabel="exact I(V1; V2), nats", ylabel="I(Z_X; Z_Y) / I(V1; V2)", xlim=(0, top))
    ratios.set_ylim(min(0.0, ratios.get_ylim()[0]), 1.1)
    ratios.legend(frameon=False, fontsize=8, loc="lower left")
    for panel in panels[len(objectives) + 1 :]:
        panel.set_axis_off()
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    return atomic.write_figure(path, figure, dpi=110)


def _stairs(panel: Axes, lines: Sequence[Line], top: float) -> None:
    panel.plot([0, top], [0, top], color="black", lw=1, label="exact")
    truth = [line.true_nats for line in lines]
    captured = [line.captured_nats for line in lines]
    arms = [
        [max(0.0, line.captured_nats - line.captured_low) for line in lines],
        [max(0.0, line.captured_high - line.captured_nats) for line in lines],
    ]
    panel.errorbar(
        truth, captured, yerr=arms, fmt="o", ms=4, capsize=2, color="C0", label="captured: default estimator, 95%"
    )
    bounds = [(line.true_nats, line.bound_nats) for line in lines if not math.isnan(line.bound_nats)]
    if bounds:
        # A bound that ran away is marked at the edge, with its number.
        panel.plot(*zip(*[(x, min(y, top)) for x, y in bounds], strict=True), "s", ms=4, color="C1", label="its bound")
        for x, y in bounds:
            if y > top:
                panel.annotate(f"{y:.3g}", (x, top), fontsize=7, color="C1", ha="right", va="top")
    limits = {"C1": ("ceiling of the bound", {line.ceiling_nats for line in lines})}
    limits["C0"] = ("reach of the estimator", {line.reach_nats for line in lines})
    for colour, (what, values) in limits.items():
        for value in sorted(v for v in values if math.isfinite(v)):
            panel.axhline(value, color=colour, lw=1, ls=":", label=f"{what}, {value:.2f}")


def _by_truth(lines: Sequence[Line]) -> dict[float, list[Line]]:
    found: dict[float, list[Line]] = {}
    for line in sorted(lines, key=lambda line: line.true_nats):
        found.setdefault(line.true_nats, []).append(line)
    return found


def print_table(lines: Sequence[Line]) -> None:
    """What one wants to see at once; sweep.csv has the rest."""
    from rich.console import Console
    from rich.table import Table

    table = {
        "run": [line.run for line in lines],
        "overrides": _what_varies([line.overrides or line.objective for line in lines]),
        "ended": [line.ended for line in lines],
        "I(V1; V2)": [_text(line.true_nats) for line in lines],
        "I(Z_X; Z_Y)": [_text(line.captured_nats) for line in lines],
        "95% interval": [_between(line.captured_low, line.captured_high) for line in lines],
        "ratio": [_text(line.capture_ratio) for line in lines],
        "KSG": [_text(line.ksg_nats) for line in lines],
        "bound": [_text(line.bound_nats) for line in lines],
        "ceiling": [_text(line.ceiling_nats) for line in lines],
        "probe": [_text(line.linear_probe) for line in lines],
        **{
            name: [_text(line.others.get(name, math.nan)) for line in lines]
            for name in dict.fromkeys(name for line in lines for name in line.others)
        },
        "s": [f"{line.seconds:.0f}" for line in lines],
    }
    table = {name: cells for name, cells in table.items() if any(cells)}
    drawn = Table(title="nats; I(Z_X; Z_Y) by the default estimator" if "I(Z_X; Z_Y)" in table else None)
    for name in table:
        drawn.add_column(name, no_wrap=name != "overrides", overflow="fold")
    for cells in zip(*table.values(), strict=True):
        drawn.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False).print(drawn)


def _what_varies(overrides: Sequence[str]) -> list[str]:
    """Without the words that all of them have."""
    words = [text.split() for text in overrides]
    same = set.intersection(*map(set, words)) if len(words) > 1 else set()
    return [" ".join(word for word in some if word not in same) for some in words]


def _between(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{low:.3f} .. {high:.3f}"


def _text(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
