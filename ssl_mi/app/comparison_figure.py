"""The figure of a comparison, as vectors: groups with their intervals, and mutual information against accuracy."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_mi import atomic
from ssl_mi.app.comparison import PROBE, Comparison, Quantity
from ssl_mi.app.comparison_tables import association_line
from ssl_mi.report.charts import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = "osD^v<>pP*Xh"
WIDTH = 44  # letters of a line of a group's name
PANELS = 3  # quantities, at most, that have one


def draw(found: Comparison, quantities: Sequence[Quantity], paths: Sequence[Path]) -> list[Path]:
    """Draw the figure into each of these files; their endings choose the format (.pdf, .svg, .png).

    Args:
        found: What is shown.
        quantities: The first of them have a panel each.
        paths: Of the files.

    Returns:
        The paths.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [q for q in quantities if any(found.summary(g, q.metric).n for g in found.groups)][:PANELS]
    points = any(found.points(group, found.information(), PROBE) for group in found.groups)
    panels = len(shown) + points
    if not panels:
        return []
    lines = sum(max(2, len(textwrap.wrap(group.name, WIDTH))) for group in found.groups)
    height = max(2.8, 0.9 + 0.16 * lines)
    figure = Figure(figsize=(3.4 * panels + 1.2, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    for number, (axis, quantity) in enumerate(zip(axes, shown, strict=False)):
        _dots(axis, found, quantity, names=number == 0)
    if points:
        _scatter(axes[-1], found)
    return [atomic.write_figure(path, figure) for path in paths]


def _dots(axis: Axes, found: Comparison, quantity: Quantity, names: bool) -> None:
    """A line a group: its runs as small points, the mean with its interval."""
    for i, group in enumerate(found.groups):
        values = list(found.values(group, quantity.metric).values())
        summary = found.summary(group, quantity.metric)
        if not summary.n:
            continue
        colour = COLOURS[i % len(COLOURS)]
        axis.plot(values, np.full(len(values), i), ".", color=colour, alpha=0.5, ms=5)
        arms = None if np.isnan(summary.low) else [[summary.mean - summary.low], [summary.high - summary.mean]]
        axis.errorbar(summary.mean, i, xerr=arms, fmt=MARKS[i % len(MARKS)], color=colour, capsize=3, ms=6)
    called = ["\n".join(textwrap.wrap(group.name, WIDTH)) for group in found.groups]
    axis.set_yticks(range(len(found.groups)), called if names else [""] * len(called), fontsize=8)
    axis.set(xlabel=quantity.name, ylim=(len(found.groups) - 0.5, -0.5))
    axis.grid(axis="x", lw=0.4)


def _scatter(axis: Axes, found: Comparison) -> None:
    for i, group in enumerate(found.groups):
        points = found.points(group, found.information(), PROBE)
        if points:
            x, y = ([point[side] for point in points] for side in (0, 1))
            axis.scatter(x, y, s=24, alpha=0.8, color=COLOURS[i % len(COLOURS)], marker=MARKS[i % len(MARKS)])
    name = next((q.name for q in found.quantities if q.metric == found.information()), found.information())
    axis.set(xlabel=f"{name}, nats", ylabel="linear-probe accuracy")
    association = found.association(found.information(), PROBE)
    if association_line(found, association):
        ends = "" if np.isnan(association.low) else f" ({association.low:.2f} to {association.high:.2f})"
        axis.set_title(f"Kendall's \u03c4 {association.tau:.2f}{ends}, {association.n} runs", fontsize=9)
