"""Symbols: telling them from numbers, and reading them against symbols or numbers, with interval and p-value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import check_paired, n_distinct, read, read_labels, row_hash
from ssl_mi.information.core.knn_inputs import MAX_DIMS
from ssl_mi.information.estimators import discrete
from ssl_mi.information.estimators.gaussian import rank_gaussianize
from ssl_mi.information.estimators.ksg import mixed_ksg_ross
from ssl_mi.information.inference import strata
from ssl_mi.information.inference.uncertainty import (
    SUBSETS,
    assess,
    derangement,
    disagreement,
    no_interval_warning,
    with_interval,
)
from ssl_mi.information.projections.linear import CCA

FEWEST_ROWS = 200  # for a standard error: parts of fewer than 40 rows say nothing


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


def two_symbols(codes_x, codes_y, *, level: float, permutations: int, seed: int) -> Estimate:
    """Both sides counted, Grassberger's correction."""
    counted = partial(discrete.mutual_information, correction="grassberger")
    subsets = SUBSETS if len(codes_x) >= FEWEST_ROWS else 0
    return assess(counted, codes_x, codes_y, level=level, permutations=permutations, subsets=subsets, seed=seed)


def one_symbol(
    x: ArrayLike,
    codes: np.ndarray,
    k: int,
    names: tuple[str, str],
    *,
    level: float,
    permutations: int,
    seed: int,
    labels: ArrayLike | None = None,
) -> Estimate:
    """Ross's estimator on x: [n, d] against codes: [n]; on its discriminants beyond 4 dimensions.

    Labels with too few rows for it are named in a warning, with the nats that they can hide; the interval reaches up
    by as much. labels: what the codes stand for, [n] or [n, d], for that warning.
    """
    variable = read(x, names[0])
    check_paired(variable, read(codes, names[1]))
    rng = np.random.default_rng(seed)
    values = rank_gaussianize(variable, rng=rng)
    ross = partial(mixed_ksg_ross, k=k)
    projects = variable.d > MAX_DIMS
    if (np.bincount(codes) > 1).sum() == 1:  # without the labels that occur once there is only one
        dims = (variable.d, 1)
        estimate = Estimate(0.0, kind="lower bound", n=variable.n, dims=dims, estimator="nothing to estimate")
    elif projects:
        estimate = _discriminants(values, codes, ross, level, permutations, seed, rng, names)
    else:
        subsets = SUBSETS if len(codes) >= FEWEST_ROWS else 0
        estimate = assess(
            ross, values, codes, level=level, permutations=permutations, subsets=subsets, seed=seed, labelled=True
        )
    # Each half, where there are halves, needs k neighbours of the same label.
    return _with_rare_labels(estimate, codes, codes if labels is None else labels, names[1], (1 + projects) * (k + 1))


def _with_rare_labels(
    estimate: Estimate, codes: np.ndarray, labels: ArrayLike, name: str, enough: int, shown: int = 3
) -> Estimate:
    """The estimate with a warning of labels that have fewer than `enough` rows, and the interval extended upwards.

    With R = 1 where the label is rare, I(x; y) <= (1 - P(R)) I(x; y | R = 0) + H(R) + P(R) H(y | R = 1): the last two
    terms are what rare labels can add to what the others show.
    """
    counts = np.bincount(codes)
    rare = np.flatnonzero((counts < enough) & (counts > 0))
    if not len(rare) or len(counts) == 1:
        return estimate
    frequent = np.delete(counts, rare)
    entropy = discrete.entropy_of_counts(counts)
    hidden = entropy - frequent.sum() / len(codes) * (discrete.entropy_of_counts(frequent) if frequent.sum() else 0.0)
    values = np.asarray(labels.detach().cpu() if isinstance(labels, torch.Tensor) else labels)
    first = {code: values[np.argmax(codes == code)] for code in rare[:shown]}
    some = ", ".join(f"{value} ({counts[code]} of {len(codes)})" for code, value in first.items())
    more = f" and {len(rare) - shown} more" if len(rare) > shown else ""
    warnings = (
        *estimate.warnings,
        f"labels of {name} in under {enough} rows, {some}{more}: they can hide up to {hidden:.3f} nats; pass more "
        f"of their rows, or merge them",
    )
    if estimate.ci is None:
        return replace(estimate, warnings=warnings)
    low, high = estimate.ci
    return replace(estimate, ci=(low, max(high, min(high + hidden, entropy))), warnings=warnings)


def _discriminants(
    values: np.ndarray,
    codes: np.ndarray,
    ross: Callable[..., Estimate],
    level: float,
    permutations: int,
    seed: int,
    rng: np.random.Generator,
    names: tuple[str, str],
) -> Estimate:
    """Ross's estimator on CCA of x with the indicator of each symbol, fitted on one half and read on the other."""
    n = len(values)
    indicator = (codes[:, None] == np.flatnonzero(np.bincount(codes))[1:]).astype(np.float64)
    order = rng.permutation(n)
    halves = strata.halves(codes, order)
    if not all(strata.repeats(codes[rows]) for rows in halves):
        raise ValueError(
            f"{names[1]} has {len(np.unique(codes))} labels in {n} rows, none of them 4 times: neither half can be "
            f"read through what the other fitted; merge labels, pass more rows, or {names[0]} in up to 4 columns"
        )
    found: dict[int, list] = {}  # dimensions -> (projected values, codes) of each half
    for rows, fit_rows in zip(halves, halves[::-1], strict=True):
        u, _ = CCA(MAX_DIMS).fit(values[fit_rows], indicator[fit_rows])(values[rows], indicator[rows])
        for r in range(1, u.shape[1] + 1):
            found.setdefault(r, []).append((rank_gaussianize(u[:, :r]), codes[rows]))
    found = {r: both for r, both in found.items() if len(both) == 2}
    best = [max(found, key=lambda r: float(ross(*found[r][half]))) for half in (0, 1)]
    # Each half is read as the other half prefers: the choice is not made by the noise that is read.
    parts = [found[best[1]][0], found[best[0]][1]]
    estimates = [ross(*part) for part in parts]
    estimate = replace(
        estimates[0],
        value=float(np.mean([e.value for e in estimates])),
        kind="lower bound",
        n=n,
        dims=(values.shape[1], 1),
        projection=" and ".join(f"discriminants({r})" for r in sorted(set(best))) + ", cross-fitted",
        warnings=tuple(dict.fromkeys(warning for e in estimates for warning in e.warnings)),
    )
    if n >= FEWEST_ROWS:
        each = [with_interval(ross, u, c, level=level, seed=seed, labelled=True) for u, c in parts]
        if all(half.se is not None for half in each):
            # Independent halves, so variances add; both intervals have the same degrees of freedom.
            se, half_width = (float(np.hypot(*pair)) / 2 for pair in zip(*map(_error_of, each), strict=True))
            ci = (estimate.value - half_width, estimate.value + half_width)
            estimate = replace(estimate, se=se, ci=ci, ci_level=level)
        else:
            estimate = replace(estimate, warnings=(*estimate.warnings, no_interval_warning(SUBSETS)))
    if permutations:
        null = [
            float(np.mean([float(ross(u, c[derangement(len(c), rng)])) for u, c in parts])) for _ in range(permutations)
        ]
        reached = sum(value >= estimate.value for value in null)
        estimate = replace(estimate, null=float(np.mean(null)), p_value=(1 + reached) / (1 + permutations))
    k = estimate.settings["k"]
    more = float(np.mean([float(ross(u, c, k=4 * k)) for u, c in parts]))
    return replace(estimate, warnings=estimate.warnings + disagreement(estimate.value, more, k, estimate.se))


def _error_of(estimate: Estimate) -> tuple[float, float]:
    assert estimate.se is not None
    assert estimate.ci is not None
    return estimate.se, (estimate.ci[1] - estimate.ci[0]) / 2
