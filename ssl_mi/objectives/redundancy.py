"""Objectives that make two views agree and decorrelate their coordinates: Barlow Twins, VICReg, VIbCReg.

Relation to mutual information: for Gaussian embeddings I(X; Y) is a function of the two covariances and the
cross-covariance, and at the optimum of Barlow Twins, C = 1, it is infinite. VICReg keeps the entropy H(Y) of
I(X; Y) >= H(Y) + E[log q(y | x)] up by variances and covariances and maximises the second term (Shwartz-Ziv et al.
2023, arXiv:2303.00633). Neither loss is an estimate or a bound.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from ssl_mi.objectives.objective import Loss, Objective, sum_of, view_pairs


class BarlowTwins(Objective):
    """Barlow Twins: the cross-correlation of two views should be the identity.

        C_ij = sum_b x_bi y_bj / (|x_.i| |y_.j|)   of centred columns
        loss = scale (sum_i (1 - C_ii)^2 + redundancy sum_i sum_{j != i} C_ij^2)

    Columns are standardised as a batch norm does it: variance over n, 1e-5 added, so a constant column is uncorrelated
    with all others.

    Args:
        dim: Width d of an embedding; only checked.
        redundancy: Weight of the off-diagonal terms, the paper's lambda.
        scale: Factor of the whole loss. The authors' code has 0.024, recipes for CIFAR have 0.1.

    Raises:
        ValueError: If there are fewer than 2 views.

    References:
        Zbontar et al. 2021 (arXiv:2103.03230).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import BarlowTwins
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> objective = BarlowTwins(redundancy=0.0051, scale=0.1)
        >>> round(float(objective([z, z]).total), 4)  # 0.1 x 0.0051 x 12 (-1/3)^2
        0.0007
    """

    name = "barlow_twins"
    information = "no estimate: a proxy that wants the cross-correlation to be the identity"

    def __init__(self, dim: int | None = None, redundancy: float = 0.0051, scale: float = 0.1) -> None:
        super().__init__()
        self.redundancy, self.scale = redundancy, scale
        self.build(dim)

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        met = view_pairs(online, target)
        both = [self._terms(x, y) for x, y in met]
        agree, differ = (self.scale * sum_of(term) / len(met) for term in zip(*both, strict=True))
        return Loss({"invariance": agree, "redundancy": self.redundancy * differ}, {})

    @staticmethod
    def _terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        correlation = _standardised(x).T @ _standardised(y) / x.shape[0]
        own = correlation.diagonal()
        return (1 - own).square().sum(), _off_diagonal(correlation).square().sum()


class VarianceCovariance(Objective):
    """What VICReg and its local half share: a weighted sum over pairs of s, v and c, see `VICReg`.

    Args:
        dim: Width d of an embedding; only checked.
        invariance: Weight of s.
        variance: Weight of v.
        covariance: Weight of c.
    """

    information = "no estimate: a proxy that keeps variances up and covariances down"

    def __init__(
        self,
        dim: int | None = None,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ) -> None:
        super().__init__()
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.build(dim)

    def _terms(self, met: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        near = sum_of([mse_loss(x, y) for x, y in met])
        spread = sum_of([(_hinge(x) + _hinge(y)) / 2 for x, y in met])
        covariances = sum_of([self._covariance(x) + self._covariance(y) for x, y in met])
        return {
            "invariance": self.invariance * near / len(met),
            "variance": self.variance * spread / len(met),
            "covariance": self.covariance * covariances / len(met),
        }

    def _covariance(self, x: Tensor) -> Tensor:
        centred = (x - x.mean(0)).movedim(0, -2)  # of pairs of locations [n, k, d]: [k, n, d]
        covariances = centred.mT @ centred / (x.shape[0] - 1)
        return _off_diagonal(covariances).square().sum() / covariances.shape[:-1].numel()


class VICReg(VarianceCovariance):
    """VICReg: variance, invariance, covariance.

        s(X, Y) = mean over rows and coordinates of (x - y)^2
        v(X)    = mean over coordinates of max(0, 1 - sqrt(var + 1e-4)),   var over n - 1
        c(X)    = sum over i != j of Cov_ij^2, over d
        loss    = invariance s + variance (v(X) + v(Y)) / 2 + covariance (c(X) + c(Y))

    The published weights 25, 25, 1 belong to s averaged over coordinates as well and to the *mean* of the two v, as in
    the authors' code; the printed equations have sums. Code that sums v trains with a variance weight of 50.

    Args:
        dim: Width d of an embedding; only checked.
        invariance: Weight of s.
        variance: Weight of v.
        covariance: Weight of c.

    Raises:
        ValueError: If there are fewer than 2 views.

    References:
        Bardes, Ponce & LeCun 2022 (arXiv:2105.04906).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import VICReg
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(VICReg()([z, z]).terms["covariance"]), 4)  # 2 x 12 (-1/12)^2 / 4
        0.0417
    """

    name = "vicreg"

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        return Loss(self._terms(view_pairs(online, target)), {})


class VIbCReg(VICReg):
    """VIbCReg: VICReg with a covariance term that has no scale.

        c(X) = sum over i != j of Corr_ij^2, over d^2

    where Corr is the correlation of the columns. The paper adds iterative normalisation at the end of the projector
    (Huang et al. 2019, arXiv:1904.03441), which belongs to the towers and is not part of this loss.

    Args:
        dim: Width d of an embedding; only checked.
        invariance: Weight of s.
        variance: Weight of v, the mean over the two views; code that adds them up trains with twice this weight.
        covariance: Weight of c.

    Raises:
        ValueError: If there are fewer than 2 views.

    References:
        Lee & Aune 2021 (arXiv:2109.00783).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import VIbCReg
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(VIbCReg()([z, z]).terms["covariance"]), 4)  # 200 x 2 x 12 (-1/3)^2 / 4^2
        33.3333
    """

    name = "vibcreg"

    def __init__(
        self,
        dim: int | None = None,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 200.0,
    ) -> None:
        super().__init__(dim, invariance, variance, covariance)

    def _covariance(self, x: Tensor) -> Tensor:
        columns = normalize(x - x.mean(0), dim=0)
        return _off_diagonal(columns.T @ columns).square().sum() / x.shape[1] ** 2


def _hinge(x: Tensor) -> Tensor:
    return (1 - (x.var(0) + 1e-4).sqrt()).clamp(min=0).mean()


def _standardised(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return centred * (centred.square().mean(0) + 1e-5).rsqrt()


def _off_diagonal(square: Tensor) -> Tensor:
    return square - torch.diag_embed(square.diagonal(dim1=-2, dim2=-1))
