"""SigLIP: a logistic loss for each pair."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssl_mi.information.variational.bounds import NWJ, pairs, softplus
from ssl_mi.information.variational.critics import Cosine, score_factors
from ssl_mi.objectives.objective import HeldOutBound, Loss, Objective, mean_of, view_pairs
from ssl_mi.objectives.score_tiles import KEPT
from ssl_mi.objectives.tiles import ends, row_products, softplus_sums


class SigLIP(Objective):
    """SigLIP: a logistic loss for each of the n^2 pairs.

        loss = -1/n sum_i sum_j log sigmoid( s_ij (<x_i, y_j> / t + b) ),    s = 1 where i = j, else -1

    on unit vectors, with learned temperature t and bias b. b starts at -10 because all but one pair in n are negative.

    Relation to mutual information: this is noise-contrastive estimation with n - 1 negative pairs per positive one, so
    the optimal logit is log r - log(n - 1), r = p(x, y) / (p(x) p(y)). The logit plus log(n - 1) is a critic that
    approximates log r. NWJ with this critic plus one is a lower bound for *any* critic, without the ceiling log n: this
    is what `estimate` returns. Its variance grows like e^I.

    Args:
        dim: Width d of an embedding; only checked.
        temperature: The initial t.
        bias: The initial b.

    Raises:
        ValueError: If `temperature` is below 0.01, or if there are fewer than 2 views.

    References:
        Zhai et al. 2023 (arXiv:2303.15343), section 3.2.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import SigLIP
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> objective = SigLIP(temperature=0.1, bias=-10.0)
        >>> round(float(objective([z, z]).total.detach()), 4)  # log(1 + e^0) + 3 log(1 + e^-10)
        0.6933
    """

    name = "siglip"

    def __init__(self, dim: int | None = None, temperature: float = 0.1, bias: float = -10.0) -> None:
        super().__init__()
        self.critic = Cosine(temperature, learned=True)
        self.bias = nn.Parameter(torch.tensor(float(bias)))
        self.bound = NWJ()
        self.build(dim)

    def can_shard(self) -> bool:
        return True

    def forward(self, online: list[Tensor], target: list[Tensor], rows: slice | None = None) -> Loss:
        parts = [self._parts(x, y, rows) for x, y in view_pairs(online, target)]
        terms = [(softplus(-joint) + repelled).mean() for joint, repelled, _ in parts]
        with torch.no_grad():
            value = mean_of([self._bound(joint, logs, len(online[0]) - 1) for joint, _, logs in parts])
        return Loss({self.name: mean_of(terms)}, {"bound_nats": value})

    def _parts(self, x: Tensor, y: Tensor, rows: slice | None) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of true pairs; of the others of each row the sum of softplus, and the log sum without gradient."""
        factors = score_factors(self.critic, x, y) if rows is not None or len(x) ** 2 > KEPT else None
        if factors is None:
            joint, marginal = pairs(self.critic(x, y) + self.bias)
            mine = slice(None) if rows is None else rows
            return joint[mine], softplus(marginal).sum(1)[mine], marginal.detach().logsumexp(1)[mine]
        left, right = factors
        first, last = ends(rows, len(x))
        joint = row_products(left[first:last], right[first:last]) + self.bias
        return joint, *softplus_sums(left[first:last], right, self.bias, (first,))

    def _bound(self, joint: Tensor, log_sums: Tensor, k: int) -> Tensor:
        shift = math.log(k) + self.bound.offset
        return self.bound.from_log_sums(joint + shift, log_sums + shift, k)

    @torch.no_grad()
    def estimate(self, x: Tensor, y: Tensor, rows: int) -> HeldOutBound:
        rows = min(rows, len(x))
        starts = range(0, len(x) - rows + 1, rows)
        parts = [self._parts(x[s : s + rows].float(), y[s : s + rows].float(), None) for s in starts]
        joint, _, logs = (torch.cat(part) for part in zip(*parts, strict=True))
        return HeldOutBound(self._bound(joint, logs, rows - 1).item(), self.bound.kind, math.inf, rows - 1)

    def facts(self, rows: int) -> dict[str, str]:
        ceiling = "none (NWJ on the logits); its variance grows like exp(I)"
        return {"negatives": str(rows - 1), "bound's ceiling": ceiling}
