"""Copulas that are not elliptical."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ssl_mi.information.distributions.families.base import check_count, check_positive


@dataclass(frozen=True)
class Clayton:
    """Uniform margins, dependence in the lower corner: C(u, v) = (u^-theta + v^-theta - 1)^(-1 / theta).

    I = E log c(u, v). With w uniform, v = ((w^(-theta / (1 + theta)) - 1) u^-theta + 1)^(-1 / theta), so it is the mean
    over a square, taken by Gauss-Legendre quadrature in the logarithms.

    Args:
        theta: strength, positive.
    """

    theta: float
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        check_positive("theta", self.theta)

    @cached_property
    def mi(self) -> float:
        # u = e^-s, w = e^-t: smooth integrands on a finite range, with weight e^-(s + t).
        nodes, weights = np.polynomial.legendre.leggauss(400)
        s = 20.0 * (nodes + 1)
        weight = 20.0 * weights * np.exp(-s)
        u, w = np.exp(-s)[:, None], np.exp(-s)[None, :]
        v = self._inverse(u, w)
        return float(weight @ self._log_density(u + 0 * w, v) @ weight)

    def _inverse(self, u: np.ndarray, w: np.ndarray) -> np.ndarray:
        t = self.theta
        return ((w ** (-t / (1 + t)) - 1) * u**-t + 1) ** (-1 / t)

    def _log_density(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        t = self.theta
        return np.log1p(t) - (1 + t) * (np.log(u) + np.log(v)) - (2 + 1 / t) * np.log(u**-t + v**-t - 1)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        u, w = 1 - rng.uniform(size=(2, check_count(n), 1))
        return u, self._inverse(u, w)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._log_density(x, y)[:, 0]
