"""Mutual information over time: between series that are lagged, and from the past of one to the next of another.

    lagged      I(x_t; y_(t+l))
    transfer    T(x -> y) = I(y_t; x_(t-1), ..., x_(t-p) | y_(t-1), ..., y_(t-q))

Rows near in time are not independent. So permutations are circular shifts of x by at least one block, and the standard
error is that of a mean in time (inference/dependence.py).

References:
    Schreiber 2000, Phys. Rev. Lett. 85, 461 (transfer entropy).
    Barnett, Barrett & Seth 2009, arXiv:0910.4514 (for Gaussian variables it is Granger causality).
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.caution import distinct
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import Variable, read_pair, standardize
from ssl_mi.information.core.knn_inputs import check_neighbours, dims_cautions, few_rows
from ssl_mi.information.core.settings import check_seed, check_uncertainty, whole_number
from ssl_mi.information.core.smoothing import Smoother
from ssl_mi.information.estimators.ksg import ksg_pointwise
from ssl_mi.information.inference.dependence import read_rows
from ssl_mi.information.inference.dependence_check import dependence_cautions
from ssl_mi.information.inference.permutation import p_value

FEWEST_ROWS = 100
MEMORY = 0.05  # product of both series' correlations with themselves, below which they have forgotten


def lagged_mutual_information(
    x: ArrayLike,
    y: ArrayLike,
    lag: int = 1,
    *,
    k: int = 3,
    blocks: int | None = None,
    level: float = 0.95,
    permutations: int = 99,
    seed: int = 0,
) -> Estimate:
    """I(x_t; y_(t + lag)) of two series in nats, by KSG among rows that are a block or more apart.

    Args:
        x: [n] or [n, dx], in the order of time.
        y: [n] or [n, dy], at the same times.
        lag: by how many rows y comes later; negative where x does.
        k: neighbours.
        blocks: rows are taken as independent when that many places apart; 1 where order means nothing. None: twice the
            lag at which one of the series has forgotten itself.
        level: of the interval, between 0 and 1.
        permutations: circular shifts for null and p; 0 leaves them out.
        seed: of the shifts.

    Returns:
        A point estimate; `settings` has the lag and the blocks.

    Raises:
        ValueError: unpaired lengths, missing values, fewer than 100 rows that are left by the lag, fewer than 10
            blocks, settings out of range.

    Example:
        >>> x = np.random.default_rng(0).standard_normal(1000)
        >>> y = np.r_[0.0, 0.0, x[:-2]] + 0.5 * np.random.default_rng(1).standard_normal(1000)
        >>> lagged_mutual_information(x, y, 2).p_value, bool(lagged_mutual_information(x, y, 1).p_value > 0.05)
        (0.01, True)
    """
    started = time.perf_counter()
    _check(level, permutations, seed)
    k = whole_number("k", k, 1, "neighbours")
    lag = whole_number("lag", lag, -(10**9), "rows")
    a, b = read_pair(x, y)
    if a.n - abs(lag) < FEWEST_ROWS:
        raise ValueError(f"lag={lag} leaves {max(a.n - abs(lag), 0)} of n={a.n} rows: {FEWEST_ROWS} are needed")
    early, late = slice(0, a.n - abs(lag)), slice(abs(lag), a.n)
    of_x, of_y = (early, late) if lag >= 0 else (late, early)
    a, b = a._replace(values=a.values[of_x]), b._replace(values=b.values[of_y])
    found = _between(a, b, k, blocks, level, permutations, seed)
    return replace(
        found,
        estimator="lagged mutual information",
        settings={"lag": lag, **found.settings},
        seconds=time.perf_counter() - started,
    )


def transfer_entropy(
    x: ArrayLike,
    y: ArrayLike,
    lags: int = 1,
    *,
    history: int | None = None,
    k: int = 3,
    blocks: int | None = None,
    level: float = 0.95,
    permutations: int = 99,
    seed: int = 0,
) -> Estimate:
    """T(x -> y): what the last rows of x say of the next row of y beyond the last rows of y, in nats.

    y_t and the past of x are regressed on the past of y, in location and scale (core/smoothing.py), and KSG estimates
    what is left. For a linear Gaussian process that is half the logarithm of the ratio of the two residual variances
    (Barnett, Barrett & Seth 2009). Dependence that changes with the past of y is missed: a lower bound. A common cause
    of x and y that is not among them looks like a transfer.

    Args:
        x: [n] or [n, dx], the source, in the order of time.
        y: [n] or [n, dy], the target, at the same times.
        lags: p, rows of the past of x.
        history: q, rows of the past of y; None is p. Too few of them make y's own memory look like a transfer.
        k: neighbours.
        blocks: rows are taken as independent when that many places apart; see `lagged_mutual_information`.
        level: of the interval, between 0 and 1.
        permutations: circular shifts of the source for null and p; 0 leaves them out.
        seed: of the shifts and of the regression.

    Raises:
        ValueError: as `lagged_mutual_information` does.

    References:
        Schreiber 2000, Phys. Rev. Lett. 85, 461; Barnett, Barrett & Seth 2009, arXiv:0910.4514.

    Example:
        >>> x = np.random.default_rng(0).standard_normal(1000)
        >>> y = np.r_[0.0, x[:-1]] + np.random.default_rng(1).standard_normal(1000)
        >>> transfer_entropy(x, y).p_value, bool(transfer_entropy(y, x).p_value > 0.05)
        (0.01, True)
    """
    started = time.perf_counter()
    _check(level, permutations, seed)
    k = whole_number("k", k, 1, "neighbours")
    p = whole_number("lags", lags, 1, "rows of the past")
    q = p if history is None else whole_number("history", history, 1, "rows of the past")
    a, b = read_pair(x, y)
    first = max(p, q)
    if a.n - first < FEWEST_ROWS:
        raise ValueError(f"a past of {first} rows leaves {max(a.n - first, 0)} of n={a.n}: {FEWEST_ROWS} are needed")
    source, past, target = _past(a.values, p, first), _past(b.values, q, first), b.values[first:]
    smoother = Smoother(past, np.random.default_rng(seed))
    left = [
        Variable(np.stack([smoother.standardized_residual(column) for column in side.T], 1), name, "float64")
        for side, name in ((source, "x"), (target, "y"))
    ]
    found = _between(left[0], left[1], k, blocks, level, permutations, seed)
    return replace(
        found,
        kind="lower bound",
        dims=(a.d, b.d),
        estimator="transfer entropy",
        settings={"lags": p, "history": q, **found.settings},
        seconds=time.perf_counter() - started,
    )


def _check(level: float, permutations: int, seed: int) -> None:
    check_uncertainty(level, permutations)
    check_seed(seed)


def _past(values: np.ndarray, count: int, first: int) -> np.ndarray:
    """The `count` rows before each row from `first` on, side by side: [n - first, count d]."""
    n = len(values)
    return np.concatenate([values[first - lag : n - lag] for lag in range(1, count + 1)], 1)


def _between(
    a: Variable, b: Variable, k: int, blocks: int | None, level: float, permutations: int, seed: int
) -> Estimate:
    """KSG of two series, with interval, shifts and cautions."""
    from scipy.stats import t as student

    a, _, of_a = standardize(a)
    b, _, of_b = standardize(b)
    check_neighbours(k, a.n)
    rows = read_rows(a.n, blocks=_memory(a.values, b.values) if blocks is None else blocks)
    if not (np.ptp(a.values, axis=0).any() and np.ptp(b.values, axis=0).any()):
        pointwise: np.ndarray = np.zeros(a.n)
    else:
        pointwise = ksg_pointwise(a.values, b.values, k, rows=rows)
    value, se = float(pointwise.mean()), float(np.sqrt(rows.variance_of_mean(pointwise)))
    reach = float(student.ppf((1 + level) / 2, max(rows.n_effective - 1, 1))) * se
    shifts = [rows.derangement(np.random.default_rng([seed, draw])) for draw in range(permutations)]
    null = np.array([float(ksg_pointwise(a.values[shift], b.values, k, rows=rows).mean()) for shift in shifts])
    order = dependence_cautions(a, b, rows) if rows.lags else ()
    return Estimate(
        value=value,
        se=se,
        ci=(value - reach, value + reach),
        ci_level=level,
        p_value=p_value(value, null) if permutations else None,
        null=float(null.mean()) if permutations else None,
        permutations=permutations or None,
        n=a.n,
        dims=(a.d, b.d),
        settings={"k": k, "blocks": rows.settings.get("blocks", 1), "seed": seed},
        warnings=distinct((*of_a, *of_b, *dims_cautions(a), *dims_cautions(b), *few_rows(a.n), *order)),
    )


def _memory(x: np.ndarray, y: np.ndarray) -> int:
    """Rows after which the two series have forgotten, twice over, and at most a twelfth of the series."""
    n = len(x)
    for lag in range(1, n // 24):
        r = [float((side[lag:] * side[:-lag]).mean(0).max()) for side in (x, y)]
        if min(r) <= 0 or r[0] * r[1] < MEMORY:
            return 1 if lag == 1 else min(2 * lag, n // 12)
    return max(1, n // 12)
