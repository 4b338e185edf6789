"""Evaluation: the shape of the embeddings. A probe may hide a collapse; these do not."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_mi.evaluation.context import Evaluation, EvaluationContext, Explanation
from ssl_mi.evaluation.embed import Pairs
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.wide import PIECE, narrow, singular_values


def effective_rank(x: Tensor) -> float:
    """exp(entropy of the normalised singular values) of centred `x: [n, d]`; 1 for a line, d for a ball.

    Args:
        x: Embeddings `[n, d]`.

    References:
        Roy & Vetterli 2007. RankMe: Garrido et al. 2023, arXiv:2210.02885, eq. 1, here after centring.
    """
    s = singular_values(x)
    p = s / s.sum().clamp_min(torch.finfo(s.dtype).tiny)
    return torch.special.entr(p).sum().exp().item()


def alignment(x: Tensor, y: Tensor) -> float:
    """E |x - y|^2 over pairs `[n, d]` on the unit sphere; 0 to 4.

    Args:
        x: Embeddings `[n, d]` of one view.
        y: Embeddings `[n, d]` of the other view of the same samples.

    References:
        Wang & Isola 2020, arXiv:2005.10242, section 4.1.1.
    """
    size = max(1, PIECE // x.shape[1])
    pairs = zip(x.split(size), y.split(size), strict=True)
    apart = [(normalize(a, dim=1) - normalize(b, dim=1)).square().sum(1) for a, b in pairs]
    return torch.cat(apart).mean().item()


def uniformity(x: Tensor, t: float = 2.0) -> float:
    """log E e^(-t |x - x'|^2) over all pairs of rows of `x: [n, d]` on the unit sphere; at most 0.

    Args:
        x: Embeddings `[n, d]`.
        t: Scale of the squared distances.

    References:
        Wang & Isola 2020, arXiv:2005.10242, section 4.1.2.
    """
    (x,), _ = narrow(x)  # lengths and angles stay
    x = normalize(x, dim=1)
    return torch.pdist(x).square().mul(-t).exp().mean().log().item()


@dataclass
class Geometry(Evaluation):
    """Effective rank of h and z, alignment and uniformity of z.

    Attributes:
        limit: Samples measured.
    """

    limit: int | None = 2000
    name: str = field(default="geometry", init=False)

    def embed(self, context: EvaluationContext) -> None:
        """Pairs of the split."""
        self._pairs(context)

    def _pairs(self, context: EvaluationContext) -> Pairs:
        return context.pairs(context.split, None if context.final else self.limit)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """All four, of the first `limit` samples."""
        pairs = self._pairs(context)
        (h, _), (x, y) = [tuple(v[: self.limit] for v in space) for space in (pairs.h, pairs.z)]
        found = [
            # Centred, n rows span at most n - 1 directions.
            ("effective_rank_h", "effective rank of h", effective_rank(h), min(len(h) - 1, h.shape[1])),
            ("effective_rank_z", "effective rank of z", effective_rank(x), min(len(x) - 1, x.shape[1])),
            ("alignment", "alignment of z, E|x - y|^2", alignment(x, y), 4.0),
            ("uniformity", "uniformity of z, log E e^(-2|x - x'|^2)", uniformity(x), 0.0),
        ]
        return [
            context.measurement(self.name, metric, quantity, value, ceiling=ceiling, n=len(x))
            for metric, quantity, value, ceiling in found
        ]

    def explain(self, metric: str) -> Explanation | None:
        """See `Evaluation.explain`."""
        return EXPLANATIONS.get(metric)


_RANK = "Directions that {0} spends its variance on, evenly counted: 1 is a line, the ceiling all directions alike. {1}"
EXPLANATIONS = {
    "effective_rank_h": Explanation(
        "effective rank of h", "higher", _RANK.format("h", "Low: dimensions have collapsed.")
    ),
    "effective_rank_z": Explanation(
        "effective rank of z", "higher", _RANK.format("z", "Near 1: the embeddings have collapsed.")
    ),
    "alignment": Explanation(
        "alignment of z",
        "lower",
        "Mean squared distance of the two views of a sample on the unit sphere. 0 also where everything is one point: "
        "only beside uniformity does it mean something.",
    ),
    "uniformity": Explanation(
        "uniformity of z",
        "lower",
        "How evenly the embeddings cover the unit sphere: 0 where all are one point, about -4 where they are spread "
        "out.",
    ),
}
