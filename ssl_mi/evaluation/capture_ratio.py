"""Evaluation: of what the two views share, how much do the embeddings keep?

Only where the data know I(V1; V2) exactly (data=known/...); other data are passed over. The capture ratio is

    I_hat(Z_X; Z_Y) / I(V1; V2),

at most 1 by data processing. I_hat is the default estimator, or another one that is named, on pairs that nothing was
trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ssl_mi.evaluation.accuracy import wilson
from ssl_mi.evaluation.context import Evaluation, EvaluationContext, Explanation
from ssl_mi.evaluation.contracts import Estimator, EvaluationData, Known
from ssl_mi.evaluation.estimators import (
    COLLAPSE,
    as_estimates,
    check_estimator,
    estimator_name,
    in_words,
    nothing_to_estimate,
)
from ssl_mi.evaluation.logistic import tuned_linear
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.mutual_information import estimate_columns
from ssl_mi.evaluation.wide import narrow
from ssl_mi.information import mutual_information
from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.estimate import Estimate

KEY = "evaluation.evaluations.capture"
NOTHING = 1e-6  # nats: below it I(V1; V2) is 0 up to rounding, and there is no ratio


@dataclass
class Capture(Evaluation):
    """The exact I(V1; V2), an estimate of I(Z_X; Z_Y) (at the end of I(H_X; H_Y) too), their ratio, and probes of u.

    The estimator is run on the trained encoder only, for it takes its time; KSG on projections (`mi`) and the probes
    are run on the random one too.

    Attributes:
        estimator: Of the two embeddings as they are. None: the default estimator, `ssl_mi.information
            .mutual_information`.
        limit: Pairs measured during training; the final evaluation takes the whole split.
        learned_during: Whether the default estimator tries networks during training too; without them it takes a tenth
            of the time and finds what linear projections show.
        permutations: Of the default estimator, at the end, for the baseline and p.
        probe_limit: Samples that the probes of u are fitted on, at the end: accuracy of a linear classifier for each
            discrete latent that is not the label (which has its own probe), R^2 of a linear regression for each
            continuous one.
        seed: Of the default estimator and the probes.
    """

    estimator: Estimator | None = None
    limit: int | None = 2000
    learned_during: bool = False
    permutations: int = 19
    probe_limit: int = 5000
    seed: int = 0
    name: str = field(default="capture", init=False)

    def check(self, data: EvaluationData) -> None:
        """See `Evaluation.check`."""
        if data.known is None:
            return
        if self.estimator is not None:
            check_estimator(self.estimator, f"{KEY}.estimator")
        smallest = min(len(data.val), len(data.test))
        if smallest < 40:
            raise ValueError(
                f"{smallest} pairs held out: the capture ratio needs 40, and some thousands to mean something; raise "
                "data.val and data.test"
            )

    def embed(self, context: EvaluationContext) -> None:
        """Pairs for the trained encoder; at the end features for the probes."""
        if context.data.known is None:
            return
        if context.encoder == "trained":
            context.pairs(context.split, None if context.final else self.limit)
        if context.final:
            context.fitting(self.probe_limit)
            context.features(context.split)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """What was captured, and at the end the probes."""
        known = context.data.known
        if known is None:
            return []
        captured = self._captured(context, known) if context.encoder == "trained" else []
        return captured + (self._probes(context) if context.final else [])

    def explain(self, metric: str) -> Explanation | None:
        """See `Evaluation.explain`."""
        if metric.startswith("probe_"):
            what, _, kind = metric.removeprefix("probe_").rpartition("_")
            how = "Share that a linear classifier on h predicts" if kind == "accuracy" else "Variance explained"
            return Explanation(f"{what} from h, {kind}"[:20], "higher", f"{how} of '{what}', on held-out samples.")
        if metric.startswith("mi_z_") or metric.startswith("mi_h_"):
            space = metric[3]
            meaning = f"Nats that the two views share in {space}, of the embeddings as they are."
            return Explanation(f"I({space.upper()}x;{space.upper()}y) as they are", "higher", meaning)
        return {
            "mi_views_nats": Explanation("I(V1;V2), exact", "", "What the two views share, known exactly."),
            "capture_ratio": Explanation(
                "capture ratio", "higher", "The part of what the views share that the embeddings keep; at most 1."
            ),
        }.get(metric)

    # What is captured

    def _captured(self, context: EvaluationContext, known: Known) -> list[Measurement]:
        pairs = context.pairs(context.split, None if context.final else self.limit)
        true = context.measurement(
            self.name,
            "mi_views_nats",
            "I(V1; V2), exact",
            known.nats,
            kind="exact",
            n=len(pairs.index),
            note=known.describe(),
            headline="true_nats",
        )
        z = self._estimate(context, *pairs.z)
        by, of = "default estimator", ""
        if self.estimator is not None:  # its numbers are not to be mixed with those of the default one
            by, of = in_words(estimator_name(self.estimator)), f"_{estimator_name(self.estimator)}"
        rows = [true, self._measurement(context, f"mi_z{of}_nats", f"I(Z_X; Z_Y), {by}", z, "captured_nats")]
        if known.nats > NOTHING:
            rows.append(self._ratio(context, known.nats, z))
        if context.final:
            h = self._estimate(context, *pairs.h)
            rows.append(self._measurement(context, f"mi_h{of}_nats", f"I(H_X; H_Y), {by}", h))
        return rows

    def _estimate(self, context: EvaluationContext, x: Tensor, y: Tensor) -> Estimate:
        if any((side == side[:1]).all() for side in (x, y)):
            return nothing_to_estimate(len(x), COLLAPSE)
        # Each side by itself, without looking at the other: nothing is invented.
        ((x,), note_x), ((y,), note_y) = narrow(x), narrow(y)
        note = note_x or note_y
        estimate = self._of_narrow(context, x, y)
        return replace(estimate, warnings=(*estimate.warnings, Caution("narrowed", note))) if note else estimate

    def _of_narrow(self, context: EvaluationContext, x: Tensor, y: Tensor) -> Estimate:
        if self.estimator is not None:
            return as_estimates(self.estimator)(x.numpy(), y.numpy())
        learned = context.final or self.learned_during
        permutations = self.permutations if context.final else 0
        return mutual_information(x, y, learned=learned, permutations=permutations, seed=self.seed)

    def _measurement(
        self, context: EvaluationContext, metric: str, quantity: str, estimate: Estimate, headline: str = ""
    ) -> Measurement:
        return context.measurement(
            self.name,
            metric,
            quantity,
            estimate.value,
            **estimate_columns(estimate),
            kind=estimate.kind,
            n=estimate.n or 0,
            note="; ".join(map(str, [estimate.settings.get("chosen", estimate.estimator), *estimate.warnings])),
            warnings="; ".join(map(str, estimate.warnings)),
            headline=headline,
        )

    def _ratio(self, context: EvaluationContext, truth: float, z: Estimate) -> Measurement:
        columns = estimate_columns(z)
        return context.measurement(
            self.name,
            "capture_ratio",
            "capture ratio, I(Z_X; Z_Y) / I(V1; V2)",
            z.value / truth,
            low=columns["low"] / truth,
            high=columns["high"] / truth,
            ceiling=1.0,
            kind=z.kind,
            n=z.n or 0,
            note=f"of {truth:.4f} nats",
            headline="capture_ratio",
        )

    # Probes of the latents

    def _probes(self, context: EvaluationContext) -> list[Measurement]:
        """u from h of other samples, linearly."""
        fit, held_out = context.fitting(self.probe_limit), context.features(context.split)
        (fit_h, held_out_h), _ = narrow(fit.h, held_out.h)
        fit, held_out = fit._replace(h=fit_h), held_out._replace(h=held_out_h)
        labelled, split = context.data.labelled, getattr(context.data, context.split)
        rows = []
        for name, values in split.factors.items():
            if labelled.labels is not None and torch.equal(labelled.factors[name], labelled.labels):
                continue
            target, of = labelled.factors[name][fit.index], values[held_out.index]
            if target.is_floating_point():
                rows.append(self._regression(context, name, fit.h, target, held_out.h, of))
            elif int(target.max()) > 0:
                rows.append(self._classification(context, name, fit.h, target, held_out.h, of))
        return rows

    def _classification(
        self, context: EvaluationContext, name: str, x: Tensor, target: Tensor, queries: Tensor, of: Tensor
    ) -> Measurement:
        device = context.module.device
        classes = 1 + int(max(target.max(), of.max()))
        classifier = tuned_linear(x.to(device), target.to(device), classes, seed=self.seed)
        accuracy = (classifier(queries.to(device)).argmax(1).cpu() == of).float().mean().item()
        low, high = wilson(accuracy, len(of))
        return context.measurement(
            self.name,
            f"probe_{name}_accuracy",
            f"{name} from h, accuracy",
            accuracy,
            low=low,
            high=high,
            baseline=of.bincount().max().item() / len(of),
            ceiling=1.0,
            n=len(of),
            note=f"linear, fitted on {len(target)} samples, decay {classifier.decay:g}; baseline: the largest class",
        )

    def _regression(
        self, context: EvaluationContext, name: str, x: Tensor, target: Tensor, queries: Tensor, of: Tensor
    ) -> Measurement:
        target, of = (v.double().reshape(len(v), -1) for v in (target, of))
        predicted = linear_regression(x.double(), target, queries.double())
        missed = (predicted - of).square().sum() / (of - of.mean(0)).square().sum()
        return context.measurement(
            self.name,
            f"probe_{name}_r2",
            f"{name} from h, R^2",
            1 - missed.item(),
            baseline=0.0,
            ceiling=1.0,
            n=len(of),
            note=f"linear least squares, fitted on {len(target)} samples",
        )


def linear_regression(x: Tensor, target: Tensor, queries: Tensor, ridge: float = 1e-4) -> Tensor:
    """Least squares of `target: [n, k]` on standardised `x: [n, d]`, at `queries: [m, d]`.

    Args:
        x, target: What it is fitted on.
        queries: Where it is evaluated.
        ridge: Added to each column's variance of 1, against columns that repeat each other.

    Returns:
        float64 `[m, k]`.
    """
    mean, scale = x.mean(0), x.std(0, correction=0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    x, queries, middle = (x - mean) / scale, (queries - mean) / scale, target.mean(0)
    gram = x.T @ x / len(x) + ridge * torch.eye(x.shape[1], dtype=x.dtype)
    return middle + queries @ torch.linalg.solve(gram, x.T @ (target - middle) / len(x))
