"""Student-t pairs: heavy tails, and dependence without correlation.

References:
    Arellano-Valle, Contreras-Reyes & Genton 2013, Scand. J. Stat. 40.
    Czyz, Grabowski, Vogt, Beerenwinkel & Marx 2023 "Beyond Normal", arXiv:2306.11078.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from ssl_mi.information.distributions.families.base import (
    check_count,
    check_dispersion,
    check_positive,
    log_det_mi,
    quadratic,
    split_columns,
)


@dataclass(frozen=True, eq=False)
class StudentT:
    """(X, Y) jointly Student-t with `dof` degrees of freedom: heavy tails, dependent even when uncorrelated.

    With m = dim_x, n = dim_y, nu = dof and f(t) = log Gamma(t/2) - t/2 psi(t/2),
    I = I_Gauss(dispersion) + f(nu) + f(nu + m + n) - f(nu + m) - f(nu + n)  (Arellano-Valle et al. 2013).

    Args:
        dispersion: [dim_x + dim_y, dim_x + dim_y], positive definite.
        dim_x: coordinates of X.
        dof: degrees of freedom nu, positive.
    """

    dispersion: np.ndarray
    dim_x: int
    dof: float

    def __post_init__(self) -> None:
        check_dispersion("dispersion", self.dispersion, self.dim_x)
        check_positive("dof", self.dof)

    @property
    def dim_y(self) -> int:
        return len(self.dispersion) - self.dim_x

    @cached_property
    def mi(self) -> float:
        def f(t: float) -> float:
            return special.gammaln(t / 2) - t / 2 * special.digamma(t / 2)

        nu, m, n = self.dof, self.dim_x, self.dim_y
        tails = f(nu) + f(nu + m + n) - f(nu + m) - f(nu + n)
        return log_det_mi(self.dispersion, self.dim_x) + float(tails)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        z = rng.standard_normal((check_count(n), len(self.dispersion))) @ np.linalg.cholesky(self.dispersion).T
        return split_columns(z / np.sqrt(rng.chisquare(self.dof, size=(n, 1)) / self.dof), self.dim_x)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        d = self.dim_x
        joint = self._log_density(np.hstack([x, y]), self.dispersion)
        return joint - self._log_density(x, self.dispersion[:d, :d]) - self._log_density(y, self.dispersion[d:, d:])

    def _log_density(self, z: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        d, nu = z.shape[1], self.dof
        norm = special.gammaln((nu + d) / 2) - special.gammaln(nu / 2) - d / 2 * math.log(nu * math.pi)
        log_det = np.linalg.slogdet(dispersion)[1]
        return norm - log_det / 2 - (nu + d) / 2 * np.log1p(quadratic(z, dispersion) / nu)


def student_t(dim_x: int, dim_y: int, dof: float) -> StudentT:
    """Student-t with identity dispersion: no two coordinates correlate, yet I(X; Y) > 0.

    Args:
        dim_x: coordinates of X.
        dim_y: coordinates of Y.
        dof: degrees of freedom, positive.

    Example:
        >>> round(student_t(1, 1, dof=1e6).mi, 4)  # nearly Gaussian, without correlation
        0.0
    """
    return StudentT(np.eye(dim_x + dim_y), dim_x, dof)
