"""How far an estimate can be trusted: its spread, its interval, and its reading where nothing is shared.

Uncertainty is computed around an estimator, a function of two paired arrays that returns an Estimate, by
calling it on other arrangements of the same rows. `functools.partial(ksg, k=5)` is an estimator.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.inference import strata

Estimator = Callable[..., Estimate]
SUBSETS, REPEATS = 5, 3  # parts for the standard error, and ways to cut the rows into them


def with_interval(
    estimator: Estimator,
    x,
    y,
    *,
    level: float = 0.95,
    subsets: int = SUBSETS,
    repeats: int = REPEATS,
    seed: int = 0,
    estimate: Estimate | None = None,
    labelled: bool = False,
) -> Estimate:
    """The estimate with a standard error and a Student-t interval, from disjoint subsets of the rows.

    The rows are cut at random into m = `subsets` parts of n/m rows, each read alone. The variance of an average
    over rows falls as 1/n, so se² = var(parts) / m, averaged over `repeats` ways to cut. (Resampling with
    replacement would give every nearest neighbour a twin.) Few large parts, for a nearest-neighbour estimate of
    few rows sees less detail and varies less than 1/n says. The parts tell the spread of the estimate, not its
    bias: the interval is centred at the estimate itself, and covers what the estimator converges to as far as its
    bias is below the standard error.

    labelled: y holds labels. Every part then holds a label that occurs twice, without which nothing can be estimated
    in it; where the labels are too rare for that, the estimate comes back without an interval and with a warning.

    Raises ValueError for subsets < 2, repeats < 1, level outside (0, 1), or whatever the estimator says about n/m
    rows.
    Source: Holmes & Nemenman 2019, arXiv:1903.09280, section II.B.
    """
    if subsets < 2:
        raise ValueError(f"subsets must be at least 2 to have a spread, got {subsets}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    started = time.perf_counter()
    whole = estimator(x, y) if estimate is None else estimate
    n = len(x)
    if n < 2 * subsets:
        raise ValueError(f"x and y have {n} rows, too few for {subsets} subsets: pass more rows")
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(repeats)]
    tried = [strata.parts(y, subsets, order) if labelled else np.array_split(order, subsets) for order in orders]
    cuts = [cut for cut in tried if cut is not None]
    if len(cuts) < repeats:
        return replace(whole, warnings=(*whole.warnings, no_interval_warning(subsets)))
    parts = [[float(estimator(_rows(x, part), _rows(y, part))) for part in cut] for cut in cuts]
    se, half = error_of_parts(parts, level)
    return replace(
        whole,
        se=se,
        ci=(whole.value - half, whole.value + half),
        ci_level=level,
        seconds=(whole.seconds or 0.0) * (estimate is not None) + time.perf_counter() - started,
    )


def no_interval_warning(subsets: int) -> str:
    return f"labels are too rare for an interval: no label occurs {2 * subsets} times, twice in each of {subsets} parts"


def error_of_parts(parts, level: float) -> tuple[float, float]:
    """Standard error, and half the width of the Student-t interval, from readings of parts, [repeats, m]."""
    from scipy.stats import t as student

    repeats, m = np.shape(parts)
    se = float(np.sqrt(np.var(parts, axis=1, ddof=1).mean() / m))
    return se, float(student.ppf((1 + level) / 2, repeats * (m - 1))) * se


def with_null(
    estimator: Estimator,
    x,
    y,
    *,
    permutations: int = 19,
    seed: int = 0,
    estimate: Estimate | None = None,
) -> Estimate:
    """The estimate with a permutation null: its mean, and p = (1 + b) / (1 + B).

    Each of B = `permutations` times the rows of y are re-paired by a random derangement (no row keeps its
    partner), b of them reading at least the estimate. p is never 0, and is at least 1 / (1 + B): 19
    permutations can just reach .05. A null mean away from 0 is the bias of the whole procedure at
    independence.

    Raises ValueError for permutations < 1.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    started = time.perf_counter()
    whole = estimator(x, y) if estimate is None else estimate
    rng = np.random.default_rng(seed)
    null = [float(estimator(x, _rows(y, derangement(len(x), rng)))) for _ in range(permutations)]
    reached = sum(value >= whole.value for value in null)
    return replace(
        whole,
        null=float(np.mean(null)),
        p_value=(1 + reached) / (1 + permutations),
        seconds=(whole.seconds or 0.0) * (estimate is not None) + time.perf_counter() - started,
    )


def assess(
    estimator: Estimator,
    x,
    y,
    *,
    level: float = 0.95,
    permutations: int = 19,
    subsets: int = SUBSETS,
    seed: int = 0,
    labelled: bool = False,
) -> Estimate:
    """`with_interval` and `with_null` around one reading; permutations=0 or subsets=0 leaves one out.

    An estimator with neighbours (an argument `k`) is asked once more with four times as many: its bias depends on
    them, its target does not, so where they disagree a warning is added.
    """
    estimate = estimator(x, y)
    if subsets:
        estimate = with_interval(
            estimator, x, y, level=level, subsets=subsets, seed=seed, estimate=estimate, labelled=labelled
        )
    if permutations:
        estimate = with_null(estimator, x, y, permutations=permutations, seed=seed, estimate=estimate)
    k = estimate.settings.get("k")
    if k is not None and 4 * k < (estimate.n or 0) and "k" in inspect.signature(estimator).parameters:
        more = float(estimator(x, y, k=4 * k))
        estimate = replace(estimate, warnings=estimate.warnings + disagreement(estimate.value, more, k, estimate.se))
    return estimate


def disagreement(value: float, more: float, k: int, se: float | None) -> tuple[str, ...]:
    """The warning that readings at k and at 4k neighbours are further apart than noise and small bias make them."""
    if abs(more - value) <= max(0.05, 0.05 * abs(value), 4 * (se or 0.0)):
        return ()
    return (f"disagreement over k: {value:.3f} at k={k}, {more:.3f} at k={4 * k}",)


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """A random permutation of 0..n-1 that moves every row: one random cycle. int64 [n]."""
    if n < 2:
        raise ValueError(f"n must be at least 2 for every row to get another partner, got {n}")
    order = rng.permutation(n)
    moved = np.empty(n, np.int64)
    moved[order] = np.roll(order, 1)
    return moved


def _rows(x, rows: np.ndarray):
    """Rows of a torch tensor (on its device) or of anything numpy reads."""
    if isinstance(x, torch.Tensor):
        return x[torch.from_numpy(rows).to(x.device)]
    return np.asarray(x)[rows]
