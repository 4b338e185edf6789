"""Which rows are fitted on, which choose the fit and which give the estimate; each column's margin.

    fit          parameters are fitted here
    validation   they are evaluated here while they are fitted, and the best are kept
    test         the estimate is made here, once

An estimate on `fit` would report what was memorised; one on `validation` the luckiest of many evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import special
from torch import Tensor

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.inputs import n_distinct, read_pair, row_hash
from ssl_mi.information.core.settings import check_seed
from ssl_mi.information.inference.dependence import Rows, read_rows
from ssl_mi.information.inference.dependence_check import dependence_cautions

Pair = tuple[Tensor, Tensor]


class SplitData(NamedTuple):
    """The rows of one split, through margins fitted on the fit rows.

    Attributes:
        fit, validation, test: x float32 [n, dx] and y float32 [n, dy] each.
        dims: (dx, dy).
        warnings: what to know of the rows.
        dependence: what an estimate lists of the rows: the number of their groups, or the blocks.
        test_rows: which test rows depend on each other; None where none do.
    """

    fit: Pair
    validation: Pair
    test: Pair
    dims: tuple[int, int]
    warnings: tuple[Caution, ...] = ()
    dependence: Mapping[str, int] = MappingProxyType({})
    test_rows: Rows | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Rows of the fit and of the validation, as estimates list them."""
        return {"fit": len(self.fit[0]), "validation": len(self.validation[0])}


@dataclass(frozen=True)
class Split:
    """How rows are divided, and what their columns go through first.

    Args:
        fit, validation, test: shares of the rows, positive, with a sum of 1.
        groups: [n] labels, or None. Rows of one group (views of one source image) fall into the same part, leave
            together in the jackknife and trade places together in the permutation test.
        blocks: rows are in the order of time, and independent when that many places apart, or None. The parts are then
            stretches of the series with that many rows left out between them, and permutations are circular shifts.
        cross_fit: fit as often as it takes to test every row once (4 times with a share of 1/4), each time by a
            fit that did not see it, and average. The error of the evaluation halves, the cost is fourfold.
        margins: "gaussian": each column through its ranks to N(0, 1), fitted on the fit rows (a monotone map keeps
            mutual information; heavy tails no longer dominate the gradient); "standard": mean 0, variance 1; "raw".

    Raises:
        ValueError: for shares that are not positive or have another sum, and unknown margins.
    """

    fit: float = 0.6
    validation: float = 0.15
    test: float = 0.25
    groups: ArrayLike | None = field(default=None, compare=False, repr=False)
    blocks: int | None = None
    cross_fit: bool = False
    margins: str = "gaussian"

    def __post_init__(self) -> None:
        if min(self.shares) <= 0 or not math.isclose(sum(self.shares), 1, abs_tol=1e-6):
            raise ValueError(
                f"the shares fit, validation and test must be positive and sum to 1, got {self.shares}: give all three"
            )
        if self.margins not in MARGINS:
            raise ValueError(f"margins must be one of {', '.join(MARGINS)}, got {self.margins!r}")

    @property
    def shares(self) -> tuple[float, float, float]:
        return self.fit, self.validation, self.test

    def of_rows(self, groups: ArrayLike | None, blocks: int | None) -> Split:
        """The same split for the groups or blocks that an estimator was passed beside it; None changes nothing."""
        if groups is not None and self.groups is not None:
            raise ValueError("groups is given twice: leave it out of the call, or out of Split(groups=...)")
        if blocks is not None and self.blocks is not None:
            raise ValueError("blocks is given twice: leave it out of the call, or out of Split(blocks=...)")
        if groups is None and blocks is None:
            return self
        return replace(
            self, groups=self.groups if groups is None else groups, blocks=self.blocks if blocks is None else blocks
        )

    def apply(self, x: ArrayLike, y: ArrayLike, seed: int, device: str | torch.device = "cpu") -> list[SplitData]:
        """The rows of each fit: one, or with `cross_fit` as many as it takes to test every row once.

        Args:
            x: [n] or [n, dx].
            y: [n] or [n, dy], row i paired with row i of x.
            seed: of the order in which rows are dealt.
            device: of the tensors returned.

        Raises:
            ValueError: for unpaired, empty or non-finite rows, fewer than 40 of them, or too few groups or blocks.
        """
        check_seed(seed)
        sides = read_pair(x, y)
        n = sides[0].n
        described = read_rows(n, self.groups, self.blocks)
        parts = split_each(n, self, seed) if self.cross_fit else [split_rows(n, self, seed)]
        hashes = row_hash(np.hstack([side.values for side in sides]))
        # Discrete pairs repeat by nature; rows of real numbers do not.
        real = max(n_distinct(row_hash(side.values)) for side in sides) > 0.1 * n
        found = []
        for rows in parts:
            fit, validation, test = self._tensors((sides[0].values, sides[1].values), rows, device)
            found.append(
                SplitData(
                    fit,
                    validation,
                    test,
                    dims=(sides[0].d, sides[1].d),
                    warnings=_copies(hashes[rows["test"]], hashes[rows["fit"]]) if real else (),
                    dependence=described.settings,
                    test_rows=described.take(rows["test"]) if described.lags else None,
                )
            )
        return found

    def cautions(self, x: ArrayLike, y: ArrayLike) -> tuple[Caution, ...]:
        """Cautions about rows that depend on each other in a way that neither `groups` nor `blocks` describes."""
        first, second = read_pair(x, y)
        return dependence_cautions(first, second, read_rows(first.n, self.groups, self.blocks))

    def _tensors(
        self, sides: tuple[np.ndarray, np.ndarray], rows: dict[str, np.ndarray], device: str | torch.device
    ) -> tuple[Pair, Pair, Pair]:
        fitted = [MARGINS[self.margins](side[rows["fit"]])(side) for side in sides]
        x, y = (torch.as_tensor(values, dtype=torch.float32, device=device) for values in fitted)
        fit, validation, test = (
            (x[index], y[index]) for index in (torch.as_tensor(part, device=device) for part in rows.values())
        )
        return fit, validation, test


def _copies(test: np.ndarray, fit: np.ndarray) -> tuple[Caution, ...]:
    """A warning where rows of the test, known by their hashes, are rows of the fit."""
    copies = int(np.isin(test, fit).sum())
    if not copies:
        return ()
    said = f"{copies} of {len(test)} test rows are copies of rows fitted on: drop duplicates or pass groups"
    return (Caution("copies-of-fitted-rows", said, {"copies": copies, "rows": len(test)}),)


def split_rows(n: int, split: Split, seed: int) -> dict[str, np.ndarray]:
    """Disjoint row indices {"fit", "validation", "test"} in the shares of `split`, whole groups at a time.

    With `split.blocks` the parts are stretches of the rows, and a block between two parts is in neither.
    """
    group, order = _shuffled(n, split, seed)
    return _rows(group, order, split, round((1 - split.test) * len(order)), len(order))


def split_each(n: int, split: Split, seed: int) -> list[dict[str, np.ndarray]]:
    """As many splits as it takes for every row to be tested in one of them: the first is that of `split_rows`.

    Raises:
        ValueError: unless the test share is one over a whole number.
    """
    group, order = _shuffled(n, split, seed)
    times = round(1 / split.test)
    if not math.isclose(times * split.test, 1, abs_tol=1e-6):
        raise ValueError(
            f"cross-fitting tests each row once: the share of the test rows must be 1/2, 1/3, 1/4, ..., "
            f"got {split.test} in {split.shares}"
        )
    edges = [round(part * len(order) / times) for part in range(times, -1, -1)]
    return [_rows(group, order, split, low, high) for high, low in pairwise(edges)]


def _shuffled(n: int, split: Split, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The unit of each row, int64 [n], and the units in the order in which they are dealt.

    Units are groups, blocks of rows in the order of time, or single rows.
    """
    if split.blocks is not None and split.blocks > 1:
        group = np.arange(n) // split.blocks
        return group, np.arange(group[-1] + 1)
    raw = np.arange(n) if split.groups is None else np.asarray(split.groups)
    group = np.unique(raw, return_inverse=True)[1].ravel()
    if len(group) != n:
        raise ValueError(f"groups has {len(group)} entries for {n} rows; give one a row")
    return group, np.random.default_rng(seed).permutation(group.max() + 1)


def _rows(group: np.ndarray, order: np.ndarray, split: Split, low: int, high: int) -> dict[str, np.ndarray]:
    """Test the units order[low:high]; fit and validation share the rest, which begins after them."""
    rest = np.concatenate([order[high:], order[:low]])
    test, fit = order[low:high], round(len(rest) * split.fit / (split.fit + split.validation))
    parts = {"fit": rest[:fit], "validation": rest[fit:], "test": test}
    if split.blocks is not None and split.blocks > 1:  # a block between two parts is in neither
        parts["fit"] = parts["fit"][~_next_to(parts["fit"], np.concatenate([test, parts["validation"]]))]
        parts["validation"] = parts["validation"][~_next_to(parts["validation"], test)]
    rows = {name: np.flatnonzero(np.isin(group, part)) for name, part in parts.items()}
    short = {name: len(index) for name, index in rows.items() if len(index) < 6}
    n = len(group)
    if n < 40 or short:
        raise ValueError(
            f"{n} rows are too few to split {split.shares} (need 40, and 6 a part; short: {short}); use ksg"
        )
    return rows


def _next_to(part: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which blocks of a part have a neighbour in the other, bool [len(part)]."""
    return np.isin(part, np.concatenate([other - 1, other + 1]))


# ---------------------------------------------------------------------------------------------- the margins


class Margins(Protocol):
    """A map of each column, fitted on some rows: values float64 [n, d] -> [n, d]."""

    def __init__(self, fitted: np.ndarray) -> None: ...

    def __call__(self, values: np.ndarray) -> np.ndarray: ...


class GaussianMargins:
    """Columns to N(0, 1) by their ranks among the rows given; other rows are interpolated, ties share a rank.

    Beyond the outermost fitted rows the map is flat: it can lose information there, never add any.
    """

    def __init__(self, fitted: np.ndarray) -> None:
        self.knots = [self._knots(column) for column in fitted.T]

    @staticmethod
    def _knots(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, counts = np.unique(column, return_counts=True)
        middle_rank = np.cumsum(counts) - counts / 2
        return values, special.ndtri(middle_rank / len(column))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return np.column_stack([np.interp(v, *k) for v, k in zip(values.T, self.knots, strict=True)])


class StandardMargins:
    """Columns to mean 0 and variance 1 over the rows given; a constant column to 0."""

    def __init__(self, fitted: np.ndarray) -> None:
        self.mean = fitted.mean(0)
        deviation = fitted.std(0)
        self.deviation = np.where(deviation > 0, deviation, 1.0)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return (values - self.mean) / self.deviation


class RawMargins:
    """Columns as they are."""

    def __init__(self, fitted: np.ndarray) -> None:
        pass

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return values


MARGINS: dict[str, type[Margins]] = {"gaussian": GaussianMargins, "standard": StandardMargins, "raw": RawMargins}
