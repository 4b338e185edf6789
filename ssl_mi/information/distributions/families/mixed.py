"""Symbols or counts on one side, numbers on the other.

References:
    Gao, Kannan, Oh & Viswanath 2017, arXiv:1709.06212.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import integrate, special

from ssl_mi.information.distributions.families.base import check_count, check_positive


@dataclass(frozen=True)
class BernoulliGaussian:
    """X a fair bit, Y = X + N(0, sigma^2): I = log 2 - E log(1 + exp(-(1 + 2 sigma Z) / (2 sigma^2))).

    The expectation over Z ~ N(0, 1) is a smooth one-dimensional integral, taken by quadrature to 1e-12.

    Args:
        sigma: standard deviation of the noise, positive.

    Example:
        >>> round(BernoulliGaussian(0.01).mi, 4)  # log(2): hardly any noise
        0.6931
    """

    sigma: float
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)

    @cached_property
    def mi(self) -> float:
        s = self.sigma

        def lost(z: float) -> float:
            return math.exp(-(z**2) / 2) * np.logaddexp(0, -(1 + 2 * s * z) / (2 * s**2))

        middle = -1 / (2 * s)  # the softplus bends here; a hint for the quadrature
        halves = [(-40.0, middle), (middle, 40.0)] if middle > -40 else [(-40.0, 40.0)]
        total = sum(integrate.quad(lost, a, b, epsabs=1e-13, epsrel=1e-12, limit=200)[0] for a, b in halves)
        return math.log(2) - total / math.sqrt(2 * math.pi)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.integers(2, size=(check_count(n), 1)).astype(float)
        return x, x + self.sigma * rng.standard_normal((n, 1))

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # p(y | other bit) / p(y | this bit) = exp(((y - x)^2 - (y - (1 - x))^2) / 2 sigma^2).
        odds = ((y - x) ** 2 - (y - 1 + x) ** 2) / (2 * self.sigma**2)
        return math.log(2) - np.logaddexp(0, odds)[:, 0]


@dataclass(frozen=True)
class GaoMixed:
    """X uniform on {0..symbols-1}, Y | X ~ U(X, X + 2): I = log m - (m - 1) log(2) / m  (Gao et al. 2017).

    Args:
        symbols: m, at least 1.

    Example:
        >>> round(GaoMixed(symbols=5).mi, 4)  # log(5) - (4 / 5) log(2)
        1.0549
    """

    symbols: int = 5
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        if self.symbols < 1:
            raise ValueError(f"symbols must be at least 1, got {self.symbols}")

    @property
    def mi(self) -> float:
        m = self.symbols
        return math.log(m) - (m - 1) * math.log(2) / m

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.integers(self.symbols, size=(check_count(n), 1)).astype(float)
        return x, x + rng.uniform(0, 2, size=(n, 1))

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # p(y | x) = 1/2 and p(y) = (how many symbols reach y) / 2m: one at both ends, two in between.
        cell = np.floor(y[:, 0])
        reaching = np.where((cell == 0) | (cell >= self.symbols), 1, 2)
        return np.log(self.symbols / reaching)


@dataclass(frozen=True)
class ZeroInflatedPoisson:
    """X ~ Exp(1); Y = 0 with probability `zero`, else Y ~ Poisson(X): continuous x, counts y.

    I is summed exactly over y. (Gao et al. 2017 give (1 - zero) 0.3012; that holds at zero = 0 only: the
    surplus zeros also blur the zeros of the Poisson.)

    Args:
        zero: probability of a surplus zero, in [0, 1).
    """

    zero: float = 0.15
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        if not 0 <= self.zero < 1:
            raise ValueError(f"zero must lie in [0, 1), got {self.zero}")

    @cached_property
    def mi(self) -> float:
        p = self.zero
        # y = 0: with v = P(0 | x) = p + (1 - p) e^{-x} the integral is that of v log(v / P(0)) over (p, 1).
        log_p0 = math.log(p + (1 - p) / 2)
        primitive_at_p = p**2 / 2 * math.log(p) - p**2 / 4 if p > 0 else 0.0
        at_zero = (-0.25 - primitive_at_p - log_p0 * (1 - p**2) / 2) / (1 - p)
        # y = k > 0: x has the Gamma(k + 1, rate 2) law given k, and P(k) = (1 - p) 2^-(k+1).
        k = np.arange(1, 200)
        log2 = math.log(2)
        inner = k * (special.digamma(k + 1) - log2) - (k + 1) / 2 - special.gammaln(k + 1) + (k + 1) * log2
        return at_zero + (1 - p) * float(np.sum(2.0 ** -(k + 1) * inner))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.exponential(size=(check_count(n), 1))
        return x, rng.poisson(x) * (rng.uniform(size=(n, 1)) >= self.zero).astype(float)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        p, x, y = self.zero, x[:, 0], y[:, 0]
        at_zero = np.log((p + (1 - p) * np.exp(-x)) / (p + (1 - p) / 2))
        return np.where(y == 0, at_zero, special.xlogy(y, x) - x - special.gammaln(y + 1) + (y + 1) * math.log(2))
