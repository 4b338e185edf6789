"""Do rows look dependent on each other? Rows alike that follow each other, and rows alike in clusters of equal size.

Permutation tests and intervals need independent rows. Two things show in the samples when they are not:

*Order.* In independent rows the correlation r(1) of a column with itself one row on has a standard deviation of 1/√n. A
caution comes where it is beyond that on *both* sides, for a test holds when one side alone is independent. For sums of
products (Bartlett 1946) n rows are then worth

    n_eff = n / (1 + 2 Σ_l r_x(l) r_y(l)),     over lags up to the first where the product is lost in noise

*Clusters.* For independent rows from a smooth density, with d_j the distance to the j-th neighbour,
j log(d_(j+1) / d_j) has the same mean, one over the dimension, for every j (Levina & Bickel 2004). Where m rows come
from each source it leaps at j = m - 1: there the neighbours of the same source end. Of independent Gaussian, Cauchy and
64-dimensional rows the largest of ten is below 1.3 times the median. Distances are those of (x, y), so that both sides
must be near; views as far from each other as from those of other sources do not show.

Rows that are described, by groups or blocks, raise a caution where few independent ones are left, and where the series
still remember each other's past a block later:

    r_x(w) r_y(w) > 1/20,     w the block: what is left of the sum above would be counted as independent
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.containers import plain
from ssl_mi.information.core.inputs import Categories, Variable, as_codes, as_numbers
from ssl_mi.information.core.linalg import normal_scores
from ssl_mi.information.inference.dependence import Rows

SIGMAS = 4.5  # of r(1), on both sides: never by chance
COLUMNS = 64  # that are looked at
LABELS = 16
LEAPS = 1.7, 3.0  # times the median over j, for clusters of up to 6 rows and for larger ones, which nature makes too
SMALL = 6
NEIGHBOURS = 12
QUERIES = 256
TILE = 50_000
FEW_UNITS = 15  # independent rows, with fewer of which p and intervals are rough
REMEMBERED = 0.05  # product of both sides' correlations with themselves one block on


def dependence_cautions(
    x: Variable | Categories, y: Variable | Categories, rows: Rows | None = None
) -> tuple[Caution, ...]:
    """Cautions about rows that seem to depend on each other, on both sides.

    Args:
        x: one side.
        y: the other.
        rows: what is known of the rows. None, and independent rows, say nothing: then the samples are looked at.
    """
    if rows is None or not rows.lags:
        return (*_order(x, y), *_clusters(x, y))
    return (*_few_units(rows), *_short_blocks(x, y, rows))


def _few_units(rows: Rows) -> tuple[Caution, ...]:
    units = rows.n_effective
    if units >= FEW_UNITS:
        return ()
    text = (
        f"n = {rows.n} rows are worth about {units:.0f} independent ones: below {FEW_UNITS} neither p nor the "
        "interval can be relied on; pass more sources, or a longer series"
    )
    return (Caution("few-independent-rows", text, {"n": rows.n, "n_effective": round(units), "threshold": FEW_UNITS}),)


def _short_blocks(x: Variable | Categories, y: Variable | Categories, rows: Rows) -> tuple[Caution, ...]:
    """A caution where rows a block apart are still alike on both sides."""
    window = rows.settings.get("blocks")
    if window is None or 2 * window >= rows.n:
        return ()
    left = [_most_persistent(side, window)[0] for side in (x, y)]
    if min(left) <= 0 or left[0] * left[1] <= REMEMBERED:
        return ()
    text = (
        f"rows {window} places apart are still alike on both sides (correlation {left[0]:.2f} and {left[1]:.2f}): they "
        f"are taken as independent, so p and the interval are too sure; pass larger blocks"
    )
    return (Caution("short-blocks", text, {"blocks": window, "of_x": left[0], "of_y": left[1]}),)


def cautions_of_samples(x: ArrayLike, y: ArrayLike, rows: Rows | None = None) -> tuple[Caution, ...]:
    """`dependence_cautions` of samples as users bring them; none for those that are not [n] or [n, d]."""
    found = [(plain(side, name), name) for side, name in ((x, "x"), (y, "y"))]
    if any(side.values.ndim not in (1, 2) for side, _ in found):
        return ()
    first, second = (
        Categories(as_codes(side.values, name, whole=False)[0], name, side.values)
        if side.labels or side.values.dtype.kind == "b"
        else as_numbers(side, name)
        for side, name in found
    )
    return dependence_cautions(first, second, rows)


# ----------------------------------------------------------------------------------------------------- order


def _order(x: Variable | Categories, y: Variable | Categories) -> tuple[Caution, ...]:
    n = x.n
    found = [_most_persistent(side) for side in (x, y)]
    if n < 40 or min(r * np.sqrt(n) - _threshold(d) for r, d, _ in found) <= 0:
        return ()
    effective = effective_rows(found[0][2], found[1][2])
    text = (
        f"rows next to each other are alike on both sides (correlation {found[0][0]:.2f} and {found[1][0]:.2f}): "
        f"n = {n} rows are worth about {effective:.0f} independent ones, so p and the interval are too sure; pass "
        f"blocks=, the rows after which a series has forgotten, or groups=, or shuffle rows that were sorted"
    )
    return (Caution("dependent-rows", text, {"n": n, "n_effective": round(effective)}),)


def _threshold(columns: int) -> float:
    """Of r(1) √n, higher for the largest of many."""
    return SIGMAS + float(np.sqrt(2 * np.log(max(columns, 1))))


def _most_persistent(side: Variable | Categories, lag: int = 1) -> tuple[float, int, np.ndarray]:
    """The largest correlation of a column with itself `lag` rows on, of how many columns, and that column."""
    columns = _columns(side)
    if columns.shape[1] == 0 or len(columns) < lag + 2:
        return 0.0, 1, np.zeros(len(columns))
    r = (columns[lag:] * columns[:-lag]).mean(0)
    best = int(r.argmax())
    return float(r[best]), columns.shape[1], columns[:, best]


def _columns(side: Variable | Categories) -> np.ndarray:
    """Columns of mean 0 and variance 1: normal scores of numbers, indicators of labels. Sorted ones are left out."""
    if isinstance(side, Variable):
        raw = side.values[:, :COLUMNS]
        steps = np.diff(raw, axis=0)
        raw = raw[:, ~((steps >= 0).all(0) | (steps <= 0).all(0))]
        columns = normal_scores(raw) if raw.shape[1] else raw
    else:
        steps = np.diff(side.codes)
        frequent = np.argsort(-np.bincount(side.codes), kind="stable")[:LABELS]
        columns = (side.codes[:, None] == frequent).astype(np.float64)
        if (steps >= 0).all() or (steps <= 0).all():
            columns = columns[:, :0]
    columns = columns - columns.mean(0)
    deviation = columns.std(0)
    return columns[:, deviation > 0] / deviation[deviation > 0]


def effective_rows(x: np.ndarray, y: np.ndarray) -> float:
    """How many independent rows two series of mean 0 and variance 1, [n] each, are worth."""
    n = len(x)
    total = 1.0
    for lag in range(1, n // 4):
        both = float((x[lag:] * x[:-lag]).mean() * (y[lag:] * y[:-lag]).mean())
        if both < 1 / n:
            break
        total += 2 * both
    return n / total


# -------------------------------------------------------------------------------------------------- clusters


def _clusters(x: Variable | Categories, y: Variable | Categories) -> tuple[Caution, ...]:
    if isinstance(x, Categories) or isinstance(y, Categories) or x.n < 10 * NEIGHBOURS:
        return ()
    leaps = _leaps(np.concatenate([_scaled(_spread(side.values, seed)) for seed, side in enumerate((x, y))], 1))
    sizes = np.arange(2, len(leaps) + 2)
    found = sizes[leaps > np.where(sizes <= SMALL, *LEAPS)]
    if not len(found):
        return ()
    size = int(found[0])
    effective = round(x.n / size)
    text = (
        f"rows come in clusters of about {size} on both sides, as views of one source do: n = {x.n} rows are worth "
        f"about {effective} independent ones, so p and the interval are too sure; pass groups=, the source of each row"
    )
    return (Caution("clustered-rows", text, {"n": x.n, "n_effective": effective, "size": size}),)


def _spread(values: np.ndarray, seed: int) -> np.ndarray:
    """Columns of counts plus a uniform number of [0, 1): on a lattice distances leap of themselves."""
    whole = (values == np.round(values)).all(0)
    if not whole.any():
        return values
    return values + whole * np.random.default_rng(seed).random(values.shape)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Columns of variance 1 / d, so that each side has the same part in a distance."""
    deviation = values.std(0)
    return (values - values.mean(0)) / np.where(deviation > 0, deviation, 1.0) / np.sqrt(values.shape[1])


def _leaps(scaled: np.ndarray) -> np.ndarray:
    """j log(d_(j+1) / d_j), averaged over some rows, relative to its median over j = 1, 2, ..: [NEIGHBOURS - 2]."""
    rows = np.linspace(0, len(scaled) - 1, min(QUERIES, len(scaled))).astype(np.int64)
    distances = np.sqrt(_nearest_squares(scaled, rows))
    distances = distances[(distances > 1e-6).all(1)]  # the expansion of squares is not exact near 0, and ties have none
    if len(distances) < len(rows) / 2:
        return np.zeros(NEIGHBOURS - 2)
    steps = np.log(distances[:, 1:] / distances[:, :-1]).mean(0) * np.arange(1, NEIGHBOURS - 1)
    return steps / max(float(np.median(steps)), 1e-12)


def _nearest_squares(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Squared distances of some rows to the nearest others, ascending: [len(rows), NEIGHBOURS - 1]."""
    some, best = points[rows], np.full((len(rows), 0), np.inf)
    norms = (some**2).sum(1)[:, None]
    for start in range(0, len(points), TILE):
        tile = points[start : start + TILE]
        squares = norms + (tile**2).sum(1) - 2 * some @ tile.T
        own = (rows >= start) & (rows < start + len(tile))
        squares[np.flatnonzero(own), rows[own] - start] = np.inf
        best = np.concatenate([best, squares], 1)
        best = np.partition(best, NEIGHBOURS - 2, 1)[:, : NEIGHBOURS - 1] if best.shape[1] >= NEIGHBOURS else best
    return np.maximum(np.sort(best, 1), 0.0)
