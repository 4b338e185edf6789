"""What studies measure of an encoder once it is trained: I(h; factor), and the accuracy of a linear probe."""

from __future__ import annotations

from torch import Tensor

from ssl_mi.evaluation.factors import OntoValues
from ssl_mi.evaluation.logistic import tuned_linear
from ssl_mi.information.estimators.ksg import mixed_ksg_ross

DIM, K = 4, 3  # of the projection of h, neighbours: as a run's own I(h; factor) has them (conf/evaluation/default.yaml)
# A study measures what it needs itself.
NO_EVALUATION = [
    "evaluation.every_n_epochs=0",
    *(f"evaluation.evaluations.{e}=null" for e in ("mi", "capture", "linear_probe", "knn", "geometry", "pictures")),
]


def factor_nats(fit_h: Tensor, fit_values: Tensor, h: Tensor, values: Tensor) -> float:
    """I(h; factor) in nats, through a projection of h [n, d] onto what predicts the factor on the rows to fit on.

    values: int64 [n]. In expectation no more than I(h; factor): the projection learned on other images.
    """
    projected = OntoValues(DIM).fit(fit_h, fit_values, seed=0)
    return float(mixed_ksg_ross(*projected(h, values), k=K).value)


def linear_accuracy(fit_h: Tensor, fit_labels: Tensor, h: Tensor, labels: Tensor, classes: int) -> float:
    """Share of rows whose label multinomial logistic regression on h tells."""
    classifier = tuned_linear(fit_h, fit_labels, classes)
    return (classifier(h).argmax(1) == labels).double().mean().item()
