"""Objectives that spread embeddings by a function of their second moments: TiCo, MMCR, EMP-SSL's coding rate.

What they have to do with mutual information: each is a term for the entropy H(Z) beside one for agreement, as in
I(X; Y) >= H(Y) + E[log q(y | x)]. The coding rate is a Gaussian's entropy up to constants, at a resolution; the nuclear
norm bounds the same spread (Schaeffer et al. 2024, arXiv:2406.09366, on MMCR). None is an estimate.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_mi.objectives.objective import Loss, Objective, crossings, need_views


class TiCo(Objective):
    """Transformation invariance and covariance contrast: Zhu et al. 2022 (arXiv:2206.10698), section 3.

        C_t  = memory C_(t-1) + (1 - memory) E[x x^T]
        loss = - E[<x, y>] + contrast E[x^T C_t x]

    on unit vectors, x of the online towers and y of the teacher. The gradient passes this step's part of C_t; the past
    is held. Minus the first term is minus the squared distance, halved, up to a constant.
    """

    name = "tico"
    information = "no estimate: a penalty on the second moments of the embeddings"

    def __init__(self, dim: int, memory: float = 0.9, contrast: float = 8.0) -> None:
        super().__init__()
        if not 0 <= memory < 1:
            raise ValueError(f"TiCo: memory must lie in [0, 1), got {memory}")
        self.memory, self.contrast = memory, contrast
        self.register_buffer("moments", torch.zeros(dim, dim))

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        met = crossings([normalize(z, dim=1) for z in online], [normalize(z.detach(), dim=1) for z in target])
        now = sum(x.T @ x / x.shape[0] for x, _ in met) / len(met)
        moments = self.memory * self.moments.to(now.dtype) + (1 - self.memory) * now
        agree = sum((x * y).sum(1).mean() for x, y in met) / len(met)
        spread = sum(((x @ moments) * x).sum(1).mean() for x, _ in met) / len(met)
        if self.training:
            self.moments.copy_(moments.detach())
        return Loss({"invariance": -agree, "covariance": self.contrast * spread}, {})


class MMCR(Objective):
    """Maximum manifold capacity: Yerxa et al. 2023 (arXiv:2303.03307), its global term alone.

        loss = - |C|_*,   C [n, d] the mean over views of the unit embeddings

    The nuclear norm is the sum of singular values: large when an image's views agree (rows of C are long) and
    different images do not (its singular values are alike). At best it is sqrt(n min(n, d)).
    """

    name = "mmcr"
    teacher = "unused"
    information = "no estimate: the nuclear norm of the images' mean embeddings"

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        need_views(online)
        centroids = torch.stack([normalize(z, dim=1) for z in online]).mean(0)
        return Loss({self.name: -torch.linalg.svdvals(centroids).sum()}, {})


class CodingRate(Objective):
    """EMP-SSL: Tong et al. 2023 (arXiv:2304.03977).

        R(Z) = 1/2 log det(1 + d / (n distortion) Z^T Z)
        loss = - mean over views R(Z_v) - invariance mean over views cos(z_v, mean of z)

    on unit vectors, distortion = epsilon^2. R counts the nats a Gaussian code needs for a row at that distortion,
    times a constant: an entropy at a resolution, not a mutual information.
    """

    name = "coding_rate"
    teacher = "unused"
    information = "no estimate: a Gaussian's coding rate stands for the entropy"

    def __init__(self, dim: int, invariance: float = 200.0, distortion: float = 0.2) -> None:
        super().__init__()
        if distortion <= 0:
            raise ValueError(f"CodingRate: distortion must be positive, got {distortion}")
        self.invariance, self.distortion = invariance, distortion

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        need_views(online)
        views = [normalize(z, dim=1) for z in online]
        centre = normalize(torch.stack(views).mean(0), dim=1)
        rate = sum(self._rate(z) for z in views) / len(views)
        agree = sum((z * centre).sum(1).mean() for z in views) / len(views)
        return Loss({"rate": -rate, "invariance": -self.invariance * agree}, {})

    def _rate(self, z: Tensor) -> Tensor:
        n, d = z.shape
        # The smaller of the two Gram matrices has the same determinant.
        gram = z.T @ z if d <= n else z @ z.T
        inner = torch.eye(len(gram), dtype=z.dtype, device=z.device) + d / (n * self.distortion) * gram
        return torch.linalg.cholesky(inner).diagonal().log().sum()
