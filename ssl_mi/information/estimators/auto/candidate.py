"""One candidate of the default estimator: KSG on a projection of two continuous variables, less its bias.

A candidate is one projection applied to some rows. What it gives at k neighbours is its score; its bias (bias.py) costs
several times as much, and is measured only for candidates that are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from ssl_mi.information.estimators.auto.bias import NO_BIAS, Bias, OverK, bias_of, ksg_over_k, variance
from ssl_mi.information.estimators.auto.families import cell_ratio, symbols
from ssl_mi.information.estimators.ksg import ksg_pointwise
from ssl_mi.information.inference.dependence import Rows

UNPROJECTED = "direct", "unranked"  # families that leave nothing out

Project = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # rows -> u, v


@dataclass(frozen=True)
class Candidate:
    """One projection on some rows: what KSG gives, its bias, what a Gaussian tail adds, and the rows.

    Args:
        family: the kind of projection, "direct" for none, "unranked" for none of columns that were not ranked either.
        project: rows -> what is given to KSG, float64 [n_rows, r] and [n_rows, s].
        rows: int64 [n].
        k: neighbours.
        seed: of the twins.
        among: which rows of the samples depend on each other.
        tail: nats added for columns beyond the fourth, by the Gaussian formula.
        tail_columns: how many columns that formula covers in all; 0 where it is not used.
        shortfall: nats that the projection, fitted on other rows, is expected to miss of the best of its kind.
        unmeasured: nats in its columns beyond the fourth that are not counted, if they are Gaussian.
    """

    family: str
    project: Project
    rows: np.ndarray
    k: int
    seed: int
    among: Rows
    tail: float = 0.0
    tail_columns: int = 0
    shortfall: float = 0.0
    unmeasured: float = 0.0

    @cached_property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """What is given to KSG: float64 [n, r] and [n, s]."""
        u, v = self.project(self.rows)
        return np.ascontiguousarray(u), np.ascontiguousarray(v)

    @cached_property
    def dependent(self) -> Rows:
        """Which of its rows depend on each other."""
        return self.among.take(self.rows)

    @property
    def dims(self) -> tuple[int, int]:
        """Columns of both sides."""
        u, v = self.sides
        return u.shape[1], v.shape[1]

    @property
    def name(self) -> str:
        """The family and its dimensions, for people."""
        if self.family in UNPROJECTED:
            return self.family
        tail = f" + Gaussian({self.tail_columns})" if self.tail_columns else ""
        return f"{self.family}({self.dims[0]}){tail}"

    @property
    def covers_all(self) -> bool:
        """Whether no column is left out that could share anything more."""
        return self.family in UNPROJECTED or self.tail_columns > 0

    @property
    def tests_dependence(self) -> bool:
        """Whether it serves the test of independence: what is shared shows in the first dimension."""
        return self.family == "direct" or (self.dims[0] == 1 and not self.tail_columns)

    @property
    def promises_unused(self) -> bool:
        """Whether what it promises counts where it was not chosen."""
        return self.family not in UNPROJECTED

    @cached_property
    def pointwise(self) -> np.ndarray:
        """float64 [n], whose mean is the estimate before corrections, nats."""
        return ksg_pointwise(*self.sides, self.k, rows=self.dependent)

    @cached_property
    def over_k(self) -> OverK:
        """The same at k, 4 k and 16 k neighbours."""
        return ksg_over_k(*self.sides, self.k, self.dependent)

    @cached_property
    def bias(self) -> Bias:
        """Of the estimate at k and at 4 k."""
        return bias_of(*self.sides, self.k, self.over_k, self.seed, self.dependent)

    @property
    def value(self) -> float:
        """The estimate, nats."""
        return float(self.pointwise.mean()) - self.bias.at_k + self.tail

    @property
    def value_at_more_k(self) -> float:
        """The estimate at 4 k neighbours, nats."""
        return float(self.over_k.at_more.mean()) - self.bias.at_more + self.tail

    @property
    def score(self) -> float:
        """What to choose by: what a correction adds does not count, for it may be wrong."""
        return float(self.pointwise.mean()) + self.tail

    @property
    def optimistic_score(self) -> float:
        """What the best projection of this kind might give; or all of its columns, were the rest Gaussian."""
        return self.score + max(self.shortfall, self.unmeasured)

    @property
    def variance(self) -> float:
        """Of the average over rows."""
        return variance(self.pointwise, sum(self.dims), self.dependent)

    @property
    def variance_of_change(self) -> float:
        """Of `value_at_more_k - value`: the noise of the rows is mostly shared."""
        change = self.over_k.at_more - self.over_k.at_k
        return self.dependent.variance_of_mean(change) + 2 * self.bias.variance

    def on(self, rows: np.ndarray) -> Candidate:
        """The same projection of other rows."""
        return self if rows is self.rows else replace(self, rows=rows)

    def expecting(
        self, shortfall: float = 0.0, unmeasured: float = 0.0, tail: float = 0.0, tail_columns: int = 0
    ) -> Self:
        """The same on the same rows, what was computed of it kept, with other expectations."""
        found = replace(
            self, shortfall=shortfall or self.shortfall, unmeasured=unmeasured, tail=tail, tail_columns=tail_columns
        )
        for name in ("sides", "dependent", "pointwise", "over_k", "bias"):
            if name in self.__dict__:
                found.__dict__[name] = self.__dict__[name]
        return found


class WithoutNeighbours(Candidate):
    """One whose `pointwise` counts no neighbours: it is the same at any k, and no bias of KSG is in it."""

    @property
    def name(self) -> str:
        return self.family

    @property
    def covers_all(self) -> bool:
        return True

    @property
    def tests_dependence(self) -> bool:
        return False

    @cached_property
    def over_k(self) -> OverK:
        """The same at any k."""
        return OverK(self.pointwise, self.pointwise, self.pointwise)

    @cached_property
    def bias(self) -> Bias:
        """None is subtracted."""
        return NO_BIAS

    @property
    def variance(self) -> float:
        return self.dependent.variance_of_mean(self.pointwise)


class Signs(WithoutNeighbours):
    """Sides of a threshold in each column, as one symbol a side: counted, with the Miller-Madow correction.

    Dependence in signs alone (a parity) is sharp where nearest neighbours blur it. `project` gives 0 and 1.
    """

    @cached_property
    def pointwise(self) -> np.ndarray:
        """Relative frequencies, less their bias."""
        first, second = (symbols(side) for side in self.sides)
        filled = [len(np.unique(codes)) for codes in (first * (second.max() + 1) + second, first, second)]
        excess = (filled[0] - filled[1] - filled[2] + 1) / (2 * len(first))
        return cell_ratio(first, second) - excess


class Bound(WithoutNeighbours):
    """The InfoNCE bound of networks, which more dimensions than nearest neighbours can follow do not blur.

    It is low by what the networks miss. `project` gives the bound row by row, and once more.
    """

    @property
    def promises_unused(self) -> bool:
        """Networks promise much on rows that they know by heart."""
        return False

    @cached_property
    def pointwise(self) -> np.ndarray:
        """InfoNCE, row by row."""
        return self.sides[0]


@dataclass(frozen=True)
class Clustered(Bound):
    """The InfoNCE bound of clusters of each side: `project` gives the shares of each cluster in the rows.

    Args:
        bound: shares of both sides [n, K_x] and [n, K_y] -> nats of each row.
    """

    bound: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    @property
    def covers_all(self) -> bool:
        """What clusters of rows have in common within them is left out."""
        return False

    @cached_property
    def pointwise(self) -> np.ndarray:
        """InfoNCE, row by row."""
        assert self.bound is not None
        return self.bound(*self.sides)
