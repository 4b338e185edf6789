"""Counts, labels, and numbers that are often zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special, stats

from ssl_mi.information.distributions.families.base import check_count, check_positive
from ssl_mi.information.distributions.families.mixture import GaussianMixture

Draw = Callable[[int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class GammaPoisson:
    """X ~ Gamma(shape) with mean `mean`, Y ~ Poisson(X): I = H(Y) - E[H(Y | X)], Y negative binomial.

    Args:
        mean: of X and of Y.
        shape: of the gamma distribution.
    """

    mean: float
    shape: float
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        check_positive("mean", self.mean)
        check_positive("shape", self.shape)

    @cached_property
    def mi(self) -> float:
        # E log p(y|x) = E[y log x - x - log y!], with x given y ~ Gamma(shape + y, 1 + shape / mean).
        y = np.arange(int(self.mean + 60 * math.sqrt(self.mean + self.mean**2 / self.shape)) + 60)
        log_p = self._log_marginal(y)
        rate = self.shape / self.mean
        log_x = special.digamma(self.shape + y) - math.log1p(rate)
        given_x = y * log_x - (self.shape + y) / (1 + rate) - special.gammaln(y + 1)
        return float(np.exp(log_p) @ (given_x - log_p))

    def _log_marginal(self, y: np.ndarray) -> np.ndarray:
        return stats.nbinom.logpmf(y, self.shape, self.shape / (self.shape + self.mean))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.gamma(self.shape, self.mean / self.shape, size=(check_count(n), 1))
        return x, rng.poisson(x).astype(float)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        a, b = x[:, 0], y[:, 0]
        return special.xlogy(b, a) - a - special.gammaln(b + 1) - self._log_marginal(b)


@dataclass(frozen=True)
class SharedPoisson:
    """X = C + A, Y = C + B with C, A and B independent Poisson counts: counts on both sides.

    Args:
        common: mean of C, positive.
        own: mean of A and of B, positive.
    """

    common: float
    own: float
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        check_positive("common", self.common)
        check_positive("own", self.own)

    @cached_property
    def _table(self) -> np.ndarray:
        top = int(self.common + self.own + 15 * math.sqrt(self.common + self.own)) + 20
        c, own = (stats.poisson.pmf(np.arange(top), mean) for mean in (self.common, self.own))
        table = np.zeros((top, top))
        for shared in range(top):
            table[shared:, shared:] += c[shared] * np.outer(own[: top - shared], own[: top - shared])
        return table / table.sum()

    @cached_property
    def _log_ratio(self) -> np.ndarray:
        tiny = np.finfo(np.float64).tiny
        apart = np.outer(self._table.sum(1), self._table.sum(0))
        return np.log(np.maximum(self._table, tiny)) - np.log(np.maximum(apart, tiny))

    @cached_property
    def mi(self) -> float:
        return float((self._table * self._log_ratio).sum())

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        common = rng.poisson(self.common, size=(check_count(n), 1))
        x, y = (common + rng.poisson(self.own, size=(n, 1)) for _ in range(2))
        return x.astype(float), y.astype(float)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._log_ratio[x[:, 0].astype(int), y[:, 0].astype(int)]


@dataclass(frozen=True)
class Independent:
    """X and Y independent, each drawn by its own function: I = 0.

    Args:
        draw_x: (n, rng) -> float64 [n, dim_x].
        draw_y: (n, rng) -> float64 [n, dim_y].
        dim_x: coordinates of X.
        dim_y: coordinates of Y.
    """

    draw_x: Draw
    draw_y: Draw
    dim_x: int = 1
    dim_y: int = 1
    mi = 0.0

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return self.draw_x(check_count(n), rng), self.draw_y(n, rng)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.zeros(len(x))


@dataclass(frozen=True, eq=False)
class LabelledClusters:
    """X around the centre of its class, Y the class, a whole number: I(X; class), stored like a mixture's.

    Args:
        mixture: of X in its first coordinates; its Y is not used.
        nats: I(X; class).
    """

    mixture: GaussianMixture
    nats: float
    dim_y = 1

    @property
    def dim_x(self) -> int:
        return self.mixture.dim_x

    @property
    def mi(self) -> float:
        return self.nats

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        label = rng.choice(len(self.mixture.weights), size=check_count(n), p=self.mixture.weights)
        spread = np.sqrt(self.mixture.covariances[0, 0, 0])
        x = self.mixture.means[label, : self.dim_x] + spread * rng.standard_normal((n, self.dim_x))
        return x, label[:, None].astype(float)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        spread = np.sqrt(self.mixture.covariances[0, 0, 0])
        centres = self.mixture.means[:, : self.dim_x]
        terms = np.stack([-np.sum((x - centre) ** 2, axis=1) / (2 * spread**2) for centre in centres], 1)
        label = y[:, 0].astype(int)
        return terms[np.arange(len(x)), label] - special.logsumexp(terms + np.log(self.mixture.weights), axis=1)


@dataclass(frozen=True)
class Rectified:
    """X = max(A - threshold, 0), Y = max(B - threshold, 0), (A, B) normal with correlation rho: atoms at zero.

    I is the quadrature of the log ratio over the four parts: both zero, one zero, none.

    Args:
        rho: correlation of A and B, strictly between -1 and 1.
        threshold: what is subtracted before values below zero become zero.
    """

    rho: float
    threshold: float
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        if not -1 < self.rho < 1:
            raise ValueError(f"rho must lie strictly between -1 and 1, got {self.rho}")

    @cached_property
    def _both_zero(self) -> float:
        """P(A <= t, B <= t): the sum over a of phi(a) Phi((t - rho a) / sqrt(1 - rho^2))."""
        a = np.linspace(-9.0, self.threshold, 20_001)
        below = np.exp(-(a**2) / 2) / math.sqrt(2 * math.pi) * self._zero_given(a)
        return float(np.trapezoid(below, a))

    def _zero_given(self, a: np.ndarray) -> np.ndarray:
        return special.ndtr((self.threshold - self.rho * a) / math.sqrt(1 - self.rho**2))

    @cached_property
    def mi(self) -> float:
        zero = special.ndtr(self.threshold)
        a = np.linspace(self.threshold, max(self.threshold + 1, 9.0), 4001)
        density = np.exp(-(a**2) / 2) / math.sqrt(2 * math.pi)
        given = self._zero_given(a)
        one = np.trapezoid(density * special.xlogy(given, given / zero), a)
        ratio = self._gaussian_ratio(a[:, None], a[None, :])
        none = np.trapezoid(np.trapezoid(density[:, None] * density * np.exp(ratio) * ratio, a), a)
        return float(self._both_zero * math.log(self._both_zero / zero**2) + 2 * one + none)

    def _gaussian_ratio(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        r2 = self.rho**2
        return -math.log1p(-r2) / 2 - (r2 * (a**2 + b**2) - 2 * self.rho * a * b) / (2 * (1 - r2))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        a = rng.standard_normal((check_count(n), 1))
        b = self.rho * a + math.sqrt(1 - self.rho**2) * rng.standard_normal((n, 1))
        return np.maximum(a - self.threshold, 0), np.maximum(b - self.threshold, 0)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        zero = special.ndtr(self.threshold)
        a, b = x[:, 0] + self.threshold, y[:, 0] + self.threshold
        one = np.log(self._zero_given(np.where(x[:, 0] == 0, b, a)) / zero)
        both = math.log(self._both_zero / zero**2)
        found = np.where((x[:, 0] == 0) | (y[:, 0] == 0), one, self._gaussian_ratio(a, b))
        return np.where((x[:, 0] == 0) & (y[:, 0] == 0), both, found)
