"""The tables of a report, as (header, lines) of text. Rows are measurements as plain mappings.

A row has `epoch`, `split`, `encoder`, `metric`, `quantity`, `value`, `low`, `high`, `baseline`, `ceiling`, `p_value`,
`n` and `note`, and may have `since_first` and `since_previous` with their intervals (evaluation/measurement.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ssl_mi.report.rows import Row, Rows, curve, final_rows

Table = tuple[list[str], list[list[str]]]
Explained = Mapping[str, Mapping[str, str]]  # metric -> "short", "better", "meaning"
LINES, NAME = 20, 20  # of the short table: its lines, and letters of a name
ENCODERS = ("trained", "random", "pixels")  # in this order
COLUMNS = ("95% interval", "if independent", "p", "ceiling", "n")


def closing_table(rows: Rows) -> Table:
    """The last evaluation: a line per quantity, a column per encoder. ([], []) without rows."""
    if not rows:
        return [], []
    last = final_rows(rows)
    epoch, split = last[0]["epoch"], last[0]["split"]
    encoders = [e for e in ENCODERS if any(r["encoder"] == e for r in last)]
    compared = any(_has(r, "since_first") for r in last)
    header = [f"on the {split} split, epoch {epoch}", *encoders, *COLUMNS]
    header += ["learned (trained - random)" if split == "test" else "since the first"] if compared else []
    lines = []
    for metric in dict.fromkeys(r["metric"] for r in last):
        of = {r["encoder"]: r for r in last if r["metric"] == metric}
        lines.append(_closing_line(of, encoders, compared))
    return header, lines


def short_table(rows: Rows, explained: Explained) -> Table:
    """The last evaluation in 79 columns and at most `LINES` lines: value with interval, untrained, what was learned.

    Args:
        rows: All measurements.
        explained: metric -> "short", its name in few letters.

    Returns:
        (header, lines); where more was measured, the last line says how much. ([], []) without rows.
    """
    last = final_rows(rows)
    by: dict[str, dict[str, Row]] = {}
    for row in last:
        by.setdefault(row["metric"], {})[row["encoder"]] = row
    metrics = list(by)
    if len(metrics) > LINES:  # those of headlines and plots first
        order = sorted(metrics, key=lambda metric: -_weight(next(iter(by[metric].values()))))
        metrics = [metric for metric in metrics if metric in order[: LINES - 1]]
    lines = [_short_line(by[metric], explained.get(metric, {})) for metric in metrics]
    left = len(by) - len(metrics)
    if left:
        lines.append([f"{left} more: report.html", "", "", ""])
    if not lines:
        return [], []
    return [f"{last[0]['split']} split, epoch {last[0]['epoch']}", "trained (95%)", "untrained", "learned (95%)"], lines


def _weight(row: Row) -> int:
    return 2 * bool(row.get("headline")) + bool(row.get("panel"))


def _short_line(of: Mapping[str, Row], explained: Mapping[str, str]) -> list[str]:
    row = of.get("trained")
    if row is None:  # stopped before it was measured: others' values are not its
        row = {**next(iter(of.values())), "value": math.nan, "low": math.nan, "since_first": math.nan}
    learned = ""
    if _has(row, "since_first"):
        learned = f"{row['since_first']:+.3f} ({row['since_first_low']:.3f}..{row['since_first_high']:.3f})"
    value = (
        f"{_short(row['value'])} ({row['low']:.3f}..{row['high']:.3f})" if _has(row, "low") else _short(row["value"])
    )
    name = explained.get("short") or row["quantity"]
    return [_cut(name, NAME), value, _short(of["random"]["value"]) if "random" in of else "", learned]


def _short(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "\u2026"


def full_table(rows: Rows, explained: Explained) -> Table:
    """The last evaluation with what each number means.

    Args:
        rows: All measurements.
        explained: metric -> "better" and "meaning".

    Returns:
        (header, lines), the meaning in the last cell; ([], []) without rows.
    """
    header, lines = closing_table(rows)
    if not lines:
        return [], []
    metrics = list(dict.fromkeys(row["metric"] for row in final_rows(rows)))
    arrows = {"higher": " \u2191", "lower": " \u2193"}
    found = []
    for metric, line in zip(metrics, lines, strict=True):
        about = explained.get(metric, {})
        name = line[0] + arrows.get(about.get("better", ""), "")
        found.append([name, *line[1:], about.get("meaning", "")])
    return [*header, "what it is"], found


def notes(rows: Rows) -> list[tuple[str, str]]:
    """(quantity, how it was measured) of the last evaluation of the trained encoder.

    Args:
        rows: All measurements.
    """
    return [(r["quantity"], r["note"]) for r in final_rows(rows) if r["encoder"] == "trained" and r["note"]]


def _closing_line(of: Mapping[str, Row], encoders: Sequence[str], compared: bool) -> list[str]:
    """One metric; `of`: encoder -> row."""
    first = of.get("trained") or next(iter(of.values()))
    interval = f"{first['low']:.3f} .. {first['high']:.3f}" if _has(first, "low") else ""
    unit = " (nats)" if first["metric"].endswith("_nats") else ""
    return [
        first["quantity"] + unit,
        *(_number(of[e]["value"]) if e in of else "" for e in encoders),
        interval,
        _number(first["baseline"]),
        p_text(first),
        _number(first["ceiling"]),
        str(first["n"]),
        *([_change(first, "since_first")] if compared else []),
    ]


def p_text(row: Row) -> str:
    """The p-value, and where no smaller one was possible, by how many permutations; "" where there is none.

    Args:
        row: A measurement.
    """
    p, permutations = row["p_value"], row.get("permutations", 0)
    if math.isnan(p) or not permutations or p * (1 + permutations) > 1 + 1e-9:
        return _number(p)
    return f"<= {p:.3g}, the least that {permutations} permutations can show"


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
