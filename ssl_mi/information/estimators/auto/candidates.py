"""Readings of projections of two continuous variables: KSG, less the bias it has on Gaussians like them.

KSG's bias grows with dimension and dependence. It is measured on Gaussian twins (same n, same covariance, mutual
information known) and taken off. What is left is what the samples differ from Gaussians in; it shows as a
difference between readings at k and at 4k neighbours (`Reading.again`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from ssl_mi.information.core.knn_inputs import MAX_DIMS
from ssl_mi.information.estimators.gaussian import rank_gaussianize
from ssl_mi.information.estimators.ksg import ksg_pointwise
from ssl_mi.information.projections.linear import CCA

TWINS = {2: 16, 4: 8}  # by dimensions of both sides together; else
FEWEST_TWINS = 4
LOCAL_ROWS = 2000  # enough to see that a column is a function of others


@dataclass
class Reading:
    """One candidate on some rows: what KSG said, the bias of its twins, what a Gaussian tail adds, and the rows.

    fresh: for nested columns, the share of each that is no function of the ones before; () counts all whole.
    loss: nats that the projection, fitted on other rows, is reckoned to have missed of the best of its kind.
    unread: nats in its columns beyond the fourth, if they are Gaussian.
    """

    pointwise: np.ndarray
    bias: float
    bias_variance: float  # for there are only a few twins
    u: np.ndarray
    v: np.ndarray
    k: int
    seed: int
    fresh: tuple[float, ...] = ()
    tail: float = 0.0
    loss: float = 0.0
    unread: float = 0.0

    @property
    def value(self) -> float:
        return float(self.pointwise.mean()) - self.bias + self.tail

    @property
    def score(self) -> float:
        """What to choose by: what a correction added does not count, for it may be wrong."""
        return self.value - max(0.0, -self.bias)

    @property
    def promise(self) -> float:
        """What the best projection of this kind might read; or all of its columns, were the rest Gaussian."""
        return self.value + max(self.loss, self.unread)

    @property
    def variance(self) -> float:
        """Of the average over rows. They share neighbours, so it is more than that of as many independent ones.

        How much more was measured on Gaussians (n = 500 and 2,000, correlation 0 to .9, k = 3): 1.5 times in
        1 + 1 dimensions, 1.7 in 2 + 2, 2.2 in 4 + 4.
        """
        shared = 1.3 + 0.11 * (self.u.shape[1] + self.v.shape[1])
        return shared * float(self.pointwise.var(ddof=1)) / len(self.pointwise)

    def again(self, k: int) -> Reading:
        """The same rows with other neighbours."""
        biases = [_twin_bias(self.u[:, :r], self.v[:, :r], k, self.seed) for r in range(1, len(self.fresh) + 1)]
        bias = _nested(biases, self.fresh) if self.fresh else _twin_bias(self.u, self.v, k, self.seed)
        return replace(self, pointwise=ksg_pointwise(self.u, self.v, k), bias=bias[0], bias_variance=bias[1], k=k)


def read(u: np.ndarray, v: np.ndarray, k: int, seed: int) -> Reading:
    """u: [n, r], v: [n, s], as they are."""
    u, v = np.ascontiguousarray(u), np.ascontiguousarray(v)
    return Reading(ksg_pointwise(u, v, k), *_twin_bias(u, v, k, seed), u, v, k, seed)


def read_candidates(x, y, halves, k: int, networks: bool, seed: int) -> dict[str, list[Reading]]:
    """{candidate: [read on the first half, read on the second]}, projections always fitted on the other half."""
    found = {}
    if max(x.shape[1], y.shape[1]) <= MAX_DIMS:
        found["direct"] = [read(x[rows], y[rows], k, seed + i) for i, rows in enumerate(halves)]
    dims = min(x.shape[1], y.shape[1])
    if max(x.shape[1], y.shape[1]) > 1:
        fits = [CCA(dims).fit(x[rows], y[rows], seed) for rows in halves[::-1]]
        found |= _read_family("CCA", fits, x, y, halves, k, seed)
    if networks:
        from ssl_mi.information.projections.neural import Learned

        # Beyond the dimension of a side, further numbers are functions of the ones before.
        fits = Learned(min(MAX_DIMS, dims)).fit_each([(x[rows], y[rows]) for rows in halves[::-1]], seed)
        found |= _read_family("learned", fits, x, y, halves, k, seed)
    return found


def _read_family(name, fits, x, y, halves, k, seed) -> dict[str, list[Reading]]:
    """A projection read in 1, 2, .. 4 of its dimensions, and its Gaussian tail beyond them."""
    found: dict[str, list[Reading]] = {}
    for half, (fit, rows) in enumerate(zip(fits, halves, strict=True)):
        u, v = (rank_gaussianize(side) for side in fit(x[rows], y[rows]))
        fitted_on = halves[1 - half]
        promised = gaussian_nats(*(rank_gaussianize(side) for side in fit(x[fitted_on], y[fitted_on])))
        kept = gaussian_nats(u, v) - 1 / (2 * len(u))
        reach = min(MAX_DIMS, u.shape[1], v.shape[1])
        biases, fresh = [], ()
        for r in range(1, reach + 1):
            reading = read(u[:, :r], v[:, :r], k, seed + half)
            # A dimension that repeats the others adds none of the bias that its twin, an independent one, has.
            fresh += (1 - (redundancy(u[:, :r]) + redundancy(v[:, :r])) / 2,)
            biases.append((reading.bias, reading.bias_variance))
            reading.fresh = fresh
            # What a fit promises too much on its own rows is, to first order, what it falls short of on others.
            reading.loss = max(0.0, float(promised[:r].sum() - kept[:r].sum()) / 2)
            reading.bias, reading.bias_variance = _nested(biases, fresh)
            found.setdefault(f"{name}({r})", []).append(reading)
        # KSG can not follow beyond four pairs. The Gaussian formula is believed for those it can not read when it
        # gives what KSG does for those it can.
        head, tail = kept[:reach].sum(), float(kept[reach:].sum())
        if tail > 0.02 and independent(u, reach) and independent(v, reach):
            reading.unread = tail
            if abs(head - reading.value) < max(0.05, 0.05 * head):
                extended = replace(reading, tail=tail, unread=0.0)
                found.setdefault(f"{name}({reach}) + Gaussian({u.shape[1]})", []).append(extended)
    return {candidate: both for candidate, both in found.items() if len(both) == 2}


def _nested(biases: list[tuple[float, float]], fresh: tuple[float, ...]) -> tuple[float, float]:
    """Bias and its variance: each step from r - 1 to r columns counted by the share that is fresh in column r."""
    weights = np.array(fresh) - np.append(fresh[1:], 0.0)  # Σ fresh_r (b_r - b_(r-1)), by parts
    values, variances = np.array(biases).T
    return float(weights @ values), float(weights**2 @ variances)


def _twin_bias(u: np.ndarray, v: np.ndarray, k: int, seed: int) -> tuple[float, float]:
    """What KSG reads too much on Gaussians with the covariance of (u, v), E KSG - I, and the variance of that.

    KSG and the exact log density ratio are averaged over the same rows, so most of the sampling noise cancels.
    """
    n, dx = u.shape
    scale, axes = np.linalg.eigh(np.cov(np.concatenate([u, v], 1).T))
    root = axes * np.sqrt(np.maximum(scale, 1e-9))
    covariance = root @ root.T
    apart = covariance.copy()
    apart[:dx, dx:] = apart[dx:, :dx] = 0.0
    difference = np.linalg.inv(covariance) - np.linalg.inv(apart)
    constant = (np.linalg.slogdet(apart)[1] - np.linalg.slogdet(covariance)[1]) / 2
    rng = np.random.default_rng(seed)
    differences = []
    twins = TWINS.get(len(root), FEWEST_TWINS)
    for _ in range(twins):
        z = rng.standard_normal((n, len(root))) @ root.T
        log_ratio = constant - ((z @ difference) * z).sum(1) / 2
        w = rank_gaussianize(z)  # as the samples themselves were
        twin = ksg_pointwise(np.ascontiguousarray(w[:, :dx]), np.ascontiguousarray(w[:, dx:]), k)
        differences.append(twin.mean() - log_ratio.mean())
    return float(np.mean(differences)), float(np.var(differences, ddof=1) / twins)


def redundancy(u: np.ndarray) -> float:
    """How far the last column of u: [n, r] is a function of the others: R² of a cubic or of a local fit, 0 to 1."""
    if u.shape[1] == 1:
        return 0.0
    return max(_cubic_fit(u[:, :-1], u[:, -1]), _local_fit(u[:, :-1], u[:, -1]))


def _cubic_fit(x: np.ndarray, y: np.ndarray) -> float:
    monomials = [
        np.prod(x[:, chosen], axis=1)
        for degree in (1, 2, 3)
        for chosen in itertools.combinations_with_replacement(range(x.shape[1]), degree)
    ]
    design = np.stack([np.ones(len(x)), *monomials], 1)
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return float(1 - left.var() / y.var())


def _local_fit(x: np.ndarray, y: np.ndarray, k: int = 8) -> float:
    """R² of the mean over the k nearest other rows: 0 or less of an independent y, near 1 where x tells y."""
    from scipy.spatial import cKDTree

    x, y = x[:LOCAL_ROWS], y[:LOCAL_ROWS]
    near = cKDTree(x).query(x, k + 1)[1][:, 1:]
    return max(0.0, float(1 - (y - y[near].mean(1)).var() * k / (k + 1) / y.var()))


def independent(u: np.ndarray, reach: int) -> bool:
    """Whether the columns of u beyond the first `reach` share nothing with those before them.

    The embedding of a curve or a surface has many uncorrelated columns, all of them functions of a few numbers: their
    nats must not be added up.
    """
    u = np.ascontiguousarray(u[:LOCAL_ROWS])
    shared = [ksg_pointwise(u[:, :reach], u[:, [c]], 3).mean() for c in range(reach, u.shape[1])]
    # Noise of a reading is about 0.03 nats; what is a function of the rest reads tenths of nats.
    return max(shared) < 0.12 and float(np.mean(shared)) < 0.03


def gaussian_nats(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """-½ log(1 - ρ²) of each pair of columns of u and v: [n, r] -> [r]."""
    rho2 = np.array([np.corrcoef(u[:, i], v[:, i])[0, 1] ** 2 for i in range(min(u.shape[1], v.shape[1]))])
    return -0.5 * np.log1p(-np.minimum(rho2, 1 - 1e-12))
