"""Samples made ready for nearest neighbours: repeats and rounding handled, with cautions about what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.inputs import (
    FEW_TIES,
    LOW_PRECISION,
    Variable,
    n_distinct,
    read_pair,
    rounded,
    row_hash,
    standardize,
    ties_caution,
)
from ssl_mi.information.core.repeats import handle_repeats
from ssl_mi.information.core.settings import whole_number

MAX_DIMS = 4  # a side; see estimators/ksg.py
FEW_ROWS = 200
NEAR = 0.8  # of the ceiling
STRONG = 0.4  # of the ceiling, from which on growth with the rows is looked for
GROWTH = 0.35  # nats for twice the rows, half of what infinite mutual information adds
FEWEST_HALVED = 100  # rows


def check_k(k: int, n: int) -> int:
    """k as an int. Raises ValueError where n rows do not have that many neighbours."""
    k = whole_number("k", k, 1, "neighbours")
    check_neighbours(k, n)
    return k


def check_neighbours(k: int, n: int, factor: int = 1) -> None:
    """Raise ValueError unless n rows have `factor` k neighbours. factor: of a check that asks for more than k."""
    if n <= factor * k:
        again = f" ({factor} k are compared with)" if factor > 1 else ""
        most = (n - 1) // factor
        remedy = f"pass more rows, or k of at most {most}" if most else "pass more rows"
        raise ValueError(f"x and y have n={n} rows, k={k} neighbours need at least {factor * k + 1}{again}: {remedy}")


def prepare(
    x: ArrayLike,
    y: ArrayLike,
    *,
    standardized: bool,
    duplicates: Literal["drop", "keep"],
    dequantized: bool,
    seed: int,
) -> tuple[Variable, Variable, tuple[Caution, ...]]:
    """Two paired continuous variables, ready for nearest neighbours, and the cautions about them.

    Args:
        x: [n] or [n, dx].
        y: [n] or [n, dy].
        standardized: bring every column to mean 0 and variance 1.
        duplicates: "drop" or "keep" exact repeats of whole rows.
        dequantized: spread float16 and bfloat16 values over their rounding cells.
        seed: of that spread.
    """
    if duplicates not in ("drop", "keep"):
        raise ValueError(f"duplicates must be 'drop' or 'keep', got {duplicates!r}")
    a, b = map(rounded, read_pair(x, y))
    a, b, cautions = handle_repeats(a, b, drop=duplicates == "drop")
    rng = np.random.default_rng(seed)
    if dequantized:
        a, spread_a = dequantize(a, rng)
        b, spread_b = dequantize(b, rng)
        cautions += spread_a + spread_b
    else:
        cautions += tuple(_low_precision(variable) for variable in (a, b) if variable.stored in LOW_PRECISION)
    if standardized:
        a, _, constant_a = standardize(a)
        b, _, constant_b = standardize(b)
        cautions += constant_a + constant_b
    return a, b, cautions


def dequantize(variable: Variable, rng: np.random.Generator) -> tuple[Variable, tuple[Caution, ...]]:
    """Spread float16 and bfloat16 values uniformly over the cells they were rounded from."""
    bits = LOW_PRECISION.get(variable.stored)
    if bits is None:
        return variable, ()
    smallest = -24 if variable.stored == "float16" else -133  # exponent of the smallest subnormal
    _, exponent = np.frexp(variable.values)
    cell = np.ldexp(1.0, np.maximum(exponent - bits, smallest))
    spread = variable.values + (rng.random(variable.values.shape) - 0.5) * cell
    caution = Caution(
        "dequantized",
        f"{variable.name} holds {variable.stored} values: each was spread over its rounding cell; "
        f"float32 embeddings need no such repair",
        {"side": variable.name, "stored": variable.stored},
    )
    return variable._replace(values=spread), (caution,)


def _low_precision(variable: Variable) -> Caution:
    return Caution(
        "low-precision",
        f"{variable.name} holds {variable.stored} values: ties may look like information; pass dequantized=True",
        {"side": variable.name, "stored": variable.stored},
    )


def reach_cautions(
    a: Variable, b: Variable, value: float, ceiling: float, of_half: Callable[[np.ndarray], float]
) -> tuple[Caution, ...]:
    """What is known to go wrong with KSG: too many dimensions, too few rows, too strong a dependence.

    Args:
        a: one side.
        b: the other.
        value: the estimate, nats.
        ceiling: ψ(n) - ψ(k), nats.
        of_half: the estimate on some of the rows.
    """
    cautions = (*dims_cautions(a), *dims_cautions(b), *few_rows(a.n))
    if value > NEAR * ceiling:
        text = (
            f"the estimate is near its ceiling ψ(n) - ψ(k) = {ceiling:.2f}: the dependence may be stronger, or "
            f"deterministic (infinite mutual information); the estimate then grows with log n"
        )
        return (*cautions, Caution("near-ceiling", text, {"value": value, "ceiling": ceiling}))
    return (*cautions, *growth_caution(value, ceiling, a.n, of_half))


def growth_caution(value: float, ceiling: float, n: int, of_half: Callable[[np.ndarray], float]) -> tuple[Caution, ...]:
    """A caution where the estimate of half of the rows is clearly smaller, as it is where y is a function of x.

    Where mutual information is infinite each doubling of the rows adds log 2 = .69 nats; where it is finite, and n rows
    resolve it, nothing.

    Args:
        value: the estimate, nats.
        ceiling: ψ(n) - ψ(k), nats. Below 40% of it nothing is compared.
        n: rows.
        of_half: the estimate on some of the rows.
    """
    if value <= STRONG * ceiling or n < FEWEST_HALVED:
        return ()
    half = np.sort(np.random.default_rng(0).permutation(n)[: n // 2])
    smaller = of_half(half)
    if value - smaller < GROWTH:
        return ()
    text = (
        f"the estimate grows with the rows: {smaller:.2f} from {n // 2}, {value:.2f} from {n}; one side may be a "
        f"function of the other (infinite mutual information), or the dependence finer than {n} rows can show"
    )
    return (Caution("grows-with-rows", text, {"value": value, "half": smaller, "n": n}),)


def marginal_cautions(variable: Variable) -> tuple[Caution, ...]:
    """Too many dimensions, too few rows, or repeated values in one variable."""
    cautions = (*dims_cautions(variable), *few_rows(variable.n))
    distinct = n_distinct(row_hash(variable.values))
    return (*cautions, ties_caution(variable, distinct)) if distinct < FEW_TIES * variable.n else cautions


def dims_cautions(variable: Variable) -> tuple[Caution, ...]:
    """A caution where a variable has more dimensions than nearest neighbours can follow."""
    if variable.d <= MAX_DIMS:
        return ()
    return (
        Caution(
            "many-dimensions",
            f"{variable.name} has {variable.d} dimensions: nearest neighbours underestimate above {MAX_DIMS}; project "
            f"first (projections.CCA fitted on other rows), and take the result as a lower bound",
            {"side": variable.name, "dims": variable.d, "threshold": MAX_DIMS},
        ),
    )


def few_rows(n: int) -> tuple[Caution, ...]:
    """A caution below `FEW_ROWS` rows."""
    if n >= FEW_ROWS:
        return ()
    text = f"n = {n} rows are few: below {FEW_ROWS} the bias can exceed the standard error"
    return (Caution("few-rows", text, {"n": n, "threshold": FEW_ROWS}),)
