"""What nearest neighbours need of samples: repeats and rounding seen to, and warnings of what goes wrong with them."""

from __future__ import annotations

import numpy as np

from ssl_mi.information.core.inputs import LOW_PRECISION, Samples, n_distinct, read_pair, rounded, row_hash, standardize

MAX_DIMS = 4  # a side; see knn.py
FEW_ROWS = 200
FEW_TIES = 0.99  # share of distinct rows; six decimals give a few equal numbers, which change nothing


def check_k(k: int, n: int) -> int:
    if k != int(k) or k < 1:
        raise ValueError(f"k must be a whole number of neighbours, at least 1, got {k!r}")
    if n <= k:
        raise ValueError(
            f"x and y have n={n} rows, k={k} neighbours need at least {k + 1}: pass more rows, or a smaller k"
        )
    return int(k)


def prepare(
    x, y, *, standardized: bool, duplicates: str, dequantized: bool, seed: int
) -> tuple[Samples, Samples, tuple[str, ...]]:
    """Two paired continuous variables, fit for nearest neighbours: repeats and rounding seen to."""
    if duplicates not in ("drop", "keep"):
        raise ValueError(f"duplicates must be 'drop' or 'keep', got {duplicates!r}")
    a, b = map(rounded, read_pair(x, y))
    a, b, warnings = see_to_repeats(a, b, drop=duplicates == "drop")
    rng = np.random.default_rng(seed)
    for low in (a, b):
        if low.stored in LOW_PRECISION and not dequantized:
            warnings += (f"{low.name} holds {low.stored} values: ties may read as information; pass dequantized=True",)
    if dequantized:
        a, rounded_a = dequantize(a, rng)
        b, rounded_b = dequantize(b, rng)
        warnings += rounded_a + rounded_b
    if standardized:
        a, _, constant_a = standardize(a)
        b, _, constant_b = standardize(b)
        warnings += constant_a + constant_b
    return a, b, warnings


def dequantize(variable: Samples, rng: np.random.Generator) -> tuple[Samples, tuple[str, ...]]:
    """Spread float16 and bfloat16 values uniformly over the cells they were rounded from."""
    bits = LOW_PRECISION.get(variable.stored)
    if bits is None:
        return variable, ()
    smallest = -24 if variable.stored == "float16" else -133  # exponent of the smallest subnormal
    _, exponent = np.frexp(variable.values)
    cell = np.ldexp(1.0, np.maximum(exponent - bits, smallest))
    spread = variable.values + (rng.random(variable.values.shape) - 0.5) * cell
    # A column of few symbols (labels, zeros of a ReLU) is not rounded from a continuum.
    warning = (
        f"{variable.name} holds {variable.stored} values: each was spread over its rounding cell; "
        f"float32 embeddings need no such repair",
    )
    return variable._replace(values=spread), warning


def see_to_repeats(a: Samples, b: Samples, drop: bool) -> tuple[Samples, Samples, tuple[str, ...]]:
    """Tell repeated rows (of continuous data: drop) from coarse values (of discrete data: warn)."""
    n = a.n
    hash_a, hash_b = row_hash(a.values), row_hash(b.values)
    distinct_a, distinct_b = n_distinct(hash_a), n_distinct(hash_b)
    if distinct_a == n and distinct_b == n:
        return a, b, ()
    both = hash_a ^ (hash_b * np.uint64(0xD6E8FEB86659FD93))
    distinct = n_distinct(both)
    repeated_pairs = distinct == distinct_a == distinct_b  # x always comes with its own y: rows were repeated
    if repeated_pairs and distinct > 1:
        text = f"{n - distinct} of {n} rows of ({a.name}, {b.name}) are exact repeats"
        if not drop:
            return a, b, (f"{text}: they read as information; pass duplicates='drop'",)
        first_rows = np.sort(np.unique(both, return_index=True)[1])
        kept = a._replace(values=a.values[first_rows]), b._replace(values=b.values[first_rows])
        return *kept, (f"{text} and were dropped",)
    warnings = ()
    for variable, distinct_rows in ((a, distinct_a), (b, distinct_b)):
        if distinct_rows < FEW_TIES * n and variable.stored not in LOW_PRECISION:
            warnings += (
                f"{variable.name} has ties ({distinct_rows} distinct values in {n} rows): KSG is for "
                f"continuous values; use mixed_ksg_gao, or mixed_ksg_ross for labels",
            )
    return a, b, warnings


def reach_warnings(a: Samples, b: Samples, value: float, ceiling: float) -> tuple[str, ...]:
    """What is known to go wrong with KSG: too many dimensions, too few rows, too strong a dependence."""
    warnings = tuple(dims_warning(variable) for variable in (a, b) if variable.d > MAX_DIMS)
    if a.n < FEW_ROWS:
        warnings += (few_rows(a.n),)
    if value > 0.8 * ceiling:
        warnings += (
            f"the estimate is near its ceiling ψ(n) - ψ(k) = {ceiling:.2f}: the dependence may be stronger, "
            f"or deterministic (infinite mutual information); it grows with log n then",
        )
    return warnings


def marginal_warnings(variable: Samples) -> tuple[str, ...]:
    warnings = (dims_warning(variable),) if variable.d > MAX_DIMS else ()
    if variable.n < FEW_ROWS:
        warnings += (few_rows(variable.n),)
    distinct = n_distinct(row_hash(variable.values))
    if distinct < FEW_TIES * variable.n:
        warnings += (f"{variable.name} has ties ({distinct} distinct values in {variable.n} rows)",)
    return warnings


def dims_warning(variable: Samples) -> str:
    return (
        f"{variable.name} has {variable.d} dimensions: KSG reads too little above {MAX_DIMS}; project first "
        f"(projections.CCA fitted on other rows), and read a lower bound"
    )


def few_rows(n: int) -> str:
    return f"n = {n} rows are few: below {FEW_ROWS} the bias can exceed the standard error"
