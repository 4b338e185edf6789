"""Kinds of projections that the default estimator tries: fitted on one half of the rows, applied to the other.

Each is a function (x, y, rows, seed) -> Fit, x and y being float64 [n, d] with standard normal columns (`normal_scores`
of the samples) and rows those to fit on. A Fit maps any rows to u, v: [n_rows, r] each, nested: their first columns are
the projection to fewer dimensions.

    CCA       canonical correlation analysis
    polar     distance from the centre, then canonical pairs of directions
    pairs     single columns of x and of y that depend on each other most
    learned   networks (projections/neural.py)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ssl_mi.information.core.knn_inputs import MAX_DIMS
from ssl_mi.information.estimators.ksg import ksg_pointwise
from ssl_mi.information.projections.linear import CCA

Arrays = tuple[np.ndarray, np.ndarray]
Fit = Callable[[np.ndarray, np.ndarray], Arrays]
Family = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Fit]

WAVES = 4  # cosines of each column that a scan of pairs compares
WIDEST_SCAN = 256  # columns a side; beyond, a scan of all pairs costs more than it finds
SCANNED = 12  # pairs whose dependence is measured by nearest neighbours
SCAN_ROWS = 4000
THRESHOLD_STEPS = (1 / 8, 3), (1 / 8, 3), (1 / 32, 4), (1 / 128, 4), (1 / 512, 4), (1 / 2048, 4), (1 / 8192, 4)


def cca(x: np.ndarray, y: np.ndarray, rows: np.ndarray, seed: int) -> Fit:
    """Canonical pairs, all of them: those beyond the fourth may be added by a formula (`candidates`)."""
    return CCA(min(x.shape[1], y.shape[1])).fit(x[rows], y[rows], seed)


def polar(x: np.ndarray, y: np.ndarray, rows: np.ndarray, seed: int) -> Fit:
    """Distance from the centre in units of a heavy tail, then the canonical pairs of directions.

    Where tails are heavy, rows are far out on both sides together. Columns are taken to Cauchy scores first, for which
    a multivariate Cauchy distribution is round whatever its margins were.
    """
    (_, directions_x), (_, directions_y) = _radius_and_direction(x[rows]), _radius_and_direction(y[rows])
    pairs = CCA(MAX_DIMS - 1).fit(directions_x, directions_y, seed)

    def apply(a: np.ndarray, b: np.ndarray) -> Arrays:
        (radius_a, direction_a), (radius_b, direction_b) = _radius_and_direction(a), _radius_and_direction(b)
        u, v = pairs(direction_a, direction_b)
        return np.column_stack([radius_a, u]), np.column_stack([radius_b, v])

    return apply


def _radius_and_direction(scores: np.ndarray) -> Arrays:
    from scipy.special import ndtr

    heavy = np.tan(np.pi * (ndtr(scores) - 0.5))
    radius = np.maximum(np.linalg.norm(heavy, axis=1), np.finfo(np.float64).tiny)
    return radius, heavy / radius[:, None]


def pairs(x: np.ndarray, y: np.ndarray, rows: np.ndarray, seed: int) -> Fit:
    """Single columns: the pairs that share most, each column once.

    All pairs are scanned by the squared correlations of cosines of their ranks, which see dependence of any shape; the
    best few are then measured by nearest neighbours.
    """
    a, b = x[rows[:SCAN_ROWS]], y[rows[:SCAN_ROWS]]
    strength = _scan(a, b)
    most = min(MAX_DIMS, max(x.shape[1], y.shape[1]) - 1)  # all columns would be no projection
    columns_x: list[int] = []
    columns_y: list[int] = []
    best = np.argsort(strength, axis=None)[::-1][:SCANNED]
    found = [tuple(map(int, np.unravel_index(place, strength.shape))) for place in best]
    nats = {pair: float(ksg_pointwise(a[:, [pair[0]]], b[:, [pair[1]]], 3).mean()) for pair in found}
    for i, j in sorted(nats, key=lambda pair: -nats[pair]):
        if i not in columns_x and j not in columns_y and len(columns_x) < most:
            columns_x.append(i)
            columns_y.append(j)
    return lambda a, b: (a[:, columns_x], b[:, columns_y])


def _scan(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Σ of squared correlations of the first cosines of the ranks, for each pair of columns: [dx, dy]."""
    waves_x, waves_y = _waves(x), _waves(y)
    squared = (waves_x.T @ waves_y / len(x)) ** 2
    return squared.reshape(WAVES, x.shape[1], WAVES, y.shape[1]).sum((0, 2))


def _waves(scores: np.ndarray) -> np.ndarray:
    """√2 cos(j π F) of each column, F its rank between 0 and 1: [n, WAVES * d], variance 1 each."""
    from scipy.special import ndtr

    turn = np.pi * ndtr(scores)
    return np.concatenate([np.sqrt(2) * np.cos(order * turn) for order in range(1, WAVES + 1)], 1)


def thresholds(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One threshold of each column, [dx] and [dy], whose sides share most: each in turn, finer and finer.

    Signs are sharp where nearest neighbours blur, but thresholds at sample medians are 1 / √n off, and with several
    columns that costs a tenth of a nat. Where the sides of a threshold decide, its place is found to 1 / n.
    """
    a, b = x[rows], y[rows]
    columns = np.concatenate([a, b], 1)
    ordered, dx = np.sort(columns, axis=0), a.shape[1]
    at = np.full(columns.shape[1], 0.5)  # quantiles
    above = columns > np.median(columns, axis=0)
    for width, steps in THRESHOLD_STEPS:
        for c in range(columns.shape[1]):
            tried = np.clip(at[c] + width * np.arange(-steps, steps + 1), 0.02, 0.98)
            sides = [columns[:, c] > value for value in np.quantile(ordered[:, c], tried)]
            nats = [_nats_of_sides(above, c, side, dx) for side in sides]
            best = int(np.argmax(nats))
            if nats[best] > nats[steps]:
                at[c], above[:, c] = tried[best], sides[best]
    found = np.array([np.quantile(ordered[:, c], at[c]) for c in range(columns.shape[1])])
    return found[:dx], found[dx:]


def _nats_of_sides(above: np.ndarray, column: int, side: np.ndarray, dx: int) -> float:
    """Plug-in information of the sides of all columns, bool [n, dx + dy], one of them replaced."""
    changed = above.copy()
    changed[:, column] = side
    return float(cell_ratio(symbols(changed[:, :dx]), symbols(changed[:, dx:])).mean())


def symbols(above: np.ndarray) -> np.ndarray:
    """Sides of thresholds, bool [n, d], as one number for each row."""
    return above @ 2 ** np.arange(above.shape[1])


def cell_ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """log p(a, b) / (p(a) p(b)) by relative frequencies, for whole numbers [n] and [n]: nats [n]."""
    width = int(second.max()) + 1
    joint = first * width + second
    both, one, other = np.bincount(joint)[joint], np.bincount(first)[first], np.bincount(second)[second]
    return np.log(both * len(first) / (one * other))


def families(dims: tuple[int, int]) -> dict[str, Family]:
    """Those worth trying on samples of these dimensions, the cheap ones: name -> family."""
    widest = max(dims)
    found: dict[str, Family] = {}
    if widest > 1:
        found["CCA"] = cca
    if min(dims) > 1:
        found["polar"] = polar
    if 2 < widest <= WIDEST_SCAN:
        found["pairs"] = pairs
    return found
