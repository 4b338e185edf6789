"""The tables of a report, as (header, lines) of text. Rows are measurements as plain mappings.

A row has `epoch`, `split`, `encoder`, `metric`, `quantity`, `value`, `low`, `high`, `baseline`, `ceiling`, `p_value`,
`n` and `note`, and may have `since_first` and `since_previous` with their intervals (evaluation/measurement.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ssl_mi.report.rows import Row, Rows, curve, last_epoch

Table = tuple[list[str], list[list[str]]]
ENCODERS = ("trained", "random", "pixels")  # in this order
COLUMNS = ("95% interval", "if independent", "p", "ceiling", "n")


def closing_table(rows: Rows) -> Table:
    """The last evaluation: a line per quantity, a column per encoder. ([], []) without rows."""
    if not rows:
        return [], []
    epoch = last_epoch(rows)
    splits = {r["split"] for r in rows if r["epoch"] == epoch}
    split = "test" if "test" in splits else "val"
    last = [r for r in rows if r["epoch"] == epoch and r["split"] == split]
    encoders = [e for e in ENCODERS if any(r["encoder"] == e for r in last)]
    compared = any(_has(r, "since_first") for r in last)
    header = [f"on the {split} split, epoch {epoch}", *encoders, *COLUMNS]
    header += ["learned (trained - random)" if split == "test" else "since the first"] if compared else []
    lines = []
    for metric in dict.fromkeys(r["metric"] for r in last):
        of = {r["encoder"]: r for r in last if r["metric"] == metric}
        lines.append(_closing_line(of, encoders, compared))
    return header, lines


def _closing_line(of: Mapping[str, Row], encoders: Sequence[str], compared: bool) -> list[str]:
    """One metric; `of`: encoder -> row."""
    first = of.get("trained") or next(iter(of.values()))
    interval = f"{first['low']:.3f} .. {first['high']:.3f}" if _has(first, "low") else ""
    unit = " (nats)" if first["metric"].endswith("_nats") else ""
    return [
        first["quantity"] + unit,
        *(_number(of[e]["value"]) if e in of else "" for e in encoders),
        interval,
        *(_number(first[column]) for column in ("baseline", "p_value", "ceiling")),
        str(first["n"]),
        *([_change(first, "since_first")] if compared else []),
    ]


def change_table(rows: Rows) -> Table:
    """Each quantity at each evaluation of the validation split, with its paired differences."""
    lines = []
    for metric in dict.fromkeys(r["metric"] for r in rows if _has(r, "since_previous")):
        for r in curve(rows, metric):
            value = _number(r["value"]) + ("" if math.isnan(r["low"]) else f" ({r['low']:.3f} .. {r['high']:.3f})")
            changes = [_change(r, name) for name in ("since_first", "since_previous")]
            lines.append([r["quantity"], str(r["epoch"]), value, *changes])
    return (["", "epoch", "nats", "since the first", "since the one before"], lines) if lines else ([], [])


def _has(row: Row, column: str) -> bool:
    return not math.isnan(row.get(column, math.nan))


def _change(row: Row, name: str) -> str:
    if not _has(row, name):
        return ""
    return f"{row[name]:+.3f} ({row[f'{name}_low']:.3f} .. {row[f'{name}_high']:.3f})"


def _number(x: float | None) -> str:
    return "" if x is None or math.isnan(x) else f"{x:.3f}"
