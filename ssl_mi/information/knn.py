"""k-nearest-neighbour estimators: mutual information and entropy of continuous samples, without a model.

KSG (Kraskov, Stögbauer & Grassberger 2004, cond-mat/0305641). Let ε_i be the distance from (x_i, y_i) to
its k-th neighbour in the max norm of the joint space. How many points lie as near in each marginal tells
the density ratio:

    variant 1 (eq. 8):  I = ψ(k) + ψ(n) - < ψ(n_x + 1) + ψ(n_y + 1) >,    n_x = #{j ≠ i: |x_j - x_i| < ε_i}
    variant 2 (eq. 9):  I = ψ(k) - 1/k + ψ(n) - < ψ(n_x) + ψ(n_y) >,   n_x = #{j ≠ i: |x_j - x_i| <=
    ε_x,i}

where ε_x,i, ε_y,i are the sides of the rectangle that holds the k neighbours. "<" in variant 1 and "<=" in
variant 2 are part of the formulas: the other way round is a bias.

They are excellent up to about 4 dimensions a side and read too little beyond: at n = 10,000 and rho = .6 in
every dimension, 8 + 8 dimensions read 1.12 of 1.79 nats. Read high-dimensional samples through
`projections`.
"""

from __future__ import annotations

import time
from typing import Literal

import numpy as np

from ssl_mi.information.estimate import Estimate
from ssl_mi.information.samples import (
    LOW_PRECISION,
    Samples,
    n_distinct,
    read,
    read_labels,
    read_pair,
    row_hash,
    standardize,
)

MAX_DIMS = 4  # a side; see the module docstring
FEW_ROWS = 200


def ksg(
    x,
    y,
    k: int = 3,
    variant: Literal[1, 2] = 1,
    *,
    standardized: bool = True,
    duplicates: Literal["drop", "keep"] = "drop",
    dequantized: bool = True,
    seed: int = 0,
) -> Estimate:
    """Mutual information I(x; y) by nearest neighbours, in nats. Exact in float64, ties included.

    x: [n, dx] (or [n]), y: [n, dy], torch or numpy, any dtype or device.
    k: neighbours; more means less variance and more bias. `variant`: 1 or 2, see the module docstring.
    standardized: bring every column to variance 1 first, so that units do not matter.
    duplicates: "drop" removes exact repeats of whole rows when x and y are otherwise continuous (padding of
    the last
        batch, sampling with replacement) and says so; each row counted twice would be its own neighbour.
        "keep" leaves them.
    dequantized: spread float16 and bfloat16 values uniformly over their rounding cells, with `seed`, and
    say so;
        their ties read as information otherwise.

    Raises ValueError: unpaired lengths, NaN or infinity, wrong rank, n <= k.
    Source: Kraskov, Stögbauer & Grassberger 2004, cond-mat/0305641, eqs. 8 and 9.
    """
    started = time.perf_counter()
    if variant not in (1, 2):
        raise ValueError(f"variant must be 1 or 2, got {variant!r}")
    a, b, warnings = prepare(
        x, y, standardized=standardized, duplicates=duplicates, dequantized=dequantized, seed=seed
    )
    pointwise = ksg_pointwise(a.values, b.values, check_k(k, a.n), variant)
    value = float(pointwise.mean())
    ceiling = _psi(a.n) - _psi(k)
    warnings += reach_warnings(a, b, value, ceiling)
    return Estimate(
        value=value,
        ceiling=float(ceiling),
        n=a.n,
        dims=(a.d, b.d),
        estimator=f"KSG{variant}",
        settings={"k": k} | ({} if standardized else {"standardized": False}),
        seconds=time.perf_counter() - started,
        warnings=warnings,
    )


def pointwise_mi(x, y, k: int = 3, variant: Literal[1, 2] = 1, *, standardized: bool = True) -> np.ndarray:
    """How much each pair contributes, in nats: float64 [n], whose mean is `ksg`'s value.

    i(x_i; y_i) = log p(x_i, y_i) / (p(x_i) p(y_i)), estimated as ψ(k) + ψ(n) - ψ(n_x + 1) - ψ(n_y + 1). A
    single entry is noisy (its standard deviation is about 1 at k = 3): average over groups of rows, or take
    a larger k. Repeated rows are kept, so that entry i always belongs to row i.
    """
    a, b, _ = prepare(x, y, standardized=standardized, duplicates="keep", dequantized=True, seed=0)
    return ksg_pointwise(a.values, b.values, check_k(k, a.n), variant)


def ksg_pointwise(x: np.ndarray, y: np.ndarray, k: int, variant: int = 1) -> np.ndarray:
    """The bare formula on float64 [n, dx], [n, dy], as given -> float64 [n] whose mean is the estimate."""
    from ssl_mi.information import neighbours

    n = len(x)
    tree = neighbours.Tree(np.concatenate([x, y], 1))
    radii = tree.nearest(k)[:, k - 1]
    if variant == 1:
        inside_x = neighbours.count_within(x, radii)
        inside_y = neighbours.count_within(y, radii)
        return _psi(k) + _psi(n) - _psi(inside_x + 1) - _psi(inside_y + 1)
    extents = tree.extents(radii, x.shape[1])
    inside_x = neighbours.count_within(x, extents[:, 0], closed=True)
    inside_y = neighbours.count_within(y, extents[:, 1], closed=True)
    return _psi(k) - 1 / k + _psi(n) - _psi(inside_x) - _psi(inside_y)


def entropy_kl(x, k: int = 3, *, standardized: bool = True) -> Estimate:
    """Differential entropy of x: [n, d], in nats, by Kozachenko & Leonenko with the max norm.

        H = ψ(n) - ψ(k) + d < log 2 ε_i >

    ε_i is the distance to the k-th neighbour, (2 ε)^d the volume of its cube. `standardized` measures
    distances in standard deviations and adds back Σ log sd: the answer is in the units of x either way.
    Raises ValueError for n <= k, NaN, repeated rows beyond k (the entropy of a distribution with atoms is
    -∞) and constant columns (likewise). Source: Kozachenko & Leonenko 1987; Kraskov et al. 2004,
    cond-mat/0305641, eq. 20.
    """
    from ssl_mi.information import neighbours

    started = time.perf_counter()
    variable = read(x, "x")
    check_k(k, variable.n)
    warnings: tuple[str, ...] = ()
    scaled, scales, constant = standardize(variable)
    if constant:
        raise ValueError(f"{constant[0]}: the differential entropy is -inf; drop them")
    log_scale = float(np.log(scales).sum()) if standardized else 0.0
    points = scaled.values if standardized else variable.values
    radii = neighbours.nearest(points, k)[:, k - 1]
    if (radii == 0).any():
        raise ValueError(
            f"x has {int((radii == 0).sum())} rows repeated more than k={k} times: its distribution has "
            f"atoms and its differential entropy is -inf; use discrete.entropy, or drop the repeats"
        )
    if variable.d > MAX_DIMS:
        warnings += (f"x has {variable.d} dimensions: nearest neighbours are trusted up to {MAX_DIMS}",)
    if variable.n < FEW_ROWS:
        warnings += (_few_rows(variable.n),)
    value = float(_psi(variable.n) - _psi(k) + variable.d * np.log(2 * radii).mean() + log_scale)
    return Estimate(
        value=value,
        n=variable.n,
        dims=(variable.d,),
        estimator="Kozachenko-Leonenko entropy",
        settings={"k": k},
        seconds=time.perf_counter() - started,
        warnings=warnings,
    )


def mixed_ksg_ross(x, labels, k: int = 3, *, standardized: bool = True) -> Estimate:
    """Mutual information between continuous x: [n, d] and discrete labels: [n], in nats.

        I = ψ(n) - < ψ(n_label) > + ψ(k) - < ψ(m) >

    d_i is the distance to the k-th neighbour *of the same label*, m_i the number of points of any label
    within it, that neighbour included. Labels seen once say nothing about density and are left out, with a
    warning; labels with at most k rows use all the neighbours they have. Raises ValueError: unpaired
    lengths, NaN, fractional labels, fewer than two rows left. Source: Ross 2014, PLoS ONE 9(2): e87357, eq.
    6.
    """
    from ssl_mi.information import neighbours

    started = time.perf_counter()
    variable = read(x, "x")
    codes, m = read_labels(labels)
    if len(codes) != variable.n:
        raise ValueError(f"x has {variable.n} rows and labels has {len(codes)}: pass equal lengths")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    warnings: tuple[str, ...] = ()
    sizes = np.bincount(codes, minlength=m)
    lonely = sizes[codes] == 1
    if lonely.any():
        warnings += (f"{int(lonely.sum())} labels occur once and were left out of the estimate",)
        variable, codes = variable._replace(values=variable.values[~lonely]), codes[~lonely]
    if variable.n < 2:
        raise ValueError(
            f"labels has {m} different values in {len(lonely)} rows: every label occurs once; use ksg"
        )
    if standardized:
        variable, _, constant = standardize(variable)
        warnings += constant
    radii = np.empty(variable.n)
    used = np.empty(variable.n)
    for label in np.unique(codes):
        rows = np.flatnonzero(codes == label)
        reach = min(k, len(rows) - 1)
        radii[rows] = neighbours.nearest(variable.values[rows], reach)[:, reach - 1]
        used[rows] = reach
    # Of the points of any label: those strictly nearer, and the k-th neighbour itself.
    within = neighbours.count_within(variable.values, radii) + 1
    pointwise = _psi(variable.n) - _psi(sizes[codes]) + _psi(used) - _psi(within)
    small = int(((sizes > 1) & (sizes <= k)).sum())
    if small:
        warnings += (f"{small} labels have at most k={k} rows: their neighbours are all the rows they have",)
    warnings += _marginal_warnings(variable)
    return Estimate(
        value=float(pointwise.mean()),
        n=variable.n,
        dims=(variable.d, 1),
        estimator="Ross mixed KSG",
        settings={"k": k},
        seconds=time.perf_counter() - started,
        warnings=warnings,
    )


def mixed_ksg_gao(x, y, k: int = 3, *, standardized: bool = True) -> Estimate:
    """Mutual information when either variable may be continuous, discrete, or a mixture of both, in nats.

        I = < ψ(k_i) + log n - ψ(n_x,i) - ψ(n_y,i) >

    ρ_i is the distance to the k-th neighbour. Where ρ_i > 0, k_i = k and n_x, n_y count the points strictly
    nearer, the point itself included: KSG 1. Where ρ_i = 0 (an atom), k_i, n_x, n_y count the points at
    distance 0, itself included: the plug-in estimate with ψ in place of log. Raises ValueError: unpaired
    lengths, NaN, wrong rank, n <= k. Source: Gao, Kannan, Oh & Viswanath 2017, arXiv:1709.06212, Algorithm
    1.
    """
    from ssl_mi.information import neighbours

    started = time.perf_counter()
    first, second = read_pair(x, y)
    check_k(k, first.n)
    warnings: tuple[str, ...] = ()
    if standardized:
        first, _, constant_x = standardize(first)
        second, _, constant_y = standardize(second)
        warnings += constant_x + constant_y
    joint = np.concatenate([first.values, second.values], 1)
    tree = neighbours.Tree(joint)
    radii = tree.nearest(k)[:, k - 1]
    atom = radii == 0
    n_x = neighbours.count_within(first.values, radii) + 1
    n_y = neighbours.count_within(second.values, radii) + 1
    used = np.full(first.n, k)
    if atom.any():
        nothing = np.zeros(first.n)
        used[atom] = neighbours.count_within(joint, nothing, closed=True)[atom] + 1
        n_x[atom] = neighbours.count_within(first.values, nothing, closed=True)[atom] + 1
        n_y[atom] = neighbours.count_within(second.values, nothing, closed=True)[atom] + 1
    pointwise = _psi(used) + np.log(first.n) - _psi(n_x) - _psi(n_y)
    for variable in (first, second):
        if variable.d > MAX_DIMS and not atom.all():
            warnings += (_dims_warning(variable),)
    if first.n < FEW_ROWS:
        warnings += (_few_rows(first.n),)
    return Estimate(
        value=float(pointwise.mean()),
        n=first.n,
        dims=(first.d, second.d),
        estimator="Gao mixed KSG",
        settings={"k": k},
        seconds=time.perf_counter() - started,
        warnings=warnings,
    )


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
    a, b = read_pair(x, y)
    a, b, warnings = _see_to_repeats(a, b, drop=duplicates == "drop")
    rng = np.random.default_rng(seed)
    for low in (a, b):
        if low.stored in LOW_PRECISION and not dequantized:
            warnings += (
                f"{low.name} is {low.stored}: its ties may read as information; pass dequantized=True",
            )
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
        f"{variable.name} is {variable.stored}: each value was spread over its rounding cell; "
        f"float32 embeddings need no such repair",
    )
    return variable._replace(values=spread), warning


def _see_to_repeats(a: Samples, b: Samples, drop: bool) -> tuple[Samples, Samples, tuple[str, ...]]:
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
        if distinct_rows < n and variable.stored not in LOW_PRECISION:
            warnings += (
                f"{variable.name} has ties ({distinct_rows} distinct values in {n} rows): KSG is for "
                f"continuous values; use mixed_ksg_gao, or mixed_ksg_ross for labels",
            )
    return a, b, warnings


def reach_warnings(a: Samples, b: Samples, value: float, ceiling: float) -> tuple[str, ...]:
    """What is known to go wrong with KSG: too many dimensions, too few rows, too strong a dependence."""
    warnings = tuple(_dims_warning(variable) for variable in (a, b) if variable.d > MAX_DIMS)
    if a.n < FEW_ROWS:
        warnings += (_few_rows(a.n),)
    if value > 0.8 * ceiling:
        warnings += (
            f"the estimate is near its ceiling ψ(n) - ψ(k) = {ceiling:.2f}: the dependence may be stronger, "
            f"or deterministic (infinite mutual information); it grows with log n then",
        )
    return warnings


def _marginal_warnings(variable: Samples) -> tuple[str, ...]:
    warnings = (_dims_warning(variable),) if variable.d > MAX_DIMS else ()
    if variable.n < FEW_ROWS:
        warnings += (_few_rows(variable.n),)
    distinct = n_distinct(row_hash(variable.values))
    if distinct < variable.n:
        warnings += (f"{variable.name} has ties ({distinct} distinct values in {variable.n} rows)",)
    return warnings


def _dims_warning(variable: Samples) -> str:
    return (
        f"{variable.name} has {variable.d} dimensions: KSG reads too little above {MAX_DIMS}; project first "
        f"(projections.CCA fitted on other rows), and read a lower bound"
    )


def _few_rows(n: int) -> str:
    return f"n = {n} rows are few: below {FEW_ROWS} the bias can exceed the standard error"


def _psi(count):
    from scipy.special import digamma

    return digamma(count)
