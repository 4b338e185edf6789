"""One measurement, as every table, file and plot of a run has it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ssl_mi import atomic


@dataclass(frozen=True)
class Measurement:
    """A number with what is needed to judge it. NaN: there is none.

    Attributes:
        evaluation: The evaluation that measured it ("mi", "probes", "geometry", ...); names its CSV file.
        epoch: Epochs of training before it.
        split: "val" or "test".
        encoder: "trained", "random" (its own initialisation) or "pixels" (the samples themselves).
        metric: Key in logs, with the unit in its name where there is one.
        quantity: The same in words.
        value: The number.
        low, high: Confidence interval at 95%.
        baseline: What the same procedure gives where nothing is shared (MI), or chance (probes).
        ceiling: The most that it could be.
        p_value: Of the permutation test.
        kind: "point estimate", "lower bound", ...
        n: Samples that it was measured on.
        note: Settings and warnings.
        since_first: This value minus the first one that was measured on the same pairs in the same way. On the split
            measured during training the first is that of epoch 0; at the end it is that of the random encoder.
        since_first_low, since_first_high: Its interval at 95%, over paired parts.
        since_previous: This value minus the latest earlier one on the same pairs.
        since_previous_low, since_previous_high: Its interval at 95%, over paired parts.
        pairs: Equal in measurements whose parts pair up, so that any two of them can be compared.
        parts: Estimates on disjoint parts of the samples, several times over (information/inference/cross_fitting.py).
        headline: The column in which tables over many runs show it, such as "captured_nats"; "" for none. One
            measurement per moment and column.
        panel: The plot over epochs that shows it; "" for none.
        permutations: Re-pairings behind p, which is at least 1 / (1 + permutations); 0 where there is no p.
        warnings: What the estimator warns of, in sentences; they are in `note` too.
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
    headline: str = ""
    panel: str = ""
    permutations: int = 0
    warnings: str = ""

    def as_dict(self) -> dict[str, Any]:
        """All fields, as plain values."""
        return asdict(self)


def write_csv(path: Path, rows: Sequence[Measurement]) -> None:
    """All rows, with a header, replacing the file in one step: a killed run leaves a whole file."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [f.name for f in fields(Measurement)])
    writer.writeheader()
    writer.writerows(row.as_dict() | {"parts": _words(row.parts)} for row in rows)
    atomic.write(path, text.getvalue())


def write_table(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """One line or more, all with the same keys, with a header, replacing the file in one step."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    atomic.write(path, text.getvalue())


def _words(parts: tuple[tuple[float, ...], ...]) -> str:
    """As the file has them: "1.1 1.2 | 1.0 1.3"."""
    return " | ".join(" ".join(f"{x:.6g}" for x in cut) for cut in parts)
