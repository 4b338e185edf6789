"""The picture of the study of bounds: accuracy moves at constant information; bounds over accuracies, in no order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from study import Row, pick

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"bilinear": "tab:blue", "cosine": "tab:green", "separable": "tab:red", "concat": "tab:purple"}
MARKERS = {"infonce": "o", "nwj": "s", "mine": "^"}
Setting = tuple[str, str]


def picture(
    rows: Sequence[Row],
    path: Path,
    settings: Sequence[Setting],
    pair: Sequence[Setting],
    curves: Sequence[Setting],
    adversary: Setting,
    steps: int,
    nats: float,
    names: Mapping[str, str],
) -> None:
    """Left, over the steps: accuracy above, exact information and bounds below. Right: accuracy over the bound."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 1.1])
    above = figure.add_subplot(grid[0, 0])
    below = figure.add_subplot(grid[1, 0], sharex=above)
    lines = [
        *((setting, "nothing", f"{setting[0]} critic, {names[setting[1]]}") for setting in curves),
        (adversary, "adversary", f"{adversary[0]} critic, {names[adversary[1]]}; then against an adversary"),
    ]
    _over_steps(rows, above, below, lines)
    _explain(above, below, steps, max(row["step"] for row in rows), nats)
    right = figure.add_subplot(grid[:, 1])
    means = {setting: _mean_with_bars(rows, right, setting, steps) for setting in settings}
    for letter, setting, towards in (("A", pair[0], (13, -15)), ("B", pair[1], (-13, 13))):
        right.annotate(
            letter, means[setting], towards, textcoords="offset points", fontsize=15, weight="bold", zorder=5
        )
    right.plot(*zip(*(means[s] for s in pair), strict=True), color="black", lw=1, ls="--", zorder=3)
    _legend(right, names)
    right.set(xlabel=f"bound on held-out pairs, nats (of {nats:.3f}, exact and the same for all)")
    right.set_ylabel("linear-probe accuracy")
    seeds = len({row["seed"] for row in rows})
    right.set_title(f"(b) critics x bounds at equal information: mean and 95% over {seeds} seeds", fontsize=11)
    right.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def _over_steps(rows: Sequence[Row], above: Axes, below: Axes, lines: Sequence[tuple[Setting, str, str]]) -> None:
    """Accuracy above and nats below over the steps: a thin line a seed, a thick one for their mean."""
    for place, (setting, then, label) in enumerate(lines):
        where = {"critic": setting[0], "bound": setting[1], "then": then}
        at = sorted({row["step"] for row in rows if all(row[k] == v for k, v in where.items())})
        colour = ("tab:blue", "tab:cyan", "tab:red")[place]
        for panel, column in ((above, "accuracy"), (below, "nats")):
            values = np.array([pick(rows, column, step=step, **where) for step in at])
            panel.plot(at, values, color=colour, lw=0.6, alpha=0.4)
            panel.plot(at, values.mean(1), color=colour, lw=2, label=label)


def _explain(above: Axes, below: Axes, steps: int, end: int, nats: float) -> None:
    """The exact information, where the adversary begins, axes and titles."""
    below.axhline(nats, color="black", lw=2)
    below.text(15, nats + 0.06, f"I(f(X); g(Y)) = ln 10 = {nats:.3f}, exact", fontsize=9, va="bottom")
    below.set(ylim=(-0.6, nats + 0.5), xlabel="step", ylabel="nats")
    below.text(steps / 2, 0.55, "bounds on digits never trained on", fontsize=8.5, color="0.35", ha="center")
    above.set(ylim=(0, 1), ylabel="linear-probe accuracy")
    above.tick_params(labelbottom=False)
    for panel in (above, below):
        panel.axvspan(steps, end, color="tab:red", alpha=0.07, lw=0)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlim(0, end)
    above.text((steps + end) / 2, 0.97, "adversary", fontsize=8.5, color="tab:red", ha="center", va="top")
    above.set_title("(a) invertible encoders: accuracy moves, information cannot", fontsize=11)
    above.legend(fontsize=8, loc="lower center", frameon=False)


def _mean_with_bars(rows: Sequence[Row], panel: Axes, setting: Setting, steps: int) -> tuple[float, float]:
    """Draw accuracy over the bound of one setting, its seeds and 95% bars; -> the means of both."""
    critic, bound = setting
    where = {"critic": critic, "bound": bound, "then": "nothing", "step": steps}
    x, y = (np.array(pick(rows, column, **where)) for column in ("nats", "accuracy"))
    style = {"color": COLOURS[critic], "marker": MARKERS[bound]}
    panel.scatter(x, y, s=9, alpha=0.35, lw=0, **style)
    half = stats.t.ppf(0.975, len(x) - 1) / len(x) ** 0.5
    bars = {"xerr": half * x.std(ddof=1), "yerr": half * y.std(ddof=1), "elinewidth": 0.8, "ls": ""}
    panel.errorbar(x.mean(), y.mean(), ms=9, mec="black", mew=0.6, zorder=4, **bars, **style)
    return x.mean(), y.mean()


def _legend(panel: Axes, names: Mapping[str, str]) -> None:
    """Colours of critics, then shapes of bounds, below the panel."""
    handles = [panel.scatter([], [], color=colour, s=60, marker="o") for colour in COLOURS.values()]
    handles += [panel.scatter([], [], color="0.4", s=60, marker=marker) for marker in MARKERS.values()]
    said = [*(f"{critic} critic" for critic in COLOURS), *(names[bound] for bound in MARKERS)]
    under = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.09), "frameon": False, "columnspacing": 1.0}
    panel.legend(handles, said, fontsize=8.5, ncols=len(said), handletextpad=0.2, **under)
