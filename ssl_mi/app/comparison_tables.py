"""A comparison as text: for the terminal, Markdown, CSV, and LaTeX with booktabs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from ssl_mi.app.comparison import PROBE, Association, Comparison, Group, Quantity, Summary

CSV_COLUMNS = ("group", "metric", "quantity", "better", "n", "mean", "sd", "low", "high")
DIFFERENCE_COLUMNS = ("reference", "pairs", "difference", "difference_sd", "difference_low", "difference_high")
ESCAPES = {c: f"\\{c}" for c in "&%$#_{}"} | {"~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
ESCAPES |= {"\\": "\\textbackslash{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}"}

Table = tuple[list[str], list[list[str]]]


def chosen(found: Comparison, metrics: Sequence[str] | None) -> list[Quantity]:
    """The quantities of a table: those named, or the headlines that runs have.

    Args:
        found: What is shown.
        metrics: Keys, or None.

    Raises:
        ValueError: If no run has one of them.
    """
    by = {quantity.metric: quantity for quantity in found.quantities}
    if metrics is None:
        heads = ("true_nats", "captured_nats", "capture_ratio", "ksg_nats", "bound_nats", "linear_probe", "knn")
        return [by[head] for head in heads if head in by] or list(by.values())[:6]
    unknown = [metric for metric in metrics if metric not in by]
    if unknown:
        raise ValueError(f"no run has measured {', '.join(unknown)}; there are: {', '.join(by)}")
    return [by[metric] for metric in metrics]


def main_table(found: Comparison, quantities: Sequence[Quantity], reference: Group | None) -> Table:
    """A line a group and quantity: n, mean, sd, interval, and the paired difference to the reference.

    Args:
        found: What is shown.
        quantities: Which.
        reference: None: without differences.
    """
    header = ["group", "quantity", "n", "mean", "sd", "95% interval"]
    header += [f"minus {reference.name} (95%)"] if reference is not None else []
    lines = []
    for quantity in quantities:
        for group in found.groups:
            own = found.summary(group, quantity.metric)
            if not own.n:
                continue
            arrow = {"higher": " \u2191", "lower": " \u2193"}.get(quantity.better, "")
            line = [group.name, quantity.name + arrow, str(own.n), number(own.mean), number(own.sd), interval(own)]
            if reference is not None:
                line.append(
                    "" if group is reference else with_interval(found.difference(group, reference, quantity.metric))
                )
            lines.append(line)
    return header, lines


def number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def interval(summary: Summary) -> str:
    return "" if math.isnan(summary.low) else f"{number(summary.low)} .. {number(summary.high)}"


def with_interval(summary: Summary) -> str:
    """A difference and its interval; of one pair the difference alone, with its n."""
    if not summary.n:
        return "no seed in common"
    if math.isnan(summary.low):
        return f"{summary.mean:+.3f} (one seed)"
    return f"{summary.mean:+.3f} ({summary.low:+.3f} .. {summary.high:+.3f})"


def labels(found: Comparison, width: int) -> list[str]:
    """What to call the groups where there is little room: their names, or numbers where a name is too long.

    Args:
        found: What is shown.
        width: The most letters of a name.
    """
    names = [group.name for group in found.groups]
    return names if max(map(len, names)) <= width else [f"[{i}]" for i in range(1, len(names) + 1)]


def association_line(found: Comparison, association: Association) -> str:
    """A sentence on the mutual information and the linear probe over all runs; "" where there are too few."""
    if math.isnan(association.tau):
        return ""
    quantity = next((q.name for q in found.quantities if q.metric == found.information()), "the mutual information")
    ends = "" if math.isnan(association.low) else f" (95%: {association.low:.2f} to {association.high:.2f})"
    how = f", bootstrap over {association.units}" if ends else ""
    return f"Kendall's tau of {quantity} and the linear probe: {association.tau:.2f}{ends}, {association.n} runs{how}."


def sentences(found: Comparison) -> list[str]:
    """What a reader has to know beside the tables.

    Args:
        found: What is shown.
    """
    seeds = sorted({seed for group in found.groups for seed in group.measured})
    count = len(found.groups)
    told = [f"{count} group{'s' if count > 1 else ''}, seeds {', '.join(map(str, seeds)) or 'none'}."]
    told += (
        ["A group of one seed has no interval: run more seeds."]
        if any(len(g.measured) == 1 for g in found.groups)
        else []
    )
    told.append(association_line(found, found.association(found.information(), PROBE)))
    return [text for text in [*told, *(f"{remark}." for remark in found.remarks)] if text]  # they begin with a path


def markdown(found: Comparison, quantities: Sequence[Quantity], reference: Group | None) -> str:
    """The tables and sentences as Markdown.

    Args:
        found: What is shown.
        quantities: Which.
        reference: None: without differences.
    """
    header, lines = main_table(found, quantities, reference)
    table = [header, ["---"] * len(header), *lines]
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table]
    about = "Mean, standard deviation and Student's 95% interval over seeds; differences are paired by seed."
    return "\n".join(["# Comparison", "", about, "", *rows, "", *(f"- {text}" for text in sentences(found)), ""])


def latex(found: Comparison, quantities: Sequence[Quantity], reference: Group | None) -> str:
    """A table for a paper: a line a group, a column a quantity, mean and half-width; needs booktabs.

    Args:
        found: What is shown.
        quantities: Which.
        reference: Ignored: of a table for a paper the differences go into the text.
    """
    arrows = {"higher": " $\\uparrow$", "lower": " $\\downarrow$"}
    head = " & ".join(["", *(escaped(q.name) + arrows.get(q.better, "") for q in quantities)])
    lines = []
    for group in found.groups:
        cells = [_cell(found.summary(group, quantity.metric)) for quantity in quantities]
        lines.append(" & ".join([escaped(group.name), *cells]) + " \\\\")
    notes = [f"% {text}" for text in ["mean \\pm half of Student's 95% interval over seeds", *sentences(found)]]
    return "\n".join(
        [
            *notes,
            f"\\begin{{tabular}}{{l{'r' * len(quantities)}}}",
            "\\toprule",
            f"{head} \\\\",
            "\\midrule",
            *lines,
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )


def _cell(summary: Summary) -> str:
    if not summary.n:
        return "--"
    half = "" if math.isnan(summary.low) else f" \\pm {summary.high - summary.mean:.3f}"
    return f"${number(summary.mean)}{half}$"


def escaped(text: str) -> str:
    """The text as LaTeX prints it."""
    return "".join(ESCAPES.get(c, c) for c in text)


def as_csv(found: Comparison, quantities: Sequence[Quantity], reference: Group | None) -> str:
    """Every quantity of every group, with differences; empty cells: there is none.

    Args:
        found: What is shown.
        quantities: Ignored: a file has room for all.
        reference: None: without differences.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*CSV_COLUMNS, *(DIFFERENCE_COLUMNS if reference is not None else ())])
    for quantity in found.quantities:
        for group in found.groups:
            own = found.summary(group, quantity.metric)
            line = [group.name, *quantity, *own]
            if reference is not None:
                line += [reference.name, *found.difference(group, reference, quantity.metric)]
            writer.writerow(["" if isinstance(x, float) and math.isnan(x) else x for x in line])
    return text.getvalue()
