"""W-MSE: agreement of whitened embeddings, which cannot collapse."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ssl_mi.objectives.objective import Loss, sum_of, view_pairs
from ssl_mi.objectives.stepped import SteppedObjective


class WMSE(SteppedObjective):
    """W-MSE: whitening, then agreement.

        loss = mean of 2 - 2 cos(W_x (x - mean x), W_y (y - mean y)),   W^T W = Cov^-1

    Each view is whitened by the Cholesky factor L of its own covariance, W = L^-1, with Cov over n - 1 shrunk to
    (1 - shrinkage) Cov + shrinkage 1. Whitening a batch in parts keeps more of its spread: the rows are shuffled and
    divided into n / size parts, rounded, of equal size up to one row. The shuffle depends on the number of the step
    alone, so that several processes and a resumed run divide identically. Parts of fewer rows than twice the width
    whiten badly.

    Relation to mutual information: no estimate. Whitening fixes the second moments of Z, a Gaussian proxy of H(Z).

    Args:
        dim: Width d of an embedding; only checked.
        size: Rows that are whitened together.
        shrinkage: Towards the identity, in (0, 1).

    Raises:
        ValueError: If a number is out of range, or if there are fewer than 2 views.

    References:
        Ermolov et al. 2021 (arXiv:2007.06346), section 3.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import WMSE
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(WMSE(size=4)([z, z]).total.abs()), 4)  # equal views whiten to equal rows
        0.0
    """

    name = "w_mse"
    information = "no estimate: second moments are fixed and views drawn together"

    def __init__(self, dim: int | None = None, size: int = 128, shrinkage: float = 1e-3) -> None:
        super().__init__()
        if size < 2 or not 0 < shrinkage < 1:
            raise ValueError(f"WMSE: needs size >= 2 and a shrinkage in (0, 1), got {size} and {shrinkage}")
        self.size, self.shrinkage = size, shrinkage
        self.build(dim)

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        n = online[0].shape[0]
        order = torch.randperm(n, generator=torch.Generator().manual_seed(self.step)).to(online[0].device)
        parts = order.tensor_split(max(1, round(n / self.size)))
        met = [(x[rows], y[rows]) for x, y in view_pairs(online, target) for rows in parts]
        # Weighted by rows: parts may differ by one.
        near = sum_of([len(x) * cosine_similarity(self._white(x), self._white(y), dim=1).mean() for x, y in met])
        if self.training:
            self.count_step()
        return Loss({self.name: 2 - 2 * near / sum(len(x) for x, _ in met)}, {})

    def _white(self, x: Tensor) -> Tensor:
        centred = x - x.mean(0)
        covariance = centred.T @ centred / (len(x) - 1)
        identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        factor = torch.linalg.cholesky((1 - self.shrinkage) * covariance + self.shrinkage * identity)
        return torch.linalg.solve_triangular(factor, centred.T, upper=False).T
