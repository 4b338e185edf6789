"""The plots of a report. Everything comes as plain mappings and arrays.

A row is a measurement: `epoch`, `split`, `encoder`, `metric`, `quantity`, `value`, `low`, `high`, `ceiling`, and
`panel`, the plot over epochs that shows it (evaluation/measurement.py). History is one mapping per epoch.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_mi import atomic
from ssl_mi.report.rows import Row, Rows, curve, metrics_where

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    return atomic.write_figure(path, figure, dpi=110)


def draw_training(history: Rows, rows: Rows, path: Path) -> Path | None:
    """Loss per epoch; where the objective is a bound, its value on training batches and on held-out pairs, beside its
    ceiling. None without an epoch."""
    if not history:
        return None
    epochs = [h["epoch"] for h in history]
    bounds = any("train/bound_nats" in h for h in history)
    figure, axes = _figure(9 if bounds else 5, 3.6, 2 if bounds else 1)
    axes[0].plot(epochs, [h["train/loss"] for h in history], marker=".")
    axes[0].set(xlabel="epoch", ylabel="training loss")
    if bounds:
        values = [h.get("train/bound_nats", math.nan) for h in history]
        axes[1].plot(epochs, values, marker=".", label="training batches")
        for metric in metrics_where(rows, "headline", "bound_nats"):
            held = curve(rows, metric)
            axes[1].plot([r["epoch"] for r in held], [r["value"] for r in held], "s--", label="held-out pairs")
            ceiling = next((r["ceiling"] for r in held if not math.isnan(r["ceiling"])), None)
            if ceiling is not None:
                axes[1].axhline(ceiling, color="black", lw=1, ls=":", label=f"ceiling {ceiling:.2f}")
        axes[1].set(xlabel="epoch", ylabel="the objective's bound (nats)")
        _legend_below(axes[1], 8)
    return _save(figure, path)


def draw_information(rows: Rows, panels: Sequence[str], path: Path) -> Path | None:
    """The rows of some panels over the epochs, with intervals, a panel beside the other.

    On the first panel stands what the views are known to share, where a row has the headline "true_nats".

    Returns:
        The path; None where nothing was measured twice.
    """
    found = [
        (panel, [c for m in metrics_where(rows, "panel", panel) if len(c := curve(rows, m)) > 1]) for panel in panels
    ]
    shown = [(panel, side) for panel, side in found if side]  # without labels nothing is measured with h
    if not shown:
        return None
    figure, axes = _figure(5.5 * len(shown), 4.0, len(shown))
    for axis, (panel, side) in zip(axes, shown, strict=True):
        for number, line in enumerate(side):
            epochs, color = [r["epoch"] for r in line], f"C{number}"
            axis.plot(epochs, [r["value"] for r in line], marker=".", color=color, label=line[-1]["quantity"])
            low, high = [r["low"] for r in line], [r["high"] for r in line]
            axis.fill_between(epochs, low, high, color=color, alpha=0.2, lw=0)
        axis.axhline(0, color="black", lw=0.5)
        for metric in metrics_where(rows, "headline", "true_nats") if panel == panels[0] else ():
            for truth in curve(rows, metric)[-1:]:
                axis.axhline(truth["value"], color="black", lw=1, ls=":", label=truth["quantity"])
        axis.set(xlabel="epoch", ylabel="nats", title=f"{panel}, validation split, 95% intervals")
        _legend_below(axis, 7)
    return _save(figure, path)


def draw_accuracies(rows: Rows, panel: str, path: Path) -> Path | None:
    """The rows of a panel over the epochs of the validation split; those of the test split as stars and lines.

    Returns:
        The path; None without such rows.
    """
    metrics = metrics_where(rows, "panel", panel)
    if not metrics:
        return None
    figure, (axis,) = _figure(6, 3.9)
    for number, metric in enumerate(metrics):
        color, line = f"C{number}", curve(rows, metric)
        quantity = next(r["quantity"] for r in rows if r["metric"] == metric)
        values = [r["value"] for r in line]
        arms = [[r["value"] - r["low"] for r in line], [r["high"] - r["value"] for r in line]]
        axis.errorbar([r["epoch"] for r in line], values, yerr=arms, color=color, marker=".", capsize=2, label=quantity)
        for r in rows:
            if r["metric"] == metric and r["split"] == "test":
                _mark_test(axis, r, color)
    axis.set(xlabel="epoch", ylabel=panel)
    _legend_below(axis, 8)
    return _save(figure, path)


def _legend_below(axis: Axes, size: int) -> None:
    """Where it lies on no line."""
    axis.legend(frameon=False, fontsize=size, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)


def _mark_test(axis: Axes, row: Row, color: str) -> None:
    """A star for the trained encoder, a line for what it is compared with."""
    if row["encoder"] == "trained":
        axis.plot(row["epoch"], row["value"], "*", color=color, ms=12, label=f"{row['quantity']}, test")
        return
    axis.axhline(row["value"], color=color, ls="--" if row["encoder"] == "random" else ":", lw=1)
    # At the left edge of the axes, wherever their epochs begin.
    edge = axis.get_yaxis_transform()
    axis.text(0, row["value"], f" {row['encoder']}", color=color, fontsize=7, transform=edge, va="bottom")


def draw_views(views: Sequence[np.ndarray | Sequence[str]], path: Path) -> Path:
    """A strip of views, into `path`.

    Args:
        views: For each view an array `[n, h, w, c]` in [0, 1], or n sentences; column i shows the views of sample i.
    """
    figure, _ = _figure(len(views[0]) * 0.9, len(views) * 0.95)
    figure.clf()
    grid = figure.subplots(len(views), len(views[0]), squeeze=False)
    for row, images in zip(grid, views, strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.set_axis_off()
            if isinstance(image, str):
                words = textwrap.fill(image, 16)
                axis.text(0.5, 1, words, fontsize=5, ha="center", va="top", transform=axis.transAxes)
            else:
                axis.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", interpolation="nearest")
    return _save(figure, path)


def draw_map(xy: np.ndarray, labels: np.ndarray | None, names: Sequence[str], path: Path) -> Path:
    """Points `xy: [n, 2]`, into `path`, coloured by class where labels (int `[n]`) are known."""
    figure, (axis,) = _figure(6, 5)
    if labels is None:
        axis.scatter(xy[:, 0], xy[:, 1], s=6)
    else:
        for c, name in enumerate(names):
            of = xy[labels == c]
            axis.scatter(of[:, 0], of[:, 1], s=7, color=f"C{c % 10}", marker="o^s"[c // 10 % 3], label=_label(name))
        if len(names) <= 20:
            axis.legend(frameon=False, fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set(xticks=[], yticks=[], title="h of held-out samples in two dimensions")
    return _save(figure, path)


def _label(name: str) -> str:
    """As a legend shows it: matplotlib leaves out what begins with an underscore."""
    return f" {name}" if name.startswith("_") else name
