"""The staircase as a picture: a panel an estimator, all estimates at the highest level, every spread beside theory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssl_mi.information.apps.staircase_experiment import bound_of
from ssl_mi.information.apps.staircase_rows import Stair, Step, over_seeds, short, theory_sd

# A family a colour.
CEILING, HEAVY, CLIPPED, UPPER, ENTROPIES = "tab:blue", "tab:red", "tab:purple", "tab:green", "tab:orange"
WHAT = {
    CEILING: "lower bound with a ceiling",
    HEAVY: "lower bound, variance e^I",
    CLIPPED: "clipped: no bound",
    UPPER: "upper bound if q(y|x) is right",
    ENTROPIES: "difference of entropies: no bound",
}


def picture(rows: Sequence[Step], path: Path) -> None:
    """Draw the rows of `staircase` to .png, .pdf or .svg."""
    names = list(dict.fromkeys(row.estimator for row in rows))
    levels = np.array(sorted({row.true for row in rows}))
    across = min(4, max(2, len(names)))
    down = math.ceil(len(names) / across)
    figure = Figure(figsize=(3.3 * across, 2.6 * down + 4.2), layout="constrained")
    grid = figure.add_gridspec(down + 1, across, height_ratios=[1] * down + [1.45])
    top = 1.45 * levels.max()
    for place, name in enumerate(names):
        panel = figure.add_subplot(grid[place // across, place % across])
        _levels(panel, rows, name, levels, top)
        if place % across == 0:
            panel.set_ylabel("estimate, nats")
        if place // across == down - 1:
            panel.set_xlabel("true, nats")
    half = across // 2
    _highest(figure.add_subplot(grid[down, :half]), rows, names, levels)
    _spreads(figure.add_subplot(grid[down, half:]), rows, names, levels)
    n, seeds = rows[0].batch_size, len({row.seed for row in rows})
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    figure.suptitle(
        f"Gaussians in 20 dimensions, batches of {n}: mean ± sd over {rows[0].batches} batches, {seeds} seeds, "
        f"{rows[0].steps} steps a level",
        fontsize=11,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def family(name: str) -> str:
    """The colour of an estimator, by what its bound states of itself."""
    bound = bound_of(name)
    if bound is None:
        return ENTROPIES
    if bound.kind == "upper bound":
        return UPPER
    if bound.kind == "point estimate":
        return CLIPPED
    return HEAVY if bound.heavy_tailed else CEILING


def title(name: str) -> str:
    """What figures call an estimator."""
    bound = bound_of(name)
    return name.replace("_", " ") if bound is None else bound.title


def _levels(panel: Axes, rows: Sequence[Step], name: str, levels: np.ndarray, top: float) -> None:
    """Mean and spread over the truth; what lies beyond the frame becomes an arrow with its number."""
    n, low = rows[0].batch_size, -1.0
    panel.plot([0, levels.max() + 1], [0, levels.max() + 1], color="black", lw=1, label="truth")
    ceiling = next(row.ceiling for row in rows if row.estimator == name)
    if family(name) == HEAVY:
        fine = np.linspace(levels.min(), levels.max(), 60)
        sd = np.array([theory_sd(mi, n) for mi in fine])
        panel.fill_between(fine, fine - sd, fine + sd, color="0.88", lw=0)
    panel.fill_between([], [], [], color="0.88", label="truth ± sd in theory (e^I)")
    panel.plot([], [], color="0.4", ls=":", label="ceiling")
    if math.isfinite(ceiling):
        panel.axhline(ceiling, color="0.4", ls=":")
        panel.text(0.3, ceiling + 0.2, f"{ceiling:.2f}", fontsize=7, color="0.3")
    for critic, colour, shift, marker in (("optimal", "0.55", 0.15, "s"), ("learned", family(name), -0.15, "o")):
        for true, stair in over_seeds(rows, name, critic).items():
            _point(panel, true + shift, stair, (low, top), colour, marker, numbered=critic == "learned")
        label = "critic learned (coloured)" if critic == "learned" else "critic optimal"
        panel.plot([], [], marker, ms=4, color="black" if critic == "learned" else colour, label=label)
    panel.set_title(title(name), fontsize=10, color=family(name))
    panel.set(xlim=(0, levels.max() + 1), ylim=(low, top), xticks=levels)
    panel.tick_params(labelsize=8)


def _point(
    panel: Axes, x: float, stair: Stair, frame: tuple[float, float], colour: str, marker: str, numbered: bool
) -> None:
    """Mean and spread, or outside the frame an arrow, with the number where there is room for one."""
    low, top = frame
    if low <= stair.mean <= top:
        panel.errorbar(x, stair.mean, stair.sd, fmt=marker, ms=4, color=colour, capsize=2, elinewidth=1, mfc=colour)
        return
    below = stair.mean < low
    edge = low + 0.4 if below else top - 0.4
    panel.plot(x, edge, "v" if below else "^", color=colour, ms=5)
    if numbered:
        panel.annotate(
            short(stair.mean),
            (x, edge),
            (0, 5 if below else -5),
            textcoords="offset points",
            fontsize=6,
            color=colour,
            ha="center",
            va="bottom" if below else "top",
        )


def _highest(axes: Axes, rows: Sequence[Step], names: list[str], levels: np.ndarray) -> None:
    """The estimate of each learned critic at the highest level, nearest to the truth first."""
    highest = levels.max()
    stairs = {name: over_seeds(rows, name, "learned")[highest] for name in names}
    order = sorted(names, key=lambda name: -abs(stairs[name].mean - highest))
    right = 2 * highest
    for place, name in enumerate(order):
        mean, sd, between = stairs[name]
        axes.barh(place, min(max(mean, 0), right), color=family(name), alpha=0.75, height=0.7)
        said = f"{short(mean)} ± {short(sd)}"
        if not math.isnan(between):
            said += f"   (seeds ± {short(between)})"
        axes.text(0.15, place, said, va="center", fontsize=7.5)
    axes.axvline(highest, color="black", lw=1)
    axes.set_yticks(range(len(order)), [title(name) for name in order], fontsize=8)
    axes.set(xlim=(0, right), xlabel="estimate, nats: mean ± sd of a batch")
    axes.set_title(f"estimates at {highest:g} nats, learned critics", fontsize=10)
    seen = [colour for colour in WHAT if colour in {family(name) for name in names}]
    marks = [axes.barh(-1, 0, color=colour, alpha=0.75) for colour in seen]
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.legend(marks, [WHAT[colour] for colour in seen], fontsize=7, loc="upper right")


def _spreads(axes: Axes, rows: Sequence[Step], names: list[str], levels: np.ndarray) -> None:
    """Spread of a batch, learned (full) and optimal (hollow), over the truth; theory of the e^I family dashed."""
    n = rows[0].batch_size
    ends = []
    for name in names:
        stairs = over_seeds(rows, name, "learned")
        # A saturated InfoNCE has a spread of next to nothing: keep it on the page.
        sd = [min(max(stairs[v].sd, 3e-3), 1e3) for v in levels]
        axes.plot(levels, sd, "o-", ms=3, lw=1, color=family(name))
        ends.append((math.log10(sd[-1]), name))
    axes.plot(levels, [theory_sd(mi, n) for mi in levels], color="black", ls="--")
    axes.text(levels[-1] - 0.2, theory_sd(levels[-1], n), "theory, e^I family", fontsize=7.5, ha="right", va="center")
    axes.set(
        yscale="log", xlim=(levels[0] - 0.3, levels[-1] + 3.2), xticks=levels, xlabel="true, nats", ylabel="sd, nats"
    )
    axes.set_title("spread of one batch, learned critics", fontsize=10)
    # Labels at the ends of the lines, pushed apart.
    low, high = (math.log10(v) for v in axes.get_ylim())
    gap, place = (high - low) / 17, -math.inf
    for height, name in sorted(ends):
        place = max(height, place + gap)
        axes.text(levels[-1] + 0.2, 10**place, title(name), fontsize=7, color=family(name), va="center")
