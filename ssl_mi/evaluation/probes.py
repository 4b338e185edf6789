"""Evaluations: what a linear classifier and nearest neighbours read from frozen features.

Probes are fitted on features that carry no graph, so nothing of them reaches the encoder. A probe's only
hyper-parameter, the weight decay, is chosen on a held-out part of the rows it is fitted on, never on
the rows it is judged on; what is reported is the last epoch, never the best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize, one_hot

from ssl_mi.evaluation.context import Bench, Evaluation
from ssl_mi.evaluation.measurement import Row

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class LinearClassifier(NamedTuple):
    """logits = (x - mean) / scale @ weight.T + bias."""

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

    x: [n, d], labels: int64 [n]. Columns are brought to variance 1, so `decay` means the same for any
    encoder. L-BFGS, in coordinates that whiten the features.
    """
    return _fit(_rotate(x), slice(None), labels, classes, decay)


def tuned_linear(
    x: Tensor, labels: Tensor, classes: int, decays: Sequence[float] = DECAYS, seed: int = 0
) -> LinearClassifier:
    """`fit_linear` at the decay that predicts a random fifth of the rows best, refitted on all of them."""
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
    """Weighted nearest-neighbour vote by cosine similarity s: weight e^(s / temperature). -> int64 [m].

    Wu et al. 2018 (arXiv:1805.01978), section 3.4: k = 200, temperature = 0.07 there, 0.1 in common use.
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
class _Probe(Evaluation):
    """Features of labelled training images to fit on, of the split to judge on; nothing without labels."""

    limit: int | None = 10_000
    name: str = field(default="probes", init=False)

    def collect(self, bench: Bench) -> None:
        if self.possible(bench):
            self._fit_features(bench)
            bench.features(bench.split)

    def possible(self, bench: Bench) -> bool:
        return bench.data.labelled.labels is not None

    def _fit_features(self, bench: Bench):
        # During training a sample of the images is enough to fit on; at the end all are used.
        return bench.features("labelled", None if bench.final else self.limit)

    def measure(self, bench: Bench) -> list[Row]:
        if not self.possible(bench):
            return []
        fit, read = self._fit_features(bench), bench.features(bench.split)
        device = bench.module.device
        classes = len(bench.data.class_names)
        predicted, note = self.predict(fit.h.to(device), fit.labels.to(device), read.h.to(device), classes)
        accuracy = (predicted.cpu() == read.labels).float().mean().item()
        n = len(read.h)
        low, high = wilson(accuracy, n)
        chance = read.labels.bincount().max().item() / n
        unseen = (fit.labels.bincount(minlength=classes) == 0) & (read.labels.bincount(minlength=classes) > 0)
        if unseen.any():
            names = [f"'{bench.data.class_names[c]}'" for c in unseen.nonzero().flatten().tolist()]
            note += f"; never right on {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}: none to fit on"
        return [
            bench.row(
                self.name,
                self.metric,
                self.quantity,
                accuracy,
                low=low,
                high=high,
                baseline=chance,
                ceiling=1.0,
                n=n,
                note=f"{note}; fitted on {len(fit.h)} images; baseline: the largest class",
            )
        ]


@dataclass
class LinearProbe(_Probe):
    """Accuracy of multinomial logistic regression on h. limit: images it is fitted on during training."""

    decays: Sequence[float] = DECAYS
    seed: int = 0
    metric = "linear_probe_accuracy"
    quantity = "linear-probe accuracy"

    def predict(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        classifier = tuned_linear(x, labels, classes, self.decays, self.seed)
        return classifier(queries).argmax(1), f"L-BFGS, decay {classifier.decay:g}"


@dataclass
class KNN(_Probe):
    """Accuracy of a weighted nearest-neighbour vote on h.

    k: neighbours, where the bank holds at least 10 times as many images; of a smaller bank, a tenth.
    """

    k: int = 200
    temperature: float = 0.1
    metric = "knn_accuracy"
    quantity = "kNN accuracy"

    def predict(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        k = max(1, min(self.k, len(x) // 10))
        return knn_predict(x, labels, queries, classes, k, self.temperature), f"k {k}, T {self.temperature:g}"


def wilson(p: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% Wilson score interval of a proportion p of n."""
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # The ends are 0 at p = 0 and 1 at p = 1, and p lies between them: only rounding says otherwise.
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))
