"""What a run leaves behind: report.json to parse, report.md to read, PNG plots to look at.

Takes plain dicts and arrays only. A row is one measurement: epoch, split, encoder, metric, quantity, value, low,
high, baseline, ceiling, p_value, n, note, ... (see callbacks/rows.py). History is one dict per epoch.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ssl_mi import atomic

PACKAGES = (
    "ssl_mi",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "numpy",
    "scikit-learn",
    "numba",
)


def environment(folder: Path) -> dict[str, Any]:
    """Versions, machine and commit of the code in `folder`: what a number needs to be repeated."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "commit": _commit(folder),
        "python": platform.python_version(),
        "versions": versions,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
    }


def _commit(folder: Path) -> str:
    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        # No number depends on what is written under docs, and results are kept there.
        changed = git("status", "--porcelain", "--", ":/", ":(top,exclude)docs")
        return git("rev-parse", "HEAD") + (" with uncommitted changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown: not a git checkout"


def write(
    folder: Path,
    title: str,
    facts: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    rows: Sequence[Mapping[str, Any]],
    config: str,
) -> Path:
    """Write report.json, report.md and the plots into `folder`; returns the path of report.md."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"title": title, **facts, "history": list(history), "rows": list(rows), "config": config}
    atomic.write(folder / "report.json", json.dumps(_plain(document), indent=1, allow_nan=False))
    plots = {
        "Loss and bound": plot_training(history, rows, folder / "training.png"),
        "Mutual information over the epochs": plot_information(rows, folder / "information.png"),
        "Probes over the epochs": plot_probes(rows, folder / "probes.png"),
        "Views as the encoder sees them, a pair in each column": _existing(folder / "views.png"),
        "Representations h of held-out images in two dimensions": _existing(folder / "map.png"),
    }
    lines = [f"# {title}", ""]
    lines += [f"- **{name}**: {_text(value)}" for name, value in facts.items()]
    lines += ["", "## What was learned", ""]
    lines += _markdown(*closing_table(rows)) or ["Nothing was evaluated."]
    changes = _markdown(*change_table(rows))
    lines += ["", "## From evaluation to evaluation", "", CHANGES, "", *changes] if changes else []
    for caption, path in plots.items():
        if path is not None:
            lines += ["", f"## {caption}", "", f"![{caption}]({path.name})"]
    notes = sorted({f"- `{r['metric']}`: {r['note']}" for r in rows if r["note"] and r["epoch"] == _last(rows)})
    lines += ["", "## How each number was measured", "", *notes]
    lines += ["", "## Configuration", "", "```yaml", config.strip(), "```", ""]
    return atomic.write(folder / "report.md", "\n".join(lines))


CHANGES = "The trained encoder on the same pairs of validation images each time; in brackets 95% intervals, paired ones"
CHANGES += " of the differences: what the images happen to be cancels there."


# The tables


def closing_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(header, lines) of the last evaluation: a line per quantity, a column per encoder."""
    if not rows:
        return [], []
    epoch = _last(rows)
    splits = {r["split"] for r in rows if r["epoch"] == epoch}
    split = "test" if "test" in splits else "val"
    last = [r for r in rows if r["epoch"] == epoch and r["split"] == split]
    encoders = [e for e in ("trained", "random", "pixels") if any(r["encoder"] == e for r in last)]
    header = [
        f"on the {split} split, epoch {epoch}",
        *encoders,
        "95% interval",
        "if independent",
        "p",
        "ceiling",
        "n",
    ]
    compared = any(_has(r, "since_first") for r in last)
    header += ["learned (trained - random)" if split == "test" else "since the first"] if compared else []
    lines = []
    for metric in dict.fromkeys(r["metric"] for r in last):
        of = {r["encoder"]: r for r in last if r["metric"] == metric}
        first = of.get("trained") or next(iter(of.values()))
        interval = "" if math.isnan(first["low"]) else f"{first['low']:.3f} .. {first['high']:.3f}"
        unit = " (nats)" if metric.endswith("_nats") else ""
        lines.append(
            [first["quantity"] + unit]
            + [_number(of[e]["value"]) if e in of else "" for e in encoders]
            + [interval, _number(first["baseline"]), _number(first["p_value"])]
            + [_number(first["ceiling"]), str(first["n"])]
            + ([_change(first, "since_first")] if compared else [])
        )
    return header, lines


def change_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(header, lines): each quantity at each evaluation of the validation split, with its paired differences."""
    lines = []
    for metric in dict.fromkeys(r["metric"] for r in rows if _has(r, "since_previous")):
        for r in _curve(rows, metric):
            value = _number(r["value"]) + ("" if math.isnan(r["low"]) else f" ({r['low']:.3f} .. {r['high']:.3f})")
            changes = [_change(r, name) for name in ("since_first", "since_previous")]
            lines.append([r["quantity"], str(r["epoch"]), value, *changes])
    return (["", "epoch", "nats", "since the first", "since the one before"], lines) if lines else ([], [])


def _has(row: Mapping[str, Any], column: str) -> bool:
    return not math.isnan(row.get(column, math.nan))


def _change(row: Mapping[str, Any], name: str) -> str:
    if not _has(row, name):
        return ""
    return f"{row[name]:+.3f} ({row[f'{name}_low']:.3f} .. {row[f'{name}_high']:.3f})"


def _last(rows: Sequence[Mapping[str, Any]]) -> int:
    return max((r["epoch"] for r in rows), default=0)


def _number(x: float) -> str:
    return "" if x is None or math.isnan(x) else f"{x:.3f}"


def _markdown(header: list[str], lines: list[list[str]]) -> list[str]:
    if not lines:
        return []
    table = [header, ["---"] * len(header), *lines]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


# Plots


def _figure(width: float, height: float, columns: int = 1):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure, path: Path) -> Path:
    return atomic.write_figure(path, figure, dpi=110)


def _curve(rows: Sequence[Mapping[str, Any]], metric: str) -> list[Mapping[str, Any]]:
    """One metric of the trained encoder on the validation split, by epoch."""
    found = [r for r in rows if r["metric"] == metric and r["split"] == "val" and r["encoder"] == "trained"]
    return sorted(found, key=lambda r: r["epoch"])


def plot_training(history, rows, path: Path) -> Path | None:
    """Loss per epoch; the objective's bound on training batches and held-out pairs, beside its ceiling."""
    if not history:
        return None
    epochs = [h["epoch"] for h in history]
    bounds = any("train/bound_nats" in h for h in history)
    figure, axes = _figure(9 if bounds else 5, 3.2, 2 if bounds else 1)
    axes[0].plot(epochs, [h["train/loss"] for h in history], marker=".")
    axes[0].set(xlabel="epoch", ylabel="training loss")
    if bounds:
        axes[1].plot(
            epochs,
            [h.get("train/bound_nats", math.nan) for h in history],
            marker=".",
            label="training batches",
        )
        for metric in dict.fromkeys(r["metric"] for r in rows if r["metric"].startswith("mi_bound_")):
            held = _curve(rows, metric)
            axes[1].plot([r["epoch"] for r in held], [r["value"] for r in held], "s--", label="held-out pairs")
            ceiling = next((r["ceiling"] for r in held if not math.isnan(r["ceiling"])), None)
            if ceiling is not None:
                axes[1].axhline(ceiling, color="black", lw=1, ls=":", label=f"ceiling {ceiling:.2f}")
        axes[1].set(xlabel="epoch", ylabel="the objective's bound (nats)")
        axes[1].legend(frameon=False, loc="center right")
    return _save(figure, path)


def plot_information(rows, path: Path) -> Path | None:
    """KSG readings over the epochs with intervals, embeddings z on the left, representations h on the right; beside z
    what the views are known to share."""
    metrics = dict.fromkeys(r["metric"] for r in rows if r["evaluation"] == "mi" and "_bound_" not in r["metric"])
    sides = [[m for m in metrics if not m.startswith("mi_h_")], [m for m in metrics if m.startswith("mi_h_")]]
    curves = [[(m, c) for m in side if len(c := _curve(rows, m)) > 1] for side in sides]
    if not any(curves):
        return None
    figure, axes = _figure(11, 3.6, 2)
    for axis, side, what in zip(axes, curves, ("I(Z_X; Z_Y)", "with h"), strict=True):
        for number, (_, curve) in enumerate(side):
            epochs = [r["epoch"] for r in curve]
            axis.plot(
                epochs,
                [r["value"] for r in curve],
                marker=".",
                color=f"C{number}",
                label=curve[-1]["quantity"],
            )
            axis.fill_between(
                epochs,
                [r["low"] for r in curve],
                [r["high"] for r in curve],
                color=f"C{number}",
                alpha=0.2,
                lw=0,
            )
        axis.axhline(0, color="black", lw=0.5)
        truth = _curve(rows, "mi_views_nats")
        if truth and side is curves[0]:
            axis.axhline(truth[-1]["value"], color="black", lw=1, ls=":", label=truth[-1]["quantity"])
        axis.set(xlabel="epoch", ylabel="nats", title=f"{what}, validation images, 95% intervals")
        if side:
            axis.legend(frameon=False, fontsize=7, loc="upper left")
    return _save(figure, path)


def plot_probes(rows, path: Path) -> Path | None:
    """Probe accuracy on validation images over the epochs; the last reading on test images as stars."""
    metrics = dict.fromkeys(r["metric"] for r in rows if r["evaluation"] == "probes")
    if not metrics:
        return None
    figure, (axis,) = _figure(6, 3.4)
    for number, metric in enumerate(metrics):
        color = f"C{number}"
        curve = _curve(rows, metric)
        quantity = next(r["quantity"] for r in rows if r["metric"] == metric)
        axis.errorbar(
            [r["epoch"] for r in curve],
            [r["value"] for r in curve],
            yerr=[[r["value"] - r["low"] for r in curve], [r["high"] - r["value"] for r in curve]],
            color=color,
            marker=".",
            capsize=2,
            label=quantity,
        )
        for r in rows:
            if r["metric"] == metric and r["split"] == "test":
                if r["encoder"] == "trained":
                    axis.plot(r["epoch"], r["value"], "*", color=color, ms=12, label=f"{quantity}, test")
                else:
                    axis.axhline(r["value"], color=color, ls={"random": "--", "pixels": ":"}[r["encoder"]], lw=1)
                    # At the left edge of the axes, wherever their epochs begin.
                    edge = {"transform": axis.get_yaxis_transform(), "va": "bottom"}
                    axis.text(0, r["value"], f" {r['encoder']}", color=color, fontsize=7, **edge)
    axis.set(xlabel="epoch", ylabel="accuracy")
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    return _save(figure, path)


def draw_views(views: Sequence[np.ndarray | Sequence[str]], path: Path) -> Path:
    """A strip of views: V arrays [n, h, w, c] in [0, 1], or n sentences; column i shows the views of image i."""
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


def _label(name: str) -> str:
    """As a legend shows it: matplotlib leaves out what begins with an underscore."""
    return f" {name}" if name.startswith("_") else name


def draw_map(h: np.ndarray, labels: np.ndarray | None, names: Sequence[str], path: Path, seed: int = 0) -> Path:
    """t-SNE of h: [n, d], coloured by class where labels are known."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    h = h / np.linalg.norm(h, axis=1, keepdims=True).clip(min=1e-12)
    h = PCA(min(30, *h.shape), random_state=seed).fit_transform(h)
    xy = TSNE(perplexity=min(30, (len(h) - 1) / 3), init="pca", random_state=seed, max_iter=500).fit_transform(h)
    figure, (axis,) = _figure(6, 5)
    if labels is None:
        axis.scatter(*xy.T, s=6)
    else:
        for c, name in enumerate(names):
            axis.scatter(*xy[labels == c].T, s=7, color=f"C{c % 10}", marker="o^s"[c // 10 % 3], label=_label(name))
        if len(names) <= 20:
            axis.legend(frameon=False, fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set(xticks=[], yticks=[], title="t-SNE of h, held-out images")
    return _save(figure, path)
