"""Evaluation: of what the two views share, how much do the embeddings keep?

Only where the data know I(V1; V2) in closed form (data=known/...), elsewhere silent. The capture ratio is

    I_hat(Z_X; Z_Y) / I(V1; V2),

at most 1 by data processing. Z is read by the default estimator, on pairs that nothing was trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ssl_mi.evaluation.context import Bench, Evaluation
from ssl_mi.evaluation.measurement import Row
from ssl_mi.evaluation.probes import tuned_linear, wilson
from ssl_mi.evaluation.wide import narrow
from ssl_mi.information import mutual_information
from ssl_mi.information.core.estimate import Estimate


@dataclass
class Capture(Evaluation):
    """The exact I(V1; V2), the default estimator on z (at the end on h too), their ratio, and the probe of u.

    limit: pairs read during training; the final reading takes the whole split. learned_during: whether the estimator
    tries networks during training too; without them it takes a tenth of the time and sees what linear projections
    show. permutations: at the end, for the baseline and p.
    probe_limit: images that the probes of u are fitted on, at the end: accuracy of a linear classifier for each
    discrete latent that is not the label (which has its own probe), R^2 of a linear regression for each continuous one.

    The estimator reads the trained encoder only, for it takes its time; KSG on projections (`mi`) and the probes read
    the random one too.
    """

    limit: int | None = 2000
    learned_during: bool = False
    permutations: int = 19
    probe_limit: int = 5000
    seed: int = 0
    name: str = field(default="capture", init=False)

    def check(self, data) -> None:
        if _truth(data) is None:
            return
        smallest = min(len(data.val), len(data.test))
        if smallest < 40:
            raise ValueError(
                f"{smallest} pairs held out: the capture ratio needs 40, and some thousands to mean something; raise "
                "data.val and data.test"
            )

    def collect(self, bench: Bench) -> None:
        if _truth(bench.data) is None:
            return
        if bench.encoder == "trained":
            bench.pairs(bench.split, None if bench.final else self.limit)
        if bench.final:
            bench.features("labelled", self.probe_limit)
            bench.features(bench.split)

    def measure(self, bench: Bench) -> list[Row]:
        truth = _truth(bench.data)
        if truth is None:
            return []
        captured = self._captured(bench, truth) if bench.encoder == "trained" else []
        return captured + (self._probes(bench) if bench.final else [])

    def _captured(self, bench: Bench, truth: float) -> list[Row]:
        pairs = bench.pairs(bench.split, None if bench.final else self.limit)
        true = bench.row(
            self.name,
            "mi_views_nats",
            "I(V1; V2), exact",
            truth,
            kind="exact",
            n=len(pairs.index),
            note=bench.data.known.describe(),
        )
        z = self._read(bench, *pairs.z)
        rows = [true, self._row(bench, "mi_z_nats", "I(Z_X; Z_Y), default estimator", z)]
        if truth > 0:
            rows.append(self._ratio(bench, truth, z))
        if bench.final:
            h = self._read(bench, *pairs.h)
            rows.append(self._row(bench, "mi_h_nats", "I(H_X; H_Y), default estimator", h))
        return rows

    def _read(self, bench: Bench, x: Tensor, y: Tensor) -> Estimate:
        if any((side == side[:1]).all() for side in (x, y)):
            return Estimate(
                0.0, n=len(x), estimator="nothing to estimate", warnings=("a collapse: all rows are equal",)
            )
        learned = bench.final or self.learned_during
        permutations = self.permutations if bench.final else 0
        # Each side by itself, without looking at the other: nothing is invented.
        ((x,), note_x), ((y,), note_y) = narrow(x), narrow(y)
        estimate = mutual_information(x, y, learned=learned, permutations=permutations, seed=self.seed)
        note = note_x or note_y
        return replace(estimate, warnings=(*estimate.warnings, note)) if note else estimate

    def _row(self, bench: Bench, metric: str, quantity: str, estimate: Estimate) -> Row:
        low, high = estimate.ci or (math.nan, math.nan)
        return bench.row(
            self.name,
            metric,
            quantity,
            estimate.value,
            low=low,
            high=high,
            baseline=math.nan if estimate.null is None else estimate.null,
            p_value=math.nan if estimate.p_value is None else estimate.p_value,
            kind=estimate.kind,
            n=estimate.n,
            note="; ".join([str(estimate.settings.get("chosen", estimate.estimator)), *estimate.warnings]),
        )

    def _ratio(self, bench: Bench, truth: float, z: Estimate) -> Row:
        low, high = z.ci or (math.nan, math.nan)
        return bench.row(
            self.name,
            "capture_ratio",
            "capture ratio, I(Z_X; Z_Y) / I(V1; V2)",
            z.value / truth,
            low=low / truth,
            high=high / truth,
            ceiling=1.0,
            kind=z.kind,
            n=z.n,
            note=f"of {truth:.4f} nats",
        )

    def _probes(self, bench: Bench) -> list[Row]:
        """u from h of other images, linearly."""
        fit, read = bench.features("labelled", self.probe_limit), bench.features(bench.split)
        (fit_h, read_h), _ = narrow(fit.h, read.h)
        fit, read = fit._replace(h=fit_h), read._replace(h=read_h)
        rows, labels = [], bench.data.labelled.labels
        for name, values in getattr(bench.data, bench.split).factors.items():
            if labels is not None and torch.equal(bench.data.labelled.factors[name], labels):
                continue
            target, of = bench.data.labelled.factors[name][fit.index], values[read.index]
            if target.is_floating_point():
                rows.append(self._regression(bench, name, fit.h, target, read.h, of))
            elif int(target.max()) > 0:
                rows.append(self._classification(bench, name, fit.h, target, read.h, of))
        return rows

    def _classification(self, bench: Bench, name: str, x: Tensor, target: Tensor, queries: Tensor, of: Tensor) -> Row:
        device = bench.module.device
        classes = 1 + int(max(target.max(), of.max()))
        classifier = tuned_linear(x.to(device), target.to(device), classes, seed=self.seed)
        accuracy = (classifier(queries.to(device)).argmax(1).cpu() == of).float().mean().item()
        low, high = wilson(accuracy, len(of))
        return bench.row(
            self.name,
            f"probe_{name}_accuracy",
            f"{name} from h, accuracy",
            accuracy,
            low=low,
            high=high,
            baseline=of.bincount().max().item() / len(of),
            ceiling=1.0,
            n=len(of),
            note=f"linear, fitted on {len(target)} images, decay {classifier.decay:g}; baseline: the largest class",
        )

    def _regression(self, bench: Bench, name: str, x: Tensor, target: Tensor, queries: Tensor, of: Tensor) -> Row:
        target, of = (v.double().reshape(len(v), -1) for v in (target, of))
        predicted = linear_regression(x.double(), target, queries.double())
        missed = (predicted - of).square().sum() / (of - of.mean(0)).square().sum()
        return bench.row(
            self.name,
            f"probe_{name}_r2",
            f"{name} from h, R^2",
            1 - missed.item(),
            baseline=0.0,
            ceiling=1.0,
            n=len(of),
            note=f"linear least squares, fitted on {len(target)} images",
        )


def linear_regression(x: Tensor, target: Tensor, queries: Tensor, ridge: float = 1e-4) -> Tensor:
    """Least squares of target [n, k] on standardised x [n, d], at queries [m, d]: float64 [m, k].

    ridge: added to each column's variance of 1, against columns that repeat each other.
    """
    mean, scale = x.mean(0), x.std(0, correction=0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    x, queries, middle = (x - mean) / scale, (queries - mean) / scale, target.mean(0)
    gram = x.T @ x / len(x) + ridge * torch.eye(x.shape[1], dtype=x.dtype)
    return middle + queries @ torch.linalg.solve(gram, x.T @ (target - middle) / len(x))


def _truth(data) -> float | None:
    """I(V1; V2) in nats, where the data know it."""
    return getattr(data, "nats", None)
