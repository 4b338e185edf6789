"""One measurement, as every table, file and plot of a run has it."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """A number with what is needed to judge it.

    evaluation: which evaluation measured it ("mi", "probes", "geometry"); names its CSV file.
    metric:   key in logs, with the unit in its name where there is one.
    quantity: in words. encoder: "trained", "random" (its own initialisation) or "pixels".
    low, high: confidence interval. baseline: what the same procedure reads where nothing is shared (MI) or
    chance (probes). ceiling: the most it could read. p_value: of the permutation test. NaN: there is none.
    kind: "point estimate", "lower bound", ... n: samples it was read on. note: settings and warnings.
    """

    evaluation: str
    epoch: int
    split: str
    encoder: str
    metric: str
    quantity: str
    value: float
    low: float = math.nan
    high: float = math.nan
    baseline: float = math.nan
    ceiling: float = math.nan
    p_value: float = math.nan
    kind: str = ""
    n: int = 0
    note: str = ""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def write_csv(path: Path, rows: list[Row]) -> None:
    """All rows, with a header, replacing the file in one step: a killed run leaves a whole file."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)])
        writer.writeheader()
        writer.writerows(row.as_dict() for row in rows)
    partial.replace(path)
