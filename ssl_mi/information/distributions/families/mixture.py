"""Mixtures whose component both sides know: clusters, crossing lines, digits in a font of few pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg, special

from ssl_mi.information.distributions.families.base import check_count, check_dispersion, split_columns


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """(X, Y) ~ Σ_c weights_c N(means_c, covariances_c), X the first `dim_x` coordinates.

    The log ratio of mixture densities is exact; its mean has no closed form, so `mi` is stored (`nats`), from
    `monte_carlo`.

    Args:
        weights: [c], summing to 1.
        means: [c, d].
        covariances: [c, d, d].
        dim_x: coordinates of X.
        nats: I(X; Y).
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    dim_x: int
    nats: float

    def __post_init__(self) -> None:
        for covariance in self.covariances:
            check_dispersion("covariances", covariance, self.dim_x)
        if not np.isclose(self.weights.sum(), 1) or len(self.weights) != len(self.means):
            raise ValueError(f"weights must sum to 1, one for each of {len(self.means)} means, got {self.weights}")

    @property
    def mi(self) -> float:
        return self.nats

    @property
    def dim_y(self) -> int:
        return self.means.shape[1] - self.dim_x

    @cached_property
    def _roots(self) -> np.ndarray:
        return np.linalg.cholesky(self.covariances)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        component = rng.choice(len(self.weights), size=check_count(n), p=self.weights)
        noise = rng.standard_normal((n, self.means.shape[1]))
        z = np.empty_like(noise)
        for c, root in enumerate(self._roots):
            rows = component == c
            z[rows] = self.means[c] + noise[rows] @ root.T
        return split_columns(z, self.dim_x)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        d = self.dim_x
        joint = self._log_density(np.hstack([x, y]), slice(None))
        return joint - self._log_density(x, slice(d)) - self._log_density(y, slice(d, None))

    def _log_density(self, z: np.ndarray, part: slice) -> np.ndarray:
        """Up to the powers of 2 pi, which cancel."""
        terms = []
        for weight, mean, covariance in zip(self.weights, self.means, self.covariances, strict=True):
            root = np.linalg.cholesky(covariance[part, part])
            scaled = linalg.solve_triangular(root, (z - mean[part]).T, lower=True)
            terms.append(np.log(weight) - np.log(np.diag(root)).sum() - np.sum(scaled**2, axis=0) / 2)
        return special.logsumexp(terms, axis=0)


def clusters(centres_x: np.ndarray, centres_y: np.ndarray, noise: float, nats: float) -> GaussianMixture:
    """X and Y around their own centre of one common component, noise independent.

    Args:
        centres_x: [c, dx].
        centres_y: [c, dy].
        noise: standard deviation around a centre.
        nats: I(X; Y), from `monte_carlo`.
    """
    means = np.hstack([centres_x, centres_y])
    count, d = means.shape
    covariances = np.broadcast_to(noise**2 * np.eye(d), (count, d, d))
    return GaussianMixture(np.full(count, 1 / count), means, covariances, centres_x.shape[1], nats)


def random_clusters(count: int, dim: int, noise: float, nats: float, seed: int = 0) -> GaussianMixture:
    """`clusters` whose centres are standard normal.

    Args:
        count: number of centres.
        dim: coordinates of each side.
        noise: standard deviation around a centre.
        nats: I(X; Y), from `monte_carlo`.
        seed: of the centres.
    """
    rng = np.random.default_rng(seed)
    return clusters(rng.standard_normal((count, dim)), rng.standard_normal((count, dim)), noise, nats)


def crossing_lines(dim: int, rho: float, nats: float) -> GaussianMixture:
    """In each of `dim` pairs of coordinates correlation +rho or -rho, by one coin for all: an X, uncorrelated.

    Args:
        dim: coordinates of each side.
        rho: the correlation.
        nats: I(X; Y), from `monte_carlo`.
    """
    cross = np.kron([[0.0, 1.0], [1.0, 0.0]], np.eye(dim))
    both = np.stack([np.eye(2 * dim) + rho * cross, np.eye(2 * dim) - rho * cross])
    return GaussianMixture(np.array([0.5, 0.5]), np.zeros((2, 2 * dim)), both, dim, nats)


FONT = (  # digits 0 to 9 in 3 x 5 pixels
    *("111101101101111", "010110010010111", "111001111100111", "111001111001111", "101101111001001"),
    *("111100111001111", "111100111101111", "111001001001001", "111101111101111", "111101111001111"),
)


def digits(noise: float, nats: float) -> GaussianMixture:
    """Two noisy pictures, 15 pixels each, of the same digit.

    Args:
        noise: standard deviation of a pixel.
        nats: I(X; Y), from `monte_carlo`.
    """
    pixels = np.array([[float(bit) for bit in digit] for digit in FONT])
    return clusters(pixels, pixels, noise, nats)
