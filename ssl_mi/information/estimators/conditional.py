"""The default estimator of conditional mutual information: regress on z, estimate what the residuals share.

For every z, r_x = (x - m(z)) / s(z) is an invertible map of x, and r_y one of y. So whatever m and s are,

    I(x; y | z) = I(r_x; r_y | z) = I(r_x; r_y) + [ I(r_x; (r_y, z)) - I(r_x; r_y) ] - I(r_x; z)

With m and s the mean and the deviation given z, the residuals no longer depend on z in location and scale: where z only
moves and stretches x and y, the first term is all, and has as few dimensions as x and y. The other two, the
*interaction*, are what is left where the dependence itself changes with z. They are estimated by KSG, each less its
value for permuted rows of z (which have the same truth in the same number of dimensions, so that the bias cancels), for
each column of z and for all of them, and added where one stands out by four standard errors.

The rule:

    x, y, z all labels               counts, with Grassberger's correction
    z all labels                     `mutual_information` in each stratum of z, weighted by rows
    x, y numbers                     residuals, as above; labels in z become columns of zeros and ones
    x or y labels                    the chain rule, by `mutual_information`: I(x; (y, z)) - I(x; z), or
                                     I(x; y) + I((x, y); z) - I(x; z) - I(y; z) where both are labels

The test permutes y (its residual) among rows with nearly equal z, in cells of about 8 rows that are drawn anew. Rows
that depend on each other cannot trade places one by one: with groups or blocks the residuals are re-paired as
inference/dependence.py has it, which is right as far as they no longer depend on z.

References:
    Frenzel & Pompe 2007, Phys. Rev. Lett. 99, 204101 (the alternative `conditional_ksg`).
    Runge 2018, arXiv:1709.01447 (permutation among neighbours in z).
    Shah & Peters 2020, arXiv:1804.07203 (residuals; no test holds for every continuous z).
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.caution import Caution, distinct
from ssl_mi.information.core.containers import columns_of
from ssl_mi.information.core.estimate import Estimate, Kind
from ssl_mi.information.core.inputs import Categories, Variable, check_paired, take_rows
from ssl_mi.information.core.linalg import normal_scores
from ssl_mi.information.core.settings import check_seed, check_uncertainty, whole_number
from ssl_mi.information.core.smoothing import Smoother
from ssl_mi.information.estimators.auto.pipeline import mutual_information
from ssl_mi.information.estimators.auto.sides import read_side
from ssl_mi.information.estimators.discrete import discrete_conditional_mi
from ssl_mi.information.estimators.ksg import ksg_pointwise
from ssl_mi.information.inference.dependence import Rows, read_rows
from ssl_mi.information.inference.dependence_check import dependence_cautions
from ssl_mi.information.inference.permutation import p_value
from ssl_mi.information.inference.rank_test import Coded, RankTest, coded

FEWEST_ROWS = 100
STRATUM = 40  # rows that `mutual_information` needs
CELL = 8  # rows among which y is permuted
CUTS = 10  # ways to cut z into cells
MANY_GIVEN = 5  # columns of z, beyond which neither regression nor cells follow it
INTERACTION_ROWS = 10_000
STANDS_OUT = 4.0  # standard errors
MOST_DIMS = 7  # of the interaction


class _Given(NamedTuple):
    """z as numbers [n, d], as one label a row where all of it is labels, and whether it has columns of both kinds."""

    values: np.ndarray
    labels: np.ndarray | None
    mixed: bool


def conditional_mutual_information(
    x: ArrayLike,
    y: ArrayLike,
    z: ArrayLike,
    *,
    k: int = 3,
    level: float = 0.95,
    permutations: int = 199,
    seed: int = 0,
    groups: ArrayLike | None = None,
    blocks: int | None = None,
) -> Estimate:
    """I(x; y | z) in nats: what x and y share beyond what both share with z, with an interval, a p-value and cautions.

    No test of conditional independence holds for every continuous z: for any sample and any level there are
    distributions that are conditionally independent and look dependent (Shah & Peters 2020). This one holds where
    x and y depend on z smoothly, up to about five columns of it. Samples of text, booleans and categories are labels,
    whole numbers of few values too; see the top of the file for what is done with each kind.

    Args:
        x: [n] or [n, dx].
        y: [n] or [n, dy].
        z: [n] or [n, dz], what is given; a data frame may mix numbers and labels.
        k: neighbours.
        level: of the interval, between 0 and 1.
        permutations: B of the test; 0 leaves it out.
        seed: of everything that is drawn.
        groups: [n], the source of each row, where rows share sources: intervals, splits and permutations keep sources
            whole, and rows of one source are no neighbours.
        blocks: rows are in the order of time, and independent when that many places apart: permutations are circular
            shifts. Not with a z of labels, whose strata have no order.

    Returns:
        A point estimate, or a lower bound where `mutual_information` gives one; `settings` names what was chosen.

    Raises:
        ValueError: unpaired lengths, missing values, fewer than 100 rows, settings out of range, or labels in x or y
            with a z of both kinds; groups and blocks as in `mutual_information`.

    References:
        Shah & Peters 2020, arXiv:1804.07203; Runge 2018, arXiv:1709.01447.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> z = rng.standard_normal(1000)
        >>> x, y = (np.sin(2 * z) + 0.5 * rng.standard_normal(1000) for _ in "xy")
        >>> estimate = conditional_mutual_information(x, y, z)
        >>> bool(estimate.p_value > 0.05), bool(estimate.ci[0] < 0 < estimate.ci[1])
        (True, True)
    """
    started = time.perf_counter()
    check_uncertainty(level, permutations)
    check_seed(seed)
    k = whole_number("k", k, 1, "neighbours")
    first, second = _kind(x, "x"), _kind(y, "y")
    rng = np.random.default_rng(seed)
    given = _given(z)
    check_paired(first, second, Variable(given.values, "z", ""))
    if first.n < FEWEST_ROWS:
        raise ValueError(f"x, y and z have n={first.n} rows: a regression on z needs {FEWEST_ROWS}; pass more rows")
    rows = read_rows(first.n, groups, blocks)
    if given.labels is not None and blocks is not None and blocks > 1:
        raise ValueError(
            "blocks with a z of labels: the rows of a label have no order in time; pass groups, or leave it out"
        )
    smoother = Smoother(given.values, rng)
    left = [_without(side, smoother) for side in (first, second)]
    default = partial(mutual_information, k=k, learned=False, permutations=0, level=level, seed=seed)
    if given.labels is not None:
        estimate = _of_strata(first, second, given.labels, default, groups)
    elif isinstance(first, Categories) or isinstance(second, Categories):
        estimate = _of_chain(first, second, given, partial(default, groups=groups, blocks=blocks))
    else:
        default = partial(default, groups=groups, blocks=blocks)
        estimate = _of_residuals(left[0], left[1], given.values, k, level, default, rng, rows)
    estimate = _tested(estimate, left, given.values, permutations, rows, rng)
    cautions = (*estimate.warnings, *dependence_cautions(left[0], left[1], rows), *_many_given(given.values.shape[1]))
    return replace(
        estimate,
        dims=(_width(first), _width(second), given.values.shape[1]),
        estimator="conditional_mutual_information",
        settings={"k": k, "seed": seed, **rows.settings, **estimate.settings},
        seconds=time.perf_counter() - started,
        warnings=distinct(cautions),
    )


# -------------------------------------------------------------------------------------------------- the samples


def _kind(x: Any, name: str) -> Variable | Categories:
    side = read_side(x, name)
    found = side.labels if side.numbers is None or side.few else side.numbers
    assert found is not None  # a side is one of the two
    return found


def _width(side: Variable | Categories) -> int:
    return side.d if isinstance(side, Variable) else 1


def _given(z: Any) -> _Given:
    """z as columns of numbers; labels as columns of zeros and ones."""
    parts, known = [], []
    for name, column in columns_of(z) or [(None, z)]:
        side = _kind(column, "z" if name is None else f"z, column {name!r}")
        if isinstance(side, Variable):
            parts.append(side.values)
        else:
            parts.append((side.codes[:, None] == np.arange(side.codes.max() + 1)).astype(np.float64))
            known.append(side.codes)
    lengths = {len(part) for part in parts}
    if len(lengths) > 1:
        raise ValueError(f"z has columns of different lengths, {min(lengths)} and {max(lengths)}: pass equal lengths")
    values, mixed = np.concatenate(parts, 1), 0 < len(known) < len(parts)
    if len(known) < len(parts):
        return _Given(values, None, mixed)
    return _Given(values, np.unique(np.stack(known, 1), axis=0, return_inverse=True)[1].reshape(-1), mixed)


def _without(side: Variable | Categories, smoother: Smoother) -> Variable | Categories:
    """A side without what z says of its location and scale; labels as they are."""
    if isinstance(side, Categories):
        return side
    columns = [smoother.standardized_residual(column) for column in side.values.T]
    return side._replace(values=np.stack(columns, 1), stored="float64")


def _many_given(dz: int) -> tuple[Caution, ...]:
    if dz <= MANY_GIVEN:
        return ()
    text = (
        f"z has {dz} columns: beyond {MANY_GIVEN} neither a regression on z nor cells of equal z follow it from few "
        "rows, and what is left of z counts as dependence; leave out columns of z that do not matter"
    )
    return (Caution("many-given", text, {"columns": dz, "threshold": MANY_GIVEN}),)


# ----------------------------------------------------------------------------------------------------- the value


def _of_strata(
    first: Any, second: Any, labels: np.ndarray, default: partial[Estimate], groups: ArrayLike | None
) -> Estimate:
    """Σ p(z) I(x; y | z) over the strata of z."""
    if isinstance(first, Categories) and isinstance(second, Categories):
        counted = discrete_conditional_mi(first.codes, second.codes, labels, correction="grassberger")
        return replace(counted, settings={"chosen": "counts"})
    found, small = [], 0
    for stratum in range(labels.max() + 1):
        rows = np.flatnonzero(labels == stratum)
        if len(rows) < STRATUM:
            small += len(rows)
        else:
            of_rows = None if groups is None else take_rows(groups, rows)
            found.append(default(_rows_of(first, rows), _rows_of(second, rows), groups=of_rows))
    if not found:
        raise ValueError(f"z has {labels.max() + 1} labels, none in {STRATUM} rows: merge labels, or pass more rows")
    warnings = [caution for estimate in found for caution in estimate.warnings]
    if small:
        text = f"{small} rows have labels of z in under {STRATUM} rows, and were left out of the value; merge labels"
        warnings.append(Caution("small-strata", text, {"rows": small, "threshold": STRATUM}))
    weights = np.array([estimate.n or 0 for estimate in found], float)
    weights /= weights.sum()
    value = float(weights @ [estimate.value for estimate in found])
    # Strata share no rows: half widths of independent intervals add as errors do.
    arms = np.array([_arms(estimate) for estimate in found])
    low, high = np.sqrt((weights[:, None] ** 2 * arms**2).sum(0))
    known = bool(np.isfinite(arms).all())
    return replace(
        found[0],
        value=value,
        kind=_weakest(found),
        se=math.sqrt(sum((w * (e.se or 0.0)) ** 2 for w, e in zip(weights, found, strict=True))) if known else None,
        ci=(value - float(low), value + float(high)) if known else None,
        ci_level=found[0].ci_level if known else None,
        n=sum(estimate.n or 0 for estimate in found),
        settings={"chosen": f"{len(found)} strata of z"},
        warnings=tuple(warnings),
    )


def _rows_of(side: Variable | Categories, rows: np.ndarray) -> np.ndarray:
    """Samples as `mutual_information` takes them: labels as text."""
    return side.values[rows] if isinstance(side, Variable) else side.codes[rows].astype(str)


def _arms(estimate: Estimate) -> tuple[float, float]:
    """How far the interval reaches down and up."""
    low, high = estimate.ci or (math.nan, math.nan)
    return estimate.value - low, high - estimate.value


def _weakest(found: list[Estimate]) -> Kind:
    return "lower bound" if any(estimate.kind == "lower bound" for estimate in found) else "point estimate"


def _of_chain(first: Any, second: Any, given: _Given, default: partial[Estimate]) -> Estimate:
    """I(x; y | z) as sums and differences of mutual informations, where x or y holds labels."""
    if given.mixed:
        raise ValueError("x or y holds labels and z mixes labels with numbers: pass z as numbers only, or labels only")
    every = np.arange(first.n)
    if isinstance(first, Categories) and isinstance(second, Categories):
        both = (first.codes * (second.codes.max() + 1) + second.codes).astype(str)
        a, b = _rows_of(first, every), _rows_of(second, every)
        terms = [(1, default(a, b)), (1, default(both, given.values))]
        terms += [(-1, default(a, given.values)), (-1, default(b, given.values))]
    else:
        labels, numbers = (first, second) if isinstance(first, Categories) else (second, first)
        of_labels = _rows_of(labels, every)
        joint = np.concatenate([numbers.values, given.values], 1)
        terms = [(1, default(of_labels, joint)), (-1, default(of_labels, given.values))]
    estimates = [estimate for _, estimate in terms]
    value = sum(sign * estimate.value for sign, estimate in terms)
    arms = [_arms(estimate)[::sign] for sign, estimate in terms]
    low, high = np.sqrt((np.array(arms) ** 2).sum(0))
    known = bool(np.isfinite([low, high]).all())
    return replace(
        estimates[0],
        value=value,
        kind="point estimate",  # a difference of bounds bounds nothing
        se=math.sqrt(sum((estimate.se or 0.0) ** 2 for estimate in estimates)) if known else None,
        ci=(value - float(low), value + float(high)) if known else None,
        ci_level=estimates[0].ci_level if known else None,
        null=None,
        projection=None,
        settings={"chosen": "chain rule"},
        warnings=tuple(caution for estimate in estimates for caution in estimate.warnings),
    )


def _of_residuals(
    x: Any,
    y: Any,
    z: np.ndarray,
    k: int,
    level: float,
    default: partial[Estimate],
    rng: np.random.Generator,
    rows: Rows,
) -> Estimate:
    """I(r_x; r_y), and the interaction with z where one stands out."""
    from scipy.stats import norm

    estimate = default(x.values, y.values)
    extra, se, columns = _interaction(x.values, y.values, z, k, rng, rows)
    settings = {"chosen": f"residuals given z ({estimate.settings.get('chosen', estimate.estimator)})"}
    if extra == 0:
        return replace(estimate, settings=settings)
    settings["chosen"] += f" and interaction with columns {columns} of z {extra:+.3f}"
    text = (
        f"the dependence changes with columns {columns} of z: {extra:.2f} nats of it were estimated by nearest "
        "neighbours, which may miss some"
    )
    reach = float(norm.ppf((1 + level) / 2)) * se
    ci = estimate.ci and (estimate.ci[0] + extra - reach, estimate.ci[1] + extra + reach)
    return replace(
        estimate,
        value=estimate.value + extra,
        se=math.hypot(estimate.se or 0.0, se),
        ci=ci,
        settings=settings,
        warnings=(*estimate.warnings, Caution("changing-dependence", text, {"interaction": extra, "columns": columns})),
    )


def _interaction(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, k: int, rng: np.random.Generator, rows: Rows
) -> tuple[float, float, str]:
    """The interaction with the columns of z that show most: nats, standard error, and which; 0 where none is clear."""
    some = np.arange(len(x))[:INTERACTION_ROWS] if rows.lags else rng.permutation(len(x))[:INTERACTION_ROWS]
    x, y, z = (normal_scores(side[some], rng) for side in (x, y, z))
    rows = rows.take(some)
    partners = [rows.derangement(rng) if rows.lags else rng.permutation(len(x)) for _ in range(2)]
    sets = [[column] for column in range(z.shape[1])] if z.shape[1] > 1 else []
    sets.append(list(range(z.shape[1])))
    best = (0.0, 0.0, "")
    for columns in sets:
        chosen = z[:, columns]
        if x.shape[1] + y.shape[1] + len(columns) > MOST_DIMS:
            continue
        pointwise = _interacting(x, y, chosen, k, rows)
        permuted = [_interacting(x, y, chosen[order], k, rows) for order in partners]
        excess = pointwise - np.mean(permuted, axis=0)
        se = math.sqrt(rows.variance_of_mean(excess))
        if excess.mean() > max(STANDS_OUT * se, best[0]):
            best = (float(excess.mean()), se, ", ".join(map(str, columns)))
    return best


def _interacting(x: np.ndarray, y: np.ndarray, z: np.ndarray, k: int, rows: Rows) -> np.ndarray:
    """I(x; (y, z)) - I(x; z), row by row."""
    return ksg_pointwise(x, np.concatenate([y, z], 1), k, rows=rows) - ksg_pointwise(x, z, k, rows=rows)


# ------------------------------------------------------------------------------------------------------ the test


def _tested(
    estimate: Estimate, left: list[Any], z: np.ndarray, permutations: int, rows: Rows, rng: np.random.Generator
) -> Estimate:
    """The estimate with a p-value, or with a caution where there is no test."""
    if not permutations:
        return estimate
    if not rows.lags:
        p = _local_test(left[0], left[1], z, permutations, rng)
    elif any(isinstance(side, Categories) for side in left):
        text = "no p-value: labels in x or y given z cannot be tested among rows that depend on each other"
        return replace(estimate, warnings=(*estimate.warnings, Caution("no-conditional-test", text)))
    else:
        p = _residual_test(left[0], left[1], permutations, rows, rng)
    return replace(estimate, p_value=p, permutations=permutations)


def _residual_test(x: Any, y: Any, permutations: int, rows: Rows, rng: np.random.Generator) -> float:
    """p of the rank test of each pair of columns, the largest counting, residuals re-paired as the rows allow."""
    of_x, of_y = ([coded(column, rng) for column in _columns(side)] for side in (x, y))
    test = RankTest(Rows(rows.n), permutations, 0)
    observed = _largest(test, of_x, of_y, np.arange(rows.n))
    return p_value(observed, [_largest(test, of_x, of_y, rows.derangement(rng)) for _ in range(permutations)])


def _local_test(x: Any, y: Any, z: np.ndarray, permutations: int, rng: np.random.Generator) -> float:
    """p of the rank test of each pair of columns, the largest of them counting, y permuted among rows of equal z."""
    n = len(z)
    of_x, of_y = ([coded(column, rng) for column in _columns(side)] for side in (x, y))
    test = RankTest(Rows(n), permutations, 0)
    scores = _scored(z, rng)
    observed = _largest(test, of_x, of_y, np.arange(n))
    null, cut = [], np.zeros(n, np.int64)
    for draw in range(permutations):
        if draw % max(1, permutations // CUTS) == 0:
            cut = _cells(scores, rng)
            by_cell = np.argsort(cut, kind="stable")
        partners = np.empty(n, np.int64)
        partners[by_cell] = np.lexsort((rng.random(n), cut))
        null.append(_largest(test, of_x, of_y, partners))
    return p_value(observed, null)


def _columns(side: Variable | Categories) -> list[Variable | Categories]:
    if isinstance(side, Categories):
        return [side]
    return [side._replace(values=side.values[:, [column]]) for column in range(side.d)]


def _largest(test: RankTest, of_x: list[Coded], of_y: list[Coded], partners: np.ndarray) -> float:
    return max(float(test.statistic(a, b, b.codes[partners][None])[0]) for a in of_x for b in of_y)


def _scored(z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers as normal scores; columns of zeros and ones as they are, far apart."""
    binary = ((z == 0) | (z == 1)).all(0)
    return np.where(binary, 20 * z, normal_scores(z, rng))


def _cells(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The cell of each row, int64 [n]: halves along random directions until cells have `CELL` rows or a few more."""
    parts = [np.arange(len(points))]
    while len(parts[0]) >= 2 * CELL:
        direction = points @ rng.standard_normal((points.shape[1], len(parts)))
        halves = []
        for number, part in enumerate(parts):
            order = part[np.argsort(direction[part, number])]
            halves += [order[: len(order) // 2], order[len(order) // 2 :]]
        parts = halves
    cell = np.empty(len(points), np.int64)
    for number, part in enumerate(parts):
        cell[part] = number
    return cell
