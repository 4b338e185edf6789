"""Interval, permutation test and neighbour check around any estimator.

Uncertainty is computed around an estimator, a function of two paired arrays that returns an Estimate, by calling it on
other arrangements of the same rows. `functools.partial(ksg, k=5)` is an estimator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from numpy.typing import ArrayLike

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.settings import check_seed, check_uncertainty
from ssl_mi.information.inference.dependence import Rows, read_rows
from ssl_mi.information.inference.dependence_check import cautions_of_samples
from ssl_mi.information.inference.neighbour_check import with_neighbour_check
from ssl_mi.information.inference.permutation import with_permutation_test
from ssl_mi.information.inference.subsampling import SUBSETS, with_interval


def with_uncertainty(
    estimator: Callable[..., Estimate],
    x: ArrayLike,
    y: ArrayLike,
    *,
    level: float = 0.95,
    permutations: int = 19,
    subsets: int = SUBSETS,
    seed: int = 0,
    labelled: bool = False,
    groups: ArrayLike | None = None,
    blocks: int | None = None,
) -> Estimate:
    """`with_interval` and `with_permutation_test` around one estimate.

    An estimator with neighbours (an argument `k`) is called once more with four times as many: its bias depends on
    them, its target does not, so where they disagree a caution is added.

    Args:
        estimator: (x, y) -> Estimate.
        x: [n] or [n, dx].
        y: [n] or [n, dy].
        level: of the interval, between 0 and 1.
        permutations: B of the permutation test; 0 leaves it out.
        subsets: parts for the interval; 0 leaves it out.
        seed: of the parts and of the permutations.
        labelled: y holds labels, which the parts must keep; see `with_interval`.
        groups: [n], the source of each row (an image, a patient). Rows of one source stay in one part and move
            together. The value itself is the estimator's own: compare it with `null`, which has the same bias.
        blocks: rows are in the order of time, and taken as independent when that many places apart.

    Raises:
        ValueError: as `with_interval`, `with_permutation_test` and `dependence.read_rows` do.

    Example:
        >>> import numpy as np
        >>> from ssl_mi.information import ksg
        >>> x = np.random.default_rng(0).standard_normal(500)
        >>> estimate = with_uncertainty(ksg, x, x + np.random.default_rng(1).standard_normal(500))
        >>> bool(estimate.ci[0] < 0.5 * np.log(2) < estimate.ci[1]), estimate.p_value
        (True, 0.05)
    """
    check_uncertainty(level, permutations, subsets)
    check_seed(seed)
    rows = read_rows(len(x), groups, blocks) if groups is not None or blocks is not None else None  # type: ignore[arg-type]
    estimate = around(estimator, x, y, level, permutations, subsets, seed, labelled, rows)
    if not (permutations or subsets):
        return estimate
    return replace(estimate, warnings=(*estimate.warnings, *cautions_of_samples(x, y, rows)))


def around(
    estimator: Callable[..., Estimate],
    x: ArrayLike,
    y: ArrayLike,
    level: float,
    permutations: int,
    subsets: int,
    seed: int,
    labelled: bool = False,
    rows: Rows | None = None,
) -> Estimate:
    """`with_uncertainty` for rows that are described already, its other arguments checked."""
    estimate = estimator(x, y)
    if subsets:
        estimate = with_interval(
            estimator, x, y, level=level, subsets=subsets, seed=seed, estimate=estimate, labelled=labelled, rows=rows
        )
    if permutations:
        estimate = with_permutation_test(
            estimator, x, y, permutations=permutations, seed=seed, estimate=estimate, rows=rows
        )
    if rows is not None:
        estimate = replace(estimate, settings={**estimate.settings, **rows.settings})
    return with_neighbour_check(estimate, estimator, lambda other: float(other(x, y)), estimate.n or 0)
