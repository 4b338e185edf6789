"""The default estimator where a side is categorical: symbols against symbols, or against numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import Categories, Variable
from ssl_mi.information.core.knn_inputs import MAX_DIMS
from ssl_mi.information.core.linalg import normal_scores
from ssl_mi.information.estimators import discrete
from ssl_mi.information.estimators.auto.classifier import MOST_CLASSES, MOST_DISCRIMINANTS, Classifier
from ssl_mi.information.estimators.ksg import mixed_ksg_ross
from ssl_mi.information.inference import strata
from ssl_mi.information.inference.cross_fitting import Folds
from ssl_mi.information.inference.dependence import Rows
from ssl_mi.information.inference.neighbour_check import FACTOR, with_neighbour_check
from ssl_mi.information.inference.subsampling import SUBSETS, no_interval, with_interval
from ssl_mi.information.inference.uncertainty import around
from ssl_mi.information.projections.linear import CCA

FEWEST_ROWS = 40 * SUBSETS  # for a standard error: an estimate on fewer than 40 rows a part says nothing of the error
SHOWN = 3  # rare labels that are named
CLASSIFIED = 2  # columns beyond which a classifier is tried beside nearest neighbours
FIT_ROWS = 10_000  # of a half, that a classifier is fitted on
GAP = 0.03, 0.05  # nats, and share of the value, that a projection may miss without a caution


def constant_side(side: Variable | Categories) -> tuple[Caution, ...]:
    """A caution where a categorical side is the same in every row."""
    if isinstance(side, Variable) or side.codes.any():
        return ()
    text = f"{side.name} is the same in every row: there is nothing to share"
    return (Caution("constant-side", text, {"side": side.name}),)


Halves = tuple[np.ndarray, np.ndarray]  # rows, int64


class Uncertainty(NamedTuple):
    """How much is asked for beside the value, and what the rows are.

    Args:
        level: of the interval.
        permutations: B of the permutation test; 0 leaves it out.
        seed: of everything that is drawn.
        rows: which of them depend on each other.
    """

    level: float
    permutations: int
    seed: int
    rows: Rows

    @property
    def subsets(self) -> int:
        """Parts for an interval; 0 where they would be too small."""
        return SUBSETS if self.rows.n >= FEWEST_ROWS else 0


def both_categorical(first: Categories, second: Categories, how: Uncertainty) -> Estimate:
    """Both sides counted, with Grassberger's correction."""
    counted = partial(discrete.discrete_mi, correction="grassberger")
    return around(counted, first.codes, second.codes, how.level, how.permutations, how.subsets, how.seed, rows=how.rows)


def mixed(x: Variable, y: Categories, k: int, how: Uncertainty) -> Estimate:
    """Ross's estimator on x: [n, d] against symbols; beyond 4 dimensions on discriminants of x.

    Where a classifier shows more on both halves, each time on rows it was not fitted on, its bound is the estimate.
    Labels with too few rows are named in a caution, with the nats that they can hide; the interval reaches up by
    as much.
    """
    level, permutations, seed, rows = how
    rng = np.random.default_rng(seed)
    values = normal_scores(x.values, rng)
    ross = partial(mixed_ksg_ross, k=k)
    projects = x.d > MAX_DIMS
    counts = np.bincount(y.codes)
    if (counts > 1).sum() == 1 and (projects or len(counts) > 1):  # without the labels that occur once there is one
        estimate = Estimate(0.0, kind="lower bound", n=x.n, dims=(x.d, 1), estimator="nothing to estimate")
    elif projects:
        both = _halves(x.name, y, rng, rows)
        folds = _best_discriminants(values, y, ross, both, rows)
        estimate = _of_discriminants(folds, x.d, ross, level, permutations, seed, rng)
        estimate = _or_classifier(estimate, values, y, [float(ross(*pair)) for pair in folds[1].pairs], both, how)
    else:
        estimate = around(ross, values, y.codes, level, permutations, how.subsets, seed, labelled=True, rows=rows)
        estimate = _doubted(estimate, float(mixed_ksg_ross(values, y.codes, k=FACTOR * k)))
        both = rows.halves(np.random.default_rng(seed))
        if x.d > CLASSIFIED and all(strata.repeats(y.codes[half]) for half in both):
            shown = [float(ross(values[half], y.codes[half])) for half in both]
            estimate = _or_classifier(estimate, values, y, shown, both, how)
    # Each half, where there are halves, needs k neighbours of the same label.
    return _with_rare_labels(estimate, y, enough=(1 + projects) * (k + 1))


def _doubted(estimate: Estimate, at_more_k: float) -> Estimate:
    """The interval widened by half of the change from k to 4 k neighbours: the bias, to that order."""
    if estimate.ci is None:
        return estimate
    doubt = abs(at_more_k - estimate.value) / 2
    return replace(estimate, ci=(estimate.ci[0] - doubt, estimate.ci[1] + doubt))


def _or_classifier(
    estimate: Estimate, values: np.ndarray, y: Categories, shown: list[float], both: Halves, how: Uncertainty
) -> Estimate:
    """The bound of a classifier where it exceeds what each half has `shown` otherwise; else the estimate.

    Both halves must agree, so that neither chooses for itself. p stays that of the estimate, which is another test of
    the same independence.
    """
    classes = int(y.codes.max()) + 1
    if classes > MOST_CLASSES or classes < 2:
        return estimate
    found = [_classified(values, y.codes, half, other) for half, other in zip(both, both[::-1], strict=True)]
    gap = max(0.0, float(np.mean([gap for _, gap in found])))
    if not all(kept.mean() > value for (kept, _), value in zip(found, shown, strict=True)):
        ci = estimate.ci  # discriminants are part of what was fitted
        return estimate if ci is None or estimate.projection is None else replace(estimate, ci=(ci[0], ci[1] + gap))
    from scipy.stats import norm

    pointwise, order = np.concatenate([kept for kept, _ in found]), np.argsort(np.concatenate(both))
    used = how.rows if len(order) == how.rows.n else how.rows.take(np.sort(np.concatenate(both)))
    value, se = float(pointwise.mean()), float(np.sqrt(used.variance_of_mean(pointwise[order])))
    noise = float(norm.ppf((1 + how.level) / 2)) * se
    return replace(
        estimate,
        value=value,
        kind="lower bound",
        se=se,
        ci=(value - noise, value + noise + gap),
        ci_level=how.level,
        null=None,  # the bound of re-paired rows is far below 0
        projection="classifier, cross-fitted",
        estimator="mutual_information",
        warnings=_gap(gap, value),
    )


def _classified(values: np.ndarray, codes: np.ndarray, half: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, float]:
    """log q(y | x) + H(y) of the rows of a half, float64 [n], and the nats promised beyond on rows fitted on.

    Half of these, to first order, is what the fit falls short of; the other half is left for a wrong model.
    """
    classes, fitted = int(codes.max()) + 1, other[:FIT_ROWS]
    indicator = (codes[fitted][:, None] == np.arange(1, classes)).astype(np.float64)
    indicator = indicator[:, indicator.any(0)]
    project = CCA(min(MOST_DISCRIMINANTS, values.shape[1], indicator.shape[1])).fit(values[fitted], indicator)
    u, _ = project(values[fitted], indicator)
    v, _ = project(values[half], np.zeros((len(half), indicator.shape[1])))
    classifier = Classifier(u, codes[fitted], classes)
    kept, promised = (
        classifier.log_probability(of, codes[rows]) + _surprise(codes[rows]) for of, rows in ((v, half), (u, fitted))
    )
    return kept, float(promised.mean() - kept.mean())


def _surprise(codes: np.ndarray) -> np.ndarray:
    """-log p of each label, float64 [n], shifted so that the mean is Grassberger's entropy."""
    counts = np.bincount(codes)
    logs = -np.log(counts[codes] / len(codes))
    return logs - logs.mean() + discrete.entropy_of_counts(counts, "grassberger")


def _gap(gap: float, value: float) -> tuple[Caution, ...]:
    if gap <= max(GAP[0], GAP[1] * abs(value)):
        return ()
    text = f"the projections, fitted on half of the rows, may miss about {gap:.2f} nats; use more rows"
    return (Caution("projection-gap", text, {"gap": gap}),)


def _with_rare_labels(estimate: Estimate, y: Categories, enough: int) -> Estimate:
    """The estimate with a caution about labels of fewer than `enough` rows, and the interval extended upwards.

    With R = 1 where the label is rare, I(x; y) <= (1 - P(R)) I(x; y | R = 0) + H(R) + P(R) H(y | R = 1): the last two
    terms are what rare labels can add to what the others show.
    """
    counts = np.bincount(y.codes)
    rare = np.flatnonzero((counts < enough) & (counts > 0))
    if not len(rare) or len(counts) == 1:
        return estimate
    frequent = np.delete(counts, rare)
    entropy = discrete.entropy_of_counts(counts)
    hidden = entropy - frequent.sum() / y.n * (discrete.entropy_of_counts(frequent) if frequent.sum() else 0.0)
    warnings = (*estimate.warnings, _rare_labels(y, counts, rare, enough, float(hidden)))
    if estimate.ci is None:
        return replace(estimate, warnings=warnings)
    low, high = estimate.ci
    return replace(estimate, ci=(low, max(high, min(high + hidden, entropy))), warnings=warnings)


def _rare_labels(y: Categories, counts: np.ndarray, rare: np.ndarray, enough: int, hidden: float) -> Caution:
    first = {code: y.labels[np.argmax(y.codes == code)] for code in rare[:SHOWN]}
    some = ", ".join(f"{value} ({counts[code]} of {y.n})" for code, value in first.items())
    more = f" and {len(rare) - SHOWN} more" if len(rare) > SHOWN else ""
    text = (
        f"labels of {y.name} in under {enough} rows, {some}{more}: they can hide up to {hidden:.3f} nats; pass more "
        f"of their rows, or merge them"
    )
    return Caution("rare-labels", text, {"side": y.name, "labels": len(rare), "rows": enough, "hidden": hidden})


def _of_discriminants(
    discriminants: tuple[list[int], Folds],
    d: int,
    ross: Callable[..., Estimate],
    level: float,
    permutations: int,
    seed: int,
    rng: np.random.Generator,
) -> Estimate:
    """Ross's estimator on the projected halves of d columns, with interval, permutation test and neighbour check."""
    chosen, folds = discriminants
    estimate = replace(
        folds.estimate(ross),
        kind="lower bound",
        dims=(d, 1),
        projection=" and ".join(f"discriminants({r})" for r in sorted(set(chosen))) + ", cross-fitted",
    )
    if sum(folds.sizes) >= FEWEST_ROWS:
        estimate = _with_interval_of_folds(estimate, folds, ross, level, seed)
    if permutations:
        test = folds.permutation_test(ross, estimate.value, permutations, rng)
        estimate = replace(estimate, null=test.null, p_value=test.p_value, permutations=permutations)
    return with_neighbour_check(estimate, ross, folds.value, min(folds.sizes))


def _halves(name: str, y: Categories, rng: np.random.Generator, rows: Rows) -> Halves:
    both = rows.halves(rng) if rows.lags else strata.halves(y.codes, rng.permutation(y.n))
    if not all(strata.repeats(y.codes[half]) for half in both):
        raise ValueError(
            f"{y.name} has {len(np.unique(y.codes))} labels in {y.n} rows, none of them 4 times: neither half can be "
            f"estimated through what the other fitted; merge labels, pass more rows, or {name} in up to 4 columns"
        )
    return both


def _best_discriminants(
    values: np.ndarray, y: Categories, ross: Callable[..., Estimate], both: Halves, rows: Rows
) -> tuple[list[int], Folds]:
    """CCA of x with the indicator of each symbol, fitted on one half of the rows and applied to the other.

    Returns:
        How many discriminants each half prefers, and the two halves, each projected as the other prefers.
    """
    codes = y.codes
    indicator = (codes[:, None] == np.flatnonzero(np.bincount(codes))[1:]).astype(np.float64)
    found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}  # dimensions -> (projected, codes) of each half
    for half, other in zip(both, both[::-1], strict=True):
        u, _ = CCA(MAX_DIMS).fit(values[other], indicator[other])(values[half], indicator[half])
        for r in range(1, u.shape[1] + 1):
            found.setdefault(r, []).append((normal_scores(u[:, :r]), codes[half]))
    found = {r: projected for r, projected in found.items() if len(projected) == len(both)}
    best = [max(found, key=lambda r: float(ross(*found[r][half]))) for half in (0, 1)]
    # The choice for a half is not made by the noise in its own estimate.
    return best, Folds([found[best[1]][0], found[best[0]][1]], [rows.take(half) for half in both])


def _with_interval_of_folds(
    estimate: Estimate, folds: Folds, ross: Callable[..., Estimate], level: float, seed: int
) -> Estimate:
    """Variances of the two halves, which are independent, add; both intervals have the same degrees of freedom."""
    each = [
        with_interval(ross, u, codes, level=level, seed=seed, labelled=True, rows=rows)
        for (u, codes), rows in zip(folds.pairs, folds.rows, strict=True)
    ]
    errors = [(half.se, (half.ci[1] - half.ci[0]) / 2) for half in each if half.se is not None and half.ci is not None]
    if len(errors) < len(each):
        return replace(estimate, warnings=(*estimate.warnings, no_interval(SUBSETS)))
    weights = np.array(folds.sizes) / sum(folds.sizes)
    se, half_width = np.linalg.norm(weights[:, None] * errors, axis=0).tolist()
    return replace(estimate, se=se, ci=(estimate.value - half_width, estimate.value + half_width), ci_level=level)
