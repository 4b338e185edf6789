"""The bias of KSG on some rows: from Gaussian twins, and from how the rows' own estimate changes with k.

A bias that grows with the number of neighbours shows in the steps d1 = I_k - I_4k and d2 = I_4k - I_16k. Where each is
q times the one before, what is missing at k is

    G = d1 / (q - 1),     q = d2 / d1

KSG has other biases, which are smaller and of either sign, and G is more than what is missing. Two things are therefore
measured. Twins are samples whose mutual information is known (twins.py): Gaussian ones with the covariance of the rows,
or t ones where tails go together. b_twin is their bias, and G_twin what their steps show.

    bias = b_twin G / G_twin                where G <= G_twin: rows that are like their twins, or need less
    bias = b_twin - (G - G_twin) / 2        where G > G_twin: rows that share what their covariance does not show;
                                            b_twin in 1 + 1 dimensions, where as much was missing as not

One half is what was measured on samples of either kind (Gaussians in 3 + 3 and 4 + 4 dimensions, mixtures and heavy
tails: .3 to .6 of G). What the steps leave open is `doubt`: it widens the interval. On Gaussian rows G = G_twin up to
noise, of which one standard error is given to it.

Rows may fill fewer dimensions than they have columns (points on a sphere; columns that are functions of others). Their
twins then have as many dimensions as the rows do locally, and share as much as the rows do.

References:
    Levina & Bickel 2004, Advances in Neural Information Processing Systems 17, for the local dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ssl_mi.information.core.linalg import normal_scores
from ssl_mi.information.estimators.auto.twins import Twin, heavy_tailed
from ssl_mi.information.estimators.ksg import ksg_pointwise
from ssl_mi.information.inference.dependence import Rows
from ssl_mi.information.inference.neighbour_check import FACTOR
from ssl_mi.information.neighbours import queries

TWIN_ROWS = 10_000  # of a twin at most; the bias is brought to more rows by its exponent
ROWS_OF_TWINS = 40_000  # of all of them
TWINS = {2: 12, 3: 8, 4: 8}  # at most, by dimensions of both sides together; else
MANY_TWINS, FEWEST_TWINS = 6, 4
FLATTEST = 0.4  # of q - 1: steps that hardly grow say little of what is missing
SHARE = 0.5  # of G that is bias, where twins do not explain it
MOST = 0.3  # of the estimate, that may be added so; the most that was seen missing
SYSTEMATIC = 0.015  # of the estimate, beyond 1 + 1 dimensions: what neither twins nor steps show
SYSTEMATIC_OTHERWISE = 0.03  # likewise, where rows fill fewer dimensions than they have columns, or steps show no law
LOCAL_ROWS = 2000  # enough to see how many dimensions rows fill
LOCAL_NEIGHBOURS = 12
SHARED = 1.3, 0.11  # rows share neighbours, so an average over them varies more; see `variance`


class OverK(NamedTuple):
    """KSG of the same rows at k, 4 k and 16 k: float64 [n] each, whose means are the estimates in nats."""

    at_k: np.ndarray
    at_more: np.ndarray
    at_most: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """Of the three."""
        return np.array([pointwise.mean() for pointwise in self])

    @property
    def change(self) -> float:
        """I_k - I_4k, nats."""
        return float(self.at_k.mean() - self.at_more.mean())


class Bias(NamedTuple):
    """A bias to subtract at k and at 4 k neighbours, nats, its variance, and what it may be off by beyond noise."""

    at_k: float
    at_more: float
    variance: float
    doubt: float


NO_BIAS = Bias(0.0, 0.0, 0.0, 0.0)


def ksg_over_k(u: np.ndarray, v: np.ndarray, k: int, rows: Rows | None = None) -> OverK:
    """KSG 1 of float64 u [n, r] and v [n, s], as `ksg_pointwise` has it, at k, 4 k and 16 k (at most n - 1)."""
    from scipy.special import digamma

    n = len(u)
    ks = (k, min(FACTOR * k, n - 1), min(FACTOR**2 * k, n - 1))
    if rows is not None and rows.lags:
        return OverK(*(ksg_pointwise(u, v, neighbours, rows=rows) for neighbours in ks))
    psi = digamma(np.arange(1, n + 1))  # of inside + 1
    inside_u, inside_v = queries.counts_over_k(u, v, ks)
    return OverK(
        *(
            psi[neighbours - 1] + psi[n - 1] - psi[np.maximum(a, neighbours - 1)] - psi[np.maximum(b, neighbours - 1)]
            for neighbours, a, b in zip(ks, inside_u, inside_v, strict=True)
        )
    )


def variance(pointwise: np.ndarray, dims: int, rows: Rows | None = None) -> float:
    """Of an average over rows. They share neighbours, so it is more than that of as many independent ones.

    How much more was measured on Gaussians (n = 500 and 2,000, correlation 0 to .9, k = 3): 1.5 times in
    1 + 1 dimensions, 1.7 in 2 + 2, 2.2 in 4 + 4.
    """
    return (SHARED[0] + SHARED[1] * dims) * (rows or Rows(len(pointwise))).variance_of_mean(pointwise)


def bias_of(u: np.ndarray, v: np.ndarray, k: int, values: OverK, seed: int, rows: Rows | None = None) -> Bias:
    """The bias of KSG on u [n, r] and v [n, s], whose own estimates are `values`."""
    value = float(values.at_k.mean())
    like = _twin_of(u, v, value, seed)
    twins = _twins(like, len(u), k, seed)
    twin, count, dims = twins.mean(0), len(twins), len(like.covariance)
    expected, step = _missing(*_steps(twin)), _steps(twin)[0]
    error = np.sqrt(variance(values.at_more - values.at_k, 0, rows) + (twins[:, 0] - twins[:, 1]).var(ddof=1) / count)
    first, second = _steps(values.means)
    scale = 1.0
    if abs(step) > error:
        scale = float(np.clip(_missing(first + error, second) / max(expected, 1e-12), 0.0, 1.0))
    extra = min(SHARE * max(0.0, _missing(first - error, second) - expected), MOST * abs(value))
    # Nothing is added where 4 k neighbours are more than are alike (small clusters), for the steps show no law there,
    # nor in 1 + 1 dimensions, where little is missing.
    lawless = second < first / 2
    added = 0.0 if lawless or dims == 2 else extra
    added_at_more = added + SHARE * max(0.0, first - error - step) if added else 0.0
    known = scale * twin
    spread = scale**2 * twins[:, 0].var(ddof=1) / count
    columns = u.shape[1] + v.shape[1]
    share = SYSTEMATIC_OTHERWISE if lawless or dims < columns else SYSTEMATIC
    floor = share * abs(value) if columns > 2 else 0.0
    doubt = max(extra + (1.25 - scale) * abs(float(known[0])), floor)
    return Bias(float(known[0]) - added, float(known[1]) - added_at_more, float(spread), doubt)


def _steps(means: np.ndarray) -> tuple[float, float]:
    """d1 and d2 of values at k, 4 k and 16 k."""
    return float(means[0] - means[1]), float(means[1] - means[2])


def _missing(first: float, second: float) -> float:
    """G of two steps; 0 where the first does not show."""
    return first**2 / max(second - first, FLATTEST * first) if first > 0 else 0.0


def _twin_of(u: np.ndarray, v: np.ndarray, nats: float, seed: int) -> Twin:
    """A distribution like that of the rows: their covariance and tails, or as many dimensions as they fill."""
    r, s = local_dimension(u, seed), local_dimension(v, seed)
    if (r, s) == (u.shape[1], v.shape[1]):
        both = normal_scores(np.concatenate([u, v], 1))  # which scores are already
        heavy = heavy_tailed(both, r) if r + s > 2 else None
        return heavy or Twin(np.cov(both.T), r)
    pairs = min(r, s)
    rho = np.sqrt(-np.expm1(-2 * max(nats, 0.0) / pairs))
    covariance = np.eye(r + s)
    each = np.arange(pairs)
    covariance[each, r + each] = covariance[r + each, each] = min(rho, 0.9999)
    return Twin(covariance, r)


def _twins(like: Twin, n: int, k: int, seed: int) -> np.ndarray:
    """E KSG - I of n rows of that distribution, at k, 4 k and 16 k neighbours: [twins, 3], nats.

    KSG and the exact log density ratio are averaged over the same rows, so most of the sampling noise cancels.
    """
    r, dims = like.r, len(like.covariance)
    rng = np.random.default_rng(seed)
    size, found = min(n, TWIN_ROWS), []
    for _ in range(int(np.clip(ROWS_OF_TWINS // size, FEWEST_TWINS, TWINS.get(dims, MANY_TWINS)))):
        z = like.sample(size, rng)
        w = normal_scores(z)  # as the rows themselves were
        twin = ksg_over_k(np.ascontiguousarray(w[:, :r]), np.ascontiguousarray(w[:, r:]), k)
        found.append(twin.means - like.log_ratio(z).mean())
    twins = np.array(found)
    first, second = _steps(twins.mean(0))
    exponent = np.clip(np.log(max(second / first, 1.0)) / np.log(FACTOR), 0.2, 1.0) if first > 0 else 1.0
    return twins * (n / size) ** -exponent


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
