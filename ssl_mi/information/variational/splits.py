"""Which rows are fitted on, stopped on and read; and each column's margin, brought to normal by the fit rows.

    fit     parameters climb here
    stop    they are judged here while they climb, and the best come back
    read    the estimate is made here, once

Reading on `fit` would report what was memorised; reading on `stop` the luckiest of many looks.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy import special
from torch import Tensor

from ssl_mi.information.core.inputs import n_distinct, read_pair, row_hash

SPLIT = (0.6, 0.15, 0.25)


class Prepared(NamedTuple):
    """(x, y) float32 of the fit, stop and read rows, through margins fitted on the fit rows."""

    fit: tuple[Tensor, Tensor]
    stop: tuple[Tensor, Tensor]
    read: tuple[Tensor, Tensor]
    dims: tuple[int, int]
    warnings: tuple[str, ...]
    read_groups: np.ndarray | None = None  # int64, the source of each row read, where sources were given


def prepare(x, y, margins: str, split, groups, seed: int, device="cpu") -> Prepared:
    """Check, split by `seed` and bring to `margins`; warn where rows to be read are also fitted on."""
    return rotations(x, y, margins, split, groups, seed, device, cross_fit=False)[0]


def rotations(x, y, margins: str, split, groups, seed: int, device="cpu", cross_fit: bool = True) -> list[Prepared]:
    """One split, or with `cross_fit` as many as it takes to read every row once."""
    if margins not in MARGINS:
        raise ValueError(f"margins must be one of {', '.join(MARGINS)}, got {margins!r}")
    sides = read_pair(x, y)
    n, group = sides[0].n, _group(groups, sides[0].n)
    parts = split_each(n, split, seed, groups) if cross_fit else [split_rows(n, split, seed, groups)]
    hashes = row_hash(np.hstack([side.values for side in sides]))
    # Discrete pairs repeat by nature; rows of real numbers do not.
    real = max(n_distinct(row_hash(side.values)) for side in sides) > 0.1 * n
    prepared = []
    for rows in parts:
        applied = [MARGINS[margins](side.values[rows["fit"]])(side.values) for side in sides]
        tensors = [torch.as_tensor(values, dtype=torch.float32, device=device) for values in applied]
        taken = {name: tuple(t[torch.as_tensor(index, device=device)] for t in tensors) for name, index in rows.items()}
        copies = int(np.isin(hashes[rows["read"]], hashes[rows["fit"]]).sum())
        warnings = ()
        if copies and real:
            warnings = (
                f"{copies} of {len(rows['read'])} rows read are copies of rows fitted on: drop duplicates or "
                "pass groups",
            )
        sources = None if groups is None else group[rows["read"]]
        prepared.append(Prepared(**taken, dims=(sides[0].d, sides[1].d), warnings=warnings, read_groups=sources))
    return prepared


def split_rows(n: int, split: tuple[float, float, float], seed: int, groups=None) -> dict[str, np.ndarray]:
    """Disjoint row indices {"fit", "stop", "read"} in shares `split`, whole groups at a time."""
    group, order = _shuffled(n, split, seed, groups)
    return _rows(group, order, split, round((1 - split[2]) * len(order)), len(order))


def split_each(n: int, split: tuple[float, float, float], seed: int, groups=None) -> list[dict[str, np.ndarray]]:
    """As many splits as it takes for every row to be read in one of them: the first is that of `split_rows`.

    Raises ValueError unless the read share is one over a whole number.
    """
    group, order = _shuffled(n, split, seed, groups)
    times = round(1 / split[2])
    if not math.isclose(times * split[2], 1, abs_tol=1e-6):
        raise ValueError(
            f"cross-fitting reads each row once: the read share must be 1/2, 1/3, 1/4, ..., got {split[2]} in {split}"
        )
    edges = [round(part * len(order) / times) for part in range(times, -1, -1)]
    return [_rows(group, order, split, low, high) for high, low in pairwise(edges)]


def _group(groups, n: int) -> np.ndarray:
    """The source of each row, as whole numbers from 0; without `groups` each row is its own."""
    if groups is None:
        return np.arange(n)
    group = np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    if len(group) != n:
        raise ValueError(f"groups has {len(group)} entries for {n} rows; give one a row")
    return group


def _shuffled(n: int, split, seed: int, groups) -> tuple[np.ndarray, np.ndarray]:
    if len(split) != 3 or min(split) <= 0 or not math.isclose(sum(split), 1, abs_tol=1e-6):
        raise ValueError(f"split must be three positive shares (fit, stop, read) that sum to 1, got {split}")
    group = _group(groups, n)
    return group, np.random.default_rng(seed).permutation(group.max() + 1)


def _rows(group: np.ndarray, order: np.ndarray, split, low: int, high: int) -> dict[str, np.ndarray]:
    """Read the groups order[low:high]; fit and stop share the rest, which begins after them."""
    rest = np.concatenate([order[high:], order[:low]])
    fit = round(len(rest) * split[0] / (split[0] + split[1]))
    parts = {"fit": rest[:fit], "stop": rest[fit:], "read": order[low:high]}
    rows = {name: np.flatnonzero(np.isin(group, part)) for name, part in parts.items()}
    short = {name: len(index) for name, index in rows.items() if len(index) < 6}
    n = len(group)
    if n < 40 or short:
        raise ValueError(f"{n} rows are too few to split {split} (need 40, and 6 a part; short: {short}); use ksg")
    return rows


# ---------------------------------------------------------------------------------------------- the margins


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


MARGINS = {"gaussian": GaussianMargins, "standard": StandardMargins, "raw": RawMargins}
