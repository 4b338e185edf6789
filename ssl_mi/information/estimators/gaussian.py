"""Mutual information of jointly Gaussian variables: closed form, from correlations or from samples.

For jointly Gaussian x and y, I(x; y) = -1/2 Σ log(1 - ρ_i²) over their canonical correlations ρ_i. For other
distributions with the same second moments it is neither a bound nor the truth, except that for Gaussian *marginals* it
is a lower bound.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import read_pair, standardize
from ssl_mi.information.core.linalg import rank_gaussianize, whiten


def gaussian_mi(rho: ArrayLike) -> float:
    """-1/2 Σ log(1 - ρ_i²) in nats.

    Args:
        rho: one correlation, or all canonical correlations.

    Raises:
        ValueError: |ρ| >= 1, where the mutual information is infinite.

    Example:
        >>> round(gaussian_mi(0.8), 4)
        0.5108
    """
    correlations = np.asarray(rho, dtype=np.float64)
    if not (np.abs(correlations) < 1).all():
        raise ValueError(f"rho must lie strictly between -1 and 1, got {correlations}: at 1 the MI is infinite")
    return float(-0.5 * np.log1p(-(correlations**2)).sum())


def cca_mi(x: ArrayLike, y: ArrayLike, *, corrected: bool = True) -> Estimate:
    """I(x; y) of samples assumed to be jointly Gaussian, in nats.

    Canonical correlations by singular values of the whitened cross-covariance. In-sample correlations are too large;
    the exact bias under Gaussianity, from E log |Wishart|, is

        bias = 1/2 [ g(p) + g(q) - g(p+q) ],   g(r) = Σ_{i<r} ψ((n - 1 - i) / 2)

    which is p q / 2n to first order and stays right when p + q is no longer small beside n. Directions without variance
    (constant or collinear columns) are left out: p and q are the ranks.

    Args:
        x: [n] or [n, p].
        y: [n] or [n, q].
        corrected: subtract that bias.

    Raises:
        ValueError: unpaired lengths, NaN, n - 1 <= p + q (every in-sample correlation is then 1).

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal(2000)
        >>> y = x + rng.standard_normal(2000)  # I = log(2) / 2 = 0.347 nats
        >>> bool(abs(cca_mi(x, y).value - np.log(2) / 2) < 0.06)
        True
    """
    started = time.perf_counter()
    a, b = read_pair(x, y)
    a, _, constant_a = standardize(a)
    b, _, constant_b = standardize(b)
    warnings = constant_a + constant_b
    first, second = whiten(a.values), whiten(b.values)
    n, p, q = a.n, len(first.scale), len(second.scale)
    if n - 1 <= p + q:
        raise ValueError(
            f"x and y have n={n} rows for ranks {p} + {q}: the closed form needs n > {p + q + 1}; "
            f"pass more rows, or project first"
        )
    rho = np.linalg.svd(first.basis.T @ second.basis, compute_uv=False) if p and q else np.zeros(0)
    infinite = rho >= 1 - 1e-14
    if infinite.any():
        text = f"{int(infinite.sum())} directions of x and y determine each other: the MI is infinite"
        warnings += (Caution("infinite-information", text, {"directions": int(infinite.sum())}),)
    value = -0.5 * np.log(np.maximum(1 - rho**2, np.finfo(np.float64).eps)).sum()
    if corrected:
        value -= 0.5 * (_log_det(n, p) + _log_det(n, q) - _log_det(n, p + q))
    if n < 5 * (p + q):
        text = f"n = {n} rows are few for ranks {p} + {q}: expect a large spread"
        warnings += (Caution("few-rows-for-ranks", text, {"n": n, "rank_x": p, "rank_y": q}),)
    return Estimate(
        value=float(value),
        n=n,
        dims=(a.d, b.d),
        estimator="Gaussian (CCA)",
        settings={} if corrected else {"corrected": False},
        seconds=time.perf_counter() - started,
        warnings=warnings,
    )


def _log_det(n: int, rank: int) -> float:
    """Σ_{i<rank} ψ((n - 1 - i) / 2): E log |Wishart| up to what cancels."""
    from scipy.special import digamma

    return float(digamma((n - 1 - np.arange(rank)) / 2).sum())


def copula_mi(x: ArrayLike, y: ArrayLike, *, corrected: bool = True) -> Estimate:
    """`cca_mi` after `rank_gaussianize`: exact for Gaussian copulas whatever the marginals, in nats.

    For other copulas it is a lower bound in one dimension a side (the Gaussian has the least MI for given correlation
    when marginals are Gaussian).

    Args:
        x: [n] or [n, p].
        y: [n] or [n, q].
        corrected: subtract the bias of in-sample correlations.

    Raises:
        ValueError: as `cca_mi` does.

    References:
        Ince et al. 2017, Human Brain Mapping 38(3), arXiv:1612.06001.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal(2000)
        >>> y = x + rng.standard_normal(2000)  # I = log(2) / 2 = 0.347 nats
        >>> bool(abs(copula_mi(x, y).value - np.log(2) / 2) < 0.06)
        True
    """
    started = time.perf_counter()
    a, b = read_pair(x, y)
    estimate = cca_mi(rank_gaussianize(a), rank_gaussianize(b), corrected=corrected)
    return Estimate(
        value=estimate.value,
        n=estimate.n,
        dims=(a.d, b.d),
        estimator="Gaussian copula",
        settings=estimate.settings,
        seconds=time.perf_counter() - started,
        warnings=estimate.warnings,
    )


def gaussian_nats(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """-½ log(1 - ρ²) of each pair of columns of u and v: [n, r] -> [r]."""
    rho2 = np.array([np.corrcoef(u[:, i], v[:, i])[0, 1] ** 2 for i in range(min(u.shape[1], v.shape[1]))])
    return -0.5 * np.log1p(-np.minimum(rho2, 1 - 1e-12))
