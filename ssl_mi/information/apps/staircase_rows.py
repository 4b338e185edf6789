"""The rows of `ssl-mi staircase`: an estimator at a level and a seed; as CSV, as a table, over seeds."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

DIM = 20  # of the Gaussians


class Step(NamedTuple):
    """One estimator at one level and seed: statistics over batches, nats."""

    estimator: str
    critic: str  # learned or optimal
    true: float
    seed: int
    mean: float
    bias: float
    sd: float
    theory_sd: float
    ceiling: float
    batch_size: int
    batches: int
    steps: int


class Stair(NamedTuple):
    """An estimator at a level over its seeds: mean of the means, mean sd of a batch, sd between seeds; nats."""

    mean: float
    sd: float
    between: float


def over_seeds(rows: Sequence[Step], estimator: str, critic: str) -> dict[float, Stair]:
    """{true: Stair}, levels upwards."""
    found: dict[float, list[Step]] = {}
    for row in rows:
        if (row.estimator, row.critic) == (estimator, critic):
            found.setdefault(row.true, []).append(row)
    result = {}
    for true, group in sorted(found.items()):
        means = [row.mean for row in group]
        between = float(np.std(means, ddof=1)) if len(means) > 1 else math.nan
        result[true] = Stair(float(np.mean(means)), float(np.mean([row.sd for row in group])), between)
    return result


def write(rows: Sequence[Step], path: Path) -> None:
    """A line each, under the names of the fields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Step._fields)
        writer.writerows(rows)


def read_csv(path: Path) -> list[Step]:
    """Rows that `write` has written."""
    kinds: dict[str, Callable[[str], Any]] = {"estimator": str, "critic": str}
    kinds |= dict.fromkeys(("seed", "batch_size", "batches", "steps"), int)
    with path.open(newline="", encoding="utf-8") as file:
        return [Step(**{k: kinds.get(k, float)(v) for k, v in line.items()}) for line in csv.DictReader(file)]


def table(rows: Sequence[Step]) -> Table:
    """Mean and spread of each estimator at each level, learned and optimal critic."""
    levels = sorted({row.true for row in rows})
    n, seeds = rows[0].batch_size, len({row.seed for row in rows})
    title = f"batches of {n}, log n = {math.log(n):.2f}; mean ± sd over batches in nats, {seeds} seeds"
    drawn = Table(title=title)
    drawn.add_column("estimator", no_wrap=True)
    drawn.add_column("critic", no_wrap=True)
    for level in levels:
        drawn.add_column(f"true {level:g}", justify="right", no_wrap=True)
    for name in dict.fromkeys(row.estimator for row in rows):
        for critic in ("learned", "optimal"):
            stairs = over_seeds(rows, name, critic)
            drawn.add_row(name, critic, *(f"{short(stairs[v].mean)} ± {short(stairs[v].sd)}" for v in levels))
    return drawn


def short(nats: float) -> str:
    """Two decimals, or powers of ten for a critic that ran away."""
    return f"{nats:.2f}" if abs(nats) < 1000 else f"{nats:.0e}"


def theory_sd(mi: float, n: int, dim: int = DIM) -> float:
    """Standard deviation over batches of n of a heavy-tailed bound at the optimal critic, nats.

    The formula is in staircase_experiment.py.
    """
    rho_squared = -math.expm1(-2 * mi / dim)
    return math.sqrt(dim * rho_squared / n + math.expm1(2 * mi) / (n * (n - 1)))
