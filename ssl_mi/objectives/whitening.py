"""W-MSE: agreement of whitened embeddings, which can not collapse."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ssl_mi.objectives.objective import Loss, view_pairs
from ssl_mi.objectives.stepped import SteppedObjective


class WMSE(SteppedObjective):
    """Ermolov et al. 2021 (arXiv:2007.06346), section 3:

        loss = mean of 2 - 2 cos(W_x (x - mean x), W_y (y - mean y)),   W^T W = Cov^-1

    Each view is whitened by the Cholesky factor L of its own covariance, W = L^-1, with Cov over n - 1 shrunk to
    (1 - shrinkage) Cov + shrinkage 1. Whitening a batch in parts keeps more of its spread: the rows are
    shuffled and cut into n / size parts, rounded, equal up to a row. The shuffle depends on the step alone, so that
    several processes, and a resumed run, cut alike. A part of fewer rows than twice the width whitens badly.

    Mutual information: no estimate. Whitening fixes the second moments of Z, as a Gaussian proxy of keeping H(Z) up.
    """

    name = "w_mse"
    information = "no estimate: second moments are fixed and views drawn together"

    def __init__(self, dim: int, size: int = 128, shrinkage: float = 1e-3) -> None:
        super().__init__()
        if size < 2 or not 0 < shrinkage < 1:
            raise ValueError(f"WMSE: needs size >= 2 and a shrinkage in (0, 1), got {size} and {shrinkage}")
        self.size, self.shrinkage = size, shrinkage

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        n = online[0].shape[0]
        order = torch.randperm(n, generator=torch.Generator().manual_seed(self.step)).to(online[0].device)
        parts = order.tensor_split(max(1, round(n / self.size)))
        met = [(x[rows], y[rows]) for x, y in view_pairs(online, target) for rows in parts]
        # Weighted by rows: parts may differ by one.
        near = sum(len(x) * cosine_similarity(self._white(x), self._white(y), dim=1).mean() for x, y in met)
        if self.training:
            self.count_step()
        return Loss({self.name: 2 - 2 * near / sum(len(x) for x, _ in met)}, {})

    def _white(self, x: Tensor) -> Tensor:
        centred = x - x.mean(0)
        covariance = centred.T @ centred / (len(x) - 1)
        identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        factor = torch.linalg.cholesky((1 - self.shrinkage) * covariance + self.shrinkage * identity)
        return torch.linalg.solve_triangular(factor, centred.T, upper=False).T
