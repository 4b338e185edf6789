"""Rows and epochs of a run, as an evaluation leaves them."""

from ssl_mi.evaluation import probes
from ssl_mi.evaluation.accuracy import wilson
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.mutual_information import PANELS


def row(epoch, split, encoder, metric, value, quantity=None, evaluation="mi", **rest):
    """As an evaluation leaves it: accuracies and estimates are on the panels of their plots, a bound is a headline."""
    if "bound" in metric:
        rest["headline"] = "bound_nats"
    else:
        rest["panel"] = probes.PANEL if evaluation == "probes" else PANELS["z"]
    return Measurement(evaluation, epoch, split, encoder, metric, quantity or metric, value, **rest).as_dict()


def complete_run():
    """Rows of two epochs and the end, as an evaluation leaves them."""
    rows = []
    for epoch in (0, 5, 10):
        where = {"low": epoch / 10 - 0.1, "high": epoch / 10 + 0.1, "baseline": 0.0, "p_value": 0.05, "n": 500}
        rows += [
            row(epoch, "val", "trained", "mi_ksg_cca2_nats", epoch / 10, "I(Z_X; Z_Y) of CCA(2)", note="k=3", **where),
            row(epoch, "val", "trained", "mi_bound_nt_xent_nats", 1 + epoch / 10, ceiling=5.5, n=500),
            row(epoch, "val", "trained", "knn_accuracy", 0.5, "kNN accuracy", "probes", low=0.4, high=0.6, n=500),
        ]
    for encoder, value in (("trained", 0.8), ("random", 0.5), ("pixels", 0.3)):
        low, high = wilson(value, 1000)
        rows.append(
            row(10, "test", encoder, "knn_accuracy", value, "kNN accuracy", "probes", low=low, high=high, n=1000)
        )
    rows.append(row(10, "test", "trained", "mi_ksg_cca2_nats", 1.1, "I(Z_X; Z_Y) of CCA(2)", low=1.0, high=1.2, n=1000))
    rows.append(row(10, "test", "random", "mi_ksg_cca2_nats", 0.2, "I(Z_X; Z_Y) of CCA(2)", low=0.1, high=0.3, n=1000))
    return rows


HISTORY = [
    {"epoch": e, "train/loss": 5.0 - e, "train/bound_nats": e / 2, "seconds": 2.0, "images_per_second": 900.0}
    for e in (1, 2, 3)
]
