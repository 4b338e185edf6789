"""p-values of many tests at once, corrected: of m true null hypotheses 5% come below .05 by chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's corrected p-values: rejecting those up to a keeps the chance of *any* false rejection at a or below.

        p_(i)  ->  max over j <= i of min(1, (m - j + 1) p_(j)),     p_(1) <= ... <= p_(m)

    Valid however the tests depend on each other.

    Args:
        p: [m], each between 0 and 1.

    Returns:
        float64 [m], in the order given.

    Raises:
        ValueError: another rank, or values outside 0 .. 1.

    References:
        Holm 1979, Scandinavian Journal of Statistics 6, 65.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(4).tolist()
        [0.03, 0.06, 0.06]
    """
    values = _checked(p)
    order = np.argsort(values, kind="stable")
    steps = np.arange(len(values), 0, -1) * values[order]
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(values) else steps
    return corrected


def benjamini_hochberg(p: ArrayLike) -> np.ndarray:
    """Benjamini and Hochberg's corrected p-values: of those up to a, a share of a at most is false, on average.

        p_(i)  ->  min over j >= i of min(1, m p_(j) / j),     p_(1) <= ... <= p_(m)

    Valid for independent tests and for positively dependent ones.

    Args:
        p: [m], each between 0 and 1.

    Returns:
        float64 [m], in the order given.

    Raises:
        ValueError: another rank, or values outside 0 .. 1.

    References:
        Benjamini & Hochberg 1995, Journal of the Royal Statistical Society B 57, 289.

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(4).tolist()
        [0.03, 0.04, 0.04]
    """
    values = _checked(p)
    order = np.argsort(values, kind="stable")[::-1]
    steps = len(values) / np.arange(len(values), 0, -1) * values[order]
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.minimum.accumulate(steps), 1.0) if len(values) else steps
    return corrected


def _checked(p: ArrayLike) -> np.ndarray:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p must be values between 0 and 1, [m], got shape {values.shape}: {values.ravel()[:5]}")
    return values
