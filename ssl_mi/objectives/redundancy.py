"""Objectives that make two views agree and their coordinates differ from one another.

What they have to do with mutual information: for Gaussian embeddings I(X; Y) is a function of the two covariances
and the cross-covariance, and Barlow Twins' optimum, C = 1, is where it is infinite. VICReg keeps the entropy H(Y) of
I(X; Y) >= H(Y) + E[log q(y | x)] from below by variances and covariances and raises the second term (Shwartz-Ziv
et al. 2023, arXiv:2303.00633). Neither loss is an estimate or a bound.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from ssl_mi.objectives.objective import Loss, Objective, view_pairs


class BarlowTwins(Objective):
    """The cross-correlation of two views is the identity: Zbontar et al. 2021 (arXiv:2103.03230).

        C_ij = sum_b x_bi y_bj / (|x_.i| |y_.j|)   of centred columns
        loss = scale (sum_i (1 - C_ii)^2 + redundancy sum_i sum_{j != i} C_ij^2)

    redundancy: the paper's lambda. scale: the authors' code multiplies by 0.024, recipes for CIFAR by 0.1.
    Columns are standardised as a batch norm would: variance over n, 1e-5 added, so a dead column correlates with none.
    """

    name = "barlow_twins"
    information = "no estimate: a proxy that wants the cross-correlation to be the identity"

    def __init__(self, dim: int, redundancy: float = 0.0051, scale: float = 0.1) -> None:
        super().__init__()
        self.redundancy, self.scale = redundancy, scale

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        met = view_pairs(online, target)
        both = [self._terms(x, y) for x, y in met]
        agree, differ = (self.scale * sum(term) / len(met) for term in zip(*both, strict=True))
        return Loss({"invariance": agree, "redundancy": self.redundancy * differ}, {})

    @staticmethod
    def _terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        correlation = _standardised(x).T @ _standardised(y) / x.shape[0]
        own = correlation.diagonal()
        return (1 - own).square().sum(), _off_diagonal(correlation).square().sum()


class VICReg(Objective):
    """Variance, invariance, covariance: Bardes, Ponce & LeCun 2022 (arXiv:2105.04906).

        s(X, Y) = mean over rows and coordinates of (x - y)^2
        v(X)    = mean over coordinates of max(0, 1 - sqrt(var + 1e-4)),   var over n - 1
        c(X)    = sum over i != j of Cov_ij^2, over d
        loss    = invariance s + variance (v(X) + v(Y)) / 2 + covariance (c(X) + c(Y))

    The published weights 25, 25, 1 go with s averaged over coordinates too and with the *mean* of the two v, as in
    the authors' code; the equations as printed have the sums. Code that sums v trains with a variance weight of 50.
    """

    name = "vicreg"
    information = "no estimate: a proxy that keeps variances up and covariances down"

    def __init__(
        self,
        dim: int,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ) -> None:
        super().__init__()
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        met = view_pairs(online, target)
        near = sum(mse_loss(x, y) for x, y in met)
        spread = sum((_hinge(x) + _hinge(y)) / 2 for x, y in met)
        together = sum(self._covariance(x) + self._covariance(y) for x, y in met)
        return Loss(
            {
                "invariance": self.invariance * near / len(met),
                "variance": self.variance * spread / len(met),
                "covariance": self.covariance * together / len(met),
            },
            {},
        )

    def _covariance(self, x: Tensor) -> Tensor:
        centred = x - x.mean(0)
        return _off_diagonal(centred.T @ centred / (x.shape[0] - 1)).square().sum() / x.shape[1]


class VIbCReg(VICReg):
    """VICReg with a covariance term that has no scale: Lee & Aune 2021 (arXiv:2109.00783).

        c(X) = sum over i != j of Corr_ij^2, over d^2

    where Corr is the correlation of the columns. The paper adds iterative normalisation at the end of the projector
    (Huang et al. 2019, arXiv:1904.03441), which is a matter of the towers and not in this loss.
    """

    name = "vibcreg"

    def _covariance(self, x: Tensor) -> Tensor:
        columns = normalize(x - x.mean(0), dim=0)
        return _off_diagonal(columns.T @ columns).square().sum() / x.shape[1] ** 2


def _hinge(x: Tensor) -> Tensor:
    return (1 - (x.var(0) + 1e-4).sqrt()).clamp(min=0).mean()


def _standardised(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return centred * (centred.square().mean(0) + 1e-5).rsqrt()


def _off_diagonal(square: Tensor) -> Tensor:
    return square - torch.diag(square.diagonal())
