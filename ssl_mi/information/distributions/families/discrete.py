"""Symbols on both sides."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from ssl_mi.information.distributions.families.base import check_count


@dataclass(frozen=True)
class SymmetricChannel:
    """X uniform on {0..classes-1}; Y = X, but with probability `error` one of the other symbols.

    I = log K - H(error) - error log(K - 1); K = 2 is the binary symmetric channel (`error` = crossover).

    Args:
        error: probability of another symbol, in [0, 1].
        classes: number of symbols K, at least 2.

    Example:
        >>> round(SymmetricChannel(0.0, classes=10).mi, 4)  # log(10)
        2.3026
    """

    error: float
    classes: int = 2
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ValueError(f"classes must be at least 2, got {self.classes}")
        if not 0 <= self.error <= 1:
            raise ValueError(f"error must be a probability, got {self.error}")

    @property
    def mi(self) -> float:
        e, k = self.error, self.classes
        return float(math.log(k) - special.entr(e) - special.entr(1 - e) - e * math.log(k - 1))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.integers(self.classes, size=(check_count(n), 1))
        shift = rng.integers(1, self.classes, size=(n, 1)) * (rng.uniform(size=(n, 1)) < self.error)
        return x.astype(float), ((x + shift) % self.classes).astype(float)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        e, k = self.error, self.classes
        with np.errstate(divide="ignore"):  # an impossible pair has log ratio -inf
            other_same = np.log(np.array([k * e / (k - 1), k * (1 - e)]))
        return other_same[(x[:, 0] == y[:, 0]).astype(np.int64)]


def binary_symmetric_channel(crossover: float) -> SymmetricChannel:
    """A fair bit, flipped with probability `crossover`: I = log 2 - H(crossover).

    Args:
        crossover: probability of a flip, in [0, 1].

    Example:
        >>> round(binary_symmetric_channel(0.0).mi, 4)  # log(2)
        0.6931
    """
    return SymmetricChannel(crossover, classes=2)
