"""The bias of KSG on some rows: its shape from Gaussian twins, its size from the rows themselves.

Twins are Gaussian samples whose mutual information is known, with the covariance of the rows. They show how the bias b
of KSG changes with the number of neighbours. How large it is on rows that are not Gaussian shows in how their own
estimate changes between k and 4 k:

    scale = (I_k - I_4k) / (b_k - b_4k), within 0 .. 1        bias of the rows = scale * b_k

On Gaussian rows the scale is 1 up to noise, and one standard error is given to it. Where KSG gives the same at k and at
4 k there is no bias that moves with k, and nothing is corrected, whatever the twins have.

Rows may fill fewer dimensions than they have columns (points on a sphere; columns that are functions of others). Their
twins then have as many dimensions as the rows do locally, and share as much as the rows do.

References:
    Levina & Bickel 2004, Advances in Neural Information Processing Systems 17, for the local dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ssl_mi.information.core.linalg import normal_scores
from ssl_mi.information.estimators.ksg import ksg_pointwise
from ssl_mi.information.inference.dependence import Rows
from ssl_mi.information.inference.neighbour_check import FACTOR
from ssl_mi.information.neighbours import queries

TWIN_ROWS = 3000  # of a twin at most: the scale, measured on all rows, makes up for the rest
TWINS = {2: 12, 3: 8, 4: 8}  # by dimensions of both sides together; else
FEWEST_TWINS = 4
LOCAL_ROWS = 2000  # enough to see how many dimensions rows fill
LOCAL_NEIGHBOURS = 12
SHARED = 1.3, 0.11  # rows share neighbours, so an average over them varies more; see `variance`


class OverK(NamedTuple):
    """KSG of the same rows at k and at 4 k: float64 [n] each, whose means are the estimates in nats."""

    at_k: np.ndarray
    at_more: np.ndarray

    @property
    def change(self) -> float:
        """I_k - I_4k, nats."""
        return float(self.at_k.mean() - self.at_more.mean())


class Bias(NamedTuple):
    """A bias to subtract at k and at 4 k neighbours, nats, and its variance."""

    at_k: float
    at_more: float
    variance: float


NO_BIAS = Bias(0.0, 0.0, 0.0)


def ksg_over_k(u: np.ndarray, v: np.ndarray, k: int, rows: Rows | None = None) -> OverK:
    """KSG 1 of float64 u [n, r] and v [n, s], as `ksg_pointwise` has it, at k and at 4 k (at most n - 1)."""
    from scipy.special import digamma

    n = len(u)
    ks = (k, min(FACTOR * k, n - 1))
    if rows is not None and rows.lags:
        return OverK(*(ksg_pointwise(u, v, neighbours, rows=rows) for neighbours in ks))
    psi = digamma(np.arange(1, n + 1))  # of inside + 1
    inside_u, inside_v = queries.counts_over_k(u, v, ks)
    at_k, at_more = (
        psi[neighbours - 1] + psi[n - 1] - psi[a] - psi[b]
        for neighbours, a, b in zip(ks, inside_u, inside_v, strict=True)
    )
    return OverK(at_k, at_more)


def variance(pointwise: np.ndarray, dims: int, rows: Rows | None = None) -> float:
    """Of an average over rows. They share neighbours, so it is more than that of as many independent ones.

    How much more was measured on Gaussians (n = 500 and 2,000, correlation 0 to .9, k = 3): 1.5 times in
    1 + 1 dimensions, 1.7 in 2 + 2, 2.2 in 4 + 4.
    """
    return (SHARED[0] + SHARED[1] * dims) * (rows or Rows(len(pointwise))).variance_of_mean(pointwise)


def bias_of(u: np.ndarray, v: np.ndarray, k: int, values: OverK, seed: int, rows: Rows | None = None) -> Bias:
    """The bias of KSG on u [n, r] and v [n, s], whose own estimates are `values`."""
    covariance, r = _twin_covariance(u, v, float(values.at_k.mean()), seed)
    twins = _twins(covariance, r, len(u), k, seed)
    low, high = twins.mean(0)
    count = len(twins)
    moved = low - high
    error = np.sqrt(variance(values.at_more - values.at_k, 0, rows) + (twins[:, 0] - twins[:, 1]).var(ddof=1) / count)
    if abs(moved) <= error:  # no change is expected that could be told from noise
        return Bias(float(low), float(high), float(twins[:, 0].var(ddof=1) / count))
    scale = float(np.clip(values.change / moved + error / abs(moved), 0.0, 1.0))
    spread = scale**2 * twins[:, 0].var(ddof=1) / count + (low * error / moved) ** 2
    return Bias(scale * float(low), scale * float(high), float(spread))


def _twin_covariance(u: np.ndarray, v: np.ndarray, nats: float, seed: int) -> tuple[np.ndarray, int]:
    """Covariance of the twins and how many of its columns are u's."""
    r, s = local_dimension(u, seed), local_dimension(v, seed)
    if (r, s) == (u.shape[1], v.shape[1]):
        return np.cov(np.concatenate([u, v], 1).T), r
    pairs = min(r, s)
    rho = np.sqrt(-np.expm1(-2 * max(nats, 0.0) / pairs))
    covariance = np.eye(r + s)
    each = np.arange(pairs)
    covariance[each, r + each] = covariance[r + each, each] = min(rho, 0.9999)
    return covariance, r


def _twins(covariance: np.ndarray, r: int, n: int, k: int, seed: int) -> np.ndarray:
    """E KSG - I of Gaussians with that covariance, at k and 4 k neighbours: [twins, 2], nats.

    KSG and the exact log density ratio are averaged over the same rows, so most of the sampling noise cancels.
    """
    scale, axes = np.linalg.eigh(covariance)
    root = axes * np.sqrt(np.maximum(scale, 1e-9))
    covariance = root @ root.T
    apart = covariance.copy()
    apart[:r, r:] = apart[r:, :r] = 0.0
    difference = np.linalg.inv(covariance) - np.linalg.inv(apart)
    constant = (np.linalg.slogdet(apart)[1] - np.linalg.slogdet(covariance)[1]) / 2
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(TWINS.get(len(root), FEWEST_TWINS)):
        z = rng.standard_normal((min(n, TWIN_ROWS), len(root))) @ root.T
        log_ratio = constant - ((z @ difference) * z).sum(1) / 2
        w = normal_scores(z)  # as the rows themselves were
        twin = ksg_over_k(np.ascontiguousarray(w[:, :r]), np.ascontiguousarray(w[:, r:]), k)
        found.append([pointwise.mean() - log_ratio.mean() for pointwise in twin])
    return np.array(found)


def local_dimension(u: np.ndarray, seed: int) -> int:
    """How many dimensions the rows of u [n, r] fill around each of them, 1 to r.

    Beside Gaussian rows of r dimensions, which fill all: both are counted a little low, and equally so.
    """
    r = u.shape[1]
    if r == 1:
        return 1
    n = min(len(u), LOCAL_ROWS)
    full = np.random.default_rng(seed).standard_normal((n, r))
    ratio = _dimension_by_distances(u[:n]) / _dimension_by_distances(full)
    return int(np.clip(np.round(r * ratio), 1, r))


def _dimension_by_distances(u: np.ndarray) -> float:
    """1 / mean log(d_k / d_j) over the nearest neighbours j < k (Levina & Bickel, inverses averaged)."""
    distances = np.maximum(queries.nearest(np.ascontiguousarray(u), min(LOCAL_NEIGHBOURS, len(u) - 1)), 1e-300)
    return 1 / max(float(np.log(distances[:, -1:] / distances[:, 1:-1]).mean()), 1e-6)
