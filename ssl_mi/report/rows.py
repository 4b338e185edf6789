"""Measurements as reports take them: plain mappings, one per measurement (see evaluation/measurement.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Rows = Sequence[Row]


def curve(rows: Rows, metric: str) -> list[Row]:
    """One metric of the trained encoder on the validation split, by epoch."""
    found = [r for r in rows if r["metric"] == metric and r["split"] == "val" and r["encoder"] == "trained"]
    return sorted(found, key=lambda r: r["epoch"])


def metrics_where(rows: Rows, column: str, value: str) -> list[str]:
    """The metrics whose rows have this value in a column, in order of appearance."""
    return list(dict.fromkeys(r["metric"] for r in rows if r.get(column) == value))


def last_epoch(rows: Rows) -> int:
    """The epoch of the last evaluation; 0 without rows."""
    return max((r["epoch"] for r in rows), default=0)


def final_rows(rows: Rows) -> list[Row]:
    """The rows of the last evaluation: of the test split where it was measured, of all encoders."""
    epoch = last_epoch(rows)
    splits = {r["split"] for r in rows if r["epoch"] == epoch}
    split = "test" if "test" in splits else "val"
    return [r for r in rows if r["epoch"] == epoch and r["split"] == split]
