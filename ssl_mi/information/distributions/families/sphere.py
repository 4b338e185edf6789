"""Points on the circle and on the hypersphere.

References:
    Wood 1994, Commun. Stat. 23, for drawing from von Mises-Fisher.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from ssl_mi.information.distributions.families.base import check_count, check_positive


@dataclass(frozen=True)
class PhasePair:
    """Two points on the unit circle, each the same phase plus its own U(-delta, delta): two jittered views.

    The difference of the phases is triangular on (-2 delta, 2 delta), so I = log(pi / delta) - 1/2 as long
    as 2 delta <= pi (the triangle then does not overlap itself around the circle).

    Args:
        delta: the largest jitter, in radians, in (0, pi/2].

    Example:
        >>> round(PhasePair(0.5).mi, 4)  # log(2 pi) - 1/2
        1.3379
    """

    delta: float
    dim_x = dim_y = 2

    def __post_init__(self) -> None:
        if not 0 < self.delta <= math.pi / 2:
            raise ValueError(f"delta must lie in (0, pi/2] radians, got {self.delta}")

    @property
    def mi(self) -> float:
        return math.log(math.pi / self.delta) - 0.5

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        phase = rng.uniform(-math.pi, math.pi, size=(check_count(n), 1))
        a, b = (phase + rng.uniform(-self.delta, self.delta, size=(n, 1)) for _ in range(2))
        return np.hstack([np.cos(a), np.sin(a)]), np.hstack([np.cos(b), np.sin(b)])

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        angle = np.arctan2(x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0], np.sum(x * y, axis=1))
        width = 2 * self.delta
        # Rounding may carry a difference a hair beyond the width, where the density is zero.
        density = np.maximum(1 - np.abs(angle) / width, np.finfo(float).tiny) / width
        return np.log(2 * math.pi * density)


@dataclass(frozen=True)
class VonMisesFisher:
    """X uniform on the unit sphere in R^dim, Y | X ~ vMF(mean X, concentration kappa).

    p(y | x) = C_d(kappa) exp(kappa x.y), so the cosine critic at temperature 1/kappa is optimal for InfoNCE
    and I = log C_d(kappa) + kappa A_d(kappa) + log |S^{d-1}|, A_d = I_{d/2}(kappa) / I_{d/2-1}(kappa).
    At dim = 3: I = log(kappa / sinh kappa) + kappa coth kappa - 1.

    Args:
        dim: of the space around the sphere, at least 2.
        kappa: concentration, positive.

    Example:
        >>> import numpy as np
        >>> x, y = VonMisesFisher(dim=3, kappa=10.0).sample(5, np.random.default_rng(0))
        >>> x.shape, y.shape
        ((5, 3), (5, 3))
    """

    dim: int
    kappa: float

    def __post_init__(self) -> None:
        if self.dim < 2:
            raise ValueError(f"dim must be at least 2 (a circle), got {self.dim}")
        check_positive("kappa", self.kappa)

    @property
    def dim_x(self) -> int:
        return self.dim

    @property
    def dim_y(self) -> int:
        return self.dim

    @cached_property
    def log_normaliser(self) -> float:
        """log(C_d(kappa) |S^{d-1}|): minus the log of E[exp(kappa x.y)] over independent x, y."""
        # The powers of pi and the leading (kappa/2)^v / Gamma(v + 1) of the Bessel function cancel.
        return -_log_bessel_series(self.dim / 2 - 1, self.kappa)

    @property
    def mean_cosine(self) -> float:
        """E[x.y] = A_d(kappa)."""
        order = self.dim / 2 - 1
        log_ratio = _log_bessel_series(order + 1, self.kappa) - _log_bessel_series(order, self.kappa)
        return math.exp(log_ratio) * self.kappa / self.dim

    @cached_property
    def mi(self) -> float:
        return self.log_normaliser + self.kappa * self.mean_cosine

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = _unit_rows(rng.standard_normal((check_count(n), self.dim)))
        cosine = self._cosines(n, rng)[:, None]
        noise = rng.standard_normal((n, self.dim))
        tangent = _unit_rows(noise - np.sum(noise * x, axis=1, keepdims=True) * x)
        return x, _unit_rows(cosine * x + np.sqrt(1 - cosine**2) * tangent)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.log_normaliser + self.kappa * np.sum(x * y, axis=1)

    def _cosines(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """x.y by Wood's (1994) rejection from an envelope of transformed Beta variables."""
        k, m = self.kappa, self.dim - 1
        b = m / (2 * k + math.sqrt(4 * k**2 + m**2))
        peak = (1 - b) / (1 + b)
        log_peak = k * peak + m * math.log1p(-(peak**2))
        cosines, missing = np.empty(n), np.arange(n)
        while len(missing):
            beta = rng.beta(m / 2, m / 2, size=len(missing))
            w = (1 - (1 + b) * beta) / (1 - (1 - b) * beta)
            keep = k * w + m * np.log1p(-peak * w) - log_peak >= np.log(1 - rng.uniform(size=len(missing)))
            cosines[missing[keep]] = w[keep]
            missing = missing[~keep]
        return cosines


def _log_bessel_series(order: float, kappa: float) -> float:
    """log of I_v(kappa) / ((kappa/2)^v / Gamma(v+1)) = log sum_m (kappa^2/4)^m / (m! (v+1)_m); no underflow."""
    m = np.arange(int(1.5 * kappa) + 60)  # the largest term lies at m < kappa / 2
    log_poch = special.gammaln(order + 1 + m) - special.gammaln(order + 1)
    return float(special.logsumexp(2 * m * math.log(kappa / 2) - special.gammaln(m + 1) - log_poch))


def _unit_rows(z: np.ndarray) -> np.ndarray:
    return z / np.linalg.norm(z, axis=1, keepdims=True)
