"""Clusters of each side, found by themselves, and which of them go together: a bound where there are many columns.

Each side is a mixture of Gaussians of one covariance matrix, fitted by expectation maximisation to its principal
components, the number K of clusters by the Bayesian information criterion. Given both mixtures, the joint weights
π_ab of cluster a of x and cluster b of y maximise the likelihood of the pairs. The critic is the log density ratio of
this model,

    T(x, y) = log Σ_ab π_ab p(x | a) p(y | b) - log Σ_a π_a p(x | a) - log Σ_b π_b p(y | b)

and what is reported is its InfoNCE bound on rows that nothing was fitted on, which holds for any critic. Neither side
sees the other before its clusters are fixed, so that little can be learned by heart: a sample where pictures of ten
digits share their digit needs no network.

References:
    Dempster, Laird & Rubin 1977, Journal of the Royal Statistical Society B 39, 1 (expectation maximisation).
    Schwarz 1978, Annals of Statistics 6, 461 (the criterion).
    Arthur & Vassilvitskii 2007, SODA (centres to start from).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

COMPONENTS = 24  # principal ones that are clustered
COUNTS = 1, 2, 4, 8, 16, 32, 64
APART = 1.5  # deviations, of two clusters: joining two that are costs more than keeping one in two
PATIENCE = 3  # numbers of clusters without a better one
ROWS_PER_CLUSTER = 15  # at least
CHOICE_ROWS, FIT_ROWS = 2000, 4000  # to choose K by, and to fit
STARTS, STEPS = 2, 25
TABLE_STEPS = 50
RIDGE = 1e-3  # of the variance of a component, added to the covariance within clusters
BLOCK = 2048  # rows scored against each other

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Mixture:
    """Gaussians of one covariance: coordinates in which that is the identity, and the centres there.

    Args:
        mean: [d].
        into: [d, r], from columns less their mean to those coordinates.
        centres: [K, r].
        weights: [K], summing to 1.
    """

    mean: np.ndarray
    into: np.ndarray
    centres: np.ndarray
    weights: np.ndarray

    def shares(self, values: np.ndarray) -> np.ndarray:
        """p(x | a) as shares of a row: [n, d] -> [n, K], rows summing to 1."""
        logs = _log_kernels((values - self.mean) @ self.into, self.centres)
        kernels = np.exp(logs - logs.max(1, keepdims=True))
        return kernels / kernels.sum(1, keepdims=True)


@dataclass(frozen=True)
class Clusters:
    """Mixtures of both sides and the weights of their pairs [K_x, K_y]."""

    x: Mixture
    y: Mixture
    table: np.ndarray

    def shares(self, x: np.ndarray, y: np.ndarray) -> Arrays:
        """`Mixture.shares` of both sides: [n, K_x] and [n, K_y]."""
        return self.x.shares(x), self.y.shares(y)

    def bound(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """InfoNCE of shares of rows that were not fitted on, row by row: float64 [n], nats."""
        a = a / (a @ self.table.sum(1))[:, None]
        b = b / (b @ self.table.sum(0))[:, None]
        parts = np.array_split(np.arange(len(a)), -(-len(a) // BLOCK))
        return np.concatenate([_infonce(a[part] @ self.table, b[part]) for part in parts])


class _Fit(NamedTuple):
    """Centres [K, r], a whitener [r, r] of the covariance within, weights [K], and the log likelihood, nats."""

    centres: np.ndarray
    whitener: np.ndarray
    weights: np.ndarray
    likelihood: float


def fit_clusters(x: np.ndarray, y: np.ndarray, seed: int) -> Clusters | None:
    """Of rows [n, dx] and [n, dy]; None where a side shows no clusters."""
    rng = np.random.default_rng(seed)
    mixtures = []
    for side in (x, y):
        mixture = fit_mixture(side, rng)
        if mixture is None:
            return None
        mixtures.append(mixture)
    first, second = mixtures
    return Clusters(first, second, _joint_weights(first.shares(x), second.shares(y)))


def fit_mixture(values: np.ndarray, rng: np.random.Generator) -> Mixture | None:
    """Of rows [n, d]; None where one cluster is enough.

    A number of clusters is chosen by the information criterion. Centres that start between two clusters stay there, so
    the final fit starts from twice as many, and those that turn out to be one are joined.
    """
    mean = values.mean(0)
    axes = _principal(values - mean)
    z = (values - mean) @ axes
    z = z[rng.permutation(len(z))[:FIT_ROWS]]
    some = z[:CHOICE_ROWS]
    counts = [count for count in COUNTS if count * ROWS_PER_CLUSTER <= len(some)]
    if not counts or axes.shape[1] == 0:
        return None
    criteria: list[float] = []
    for count in counts:
        criteria.append(_criterion(some, count, _likeliest(some, count, rng)))
        if len(criteria) > PATIENCE and max(criteria[-PATIENCE:]) < max(criteria):
            break
    best = counts[int(np.argmax(criteria))]
    if best == 1:
        return None
    fit = _joined(z, _likeliest(z, min(2 * best, len(z) // ROWS_PER_CLUSTER), rng))
    return Mixture(mean, axes @ fit.whitener, fit.centres @ fit.whitener, fit.weights)


def _criterion(z: np.ndarray, count: int, fit: _Fit) -> float:
    """Schwarz's, less what all numbers of clusters have in common."""
    return fit.likelihood - 0.5 * count * (z.shape[1] + 1) * float(np.log(len(z)))


def _likeliest(z: np.ndarray, count: int, rng: np.random.Generator) -> _Fit:
    """The best of a few starts."""
    fits = [_maximise(z, _spread_out(z, count, rng)) for _ in range(STARTS if count > 1 else 1)]
    return max(fits, key=lambda fit: fit.likelihood)


def _joined(z: np.ndarray, fit: _Fit) -> _Fit:
    """The same without centres that are nearer than two clusters can be seen apart.

    Two round Gaussians of equal weight have one mode where their means are at most two deviations apart. Along its
    longest axis a sample of m rows in r dimensions has 1 + sqrt(r / m) deviations in place of one (Marchenko & Pastur).
    """
    centres, weights = fit.centres @ fit.whitener, fit.weights
    while len(centres) > 1:
        rows = len(z) * (weights[:, None] + weights)
        squares = ((centres[:, None] - centres) ** 2).sum(2) / (1 + np.sqrt(z.shape[1] / np.maximum(rows, 1))) ** 2
        np.fill_diagonal(squares, np.inf)
        i, j = np.unravel_index(int(squares.argmin()), squares.shape)
        if squares[i, j] > APART**2:
            break
        both = weights[i] + weights[j]
        centres[i] = (weights[i] * centres[i] + weights[j] * centres[j]) / both
        weights[i] = both
        centres, weights = np.delete(centres, j, 0), np.delete(weights, j)
    return _maximise(z, centres @ np.linalg.inv(fit.whitener))


def _principal(values: np.ndarray) -> np.ndarray:
    """The leading principal axes of centred rows [n, d]: [d, r], without those along which nothing varies."""
    scale, axes = np.linalg.eigh(values.T @ values / len(values))
    order = np.argsort(scale)[::-1][:COMPONENTS]
    return axes[:, order[scale[order] > 1e-9 * max(float(scale.max()), 1e-300)]]


def _spread_out(z: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows to start from, each drawn with a probability that grows as its squared distance from those before."""
    if count == 1:
        return z.mean(0, keepdims=True)
    chosen = [int(rng.integers(len(z)))]
    squares = ((z - z[chosen[0]]) ** 2).sum(1)
    while len(chosen) < count:
        total = squares.sum()
        share = squares / total if total > 0 else np.full(len(z), 1 / len(z))
        chosen.append(int(rng.choice(len(z), p=share)))
        squares = np.minimum(squares, ((z - z[chosen[-1]]) ** 2).sum(1))
    return z[chosen]


def _maximise(z: np.ndarray, centres: np.ndarray) -> _Fit:
    """The fit of rows [n, r] from centres [K, r] on.

    Clusters start round and as wide as the rows are far from their centres.
    """
    n, r = z.shape
    floor = RIDGE * z.var(0)
    weights = np.full(len(centres), 1 / len(centres))
    nearest = centres[_log_kernels(z, centres).argmax(1)]
    whitener = np.eye(r) / np.sqrt(((z - nearest) ** 2).mean() + floor.mean())
    likelihood = -np.inf
    for _ in range(STEPS):
        white = z @ whitener
        logs = _log_kernels(white, centres @ whitener) + np.log(np.maximum(weights, 1e-300))
        top = logs.max(1, keepdims=True)
        share = np.exp(logs - top)
        total = share.sum(1, keepdims=True)
        before = likelihood
        constant = float(np.linalg.slogdet(whitener)[1]) - r / 2 * np.log(2 * np.pi)
        likelihood = float((top + np.log(total)).sum() - (white * white).sum() / 2) + n * constant
        if likelihood - before < 1e-4 * n:
            break
        share /= total
        size = np.maximum(share.sum(0), 1e-9)
        weights, centres = size / size.sum(), share.T @ z / size[:, None]
        within = z.T @ z / n - (centres.T * (size / n)) @ centres
        scale, axes = np.linalg.eigh(within + np.diag(floor))
        whitener = axes / np.sqrt(np.maximum(scale, floor.min()))
    return _Fit(centres, whitener, weights, likelihood)


def _log_kernels(z: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(|z|^2 - |z - c|^2) / 2, so that no term of a row alone is computed: [n, r], [K, r] -> [n, K]."""
    return z @ centres.T - (centres * centres).sum(1) / 2


def _joint_weights(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """π_ab of the largest likelihood Σ_i log Σ_ab a_ia π_ab b_ib, by expectation maximisation.

    One pair is added in the proportions of independence, so that clusters that were never seen together are rarely
    together, and not never.
    """
    table = np.full((a.shape[1], b.shape[1]), 1 / (a.shape[1] * b.shape[1]))
    for _ in range(TABLE_STEPS):
        each = np.maximum(((a @ table) * b).sum(1), 1e-300)
        found = table * (a.T @ (b / each[:, None]))
        independent = np.outer(found.sum(1), found.sum(0)) / found.sum() ** 2
        table = (found + independent) / (found.sum() + independent.sum())
    return table


def _infonce(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """log T(i, i) / mean of T over row i and over column i, averaged, T = a b': [n, K], [n, K] -> float64 [n]."""
    joint = np.log(np.maximum((a * b).sum(1), 1e-300))
    rows, columns = a @ b.mean(0), b @ a.mean(0)
    return joint - (np.log(np.maximum(rows, 1e-300)) + np.log(np.maximum(columns, 1e-300))) / 2
