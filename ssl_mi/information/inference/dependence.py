"""Which rows belong together, and how to split, re-pair and average them all the same.

A split, a permutation and a standard error treat rows as independent. Rows of one source (views of one image, visits of
one patient) and rows that follow each other in time are not. `Rows` is what the estimators ask instead of the number of
rows: the plain class for independent rows, `Grouped` for sources, `InTime` for an order.

                  independent    Grouped                             InTime, window w
    halves        any rows       whole groups                        both ends, w rows between them left out
    derangement   any other row  groups of equal size trade places   a circular shift by w rows or more
    cuts, dealt   any rows       whole groups                        stretches of rows
    variance      Σ(v - v̄)²/n²  Σ over groups of (Σ(v - v̄))²/n²    Σ over lags below w, Bartlett's weights
    neighbours    any other row  rows of other groups                rows w or more away (Theiler's window)

References:
    Theiler 1986, Phys. Rev. A 34, 2427 (neighbours in time are not neighbours in space).
    Newey & West 1987, Econometrica 55, 703 (the variance of a mean in time).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.inputs import is_tensor
from ssl_mi.information.inference import strata
from ssl_mi.information.inference.permutation import derangement

FEWEST_UNITS = 10  # groups, or windows in the rows: fewer have no distribution to speak of


class Rows:
    """n independent rows.

    Args:
        n: number of rows.
    """

    lags = 0  # of `pairs`

    def __init__(self, n: int) -> None:
        self.n = n

    @property
    def n_effective(self) -> float:
        """About how many independent rows they are worth."""
        return float(self.n)

    @property
    def settings(self) -> dict[str, int]:
        """What an estimate lists of them: nothing where rows are independent."""
        return {}

    def halves(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Two disjoint sets of rows, int64, of about n / 2 each, that share nothing."""
        order = rng.permutation(self.n)
        return order[: self.n // 2], order[self.n // 2 :]

    def derangement(self, rng: np.random.Generator) -> np.ndarray:
        """Another partner for each row, int64 [n], as likely as the true one where x and y share nothing."""
        return derangement(self.n, rng)

    def cuts(self, m: int, rng: np.random.Generator, labels: ArrayLike | None = None) -> list[np.ndarray] | None:
        """The rows in m disjoint parts as even as can be, int64 each.

        Args:
            m: number of parts.
            rng: where the order comes from.
            labels: [n], symbols of the rows, where each part must hold one that occurs twice. None leaves them out.

        Returns:
            The rows of each part; None where labels are too rare for that.
        """
        order = rng.permutation(self.n)
        return np.array_split(order, m) if labels is None else strata.parts(labels, m, order)

    def take(self, rows: np.ndarray) -> Rows:
        """What some of these rows are, in the order given."""
        return Rows(len(rows))

    def variance_of_mean(self, values: np.ndarray) -> float:
        """The variance of the mean of values: float64 [n]."""
        return float(values.var(ddof=1)) / len(values)

    def dealt(self, parts: int) -> np.ndarray:
        """Which of `parts` parts of a jackknife each row leaves with, int64 [n]."""
        return np.arange(self.n) % max(parts, 1)

    def together(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Whether rows i and j depend on each other (or are the same)."""
        return i == j

    def pairs(self, lag: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows that depend on each other, int64 [m] and [m]: lags 1 to `lags` give every such pair once."""
        nothing = np.empty(0, np.int64)
        return nothing, nothing


class Grouped(Rows):
    """Rows of several sources, which are independent of each other.

    Args:
        codes: int64 [n], the source of each row.
    """

    def __init__(self, codes: np.ndarray) -> None:
        self.codes = np.unique(codes, return_inverse=True)[1].reshape(-1)
        super().__init__(len(self.codes))
        self.sizes = np.bincount(self.codes)
        self.by_group = np.argsort(self.codes, kind="stable")
        self.lags = int(self.sizes.max()) - 1

    @property
    def n_effective(self) -> float:
        """The number of groups: rows of one group may add to it, or nothing."""
        return float(len(self.sizes))

    @property
    def settings(self) -> dict[str, int]:
        """The number of groups."""
        return {"groups": len(self.sizes)}

    def _rows_of(self, groups: np.ndarray) -> np.ndarray:
        """Rows of these groups, group by group."""
        place = np.full(len(self.sizes), -1)
        place[groups] = np.arange(len(groups))
        rows = self.by_group[place[self.codes[self.by_group]] >= 0]
        return rows[np.argsort(place[self.codes[rows]], kind="stable")]

    def halves(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See `Rows.halves`."""
        first, second = self._parts(2, rng)
        return first, second

    def cuts(self, m: int, rng: np.random.Generator, labels: ArrayLike | None = None) -> list[np.ndarray] | None:
        """See `Rows.cuts`."""
        parts = self._parts(m, rng)
        return parts if labels is None or strata.all_repeat(labels, parts) else None

    def _parts(self, m: int, rng: np.random.Generator) -> list[np.ndarray]:
        order = rng.permutation(len(self.sizes))
        middle = np.cumsum(self.sizes[order]) - self.sizes[order] / 2
        part = np.minimum((middle * m / self.n).astype(np.int64), m - 1)
        return [self._rows_of(order[part == p]) for p in range(m)]

    def derangement(self, rng: np.random.Generator) -> np.ndarray:
        """See `Rows.derangement`. Groups whose size no other has are laid end to end and shifted."""
        partners = np.empty(self.n, np.int64)
        counts = np.bincount(self.sizes)
        for size in np.flatnonzero(counts > 1):
            groups = np.flatnonzero(self.sizes == size)
            rows = self._rows_of(groups).reshape(len(groups), size)
            partners[rows] = rows[derangement(len(groups), rng)]
        odd = np.flatnonzero(counts[self.sizes] == 1)
        if len(odd):
            rows = self._rows_of(rng.permutation(odd))
            # Half a turn and some: few rows, of large groups, keep a partner of their own group.
            partners[rows] = np.roll(rows, len(rows) // 2 + rng.integers(-(len(rows) // 4), len(rows) // 4 + 1))
        return partners

    def take(self, rows: np.ndarray) -> Rows:
        """See `Rows.take`."""
        return Grouped(self.codes[rows])

    def variance_of_mean(self, values: np.ndarray) -> float:
        """See `Rows.variance_of_mean`."""
        groups = len(self.sizes)
        sums = np.bincount(self.codes, values - values.mean())
        return float((sums**2).sum() / self.n**2 * groups / (groups - 1))

    def dealt(self, parts: int) -> np.ndarray:
        """See `Rows.dealt`."""
        return self.codes % max(parts, 1)

    def together(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """See `Rows.together`."""
        return self.codes[i] == self.codes[j]

    def pairs(self, lag: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Rows.pairs`."""
        i, j = self.by_group[:-lag], self.by_group[lag:]
        same = self.codes[i] == self.codes[j]
        return i[same], j[same]


class InTime(Rows):
    """Rows in order, independent when `window` or more places apart.

    Args:
        places: int64 [n], increasing.
        window: rows as far apart as this are taken as independent.
    """

    def __init__(self, places: np.ndarray, window: int) -> None:
        super().__init__(len(places))
        self.places, self.window = places, window
        self.lags = window - 1

    @property
    def n_effective(self) -> float:
        """The number of windows."""
        return self.n / self.window

    @property
    def settings(self) -> dict[str, int]:
        """The window."""
        return {"blocks": self.window}

    def halves(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See `Rows.halves`."""
        rows = np.arange(self.n)
        gap = min(self.window - 1, self.n // 4)
        return rows[: (self.n - gap) // 2], rows[(self.n + gap) // 2 :]

    def derangement(self, rng: np.random.Generator) -> np.ndarray:
        """See `Rows.derangement`."""
        nearest = min(self.window, self.n // 4)
        return np.roll(np.arange(self.n), rng.integers(nearest, self.n - nearest + 1))

    def cuts(self, m: int, rng: np.random.Generator, labels: ArrayLike | None = None) -> list[np.ndarray] | None:
        """See `Rows.cuts`. The first row of the first part is drawn."""
        parts = np.array_split(np.roll(np.arange(self.n), -rng.integers(self.n)), m)
        return parts if labels is None or strata.all_repeat(labels, parts) else None

    def take(self, rows: np.ndarray) -> Rows:
        """See `Rows.take`."""
        return InTime(self.places[rows], self.window)

    def variance_of_mean(self, values: np.ndarray) -> float:
        """See `Rows.variance_of_mean`."""
        centred = values - values.mean()
        total = float(centred @ centred)
        for lag in range(1, min(self.window, self.n)):
            total += 2 * (1 - lag / self.window) * float(centred[lag:] @ centred[:-lag])
        return max(total / self.n**2, float(values.var(ddof=1)) / self.n)

    def dealt(self, parts: int) -> np.ndarray:
        """See `Rows.dealt`. Parts are stretches of rows."""
        return np.arange(self.n) * max(parts, 1) // self.n

    def together(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """See `Rows.together`."""
        return np.abs(self.places[i] - self.places[j]) < self.window

    def pairs(self, lag: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Rows.pairs`."""
        i = np.arange(max(self.n - lag, 0))
        near = self.together(i, i + lag)
        return i[near], i[near] + lag


def read_rows(n: int, groups: ArrayLike | None = None, blocks: int | None = None) -> Rows:
    """What the rows are, from the arguments of an estimator.

    Args:
        n: number of rows.
        groups: [n], the source of each row: anything that can be compared for equality.
        blocks: rows are in the order of time, and independent when that many places apart.

    Raises:
        ValueError: both are given; groups of another length, with missing entries, or fewer than 10; blocks that are no
            whole number, or leave fewer than 10 windows.
    """
    if groups is not None and blocks is not None:
        raise ValueError("groups and blocks are both given: pass groups for rows of one source, or blocks for an order")
    if groups is not None:
        return _grouped(n, groups)
    if blocks is not None:
        return _in_time(n, blocks)
    return Rows(n)


def _grouped(n: int, groups: ArrayLike) -> Rows:
    raw = groups.detach().cpu().numpy() if is_tensor(groups) else np.asarray(groups)  # type: ignore[union-attr]
    if raw.shape not in ((n,), (n, 1)):
        raise ValueError(f"groups has shape {raw.shape} for {n} rows: pass the source of each row, [n]")
    raw = raw.reshape(-1)
    missing = [row for row, entry in enumerate(raw.tolist()) if entry is None or entry != entry]
    if missing:
        raise ValueError(f"groups is missing at row {missing[0]} ({len(missing)} in all): name the source of every row")
    rows = Grouped(_in_order(raw.astype(str) if raw.dtype.kind == "O" else raw))
    if rows.lags == 0:
        return Rows(n)  # every row is its own source
    if len(rows.sizes) < FEWEST_UNITS:
        raise ValueError(
            f"groups has {len(rows.sizes)} groups: fewer than {FEWEST_UNITS} independent sources show no distribution; "
            "pass rows of more sources"
        )
    return rows


def _in_order(sources: np.ndarray) -> np.ndarray:
    """Sources as numbers in the order of their first rows, so that nothing depends on what they are called."""
    _, first, codes = np.unique(sources, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes.reshape(-1)]


def _in_time(n: int, blocks: Any) -> Rows:
    if isinstance(blocks, bool | np.bool_) or not isinstance(blocks, int | np.integer) or blocks < 1:
        raise ValueError(f"blocks must be a whole number of rows, at least 1, got {blocks!r}")
    if blocks == 1:
        return Rows(n)
    if n < FEWEST_UNITS * blocks:
        raise ValueError(
            f"blocks={blocks} leaves {n / blocks:.1f} independent windows in n={n} rows: at least {FEWEST_UNITS} are "
            "needed; pass a longer series, or a smaller number if rows that near are independent"
        )
    return InTime(np.arange(n), int(blocks))
