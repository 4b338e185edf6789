"""An objective: embeddings of views in, named loss terms out."""

import torch
from torch import Tensor

from ssl_mi.objectives import Loss, Objective, view_pairs


class AlignAndSpread(Objective):
    """Views of one image agree, and embeddings fill all directions.

        loss = E |x - y|^2 / d  -  spread * mean over views of log det(C + eps I) / d

    C is the covariance of the embeddings over the batch. A log-determinant is the entropy of a Gaussian up to a
    constant, so that the second term keeps the entropy of z from collapsing (Ozsoy et al. 2022, arXiv:2209.07999).

    Args:
        dim: Width d of an embedding. The module gives it.
        spread: Weight of the second term.
        eps: Added to the diagonal.
    """

    name = "align_and_spread"

    def __init__(self, dim: int, spread: float = 1.0, eps: float = 1e-3) -> None:
        super().__init__()
        self.dim, self.spread, self.eps = dim, spread, eps

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        """online[v], target[v]: [n, d], one entry a view."""
        apart = [(x - y).square().mean() for x, y in view_pairs(online, target)]
        entropy = [self._log_det(z) for z in online]
        terms = {"align": torch.stack(apart).mean(), "spread": -self.spread * torch.stack(entropy).mean()}
        return Loss(terms, {"log_det": torch.stack(entropy).mean().detach()})

    def _log_det(self, z: Tensor) -> Tensor:
        covariance = torch.cov(z.float().T) + self.eps * torch.eye(self.dim, device=z.device)
        return torch.linalg.slogdet(covariance).logabsdet / self.dim
