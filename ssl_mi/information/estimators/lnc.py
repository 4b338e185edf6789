"""Locally corrected KSG: thin slanted neighbourhoods of strongly dependent samples."""

from __future__ import annotations

import functools
import time

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.knn_inputs import check_k, dims_cautions, few_rows, growth_caution, prepare
from ssl_mi.information.estimators.ksg import ksg_pointwise


def lnc(x: ArrayLike, y: ArrayLike, k: int = 10, *, standardized: bool = True) -> Estimate:
    """Locally corrected KSG, for strong dependence: the k neighbours need not fill an upright box, in nats.

        I = I_KSG2 - < log V̄_i / V_i  where V̄_i < α V_i >

    KSG assumes the density to be uniform in the upright box V_i around the k neighbours. Near a curve it is uniform in
    a thin slanted one: V̄_i is the box along their principal axes. The correction applies where V̄_i / V_i is smaller
    than it would be by chance (1 in 200) for points uniform in the upright box: α, simulated for each k and dimension.
    The more neighbours the surer the axes: k above dx + dy is needed, 10 is usual.

    Args:
        x: [n] or [n, dx].
        y: [n] or [n, dy].
        k: neighbours, more than dx + dy.
        standardized: bring every column to variance 1 first.

    Raises:
        ValueError: unpaired lengths, NaN, wrong rank, n <= k, k <= dx + dy.

    References:
        Gao, Ver Steeg & Galstyan 2015, arXiv:1411.2003, eq. 10 and Algorithm 1.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal(2000)
        >>> y = x + rng.standard_normal(2000)  # I = log(2) / 2 = 0.347 nats
        >>> bool(abs(lnc(x, y).value - np.log(2) / 2) < 0.06)
        True
    """
    from scipy.special import digamma

    started = time.perf_counter()
    a, b, cautions = prepare(x, y, standardized=standardized, duplicates="drop", dequantized=True, seed=0)
    k = check_k(k, a.n)
    dims = a.d + b.d
    if k <= dims:
        raise ValueError(f"k={k} neighbours span no box in {dims} dimensions: pass k > {dims}")

    def of(rows: slice | np.ndarray) -> tuple[float, float]:
        return _corrected(a.values[rows], b.values[rows], k)

    value, corrected = of(slice(None))
    return Estimate(
        value=value,
        n=a.n,
        dims=(a.d, b.d),
        estimator="LNC",
        settings={"k": k, "corrected": f"{corrected:.0%}"},
        seconds=time.perf_counter() - started,
        warnings=(
            *cautions,
            *dims_cautions(a),
            *dims_cautions(b),
            *few_rows(a.n),
            *growth_caution(value, float(digamma(a.n) - digamma(k)), a.n, lambda rows: of(rows)[0]),
        ),
    )


def _corrected(x: np.ndarray, y: np.ndarray, k: int) -> tuple[float, float]:
    """The estimate on samples as they are, nats, and the share of rows where the correction applies."""
    base = ksg_pointwise(x, y, k, variant=2).mean()
    shrink = _log_box_ratio(_offsets(np.concatenate([x, y], 1), k), x.shape[1])
    corrections = np.where(shrink < _log_alpha(k, x.shape[1], y.shape[1]), shrink, 0.0)
    return float(base - corrections.mean()), float((corrections < 0).mean())


def _offsets(points: np.ndarray, k: int) -> np.ndarray:
    """points [n, d] -> the k nearest other points of each, less itself: [n, k, d]."""
    from scipy.spatial import cKDTree

    nearest = np.asarray(cKDTree(points).query(points, k + 1, p=np.inf)[1])
    # With ties the point itself need not come first: leave it out wherever it is, else the farthest.
    own = nearest == np.arange(len(points))[:, None]
    own[~own.any(1), -1] = True
    return points[nearest[~own].reshape(len(points), k)] - points[:, None, :]


def _log_box_ratio(offsets: np.ndarray, split: int) -> np.ndarray:
    """offsets [m, k, d] of neighbours -> log V̄ / V [m]: box along principal axes over upright box of KSG 2."""
    extents = np.abs(offsets)
    side_x, side_y = extents[:, :, :split].max((1, 2)), extents[:, :, split:].max((1, 2))
    tiny = np.finfo(np.float64).tiny
    upright = split * np.log(np.maximum(side_x, tiny)) + (offsets.shape[2] - split) * np.log(np.maximum(side_y, tiny))
    _, axes = np.linalg.eigh(np.einsum("mki,mkj->mij", offsets, offsets))
    slanted = np.log(np.maximum(np.abs(offsets @ axes).max(1), tiny)).sum(1)
    return slanted - upright


@functools.cache
def _log_alpha(k: int, dx: int, dy: int) -> float:
    """The 1-in-200 quantile of log V̄ / V for k points uniform in an upright box."""
    points = np.random.default_rng(0).uniform(-1, 1, (20_000, k, dx + dy))
    return float(np.quantile(_log_box_ratio(points, dx), 0.005))
