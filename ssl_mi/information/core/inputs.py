"""Two paired arrays at the door: checked, named when wrong, and brought to float64.

Every non-parametric estimator begins here, so that a given mistake gives the same message everywhere.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple, Protocol

import numpy as np

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.containers import Plain, is_tensor, plain

# Mantissa bits, the implicit one included.
LOW_PRECISION = {"float16": 11, "bfloat16": 8}
FEWEST_ROUNDED = 32  # distinct values, below which nobody can tell rounding from a grid


FEW_TIES = 0.99  # share of distinct rows; six decimals give a few equal numbers, which change nothing


class Variable(NamedTuple):
    """One variable: values float64 [n, d], the name it was passed under, the precision it was stored in."""

    values: np.ndarray
    name: str
    stored: str

    @property
    def n(self) -> int:
        """Rows."""
        return self.values.shape[0]

    @property
    def d(self) -> int:
        """Columns."""
        return self.values.shape[1]


class Categories(NamedTuple):
    """A variable whose values are symbols.

    Args:
        codes: int64 [n], from 0.
        name: the name it was passed under.
        labels: [n] or [n, d], what the codes stand for.
    """

    codes: np.ndarray
    name: str
    labels: np.ndarray

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.codes)


def is_floating(x: Any) -> bool:
    """Whether x holds floating-point numbers."""
    return plain(x).values.dtype.kind == "f"


def take_rows(x: Any, rows: np.ndarray) -> Any:
    """Rows of a torch tensor (on its device) or of anything numpy reads."""
    if is_tensor(x):
        return x[sys.modules["torch"].from_numpy(rows).to(x.device)]
    return np.asarray(x)[rows]


def read(x: Any, name: str = "x") -> Variable:
    """One variable, checked, as a copy in float64.

    Args:
        x: [n] or [n, d], a torch tensor on any device or anything numpy reads.
        name: of x, in messages.

    Raises:
        ValueError: another rank, no rows, NaN or infinity, or values that are not numbers.
    """
    return as_numbers(plain(x, name), name)


def as_numbers(found: Plain, name: str) -> Variable:
    """What `plain` found as numbers; raises ValueError as `read` does."""
    if found.values.dtype.kind not in "fiub":
        raise ValueError(f"{name} has dtype {found.stored}: numbers are needed (labels can be coded as integers)")
    values = found.values.astype(np.float64)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise ValueError(f"{name} has shape {values.shape}: pass [n] or [n, d] (flatten images to [n, c*h*w])")
    if values.shape[0] == 0 or values.shape[1] == 0:
        raise ValueError(f"{name} has shape {values.shape}: it is empty")
    if not np.isfinite(values).all():
        bad = ~np.isfinite(values)
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{name} holds {bad.any(1).sum()} rows with NaN or infinity, first {values[row, column]} at "
            f"row {row}, column {column}: drop those rows from every array"
        )
    return Variable(np.ascontiguousarray(values), name, found.stored)


def rounded(variable: Variable) -> Variable:
    """The same, with `stored` the precision its values were once rounded to, whatever they are kept in now.

    `embeddings.float()` after mixed precision holds float16 or bfloat16 numbers in float32. They are recognised by no
    value having more bits, and distinguished from an evenly spaced grid (integers, pixels / 256) by being finer near
    zero.
    """
    if variable.stored not in ("float32", "float64"):
        return variable
    coarsest_first = sorted(LOW_PRECISION, key=lambda name: LOW_PRECISION[name])  # what fits 8 bits fits 11
    # Nearly always the first few values show that nothing was rounded.
    if not any(_fit(variable.values.ravel()[:FEWEST_ROUNDED], name) for name in coarsest_first):
        return variable
    distinct = np.unique(variable.values)
    if len(distinct) < FEWEST_ROUNDED:
        return variable
    for name in coarsest_first:
        step = np.ldexp(1.0, np.frexp(distinct)[1].max() - LOW_PRECISION[name])
        if _fit(distinct, name) and not (distinct / step == np.round(distinct / step)).all():
            return variable._replace(stored=name)
    return variable


def _fit(values: np.ndarray, name: str) -> bool:
    """Whether these numbers lose nothing in float16 or bfloat16."""
    mantissa = np.ldexp(np.frexp(values)[0], LOW_PRECISION[name])
    fits = mantissa == np.round(mantissa)
    if name == "float16":  # a small range: beyond 65,504 it holds nothing, and near 0 multiples of 2^-24
        fits &= (np.abs(values) < 65520) & (values * 2.0**24 == np.round(values * 2.0**24))
    return bool(fits.all())


def read_pair(x: Any, y: Any, names: tuple[str, str] = ("x", "y")) -> tuple[Variable, Variable]:
    """Both variables, of equal length.

    Args:
        x: [n] or [n, dx].
        y: [n] or [n, dy].
        names: of both, in messages.

    Raises:
        ValueError: as `read` does, and where row i of one has no partner in the other.
    """
    first, second = read(x, names[0]), read(y, names[1])
    check_paired(first, second)
    return first, second


class _Named(Protocol):
    """What has rows and a name: a `Variable`, `Categories`, or a side that may be either."""

    @property
    def n(self) -> int: ...

    @property
    def name(self) -> str: ...


def check_paired(*variables: _Named) -> None:
    """Raise ValueError where they are not of equal length."""
    first = variables[0]
    for other in variables[1:]:
        if other.n != first.n:
            raise ValueError(
                f"{first.name} has {first.n} rows and {other.name} has {other.n}: they are used in pairs, "
                f"row i with row i, so pass equal lengths"
            )


def read_labels(labels: Any, name: str = "labels") -> tuple[np.ndarray, int]:
    """Symbols as numbers.

    Args:
        labels: [n], or [n, d] with one symbol a row: integers, booleans, strings or whole floats.
        name: of the labels, in messages.

    Returns:
        Codes from 0, int64 [n], and how many different ones there are.

    Raises:
        ValueError: fractional floats, NaN or another rank.
    """
    return as_codes(plain(labels, name).values, name)


def as_codes(raw: np.ndarray, name: str, whole: bool = True) -> tuple[np.ndarray, int]:
    """An array of symbols as `read_labels` gives them. whole: refuse fractions, which are seldom symbols."""
    if raw.ndim not in (1, 2) or raw.size == 0:
        raise ValueError(f"{name} has shape {raw.shape}: pass one symbol a row, [n] or [n, d]")
    if raw.dtype.kind == "f":
        if not np.isfinite(raw).all():
            raise ValueError(f"{name} holds NaN or infinity: drop those rows from every array")
        if whole and not (raw == np.round(raw)).all():
            bad = raw[raw != np.round(raw)].ravel()[0]
            raise ValueError(f"{name} holds {bad}: symbols must be whole numbers; bin it, or use ksg")
    elif raw.dtype.kind not in "iubUSO":
        raise ValueError(f"{name} has dtype {raw.dtype}: pass integers, booleans or strings")
    if raw.ndim == 2 and raw.shape[1] == 1:
        raw = raw[:, 0]
    _, codes = np.unique(raw, axis=None if raw.ndim == 1 else 0, return_inverse=True)
    codes = codes.reshape(-1).astype(np.int64)
    return codes, int(codes.max()) + 1


def standardize(variable: Variable) -> tuple[Variable, np.ndarray, tuple[Caution, ...]]:
    """Each column to mean 0 and variance 1, in float64 -> (variable, scales [d], cautions).

    A constant column carries no information and is left at 0 with scale 1; a caution names it.
    """
    values = variable.values
    # Dividing by the largest magnitude first keeps the variance of 1e200 from overflowing.
    largest = np.abs(values).max(0)
    unit = np.where(largest > 0, largest, 1.0)
    centred = values / unit
    centred = centred - centred.mean(0)
    deviation = centred.std(0)
    # A constant's deviation is rounding error, not exactly 0.
    constant = deviation <= 4 * np.finfo(np.float64).eps
    deviation = np.where(constant, 1.0, deviation)
    centred[:, constant] = 0.0
    scaled = np.ascontiguousarray(centred / deviation)
    cautions = (_constant_columns(variable, np.flatnonzero(constant)),) if constant.any() else ()
    return variable._replace(values=scaled), deviation * unit, cautions


def _constant_columns(variable: Variable, columns: np.ndarray) -> Caution:
    shown = ", ".join(map(str, columns[:5])) + (", ..." if len(columns) > 5 else "")
    return Caution(
        "constant-columns",
        f"{len(columns)} of {variable.d} columns of {variable.name} are constant ({shown}): no information",
        {"side": variable.name, "constant": len(columns), "columns": variable.d},
    )


def ties_caution(variable: Variable, distinct: int, remedy: str = "") -> Caution:
    """That values of a continuous variable repeat, and what to do about it."""
    return Caution(
        "ties",
        f"{variable.name} has ties ({distinct} distinct values in {variable.n} rows){remedy}",
        {"side": variable.name, "distinct": distinct, "n": variable.n},
    )


def row_hash(values: np.ndarray) -> np.ndarray:
    """values [n, d] -> uint64 [n]: equal rows get equal hashes; a collision has odds of about n² / 2^65."""
    # +0.0 turns -0.0 into 0.0, which compares equal and must hash equal.
    bits = (values + 0.0).view(np.uint64)
    mixed = np.zeros(len(values), np.uint64)
    for column in range(values.shape[1]):
        mixed = (mixed ^ bits[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
    return mixed


def n_distinct(hashes: np.ndarray) -> int:
    """How many different values there are."""
    ordered = np.sort(hashes)
    return 1 + int((ordered[1:] != ordered[:-1]).sum())
