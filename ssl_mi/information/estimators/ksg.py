"""k-nearest-neighbour estimators: mutual information and entropy of continuous samples, without a model.

KSG (Kraskov, Stögbauer & Grassberger 2004, cond-mat/0305641). Let ε_i be the distance from (x_i, y_i) to its k-th
neighbour in the max norm of the joint space. How many points lie as near in each marginal determines the density ratio:

    variant 1 (eq. 8):  I = ψ(k) + ψ(n) - < ψ(n_x + 1) + ψ(n_y + 1) >,   n_x = #{j ≠ i: |x_j - x_i| < ε_i}
    variant 2 (eq. 9):  I = ψ(k) - 1/k + ψ(n) - < ψ(n_x) + ψ(n_y) >,     n_x = #{j ≠ i: |x_j - x_i| <= ε_x,i}

where ε_x,i, ε_y,i are the sides of the rectangle that holds the k neighbours. "<" in variant 1 and "<=" in variant 2
are part of the formulas: the other way round is a bias.

They are excellent up to about 4 dimensions a side and underestimate beyond: at n = 10,000 and rho = .6 in every
dimension, 8 + 8 dimensions give 1.12 of 1.79 nats. Estimate from high-dimensional samples through `projections`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information import neighbours
from ssl_mi.information.core.caution import Caution, distinct
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import check_paired, is_tensor, read, read_labels, read_pair, standardize
from ssl_mi.information.core.knn_inputs import (
    check_k,
    dims_cautions,
    few_rows,
    growth_caution,
    marginal_cautions,
    prepare,
    reach_cautions,
)
from ssl_mi.information.core.settings import check_seed, whole_number

if TYPE_CHECKING:
    import torch

    from ssl_mi.information.inference.dependence import Rows


def ksg(
    x: ArrayLike,
    y: ArrayLike,
    k: int = 3,
    variant: Literal[1, 2] = 1,
    *,
    standardized: bool = True,
    duplicates: Literal["drop", "keep"] = "drop",
    dequantized: bool = True,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Estimate:
    """Mutual information I(x; y) by nearest neighbours, in nats. Exact in float64, ties included.

    Args:
        x: [n] or [n, dx], torch or numpy, any dtype or device.
        y: [n] or [n, dy], likewise.
        k: neighbours; more means less variance and more bias.
        variant: 1 or 2, see the module's description.
        standardized: bring every column to variance 1 first, so that units do not matter.
        duplicates: "drop" removes exact repeats of whole rows of otherwise continuous data (padding of the last batch,
            sampling with replacement), with a caution: a repeated row is its own neighbour. "keep" does not.
        dequantized: spread float16 and bfloat16 values uniformly over their rounding cells, with a caution; their ties
            would look like information.
        seed: of that spread.
        device: where neighbours are counted, with the same result. None is the GPU of a CUDA tensor, and compiled trees
            on the CPU for all else; a device of torch ("cuda", "cpu") is brute force there.

    Raises:
        ValueError: unpaired lengths, NaN or infinity, wrong rank, n <= k, a device without float64.

    References:
        Kraskov, Stögbauer & Grassberger 2004, cond-mat/0305641, eqs. 8 and 9.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal(2000)
        >>> estimate = ksg(x, x + rng.standard_normal(2000))  # I = log(2) / 2 = 0.347 nats
        >>> bool(abs(estimate.value - np.log(2) / 2) < 0.05)
        True
    """
    started = time.perf_counter()
    _check_variant(variant)
    check_seed(seed)
    if device is not None or is_tensor(x) or is_tensor(y):
        device = neighbours.torch_tiles.chosen_device(device, x, y)
    a, b, cautions = prepare(x, y, standardized=standardized, duplicates=duplicates, dequantized=dequantized, seed=seed)
    k = check_k(k, a.n)

    def of(rows: slice | np.ndarray) -> float:
        return float(ksg_pointwise(a.values[rows], b.values[rows], k, variant, device).mean())

    # A constant shares nothing, though all its rows are at distance 0.
    constant = not (np.ptp(a.values, axis=0).any() and np.ptp(b.values, axis=0).any())
    value, ceiling = 0.0 if constant else of(slice(None)), float(_psi(a.n) - _psi(k))
    settings: dict[str, Any] = {"k": k}
    if not standardized:
        settings["standardized"] = False
    if device is not None:
        settings["device"] = str(device)
    return Estimate(
        value=value,
        ceiling=ceiling,
        n=a.n,
        dims=(a.d, b.d),
        estimator=f"KSG{variant}",
        settings=settings,
        seconds=time.perf_counter() - started,
        warnings=cautions + reach_cautions(a, b, value, ceiling, of),
    )


def pointwise_mi(
    x: ArrayLike, y: ArrayLike, k: int = 3, variant: Literal[1, 2] = 1, *, standardized: bool = True
) -> np.ndarray:
    """How much each pair contributes, in nats.

    i(x_i; y_i) = log p(x_i, y_i) / (p(x_i) p(y_i)), estimated as ψ(k) + ψ(n) - ψ(n_x + 1) - ψ(n_y + 1). A single entry
    is noisy (its standard deviation is about 1 at k = 3): average over groups of rows, or use a larger k. Repeated rows
    are kept, so that entry i always belongs to row i.

    Args:
        x: [n] or [n, dx].
        y: [n] or [n, dy].
        k: neighbours.
        variant: 1 or 2, see the module's description.
        standardized: bring every column to variance 1 first.

    Returns:
        float64 [n], whose mean is the value of `ksg`.

    Raises:
        ValueError: as `ksg` does.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal(2000)
        >>> y = x + rng.standard_normal(2000)  # I = log(2) / 2 = 0.347 nats
        >>> values = pointwise_mi(x, y)
        >>> values.shape, bool(abs(values.mean() - np.log(2) / 2) < 0.06)
        ((2000,), True)
    """
    _check_variant(variant)
    a, b, _ = prepare(x, y, standardized=standardized, duplicates="keep", dequantized=True, seed=0)
    return ksg_pointwise(a.values, b.values, check_k(k, a.n), variant)


def _check_variant(variant: Any) -> None:
    if isinstance(variant, bool) or variant not in (1, 2):
        raise ValueError(f"variant must be 1 or 2, got {variant!r}")


def ksg_pointwise(
    x: np.ndarray,
    y: np.ndarray,
    k: int,
    variant: int = 1,
    device: torch.device | str | None = None,
    rows: Rows | None = None,
) -> np.ndarray:
    """The bare formula on samples as they are.

    Args:
        x: float64 [n, dx].
        y: float64 [n, dy].
        k: neighbours, below n.
        variant: 1 or 2.
        device: None for compiled trees, a torch device for brute force there.
        rows: which rows depend on each other: they are not counted as neighbours. None, and independent rows, count
            all. Variant 1, on the CPU.

    Returns:
        float64 [n], whose mean is the estimate, in nats.
    """
    n = len(x)
    if rows is not None and rows.lags:
        return _pointwise_apart(x, y, k, rows)
    if device is not None:
        inside_x, inside_y = (found[0] for found in neighbours.torch_tiles.counts_on(device, x, y, k, variant))
    elif variant == 1:
        _, inside_x, inside_y = neighbours.queries.joint_counts(x, y, k)
    else:
        tree = neighbours.queries.Tree(np.concatenate([x, y], 1))
        extents = tree.extents(tree.radii(k), x.shape[1])
        inside_x = neighbours.queries.count_within(x, extents[:, 0], closed=True)
        inside_y = neighbours.queries.count_within(y, extents[:, 1], closed=True)
    if variant == 1:
        # Of rows that tie none is strictly nearer; each side has k - 1 that are as near as the pair.
        inside_x, inside_y = np.maximum(inside_x, k - 1), np.maximum(inside_y, k - 1)
        return _psi(k) + _psi(n) - _psi(inside_x + 1) - _psi(inside_y + 1)
    return _psi(k) - 1 / k + _psi(n) - _psi(inside_x) - _psi(inside_y)


def _pointwise_apart(x: np.ndarray, y: np.ndarray, k: int, rows: Rows) -> np.ndarray:
    """KSG 1 among rows that are independent of row i: ψ(k) + ψ(n_i) - ψ(n_x + 1) - ψ(n_y + 1), n_i - 1 of them."""
    radii = _radii_apart(np.concatenate([x, y], 1), k, rows)
    inside_x, inside_y = (neighbours.queries.count_within(side, radii) for side in (x, y))
    available = np.full(len(x), len(x))
    for lag in range(1, rows.lags + 1):
        i, j = rows.pairs(lag)
        for inside, side in ((inside_x, x), (inside_y, y)):
            distance = np.abs(side[i] - side[j]).max(1)
            inside[i] -= distance < radii[i]  # each row is in i once, and in j once
            inside[j] -= distance < radii[j]
        available[i] -= 1
        available[j] -= 1
    return _psi(k) + _psi(available) - _psi(inside_x + 1) - _psi(inside_y + 1)


def _radii_apart(points: np.ndarray, k: int, rows: Rows) -> np.ndarray:
    """The distance of each row of points [n, d] to its k-th neighbour among the rows independent of it."""
    from scipy.spatial import cKDTree

    tree, radii = cKDTree(points), np.empty(len(points))
    todo, asked = np.arange(len(points)), k + 1 + min(rows.lags, 16)
    while len(todo):
        distance, near = map(np.asarray, tree.query(points[todo], min(asked, len(points)), p=np.inf))
        found = np.cumsum(~rows.together(todo[:, None], near), 1) >= k
        enough = found[:, -1]
        if asked >= len(points) and not enough.all():
            raise ValueError(f"k={k} neighbours: a row has fewer rows that are independent of it; pass a smaller k")
        radii[todo[enough]] = distance[enough, found[enough].argmax(1)]
        todo, asked = todo[~enough], 2 * asked
    return radii


def null_values(
    x: np.ndarray,
    y: np.ndarray,
    k: int,
    partners: np.ndarray,
    device: torch.device | str | None = None,
    rows: Rows | None = None,
) -> np.ndarray:
    """KSG 1 of x with y[partners[b]], for each b: what x and y give when they share nothing.

    The same numbers as `ksg_pointwise(x, y[partners[b]], k).mean()`, faster: neighbours within x and within y do not
    depend on the pairing.

    Args:
        x: float64 [n, dx].
        y: float64 [n, dy].
        k: neighbours, below n.
        partners: int64 [B, n], each row a permutation of 0..n-1.
        device: None for compiled trees, a torch device for brute force there.
        rows: which rows depend on each other; see `ksg_pointwise`.

    Returns:
        float64 [B], nats.

    Raises:
        ValueError: rows of `partners` that are no permutations.
    """
    n = len(x)
    partners = np.asarray(partners)
    if partners.ndim != 2 or partners.shape[1] != n or partners.dtype.kind not in "iu":
        raise ValueError(f"partners must be whole numbers [B, n={n}], got {partners.dtype} {list(partners.shape)}")
    wrong = np.flatnonzero((np.sort(partners, 1) != np.arange(n)).any(1))
    if len(wrong):
        raise ValueError(f"partners[{wrong[0]}] is no permutation of 0..{n - 1}: every row of y needs one place")
    partners = partners.astype(np.int64, copy=False)
    if rows is not None and rows.lags:
        return np.array([_pointwise_apart(x, y[moved], k, rows).mean() for moved in partners])
    counted: Iterable[tuple[np.ndarray, np.ndarray]]
    if device is not None:
        counted = zip(*neighbours.torch_tiles.counts_on(device, x, y, k, partners=partners), strict=True)
    else:
        counted = neighbours.queries.permuted_counts(x, y, k, partners)
    psi = _psi(np.maximum(np.arange(1, n + 1), k))  # of inside + 1, as in `ksg_pointwise`
    return np.array([(_psi(k) + _psi(n) - psi[inside_x] - psi[inside_y]).mean() for inside_x, inside_y in counted])


def differential_entropy(x: ArrayLike, k: int = 3, *, standardized: bool = True) -> Estimate:
    """Differential entropy of continuous x, in nats, by Kozachenko & Leonenko with the max norm.

        H = ψ(n) - ψ(k) + d < log 2 ε_i >

    ε_i is the distance to the k-th neighbour, (2 ε)^d the volume of its cube. Unlike the entropy of symbols
    (`discrete_entropy`) it may be negative, and depends on the units of x.

    Args:
        x: [n] or [n, d].
        k: neighbours.
        standardized: measure distances in standard deviations and add back Σ log sd: the result is in the units of x
            either way.

    Raises:
        ValueError: n <= k, NaN, rows repeated more than k times (the entropy of a distribution with atoms is -∞) and
            constant columns (likewise).

    References:
        Kozachenko & Leonenko 1987; Kraskov et al. 2004, cond-mat/0305641, eq. 20.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).standard_normal(2000)  # H = log(2 pi e) / 2 = 1.419 nats
        >>> bool(abs(differential_entropy(x).value - np.log(2 * np.pi * np.e) / 2) < 0.1)
        True
    """
    started = time.perf_counter()
    variable = read(x, "x")
    check_k(k, variable.n)
    scaled, scales, constant = standardize(variable)
    if constant:
        raise ValueError(f"{constant[0]}: the differential entropy is -inf; drop them")
    log_scale = float(np.log(scales).sum()) if standardized else 0.0
    points = scaled.values if standardized else variable.values
    radii = neighbours.queries.nearest(points, k)[:, k - 1]
    if (radii == 0).any():
        raise ValueError(
            f"x has {int((radii == 0).sum())} rows repeated more than k={k} times: its distribution has "
            f"atoms and its differential entropy is -inf; use discrete_entropy, or drop the repeats"
        )
    value = float(_psi(variable.n) - _psi(k) + variable.d * np.log(2 * radii).mean() + log_scale)
    return Estimate(
        value=value,
        n=variable.n,
        dims=(variable.d,),
        estimator="Kozachenko-Leonenko entropy",
        settings={"k": k},
        seconds=time.perf_counter() - started,
        warnings=(*dims_cautions(variable), *few_rows(variable.n)),
    )


def mixed_ksg_ross(x: ArrayLike, labels: ArrayLike, k: int = 3, *, standardized: bool = True) -> Estimate:
    """Mutual information between continuous x and discrete labels, in nats.

        I = ψ(n) - < ψ(n_label) > + ψ(k) - < ψ(m) >

    d_i is the distance to the k-th neighbour *of the same label*, m_i the number of points of any label within it, that
    neighbour included. Labels seen once say nothing about density and are left out, with a caution; labels with at most
    k rows use all the neighbours they have.

    Args:
        x: [n] or [n, d].
        labels: [n] integers, booleans, strings or whole floats.
        k: neighbours.
        standardized: bring every column of x to variance 1 first.

    Raises:
        ValueError: unpaired lengths, NaN, fractional labels, fewer than two rows left.

    References:
        Ross 2014, PLoS ONE 9(2): e87357, eq. 6.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(2, size=2000)
        >>> x = 20 * labels + rng.standard_normal(2000)  # two separate clusters: I = H(label) = log(2)
        >>> bool(abs(mixed_ksg_ross(x, labels).value - np.log(2)) < 0.06)
        True
    """
    started = time.perf_counter()
    variable = read(x, "x")
    codes, m = read_labels(labels)
    if len(codes) != variable.n:
        raise ValueError(f"x has {variable.n} rows and labels has {len(codes)}: pass equal lengths")
    k = whole_number("k", k, 1, "neighbours")
    sizes = np.bincount(codes, minlength=m)
    single = sizes[codes] == 1
    cautions = _about_labels(int(single.sum()), int(((sizes > 1) & (sizes <= k)).sum()), k)
    variable, codes = variable._replace(values=variable.values[~single]), codes[~single]
    if variable.n < 2:
        raise ValueError(f"labels has {m} different values in {len(single)} rows: every label occurs once; use ksg")
    if standardized:
        variable, _, constant = standardize(variable)
        cautions += constant
    return Estimate(
        value=float(ross_pointwise(variable.values, codes, k).mean()),
        n=variable.n,
        dims=(variable.d, 1),
        estimator="Ross mixed KSG",
        settings={"k": k},
        seconds=time.perf_counter() - started,
        warnings=cautions + marginal_cautions(variable),
    )


def ross_pointwise(values: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    """Ross's formula on samples as they are.

    Args:
        values: float64 [n, d].
        codes: int64 [n], from 0; each that occurs must occur twice.
        k: neighbours; labels of at most k rows use all that they have.

    Returns:
        float64 [n], whose mean is the estimate, in nats.
    """
    radii, used = _same_label_radii(values, codes, k)
    # Of the points of any label: those strictly nearer, and the k-th neighbour itself.
    within = neighbours.queries.count_within(values, radii) + 1
    return _psi(len(values)) - _psi(np.bincount(codes)[codes]) + _psi(used) - _psi(within)


def _same_label_radii(values: np.ndarray, codes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each row to its k-th neighbour of the same label, and how many neighbours that are: k or fewer."""
    radii, used = np.empty(len(values)), np.empty(len(values))
    for label in np.unique(codes):
        rows = np.flatnonzero(codes == label)
        reach = min(k, len(rows) - 1)
        radii[rows] = neighbours.queries.nearest(values[rows], reach)[:, reach - 1]
        used[rows] = reach
    return radii, used


def _about_labels(single: int, small: int, k: int) -> tuple[Caution, ...]:
    cautions: tuple[Caution, ...] = ()
    if single:
        text = f"{single} labels occur once and were left out of the estimate"
        cautions += (Caution("single-labels", text, {"labels": single}),)
    if small:
        text = f"{small} labels have at most k={k} rows: their neighbours are all the rows they have"
        cautions += (Caution("small-labels", text, {"labels": small, "k": k}),)
    return cautions


def mixed_ksg_gao(x: ArrayLike, y: ArrayLike, k: int = 3, *, standardized: bool = True) -> Estimate:
    """Mutual information when either variable may be continuous, discrete, or a mixture of both, in nats.

        I = < ψ(k_i) + log n - ψ(n_x,i) - ψ(n_y,i) >

    ρ_i is the distance to the k-th neighbour. Where ρ_i > 0, k_i = k and n_x, n_y count the points strictly nearer, the
    point itself included: KSG 1. Where ρ_i = 0 (an atom), k_i, n_x, n_y count the points at distance 0, itself
    included: the plug-in estimate with ψ in place of log.

    Args:
        x: [n] or [n, dx].
        y: [n] or [n, dy].
        k: neighbours.
        standardized: bring every column to variance 1 first.

    Raises:
        ValueError: unpaired lengths, NaN, wrong rank, n <= k.

    References:
        Gao, Kannan, Oh & Viswanath 2017, arXiv:1709.06212, Algorithm 1.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal(2000)
        >>> y = x + rng.standard_normal(2000)  # I = log(2) / 2 = 0.347 nats
        >>> bool(abs(mixed_ksg_gao(x, y).value - np.log(2) / 2) < 0.06)
        True
    """
    started = time.perf_counter()
    first, second = read_pair(x, y)
    check_k(k, first.n)
    cautions: tuple[Caution, ...] = ()
    if standardized:
        first, _, constant_x = standardize(first)
        second, _, constant_y = standardize(second)
        cautions += constant_x + constant_y
    pointwise, atom = _gao_pointwise(first.values, second.values, k)
    if not atom.all():
        cautions += (*dims_cautions(first), *dims_cautions(second))
    value, ceiling = float(pointwise.mean()), float(_psi(first.n) - _psi(k))
    growth = growth_caution(
        value,
        ceiling,
        first.n,
        lambda rows: float(_gao_pointwise(first.values[rows], second.values[rows], k)[0].mean()),
    )
    return Estimate(
        value=value,
        n=first.n,
        dims=(first.d, second.d),
        estimator="Gao mixed KSG",
        settings={"k": k},
        seconds=time.perf_counter() - started,
        warnings=(*cautions, *few_rows(first.n), *growth),
    )


def _gao_pointwise(x: np.ndarray, y: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The bare formula on samples as they are: nats [n], and which rows are atoms [n]."""
    n = len(x)
    joint = np.concatenate([x, y], 1)
    radii = neighbours.queries.nearest(joint, k)[:, k - 1]
    atom = radii == 0
    n_x = neighbours.queries.count_within(x, radii) + 1
    n_y = neighbours.queries.count_within(y, radii) + 1
    used = np.full(n, k)
    if atom.any():
        nothing = np.zeros(n)
        used[atom] = neighbours.queries.count_within(joint, nothing, closed=True)[atom] + 1
        n_x[atom] = neighbours.queries.count_within(x, nothing, closed=True)[atom] + 1
        n_y[atom] = neighbours.queries.count_within(y, nothing, closed=True)[atom] + 1
    return _psi(used) + np.log(n) - _psi(n_x) - _psi(n_y), atom


def conditional_ksg(x: ArrayLike, y: ArrayLike, given: ArrayLike, k: int = 3, *, standardized: bool = True) -> Estimate:
    """Conditional mutual information I(x; y | z) by nearest neighbours, in nats.

        I = ψ(k) - < ψ(n_xz + 1) + ψ(n_yz + 1) - ψ(n_z + 1) >

    counts strictly inside the distance to the k-th neighbour in the joint space of x, y and z (max norm).

    Args:
        x: [n] or [n, dx].
        y: [n] or [n, dy].
        given: z, [n] or [n, dz].
        k: neighbours.
        standardized: bring every column to variance 1 first.

    Raises:
        ValueError: unpaired lengths, NaN, wrong rank, n <= k.

    References:
        Frenzel & Pompe 2007, Phys. Rev. Lett. 99, 204101, eq. 6.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.standard_normal(2000)
        >>> x = z + rng.standard_normal(2000)
        >>> y = z + rng.standard_normal(2000)  # dependent through z only: I(x; y | z) = 0
        >>> bool(abs(conditional_ksg(x, y, given=z).value - 0.0) < 0.06)
        True
    """
    started = time.perf_counter()
    variables = [read(x, "x"), read(y, "y"), read(given, "given")]
    check_paired(*variables)
    n = variables[0].n
    check_k(k, n)
    cautions: tuple[Caution, ...] = ()
    if standardized:
        scaled = [standardize(variable) for variable in variables]
        variables = [variable for variable, _, _ in scaled]
        cautions += tuple(caution for _, _, constant in scaled for caution in constant)
    a, b, c = (variable.values for variable in variables)
    radii = np.ascontiguousarray(neighbours.queries.nearest(np.concatenate([a, b, c], 1), k)[:, k - 1])
    inside_xz, inside_yz, inside_z = (
        neighbours.queries.count_within(np.concatenate(parts, 1), radii) for parts in ((a, c), (b, c), (c,))
    )
    pointwise = _psi(k) - _psi(inside_xz + 1) - _psi(inside_yz + 1) + _psi(inside_z + 1)
    for variable in variables:
        cautions += marginal_cautions(variable)
    return Estimate(
        value=float(pointwise.mean()),
        n=n,
        dims=tuple(variable.d for variable in variables),
        estimator="conditional KSG",
        settings={"k": k},
        seconds=time.perf_counter() - started,
        warnings=distinct(cautions),
    )


def _psi(count: Any) -> Any:
    """The digamma function."""
    from scipy.special import digamma

    return digamma(count)
