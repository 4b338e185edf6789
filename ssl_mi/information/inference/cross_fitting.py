"""One estimate through projections that were fitted on other rows, and the paired difference of two such estimates.

Fitting on half of the rows and estimating on the other half wastes half of them. Cross-fitting estimates on both
halves, each through the projection that the other fitted. A *fold* is a pair of arrays (u, v) that has been projected
so; with n_f rows in fold f,

    value     Σ n_f I_f / n                   I_f: the estimate on fold f
    se²       var(subsamples) / m             subsamples: m disjoint parts of the rows, m / folds of each fold,
                                              estimated alone; averaged over R random ways to cut them; Student t
                                              with R (m - 1) degrees of freedom (subsampling.py)
    null, p   over B re-pairings of the rows, each row with another of its fold (permutation.py)

Folds are estimated through different projections, so their parts may differ in mean; that counts as spread.

Two estimates on the same rows (an encoder at two epochs, with the same images, views and parts) err together. The
standard error of their difference is that of the differences d between equal parts, var(d) / m averaged over the R
ways, and what the rows happen to be cancels in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.caution import distinct
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.settings import check_uncertainty, whole_number
from ssl_mi.information.inference.dependence import Rows, read_rows
from ssl_mi.information.inference.neighbour_check import with_neighbour_check
from ssl_mi.information.inference.permutation import PermutationTest, permutation_test
from ssl_mi.information.inference.subsampling import no_interval, subsample_se

Estimator = Callable[..., Estimate]
Subsamples = tuple[tuple[float, ...], ...]  # [R][m]


class CrossFitted(NamedTuple):
    """An estimate, and R times the estimates on m disjoint parts of its rows.

    Attributes:
        estimate: the average over the folds.
        subsamples: R arrays of m estimates in nats, or ().
    """

    estimate: Estimate
    subsamples: Subsamples = ()


class Difference(NamedTuple):
    """later - earlier, in nats, with a Student-t interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Folds:
    """Disjoint rows, each fold projected by what other folds fitted.

    Args:
        pairs: (u [n_f, d], v [n_f, d']) of each fold.
        dependent: which rows of each fold depend on each other; () where none do.
    """

    pairs: Sequence[tuple[np.ndarray, np.ndarray]]
    dependent: Sequence[Rows] = ()

    @property
    def rows(self) -> Sequence[Rows]:
        """What the rows of each fold are."""
        return self.dependent or [Rows(n) for n in self.sizes]

    @property
    def sizes(self) -> list[int]:
        """Rows of each fold."""
        return [len(u) for u, _ in self.pairs]

    def average(self, values: Sequence[float]) -> float:
        """Σ n_f values_f / n."""
        return float(np.average(values, weights=self.sizes))

    def value(self, estimator: Estimator) -> float:
        """The average estimate, in nats."""
        return self.average([float(estimator(u, v)) for u, v in self.pairs])

    def estimate(self, estimator: Estimator) -> Estimate:
        """The average over folds as an Estimate; its ceiling is that of a fold."""
        estimates = [estimator(u, v) for u, v in self.pairs]
        ceilings = [estimate.ceiling for estimate in estimates if estimate.ceiling is not None]
        return replace(
            estimates[0],
            value=self.average([float(estimate) for estimate in estimates]),
            n=sum(self.sizes),
            ceiling=float(np.mean(ceilings)) if len(ceilings) == len(estimates) else None,
            warnings=distinct(caution for estimate in estimates for caution in estimate.warnings),
        )

    def permutation_test(
        self, estimator: Estimator, observed: float, permutations: int, rng: np.random.Generator
    ) -> PermutationTest:
        """The average estimate over re-pairings of the rows, each with another of its fold."""

        def statistic(partners: Sequence[np.ndarray]) -> float:
            return Folds([(u, v[p]) for (u, v), p in zip(self.pairs, partners, strict=True)]).value(estimator)

        return permutation_test(statistic, observed, self.rows, permutations, rng)

    def subsamples(
        self, estimator: Estimator, subsets: int, repeats: int, rng: np.random.Generator, labelled: bool = False
    ) -> Subsamples | None:
        """Estimates on `subsets` parts of each fold, for `repeats` ways to cut: [repeats][subsets * folds], nats.

        None where v holds labels (`labelled`) that are too rare to be cut so.
        """
        found = []
        for _ in range(repeats):
            parts = []
            for (u, v), rows in zip(self.pairs, self.rows, strict=True):
                cut = rows.cuts(subsets, rng, v if labelled else None)
                if cut is None:
                    return None
                parts += [(u[part], v[part]) for part in cut]
            found.append(tuple(float(estimator(u, v)) for u, v in parts))
        return tuple(found)


def cross_fit(
    estimator: Estimator,
    folds: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    level: float = 0.95,
    permutations: int = 19,
    subsets: int = 4,
    repeats: int = 3,
    seed: int = 0,
    labelled: bool = False,
    groups: Sequence[ArrayLike] = (),
) -> CrossFitted:
    """The average estimate over folds, with interval, permutation test and the estimates on parts of the rows.

    One fold gives what `with_uncertainty` does, for equal `subsets`.

    Args:
        estimator: (u, v) -> Estimate.
        folds: (u [n_f, d], v [n_f, d']) each, numpy or torch on the CPU.
        level: of the interval, between 0 and 1.
        permutations: B of the permutation test; 0 leaves it, and the neighbour check, out.
        subsets: m, parts for the interval, a multiple of the number of folds; 0 leaves it out.
        repeats: R, ways to cut.
        seed: of parts and permutations. The same seed cuts folds of the same sizes into the same parts.
        labelled: v holds labels; parts are cut so that each holds a label that occurs twice, and where labels are too
            rare for that there is no interval, and a caution.
        groups: of each fold, [n_f], the source of each row: parts and re-pairings keep sources whole. () where every
            row is a source of its own.

    Raises:
        ValueError: subsets that do not divide evenly over the folds or leave fewer than 2 in all, or whatever the
            estimator refuses.

    References:
        Holmes & Nemenman 2019, arXiv:1903.09280, section II.B (variance from disjoint subsets).
    """
    started = time.perf_counter()
    check_uncertainty(level, permutations)
    whole_number("repeats", repeats, 1, "ways to cut")
    if subsets and (subsets % len(folds) or subsets < 2):
        raise ValueError(f"subsets must be 2 or more and a multiple of the {len(folds)} folds, or 0; got {subsets}")
    pairs = [(np.asarray(u), np.asarray(v)) for u, v in folds]
    sources = [read_rows(len(u), of) for (u, _), of in zip(pairs, groups, strict=True)] if len(groups) else ()
    data = Folds(pairs, sources)
    estimate, subsamples = data.estimate(estimator), None
    if subsets:
        each, rng = subsets // len(folds), np.random.default_rng(seed)
        subsamples = data.subsamples(estimator, each, repeats, rng, labelled)
        if subsamples is None:
            estimate = replace(estimate, warnings=(*estimate.warnings, no_interval(each)))
    if subsamples:
        se, half = subsample_se(subsamples, level)
        estimate = replace(estimate, se=se, ci=(estimate.value - half, estimate.value + half), ci_level=level)
    if permutations:
        test = data.permutation_test(estimator, estimate.value, permutations, np.random.default_rng(seed))
        estimate = replace(estimate, null=test.null, p_value=test.p_value, permutations=permutations)
        estimate = with_neighbour_check(estimate, estimator, data.value, min(data.sizes))
    return CrossFitted(replace(estimate, seconds=time.perf_counter() - started), subsamples or ())


def difference(
    value: float, parts: ArrayLike, earlier: float, earlier_parts: ArrayLike, level: float = 0.95
) -> Difference:
    """value - earlier for two estimates on the same rows cut into the same parts, with its interval.

    Args:
        value: the later estimate, nats.
        parts: [R, m], its estimates on parts.
        earlier: the earlier estimate, nats.
        earlier_parts: [R, m], its estimates on the same parts.
        level: of the interval, between 0 and 1.

    Raises:
        ValueError: the parts do not pair up, or are fewer than 2.
    """
    shape, other = np.shape(parts), np.shape(earlier_parts)
    if shape != other or len(shape) != 2 or shape[1] < 2:
        raise ValueError(
            f"parts {list(shape)} and {list(other)} do not pair up: estimate on the same rows in 2 or more parts"
        )
    _, half = subsample_se(np.subtract(parts, earlier_parts), level)
    return Difference(value - earlier, value - earlier - half, value - earlier + half)
