"""k-nearest-neighbour estimators: mutual information and entropy of continuous samples, without a model.

KSG (Kraskov, Stögbauer & Grassberger 2004, cond-mat/0305641). Let ε_i be the distance from (x_i, y_i) to
its k-th neighbour in the max norm of the joint space. How many points lie as near in each marginal tells
the density ratio:

    variant 1 (eq. 8):  I = ψ(k) + ψ(n) - < ψ(n_x + 1) + ψ(n_y + 1) >,   n_x = #{j ≠ i: |x_j - x_i| < ε_i}
    variant 2 (eq. 9):  I = ψ(k) - 1/k + ψ(n) - < ψ(n_x) + ψ(n_y) >,     n_x = #{j ≠ i: |x_j - x_i| <= ε_x,i}

where ε_x,i, ε_y,i are the sides of the rectangle that holds the k neighbours. "<" in variant 1 and "<=" in
variant 2 are part of the formulas: the other way round is a bias.

They are excellent up to about 4 dimensions a side and read too little beyond: at n = 10,000 and rho = .6 in
every dimension, 8 + 8 dimensions read 1.12 of 1.79 nats. Read high-dimensional samples through
`projections`.
"""

from __future__ import annotations

import functools
import time
from typing import Literal

import numpy as np

from ssl_mi.information.estimate import Estimate
from ssl_mi.information.samples import (
    LOW_PRECISION,
    Samples,
    check_paired,
    n_distinct,
    read,
    read_labels,
    read_pair,
    rounded,
    row_hash,
    standardize,
)

MAX_DIMS = 4  # a side; see the module docstring
FEW_ROWS = 200
FEW_TIES = 0.99  # share of distinct rows; six decimals give a few equal numbers, which change nothing


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
    device=None,
) -> Estimate:
    """Mutual information I(x; y) by nearest neighbours, in nats. Exact in float64, ties included.

    x: [n, dx] (or [n]), y: [n, dy], torch or numpy, any dtype or device.
    k: neighbours; more means less variance and more bias. `variant`: 1 or 2, see the module docstring.
    standardized: bring every column to variance 1 first, so that units do not matter.
    duplicates: "drop" removes exact repeats of whole rows of otherwise continuous data (padding of the last
        batch, sampling with replacement) and says so: a repeated row is its own neighbour. "keep" does not.
    dequantized: spread float16 and bfloat16 values uniformly over their rounding cells, drawn with `seed`,
        and say so; their ties read as information otherwise.
    device: where neighbours are counted, with the same answer. None is the GPU of a CUDA tensor, and compiled
        trees on the CPU for all else; a device of torch ("cuda", "cpu") is brute force there (`tiled`).

    Raises ValueError: unpaired lengths, NaN or infinity, wrong rank, n <= k, a device without float64.
    Source: Kraskov, Stögbauer & Grassberger 2004, cond-mat/0305641, eqs. 8 and 9.
    """
    from ssl_mi.information.tiled import chosen_device

    started = time.perf_counter()
    if variant not in (1, 2):
        raise ValueError(f"variant must be 1 or 2, got {variant!r}")
    device = chosen_device(device, x, y)
    a, b, warnings = prepare(x, y, standardized=standardized, duplicates=duplicates, dequantized=dequantized, seed=seed)
    pointwise = ksg_pointwise(a.values, b.values, check_k(k, a.n), variant, device)
    value = float(pointwise.mean())
    ceiling = _psi(a.n) - _psi(k)
    warnings += reach_warnings(a, b, value, ceiling)
    return Estimate(
        value=value,
        ceiling=float(ceiling),
        n=a.n,
        dims=(a.d, b.d),
        estimator=f"KSG{variant}",
        settings={"k": k}
        | ({} if standardized else {"standardized": False})
        | ({} if device is None else {"device": str(device)}),
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


def ksg_pointwise(x: np.ndarray, y: np.ndarray, k: int, variant: int = 1, device=None) -> np.ndarray:
    """The bare formula on float64 [n, dx], [n, dy], as given -> float64 [n] whose mean is the estimate.

    device: None for `neighbours`, a torch device for `tiled`.
    """
    from ssl_mi.information import neighbours, tiled

    n = len(x)
    if device is not None:
        inside_x, inside_y = (found[0] for found in tiled.counts_on(device, x, y, k, variant))
    elif variant == 1:
        _, inside_x, inside_y = neighbours.joint_counts(x, y, k)
    else:
        tree = neighbours.Tree(np.concatenate([x, y], 1))
        extents = tree.extents(tree.radii(k), x.shape[1])
        inside_x = neighbours.count_within(x, extents[:, 0], closed=True)
        inside_y = neighbours.count_within(y, extents[:, 1], closed=True)
    if variant == 1:
        return _psi(k) + _psi(n) - _psi(inside_x + 1) - _psi(inside_y + 1)
    return _psi(k) - 1 / k + _psi(n) - _psi(inside_x) - _psi(inside_y)


def null_values(x: np.ndarray, y: np.ndarray, k: int, partners: np.ndarray, device=None) -> np.ndarray:
    """KSG 1 of x with y[partners[b]], for each b -> float64 [B]: what x and y read when they share nothing.

    x: float64 [n, dx], y: [n, dy], partners: int64 [B, n], each row a permutation of 0..n-1. The same numbers as
    `ksg_pointwise(x, y[partners[b]], k).mean()`, faster: neighbours within x and within y do not depend on the
    pairing. Raises ValueError for rows that are no permutations.
    """
    from ssl_mi.information import neighbours, tiled

    n = len(x)
    partners = np.asarray(partners)
    if partners.ndim != 2 or partners.shape[1] != n or partners.dtype.kind not in "iu":
        raise ValueError(f"partners must be whole numbers [B, n={n}], got {partners.dtype} {list(partners.shape)}")
    wrong = np.flatnonzero((np.sort(partners, 1) != np.arange(n)).any(1))
    if len(wrong):
        raise ValueError(f"partners[{wrong[0]}] is no permutation of 0..{n - 1}: every row of y needs one place")
    partners = partners.astype(np.int64, copy=False)
    if device is not None:
        counted = zip(*tiled.counts_on(device, x, y, k, partners=partners), strict=True)
    else:
        counted = neighbours.permuted_counts(x, y, k, partners)
    psi = _psi(np.arange(1, n + 1))  # of inside + 1
    return np.array([(_psi(k) + _psi(n) - psi[inside_x] - psi[inside_y]).mean() for inside_x, inside_y in counted])


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
        raise ValueError(f"labels has {m} different values in {len(lonely)} rows: every label occurs once; use ksg")
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


def conditional_ksg(x, y, given, k: int = 3, *, standardized: bool = True) -> Estimate:
    """Conditional mutual information I(x; y | z) by nearest neighbours, in nats. z is `given`: [n, dz].

        I = ψ(k) - < ψ(n_xz + 1) + ψ(n_yz + 1) - ψ(n_z + 1) >

    counts strictly inside the distance to the k-th neighbour in the joint space of x, y and z (max norm).
    Raises ValueError: unpaired lengths, NaN, wrong rank, n <= k.
    Source: Frenzel & Pompe 2007, Phys. Rev. Lett. 99, 204101, eq. 6.
    """
    from ssl_mi.information import neighbours

    started = time.perf_counter()
    variables = [read(x, "x"), read(y, "y"), read(given, "given")]
    check_paired(*variables)
    n = variables[0].n
    check_k(k, n)
    warnings: tuple[str, ...] = ()
    if standardized:
        scaled = [standardize(variable) for variable in variables]
        variables = [variable for variable, _, _ in scaled]
        warnings += tuple(warning for _, _, constant in scaled for warning in constant)
    a, b, c = (variable.values for variable in variables)
    radii = np.ascontiguousarray(neighbours.nearest(np.concatenate([a, b, c], 1), k)[:, k - 1])
    inside_xz, inside_yz, inside_z = (
        neighbours.count_within(np.concatenate(parts, 1), radii) for parts in ((a, c), (b, c), (c,))
    )
    pointwise = _psi(k) - _psi(inside_xz + 1) - _psi(inside_yz + 1) + _psi(inside_z + 1)
    for variable in variables:
        warnings += _marginal_warnings(variable)
    return Estimate(
        value=float(pointwise.mean()),
        n=n,
        dims=tuple(variable.d for variable in variables),
        estimator="conditional KSG",
        settings={"k": k},
        seconds=time.perf_counter() - started,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def lnc(x, y, k: int = 10, *, standardized: bool = True) -> Estimate:
    """Locally corrected KSG, for strong dependence: the k neighbours need not fill an upright box, in nats.

        I = I_KSG2 - < log V̄_i / V_i  where V̄_i < α V_i >

    KSG takes the density to be uniform in the upright box V_i around the k neighbours. Near a curve it is uniform
    in a thin slanted one: V̄_i is the box along their principal axes. The correction applies where V̄_i / V_i is smaller
    than it would be by chance (1 in 200) for points uniform in the upright box: α, simulated for each k and dimension.
    The more neighbours the surer the axes: k above dx + dy is needed, 10 is usual.

    Raises ValueError: unpaired lengths, NaN, wrong rank, n <= k, k <= dx + dy.
    Source: Gao, Ver Steeg & Galstyan 2015, arXiv:1411.2003, eq. 10 and Algorithm 1.
    """
    from scipy.spatial import cKDTree

    started = time.perf_counter()
    a, b, warnings = prepare(x, y, standardized=standardized, duplicates="drop", dequantized=True, seed=0)
    check_k(k, a.n)
    dims = a.d + b.d
    if k <= dims:
        raise ValueError(f"k={k} neighbours span no box in {dims} dimensions: pass k > {dims}")
    base = ksg_pointwise(a.values, b.values, k, variant=2).mean()
    joint = np.concatenate([a.values, b.values], 1)
    nearest = cKDTree(joint).query(joint, k + 1, p=np.inf)[1]
    # With ties the point itself need not come first: leave it out wherever it is, else the farthest.
    own = nearest == np.arange(a.n)[:, None]
    own[~own.any(1), -1] = True
    offsets = joint[nearest[~own].reshape(a.n, k)] - joint[:, None, :]
    shrink = _log_box_ratio(offsets, a.d)
    alpha = _log_alpha(k, a.d, b.d)
    corrections = np.where(shrink < alpha, shrink, 0.0)
    value = float(base - corrections.mean())
    warnings += reach_warnings(a, b, value, np.inf)
    return Estimate(
        value=value,
        n=a.n,
        dims=(a.d, b.d),
        estimator="LNC",
        settings={"k": k, "corrected": f"{(corrections < 0).mean():.0%}"},
        seconds=time.perf_counter() - started,
        warnings=warnings,
    )


def _log_box_ratio(offsets: np.ndarray, split: int) -> np.ndarray:
    """offsets [m, k, d] of neighbours -> log V̄ / V [m]: box along principal axes over upright box of KSG 2."""
    extents = np.abs(offsets)
    side_x, side_y = extents[:, :, :split].max((1, 2)), extents[:, :, split:].max((1, 2))
    tiny = np.finfo(np.float64).tiny
    upright = split * np.log(np.maximum(side_x, tiny)) + (offsets.shape[2] - split) * np.log(np.maximum(side_y, tiny))
    _, axes = np.linalg.eigh(np.einsum("mki,mkj->mij", offsets, offsets))
    slanted = np.log(np.maximum(np.abs(offsets @ axes).max(1), tiny)).sum(1)
    return slanted - upright


@functools.cache
def _log_alpha(k: int, dx: int, dy: int) -> float:
    """The 1-in-200 quantile of log V̄ / V for k points uniform in an upright box."""
    points = np.random.default_rng(0).uniform(-1, 1, (20_000, k, dx + dy))
    return float(np.quantile(_log_box_ratio(points, dx), 0.005))


def sliced_mi(x, y, slices: int = 100, k: int = 3, *, seed: int = 0) -> Estimate:
    """Sliced mutual information: the average of I(θ·x; φ·y) over random directions θ, φ, in nats.

    A different quantity from I(x; y), never above it: 0 exactly at independence and readable in any dimension, for
    every slice is one number a side; but it shrinks as dimensions grow (d-dimensional Gaussians share about 1/d of a
    pair's). Compare it with itself, not with I. `se` is over slices, of the same rows.

    Raises ValueError: unpaired lengths, NaN, wrong rank, n <= k, fewer than 2 slices.
    Source: Goldfeld & Greenewald 2021, arXiv:2110.05279, definition 1.
    """
    started = time.perf_counter()
    if slices < 2:
        raise ValueError(f"slices must be at least 2, got {slices}")
    a, b, warnings = prepare(x, y, standardized=True, duplicates="drop", dequantized=True, seed=seed)
    check_k(k, a.n)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(slices):
        theta, phi = (rng.standard_normal((variable.d, 1)) for variable in (a, b))
        values.append(ksg_pointwise(_unit(a.values @ theta), _unit(b.values @ phi), k).mean())
    if a.n < FEW_ROWS:
        warnings += (_few_rows(a.n),)
    return Estimate(
        value=float(np.mean(values)),
        kind="lower bound",
        se=float(np.std(values, ddof=1) / np.sqrt(slices)),
        n=a.n,
        dims=(a.d, b.d),
        estimator="sliced MI",
        settings={"slices": slices, "k": k, "seed": seed},
        seconds=time.perf_counter() - started,
        warnings=warnings,
    )


def _unit(values: np.ndarray) -> np.ndarray:
    deviation = values.std()
    return values / deviation if deviation > 0 else values


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
    a, b, warnings = _see_to_repeats(a, b, drop=duplicates == "drop")
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
        if distinct_rows < FEW_TIES * n and variable.stored not in LOW_PRECISION:
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
    if distinct < FEW_TIES * variable.n:
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
