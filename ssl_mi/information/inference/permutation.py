"""Permutation tests of independence: what an estimator gives where rows are re-paired and nothing is shared."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import take_rows
from ssl_mi.information.core.settings import check_seed, whole_number

if TYPE_CHECKING:
    from ssl_mi.information.inference.dependence import Rows


class PermutationTest(NamedTuple):
    """The mean statistic over the permutations, and the p-value of the one observed."""

    null: float
    p_value: float


def p_value(observed: float, null: ArrayLike) -> float:
    """(1 + b) / (1 + B): b of the B values of `null` are at least as large as the one observed.

    Counting the observed value among them makes the test exact for exchangeable values: P(p <= a) <= a. It is never 0.

    Args:
        observed: the statistic of the true pairing.
        null: [B], the same statistic of re-paired samples.

    References:
        Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9(1), arXiv:1603.05766.

    Example:
        >>> p_value(2.0, [0.1, 2.0, 0.3])
        0.5
    """
    values = np.asarray(null)
    return (1 + int((values >= observed).sum())) / (1 + values.size)


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """A random permutation of 0..n-1 that moves every row: one random cycle.

    Args:
        n: number of rows, at least 2.
        rng: where the draw comes from.

    Returns:
        int64 [n].

    Example:
        >>> import numpy as np
        >>> order = derangement(5, np.random.default_rng(0))
        >>> sorted(order.tolist()), bool((order == np.arange(5)).any())
        ([0, 1, 2, 3, 4], False)
    """
    if n < 2:
        raise ValueError(f"n must be at least 2 for every row to get another partner, got {n}")
    order = rng.permutation(n)
    moved = np.empty(n, np.int64)
    moved[order] = np.roll(order, 1)
    return moved


def permutation_test(
    statistic: Callable[[Sequence[np.ndarray]], float],
    observed: float,
    folds: Sequence[Rows],
    permutations: int,
    rng: np.random.Generator,
) -> PermutationTest:
    """Compare a statistic of paired rows with its values over random derangements.

    Args:
        statistic: partners (int64 [n_f] for each fold: row i is paired with row partners[i]) -> the statistic. It must
            be one fixed function: where anything is chosen by looking at the pairing, the test is not exact.
        observed: the statistic of the true pairing.
        folds: the rows of each fold, within which they are re-paired.
        permutations: B, at least 1.
        rng: where the derangements come from.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    null = [statistic([rows.derangement(rng) for rows in folds]) for _ in range(permutations)]
    return PermutationTest(float(np.mean(null)), p_value(observed, null))


def with_permutation_test(
    estimator: Callable[..., Estimate],
    x: ArrayLike,
    y: ArrayLike,
    *,
    permutations: int = 19,
    seed: int = 0,
    estimate: Estimate | None = None,
    rows: Rows | None = None,
) -> Estimate:
    """The estimate with a permutation test: its mean over re-paired rows, and p = (1 + b) / (1 + B).

    Each of B = `permutations` times the rows of y are re-paired by a random derangement (no row keeps its partner), b
    of them giving at least the estimate. p is at least 1 / (1 + B): 19 permutations can just reach .05. A null mean
    away from 0 is the bias of the whole procedure at independence.

    Args:
        estimator: (x, y) -> Estimate.
        x: [n] or [n, dx].
        y: [n] or [n, dy].
        permutations: B, at least 1.
        seed: of the derangements.
        estimate: what `estimator` gives for (x, y), where that is known already.
        rows: which rows depend on each other, and so move together; None where none do.

    Raises:
        ValueError: permutations < 1, or whatever the estimator refuses.

    Example:
        >>> import numpy as np
        >>> from ssl_mi.information import cca_mi
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal(200)
        >>> estimate = with_permutation_test(cca_mi, x, x + rng.standard_normal(200), permutations=19)
        >>> estimate.p_value  # the least that 19 permutations can show: 1 / 20
        0.05
    """
    whole_number("permutations", permutations, 1, "re-pairings")
    check_seed(seed)
    started = time.perf_counter()
    whole = estimator(x, y) if estimate is None else estimate
    n = np.shape(x)[0]
    rng = np.random.default_rng(seed)
    draw = partial(derangement, n) if rows is None else rows.derangement
    null = [float(estimator(x, take_rows(y, draw(rng)))) for _ in range(permutations)]
    test = PermutationTest(float(np.mean(null)), p_value(whole.value, null))
    return replace(
        whole,
        null=test.null,
        p_value=test.p_value,
        permutations=permutations,
        seconds=(whole.seconds or 0.0) * (estimate is not None) + time.perf_counter() - started,
    )
