"""The charts of a page: curves over epochs as plain data, and the same as figures of plotly's JSON.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; markers and dashes differ too.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssl_mi.report.rows import Row, Rows, curve, final_rows, metrics_where

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#999999", "#000000")
MARKERS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "pentagon")
DASHES = ("solid", "dash", "dot", "dashdot")

Figure = dict[str, Any]


class Curve(NamedTuple):
    """Values over the horizontal axis.

    Attributes:
        name: In the legend.
        x, y: The points.
        low, high: Of each point's 95% interval; empty: there is none.
        style: "line", "points", or "level", a horizontal line at y[0].
        twin: Whether it has the colour of the curve before it.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    style: str = "line"
    twin: bool = False


class Chart(NamedTuple):
    """One chart.

    Attributes:
        key: Its anchor.
        title: Its heading.
        about: What is seen, in a sentence or two.
        x_label, y_label: Of the axes.
        curves: What is drawn.
        log: Whether the vertical axis is logarithmic.
    """

    key: str
    title: str
    about: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    log: bool = False


def charts_of(document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[Chart]:
    """The charts that a run has something for.

    Args:
        document: Of report.json.
        arrays: Of samples.npz; empty where there is none.
    """
    rows, history = document.get("rows", ()), document.get("history", ())
    found = [
        Chart(
            "information",
            "Mutual information over the epochs",
            "What the two views share in z, on validation samples and at the end on test samples (stars), with 95% "
            "intervals. Epoch 0 is the untrained encoder.",
            "epoch",
            "nats",
            list(_information(rows)),
        ),
        Chart(
            "bound",
            "The objective's bound beside the estimate",
            "The bound of training batches and of held-out pairs, beside the bound's ceiling and an estimate that "
            "knows nothing of the objective.",
            "epoch",
            "nats",
            list(_bound(rows, history)),
        ),
        Chart(
            "known",
            "What h holds",
            "Nats that h holds about what is known of the samples.",
            "epoch",
            "nats",
            list(_panel(rows, lambda row: row["quantity"].startswith("I(h;"))),
        ),
        Chart(
            "probes",
            "Probes",
            "Accuracy of classifiers on the frozen h, with 95% intervals; stars: the test split.",
            "epoch",
            "accuracy",
            list(_accuracies(rows)),
        ),
        Chart("loss", "Training loss", "The mean of each epoch.", "epoch", "loss", list(_loss(history))),
        Chart(
            "spectrum",
            "Spectrum",
            "Singular values of h and z, as parts of the largest. A cliff: the directions behind it are not used.",
            "direction",
            "of the largest",
            list(_spectra(arrays)),
            log=True,
        ),
    ]
    return [chart for chart in found if any(curve.style != "level" for curve in chart.curves)]


def _of(rows: Sequence[Row], name: str) -> Curve:
    low, high = ([row[side] for row in rows] for side in ("low", "high"))
    known = not all(map(math.isnan, low))
    x, y = [row["epoch"] for row in rows], [row["value"] for row in rows]
    return Curve(name, x, y, low if known else (), high if known else ())


def _information(rows: Rows) -> Iterator[Curve]:
    panels = dict.fromkeys(row["panel"] for row in rows if row.get("panel", "").startswith("I(Z"))
    metrics = [metric for panel in panels for metric in metrics_where(rows, "panel", panel)]
    for metric in [*metrics, *metrics_where(rows, "headline", "captured_nats")]:
        yield from _followed(rows, metric)
    for metric in metrics_where(rows, "headline", "true_nats"):
        truth = [row for row in rows if row["metric"] == metric][-1:]
        yield from (Curve(row["quantity"], [], [row["value"]], style="level") for row in truth)


def _followed(rows: Rows, metric: str) -> Iterator[Curve]:
    """A metric over the epochs, and on the test split."""
    line = curve(rows, metric)
    name = next(row["quantity"] for row in rows if row["metric"] == metric).removesuffix(" accuracy")
    if line:
        yield _of(line, name)
    for row in final_rows(rows):
        if row["metric"] == metric and row["encoder"] == "trained" and row["split"] == "test":
            yield _of([row], f"{name}, test")._replace(style="points", twin=bool(line))


def _bound(rows: Rows, history: Rows) -> Iterator[Curve]:
    trained = [(h["epoch"], h["train/bound_nats"]) for h in history if h.get("train/bound_nats") is not None]
    held = [line for metric in metrics_where(rows, "headline", "bound_nats") if (line := curve(rows, metric))]
    if not trained and not held:
        return
    if trained:
        yield Curve("bound, training batches", [epoch for epoch, _ in trained], [value for _, value in trained])
    for line in held:
        yield _of(line, "bound, held-out pairs")
        ceilings = [row["ceiling"] for row in line if math.isfinite(row["ceiling"])]
        yield from (Curve("ceiling of the bound", [], [value], style="level") for value in ceilings[-1:])
    estimate = next(iter(_information(rows)), None)
    if estimate is not None and estimate.style == "line":
        yield estimate


def _panel(rows: Rows, chosen: Any) -> Iterator[Curve]:
    for metric in dict.fromkeys(row["metric"] for row in rows if chosen(row)):
        line = curve(rows, metric)
        if len(line) > 1:
            yield _of(line, line[-1]["quantity"])


def _accuracies(rows: Rows) -> Iterator[Curve]:
    last = final_rows(rows)
    for metric in metrics_where(rows, "panel", "accuracy"):
        of = {row["encoder"]: row for row in last if row["metric"] == metric}
        yield from _followed(rows, metric)
        name = next(iter(of.values()), {"quantity": ""})["quantity"].removesuffix(" accuracy")
        for encoder, words in (("random", "untrained"), ("pixels", "raw pixels")):
            if encoder in of:
                yield Curve(f"{name}, {words}", [], [of[encoder]["value"]], style="level", twin=True)


def _loss(history: Rows) -> Iterator[Curve]:
    known = [(h["epoch"], h["train/loss"]) for h in history if h.get("train/loss") is not None]
    if known:
        yield Curve("loss", [epoch for epoch, _ in known], [value for _, value in known])


def _spectra(arrays: Mapping[str, np.ndarray]) -> Iterator[Curve]:
    for space in ("h", "z"):
        values = np.asarray(arrays.get(f"spectrum_{space}", []), dtype=float)
        if len(values) and values[0] > 0:
            parts = (values / values[0])[values > 1e-7 * values[0]]  # below: rounding
            yield Curve(space, list(range(1, len(parts) + 1)), parts.tolist())


def figure(chart: Chart) -> Figure:
    """A chart as plotly's JSON: "data" and "layout".

    Args:
        chart: What is drawn.
    """
    across = [x for line in chart.curves for x in line.x] or [0]
    ends = [min(across), max(across)]
    if ends[0] == ends[1]:
        ends = [ends[0] - 1, ends[1] + 1]
    numbers = np.cumsum([not line.twin for line in chart.curves]) - 1
    traces = [_trace(line, int(number), ends) for number, line in zip(numbers, chart.curves, strict=True)]
    axis = {"showgrid": True, "gridcolor": "#e6e6e6", "zeroline": False, "linecolor": "#555555", "automargin": True}
    layout: Figure = {
        "xaxis": {**axis, "title": {"text": chart.x_label}},
        "yaxis": {
            **axis,
            "title": {"text": chart.y_label},
            **({"type": "log", "exponentformat": "power"} if chart.log else {}),
        },
        "margin": {"l": 55, "r": 10, "t": 10, "b": 45},
        "height": 300 + 22 * len(traces),
        # Below the axes: a legend never lies on the lines.
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        "showlegend": True,  # a single curve too says what it is
        "hovermode": "closest",
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1a1a1a"},
    }
    if chart.x_label == "epoch" and ends[1] - ends[0] <= 12:
        layout["xaxis"]["dtick"] = 1
    return {"data": traces, "layout": layout}


def _trace(line: Curve, number: int, ends: Sequence[float]) -> Figure:
    colour = COLOURS[number % len(COLOURS)]
    name = html.escape(line.name, quote=False)
    if line.style == "level":
        style = {"color": colour, "width": 1.5, "dash": "dot" if line.name.endswith("pixels") else "dash"}
        text = f"{name}: {line.y[0]:.4g}<extra></extra>"
        label = f"{name} {line.y[0]:.3g}"
        return {
            "type": "scatter",
            "mode": "lines",
            "name": label,
            "x": list(ends),
            "y": [_plain(line.y[0])] * 2,
            "line": style,
            "hovertemplate": text,
        }
    trace: Figure = {
        "type": "scatter",
        "mode": "markers" if line.style == "points" or len(line.x) == 1 else "lines+markers",
        "name": name,
        "x": list(line.x),
        "y": [_plain(y) for y in line.y],
        "line": {"color": colour, "dash": DASHES[number // len(COLOURS) % len(DASHES)]},
        "marker": {
            "color": colour,
            "symbol": "star" if line.twin else MARKERS[number % len(MARKERS)],
            "size": 12 if line.twin else 7,
        },
        "hovertemplate": f"{name}: %{{y:.4g}}<extra></extra>",
    }
    if len(line.x) > 40:
        trace["mode"] = "lines"
    if line.low:
        up = [_plain(h - y) for h, y in zip(line.high, line.y, strict=True)]
        down = [_plain(y - low) for low, y in zip(line.low, line.y, strict=True)]
        trace["error_y"] = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.2}
    return trace


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def map_figure(arrays: Mapping[str, np.ndarray], kind: str) -> Figure:
    """The map of the embeddings: a trace a class, points that carry their row in the file.

    Args:
        arrays: Of samples.npz.
        kind: "pca", "tsne" or "umap".
    """
    xy, labels = arrays[kind], arrays.get("labels")
    names = [str(name) for name in arrays.get("class_names", [])]
    groups = [("samples", np.arange(len(xy)))]
    if labels is not None:
        groups = [(name, np.flatnonzero(labels == c)) for c, name in enumerate(names)]
    traces = []
    for number, (name, rows) in enumerate(groups):
        text = html.escape(name, quote=False)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": text,
                "x": xy[rows, 0].round(3).tolist(),
                "y": xy[rows, 1].round(3).tolist(),
                "customdata": rows.tolist(),
                "hoverinfo": "none",
                "marker": {
                    "color": COLOURS[number % len(COLOURS)],
                    "symbol": MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
                    "size": 6,
                    "opacity": 0.8,
                },
            }
        )
    blank = {"showticklabels": False, "showgrid": False, "zeroline": False, "linecolor": "#bbbbbb", "mirror": True}
    layout = {
        "xaxis": blank,
        "yaxis": {**blank, "scaleanchor": "x"},
        "margin": {"l": 5, "r": 5, "t": 5, "b": 5},
        "height": 460,
        "showlegend": False,  # the boxes to filter by are the legend
        "hovermode": "closest",
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
    }
    return {"data": traces, "layout": layout}


def symbols(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """(name, colour, a character like its marker) of each class in the map.

    Args:
        names: Of the classes.
    """
    signs = dict(zip(MARKERS, "●■◆✚✖▲★⬟", strict=True))
    return [
        (name, COLOURS[i % len(COLOURS)], signs[MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]])
        for i, name in enumerate(names)
    ]
