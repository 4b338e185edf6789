"""One measurement, as every table, file and plot of a run has it."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ssl_mi import atomic


@dataclass(frozen=True)
class Row:
    """A number with what is needed to judge it.

    evaluation: which evaluation measured it ("mi", "probes", "geometry"); names its CSV file.
    metric:   key in logs, with the unit in its name where there is one.
    quantity: in words. encoder: "trained", "random" (its own initialisation) or "pixels".
    low, high: confidence interval. baseline: what the same procedure reads where nothing is shared (MI) or
    chance (probes). ceiling: the most it could read. p_value: of the permutation test. NaN: there is none.
    kind: "point estimate", "lower bound", ... n: samples it was read on. note: settings and warnings.

    since_first, since_previous: this value less the first and less the latest earlier one that was read on the same
    pairs in the same way, with intervals over paired parts. On the split read during training the first is epoch 0's;
    at the end it is that of the random encoder. parts: readings of disjoint parts of the samples, several times over;
    pairs: equal in rows whose parts pair up, so that any two of them can be compared (information/crossfit.py).
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
    since_first: float = math.nan
    since_first_low: float = math.nan
    since_first_high: float = math.nan
    since_previous: float = math.nan
    since_previous_low: float = math.nan
    since_previous_high: float = math.nan
    pairs: str = ""
    parts: tuple[tuple[float, ...], ...] = ()

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    def numbers(self) -> dict[str, float]:
        """What a logger takes: the value under its metric, and what is known beside it under `metric/column`."""
        beside = {f"{self.metric}/{name}": getattr(self, name) for name in BESIDE}
        return {self.metric: self.value} | {name: x for name, x in beside.items() if not math.isnan(x)}


BESIDE = [f.name for f in fields(Row) if f.default is math.nan]


def write_csv(path: Path, rows: list[Row]) -> None:
    """All rows, with a header, replacing the file in one step: a killed run leaves a whole file."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [f.name for f in fields(Row)])
    writer.writeheader()
    writer.writerows(row.as_dict() | {"parts": _words(row.parts)} for row in rows)
    atomic.write(path, text.getvalue())


def _words(parts: tuple[tuple[float, ...], ...]) -> str:
    """As the file has them: "1.1 1.2 | 1.0 1.3"."""
    return " | ".join(" ".join(f"{x:.6g}" for x in cut) for cut in parts)
