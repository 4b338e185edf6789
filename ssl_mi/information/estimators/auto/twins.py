"""Twins: samples like given rows whose mutual information is known row by row, on which a bias is measured.

A twin has the copula of a normal distribution or, where tails go together, of a multivariate t distribution, with the
degrees of freedom that give the rows' copula the largest likelihood,

    log t_ν(q; R) - Σ_j log t_ν(q_j),     q_j = F_ν^-1(Φ(z_j)),   R_ij = sin(π τ_ij / 2), τ Kendall's

z being the normal scores of the rows. It must be better at log p(x, y) / p(x) p(y) of the rows than a normal one, too.

References:
    Demarta & McNeil 2005, International Statistical Review 73, 111 (the t copula and its fit).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

DOFS = 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0
FIT_ROWS = 2000
CLEARLY = 15.0  # nats, over all rows, by which a t copula must say more of y by x than a normal one
SMALLEST = 1e-3  # eigenvalue of a correlation matrix that comes from ranks
FLATTEST = 1e-9  # eigenvalue of any


class Twin(NamedTuple):
    """A distribution of x and y.

    Args:
        covariance: float64 [d, d], of x and y side by side; of a t distribution, its scale matrix.
        r: how many of its columns are those of x.
        dof: degrees of freedom; infinity for a normal distribution.
    """

    covariance: np.ndarray
    r: int
    dof: float = math.inf

    @property
    def root(self) -> np.ndarray:
        """A with A A' = covariance, eigenvalues that rounding made negative mended."""
        scale, axes = np.linalg.eigh(self.covariance)
        return axes * np.sqrt(np.maximum(scale, FLATTEST))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n rows, float64 [n, d]."""
        z = rng.standard_normal((n, len(self.covariance))) @ self.root.T
        return z if math.isinf(self.dof) else z / np.sqrt(rng.chisquare(self.dof, (n, 1)) / self.dof)

    def log_ratio(self, z: np.ndarray) -> np.ndarray:
        """log p(x, y) / p(x) p(y) of rows [n, d], float64 [n], nats."""
        covariance = self.root @ self.root.T
        both, x, y = (
            log_density(z[:, of], covariance[of, of], self.dof)
            for of in (slice(None), slice(None, self.r), slice(self.r, None))
        )
        return both - x - y

    def log_likelihood(self, q: np.ndarray) -> float:
        """Of a copula, in rows [n, d] whose columns have the margins of this distribution, nats."""
        one = np.eye(1)
        margins = np.sum([log_density(column[:, None], one, self.dof) for column in q.T], axis=0)
        return float((log_density(q, self.covariance, self.dof) - margins).sum())


def log_density(z: np.ndarray, covariance: np.ndarray, dof: float) -> np.ndarray:
    """Of the multivariate t distribution, or of the normal one where dof is infinite: [n, d] -> float64 [n], nats."""
    from scipy.special import gammaln

    d = z.shape[1]
    squares = (z @ np.linalg.inv(covariance) * z).sum(1)
    constant = -float(np.linalg.slogdet(covariance)[1]) / 2
    if math.isinf(dof):
        return constant - d / 2 * math.log(2 * math.pi) - squares / 2
    constant += float(gammaln((dof + d) / 2) - gammaln(dof / 2)) - d / 2 * math.log(dof * math.pi)
    return constant - (dof + d) / 2 * np.log1p(squares / dof)


def heavy_tailed(z: np.ndarray, r: int) -> Twin | None:
    """A twin with the t copula of rows z [n, d], normal scores, whose first r columns are x; None where normal does."""
    from scipy.special import ndtr, stdtrit

    some = z[:FIT_ROWS]
    correlation = _by_ranks(some)
    normal = Twin(correlation, r)
    best, likeliest = normal, normal.log_likelihood(some)
    for dof in DOFS:
        twin = Twin(correlation, r, dof)
        likelihood = twin.log_likelihood(stdtrit(dof, ndtr(some)))
        if likelihood > likeliest:
            best, likeliest = twin, likelihood
    if math.isinf(best.dof):
        return None
    # Sides that are heavy each for itself are no reason: what x shows of y must be better said, too.
    gain = best.log_ratio(stdtrit(best.dof, ndtr(some))).sum() - normal.log_ratio(some).sum()
    return best if gain > CLEARLY else None


def _by_ranks(z: np.ndarray) -> np.ndarray:
    """sin(π τ / 2) of each pair of columns, made positive definite."""
    from scipy.stats import kendalltau

    d = z.shape[1]
    correlation = np.eye(d)
    for i in range(d):
        for j in range(i):
            correlation[i, j] = correlation[j, i] = math.sin(math.pi * kendalltau(z[:, i], z[:, j])[0] / 2)
    scale, axes = np.linalg.eigh(correlation)
    mended = (axes * np.maximum(scale, SMALLEST)) @ axes.T
    deviation = np.sqrt(np.diag(mended))
    return mended / deviation / deviation[:, None]
