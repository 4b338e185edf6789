"""Evaluations: the accuracy of a linear classifier and of nearest neighbours on frozen features.

Probes are fitted on features that carry no graph, so nothing of them reaches the encoder. A probe's only
hyper-parameter, the weight decay, is chosen on a held-out part of the rows it is fitted on, never on
the rows it is judged on; what is reported is the last epoch, never the best.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ssl_mi.evaluation.accuracy import balanced_accuracy, confusion_matrix, wilson
from ssl_mi.evaluation.context import Evaluation, EvaluationContext, Explanation, Plot
from ssl_mi.evaluation.embed import Features
from ssl_mi.evaluation.logistic import DECAYS, tuned_linear
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.neighbours import knn_votes
from ssl_mi.evaluation.wide import WIDEST, narrow
from ssl_mi.report.plots import draw_accuracies

PANEL = "accuracy"  # of probes.png
WEIGHTS = 2**22  # of a classifier; where there would be more, features are narrowed first


@dataclass
class Probe(Evaluation):
    """Accuracy of a classifier that is fitted on h of labelled samples; nothing without labels.

    A subclass gives `scores`, or `predict` alone, and `metric`, `quantity` and `headline`.

    Attributes:
        limit: Samples it is fitted on during training; at the end all are used.
        details: Whether top-5 and balanced accuracy are measured too, and the confusion matrix is kept in
            `confusion`. These need `scores`.
    """

    limit: int | None = 10_000
    details: bool = field(default=False, kw_only=True)
    name: str = field(default="probes", init=False)
    confusion: Tensor | None = field(default=None, init=False, repr=False)

    wants_pixels = True
    chooses_on_validation: ClassVar[bool] = False
    metric = "probe_accuracy"
    quantity = "probe accuracy"
    headline = ""
    explanation: ClassVar[Explanation | None] = None

    def scores(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        """Fit on `x: [n, d]` and `labels: [n]`, score `queries: [m, d]`.

        Returns:
            `[m, classes]`, the largest for the predicted class, and a note on how they were found.
        """
        raise NotImplementedError

    def predict(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        """Fit on `x: [n, d]` and `labels: [n]`, predict for `queries: [m, d]`.

        Returns:
            The predicted classes, int64 `[m]`, and a note on how they were found.
        """
        found, note = self.scores(x, labels, queries, classes)
        return found.argmax(1), note

    def embed(self, context: EvaluationContext) -> None:
        """Features to fit on and to judge on."""
        if context.data.labelled.labels is not None:
            self._fit_features(context)
            context.features(context.split)

    def _fit_features(self, context: EvaluationContext) -> Features:
        # During training a sample is enough to fit on; at the end everything is used.
        return context.fitting(None if context.final else self.limit, self.chooses_on_validation)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """The accuracy on the split, with its Wilson interval."""
        if context.data.labelled.labels is None:
            return []
        fit, held_out = self._fit_features(context), context.features(context.split)
        fit_labels, labels = _labels(fit, "labelled"), _labels(held_out, context.split)
        device = context.module.device
        names = context.data.labelled.class_names
        given = fit.h.to(device), fit_labels.to(device), held_out.h.to(device), len(names)
        scores, predicted = None, None
        if self.details:
            scores, note = self.scores(*given)
            scores = scores.cpu()
            predicted = scores.argmax(1)
        else:
            predicted, note = self.predict(*given)
        context.predicted[self.metric] = predicted.cpu()
        accuracy = (predicted.cpu() == labels).float().mean().item()
        n = len(labels)
        low, high = wilson(accuracy, n)
        note += _never_right(fit_labels, labels, names)
        return [
            context.measurement(
                self.name,
                self.metric,
                self.quantity,
                accuracy,
                low=low,
                high=high,
                baseline=labels.bincount().max().item() / n,
                ceiling=1.0,
                n=n,
                note=f"{note}; fitted on {len(fit.h)} samples; baseline: the largest class",
                headline=self.headline,
                panel=PANEL,
            ),
            *([] if scores is None else self._details(context, scores, labels)),
        ]

    def _details(self, context: EvaluationContext, scores: Tensor, labels: Tensor) -> Iterable[Measurement]:
        """Top-5 accuracy where there are more than 5 classes, balanced accuracy; keeps the confusion matrix."""
        classes, n = scores.shape[1], len(labels)
        self.confusion = confusion_matrix(labels, scores.argmax(1), classes)
        stem, words = self.metric.removesuffix("_accuracy"), self.quantity
        if classes > 5:
            top = (scores.topk(5, dim=1).indices == labels[:, None]).any(1).float().mean().item()
            low, high = wilson(top, n)
            frequent = labels.bincount().topk(min(5, len(labels.unique()))).values.sum().item() / n
            yield context.measurement(
                self.name,
                f"{stem}_top5",
                f"{words}, top 5",
                top,
                low=low,
                high=high,
                baseline=frequent,
                ceiling=1.0,
                n=n,
            )
        value, half = balanced_accuracy(self.confusion)
        yield context.measurement(
            self.name,
            f"{stem}_balanced_accuracy",
            f"{words}, mean over classes",
            value,
            low=max(0.0, value - half),
            high=min(1.0, value + half),
            baseline=1 / int((self.confusion.sum(1) > 0).sum()),
            ceiling=1.0,
            n=n,
        )

    def explain(self, metric: str) -> Explanation | None:
        """See `Evaluation.explain`."""
        return self.explanation if metric == self.metric else None

    def plots(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> Iterable[Plot]:
        """probes.png: the accuracies over the epochs, of all probes."""
        path = draw_accuracies(rows, PANEL, folder / "probes.png")
        return [] if path is None else [Plot("Probes over the epochs", path)]


@dataclass
class LinearProbe(Probe):
    """Accuracy of multinomial logistic regression on h.

    Of more than 2^22 weights (1,000 classes of 4,194 columns), h is first brought into the span of 2,048 samples, and
    the note of the measurement says so.

    Attributes:
        limit: Samples it is fitted on during training.
        decays: Weight decays to choose from, on a held-out fifth of those samples.
        seed: Of that fifth.
        details: See `Probe`.
    """

    decays: Sequence[float] = DECAYS
    seed: int = 0
    metric = "linear_probe_accuracy"
    quantity = "linear-probe accuracy"
    headline = "linear_probe"
    explanation = Explanation(
        "linear probe",
        "higher",
        "Share of held-out samples whose class a linear classifier on the frozen h predicts. Chance is the largest "
        "class.",
    )

    def scores(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        """See `Probe.scores`."""
        done = ""
        if classes * x.shape[1] > WEIGHTS and len(x) > WIDEST:
            (x, queries), done = narrow(x, queries)
        classifier = tuned_linear(x, labels, classes, self.decays, self.seed)
        return classifier(queries), f"L-BFGS, decay {classifier.decay:g}{done and ', ' + done}"


@dataclass
class KNN(Probe):
    """Accuracy of a weighted nearest-neighbour vote on h.

    Attributes:
        limit: Samples in the bank during training.
        k: Neighbours, where the bank holds at least 10 times as many samples; of a smaller bank, a tenth.
        temperature: Of the weights, e^(similarity / temperature).
        details: See `Probe`.
    """

    k: int = 200
    temperature: float = 0.1
    metric = "knn_accuracy"
    quantity = "kNN accuracy"
    headline = "knn"
    explanation = Explanation(
        "kNN",
        "higher",
        "Share of held-out samples whose class the nearest neighbours in h vote for. Nothing is fitted.",
    )

    def scores(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        """See `Probe.scores`."""
        k = max(1, min(self.k, len(x) // 10))
        return knn_votes(x, labels, queries, classes, k, self.temperature), f"k {k}, T {self.temperature:g}"


def _labels(features: Features, split: str) -> Tensor:
    if features.labels is None:
        raise ValueError(f"the {split} samples have no labels, and others do: probes need labels of all splits")
    return features.labels


def _never_right(fit: Tensor, labels: Tensor, names: Sequence[str]) -> str:
    """A note on classes that occur where the probe is judged and not where it is fitted."""
    unseen = (fit.bincount(minlength=len(names)) == 0) & (labels.bincount(minlength=len(names)) > 0)
    if not unseen.any():
        return ""
    missing = [f"'{names[c]}'" for c in unseen.nonzero().flatten().tolist()]
    return f"; never right on {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}: none to fit on"
