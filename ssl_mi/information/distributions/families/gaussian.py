"""Gaussian pairs: I(X; Y) = (log det C_xx + log det C_yy - log det C) / 2.

References:
    Czyz, Grabowski, Vogt, Beerenwinkel & Marx 2023 "Beyond Normal", arXiv:2306.11078, for the dense and sparse forms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ssl_mi.information.distributions.families.base import (
    check_count,
    check_dispersion,
    check_positive,
    log_det_mi,
    quadratic,
    split_columns,
)


@dataclass(frozen=True, eq=False)
class Gaussian:
    """(X, Y) ~ N(0, C): X is the first `dim_x` coordinates, Y the rest.

    I(X; Y) = (log det C_xx + log det C_yy - log det C) / 2.

    Args:
        covariance: C, [dim_x + dim_y, dim_x + dim_y], positive definite.
        dim_x: coordinates of X.
    """

    covariance: np.ndarray
    dim_x: int

    def __post_init__(self) -> None:
        check_dispersion("covariance", self.covariance, self.dim_x)

    @property
    def dim_y(self) -> int:
        return len(self.covariance) - self.dim_x

    @cached_property
    def mi(self) -> float:
        return log_det_mi(self.covariance, self.dim_x)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        z = rng.standard_normal((check_count(n), len(self.covariance))) @ np.linalg.cholesky(self.covariance).T
        return split_columns(z, self.dim_x)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        d = self.dim_x
        q_joint = quadratic(np.hstack([x, y]), self.covariance)
        q_x, q_y = quadratic(x, self.covariance[:d, :d]), quadratic(y, self.covariance[d:, d:])
        return self.mi - (q_joint - q_x - q_y) / 2


def correlated_gaussian(rho: float, dim: int = 1) -> Gaussian:
    """x_i, y_i standard normal with correlation `rho`, pairs independent: I = -dim/2 log(1 - rho^2).

    Args:
        rho: correlation of each pair, strictly between -1 and 1.
        dim: coordinates of each side.

    Example:
        >>> round(correlated_gaussian(0.6).mi, 4)  # -log(1 - 0.36) / 2
        0.2231
    """
    return sparse_gaussian(dim, dim, pairs=dim, rho=rho)


def gaussian_with_mi(mi: float, dim: int = 1) -> Gaussian:
    """`correlated_gaussian` whose I(X; Y) is `mi` nats: rho = sqrt(1 - exp(-2 mi / dim)).

    Args:
        mi: I(X; Y), nats, at least 0.
        dim: coordinates of each side.

    Example:
        >>> round(gaussian_with_mi(2.0, dim=3).mi, 4)
        2.0
    """
    if not mi >= 0:
        raise ValueError(f"mi must be at least 0 nats, got {mi}")
    return correlated_gaussian(math.sqrt(-math.expm1(-2 * mi / dim)), dim)


def dense_gaussian(dim_x: int, dim_y: int, rho: float = 0.5) -> Gaussian:
    """Unit variances and the same correlation `rho` between every two of the dim_x + dim_y coordinates.

    Args:
        dim_x: coordinates of X.
        dim_y: coordinates of Y.
        rho: the correlation.

    Example:
        >>> round(dense_gaussian(1, 1, rho=0.6).mi, 4)  # -log(1 - 0.36) / 2
        0.2231
    """
    d = dim_x + dim_y
    return Gaussian(np.full((d, d), rho) + (1 - rho) * np.eye(d), dim_x)


def sparse_gaussian(dim_x: int, dim_y: int, pairs: int = 2, rho: float = 0.8) -> Gaussian:
    """x_i and y_i correlate by `rho` for i < `pairs`, nothing else does: I = -pairs/2 log(1 - rho^2).

    Args:
        dim_x: coordinates of X.
        dim_y: coordinates of Y.
        pairs: coordinates of each side that correlate, at most the smaller of both.
        rho: their correlation, strictly between -1 and 1.

    Raises:
        ValueError: for `pairs` or `rho` out of range.

    Example:
        >>> round(sparse_gaussian(5, 5, pairs=2, rho=0.6).mi, 4)  # -log(1 - 0.36)
        0.4463
    """
    if not 0 <= pairs <= min(dim_x, dim_y):
        raise ValueError(f"pairs must lie between 0 and min(dim_x, dim_y) = {min(dim_x, dim_y)}, got {pairs}")
    if not -1 < rho < 1:
        raise ValueError(f"rho must lie strictly between -1 and 1, got {rho}")
    covariance = np.eye(dim_x + dim_y)
    i = np.arange(pairs)
    covariance[i, dim_x + i] = covariance[dim_x + i, i] = rho
    return Gaussian(covariance, dim_x)


def additive_gaussian(sigma: float, dim: int = 1) -> Gaussian:
    """X ~ N(0, 1) per coordinate, Y = X + sigma N: I = dim/2 log(1 + 1/sigma^2), the Gaussian channel.

    Args:
        sigma: standard deviation of the noise, positive.
        dim: coordinates of each side.

    Example:
        >>> round(additive_gaussian(1.0).mi, 4)  # log(2) / 2
        0.3466
    """
    check_positive("sigma", sigma)
    eye = np.eye(dim)
    return Gaussian(np.block([[eye, eye], [eye, (1 + sigma**2) * eye]]), dim)
