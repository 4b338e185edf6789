"""Which number that needs no labels predicts the linear probe?

    python examples/studies/label_free.py [--seeds N] [--out DIR] [--quick]

Stated before any number was seen:

    1. I(Z_X; Z_Y) orders encoders of different objectives and augmentations no better than by chance: its tau with the
       probe is below 0.5. Views that share nuisances are rewarded for them.
    2. The effective rank of h (RankMe) orders them better than by chance: tau above 0.
    3. Alignment alone does not order them: tau below 0.5. It is best where everything is one point.
    4. The mean information on factors orders them better than by chance: tau above 0. It needs factors, not labels of
       the task.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from study import Row, Study, Verdict, main, over_seeds

ABOUT = """\
Small encoders are trained on drawn shapes (the class is the shape) with several objectives, temperatures, augmentations
and widths. Of each, every number that needs no labels is compared with the accuracy of a linear probe of the shape.
What would be found was stated before any number was seen: it is the list of claims below. Kendall's tau is over
the settings of a seed. RankMe is due to Garrido et al. (2023), alpha-ReQ to Agrawal et al. (2022), alignment and
uniformity to Wang and Isola (2020)."""

SETTINGS = {
    "simclr": ["objective=simclr"],
    "simclr, tau 0.1": ["objective=simclr", "objective.temperature=0.1"],
    "simclr, tau 2": ["objective=simclr", "objective.temperature=2.0"],
    "simclr, weak": ["objective=simclr", "augmentation=weak"],
    "simclr, narrow": ["objective=simclr", "encoder.widths=[8,16]"],
    "infonce": ["objective=infonce"],
    "vicreg": ["objective=vicreg"],
    "vicreg, weak": ["objective=vicreg", "augmentation=weak"],
    "barlow twins": ["objective=barlow_twins"],
    "spectral": ["objective=spectral"],
}
SHORT = [
    *("data.sets.train=1200", "data.sets.test=500", "trainer.max_epochs=4", "trainer.accelerator=cpu"),
    *("trainer.devices=1", "encoder=convnet", "evaluation.every_n_epochs=0"),
    *("evaluation.evaluations.mi.permutations=0", "evaluation.evaluations.mi.subsets=0"),
    *("evaluation.evaluations.knn=null", "evaluation.evaluations.capture=null", "evaluation.evaluations.pictures=null"),
]
QUICK = ["data.sets.train=300", "data.sets.test=150", "trainer.max_epochs=1", "encoder.widths=[8]"]
FACTORS = ("hue", "size", "x", "y", "rotation", "background")
NUMBERS = {  # column -> in words
    "mi_z": "I(Z_X; Z_Y), KSG on CCA(4)",
    "mi_h": "I(H_X; H_Y), KSG on CCA(4)",
    "factors": "mean I(h; factor)",
    "rank_h": "effective rank of h (RankMe)",
    "rank_z": "effective rank of z",
    "alpha": "alpha-ReQ: distance of the decay of h's spectrum from 1",
    "alignment": "alignment of z",
    "uniformity": "uniformity of z",
    "loss": "training loss",
}


def jobs(quick: bool) -> list[Row]:
    return [{"setting": name} for name in list(SETTINGS)[: 4 if quick else None]]


def measure(job: Row, seed: int, quick: bool) -> list[Row]:
    from ssl_mi.app.api import final_measurements, short_run
    from ssl_mi.evaluation import embed

    own = SETTINGS[str(job["setting"])]
    words = [
        *SHORT,
        *(QUICK if quick else ["encoder.widths=[16,32,64]"] if "encoder.widths=[8,16]" not in own else []),
    ]
    run = short_run([*words, *(word for word in own if not (quick and "widths" in word)), f"seed={seed}"])
    found = {metric: value for (metric, encoder), value in final_measurements(run).items() if encoder == "trained"}
    h = embed.features(run.module, run.data, "test").h
    return [
        {
            "probe": found["linear_probe_accuracy"],
            "mi_z": found["mi_ksg_cca4_nats"],
            "mi_h": found["mi_h_ksg_cca4_nats"],
            "factors": float(np.mean([found[f"mi_h_{name}_nats"] for name in FACTORS])),
            "rank_h": found["effective_rank_h"],
            "rank_z": found["effective_rank_z"],
            "alpha": abs(decay(h.double().numpy()) - 1),
            "alignment": found["alignment"],
            "uniformity": found["uniformity"],
            "loss": run.history.epochs[-1]["train/loss"],
        }
    ]


def decay(h: np.ndarray) -> float:
    """alpha of a power law i^-alpha fitted to the eigenvalues 3 .. 50 of the covariance of h [n, d]."""
    values = np.linalg.svd(h - h.mean(0), compute_uv=False)[2:50] ** 2
    values = values[values > 1e-12 * values[0]]
    return float(-np.polyfit(np.log(np.arange(3, 3 + len(values))), np.log(values), 1)[0])


def taus(rows: Sequence[Row], column: str) -> list[float]:
    """Kendall's tau-b of a number and the probe over the settings, one a seed."""
    found = []
    for seed in sorted({int(row["seed"]) for row in rows}):
        some = [(float(row[column]), float(row["probe"])) for row in rows if row["seed"] == seed]
        found.append(float(kendalltau(*zip(*some, strict=True)).statistic))
    return found


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    return [
        over_seeds("1. tau of I(Z_X; Z_Y) and the probe is below 0.5", taus(rows, "mi_z"), below=0.5),
        over_seeds("2. tau of RankMe and the probe is above 0", taus(rows, "rank_h"), above=0.0),
        over_seeds(
            "3. tau of alignment (lower is better) and the probe is below 0.5", _lower(rows, "alignment"), below=0.5
        ),
        over_seeds("4. tau of the mean I(h; factor) and the probe is above 0", taus(rows, "factors"), above=0.0),
    ]


def _lower(rows: Sequence[Row], column: str) -> list[float]:
    return [-tau for tau in taus(rows, column)]


def picture(rows: Sequence[Row], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ssl_mi import atomic
    from ssl_mi.report.charts import COLOURS

    figure = Figure(figsize=(11, 9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(3, 3).ravel()
    names = list(dict.fromkeys(str(row["setting"]) for row in rows))
    for panel, (column, words) in zip(panels, NUMBERS.items(), strict=True):
        for i, name in enumerate(names):
            some = [row for row in rows if row["setting"] == name]
            style = {"color": COLOURS[i % len(COLOURS)], "marker": "osD^v<>pP*"[i % 10]}
            panel.scatter([row[column] for row in some], [row["probe"] for row in some], s=22, label=name, **style)
        panel.set(xlabel=words, ylabel="linear probe")
        panel.set_title(f"Kendall's tau {np.mean(taus(rows, column)):+.2f}", fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside lower center", ncols=5)
    atomic.write_figure(path, figure, dpi=100)


def seen(rows: Sequence[Row]) -> str:
    from ssl_mi.app.comparison import kendall

    names = list(dict.fromkeys(str(row["setting"]) for row in rows))
    lines = [
        f"{len(rows)} runs: {len(names)} settings, {len({row['seed'] for row in rows})} seeds. Kendall's tau-b of each "
        "number and the probe over all runs, with percentile bootstrap intervals over settings. A negative tau: lower "
        "goes with a better probe.",
        "",
        "| number | tau | 95% interval |",
        "|---|---|---|",
    ]
    for column, words in NUMBERS.items():
        points = [[(float(r[column]), float(r["probe"])) for r in rows if r["setting"] == name] for name in names]
        found = kendall(points)
        lines.append(f"| {words} | {found.tau:+.2f} | {found.low:+.2f} .. {found.high:+.2f} |")
    return "\n".join(lines)


STUDY = Study(
    "label_free", "Which label-free number predicts the probe?", ABOUT, jobs, measure, verdicts, picture, seen
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
