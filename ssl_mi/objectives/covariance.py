"""Objectives that spread embeddings by a function of their second moments: TiCo, MMCR, EMP-SSL's coding rate.

Relation to mutual information: each has a term for the entropy H(Z) and one for agreement, as in
I(X; Y) >= H(Y) + E[log q(y | x)]. The coding rate is the entropy of a Gaussian up to constants, at a resolution; the
nuclear norm bounds the same spread (Schaeffer et al. 2024, arXiv:2406.09366, on MMCR). None is an estimate.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_mi.objectives.objective import Loss, Objective, mean_of, need_views, ordered_pairs


class TiCo(Objective):
    """Transformation invariance and covariance contrast.

        C_t  = memory C_(t-1) + (1 - memory) E[x x^T]
        loss = - E[<x, y>] + contrast E[x^T C_t x]

    on unit vectors, x of the online towers and y of the teacher. The first term is half the squared distance, up to a
    constant.

    The printed equation leaves open whether this step's part of C_t carries a gradient. By default it does not: section
    4 of the paper derives the loss as MoCo with a memory bank of unlimited size, E[x^T C_t x] being the mean of
    <x, key>^2 over all past keys, and the keys of a memory bank are constants; lightly reads the paper's figure in the
    same way (its pull request 1484). `moments_gradient=True` differentiates the equation as it is printed. The value of
    the loss is the same; the gradients are nearly parallel while the embeddings are spread out, and differ (cosine .80)
    close to collapse.

    Args:
        dim: Width d of an embedding; None to build later.
        memory: Decay of the second moments.
        contrast: Weight of the second term (the paper's rho).
        moments_gradient: Whether this step's part of C_t carries a gradient.

    Raises:
        ValueError: If `memory` is not in [0, 1), or if there are fewer than 2 views.

    References:
        Zhu et al. 2022 (arXiv:2206.10698), section 3.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import TiCo
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(TiCo(dim=4)([z, z]).terms["invariance"]), 4)  # minus the mean cosine
        -1.0
    """

    name = "tico"
    information = "no estimate: a penalty on the second moments of the embeddings"

    def __init__(
        self, dim: int | None = None, memory: float = 0.9, contrast: float = 8.0, moments_gradient: bool = False
    ) -> None:
        super().__init__()
        if not 0 <= memory < 1:
            raise ValueError(f"TiCo: memory must lie in [0, 1), got {memory}")
        self.memory, self.contrast, self.moments_gradient = memory, contrast, moments_gradient
        self.build(dim)

    def _make(self, dim: int) -> None:
        self.register_buffer("moments", torch.zeros(dim, dim))

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        met = ordered_pairs([normalize(z, dim=1) for z in online], [normalize(z.detach(), dim=1) for z in target])
        now = mean_of([x.T @ x / x.shape[0] for x, _ in met])
        now = now if self.moments_gradient else now.detach()
        moments = self.memory * self.moments.to(now.dtype) + (1 - self.memory) * now
        agree = mean_of([(x * y).sum(1).mean() for x, y in met])
        spread = mean_of([((x @ moments) * x).sum(1).mean() for x, _ in met])
        if self.training:
            self.moments.copy_(moments.detach())
        return Loss({"invariance": -agree, "covariance": self.contrast * spread}, {})


class MMCR(Objective):
    """Maximum manifold capacity: the global term alone.

        loss = - |C|_*,   C [n, d] the mean over views of the unit embeddings

    The nuclear norm is the sum of the singular values. It is large if the views of an image agree (rows of C are long)
    and different images do not (singular values are equal). Its maximum is sqrt(n min(n, d)).

    Args:
        dim: Width d of an embedding; only checked.

    Raises:
        ValueError: If there are fewer than 2 views.

    References:
        Yerxa et al. 2023 (arXiv:2303.03307).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import MMCR
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(MMCR()([z, z]).total), 4)  # the nuclear norm of the identity
        -4.0
    """

    name = "mmcr"
    teacher = "unused"
    information = "no estimate: the nuclear norm of the images' mean embeddings"

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.build(dim)

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        need_views(online)
        centroids = torch.stack([normalize(z, dim=1) for z in online]).mean(0)
        return Loss({self.name: -torch.linalg.svdvals(centroids).sum()}, {})


class CodingRate(Objective):
    """EMP-SSL: total coding rate and agreement of many crops.

        R(Z) = 1/2 log det(1 + d / (n distortion) Z^T Z)
        loss = - mean over views R(Z_v) - invariance mean over views cos(z_v, mean of z)

    on unit vectors. R is, up to a constant factor, the number of nats that a Gaussian code needs for a row at that
    distortion: an entropy at a resolution, not a mutual information.

    Args:
        dim: Width d of an embedding; only checked.
        invariance: Weight of the agreement.
        distortion: epsilon^2.

    Raises:
        ValueError: If `distortion` is not positive, or if there are fewer than 2 views.

    References:
        Tong et al. 2023 (arXiv:2304.03977).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import CodingRate
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> objective = CodingRate(distortion=0.2)
        >>> round(float(objective([z, z]).terms["rate"]), 4)  # -(1/2) log det(I + 4 / (4 x 0.2) I) = -2 log 6
        -3.5835
    """

    name = "coding_rate"
    teacher = "unused"
    information = "no estimate: a Gaussian's coding rate stands for the entropy"

    def __init__(self, dim: int | None = None, invariance: float = 200.0, distortion: float = 0.2) -> None:
        super().__init__()
        if distortion <= 0:
            raise ValueError(f"CodingRate: distortion must be positive, got {distortion}")
        self.invariance, self.distortion = invariance, distortion
        self.build(dim)

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        need_views(online)
        views = [normalize(z, dim=1) for z in online]
        centre = normalize(torch.stack(views).mean(0), dim=1)
        rate = mean_of([self._rate(z) for z in views])
        agree = mean_of([(z * centre).sum(1).mean() for z in views])
        return Loss({"rate": -rate, "invariance": -self.invariance * agree}, {})

    def _rate(self, z: Tensor) -> Tensor:
        n, d = z.shape
        # The smaller of the two Gram matrices has the same determinant.
        gram = z.T @ z if d <= n else z @ z.T
        inner = torch.eye(len(gram), dtype=z.dtype, device=z.device) + d / (n * self.distortion) * gram
        return torch.linalg.cholesky(inner).diagonal().log().sum()
