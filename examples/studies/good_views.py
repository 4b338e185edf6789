"""python examples/studies/good_views.py: how much should two views share? (Tian et al. 2020, arXiv:2005.10243)"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from measures import NO_EVALUATION, factor_nats, linear_accuracy
from ssl_mi.app.api import short_run
from ssl_mi.data.known.sprites import FACTORS
from ssl_mi.evaluation.context import EvaluationContext
from study import Row, Study, Verdict, main, over_seeds, pick

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONTENT = ("shape", "size")  # what the task asks for: which of 15 shapes and sizes
TASK_NATS = sum(math.log(len(FACTORS[name])) for name in CONTENT)
SWEET = "shape, size"
ALL = "everything"

# What the views share wholly, and in part (nats): upwards in I(V1; V2).
VIEWS: dict[str, tuple[Sequence[str], dict[str, float]]] = {
    "nothing": ((), {}),
    "size": (("size",), {}),
    "size, a quarter of shape": (("size",), {"shape": 0.4}),
    "size, half of shape": (("size",), {"shape": 0.8}),
    SWEET: (CONTENT, {}),
    "shape, size, orientation": ((*CONTENT, "orientation"), {}),
    "shape, size, colour": ((*CONTENT, "colour"), {}),
    "all but position and orientation": ((*CONTENT, "colour", "background"), {}),
    "all but orientation": ((*CONTENT, "colour", "background", "position"), {}),
    ALL: (tuple(FACTORS), {}),
}

ABOUT = f"""
Two views should share what a task needs and nothing else. If they share less, the encoder cannot learn all of the
task. If they share more, it can learn something else instead. Accuracy as a function of I(V1; V2) should then be a
reverse U with its maximum at I(V; task) ("What makes for good views for contrastive learning?", Tian et al. 2020,
[arXiv:2005.10243](https://arxiv.org/abs/2005.10243), section 3). On photographs I(V1; V2) has to be estimated. Here
it is known exactly: the views are sprites with six independent factors
({", ".join(f"{f} {len(v)}" for f, v in FACTORS.items())} values), of which two views share none, some or all; in some
settings a factor is shared in part, through a symmetric channel. The task is to predict which of 15 combinations of
shape and size is shown, with I(V; task) = ln 15 = {TASK_NATS:.3f} nats, by a linear probe of the representation h.
Encoder, objective (InfoNCE, cosine critic of learned temperature, batches of 128) and number of steps are the same in
all settings.
"""


def jobs(quick: bool) -> list[Row]:
    names = ("nothing", SWEET, ALL) if quick else VIEWS
    return [{"views": name} for name in names]


def measure(job: Row, seed: int, quick: bool) -> list[Row]:
    """Train on such views; probe the task, read every factor. With nothing shared, of the random encoder too."""
    shared, partly = VIEWS[job["views"]]
    given = ",".join(f"{name}:{nats}" for name, nats in partly.items())
    size = ["data.train=256", "data.val=200", "data.test=300", "trainer.max_epochs=1", "encoder.widths=[8,16]"]
    full = ["data.train=8000", "data.val=2000", "data.test=4000", "trainer.max_epochs=10"]
    run = short_run(
        [
            *("experiment=known/sprites", f"data.known.shared=[{','.join(shared)}]", f"seed={seed}"),
            *([f"data.known.partly={{{given}}}"] if given else []),
            *("trainer.accelerator=cpu", "trainer.devices=1"),
            *(size if quick else full),
            *NO_EVALUATION,
        ]
    )
    rows = [{"encoder": "trained", "nats": run.data.nats, **read(run)}]
    if not shared and not partly:
        run.module.towers = run.evaluate.initial
        rows.append({"encoder": "random", **read(run)})
    return rows


def read(run) -> Row:
    """Accuracy on the task and I(h; factor) on the test split."""
    context = EvaluationContext(run.module, run.data, "test", run.trainer.max_epochs)
    h = {split: context.features(split).h for split in ("labelled", "val", "test")}
    factors = {split: getattr(run.data, split).factors for split in h}
    label = {split: task_label(factors[split]) for split in h}
    classes = math.prod(len(FACTORS[name]) for name in CONTENT)
    accuracy = linear_accuracy(h["labelled"], label["labelled"], h["test"], label["test"], classes)
    nats = {f: factor_nats(h["val"], factors["val"][f], h["test"], factors["test"][f]) for f in FACTORS}
    return {"accuracy": accuracy, **{f"nats_{name}": value for name, value in nats.items()}}


def task_label(factors: Mapping[str, Tensor]) -> Tensor:
    """One label for the values of all CONTENT: int64 [n]."""
    label = 0
    for name in CONTENT:
        label = label * len(FACTORS[name]) + factors[name]
    return label


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    def accuracy(views: str, encoder: str = "trained") -> np.ndarray:
        return np.array(pick(rows, "accuracy", views=views, encoder=encoder))

    top = accuracy(SWEET)
    return [
        over_seeds(
            "accuracy, sharing just what the task needs minus sharing nothing", top - accuracy("nothing"), above=0
        ),
        over_seeds("accuracy, sharing just what the task needs minus sharing everything", top - accuracy(ALL), above=0),
    ]


def swept(rows: Sequence[Row]) -> list[str]:
    return [name for name in VIEWS if any(row["views"] == name for row in rows)]


def picture(rows: Sequence[Row], path: Path) -> None:
    """Accuracy over exact I(V1; V2) on the left; what h keeps of each factor, at each step, on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = swept(rows)
    figure = Figure(figsize=(13.5, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
    nats = [pick(rows, "nats", views=name, encoder="trained")[0] for name in names]
    _accuracies(rows, left, names, nats)
    _kept(rows, right, names, nats)
    figure.savefig(path, dpi=110)


def _accuracies(rows: Sequence[Row], panel: Axes, names: Sequence[str], nats: Sequence[float]) -> None:
    values = np.array([pick(rows, "accuracy", views=name, encoder="trained") for name in names])
    panel.plot(nats, values.mean(1), "-", color="tab:blue", lw=2, zorder=2)
    for seed in range(values.shape[1]):
        panel.plot(nats, values[:, seed], "o", ms=4, color="tab:blue", alpha=0.45, zorder=3)
    panel.axvline(TASK_NATS, color="black", lw=1, ls=":")
    random = np.mean(pick(rows, "accuracy", views="nothing", encoder="random"))
    panel.axhline(random, color="0.45", lw=1, ls="--")
    edge = {"transform": panel.get_yaxis_transform(), "ha": "right", "va": "bottom", "fontsize": 8, "color": "0.35"}
    panel.text(0.99, random + 0.006, "as initialised", **edge)
    side = {"transform": panel.get_xaxis_transform(), "va": "bottom", "fontsize": 8}
    panel.text(TASK_NATS + 0.1, 0.08, f"I(V; task) = ln 15 = {TASK_NATS:.2f}", **side)
    for place, (x, y) in enumerate(zip(nats, values.max(1), strict=True)):
        beside = (-7, 5) if x < TASK_NATS + 0.1 else (7, 5)
        panel.annotate(str(place), (x, y), beside, textcoords="offset points", fontsize=8, ha="center", color="0.2")
    panel.set(xlabel="I(V1; V2), exact, nats", ylabel="linear probe on h: which of 15 shapes and sizes")
    panel.set_title("how much should two views share?", fontsize=11)
    panel.spines[["top", "right"]].set_visible(False)


def _kept(rows: Sequence[Row], panel: Axes, names: Sequence[str], nats: Sequence[float]) -> None:
    kept = np.array([[np.mean(pick(rows, f"nats_{f}", views=n, encoder="trained")) for f in FACTORS] for n in names])
    share = kept / [math.log(len(values)) for values in FACTORS.values()]
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, name in enumerate(names):
        shared, partly = VIEWS[name]
        for j, factor in enumerate(FACTORS):
            tone = "white" if share[i, j] > 0.6 else "black"
            panel.text(j, i, f"{kept[i, j]:.2f}", ha="center", va="center", fontsize=8, color=tone)
            if factor in shared or factor in partly:
                style = "-" if factor in shared else ":"
                box = {"fill": False, "edgecolor": "tab:orange", "lw": 2, "ls": style}
                panel.add_patch(_rectangle(j, i, **box))
    factors = [f"{f}\n(ln {len(v)} = {math.log(len(v)):.2f})" for f, v in FACTORS.items()]
    panel.set_xticks(range(len(FACTORS)), factors, fontsize=8)
    views = [f"{i}  {name}, {n:.2f}" for i, (name, n) in enumerate(zip(names, nats, strict=True))]
    panel.set_yticks(range(len(names)), views, fontsize=8)
    panel.set_title("I(h; factor), nats; framed: shared by the views (dotted: in part)", fontsize=11)


def _rectangle(j: int, i: int, **style):
    from matplotlib.patches import Rectangle

    return Rectangle((j - 0.47, i - 0.46), 0.94, 0.92, **style)


def seen(rows: Sequence[Row]) -> str:
    names = swept(rows)

    def mean(column: str, views: str) -> float:
        return float(np.mean(pick(rows, column, views=views, encoder="trained")))

    accuracy = {name: mean("accuracy", name) for name in names}
    best = max(accuracy, key=accuracy.__getitem__)
    lines = [
        f"Left: accuracy is {accuracy['nothing']:.3f} when the views share nothing, {accuracy[SWEET]:.3f} when they "
        f"share just what the task needs, and {accuracy[ALL]:.3f} when they share everything. It is highest, "
        f"{accuracy[best]:.3f}, when they share {best}. The numbers at the points are rows of the right panel.",
        "",
        "Right: the explanation. Shape is the factor that is hardest to extract. Of its 1.61 nats h contains "
        f"{mean('nats_shape', SWEET):.2f} when only shape and size lower the loss, and {mean('nats_shape', ALL):.2f} "
        "when colour, position and background do too. A batch of 128 rewards at most ln 128 = 4.85 nats, and those "
        "three factors provide 5.78. h contains the position and most of the background whether they are shared or "
        "not, as does the untrained network.",
        "",
    ]
    if best != SWEET:
        more = np.subtract(*(pick(rows, "accuracy", views=views, encoder="trained") for views in (best, SWEET)))
        gap = over_seeds("", more)
        lines += [
            f"The highest mean is not at I(V; task) = {TASK_NATS:.2f} nats, where it would be if every encoder learned "
            f"all that its views share and nothing more, but at {mean('nats', best):.2f} nats. The difference is "
            f"{gap.value:.3f} ({gap.low:.3f} .. {gap.high:.3f}"
            f"{', not significant' if gap.low < 0 else ''}). These encoders are not fully trained: I(h; shape) is "
            f"{mean('nats_shape', SWEET):.2f} at the former and {mean('nats_shape', best):.2f} at the latter, of 1.61 "
            "nats.",
            "",
        ]
    lines += ["| the views share | I(V1; V2), nats | accuracy, mean ± sd over seeds | I(h; shape) | I(h; size) |"]
    lines += ["|---|---|---|---|---|"]
    for name in names:
        where = {"views": name, "encoder": "trained"}
        kept = [mean(f"nats_{f}", name) for f in CONTENT]
        nats, spread = pick(rows, "nats", **where)[0], _spread(pick(rows, "accuracy", **where))
        lines.append(f"| {name} | {nats:.3f} | {spread} | {kept[0]:.2f} | {kept[1]:.2f} |")
    random = pick(rows, "accuracy", views="nothing", encoder="random")
    kept = [np.mean(pick(rows, f"nats_{f}", views="nothing", encoder="random")) for f in CONTENT]
    lines.append(f"| (as initialised) | | {_spread(random)} | {kept[0]:.2f} | {kept[1]:.2f} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


STUDY = Study("good_views", "What makes for good views?", ABOUT, jobs, measure, verdicts, picture, seen)

if __name__ == "__main__":
    sys.exit(main(STUDY))
