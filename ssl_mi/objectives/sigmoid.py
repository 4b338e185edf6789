"""SigLIP: a logistic loss for each pair."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssl_mi.information.variational.bounds import NWJ, pairs, softplus
from ssl_mi.information.variational.critics import Cosine
from ssl_mi.objectives.objective import HeldOutBound, Loss, Objective, mean_of, view_pairs


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

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        met = view_pairs(online, target)
        parts = [pairs(self.critic(x, y) + self.bias) for x, y in met]
        terms = [(softplus(-joint) + softplus(marginal).sum(1)).mean() for joint, marginal in parts]
        with torch.no_grad():
            value = mean_of([self._bound(*part) for part in parts])
        return Loss({self.name: mean_of(terms)}, {"bound_nats": value})

    def _bound(self, joint: Tensor, marginal: Tensor) -> Tensor:
        shift = math.log(marginal.shape[1]) + self.bound.offset
        return self.bound(joint + shift, marginal + shift)

    @torch.no_grad()
    def estimate(self, x: Tensor, y: Tensor, rows: int) -> HeldOutBound:
        rows = min(rows, len(x))
        starts = range(0, len(x) - rows + 1, rows)
        parts = [pairs(self.critic(x[s : s + rows].float(), y[s : s + rows].float()) + self.bias) for s in starts]
        joint, marginal = (torch.cat(part) for part in zip(*parts, strict=True))
        return HeldOutBound(self._bound(joint, marginal).item(), self.bound.kind, math.inf, rows - 1)

    def facts(self, rows: int) -> dict[str, str]:
        ceiling = "none (NWJ on the logits); its variance grows like exp(I)"
        return {"negatives": str(rows - 1), "bound's ceiling": ceiling}
