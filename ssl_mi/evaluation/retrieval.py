"""Evaluations of two encoders by what one finds with the other: retrieval, and classification by prompts.

Retrieval   for each sample, its partner among the other views of all samples: recall at 1, 5, 10, both ways
ZeroShot    each sample to the class whose prompts are nearest, without training on labels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_mi.evaluation.accuracy import wilson
from ssl_mi.evaluation.context import Evaluation, EvaluationContext, Explanation
from ssl_mi.evaluation.contracts import EvaluationData
from ssl_mi.evaluation.embed import untouched
from ssl_mi.evaluation.measurement import Measurement

PIECE = 1024  # queries at once
TIED = 1e-6  # cosines nearer than this are equal: the same sentence, embedded in two batches


def recall_at(x: Tensor, y: Tensor, k: int) -> Tensor:
    """For each row of x, the chance that y[i] is among the k rows of y nearest to x[i] by cosine.

    It is 1 or 0, but where rows of y are as near as y[i] (equal sentences): then it is the chance under a random order
    of those, so that repeated rows cost no more than they must.

    Args:
        x: Queries `[n, d]`.
        y: Their partners `[n, d]`, in the same order.
        k: How many are looked at.

    Returns:
        float64 `[n]`.

    Example:
        >>> import torch
        >>> recall_at(torch.eye(3), torch.eye(3)[[0, 2, 1]], k=1).tolist()
        [1.0, 0.0, 0.0]
    """
    if x.shape != y.shape or k < 1:
        raise ValueError(f"recall_at: x is {list(x.shape)}, y {list(y.shape)}, k={k}: pairs of one width, and k >= 1")
    x, y = normalize(x, dim=1), normalize(y, dim=1)
    found = []
    for rows in torch.arange(len(x)).split(PIECE):
        scores = x[rows] @ y.T
        own = (x[rows] * y[rows]).sum(1, keepdim=True)
        nearer = (scores > own + TIED).sum(1).double()
        tied = ((scores - own).abs() <= TIED).sum(1).double().clamp_min(1)  # with itself
        found.append(((k - nearer) / tied).clamp(0, 1))
    return torch.cat(found)


@dataclass
class Retrieval(Evaluation):
    """Recall at k: how often a sample's other view is among the k nearest by the cosine of the embeddings z.

    "x_to_y": a view 0 looks for its view 1 (an image for its sentence), "y_to_x" the other way. All samples of the
    split, or the first `limit`, are the gallery. Chance is k / n.

    Attributes:
        ks: The numbers k.
        limit: Samples, in the gallery too: recall depends on its size. None for all.
    """

    ks: Sequence[int] = (1, 5, 10)
    limit: int | None = 2000
    name: str = field(default="retrieval", init=False)

    def embed(self, context: EvaluationContext) -> None:
        """Pairs of the split."""
        context.pairs(context.split, self.limit)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """Recall both ways at each k."""
        first, second = context.pairs(context.split, self.limit).z
        n = len(first)
        found = []
        for way, x, y in (("x_to_y", first, second), ("y_to_x", second, first)):
            for k in self.ks:
                hits = recall_at(x, y, k)
                low, high = wilson(float(hits.mean()), n)
                found.append(
                    context.measurement(
                        self.name,
                        f"recall_{way}_at_{k}",
                        f"recall at {k}, {way.replace('_', ' ')}",
                        float(hits.mean()),
                        low=low,
                        high=high,
                        baseline=min(1.0, k / n),
                        ceiling=1.0,
                        n=n,
                        kind="point estimate",
                        note=f"the other view among {n} by cosine of z",
                    )
                )
        return found

    def explain(self, metric: str) -> Explanation | None:
        """What recall at k is."""
        if not metric.startswith("recall_"):
            return None
        way, k = metric.removeprefix("recall_").split("_at_")
        return Explanation(
            f"recall@{k} {way.replace('_to_', '>')}", "higher", "How often the other view is among the nearest k."
        )


@dataclass
class ZeroShot(Evaluation):
    """Top-1 accuracy of the class whose prompts are nearest to a sample, by cosine of z (Radford et al. 2021, 3.1).

    The embedding of a class is the mean of the normalised embeddings of its prompts. No probe is fitted, and no label
    is seen but to count. The data give the prompts, `prompts() -> [(tokens, class), ...]`; it measures nothing where
    they have none.

    Attributes:
        view: The view of the prompts; samples are shown by view 0.
    """

    view: int = 1
    name: str = field(default="retrieval", init=False)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """The accuracy on the samples of the split, without augmentation."""
        data: Any = context.data
        prompts = getattr(data, "prompts", lambda: None)()
        labels = getattr(data, context.split).labels
        if prompts is None or labels is None:
            return []
        tokens, of = prompts
        with untouched(context.module):
            towers, device = context.module.towers, context.module.device
            z = normalize(towers.tower_of(self.view)(tokens.to(device))[1].float(), dim=1)
            classes = int(of.max()) + 1
            means = torch.stack([z[of.to(device) == c].mean(0) for c in range(classes)])
            right = torch.cat(list(self._right(context, context.data, normalize(means, dim=1))))
        accuracy = float(right.double().mean())
        low, high = wilson(accuracy, len(right))
        return [
            context.measurement(
                self.name,
                "zero_shot_accuracy",
                "zero-shot accuracy by prompts",
                accuracy,
                low=low,
                high=high,
                baseline=float(labels.bincount().max()) / len(labels),
                ceiling=1.0,
                n=len(right),
                kind="point estimate",
                note=f"{len(tokens)} prompts for {classes} classes; no labels were learned from",
            )
        ]

    @staticmethod
    def _right(context: EvaluationContext, data: EvaluationData, means: Tensor) -> Any:
        for source in data.batches(context.split):
            view = data.clean_views(source)[0].to(context.module.device)
            z = context.module.towers.tower_of(0)(view)[1].float()
            yield ((normalize(z, dim=1) @ means.T).argmax(1).cpu() == source.labels)

    def explain(self, metric: str) -> Explanation | None:
        """What zero-shot accuracy is."""
        if metric != "zero_shot_accuracy":
            return None
        return Explanation("zero-shot", "higher", "Accuracy of the class whose prompts are nearest, without a probe.")
