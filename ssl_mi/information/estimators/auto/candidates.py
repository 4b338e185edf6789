"""The candidates of the default estimator, each on both halves of the rows, fitted on the half it is not applied to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from ssl_mi.information.core.knn_inputs import MAX_DIMS
from ssl_mi.information.core.linalg import normal_scores
from ssl_mi.information.estimators.auto.candidate import Bound, Candidate, Clustered, Project, Signs
from ssl_mi.information.estimators.auto.clusters import FIT_ROWS, fit_clusters
from ssl_mi.information.estimators.auto.families import Fit, cca, families, thresholds
from ssl_mi.information.estimators.auto.left_out import left_out
from ssl_mi.information.estimators.auto.waves import significant
from ssl_mi.information.estimators.gaussian import gaussian_nats
from ssl_mi.information.estimators.ksg import ksg_pointwise
from ssl_mi.information.inference.dependence import Rows

LOCAL_ROWS = 2000  # enough to see that a column is a function of others
LOCAL_COLUMNS = 20  # likewise: the embedding of a surface shows in the first of them
LEFT_OUT_ROWS = 4000  # enough to see what a projection leaves out
SMALLEST_TAIL = 0.02  # nats beyond the fourth dimension that are worth a formula
SELECT_ROWS = 10_000  # of a half, that candidates are fitted and compared on; enough to choose by
ROWS_PER_CELL = 10  # for signs to be counted
LEARNING = 2.0  # times what twice the rows bring is what still more would
DISTINCT = 0.9  # of the values of a continuous column

Halves = tuple[np.ndarray, np.ndarray]  # rows, int64
OfPairs = Callable[[np.ndarray, np.ndarray], np.ndarray]  # x, y -> nats of each row


@dataclass(frozen=True)
class Samples:
    """Two continuous variables, and the rows that candidates are fitted and compared on.

    Args:
        x: float64 [n, dx], columns standard normal.
        y: float64 [n, dy], likewise.
        halves: rows of each half.
        k: neighbours.
        seed: of fits and twins.
        among: which rows depend on each other.
        raw: x and y before they became scores, for waves and the unranked candidate; None leaves these out.
    """

    x: np.ndarray
    y: np.ndarray
    halves: Halves
    k: int
    seed: int
    among: Rows
    raw: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def dims(self) -> tuple[int, int]:
        """Columns of both sides."""
        return self.x.shape[1], self.y.shape[1]

    @property
    def selecting(self) -> Halves:
        """Rows of each half to fit and to compare on."""
        first, second = self.halves
        return first[:SELECT_ROWS], second[:SELECT_ROWS]

    def direct(self, rows: np.ndarray, seed: int) -> Candidate:
        """All columns as they are."""
        return Candidate("direct", lambda chosen: (self.x[chosen], self.y[chosen]), rows, self.k, seed, self.among)

    @cached_property
    def units(self) -> tuple[np.ndarray, np.ndarray] | None:
        """x and y before they became scores, in standard deviations; None where values of a column repeat.

        KSG counts a value that repeats as often as it does. Where few do, they are spread over the smallest gap of
        their column, uniformly, which loses nothing and adds nothing. Atoms, labels and coarse values must be ranked.
        """
        if self.raw is None:
            return None
        rng = np.random.default_rng(self.seed)
        sides = []
        for side in self.raw:
            columns = [spread for column in side.T if (spread := _spread(column, rng)) is not None]
            if len(columns) < side.shape[1]:
                return None
            sides.append(np.column_stack(columns))
        return sides[0], sides[1]

    def unranked(self, rows: np.ndarray, seed: int) -> Candidate | None:
        """All columns in their own units, where these are continuous.

        Ranks bend clusters, spheres and surfaces, which costs neighbours more than it gains where tails are light.
        """
        if self.units is None:
            return None
        x, y = self.units
        return Candidate("unranked", lambda chosen: (x[chosen], y[chosen]), rows, self.k, seed, self.among)


def _spread(column: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A column [n] in standard deviations, equal values apart; None where many are equal."""
    values = np.unique(column)
    deviation = float(column.std())
    if len(values) < DISTINCT * len(column) or not 0 < deviation < np.inf:
        return None
    if len(values) < len(column):
        column = column + np.diff(values).min() * (rng.random(len(column)) - 0.5)
    return (column - column.mean()) / deviation


Found = Mapping[str, list[Candidate]]  # name -> [on the first half, on the second]


def cheap_candidates(samples: Samples) -> Found:
    """Every candidate without networks, on both halves, projections always fitted on the other half."""
    found: list[Candidate] = []
    if max(samples.dims) <= MAX_DIMS:
        each = [samples.direct(rows, samples.seed + i) for i, rows in enumerate(samples.selecting)]
        found += each
        unranked = (samples.unranked(rows, samples.seed + i) for i, rows in enumerate(samples.selecting))
        found += [candidate for candidate in unranked if candidate is not None]
        if sum(samples.dims) > 2 and ROWS_PER_CELL * 2 ** sum(samples.dims) <= len(samples.selecting[0]):
            found += [_signs(samples, half) for half in (0, 1)]
        found += _waves(samples)
    elif samples.raw is not None:
        found += _clusters(samples)
    for name, fit in families(samples.dims).items():
        fits = [fit(samples.x, samples.y, rows, samples.seed) for rows in samples.selecting[::-1]]
        for half, fitted in enumerate(fits):
            found += _of_family(name, fitted, samples, half)
    return _by_name(found)


def _signs(samples: Samples, half: int) -> Candidate:
    """Sides of the thresholds that the other half fitted."""
    at_x, at_y = thresholds(samples.x, samples.y, samples.selecting[1 - half])

    def project(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return samples.x[rows] > at_x, samples.y[rows] > at_y

    found = Signs("signs", project, samples.selecting[half], samples.k, samples.seed, samples.among)
    return _falling_short(found, samples.selecting[1 - half])


def _waves(samples: Samples) -> list[Candidate]:
    """The strongest fine waves, where the first half shows one for sure: the second is tested, and must not decide."""
    if samples.raw is None:
        return []
    first, second = samples.selecting
    on_second = _waves_on(samples, second, 1, first)
    return [*_waves_on(samples, first, 0, second, True), *on_second] if on_second else []


def _waves_on(
    samples: Samples, rows: np.ndarray, half: int, fitted_on: np.ndarray, anyway: bool = False
) -> list[Candidate]:
    """One wave of the rows fitted on, two, and so on; nothing where chance may have made the first, unless `anyway`."""
    assert samples.raw is not None
    x, y = samples.raw
    at = fitted_on
    lines = significant(x[at], y[at], samples.x[at], samples.y[at], min(MAX_DIMS, *samples.dims), anyway)
    if lines is None:
        return []

    def project(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u, v = lines(x[chosen], y[chosen], samples.x[chosen], samples.y[chosen])
        return normal_scores(u), normal_scores(v)

    return [
        Candidate("waves", _First(r, project), rows, samples.k, samples.seed + half, samples.among)
        for r in range(1, len(lines.lines) + 1)
    ]


def learned_candidates(samples: Samples) -> Found:
    """Those of networks. Beyond the dimension of a side, further numbers are functions of the ones before."""
    from ssl_mi.information.projections.neural import Learned  # which imports torch

    x, y = samples.x, samples.y
    pairs = [(x[rows], y[rows]) for rows in samples.selecting[::-1]]
    fits = Learned(min(MAX_DIMS, *samples.dims)).fit_each(pairs, samples.seed)
    found = [c for half, fitted in enumerate(fits) for c in _of_family("learned", fitted, samples, half)]
    if max(samples.dims) > MAX_DIMS:
        found += [_bound(fitted.bound, samples, half) for half, fitted in enumerate(fits)]
    return _by_name(found)


def _bound(of_pairs: OfPairs, samples: Samples, half: int) -> Candidate:
    """The bound of networks that the other half fitted."""

    def project(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pointwise = of_pairs(samples.x[rows], samples.y[rows])
        return pointwise, pointwise

    found = Bound("infonce", project, samples.selecting[half], samples.k, samples.seed, samples.among)
    return _falling_short(found, samples.selecting[1 - half])


def _clusters(samples: Samples) -> list[Candidate]:
    """The bound of clusters of each side that the other half showed, where it did.

    An error that falls with the rows as n^-.6 is twice what twice as many of them bring. What clusters miss, some of
    them taken for one, does not show on the rows that they were fitted on.
    """
    assert samples.raw is not None
    x, y = (_in_deviations(side) for side in samples.raw)
    found: list[Candidate] = []
    for rows, fitted_on in zip(samples.selecting, samples.selecting[::-1], strict=True):
        some = fitted_on[: min(len(fitted_on), FIT_ROWS) // 2]
        fitted, by_less = (fit_clusters(x[of], y[of], samples.seed) for of in (fitted_on, some))
        if fitted is None:
            return []
        project = partial(_on_rows, fitted.shares, x, y)
        one = Clustered("clusters", project, rows, samples.k, samples.seed, samples.among, bound=fitted.bound)
        less = float(by_less.bound(*_on_rows(by_less.shares, x, y, rows)).mean()) if by_less else 0.0
        shortfall = max(_falling_short(one, fitted_on).shortfall, LEARNING * (one.score - less))
        found.append(one.expecting(shortfall=shortfall))
    return found


def _falling_short(candidate: Candidate, fitted_on: np.ndarray) -> Candidate:
    """The same, expected to fall short by what it loses on rows that it was not fitted on."""
    promised = candidate.on(fitted_on)
    return candidate.expecting(shortfall=max(0.0, promised.score - candidate.score))


def _on_rows(
    project: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    x: np.ndarray,
    y: np.ndarray,
    rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    return project(x[rows], y[rows])


def _in_deviations(values: np.ndarray) -> np.ndarray:
    """Columns [n, d] less their means, in standard deviations; constant ones are 0."""
    centred = values - values.mean(0)
    deviation = centred.std(0)
    return centred / np.where(deviation > 0, deviation, 1.0)


def _by_name(found: list[Candidate]) -> Found:
    by_name: dict[str, list[Candidate]] = {}
    for candidate in found:
        by_name.setdefault(candidate.name, []).append(candidate)
    return {name: both for name, both in by_name.items() if len(both) == 2}


def _of_family(family: str, fit: Fit, samples: Samples, half: int) -> Iterator[Candidate]:
    """A projection in 1, 2, .. 4 of its dimensions, and with its Gaussian tail beyond them, on one half."""
    rows, fitted_on = samples.selecting[half], samples.selecting[1 - half]

    def project(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u, v = fit(samples.x[chosen], samples.y[chosen])
        return normal_scores(u), normal_scores(v)

    u, v = project(rows)
    kept = gaussian_nats(u, v) - 1 / (2 * len(u))
    excess = gaussian_nats(*project(fitted_on)) - kept
    candidates = []
    for r in range(1, min(MAX_DIMS, u.shape[1], v.shape[1]) + 1):
        # What a fit promises too much on its own rows is, to first order, what it falls short of on others.
        shortfall = max(0.0, float(excess[:r].sum()) / 2)
        nested = _First(r, project)
        candidate = Candidate(family, nested, rows, samples.k, samples.seed + half, samples.among, shortfall=shortfall)
        candidate.__dict__["sides"] = tuple(np.ascontiguousarray(side[:, :r]) for side in (u, v))
        candidates.append(candidate)
    yield from candidates[:-1]
    yield from _with_tail(candidates[-1], u, v, kept)


@dataclass(frozen=True)
class _First:
    """The first r columns of a projection."""

    r: int
    project: Project

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u, v = self.project(rows)
        return u[:, : self.r], v[:, : self.r]


def _with_tail(candidate: Candidate, u: np.ndarray, v: np.ndarray, kept: np.ndarray) -> list[Candidate]:
    """A candidate of all columns that KSG can follow, and one that adds the others by the Gaussian formula.

    The formula is believed for those columns when it gives what KSG does for the ones before, and they share nothing
    with these.
    """
    reach = candidate.dims[0]
    head, tail = kept[:reach].sum(), float(kept[reach:].sum())
    if not (tail > SMALLEST_TAIL and independent(u, reach) and independent(v, reach)):
        return [candidate]
    formula_holds = abs(head - candidate.value) < max(0.05, 0.05 * head)
    found = [candidate.expecting(unmeasured=tail)]
    if formula_holds:
        found.append(candidate.expecting(tail=tail, tail_columns=u.shape[1]))
    return found


def independent(u: np.ndarray, reach: int) -> bool:
    """Whether the columns of u beyond the first `reach` share nothing with those before them.

    The embedding of a curve or a surface has many uncorrelated columns, all of them functions of a few numbers: their
    nats must not be added up.
    """
    u = np.ascontiguousarray(u[:LOCAL_ROWS, : reach + LOCAL_COLUMNS])
    shared = [ksg_pointwise(u[:, :reach], u[:, [c]], 3).mean() for c in range(reach, u.shape[1])]
    # Noise of such an estimate is about 0.03 nats; a function of the rest shares tenths of nats.
    return max(shared) < 0.12 and float(np.mean(shared)) < 0.03


def left_out_of(candidate: Candidate, samples: Samples, half: int) -> float:
    """Nats that x and y share beyond what a projection of one half keeps of them; 0 where it keeps or counts all."""
    if candidate.covers_all:
        return 0.0
    rows = candidate.rows[:LEFT_OUT_ROWS]
    fit = cca(samples.x, samples.y, samples.selecting[1 - half], samples.seed)
    u, v = candidate.project(rows)
    a, b = fit(samples.x[rows], samples.y[rows])
    return left_out(u, v, normal_scores(a), normal_scores(b), samples.seed)
