"""Objectives that maximise a bound on the mutual information of two views: critic x bound x negatives.

`variational.py` has these compositions as classes, under the names of their papers.

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
from typing import Any, cast

import torch
from torch import Tensor, nn

from ssl_mi.information.variational.bounds import Bound, InfoNCE
from ssl_mi.information.variational.critics import Bilinear, built_critic, has_shortcut
from ssl_mi.objectives.negatives import Negatives, OtherSamples, Pairs
from ssl_mi.objectives.objective import HeldOutBound, Loss, Objective, mean_of, ordered_pairs, view_pairs
from ssl_mi.objectives.predictor import predicted
from ssl_mi.objectives.score_tiles import KEPT
from ssl_mi.objectives.share import Share, SharedScores, own_rows
from ssl_mi.objectives.tiles import cross_entropy, scores_and_log_sums


class Infomax(Objective):
    """Maximise a bound on I(Z_X; Z_Y), averaged over the pairs of views.

    The loss is the bound's own (`Bound.loss`): for InfoNCE the cross-entropy that papers print, for the others minus
    the bound. The metric `bound_nats` is the bound on the training batch, in nats; if the negatives break it, the
    metric is `score_nats` and `estimate` returns None. With cosine critic, InfoNCE and OtherSamplesAndViews this is
    NT-Xent, and its bound is log(2N - 1) - loss.

    Args:
        dim: Width d of an embedding; None to build later.
        critic: Scores all pairs: a module, or what makes one from `dim_x` and `dim_y`. None for `Bilinear`.
        bound: Scores to nats. None for `InfoNCE`.
        negatives: The pairs that count as independent: a module, or what makes one from `dim` (a queue). None for
            `OtherSamples`.
        name: Heads plots and tables.
        predictor: Makes a network from d, applied to the online embeddings before they are scored; None for none.
        weight: Factor of the loss, where a paper has one.

    Raises:
        ValueError: If negatives or predictor distinguish queries from keys and no teacher makes the keys, or if there
            are fewer than 2 views.
    """

    critic: Any
    bound: Bound
    negatives: Negatives

    def __init__(
        self,
        dim: int | None = None,
        critic: nn.Module | Callable[..., nn.Module] | None = None,
        bound: Bound | None = None,
        negatives: Negatives | Callable[..., Negatives] | None = None,
        name: str = "infomax",
        predictor: Callable[[int], nn.Module] | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.name, self.weight = name, weight
        critic, negatives = critic or Bilinear, negatives or OtherSamples()
        self._parts = critic, bound or InfoNCE(), negatives, predictor
        if getattr(negatives, "directed", False) or predictor is not None:
            self.teacher = "required"
        if isinstance(critic, nn.Module) and isinstance(negatives, Negatives) and predictor is None:
            self._make(0)  # no part depends on the width: it need not be given at all
        self.build(dim)

    def _make(self, dim: int) -> None:
        # Removed once they are used: a factory may be a lambda, which cannot be pickled.
        parts = self.__dict__.pop("_parts", None)
        if parts is None:
            return
        critic, bound, negatives, predictor = parts
        self.critic = built_critic(critic, dim, dim)
        self.bound = bound
        self.negatives = negatives if isinstance(negatives, Negatives) else negatives(dim=dim)
        self.predictor = None if predictor is None else predictor(dim)
        if self.negatives.directed:
            self.teacher = "required"

    def can_shard(self) -> bool:
        return self.bound.rowwise and self.negatives.shards

    def can_share(self) -> bool:
        # A subclass with another `forward` says so itself.
        return self.negatives.halves and has_shortcut(self, "can_share", "forward", "can_shard")

    def forward(
        self, online: list[Tensor], target: list[Tensor], rows: slice | None = None, share: Share | None = None
    ) -> Loss:
        met = self._met(online, target)
        value = mean_of([self._bound(x, y, rows, share) for x, y in met])
        loss = self.bound.loss(value, self.negatives.count(online[0].shape[0]))
        loss = loss if self.weight == 1 else self.weight * loss
        if self.training:
            self.negatives.remember(target)
        read_as = "bound_nats" if self.negatives.not_a_bound is None else "score_nats"
        return Loss({self.name: loss}, {read_as: value.detach()})

    def _met(self, online: list[Tensor], target: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        if not self.negatives.directed and self.predictor is None:
            return view_pairs(online, target)
        if target is online:
            raise ValueError(f"{self.name} distinguishes queries from keys: a teacher must make the keys (teacher=ema)")
        queries = online if self.predictor is None else predicted(self.predictor, online)
        return ordered_pairs(queries, [key.detach() for key in target])

    def _bound(self, x: Tensor, y: Tensor, rows: slice | None = None, share: Share | None = None) -> Tensor:
        k = self.negatives.count(x.shape[0])
        pairs = self._pairs(x, y) if rows is None else None
        if pairs is not None:
            return self._of_pairs(pairs, k, share)
        if share is not None and self.can_shard():  # no factors to share the pairs of out: rows
            rows = own_rows(share, len(x))
        sums = self._sums(x, y, rows)
        if sums is not None:
            return self.bound.from_log_sums(*sums, k)
        if rows is not None:
            return self.bound.from_logits(*self.negatives.shard(self.critic, x, y, rows), k)
        critic = self.critic if share is None else SharedScores(self.critic, share)
        return self.bound.from_logits(*self.negatives.candidates(critic, x, y), k)

    def _pairs(self, x: Tensor, y: Tensor) -> Pairs | None:
        """All scores as one product; None where the parts offer no such way."""
        if not has_shortcut(self.negatives, "factored", "candidates", "shard", "log_sums"):
            return None
        if not has_shortcut(self.bound, "from_log_sums", "forward", "from_logits"):
            return None
        return self.negatives.factored(self.critic, x, y)

    def _of_pairs(self, pairs: Pairs, k: int, share: Share | None) -> Tensor:
        """The bound in the cheapest way that there is for it."""
        if share is None and has_shortcut(self.bound, "from_cross_entropy", "forward", "from_logits", "from_log_sums"):
            value = cross_entropy(*pairs)
            if value is not None:
                return self.bound.from_cross_entropy(value, k)
        return self.bound.from_log_sums(*scores_and_log_sums(*pairs, share=share), k)

    def _sums(self, x: Tensor, y: Tensor, rows: slice | None = None) -> tuple[Tensor, Tensor] | None:
        """What the bound needs, without a matrix of scores; None where the parts offer no such way."""
        if not has_shortcut(self.bound, "from_log_sums", "forward", "from_logits"):
            return None
        if not has_shortcut(self.negatives, "log_sums", "candidates", "shard"):
            return None
        return self.negatives.log_sums(self.critic, x, y, rows)

    def ceiling(self, rows: int) -> float:
        """The largest value, in nats, that the bound can take with `rows` pairs."""
        return self.bound.ceiling(self.negatives.count(rows), self.critic.score_range)

    @torch.no_grad()
    def estimate(self, x: Tensor, y: Tensor, rows: int) -> HeldOutBound | None:
        """The bound on held-out pairs, with negatives from batches of `rows` as in training.

        An incomplete last batch is used only if there is no complete one: a bound over fewer negatives has another
        ceiling. Training state (MINE's moving average) does not change.

        Args:
            x: Embeddings [n, d] of one view.
            y: Embeddings [n, d] of the other view of the same images, in the same order.
            rows: Batch size of training.

        Returns:
            The bound in nats; None if the negatives break it.
        """
        if self.negatives.not_a_bound is not None:
            return None
        rows = min(rows, len(x))
        training = self.training
        self.eval()
        try:
            x = x.float() if self.predictor is None else self.predictor(x.float())
            value = self._held_out(x, y, rows).item()
        finally:
            self.train(training)
        return HeldOutBound(value, self.bound.kind, self.ceiling(rows), self.negatives.count(rows))

    def _held_out(self, x: Tensor, y: Tensor, rows: int) -> Tensor:
        """The bound over batches of `rows` pairs: over all their scores at once, or their log sums."""
        k = self.negatives.count(rows)
        batches = [(x[s : s + rows], y[s : s + rows].float()) for s in range(0, len(x) - rows + 1, rows)]
        found = [self._sums(*each) for each in batches] if rows * k > KEPT else [None]
        if all(each is not None for each in found):
            joint, logs = (torch.cat(part) for part in zip(*cast(Any, found), strict=True))
            return self.bound.from_log_sums(joint, logs, k)
        # All scores at once: the mean over batches of log mean e^T would be too large (Jensen).
        parts = [self.negatives(self.critic, *each) for each in batches]
        return self.bound(*(torch.cat(part) for part in zip(*parts, strict=True)))

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
