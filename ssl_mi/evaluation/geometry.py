"""Evaluation: the shape of the embeddings. A probe may hide a collapse; these do not."""

from __future__ import annotations

import math
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

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> round(effective_rank(x), 4), round(effective_rank(x[:2]), 4)
        (2.0, 1.0)
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

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> alignment(x, x), alignment(x, -x)
        (0.0, 4.0)
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

    Example:
        >>> import torch
        >>> x = torch.eye(4)  # every two rows at squared distance 2
        >>> round(uniformity(x), 4)
        -4.0
    """
    (x,), _ = narrow(x)  # lengths and angles stay
    x = normalize(x, dim=1)
    return torch.pdist(x).square().mul(-t).exp().mean().log().item()


def rankme(x: Tensor) -> float:
    """exp(entropy of the normalised singular values) of `x: [n, d]` as it is, without centring; 1 to min(n, d).

    Args:
        x: Embeddings `[n, d]`.

    References:
        Garrido et al. 2023, arXiv:2210.02885, eq. 1.
    """
    (x,), _ = narrow(x)  # singular values stay
    s = torch.linalg.svdvals(x.double())
    p = s / s.sum().clamp_min(torch.finfo(s.dtype).tiny)
    return torch.special.entr(p).sum().exp().item()


def spectrum(x: Tensor) -> Tensor:
    """Eigenvalues of the covariance of `x: [n, d]`, the largest first: float64 `[min(n, d)]`.

    Args:
        x: Embeddings `[n, d]`.
    """
    return singular_values(x).square() / len(x)


def alpha_req(x: Tensor, first: int = 10, last: int = 100) -> float:
    """The exponent a of the eigenvalues of the covariance, lambda_i ~ i^-a: about 1 is best, 0 white, large collapsed.

    The slope of log lambda_i over log i, i from `first` to `last`, by least squares; NaN for fewer than 3 such i.

    Args:
        x: Embeddings `[n, d]`.
        first, last: Which eigenvalues, counted from 1; fewer where there are fewer.

    References:
        Agrawal et al. 2022, "alpha-ReQ: Assessing representation quality in self-supervised learning by measuring
        eigenspectrum decay", NeurIPS.
    """
    values = spectrum(x)
    values = values[values > values[:1] * 1e-12]
    start = first if len(values) >= 2 * first else 1
    kept = values[start - 1 : last]
    if len(kept) < 3:
        return math.nan
    i = torch.arange(start, start + len(kept), dtype=torch.float64).log()
    i, y = i - i.mean(), kept.log()
    return -((i * (y - y.mean())).sum() / i.square().sum()).item()


def lidar(groups: Tensor, ridge: float = 1e-4) -> float:
    """Effective rank of the linear discriminant between images, each the class of its views; 1 to d.

    exp(entropy of the normalised eigenvalues) of W^-1/2 B W^-1/2, with the covariance B of the means of the groups and
    W + `ridge` I of the views around them.

    Args:
        groups: Embeddings `[n images, q views, d]`.
        ridge: Added to W.

    References:
        Thilak et al. 2023, arXiv:2312.04000, section 3.
    """
    n, q, d = groups.shape
    (flat,), _ = narrow(groups.reshape(n * q, d))
    x = flat.double().reshape(n, q, -1)
    means = x.mean(1)
    between = torch.cov(means.T).reshape(x.shape[-1], -1)
    within = (x - means[:, None]).reshape(n * q, -1)
    within = within.T @ within / (n * (q - 1)) + ridge * torch.eye(x.shape[-1], dtype=x.dtype)
    values, axes = torch.linalg.eigh(within)
    root = axes * values.rsqrt()
    found = torch.linalg.eigvalsh(root.T @ between @ root).clamp_min(0)
    p = found / found.sum().clamp_min(torch.finfo(found.dtype).tiny)
    return torch.special.entr(p).sum().exp().item()


def collapse_in_words(x: Tensor) -> str:
    """What is wrong with the spread of `x: [n, d]`, in words; "" where nothing is.

    Args:
        x: Embeddings `[n, d]`.
    """
    spread = x.double().std(0)
    constant = int((spread <= 1e-6 * spread.max().clamp_min(1e-30)).sum())
    if constant == x.shape[1] or float(spread.max()) == 0:
        return "collapsed: every sample has the same representation"
    rank, most = effective_rank(x), min(len(x) - 1, x.shape[1])
    words = [f"{constant} of {x.shape[1]} dimensions are constant"] if constant else []
    if most >= 4 and rank < 2:
        words.append(f"collapsed to a line: effective rank {rank:.1f} of at most {most}")
    elif rank < 0.05 * most:
        words.append(f"dimensional collapse: effective rank {rank:.1f} of at most {most}")
    return "; ".join(words)


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
