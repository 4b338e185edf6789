"""Objectives that raise a bound on the mutual information of two views: critic x bound x negatives.

method              critic                      bound     negatives
SimCLR (NT-Xent)    cosine, fixed temperature   InfoNCE   other samples and views
InfoNCE (CPC)       bilinear                    InfoNCE   other samples
CLIP, CMC           cosine                      InfoNCE   other samples
MINE, NWJ, SMILE    concat                      itself    other samples
Deep InfoMax        any                         JS        other samples
MoCo v2+            cosine, EMA teacher         InfoNCE   past targets: a score, no bound
MoCo v3             cosine, predictor, teacher  InfoNCE   other targets
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssl_mi.information.variational.bounds import Bound, InfoNCE
from ssl_mi.objectives.negatives import Negatives
from ssl_mi.objectives.objective import Loss, Objective, Reading, crossings, view_pairs
from ssl_mi.objectives.predictor import predicted


class Infomax(Objective):
    """Raise a bound on I(Z_X; Z_Y), averaged over the pairs of views.

    dim: width of an embedding. critic: a module, or a factory that takes dim_x and dim_y. negatives: a
    module, or a factory that takes dim (a queue). predictor: None, or a factory that takes dim: what the online
    side goes through before it is scored. weight: a factor of the loss, where a paper has one.

    The loss is the bound's own (`Bound.loss`): for InfoNCE the cross-entropy that papers print,
    for the others minus the bound. The metric `bound_nats` is the bound on the training batch; where the
    negatives break it, it is called `score_nats` and `read` returns None.
    With cosine critic, InfoNCE and OtherSamplesAndViews this is NT-Xent, Chen et al. 2020
    (arXiv:2002.05709) averaged over all positive pairs; its bound is log(2N - 1) - loss.

    Raises ValueError when negatives or predictor tell the two sides apart and no teacher does.
    """

    def __init__(
        self,
        dim: int,
        critic: nn.Module | Callable[..., nn.Module],
        bound: Bound,
        negatives: Negatives | Callable[..., Negatives],
        name: str = "infomax",
        predictor: Callable[[int], nn.Module] | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.name = name
        self.critic = critic if isinstance(critic, nn.Module) else critic(dim_x=dim, dim_y=dim)
        self.bound = bound
        self.negatives = negatives if isinstance(negatives, nn.Module) else negatives(dim=dim)
        self.predictor = None if predictor is None else predictor(dim)
        self.weight = weight
        if self.negatives.directed or self.predictor is not None:
            self.teacher = "required"

    def can_shard(self) -> bool:
        return self.bound.rowwise and self.negatives.shards

    def forward(self, online: list[Tensor], target: list[Tensor], rows: slice | None = None) -> Loss:
        met = self._met(online, target)
        value = sum(self._bound(x, y, rows) for x, y in met) / len(met)
        loss = self.weight * self.bound.loss(value, self.negatives.count(online[0].shape[0]))
        if self.training:
            self.negatives.remember(target)
        read_as = "bound_nats" if self.negatives.not_a_bound is None else "score_nats"
        return Loss({self.name: loss}, {read_as: value.detach()})

    def _met(self, online: list[Tensor], target: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        if not self.negatives.directed and self.predictor is None:
            return view_pairs(online, target)
        if target is online:
            raise ValueError(f"{self.name} tells queries from keys: a teacher must make the keys (teacher=ema)")
        queries = online if self.predictor is None else predicted(self.predictor, online)
        return crossings(queries, [key.detach() for key in target])

    def _bound(self, x: Tensor, y: Tensor, rows: slice | None = None) -> Tensor:
        if rows is not None:
            return self.bound.among(*self.negatives.shard(self.critic, x, y, rows), self.negatives.count(x.shape[0]))
        if isinstance(self.bound, InfoNCE):
            return self.bound.among(*self.negatives.candidates(self.critic, x, y), self.negatives.count(x.shape[0]))
        return self.bound(*self.negatives(self.critic, x, y))

    def ceiling(self, rows: int) -> float:
        """The largest value that the bound can read with `rows` pairs, in nats."""
        return self.bound.ceiling(self.negatives.count(rows), self.critic.score_range)

    @torch.no_grad()
    def read(self, x: Tensor, y: Tensor, rows: int) -> Reading | None:
        """The bound on held-out pairs x, y: [n, d], whose negatives come from batches of `rows` as in training.

        None where the negatives broke the bound: there is no number to be taken for mutual information.
        Whatever is left over of the last batch is read only if there is no whole one: a bound over fewer
        negatives would have another ceiling. Training state (MINE's moving average) is left alone.
        """
        if self.negatives.not_a_bound is not None:
            return None
        rows = min(rows, len(x))
        training = self.training
        self.eval()
        try:
            x = x.float() if self.predictor is None else self.predictor(x.float())
            starts = range(0, len(x) - rows + 1, rows)
            parts = [self.negatives(self.critic, x[s : s + rows], y[s : s + rows].float()) for s in starts]
            # One reading of all scores: a mean of each batch's log mean e^T would read too much (Jensen).
            joint, marginal = (torch.cat(part) for part in zip(*parts, strict=True))
            value = self.bound(joint, marginal).item()
        finally:
            self.train(training)
        return Reading(value, self.bound.kind, self.ceiling(rows), self.negatives.count(rows))

    def facts(self, rows: int) -> dict[str, str]:
        k = self.negatives.count(rows)
        if self.negatives.not_a_bound is not None:
            return {"negatives": str(k), "mutual information": f"not bounded: {self.negatives.not_a_bound}"}
        ceiling = self.ceiling(rows)
        if math.isinf(ceiling):
            text = "none; its variance grows like exp(I)"
        else:
            text = f"{ceiling:.2f} nats (log of {k + 1} candidates = {math.log(k + 1):.2f})"
        if math.isfinite(self.critic.score_range):
            # Negatives that are spread out score about 0, not -1: half the range is what can be reached.
            usual = self.bound.ceiling(k, self.critic.score_range / 2)
            text += f"; about {usual:.2f} with spread-out negatives at this temperature"
        return {"negatives": str(k), "bound's ceiling": text}
