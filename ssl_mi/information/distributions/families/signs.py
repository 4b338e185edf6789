"""Dependence that lies in signs alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from ssl_mi.information.distributions.families.base import check_count


@dataclass(frozen=True)
class Parity:
    """X and Y standard normal in `dim` dimensions; the signs of their products agree but for a share `error`.

    The parity of Y is a symmetric channel of that of X, and all else is independent: I = log 2 - H(error).

    Args:
        dim: coordinates of each side, at least 1.
        error: share of the rows whose signs disagree, between 0 and 1.
    """

    dim: int
    error: float

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, got {self.dim}")
        if not 0 <= self.error <= 1:
            raise ValueError(f"error must be a probability, got {self.error}")

    @property
    def dim_x(self) -> int:
        return self.dim

    @property
    def dim_y(self) -> int:
        return self.dim

    @property
    def mi(self) -> float:
        return float(math.log(2) - special.entr(self.error) - special.entr(1 - self.error))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x, y = rng.standard_normal((2, check_count(n), self.dim))
        agree = np.where(rng.uniform(size=n) < self.error, -1.0, 1.0)
        y[:, 0] *= agree * np.sign(np.prod(x, axis=1)) * np.sign(np.prod(y, axis=1))
        return x, y

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        agree = np.prod(x, axis=1) * np.prod(y, axis=1) > 0
        with np.errstate(divide="ignore"):
            wrong, right = np.log(2 * np.array([self.error, 1 - self.error]))
        return np.where(agree, right, wrong)
