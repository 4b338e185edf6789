"""What a projection leaves out: dependence between the columns that its own numbers do not determine.

Canonical variables of x are replaced by what is left of them after a local fit on the projection u of x, those of y
after a fit on v, and what the two remainders share by the Gaussian formula is counted, on rows that their directions
were not fitted on. A curve or a surface in many columns leaves nothing; a fifth pair of columns beside four, or
directions beside a radius, leave all that they share.
"""

from __future__ import annotations

import numpy as np

from ssl_mi.information.estimators.gaussian import gaussian_nats
from ssl_mi.information.projections.linear import CCA

COLUMNS = 16  # canonical variables that are looked at
NEIGHBOURS = 8
BLUR = 0.15  # standard deviations; remainders below are errors of the fit
CLEARLY = 4.0  # times what a pair of independent columns gives


def left_out(u: np.ndarray, v: np.ndarray, x: np.ndarray, y: np.ndarray, seed: int) -> float:
    """Nats that x and y share beyond u and v, as far as remainders correlate.

    Args:
        u: [n, r], the projection of x.
        v: [n, s], the projection of y.
        x: float64 [n, dx], canonical variables of x, columns of variance 1.
        y: float64 [n, dy], canonical variables of y.
        seed: of the blur.
    """
    n, rng = len(u), np.random.default_rng(seed)
    a, b = (_remainder(near, of[:, :COLUMNS], rng) for near, of in ((u, x), (v, y)))
    pairs = min(a.shape[1], b.shape[1])
    fitted, kept = slice(None, n // 2), slice(n // 2, None)
    nats = gaussian_nats(*CCA(pairs).fit(a[fitted], b[fitted], seed)(a[kept], b[kept]))
    return float(nats[nats > CLEARLY / (2 * (n - n // 2))].sum())


def _remainder(near: np.ndarray, of: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Columns less their mean over the nearest rows, and less what that mean is off by in proportion to `near`."""
    from scipy.spatial import cKDTree

    neighbours = np.asarray(cKDTree(near).query(near, NEIGHBOURS + 1)[1])[:, 1:]
    left = of - of[neighbours].mean(1)
    left -= near @ np.linalg.lstsq(near, left, rcond=None)[0]
    return left + BLUR * rng.standard_normal(of.shape)
