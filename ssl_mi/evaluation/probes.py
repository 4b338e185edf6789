"""Evaluations: the accuracy of a linear classifier and of nearest neighbours on frozen features.

Probes are fitted on features that carry no graph, so nothing of them reaches the encoder. A probe's only
hyper-parameter, the weight decay, is chosen on a held-out part of the rows it is fitted on, never on
the rows it is judged on; what is reported is the last epoch, never the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize, one_hot

from ssl_mi.evaluation.context import Evaluation, EvaluationContext, Plot
from ssl_mi.evaluation.embed import Features
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.report.plots import draw_accuracies

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
PANEL = "accuracy"  # of probes.png


class LinearClassifier(NamedTuple):
    """logits = (x - mean) / scale @ weight.T + bias.

    Attributes:
        mean, scale: Of the features it was fitted on, `[d]`.
        weight, bias: `[classes, d]` and `[classes]`.
        decay: Weight decay of the fit.
        loss: Mean cross-entropy + decay/2 |weight|^2 on the rows it was fitted on.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    decay: float
    loss: float

    def __call__(self, x: Tensor) -> Tensor:
        return linear((x - self.mean) / self.scale, self.weight, self.bias)


class _Rotated(NamedTuple):
    """Standardised features along the axes of their covariance, where its inverse root is a diagonal."""

    x: Tensor
    mean: Tensor
    scale: Tensor
    axes: Tensor
    variance: Tensor


def _rotate(x: Tensor) -> _Rotated:
    mean = x.mean(0)
    scale = x.std(0, correction=0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    x = (x - mean) / scale
    variance, axes = torch.linalg.eigh(x.T @ x / len(x))
    return _Rotated(x @ axes, mean, scale, axes, variance.clamp_min(0))


def _fit(features: _Rotated, rows: Tensor | slice, labels: Tensor, classes: int, decay: float) -> LinearClassifier:
    # W = V diag(root): in V the Hessian is nearly the identity, which saves some 15 times the evaluations.
    root = (features.variance + decay + 1e-4).rsqrt()
    white = features.x[rows] * root
    labels = labels[rows]
    v = torch.zeros(classes, white.shape[1], dtype=white.dtype, device=white.device, requires_grad=True)
    bias = torch.zeros(classes, dtype=white.dtype, device=white.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [v, bias],
        max_iter=40,
        max_eval=50,  # near the optimum a line search in float32 would go on for nothing
        history_size=20,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        return cross_entropy(linear(white, v, bias), labels) + decay / 2 * (v * root).square().sum()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        weight = (v * root) @ features.axes.T
        return LinearClassifier(features.mean, features.scale, weight, bias.detach(), decay, objective().item())


def fit_linear(x: Tensor, labels: Tensor, classes: int, decay: float) -> LinearClassifier:
    """Multinomial logistic regression, to its optimum: mean cross-entropy + decay/2 |W|^2.

    Columns are brought to variance 1, so `decay` means the same for any encoder. L-BFGS, in coordinates that whiten
    the features.

    Args:
        x: `[n, d]`.
        labels: int64 `[n]` in 0 .. classes - 1.
        classes: How many.
        decay: Weight decay.
    """
    return _fit(_rotate(x), slice(None), labels, classes, decay)


def tuned_linear(
    x: Tensor, labels: Tensor, classes: int, decays: Sequence[float] = DECAYS, seed: int = 0
) -> LinearClassifier:
    """`fit_linear` at the decay that predicts a random fifth of the rows best, refitted on all of them.

    Args:
        x: `[n, d]`.
        labels: int64 `[n]` in 0 .. classes - 1.
        classes: How many.
        decays: To choose from; a single one is taken as it is.
        seed: Of that fifth.
    """
    features = _rotate(x)
    decay = decays[0]
    if len(decays) > 1:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
        held, rest = order[: len(x) // 5], order[len(x) // 5 :]
        losses = [cross_entropy(_fit(features, rest, labels, classes, d)(x[held]), labels[held]).item() for d in decays]
        decay = decays[min(range(len(decays)), key=losses.__getitem__)]
    return _fit(features, slice(None), labels, classes, decay)


def knn_predict(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, classes: int, k: int = 200, temperature: float = 0.1
) -> Tensor:
    """Weighted nearest-neighbour vote by cosine similarity s: weight e^(s / temperature).

    Args:
        bank, bank_labels: What votes, `[n, d]` and int64 `[n]`.
        queries: `[m, d]`.
        classes: How many.
        k: Neighbours.
        temperature: 0.07 in the paper, 0.1 in common use.

    Returns:
        The classes, int64 `[m]`.

    References:
        Wu et al. 2018, arXiv:1805.01978, section 3.4.
    """
    bank, queries = normalize(bank, dim=1), normalize(queries, dim=1)
    votes = one_hot(bank_labels, classes).to(bank.dtype)
    predicted = []
    for part in queries.split(1024):
        similarity, neighbour = (part @ bank.T).topk(k, dim=1)
        # The nearest neighbour has weight 1: the vote is the same, and nothing overflows.
        weight = ((similarity - similarity[:, :1]) / temperature).exp()
        predicted.append((weight[:, :, None] * votes[neighbour]).sum(1).argmax(1))
    return torch.cat(predicted)


@dataclass
class Probe(Evaluation):
    """Accuracy of a classifier that is fitted on h of labelled samples; nothing without labels.

    A subclass gives `predict`, `metric`, `quantity` and `headline`.

    Attributes:
        limit: Samples it is fitted on during training; at the end all are used.
    """

    limit: int | None = 10_000
    name: str = field(default="probes", init=False)

    wants_pixels = True
    metric = "probe_accuracy"
    quantity = "probe accuracy"
    headline = ""

    def predict(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        """Fit on `x: [n, d]` and `labels: [n]`, predict for `queries: [m, d]`.

        Returns:
            The predicted classes, int64 `[m]`, and a note on how they were found.
        """
        raise NotImplementedError

    def embed(self, context: EvaluationContext) -> None:
        """Features to fit on and to judge on."""
        if context.data.labelled.labels is not None:
            self._fit_features(context)
            context.features(context.split)

    def _fit_features(self, context: EvaluationContext) -> Features:
        # During training a sample is enough to fit on; at the end everything is used.
        return context.features("labelled", None if context.final else self.limit)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """The accuracy on the split, with its Wilson interval."""
        if context.data.labelled.labels is None:
            return []
        fit, held_out = self._fit_features(context), context.features(context.split)
        fit_labels, labels = _labels(fit, "labelled"), _labels(held_out, context.split)
        device = context.module.device
        names = context.data.labelled.class_names
        predicted, note = self.predict(fit.h.to(device), fit_labels.to(device), held_out.h.to(device), len(names))
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
            )
        ]

    def plots(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> Iterable[Plot]:
        """probes.png: the accuracies over the epochs, of all probes."""
        path = draw_accuracies(rows, PANEL, folder / "probes.png")
        return [] if path is None else [Plot("Probes over the epochs", path)]


@dataclass
class LinearProbe(Probe):
    """Accuracy of multinomial logistic regression on h.

    Attributes:
        limit: Samples it is fitted on during training.
        decays: Weight decays to choose from, on a held-out fifth of those samples.
        seed: Of that fifth.
    """

    decays: Sequence[float] = DECAYS
    seed: int = 0
    metric = "linear_probe_accuracy"
    quantity = "linear-probe accuracy"
    headline = "linear_probe"

    def predict(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        """See `Probe.predict`."""
        classifier = tuned_linear(x, labels, classes, self.decays, self.seed)
        return classifier(queries).argmax(1), f"L-BFGS, decay {classifier.decay:g}"


@dataclass
class KNN(Probe):
    """Accuracy of a weighted nearest-neighbour vote on h.

    Attributes:
        limit: Samples in the bank during training.
        k: Neighbours, where the bank holds at least 10 times as many samples; of a smaller bank, a tenth.
        temperature: Of the weights, e^(similarity / temperature).
    """

    k: int = 200
    temperature: float = 0.1
    metric = "knn_accuracy"
    quantity = "kNN accuracy"
    headline = "knn"

    def predict(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        """See `Probe.predict`."""
        k = max(1, min(self.k, len(x) // 10))
        return knn_predict(x, labels, queries, classes, k, self.temperature), f"k {k}, T {self.temperature:g}"


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


def wilson(p: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a proportion p of n: 95% at z = 1.96."""
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # The ends are 0 at p = 0 and 1 at p = 1, and p lies between them: only rounding could differ.
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))
