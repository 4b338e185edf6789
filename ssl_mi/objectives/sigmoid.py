"""SigLIP: each pair is judged by itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssl_mi.information.variational.bounds import NWJ, pairs, softplus
from ssl_mi.information.variational.critics import Cosine
from ssl_mi.objectives.objective import Loss, Objective, Reading, view_pairs


class SigLIP(Objective):
    """Zhai et al. 2023 (arXiv:2303.15343), section 3.2: a logistic loss for each of the n^2 pairs.

        loss = -1/n sum_i sum_j log sigmoid( s_ij (<x_i, y_j> / t + b) ),    s = 1 where i = j, else -1

    on unit vectors, with temperature t and bias b learned. b starts at -10 because all but one pair in n are negative.

    Mutual information: this is noise-contrastive estimation with n - 1 false pairs for a true one, so the best logit is
    log r - log(n - 1), r = p(x, y) / (p(x) p(y)). The logit plus log(n - 1) is a critic that aims at log r; one more
    than it, in NWJ, reads a lower bound for *any* critic, with no ceiling of log n: that is what `read` returns.
    Its variance grows like e^I.
    """

    name = "siglip"

    def __init__(self, dim: int, temperature: float = 0.1, bias: float = -10.0) -> None:
        super().__init__()
        self.critic = Cosine(temperature, learned=True)
        self.bias = nn.Parameter(torch.tensor(float(bias)))
        self.bound = NWJ()

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        met = view_pairs(online, target)
        parts = [pairs(self.critic(x, y) + self.bias) for x, y in met]
        terms = [(softplus(-joint) + softplus(marginal).sum(1)).mean() for joint, marginal in parts]
        with torch.no_grad():
            value = sum(self._bound(*part) for part in parts) / len(met)
        return Loss({self.name: sum(terms) / len(met)}, {"bound_nats": value})

    def _bound(self, joint: Tensor, marginal: Tensor) -> Tensor:
        shift = math.log(marginal.shape[1]) + self.bound.offset
        return self.bound(joint + shift, marginal + shift)

    @torch.no_grad()
    def read(self, x: Tensor, y: Tensor, rows: int) -> Reading:
        rows = min(rows, len(x))
        starts = range(0, len(x) - rows + 1, rows)
        parts = [pairs(self.critic(x[s : s + rows].float(), y[s : s + rows].float()) + self.bias) for s in starts]
        joint, marginal = (torch.cat(part) for part in zip(*parts, strict=True))
        return Reading(self._bound(joint, marginal).item(), self.bound.kind, math.inf, rows - 1)

    def facts(self, rows: int) -> dict[str, str]:
        ceiling = "none (NWJ on the logits); its variance grows like exp(I)"
        return {"negatives": str(rows - 1), "bound's ceiling": ceiling}
