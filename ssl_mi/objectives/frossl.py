"""FroSSL: agreement, and Frobenius norms that keep the second moments even."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_mi.objectives.objective import Loss, Objective, need_views, sum_of


class FroSSL(Objective):
    """Frobenius norm minimisation.

        loss = sum over views v of  log |Z_v^T Z_v / d|_F^2  +  invariance V / n |Z_v - mean over views of Z|_F^2

    where the columns of Z_v [n, d] have unit length over the batch, so that Z_v^T Z_v / d has trace 1. The second term
    is V d times the mean square over rows and columns.

    Relation to mutual information: minus the first term is Renyi's entropy of order 2 of the eigenvalues of that
    matrix, which stands for H(Z). No estimate.

    Args:
        dim: Width d of an embedding; only checked.
        invariance: Weight of the second term.

    Raises:
        ValueError: If there are fewer than 2 views.

    References:
        Skean et al. 2024 (arXiv:2310.02903).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import FroSSL
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(FroSSL()([z, z]).total), 4)  # 2 log(4 / 4^2)
        -2.7726
    """

    name = "frossl"
    teacher = "unused"
    information = "no estimate: an entropy of the eigenvalues of the second moments"

    def __init__(self, dim: int | None = None, invariance: float = 1.0) -> None:
        super().__init__()
        self.invariance = invariance
        self.build(dim)

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        need_views(online)
        views = [normalize(z, dim=0) for z in online]
        centre = torch.stack(views).mean(0)
        spread = sum_of([self._log_norm(z) for z in views])
        apart = sum_of([(z - centre).square().sum() for z in views]) * len(views) / len(centre)
        return Loss({"regularisation": spread, "invariance": self.invariance * apart}, {})

    @staticmethod
    def _log_norm(z: Tensor) -> Tensor:
        n, d = z.shape
        gram = z.T @ z if d <= n else z @ z.T  # of the same norm
        return ((gram / d).square().sum() + 1e-12).log()
