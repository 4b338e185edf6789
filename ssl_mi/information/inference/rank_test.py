"""A quick permutation test of independence of two columns, for many pairs of columns.

Numbers are replaced by their ranks and cut into r = 32, 16, 8, 4 and 2 bins of as many rows, labels stay what they are.
Of each table of counts, with I the plug-in mutual information of its cells and f = (rows - 1) (columns - 1),

    z_r = (2 n I_r - f_r) / sqrt(2 f_r),     T = max over r of z_r

few bins for weak monotone dependence, many for fine structure. 2 n I is about chi-squared with f degrees of freedom at
independence, so that the z are comparable; the p-value comes from permutations and needs no such law. Since only ranks
enter, T has one and the same null distribution for all pairs of continuous columns with as many rows: it is drawn once.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from ssl_mi.information.core.inputs import Categories, Variable
from ssl_mi.information.inference.dependence import Rows
from ssl_mi.information.inference.permutation import p_value

BINS = 32
LABELS = 32  # the most frequent, the others are one
CHUNK = 2**20  # numbers that are held at a time


class Coded(NamedTuple):
    """One column as whole numbers from 0.

    Args:
        codes: int64 [n].
        size: how many values there are.
        ordered: whether neighbouring codes may be joined.
    """

    codes: np.ndarray
    size: int
    ordered: bool

    @property
    def key(self) -> Hashable:
        """Equal for columns whose codes are permutations of each other."""
        return self.ordered, np.bincount(self.codes, minlength=self.size).tobytes()


def coded(column: Variable | Categories, rng: np.random.Generator) -> Coded:
    """A column of numbers by its ranks, ties in random order; labels by their frequency.

    Args:
        column: numbers [n, 1], or labels.
        rng: of the order of ties.
    """
    if isinstance(column, Categories):
        place = np.argsort(np.argsort(-np.bincount(column.codes), kind="stable"), kind="stable")
        codes = np.minimum(place[column.codes], LABELS - 1)
        return Coded(codes, int(codes.max()) + 1, False)
    n = column.n
    order = np.lexsort((rng.random(n), column.values[:, 0]))
    codes = np.empty(n, np.int64)
    bins = min(BINS, 1 << max(1, (n // 8).bit_length() - 1))
    codes[order] = np.arange(n) * bins // n
    return Coded(codes, bins, True)


class RankTest:
    """Permutation tests of pairs of columns, which share null distributions where they can.

    Args:
        rows: what the rows are.
        permutations: B.
        seed: of the permutations.
    """

    def __init__(self, rows: Rows, permutations: int, seed: int) -> None:
        self.rows, self.permutations, self.seed = rows, permutations, seed
        self._nulls: dict[Hashable, np.ndarray] = {}

    def p_value(self, x: Coded, y: Coded) -> float:
        """(1 + b) / (1 + B) of T."""
        if x.size < 2 or y.size < 2:
            return 1.0
        return p_value(float(self.statistic(x, y, y.codes[None])[0]), self._null(x, y))

    def _null(self, x: Coded, y: Coded) -> np.ndarray:
        if self.rows.lags:  # what dependent rows do to a pair depends on their order
            return self._draw(x, y)
        key = x.key, y.key
        if key not in self._nulls:
            self._nulls[key] = self._draw(x, y)
        return self._nulls[key]

    def _draw(self, x: Coded, y: Coded) -> np.ndarray:
        rng, found = np.random.default_rng(self.seed), []
        some = max(1, CHUNK // max(self.rows.n, x.size * y.size))
        for first in range(0, self.permutations, some):
            times = min(some, self.permutations - first)
            found.append(self.statistic(x, y, np.stack([y.codes[self.rows.derangement(rng)] for _ in range(times)])))
        return np.concatenate(found)

    def statistic(self, x: Coded, y: Coded, of_y: np.ndarray) -> np.ndarray:
        """T of x with each row of of_y, int64 [B, n] -> [B]."""
        times, cells = len(of_y), x.size * y.size
        joint = x.codes * y.size + of_y + cells * np.arange(times)[:, None]
        table = np.bincount(joint.ravel(), minlength=times * cells).reshape(times, x.size, y.size)
        entries = np.arange(self.rows.n + 1, dtype=np.float64)
        entries[1:] *= np.log(entries[1:])
        best = np.full(times, -np.inf)
        while True:
            best = np.maximum(best, _excess(table, entries))
            if not (x.ordered or y.ordered) or any(
                ordered and width < 4 for ordered, width in zip((x.ordered, y.ordered), table.shape[1:], strict=True)
            ):
                return best
            table = table[:, ::2] + table[:, 1::2] if x.ordered else table
            table = table[:, :, ::2] + table[:, :, 1::2] if y.ordered else table


def _excess(table: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """z of each table of counts [B, rows, columns]; entries: c log c of c = 0, 1, ..."""
    n = len(entries) - 1
    rows, columns = table.sum(2), table.sum(1)
    nats = entries[table].sum((1, 2)) - entries[rows].sum(1) - entries[columns].sum(1) + entries[n]
    freedom = np.maximum((rows[0] > 0).sum() - 1, 1) * np.maximum((columns[0] > 0).sum() - 1, 1)
    return (2 * nats - freedom) / np.sqrt(2 * freedom)
