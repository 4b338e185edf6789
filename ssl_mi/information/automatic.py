"""The default estimator: looks at the samples, chooses how to read them, and says what it chose.

Symbols on both sides are counted (`discrete`), symbols on one side go to Ross's estimator
(`knn.mixed_ksg_ross`), everything else is read as continuous:

1. Each coordinate goes through its ranks to the standard normal, ties broken at random. Neither loses
   information, and long tails, units, rounding and atoms are gone.
2. The rows are cut in two halves. Projections are fitted on one half and read on the other, both ways round:
   none (up to 4 dimensions a side), canonical correlation analysis to 1..4 dimensions, networks to 1..4.
3. Every candidate is read by KSG. Its bias, which grows with dimension and dependence, is measured on Gaussian
   twins (same n, same covariance, mutual information known) and taken off.
4. Each half is read through the candidate that read most on the *other* half. The largest of several noisy
   readings would be too large; a choice made elsewhere leaves the reading fair.

By data processing each candidate bounds I(x; y) from below, up to the bias left in step 3.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from ssl_mi.information import discrete
from ssl_mi.information.estimate import Estimate
from ssl_mi.information.gaussian import rank_gaussianize
from ssl_mi.information.knn import MAX_DIMS, ksg_pointwise, mixed_ksg_ross, prepare
from ssl_mi.information.projections import CCA
from ssl_mi.information.samples import check_paired, n_distinct, read, read_labels, row_hash, standardize
from ssl_mi.information.trust import assess, derangement

TWINS = 4
FEWEST_ROWS = 40
LEARNING_ROWS = 500  # of a half; networks learn nothing from fewer
NULL_ROWS = 1500  # of a half; enough to tell dependence from none, and cheap enough to permute often
PARTS = 5  # of a half, for the standard error


def mutual_information(
    x,
    y,
    *,
    k: int = 3,
    learned: bool = True,
    level: float = 0.95,
    permutations: int = 99,
    seed: int = 0,
) -> Estimate:
    """I(x; y) in nats, with an interval, a p-value, warnings, and what was chosen and why in `settings`.

    x: [n, dx] (or [n]), y: [n, dy]: torch or numpy, any dtype or device. A side of few distinct values (integers,
    booleans, strings, or one column of few numbers) is taken for symbols.
    k: neighbours. learned=False leaves the networks out: ten times faster, and blind beyond 4 dimensions to
    dependence that no linear projection shows. permutations=0 leaves out the null.

    Raises ValueError: unpaired lengths, NaN or infinity, wrong rank, fewer than 40 rows.
    """
    started = time.perf_counter()
    codes_x, codes_y = symbols(x, "x"), symbols(y, "y")
    trust = partial(_trusted, level=level, permutations=permutations, seed=seed)
    if codes_x is not None and codes_y is not None:
        answer = trust(partial(discrete.mutual_information, correction="grassberger"), codes_x, codes_y)
    elif codes_x is not None:
        answer = _one_side_symbols(y, codes_x, k, trust, seed, ("y", "x"))
        answer = replace(answer, dims=answer.dims[::-1])
    elif codes_y is not None:
        answer = _one_side_symbols(x, codes_y, k, trust, seed, ("x", "y"))
    else:
        answer = _continuous(x, y, k, learned, level, permutations, seed)
    return replace(answer, seconds=time.perf_counter() - started)


def symbols(x, name: str = "x") -> np.ndarray | None:
    """Codes int64 [n] when x looks like symbols, else None.

    Strings always do. Whole numbers do when each row is seen 20 times on average, one column of other numbers
    when it has at most √n / 2 distinct values: continuous samples have n.
    """
    raw = x.detach().cpu() if isinstance(x, torch.Tensor) else np.asarray(x)
    kind = "f" if isinstance(x, torch.Tensor) and x.is_floating_point() else np.asarray(raw).dtype.kind
    if kind in "USO":
        return read_labels(raw, name)[0]
    variable = read(x, name)
    hashes = row_hash(variable.values)
    allowed = variable.n / 20 if kind in "iub" else np.sqrt(variable.n) / 2 if variable.d == 1 else 0
    if n_distinct(hashes) > allowed:
        return None
    return np.unique(hashes, return_inverse=True)[1].astype(np.int64)


def _trusted(estimator, x, y, level, permutations, seed) -> Estimate:
    subsets = 10 if len(x) >= 200 else 0  # parts of fewer than 20 rows say nothing
    return assess(estimator, x, y, level=level, permutations=permutations, subsets=subsets, seed=seed)


# --- continuous on both sides ---------------------------------------------------------------------------------


@dataclass
class Reading:
    """One candidate on one half: what KSG said, the bias of its twins, what a Gaussian tail adds, and the rows."""

    pointwise: np.ndarray
    bias: float
    bias_variance: float  # for there are only a few twins
    tail: float
    u: np.ndarray
    v: np.ndarray

    @property
    def value(self) -> float:
        return float(self.pointwise.mean()) - self.bias + self.tail


def _continuous(x, y, k, learned, level, permutations, seed) -> Estimate:
    from scipy.stats import t as student

    a, b, warnings = prepare(x, y, standardized=False, duplicates="drop", dequantized=False, seed=seed)
    warnings = tuple(w for w in warnings if "ties" not in w)  # the ranks see to them
    warnings += standardize(a)[2] + standardize(b)[2]  # for what they say of constant columns
    if a.n < FEWEST_ROWS:
        raise ValueError(f"x and y have n={a.n} rows: fitting on half and reading half needs {FEWEST_ROWS}; use ksg")
    rng = np.random.default_rng(seed)
    n = a.n
    order = rng.permutation(n)
    halves = order[: n // 2], order[n // 2 :]
    x, y = rank_gaussianize(a, rng=rng), rank_gaussianize(b, rng=rng)
    networks = learned and n // 2 >= LEARNING_ROWS and max(a.d, b.d) > 1
    readings = _read_candidates(x, y, halves, k, networks, seed)

    best = [max(readings, key=lambda name: readings[name][half].value) for half in (0, 1)]
    chosen = best[1], best[0]  # each half is read as the other half prefers
    parts = [readings[chosen[half]][half] for half in (0, 1)]
    if chosen == ("direct", "direct"):
        whole = _read_one(x, y, k, seed)
        value, bias, bias_variance = whole.value, whole.bias, whole.bias_variance
    else:
        value, bias = (parts[0].value + parts[1].value) / 2, (parts[0].bias + parts[1].bias) / 2
        bias_variance = (parts[0].bias_variance + parts[1].bias_variance) / 4
    se = float(np.sqrt(_standard_error(parts, k, rng) ** 2 + bias_variance))
    half_width = float(student.ppf((1 + level) / 2, 2 * (PARTS - 1))) * se + abs(bias) / 4
    null, p_value = _null(parts, k, permutations, rng) if permutations else (None, None)

    kept = sorted(set(chosen))
    warnings += _warnings(readings, parts, chosen, value, bias, se, k, seed, n, (a.d, b.d), networks)
    return Estimate(
        value=value,
        kind="point estimate" if kept == ["direct"] else "lower bound",
        se=se,
        ci=(value - half_width, value + half_width),
        ci_level=level,
        p_value=p_value,
        null=null,
        n=n,
        dims=(a.d, b.d),
        projection=None if kept == ["direct"] else " and ".join(kept) + ", cross-fitted",
        estimator="mutual_information",
        settings={"k": k, "seed": seed, "chosen": _why(readings, kept)},
        warnings=warnings,
    )


def _read_candidates(x, y, halves, k, networks, seed) -> dict[str, list[Reading]]:
    """{candidate: [read on the first half, read on the second]}, projections always fitted on the other half."""
    found = {}
    if max(x.shape[1], y.shape[1]) <= MAX_DIMS:
        found["direct"] = [_read_one(x[rows], y[rows], k, seed + i) for i, rows in enumerate(halves)]
    dims = min(x.shape[1], y.shape[1])
    if max(x.shape[1], y.shape[1]) > 1:
        fits = [CCA(dims).fit(x[rows], y[rows], seed) for rows in halves[::-1]]
        found |= _read_family("CCA", fits, x, y, halves, k, seed)
    if networks:
        from ssl_mi.information.learned import Learned

        # Beyond the dimension of a side, further numbers are functions of the ones before.
        fits = Learned(min(MAX_DIMS, dims)).fit_each([(x[rows], y[rows]) for rows in halves[::-1]], seed)
        found |= _read_family("learned", fits, x, y, halves, k, seed)
    return found


def _read_family(name, fits, x, y, halves, k, seed) -> dict[str, list[Reading]]:
    """A projection read in 1, 2, .. 4 of its dimensions, and its Gaussian tail beyond them."""
    found: dict[str, list[Reading]] = {}
    for half, (fit, rows) in enumerate(zip(fits, halves, strict=True)):
        u, v = (rank_gaussianize(side) for side in fit(x[rows], y[rows]))
        reach = min(MAX_DIMS, u.shape[1], v.shape[1])
        bias, before = 0.0, 0.0
        for r in range(1, reach + 1):
            reading = _read_one(u[:, :r], v[:, :r], k, seed + half)
            # A dimension that repeats the others adds none of the bias that its twin, an independent one, has.
            new = 1 - (redundancy(u[:, :r]) + redundancy(v[:, :r])) / 2
            bias, before = bias + new * (reading.bias - before), reading.bias
            reading.bias = bias
            found.setdefault(f"{name}({r})", []).append(reading)
        tail = _gaussian_tail(u, v, reach, reading.value)
        if tail is not None:
            found.setdefault(f"{name}({reach}) + Gaussian({u.shape[1]})", []).append(replace(reading, tail=tail))
    return {candidate: both for candidate, both in found.items() if len(both) == 2}


def _read_one(u, v, k, seed) -> Reading:
    u, v = np.ascontiguousarray(u), np.ascontiguousarray(v)
    return Reading(ksg_pointwise(u, v, k), *_twin_bias(u, v, k, seed), 0.0, u, v)


def _twin_bias(u: np.ndarray, v: np.ndarray, k: int, seed: int) -> tuple[float, float]:
    """What KSG reads too much on Gaussians with the covariance of (u, v), E KSG - I, and the variance of that.

    KSG and the exact log density ratio are averaged over the same rows, so most of the sampling noise cancels.
    """
    n, dx = u.shape
    scale, axes = np.linalg.eigh(np.cov(np.concatenate([u, v], 1).T))
    root = axes * np.sqrt(np.maximum(scale, 1e-9))
    covariance = root @ root.T
    apart = covariance.copy()
    apart[:dx, dx:] = apart[dx:, :dx] = 0.0
    difference = np.linalg.inv(covariance) - np.linalg.inv(apart)
    constant = (np.linalg.slogdet(apart)[1] - np.linalg.slogdet(covariance)[1]) / 2
    rng = np.random.default_rng(seed)
    differences = []
    for _ in range(TWINS):
        z = rng.standard_normal((n, len(root))) @ root.T
        log_ratio = constant - ((z @ difference) * z).sum(1) / 2
        w = rank_gaussianize(z)  # as the samples themselves were
        twin = ksg_pointwise(np.ascontiguousarray(w[:, :dx]), np.ascontiguousarray(w[:, dx:]), k)
        differences.append(twin.mean() - log_ratio.mean())
    return float(np.mean(differences)), float(np.var(differences, ddof=1) / TWINS)


def redundancy(u: np.ndarray) -> float:
    """How far the last column of u: [n, r] is a smooth function of the others: R² of a cubic fit, 0 to 1."""
    n, r = u.shape
    if r == 1:
        return 0.0
    monomials = [
        np.prod(u[:, chosen], axis=1)
        for degree in (1, 2, 3)
        for chosen in itertools.combinations_with_replacement(range(r - 1), degree)
    ]
    design = np.stack([np.ones(n), *monomials], 1)
    last = u[:, -1]
    left = last - design @ np.linalg.lstsq(design, last, rcond=None)[0]
    return float(1 - left.var() / last.var())


def _gaussian_tail(u: np.ndarray, v: np.ndarray, reach: int, read: float) -> float | None:
    """Nats in the canonical pairs beyond the first `reach`, taken to be Gaussian; None where that is not credible.

    KSG can not follow there. The Gaussian formula is believed for the pairs KSG can not read when it gives what KSG
    does (`read`) for those it can.
    """
    if u.shape[1] <= reach:
        return None
    rho2 = np.array([np.corrcoef(u[:, i], v[:, i])[0, 1] ** 2 for i in range(u.shape[1])])
    nats = -0.5 * np.log1p(-np.minimum(rho2, 1 - 1e-12)) - 1 / (2 * len(u))
    head, tail = nats[:reach].sum(), nats[reach:].sum()
    return float(tail) if tail > 0.02 and abs(head - read) < max(0.05, 0.05 * head) else None


def _standard_error(parts: list[Reading], k: int, rng) -> float:
    """Spread over disjoint parts of each half, through the projections as they are (Holmes & Nemenman 2019)."""
    total = 0.0
    for reading in parts:
        rows = np.array_split(rng.permutation(len(reading.u)), PARTS)
        values = [ksg_pointwise(reading.u[r], reading.v[r], k).mean() for r in rows]
        total += np.var(values, ddof=1) / PARTS
    return float(np.sqrt(total) / 2)


def _null(parts: list[Reading], k: int, permutations: int, rng) -> tuple[float, float]:
    """Mean reading and p-value over derangements of the held-out rows, the projections as they are."""
    some = [(reading.u[:NULL_ROWS], reading.v[:NULL_ROWS]) for reading in parts]

    def statistic(pairs):
        return float(np.mean([ksg_pointwise(u, v, k).mean() for u, v in pairs]))

    observed = statistic(some)
    null = [statistic([(u, v[derangement(len(v), rng)]) for u, v in some]) for _ in range(permutations)]
    return float(np.mean(null)), (1 + sum(value >= observed for value in null)) / (1 + permutations)


def _warnings(readings, parts, chosen, value, bias, se, k, seed, n, dims, networks) -> tuple[str, ...]:
    from scipy.special import digamma

    found = []
    if any(name.startswith("learned") for name in chosen):
        found.append("read through networks fitted on half of the rows: expect some nats to be missed")
    if any("Gaussian" in name for name in chosen):
        found.append("canonical pairs beyond the fourth are taken to be Gaussian, as the first four were found to be")
    if max(dims) > MAX_DIMS and not networks:
        found.append("only linear projections were tried: dependence without correlation is missed")
    if n < 10 * max(dims):
        found.append(f"n = {n} rows are few for {max(dims)} dimensions: projections fitted on half of them miss much")
    if n < 500:
        found.append(f"n = {n} rows are few: below 500 the bias can exceed the standard error")
    if abs(bias) > max(0.05, 0.1 * abs(value)):
        found.append(f"KSG's bias was taken to be {bias:+.3f}, as for Gaussians: the value rests on that")
    if value > 0.6 * (digamma(n // 2) - digamma(k)):
        found.append(f"the dependence is near what {n} rows can show (about {digamma(n // 2) - digamma(k):.1f} nats)")
    if abs(parts[0].value - parts[1].value) > max(0.05, 5 * se):
        found.append(f"the two halves disagree: {parts[0].value:.3f} and {parts[1].value:.3f}")
    more = np.mean([_read_one(part.u, part.v, 4 * k, seed).value + part.tail for part in parts])
    same = np.mean([part.value for part in parts])
    if abs(more - same) > max(0.05, 0.1 * abs(value), 4 * se):
        found.append(f"disagreement over k: {same:.3f} at k={k}, {more:.3f} at k={4 * k}")
    return tuple(found)


def _why(readings, kept) -> str:
    """The best reading of each family, and which was kept."""
    average = {name: float(np.mean([r.value for r in both])) for name, both in readings.items()}
    best: dict[str, str] = {}
    for name in sorted(average, key=average.get):
        best[name.split("(")[0]] = name
    others = [f"{name} {average[name]:.3f}" for name in best.values() if name not in kept]
    return " and ".join(kept) + (f" over {', '.join(others)}" if others else "")


# --- symbols on one side --------------------------------------------------------------------------------------


def _one_side_symbols(x, codes, k, trust, seed, names) -> Estimate:
    """Ross's estimator on x, or on its discriminant projections (CCA with the indicator of each symbol)."""
    variable = read(x, names[0])
    check_paired(variable, read(codes, names[1]))
    rng = np.random.default_rng(seed)
    values = rank_gaussianize(variable, rng=rng)
    if variable.d <= MAX_DIMS:
        return trust(partial(mixed_ksg_ross, k=k), values, codes)
    seen = np.bincount(codes)
    indicator = (codes[:, None] == np.flatnonzero(seen)[1:]).astype(np.float64)
    order = rng.permutation(variable.n)
    halves = order[: variable.n // 2], order[variable.n // 2 :]
    readings: dict[int, list[Estimate]] = {}
    for fit_rows, rows in (halves[::-1], halves):
        u, _ = CCA(MAX_DIMS).fit(values[fit_rows], indicator[fit_rows], seed)(values[rows], indicator[rows])
        for r in range(1, u.shape[1] + 1):
            readings.setdefault(r, []).append(mixed_ksg_ross(rank_gaussianize(u[:, :r]), codes[rows], k))
    readings = {r: both for r, both in readings.items() if len(both) == 2}
    best = [max(readings, key=lambda r: readings[r][half].value) for half in (0, 1)]
    parts = readings[best[1]][0], readings[best[0]][1]
    kept = sorted(set(best))
    return replace(
        parts[0],
        value=(parts[0].value + parts[1].value) / 2,
        kind="lower bound",
        n=variable.n,
        dims=(variable.d, 1),
        projection=" and ".join(f"discriminants({r})" for r in kept) + ", cross-fitted",
        warnings=tuple(dict.fromkeys(parts[0].warnings + parts[1].warnings)),
    )
