"""What do twelve objectives learn from the same images?

    python examples/studies/objectives.py --data FOLDER [--seeds N] [--out DIR] [--quick]

FOLDER holds train/<class>/ and test/<class>/. Stated before any number was seen:

    1. A linear probe of every objective reads at least 5 points over the untrained encoder.
    2. I(Z_X; Z_Y) orders the objectives no better than by chance: its tau with the probe is below 0.5.
    3. The effective rank of h (RankMe) orders them better than by chance: tau above 0.
    4. I(h; label), which needs labels but no probe, orders them as the probe does: tau above 0.5.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from label_free import decay
from ssl_mi.evaluation.probes import KNN, LinearProbe
from study import Row, Study, Verdict, main, over_seeds, pick

ABOUT = """\
Twelve objectives train the same small convolutional network (10,760 parameters, 64 features) on 45,000 training images
of CIFAR-10 re-encoded as JPEG (quality 75), 5,000 more choose the probe's decay, the 10,000 test images are measured.
All share the augmentation of SimCLR without blur, AdamW with learning rate 1e-3, weight decay 1e-4, 256 images a step,
a projector of 256 and 64 units, predictors of 256 and queues of 4,096, one epoch of warm-up and a cosine, 10 epochs.
Nothing was tuned for an objective beyond what its recipe in conf/experiment has; the published figures are of ResNets
and hundreds of epochs. The table shows how the objectives behave early and small, not which is best."""

SETTINGS = {
    "SimCLR": ["objective=simclr"],
    "InfoNCE, bilinear": ["objective=infonce", "towers.projector.final_norm=plain"],
    "MINE": [
        "objective=mine",
        "objective.critic.hidden=[64,64]",
        "towers.projector.final_norm=plain",
        "trainer.gradient_clip_val=1.0",
    ],
    "DCL": ["objective=dcl", "objective.temperature=0.1"],
    "MoCo v2": [
        "objective=moco",
        "objective.queue=4096",
        "teacher=ema",
        "teacher.momentum=0.99",
        "towers.joint_forward=false",
    ],
    "NNCLR": [
        "objective=nnclr",
        "objective.predictor.hidden=256",
        "objective.queue=4096",
        "towers.projector.final_norm=affine",
    ],
    "BYOL": [
        "objective=byol",
        "objective.predictor.hidden=256",
        "teacher=ema",
        "teacher.momentum=0.99",
        "towers.joint_forward=false",
    ],
    "SimSiam": [
        "objective=simsiam",
        "objective.predictor.hidden=256",
        "towers.projector.final_norm=plain",
        "towers.joint_forward=false",
    ],
    "VICReg": ["objective=vicreg"],
    "Barlow Twins": ["objective=barlow_twins"],
    "SwAV": ["objective=swav", "objective.queue=0", "objective.frozen_steps=175"],
    "Spectral": ["objective=spectral"],
}
SHARED = [
    *("data=image_folder", "augmentation=simclr", "encoder=convnet", "encoder.widths=[8,16,64]"),
    *("optimizer=adamw", "optimizer.lr=1e-3", "data.batch_size=256", "towers.projector.dims=[256,64]"),
    *("schedule.warmup_epochs=1", "trainer.max_epochs=10", "trainer.accelerator=cpu", "trainer.devices=1"),
    *("evaluation.every_n_epochs=0", "evaluation.evaluations.mi.permutations=0", "evaluation.evaluations.mi.subsets=0"),
    *("evaluation.evaluations.capture=null", "evaluation.evaluations.pictures=null"),
    # Twelve times the same probe of raw pixels would take half of the time.
    *("evaluation.evaluations.linear_probe._target_=objectives.ProbeOfFeatures",),
    *("evaluation.evaluations.knn._target_=objectives.NeighboursOfFeatures",),
]
QUICK = ["data.limit=600", "data.test_limit=300", "trainer.max_epochs=2", "encoder.widths=[8]"]
COLUMNS = {  # column -> heading
    "probe": "linear probe",
    "knn": "kNN",
    "mi_z": "I(Z_X; Z_Y)",
    "mi_h": "I(H_X; H_Y)",
    "label": "I(h; label)",
    "rank_h": "effective rank of h",
    "alignment": "alignment",
    "uniformity": "uniformity",
}
METRICS = {
    "probe": "linear_probe_accuracy",
    "knn": "knn_accuracy",
    "mi_z": "mi_ksg_cca4_nats",
    "mi_h": "mi_h_ksg_cca4_nats",
    "label": "mi_h_label_nats",
    "rank_h": "effective_rank_h",
    "rank_z": "effective_rank_z",
    "alignment": "alignment",
    "uniformity": "uniformity",
}
LABEL_FREE = ("mi_z", "mi_h", "rank_h", "rank_z", "alpha", "alignment", "uniformity", "loss")
FOLDER = Path("data/cifar10-jpeg")


class ProbeOfFeatures(LinearProbe):
    """A linear probe without its twin of raw pixels."""

    wants_pixels = False


class NeighboursOfFeatures(KNN):
    """kNN without its twin of raw pixels."""

    wants_pixels = False


def jobs(quick: bool) -> list[Row]:
    return [{"objective": name} for name in list(SETTINGS)[: 3 if quick else None]]


def measure(job: Row, seed: int, quick: bool) -> list[Row]:
    from ssl_mi.app.api import final_measurements, short_run
    from ssl_mi.evaluation import embed

    own = [*SETTINGS[str(job["objective"])], f"data.root={FOLDER}", f"seed={seed}"]
    run = short_run([*SHARED, *(QUICK if quick else []), *own])
    found = final_measurements(run)
    h = embed.features(run.module, run.data, "test").h.double().numpy()
    row: Row = {column: found[metric, "trained"] for column, metric in METRICS.items()}
    row |= {f"untrained_{column}": found[metric, "random"] for column, metric in METRICS.items()}
    return [row | {"alpha": abs(decay(h) - 1), "loss": run.history.epochs[-1]["train/loss"]}]


def taus(rows: Sequence[Row], column: str) -> list[float]:
    """Kendall's tau-b of a number and the probe over the objectives, one a seed."""
    return [
        float(kendalltau([r[column] for r in some], [r["probe"] for r in some]).statistic)
        for seed in sorted({int(row["seed"]) for row in rows})
        for some in [[row for row in rows if row["seed"] == seed]]
    ]


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    names = list(dict.fromkeys(str(row["objective"]) for row in rows))
    gains = {
        name: [
            a - b
            for a, b in zip(
                pick(rows, "probe", objective=name), pick(rows, "untrained_probe", objective=name), strict=True
            )
        ]
        for name in names
    }
    return [
        *(over_seeds(f"1. {name}: probe over the untrained encoder", gain, above=0.05) for name, gain in gains.items()),
        over_seeds("2. tau of I(Z_X; Z_Y) and the probe is below 0.5", taus(rows, "mi_z"), below=0.5),
        over_seeds("3. tau of RankMe and the probe is above 0", taus(rows, "rank_h"), above=0.0),
        over_seeds("4. tau of I(h; label) and the probe is above 0.5", taus(rows, "label"), above=0.5),
    ]


def picture(rows: Sequence[Row], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ssl_mi import atomic
    from ssl_mi.report.charts import COLOURS

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    names = list(dict.fromkeys(str(row["objective"]) for row in rows))
    panels = figure.subplots(1, 3)
    for panel, column in zip(panels, ("mi_z", "label", "rank_h"), strict=True):
        for i, name in enumerate(names):
            some = [row for row in rows if row["objective"] == name]
            style = {"color": COLOURS[i % len(COLOURS)], "marker": "osD^v<>pP*XH"[i % 12]}
            panel.scatter([r[column] for r in some], [r["probe"] for r in some], s=24, label=name, **style)
        panel.axhline(float(np.mean([row["untrained_probe"] for row in rows])), color="0.5", lw=0.8, ls="--")
        panel.set(xlabel=COLUMNS[column], ylabel="linear probe")
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside lower center", ncols=6)
    atomic.write_figure(path, figure, dpi=100)


def seen(rows: Sequence[Row]) -> str:
    return "\n".join([*_table(rows), "", *_orders(rows)])


def _table(rows: Sequence[Row]) -> list[str]:
    """Means over seeds with half of Student's 95% interval, best probe first."""
    names = list(dict.fromkeys(str(row["objective"]) for row in rows))
    names.sort(key=lambda name: -float(np.mean(pick(rows, "probe", objective=name))))
    lines = ["| objective | " + " | ".join(COLUMNS.values()) + " | seconds of CPU |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name in names:
        cells = [_cell(pick(rows, column, objective=name)) for column in COLUMNS]
        seconds = float(np.mean(pick(rows, "cpu_seconds", objective=name)))
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    some = [row for row in rows if row["objective"] == names[0]]
    untrained = [_cell([float(row[f"untrained_{column}"]) for row in some]) for column in COLUMNS]
    return [
        *lines,
        "| untrained | " + " | ".join(untrained) + " | |",
        "",
        "Information in nats. Means over seeds and half of Student's 95% interval. The projector of the untrained row "
        f"is that of {names[0]}.",
    ]


def _orders(rows: Sequence[Row]) -> list[str]:
    from ssl_mi.app.comparison import kendall

    names = list(dict.fromkeys(str(row["objective"]) for row in rows))
    lines = [
        f"Kendall's tau-b of each number that needs no labels and the probe, over {len(rows)} runs, with percentile "
        "bootstrap intervals over objectives:",
        "",
        "| number | tau | 95% interval |",
        "|---|---|---|",
    ]
    for column in LABEL_FREE:
        points = [[(float(r[column]), float(r["probe"])) for r in rows if r["objective"] == name] for name in names]
        found = kendall(points)
        lines.append(f"| {COLUMNS.get(column, column)} | {found.tau:+.2f} | {found.low:+.2f} .. {found.high:+.2f} |")
    return lines


def _cell(values: Sequence[float]) -> str:
    half = over_seeds("", values)
    return f"{half.value:.3f} ± {half.high - half.value:.3f}"


STUDY = Study(
    "objectives", "What twelve objectives learn from the same images", ABOUT, jobs, measure, verdicts, picture, seen
)

if __name__ == "__main__":
    if "--data" in sys.argv:
        at = sys.argv.index("--data")
        FOLDER = Path(sys.argv[at + 1])
        del sys.argv[at : at + 2]
    if not FOLDER.is_dir():
        sys.exit(f"error: --data {FOLDER}: there is no such folder (a folder with train/<class>/ and test/<class>/)")
    sys.exit(main(STUDY))
