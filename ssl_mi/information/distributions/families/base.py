"""What a distribution offers, the product of several, and the checks and algebra that families share."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np


class Distribution(Protocol):
    """A pair (X, Y) that can be sampled and whose mutual information is known."""

    @property
    def dim_x(self) -> int:
        """Coordinates of X."""
        ...

    @property
    def dim_y(self) -> int:
        """Coordinates of Y."""
        ...

    @property
    def mi(self) -> float:
        """I(X; Y) in nats, exact."""
        ...

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """n independent pairs: float64 [n, dim_x] and [n, dim_y]."""
        ...


class Product:
    """Independent pairs side by side: X = (X_1, X_2, ...), Y = (Y_1, Y_2, ...), I(X; Y) = sum of I(X_k; Y_k).

    Example:
        >>> from ssl_mi.information.distributions import MultiplicativeUniform
        >>> round(Product(MultiplicativeUniform(), MultiplicativeUniform()).mi, 4)  # twice Euler's constant
        1.1544
    """

    def __init__(self, *parts: Distribution) -> None:
        if not parts:
            raise ValueError("Product needs at least one distribution")
        self.parts = parts
        self.dim_x = sum(part.dim_x for part in parts)
        self.dim_y = sum(part.dim_y for part in parts)

    @property
    def mi(self) -> float:
        return sum(part.mi for part in self.parts)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        xs, ys = zip(*(part.sample(n, rng) for part in self.parts), strict=True)
        return np.hstack(xs), np.hstack(ys)


def check_count(n: int) -> int:
    """n, or ValueError below 1."""
    if n < 1:
        raise ValueError(f"n must be at least 1 sample, got {n}")
    return n


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless the value is positive and finite."""
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def check_dispersion(name: str, matrix: np.ndarray, dim_x: int) -> None:
    """Raise ValueError unless the matrix is a covariance of dim_x and at least one more coordinates."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
    if not 1 <= dim_x < len(matrix):
        raise ValueError(f"dim_x must leave both X and Y a coordinate of the {len(matrix)}, got {dim_x}")
    if not np.allclose(matrix, matrix.T):
        raise ValueError(f"{name} must be symmetric, got {matrix}")
    smallest = np.linalg.eigvalsh(matrix)[0]
    if smallest <= 0:
        raise ValueError(f"{name} must be positive definite, its smallest eigenvalue is {smallest:.3g}")


def log_det_mi(dispersion: np.ndarray, dim_x: int) -> float:
    """(log det C_xx + log det C_yy - log det C) / 2, in nats."""
    # From the singular values of the whitened cross block (the canonical correlations): unlike a difference
    # of log-determinants it is exactly zero for independent blocks and keeps digits when rho is near one.
    l_x = np.linalg.cholesky(dispersion[:dim_x, :dim_x])
    l_y = np.linalg.cholesky(dispersion[dim_x:, dim_x:])
    cross = np.linalg.solve(l_y, np.linalg.solve(l_x, dispersion[:dim_x, dim_x:]).T)
    rho = np.linalg.svd(cross, compute_uv=False)
    return float(-np.sum(np.log1p(-(rho**2))) / 2) + 0.0


def quadratic(z: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """z' C^{-1} z per row: [n]."""
    return np.sum(np.linalg.solve(np.linalg.cholesky(dispersion), z.T) ** 2, axis=0)


def split_columns(z: np.ndarray, dim_x: int) -> tuple[np.ndarray, np.ndarray]:
    """[n, d] -> [n, dim_x], [n, d - dim_x]."""
    return np.ascontiguousarray(z[:, :dim_x]), np.ascontiguousarray(z[:, dim_x:])
