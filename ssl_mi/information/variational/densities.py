"""Learned densities: autoregressive mixtures of Gaussians, which are flows to the standard normal as well.

    q(y | c) = prod_i sum_k w_ik N(y_i; mu_ik, sigma_ik),       w, mu, sigma functions of the context c and of y_<i

The parameters come from masked networks (Uria et al. 2016, arXiv 1605.02226; masks as in Germain et al. 2015, arXiv
1502.03509). With F_i the distribution function of factor i, z_i = Phi^-1(F_i(y_i)) is standard normal under q, and
y -> z is invertible with a triangular Jacobian: a masked autoregressive flow (Papamakarios et al. 2017, arXiv
1705.07057) whose monotone maps are the distribution functions of mixtures (as in Ho et al. 2019, arXiv 1902.00275,
section 3.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor, nn
from torch.nn.functional import linear

from ssl_mi.information.variational.critics import mlp

# A floor on the scale keeps one row from buying an infinite likelihood; e^-7 is far below N(0, 1) margins.
FLOOR = -7.0
SPREAD = 0.5  # of the components at the start: equal ones would stay equal


@dataclass(frozen=True)
class Mixture:
    """The size of a density.

    Args:
        hidden: width of its networks.
        components: Gaussians of each factor.
    """

    hidden: int = 128
    components: int = 4

    def density(self, dim: int, context_dim: int = 0) -> AutoregressiveMixture:
        """A density of that size for y [..., dim], given [..., context_dim]."""
        return AutoregressiveMixture(dim, context_dim, self.hidden, self.components)


class AutoregressiveMixture(nn.Module):
    """log q(y | context) in nats. Begins as the standard normal, whatever the context.

    Args:
        dim: columns of y.
        context_dim: columns of the context; 0 for none.
        hidden, components: see `Mixture`.
    """

    def __init__(self, dim: int, context_dim: int = 0, hidden: int = 128, components: int = 4) -> None:
        super().__init__()
        self.dim, self.components = dim, components
        # The order of a unit is how many coordinates of y it may see; y_i itself, counted from 1, has order i.
        of_input = torch.arange(1, dim + 1)
        of_hidden = torch.arange(hidden) % dim
        of_output = torch.arange(dim).repeat_interleave(3 * components)
        self.first = _Masked(dim, hidden, of_hidden[:, None] >= of_input)
        self.second = _Masked(hidden, hidden, of_hidden[:, None] >= of_hidden)
        self.last = _Masked(hidden, 3 * dim * components, of_output[:, None] >= of_hidden)
        # A straight path for the linear part of the conditional means.
        self.straight = _Masked(dim, dim, torch.arange(dim)[:, None] >= of_input)
        self.context: nn.Sequential | None = None
        zeros: list[nn.Linear] = [self.last, self.straight]
        if context_dim:
            self.context = mlp([context_dim, hidden, hidden])
            self.to_first = nn.Linear(hidden, hidden, bias=False)
            self.to_last = nn.Linear(hidden, 3 * dim * components, bias=False)
            self.to_straight = nn.Linear(context_dim, dim, bias=False)
            zeros += [self.to_first, self.to_last, self.to_straight]
        with torch.no_grad():
            for layer in zeros:
                layer.weight.zero_()
            self.last.bias.zero_()
            self.straight.bias.zero_()
            if components > 1:
                # Means apart and scales smaller by as much: the mixture has variance 1 and is normal to 1e-4 nats.
                means = torch.linspace(-SPREAD, SPREAD, components)
                bias = self.last.bias.view(dim, components, 3)
                bias[..., 1] = means
                bias[..., 2] = 0.5 * math.log(1 - float((means**2).mean()))

    def factors(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """log w, (y_i - mu) / sigma and log sigma of every component: three times [..., dim, components]."""
        h, straight = self.first(y), self.straight(y)
        from_context: Tensor | float = 0.0
        if context is not None:
            if self.context is None:
                raise ValueError("this density was built without a context: pass none, or build it with context_dim")
            c = torch.relu(self.context(context))
            h, straight, from_context = h + self.to_first(c), straight + self.to_straight(context), self.to_last(c)
        h = torch.relu(h)
        h = h + torch.relu(self.second(h))
        parameters = (self.last(h) + from_context).unflatten(-1, (self.dim, self.components, 3))
        logits, means, log_scales = parameters.unbind(-1)
        log_scales = log_scales.clamp(FLOOR, -FLOOR)
        return logits.log_softmax(-1), (y[..., None] - straight[..., None] - means) * torch.exp(-log_scales), log_scales

    def forward(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """y: [..., dim], context: [..., context_dim] or None -> log q [...], nats."""
        log_weights, z, log_scales = self.factors(y, context)
        log_normal = -0.5 * z**2 - log_scales - 0.5 * math.log(2 * math.pi)
        return (log_weights + log_normal).logsumexp(-1).sum(-1)

    @torch.no_grad()
    def to_normal(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """The flow: z_i = Phi^-1(F_i(y_i | y_<i, context)), float64 [..., dim]."""
        log_weights, z, _ = self.factors(y, context)
        log_w, at = log_weights.double().cpu().numpy(), z.double().cpu().numpy()
        # The smaller tail keeps its digits as a logarithm.
        below = special.logsumexp(log_w + special.log_ndtr(at), axis=-1)
        above = special.logsumexp(log_w + special.log_ndtr(-at), axis=-1)
        lower = below < above
        normal = special.ndtri_exp(np.where(lower, below, above))
        return torch.from_numpy(np.where(lower, normal, -normal)).to(y.device)


class _Masked(nn.Linear):
    """A linear layer that sees only what its mask [out, in] lets through."""

    mask: Tensor

    def __init__(self, in_features: int, out_features: int, mask: Tensor) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("mask", mask.float(), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight * self.mask, self.bias)
