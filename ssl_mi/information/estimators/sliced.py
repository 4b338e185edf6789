"""Sliced mutual information: another quantity, which can be estimated in any dimension."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.knn_inputs import check_k, few_rows, growth_caution, prepare
from ssl_mi.information.core.settings import check_seed, whole_number
from ssl_mi.information.estimators.ksg import ksg_pointwise


def sliced_mi(x: ArrayLike, y: ArrayLike, slices: int = 100, k: int = 3, *, seed: int = 0) -> Estimate:
    """Sliced mutual information: the average of I(θ·x; φ·y) over random directions θ, φ, in nats.

    A different quantity from I(x; y), never above it: 0 exactly at independence and estimable in any dimension, for
    every slice is one number a side; but it shrinks as dimensions grow (d-dimensional Gaussians share about 1/d of a
    pair's). Compare it with itself, not with I. `se` is over slices, of the same rows.

    Args:
        x: [n] or [n, dx].
        y: [n] or [n, dy].
        slices: pairs of directions, at least 2.
        k: neighbours.
        seed: of the directions.

    Raises:
        ValueError: unpaired lengths, NaN, wrong rank, n <= k, fewer than 2 slices.

    References:
        Goldfeld & Greenewald 2021, arXiv:2110.05279, definition 1.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal(2000)
        >>> y = x + rng.standard_normal(2000)  # I = log(2) / 2 = 0.347 nats
        >>> bool(abs(sliced_mi(x, y, slices=2).value - np.log(2) / 2) < 0.06)
        True
    """
    from scipy.special import digamma

    started = time.perf_counter()
    slices = whole_number("slices", slices, 2, "pairs of directions")
    check_seed(seed)
    a, b, cautions = prepare(x, y, standardized=True, duplicates="drop", dequantized=True, seed=seed)
    k = check_k(k, a.n)
    values = _of_slices(a.values, b.values, slices, k, seed)
    value, ceiling = float(np.mean(values)), float(digamma(a.n) - digamma(k))

    def of_half(rows: np.ndarray) -> float:
        return float(np.mean(_of_slices(a.values[rows], b.values[rows], slices, k, seed)))

    return Estimate(
        value=value,
        kind="lower bound",
        se=float(np.std(values, ddof=1) / np.sqrt(slices)),
        n=a.n,
        dims=(a.d, b.d),
        estimator="sliced MI",
        settings={"slices": slices, "k": k, "seed": seed},
        seconds=time.perf_counter() - started,
        warnings=(*cautions, *few_rows(a.n), *growth_caution(value, ceiling, a.n, of_half)),
    )


def _of_slices(x: np.ndarray, y: np.ndarray, slices: int, k: int, seed: int) -> list[float]:
    """The estimate along each pair of directions, nats."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(slices):
        theta, phi = (rng.standard_normal((side.shape[1], 1)) for side in (x, y))
        values.append(float(ksg_pointwise(_unit(x @ theta), _unit(y @ phi), k).mean()))
    return values


def _unit(values: np.ndarray) -> np.ndarray:
    deviation = values.std()
    return values / deviation if deviation > 0 else values
