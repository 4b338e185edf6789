"""What a sweep leaves behind: sweep.csv, a line a run; and where the data know I(V1; V2), staircase.png.

    python train.py -m experiment=known/patches data.nats=1,2,4,6,8,12 objective=infonce,mine,nwj,smile

`Summary` is a Hydra callback, named in conf/train.yaml, that writes them after every run of a sweep: one that is
stopped leaves those of its finished runs. Runs that were started one by one (a job each under SLURM) are put together
by

    python -m ssl_mi.app.sweep runs/patches/*/ --out runs/patches

The staircase shows, for each objective, what the embeddings were found to share and what the objective's own bound
reads, over the exact I(V1; V2) of the views, beside all that keeps them below it: the bound's ceiling, and the most
that nearest neighbours can read in so many pairs.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.experimental.callback import Callback

from ssl_mi import atomic

READINGS = {  # column of sweep.csv -> metric of a run's last evaluation
    "true_nats": "mi_views_nats",
    "captured_nats": "mi_z_nats",
    "capture_ratio": "capture_ratio",
    "linear_probe": "linear_probe_accuracy",
    "knn": "knn_accuracy",
}


class Line(NamedTuple):
    """One run of a sweep. nats; NaN for what it has not measured."""

    run: str
    ended: str
    objective: str
    seed: int
    overrides: str
    true_nats: float
    captured_nats: float
    captured_low: float
    captured_high: float
    reach_nats: float  # the most that the estimator could read in so many pairs
    capture_ratio: float
    ksg_nats: float  # through the run's first projection
    bound_nats: float
    ceiling_nats: float  # of the bound
    linear_probe: float
    knn: float
    seconds: float
    captured_warnings: str


class Summary(Callback):
    """Writes the summary of a sweep into its folder after each of its runs, and says at the end where it is."""

    def on_job_end(self, config: Any, job_return: Any, **kwargs: Any) -> None:
        if config.hydra.mode is not None and config.hydra.mode.name == "MULTIRUN":
            write(gather([config.hydra.sweep.dir]), Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        lines = gather([folder])
        print_table(lines)
        for path in write(lines, folder):
            print(f"the sweep's {'picture' if path.suffix == '.png' else 'table'}: {path}")


def gather(folders: Sequence[str | Path]) -> list[Line]:
    """A line for every run at or one level below these folders, in their order."""
    reports = []
    for folder in map(Path, folders):
        here = [folder / "report.json"] if (folder / "report.json").is_file() else folder.glob("*/report.json")
        reports += sorted(here, key=lambda path: (len(path.parent.name), path.parent.name))
    return [read(path) for path in reports]


def read(path: Path) -> Line:
    """A run's report.json -> its line. ValueError where it is something else."""
    try:
        report = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(report, dict) or not {"rows", "ended", "seconds"} <= set(report):
        raise ValueError(f"{path} is no report of a run: leave its folder out")
    rows = [row for row in report["rows"] if row["encoder"] == "trained"]
    last = max((row["epoch"] for row in rows), default=0)
    # The test split comes after the validation split of the same epoch.
    found = {row["metric"]: row for row in rows if row["epoch"] == last}
    captured = found.get("mi_z_nats", {})
    bound, ksg = (_first(found, prefix) for prefix in ("mi_bound_", "mi_ksg_"))
    values = {column: _number(found.get(metric, {}).get("value")) for column, metric in READINGS.items()}
    return Line(
        run=path.parent.name,
        ended=report["ended"],
        objective=report.get("objective", ""),
        seed=report.get("seed", 0),
        overrides=_overrides(path.parent),
        captured_low=_number(captured.get("low")),
        captured_high=_number(captured.get("high")),
        reach_nats=reach(captured["n"]) if captured else math.nan,
        ksg_nats=_number(ksg.get("value")),
        bound_nats=_number(bound.get("value")),
        ceiling_nats=_number(bound.get("ceiling")),
        seconds=report["seconds"],
        captured_warnings=captured.get("note", ""),
        **values,
    )


def _first(rows: Mapping[str, Mapping[str, Any]], prefix: str) -> Mapping[str, Any]:
    return next((row for metric, row in rows.items() if metric.startswith(prefix)), {})


def reach(n: int, k: int = 3) -> float:
    """psi(n / 2) - psi(k), nats: the most that KSG can read in half of n pairs, as the default estimator reads them."""
    from scipy.special import digamma

    return float(digamma(n // 2) - digamma(k))


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
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, Line._fields)
    writer.writeheader()
    writer.writerows(line._asdict() for line in lines)
    table = atomic.write(folder / "sweep.csv", text.getvalue())
    known = [line for line in lines if not math.isnan(line.true_nats + line.captured_nats)]
    several = len({line.true_nats for line in known}) > 1
    return [table, picture(known, folder / "staircase.png")] if several else [table]


# ---------------------------------------------------------------------------------------------------- the staircase


def picture(lines: Sequence[Line], path: Path) -> Path:
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
        panel.set(title=name, xlabel="exact I(V1; V2), nats", ylabel="read, nats", xlim=(0, top), ylim=(-0.5, top))
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


def _stairs(panel, lines: Sequence[Line], top: float) -> None:
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


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ssl_mi.app.sweep", description="One table and one picture of many runs, from their folders."
    )
    parser.add_argument("folders", nargs="+", type=Path, help="of runs, or of sweeps")
    parser.add_argument("--out", type=Path, default=Path("."), help="where sweep.csv and staircase.png go")
    arguments = parser.parse_args(argv)
    try:
        lines = gather(arguments.folders)
    except ValueError as error:
        parser.error(str(error))
    if not lines:
        parser.error(f"no report.json in {', '.join(map(str, arguments.folders))} nor one level below")
    arguments.out.mkdir(parents=True, exist_ok=True)
    print_table(lines)
    for path in write(lines, arguments.out):
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
