"""Candidates of the default estimator: KSG on projections of two continuous variables, less its bias on Gaussians.

KSG's bias grows with dimension and dependence. It is measured on Gaussian twins (same n, same covariance, mutual
information known) and subtracted. What is left is due to what the samples differ from Gaussians in; it shows as a
difference between the estimates at k and at 4 k neighbours (`Candidate.with_k`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssl_mi.information.core.knn_inputs import MAX_DIMS
from ssl_mi.information.core.linalg import normal_scores
from ssl_mi.information.estimators.ksg import ksg_pointwise
from ssl_mi.information.inference.dependence import Rows
from ssl_mi.information.projections.linear import CCA

TWINS = {2: 16, 4: 8}  # by dimensions of both sides together; else
FEWEST_TWINS = 4
LOCAL_ROWS = 2000  # enough to see that a column is a function of others
SMALLEST_TAIL = 0.02  # nats beyond the fourth dimension that are worth a formula

Halves = tuple[np.ndarray, np.ndarray]  # rows, int64


@dataclass(frozen=True)
class Candidate:
    """One projection on some rows: KSG of it, the bias of its twins, what a Gaussian tail adds, and the rows.

    Args:
        pointwise: float64 [n], whose mean is KSG's estimate, nats.
        bias: of KSG on Gaussian twins, nats.
        bias_variance: of that bias, for there are only a few twins.
        u: float64 [n, r], one side as it was given to KSG.
        v: float64 [n, s], the other.
        k: neighbours.
        seed: of the twins.
        family: the kind of projection, "direct" for none.
        novelty: for nested columns, the share of each that is no function of the ones before; () counts all whole.
        tail: nats added for columns beyond the fourth, by the Gaussian formula.
        tail_columns: how many columns that formula covers in all; 0 where it is not used.
        shortfall: nats that the projection, fitted on other rows, is expected to miss of the best of its kind.
        unmeasured: nats in its columns beyond the fourth that are not counted, if they are Gaussian.
        rows: which rows depend on each other; None where none do.
    """

    pointwise: np.ndarray
    bias: float
    bias_variance: float
    u: np.ndarray
    v: np.ndarray
    k: int
    seed: int
    family: str = "direct"
    novelty: tuple[float, ...] = ()
    tail: float = 0.0
    tail_columns: int = 0
    shortfall: float = 0.0
    unmeasured: float = 0.0
    rows: Rows | None = None

    @property
    def name(self) -> str:
        """The family and its dimensions, for people."""
        if self.family == "direct":
            return self.family
        tail = f" + Gaussian({self.tail_columns})" if self.tail_columns else ""
        return f"{self.family}({self.u.shape[1]}){tail}"

    @property
    def tests_dependence(self) -> bool:
        """Whether it serves the test of independence: what is shared shows in the first dimension."""
        return self.family == "direct" or (self.u.shape[1] == 1 and not self.tail_columns)

    @property
    def value(self) -> float:
        """The estimate, nats."""
        return float(self.pointwise.mean()) - self.bias + self.tail

    @property
    def score(self) -> float:
        """What to choose by: what a correction added does not count, for it may be wrong."""
        return self.value - max(0.0, -self.bias)

    @property
    def optimistic_value(self) -> float:
        """What the best projection of this kind might give; or all of its columns, were the rest Gaussian."""
        return self.value + max(self.shortfall, self.unmeasured)

    @property
    def variance(self) -> float:
        """Of the average over rows. They share neighbours, so it is more than that of as many independent ones.

        How much more was measured on Gaussians (n = 500 and 2,000, correlation 0 to .9, k = 3): 1.5 times in
        1 + 1 dimensions, 1.7 in 2 + 2, 2.2 in 4 + 4.
        """
        shared = 1.3 + 0.11 * (self.u.shape[1] + self.v.shape[1])
        return shared * (self.rows or Rows(len(self.pointwise))).variance_of_mean(self.pointwise)

    def with_k(self, k: int) -> Candidate:
        """The same rows with other neighbours."""
        dims = range(1, len(self.novelty) + 1)
        biases = [_twin_bias(self.u[:, :r], self.v[:, :r], k, self.seed) for r in dims]
        bias = _nested(biases, self.novelty) if self.novelty else _twin_bias(self.u, self.v, k, self.seed)
        pointwise = ksg_pointwise(self.u, self.v, k, rows=self.rows)
        return replace(self, pointwise=pointwise, bias=bias[0], bias_variance=bias[1], k=k)


def evaluate(u: np.ndarray, v: np.ndarray, k: int, seed: int, rows: Rows | None = None) -> Candidate:
    """The candidate of u: [n, r] and v: [n, s], as they are."""
    u, v = np.ascontiguousarray(u), np.ascontiguousarray(v)
    return Candidate(ksg_pointwise(u, v, k, rows=rows), *_twin_bias(u, v, k, seed), u, v, k, seed, rows=rows)


def all_candidates(
    x: np.ndarray,
    y: np.ndarray,
    halves: Halves,
    k: int,
    networks: bool,
    seed: int,
    rows: Rows | None = None,
) -> dict[str, list[Candidate]]:
    """Every candidate on both halves, projections always fitted on the other half.

    Args:
        x: float64 [n, dx], columns standard normal.
        y: float64 [n, dy], likewise.
        halves: rows of each half.
        k: neighbours.
        networks: whether to fit networks too.
        seed: of fits and twins.
        rows: which rows depend on each other; None where none do.

    Returns:
        {name: [on the first half, on the second]}.
    """
    found = []
    if max(x.shape[1], y.shape[1]) <= MAX_DIMS:
        found += [evaluate(x[half], y[half], k, seed + i, rows and rows.take(half)) for i, half in enumerate(halves)]
    dims = min(x.shape[1], y.shape[1])
    if max(x.shape[1], y.shape[1]) > 1:
        linear = [CCA(dims).fit(x[half], y[half], seed) for half in halves[::-1]]
        found += _of_family("CCA", linear, x, y, halves, k, seed, rows)
    if networks:
        from ssl_mi.information.projections.neural import Learned  # which imports torch

        # Beyond the dimension of a side, further numbers are functions of the ones before.
        learned = Learned(min(MAX_DIMS, dims)).fit_each([(x[half], y[half]) for half in halves[::-1]], seed)
        found += _of_family("learned", learned, x, y, halves, k, seed, rows)
    by_name: dict[str, list[Candidate]] = {}
    for candidate in found:
        by_name.setdefault(candidate.name, []).append(candidate)
    return {name: both for name, both in by_name.items() if len(both) == len(halves)}


def _of_family(
    family: str,
    fits: Sequence[Any],
    x: np.ndarray,
    y: np.ndarray,
    halves: Halves,
    k: int,
    seed: int,
    rows: Rows | None,
) -> Iterator[Candidate]:
    """A projection in 1, 2, .. 4 of its dimensions, and with its Gaussian tail beyond them, on each half."""
    for half, (fit, of_half) in enumerate(zip(fits, halves, strict=True)):
        u, v = map(normal_scores, fit(x[of_half], y[of_half]))
        fitted_on = halves[1 - half]
        promised = gaussian_nats(*map(normal_scores, fit(x[fitted_on], y[fitted_on])))
        kept = gaussian_nats(u, v) - 1 / (2 * len(u))
        nested = _nested_candidates(family, u, v, promised - kept, k, seed + half, rows and rows.take(of_half))
        yield from nested[:-1]
        yield from _with_tail(nested[-1], u, v, kept)


def _nested_candidates(
    family: str,
    u: np.ndarray,
    v: np.ndarray,
    excess: np.ndarray,
    k: int,
    seed: int,
    rows: Rows | None,
) -> list[Candidate]:
    """The first 1, 2, .. 4 columns. excess: nats of each pair on the rows that were fitted, beyond those on these."""
    biases: list[tuple[float, float]] = []
    novelty: tuple[float, ...] = ()
    found = []
    for r in range(1, min(MAX_DIMS, u.shape[1], v.shape[1]) + 1):
        candidate = evaluate(u[:, :r], v[:, :r], k, seed, rows)
        biases.append((candidate.bias, candidate.bias_variance))
        # A dimension that repeats the others adds none of the bias that its twin, an independent one, has.
        novelty += (1 - (redundancy(u[:, :r]) + redundancy(v[:, :r])) / 2,)
        bias, bias_variance = _nested(biases, novelty)
        # What a fit promises too much on its own rows is, to first order, what it falls short of on others.
        shortfall = max(0.0, float(excess[:r].sum()) / 2)
        found.append(
            replace(
                candidate,
                family=family,
                novelty=novelty,
                bias=bias,
                bias_variance=bias_variance,
                shortfall=shortfall,
            )
        )
    return found


def _with_tail(candidate: Candidate, u: np.ndarray, v: np.ndarray, kept: np.ndarray) -> list[Candidate]:
    """A candidate of all columns that KSG can follow, and one that adds the others by the Gaussian formula.

    The formula is believed for those columns when it gives what KSG does for the ones before, and they share nothing
    with these.
    """
    reach = candidate.u.shape[1]
    head, tail = kept[:reach].sum(), float(kept[reach:].sum())
    if not (tail > SMALLEST_TAIL and independent(u, reach) and independent(v, reach)):
        return [candidate]
    found = [replace(candidate, unmeasured=tail)]
    if abs(head - candidate.value) < max(0.05, 0.05 * head):
        found.append(replace(candidate, tail=tail, tail_columns=u.shape[1]))
    return found


def _nested(biases: Sequence[tuple[float, float]], novelty: tuple[float, ...]) -> tuple[float, float]:
    """Bias and its variance: each step from r - 1 to r columns counted by the share that is new in column r."""
    weights = np.array(novelty) - np.append(novelty[1:], 0.0)  # Σ novelty_r (b_r - b_(r-1)), by parts
    values, variances = np.array(biases).T
    return float(weights @ values), float(weights**2 @ variances)


def _twin_bias(u: np.ndarray, v: np.ndarray, k: int, seed: int) -> tuple[float, float]:
    """The bias of KSG on Gaussians with the covariance of (u, v), E KSG - I, and the variance of that.

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
        w = normal_scores(z)  # as the samples themselves were
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
    """R² of the mean over the k nearest other rows: 0 or less of an independent y, near 1 where x determines y."""
    from scipy.spatial import cKDTree

    x, y = x[:LOCAL_ROWS], y[:LOCAL_ROWS]
    near = np.asarray(cKDTree(x).query(x, k + 1)[1])[:, 1:]
    return max(0.0, float(1 - (y - y[near].mean(1)).var() * k / (k + 1) / y.var()))


def independent(u: np.ndarray, reach: int) -> bool:
    """Whether the columns of u beyond the first `reach` share nothing with those before them.

    The embedding of a curve or a surface has many uncorrelated columns, all of them functions of a few numbers: their
    nats must not be added up.
    """
    u = np.ascontiguousarray(u[:LOCAL_ROWS])
    shared = [ksg_pointwise(u[:, :reach], u[:, [c]], 3).mean() for c in range(reach, u.shape[1])]
    # Noise of such an estimate is about 0.03 nats; a function of the rest shares tenths of nats.
    return bool(max(shared) < 0.12 and np.mean(shared) < 0.03)


def gaussian_nats(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """-½ log(1 - ρ²) of each pair of columns of u and v: [n, r] -> [r]."""
    rho2 = np.array([np.corrcoef(u[:, i], v[:, i])[0, 1] ** 2 for i in range(min(u.shape[1], v.shape[1]))])
    return -0.5 * np.log1p(-np.minimum(rho2, 1 - 1e-12))
