"""The default estimator: looks at the samples, chooses how to estimate from them, and reports what it chose.

Symbols on both sides are counted (`discrete`), symbols on one side go to Ross's estimator (`ksg.mixed_ksg_ross`); both
in categorical.py. Whether whole numbers are symbols is decided in choice.py. Everything else is treated as continuous:

1. Each coordinate goes through its ranks to the standard normal, ties broken at random. Neither loses information,
   and long tails, units, rounding and atoms are gone. Of very many rows a random part is used.
2. The rows are cut in two halves. Projections are fitted on one half and applied to the other, both ways round: none
   (up to 4 dimensions a side; also of the columns in their own units, which ranks bend), signs, fine waves (waves.py),
   canonical correlation analysis, polar coordinates, pairs of columns (families.py), each to 1..4 dimensions.
3. Each half uses the candidate with the largest estimate by KSG on the *other* half, before any correction. The
   largest of several noisy estimates would be too large; a choice made elsewhere leaves the estimate fair.
4. Networks (up to 4 dimensions) are further candidates where there are more dimensions than KSG can follow, or where
   estimates at k and at 4 k neighbours leave a doubt. In the first case their InfoNCE bound is one more, and that of
   clusters of each side (clusters.py): these take all dimensions, and need no neighbours.
5. The bias of the candidates that were chosen is measured (bias.py) and subtracted.
6. The interval holds the noise, what is left open about the bias, and upwards what the projections promised on the
   rows they were fitted on beyond what they kept on others, or what they leave out (left_out.py).

By data processing each candidate bounds I(x; y) from below, up to the bias left in step 3.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import Categories, Variable, check_paired, standardize
from ssl_mi.information.core.knn_inputs import MAX_DIMS, check_neighbours
from ssl_mi.information.core.linalg import normal_scores
from ssl_mi.information.core.repeats import dropped_copies, shared_atom, without_copies
from ssl_mi.information.core.settings import check_seed, check_uncertainty, whole_number
from ssl_mi.information.estimators.auto import categorical as categorical_sides
from ssl_mi.information.estimators.auto.candidate import UNPROJECTED, Bound, Candidate
from ssl_mi.information.estimators.auto.candidates import (
    Found,
    Samples,
    cheap_candidates,
    learned_candidates,
    left_out_of,
)
from ssl_mi.information.estimators.auto.categorical import Uncertainty
from ssl_mi.information.estimators.auto.choice import Taken, choose
from ssl_mi.information.estimators.auto.sides import Categorical, Side, read_sides
from ssl_mi.information.estimators.auto.waves import less_mean_along, unresolved
from ssl_mi.information.estimators.ksg import ksg_pointwise, null_values
from ssl_mi.information.inference.dependence import Rows, read_rows
from ssl_mi.information.inference.dependence_check import dependence_cautions
from ssl_mi.information.inference.neighbour_check import FACTOR, disagreement
from ssl_mi.information.inference.permutation import PermutationTest, p_value

FEWEST_ROWS = 40
QUICK_PERMUTATIONS = 5  # where ways to take a side are compared
LEARNING_ROWS = 500  # of a half; networks learn nothing from fewer
MOST_ROWS, MOST_ROWS_BEYOND = 1_000_000, 200_000  # up to 2 dimensions a side, and beyond; others are left out
DOUBT = 0.03  # nats, or share of the value, by which estimates at k and at 4 k may differ before networks are tried
NULL_ROWS = 2000  # enough to distinguish dependence from none, and cheap enough to permute often
FEW_ROWS = 1000
ROWS_PER_DIMENSION = 10
NEAR = 0.55  # of the largest value that half of the rows can show


def mutual_information(
    x: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 3,
    learned: bool = True,
    level: float = 0.95,
    permutations: int = 99,
    seed: int = 0,
    categorical: Categorical = None,
    groups: ArrayLike | None = None,
    blocks: int | None = None,
) -> Estimate:
    """I(x; y) in nats, with an interval, a p-value and cautions; `settings` names what was chosen, and why.

    Args:
        x: [n] or [n, dx]: torch or numpy, any dtype or device, lists, data frames.
        y: [n] or [n, dy], likewise.
        k: neighbours.
        learned: whether networks are among the projections, where cheaper ones leave a doubt. False takes a second at
            most, and is blind beyond 4 dimensions to dependence that shows in no cheap projection.
        level: of the interval, between 0 and 1.
        permutations: B of the permutation test; 0 leaves it out.
        seed: of halves, fits, twins and permutations.
        categorical: which sides hold labels, whose order means nothing: "x", "y", "both", True, False (neither), or a
            pair (for x, for y) of True, False and None. None finds out: text, booleans and category columns are labels,
            fractions are numbers, and whole numbers, and one column of few values, are taken as what shows more
            (choice.py); `settings` tells which.
        groups: [n], the source of each row (an image, a patient, a document), where rows share sources. Every split,
            permutation and standard error then keeps sources whole, and rows of one source are no neighbours.
        blocks: rows are in the order of time, and independent when that many places apart: permutations are circular
            shifts, and rows that are nearer in time are no neighbours. None where order means nothing.

    Returns:
        A point estimate, or a lower bound where a projection was chosen.

    Raises:
        ValueError: unpaired lengths, missing or infinite values, wrong rank, fewer than 40 rows, settings out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal((1000, 2))
        >>> estimate = mutual_information(x, x + rng.standard_normal((1000, 2)), learned=False)
        >>> bool(estimate.ci[0] < np.log(2) < estimate.ci[1])
        True
    """
    started = time.perf_counter()
    check_uncertainty(level, permutations)
    check_seed(seed)
    k = whole_number("k", k, 1, "neighbours")
    a, b = read_sides(x, y, categorical)
    check_paired(a, b)
    rows = read_rows(a.n, groups, blocks)
    a, b, rows, copies = _without_copies(a, b, rows)
    check_neighbours(k, rows.n)

    def quick(first: Taken, second: Taken) -> Estimate:
        some = rows if first.n == rows.n else Rows(first.n)
        labelled = isinstance(first, Categories) or isinstance(second, Categories)
        uncertainty = Uncertainty(level, QUICK_PERMUTATIONS * labelled, seed, some)
        return _estimate(first, second, k, False, uncertainty)

    choice = choose(a, b, quick, seed)
    estimate = _estimate(choice.x, choice.y, k, learned, Uncertainty(level, permutations, seed, rows))
    constant = (*categorical_sides.constant_side(choice.x), *categorical_sides.constant_side(choice.y))
    order = dependence_cautions(choice.x, choice.y, rows)
    return replace(
        estimate,
        settings={**estimate.settings, **rows.settings, **choice.settings},
        warnings=(*copies, *order, *choice.warnings, *estimate.warnings, *constant),
        seconds=time.perf_counter() - started,
    )


def _without_copies(a: Side, b: Side, rows: Rows) -> tuple[Side, Side, Rows, tuple[Caution, ...]]:
    """The sides without rows that were copied, and a caution where there were any."""
    of_a, of_b = ((side.labels or side.numbers) if side.few else (side.numbers or side.labels) for side in (a, b))
    assert of_a is not None  # a side is one of the two
    assert of_b is not None
    kept = without_copies(of_a, of_b)
    if len(kept) == rows.n:
        return a, b, rows, shared_atom(of_a, of_b)
    return a.take(kept), b.take(kept), rows.take(kept), (dropped_copies(of_a, of_b, rows.n - len(kept)),)


def _estimate(a: Taken, b: Taken, k: int, learned: bool, how: Uncertainty) -> Estimate:
    """The estimate of sides that are taken as numbers or as labels."""
    match a, b:
        case Categories(), Categories():
            return categorical_sides.both_categorical(a, b, how)
        case Variable(), Categories():
            return categorical_sides.mixed(a, b, k, how)
        case Categories(), Variable():
            estimate = categorical_sides.mixed(b, a, k, how)
            return replace(estimate, dims=estimate.dims and estimate.dims[::-1])
        case Variable(), Variable():
            return _continuous(a, b, k, learned, how)
    raise TypeError(f"a side is a Variable or Categories, got {type(a).__name__} and {type(b).__name__}")


# --- continuous on both sides ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection:
    """Every candidate on both halves, the one chosen for each half, and the estimates that follow.

    Args:
        candidates: name -> [on the first half, on the second].
        halves: the candidate that each half was estimated through.
        left_out: nats that those two leave out, as far as remainders correlate.
        parts: those two, of all rows of their half; or one of all rows, where nothing was projected.
    """

    candidates: Found
    halves: tuple[Candidate, Candidate]
    left_out: float
    parts: tuple[Candidate, ...]

    @property
    def chosen(self) -> list[str]:
        """Names of the candidates that were used."""
        return sorted({half.name for half in self.halves})

    @property
    def projected(self) -> bool:
        """Whether any of them projects."""
        return not set(self.chosen) <= set(UNPROJECTED)

    @property
    def value(self) -> float:
        """The estimate, nats."""
        return float(np.mean([part.value for part in self.parts]))

    @property
    def bias(self) -> float:
        """The bias that was subtracted, nats."""
        return float(np.mean([part.bias.at_k for part in self.parts]))

    @property
    def doubt(self) -> float:
        """What the bias may be off by beyond noise, nats."""
        return float(np.mean([part.bias.doubt for part in self.parts]))

    @property
    def raw_change(self) -> float:
        """From k to more neighbours, before any correction, nats."""
        return -float(np.mean([part.over_k.change for part in self.parts]))

    @property
    def raw_fall(self) -> float:
        """The same as a fall; 0 in 1 + 1 dimensions, where little is missing."""
        by_neighbours = [part for part in self.parts if not isinstance(part, Bound)]
        return -self.raw_change if any(sum(part.dims) > 2 for part in by_neighbours) else 0.0

    @property
    def value_at_more_k(self) -> float:
        """The estimate at more neighbours, nats."""
        return float(np.mean([part.value_at_more_k for part in self.parts]))

    @property
    def se(self) -> float:
        """Noise of the rows and of the twins."""
        return float(np.sqrt(sum(part.variance + part.bias.variance for part in self.parts))) / len(self.parts)

    @property
    def se_of_change(self) -> float:
        """Noise of `value_at_more_k - value`."""
        return float(np.sqrt(sum(part.variance_of_change for part in self.parts))) / len(self.parts)

    @property
    def projection_gap(self) -> float:
        """Upper estimate of the nats lost by projection, from the family of projections with the best prospects."""
        families: dict[str, list[list[Candidate]]] = {}
        for both in self.candidates.values():
            if both[0].promises_unused or (both[0].name in self.chosen and both[0].name not in UNPROJECTED):
                families.setdefault(both[0].family, []).append(both)
        prospects = []
        for nested in families.values():
            best = [max(of_half, key=lambda c: c.score) for of_half in zip(*nested, strict=True)]
            prospects.append(np.mean([candidate.optimistic_score for candidate in best]))
        score = float(np.mean([half.score for half in self.halves]))
        return max(self.left_out, float(max(prospects, default=score)) - score)

    @property
    def unresolved(self) -> bool:
        """Whether nearest neighbours left a doubt that networks, in fewer dimensions, may remove.

        The estimate moves with k, or most of what it moves by had to be corrected.
        """
        moved = abs(self.value_at_more_k - self.value) > max(DOUBT, DOUBT * abs(self.value), 3 * self.se_of_change)
        return moved or abs(self.bias) > max(2 * DOUBT, 2 * DOUBT * abs(self.value))


def _continuous(x: Variable, y: Variable, k: int, learned: bool, how: Uncertainty) -> Estimate:
    level, permutations, seed, rows = how
    cautions = (*standardize(x)[2], *standardize(y)[2])
    if x.n < FEWEST_ROWS:
        raise ValueError(f"x and y have n={x.n} rows: cross-fitting on two halves needs {FEWEST_ROWS}; use ksg")
    rng = np.random.default_rng(seed)
    x, y, rows, subsampled = _at_most(x, y, rows, rng)
    n, dims = x.n, (x.d, y.d)
    check_neighbours(k, n if max(dims) == 1 else n // 2, FACTOR)
    halves = rows.halves(rng)
    networks = learned and n // 2 >= LEARNING_ROWS and max(dims) > 1
    raw = x.values, y.values
    samples = Samples(normal_scores(x.values, rng), normal_scores(y.values, rng), halves, k, seed, rows, raw)
    selection = _select(samples, networks)
    tested = [both[1] for both in selection.candidates.values() if _is_tested(both[1], dims)]
    test = _independence_test(tested, k, permutations, rng) if permutations else None
    return Estimate(
        value=selection.value,
        kind="lower bound" if selection.projected else "point estimate",
        se=selection.se,
        ci=_interval(selection, level),
        ci_level=level,
        p_value=test.p_value if test else None,
        permutations=permutations or None,
        null=test.null if test else None,
        n=n,
        dims=dims,
        projection=" and ".join(selection.chosen) + ", cross-fitted" if selection.projected else None,
        estimator="mutual_information",
        settings={"k": k, "seed": seed, "chosen": _reason(selection)},
        warnings=(
            *cautions,
            *subsampled,
            *_cautions(selection, k, n, dims, networks),
            *_fine_waves(selection, samples),
        ),
    )


def _at_most(
    x: Variable, y: Variable, rows: Rows, rng: np.random.Generator
) -> tuple[Variable, Variable, Rows, tuple[Caution, ...]]:
    """The samples, or as many of their rows as can be searched in a minute, and a caution that names the number."""
    limit = MOST_ROWS if max(x.d, y.d) <= 2 else MOST_ROWS_BEYOND
    if x.n <= limit:
        return x, y, rows, ()
    some = np.sort(rng.permutation(x.n)[:limit])
    text = f"{limit} of n = {x.n} rows, drawn at random, were used: more would take minutes and change little"
    caution = Caution("subsample", text, {"n": x.n, "threshold": limit})
    return x._replace(values=x.values[some]), y._replace(values=y.values[some]), rows.take(some), (caution,)


def _select(samples: Samples, networks: bool) -> Selection:
    """Steps 2 to 4 of the module's description."""
    found = cheap_candidates(samples)
    if networks and max(samples.dims) > MAX_DIMS:
        return _selection({**found, **learned_candidates(samples)}, samples)
    selection = _selection(found, samples)
    if networks and selection.unresolved:
        return _selection({**found, **learned_candidates(samples)}, samples)
    return selection


def _selection(found: Found, samples: Samples) -> Selection:
    best = [_best(found, half) for half in (0, 1)]
    chosen = found[best[1]][0], found[best[0]][1]  # each half is estimated as the other half prefers
    families = {candidate.family for candidate in chosen}
    if families == set(UNPROJECTED):  # halves that cannot tell them apart
        chosen = found["direct"][0], found["direct"][1]
    if families <= set(UNPROJECTED):  # nothing was fitted, so all rows may be used at once
        parts: tuple[Candidate, ...] = (chosen[0].on(np.arange(len(samples.x))),)
    else:
        parts = tuple(
            candidate if len(candidate.rows) == len(rows) else candidate.on(rows)
            for candidate, rows in zip(chosen, samples.halves, strict=True)
        )
    left_out = float(np.mean([left_out_of(candidate, samples, half) for half, candidate in enumerate(chosen)]))
    return Selection(found, chosen, left_out, parts)


def _best(found: Found, half: int) -> str:
    """The candidate with the largest score on a half; none but the direct one where that is as large up to noise.

    The direct one leaves nothing out and is estimated on all rows. A bound of networks is compared with what nearest
    neighbours give less their bias: in four dimensions that is a tenth of the value, and a bound has no such bias.
    """
    best = max(found, key=lambda name: found[name][half].score)
    if isinstance(found[best][half], Bound):
        best = max((best, _by_neighbours(found, half)), key=lambda name: found[name][half].value)
    if best == "direct" or "direct" not in found:
        return best
    first, direct = found[best][half], found["direct"][half]
    noise = float(np.std(first.pointwise - direct.pointwise)) / np.sqrt(len(direct.rows))
    return "direct" if direct.score >= first.score - noise else best


def _by_neighbours(found: Found, half: int) -> str:
    """The candidate with the largest score on a half that is no bound of networks."""
    return max((name for name in found if not isinstance(found[name][half], Bound)), key=lambda n: found[n][half].score)


def _is_tested(candidate: Candidate, dims: tuple[int, int]) -> bool:
    """Whether a candidate is part of the test's statistic.

    It must not depend on the pairing of the rows that are tested: networks are part of it where they are always fitted.
    """
    if candidate.family == "learned" and max(dims) <= MAX_DIMS:
        return False
    return candidate.tests_dependence and (candidate.family not in ("polar", "pairs") or max(dims) > 2)


def _interval(selection: Selection, level: float) -> tuple[float, float]:
    """Noise, doubt about the bias, and, upwards, what the projection missed.

    The bias that was not corrected moves with k: estimates at k and at 4 k that differ by more than their noise are
    both off, the first by about as much as they differ. A negative bias was added for: downwards it may be all wrong.
    Upwards, a fall from k to 4 k beyond the bias may be missing at k as well (clusters finer than 4 k neighbours).
    """
    from scipy.stats import norm

    noise = float(norm.ppf((1 + level) / 2)) * selection.se
    moved = abs(selection.value_at_more_k - selection.value) - selection.se_of_change
    doubt = max(selection.doubt, moved)
    low = selection.value - noise - max(doubt, -selection.bias)
    missing = max(doubt, selection.raw_fall - abs(selection.bias))
    return low, selection.value + noise + missing + selection.projection_gap


def _independence_test(
    tested: Sequence[Candidate], k: int, permutations: int, rng: np.random.Generator
) -> PermutationTest:
    """Mean estimate and p-value over derangements of the second half, the projections fitted on the first as they are.

    The statistic is the sum over a few candidates, the same ones whatever their values. One half, and no choice: so
    the rows that are re-paired had no part in anything, and p is exact. (Estimates of both halves, each through what
    was fitted on the other, are tied to each other: p < .05 came up in 13% of independent samples of 2 + 2 dimensions,
    and in 8% of all when each half used the candidate that the other preferred.)
    """
    n = min(NULL_ROWS, len(tested[0].rows))
    rows = tested[0].dependent.take(np.arange(n))
    partners = np.stack([rows.derangement(rng) for _ in range(permutations)])
    sides = [tuple(np.ascontiguousarray(side[:n]) for side in candidate.sides) for candidate in tested]
    observed = sum(float(ksg_pointwise(u, v, k, rows=rows).mean()) for u, v in sides)
    null = np.sum([null_values(u, v, k, partners, rows=rows) for u, v in sides], axis=0)
    return PermutationTest(float(null.mean()) / len(sides), p_value(observed, null))


def _cautions(selection: Selection, k: int, n: int, dims: tuple[int, int], networks: bool) -> tuple[Caution, ...]:
    value, widest = selection.value, max(dims)
    found = [*_cautions_of_projection(selection)]
    if widest > MAX_DIMS and not networks:
        text = "only linear projections were tried: dependence without correlation is missed"
        found.append(Caution("linear-only", text))
    if n < ROWS_PER_DIMENSION * widest:
        text = f"n = {n} rows are few for {widest} dimensions: projections fitted on half of them miss much"
        found.append(Caution("few-rows-for-dimensions", text, {"n": n, "dims": widest}))
    if n < FEW_ROWS:
        text = f"n = {n} rows are few: below {FEW_ROWS} expect an error of a tenth of a nat"
        found.append(Caution("few-rows", text, {"n": n, "threshold": FEW_ROWS}))
    if max(abs(selection.bias), abs(selection.raw_change)) > max(0.1, 0.1 * abs(value)):
        text = (
            f"a bias of {selection.bias:+.3f} nats was subtracted, by how the estimate changes with k "
            f"({selection.raw_change:+.3f} nats from k to 4 k): it depends on that"
        )
        found.append(Caution("bias-correction", text, {"bias": selection.bias, "change": selection.raw_change}))
    return (*found, *_cautions_of_size(selection, k, n), *_halves_disagree(selection), *_over_k(selection, k))


def _cautions_of_projection(selection: Selection) -> tuple[Caution, ...]:
    found: tuple[Caution, ...] = ()
    gap = selection.projection_gap
    if gap > max(0.03, 0.05 * abs(selection.value)):
        text = f"the projections, fitted on half of the rows, may miss about {gap:.2f} nats; use more rows"
        found += (Caution("projection-gap", text, {"gap": gap}),)
    if any(half.tail_columns for half in selection.halves):
        text = "canonical pairs beyond the fourth are assumed to be Gaussian, as the first four were found to be"
        found += (Caution("gaussian-tail", text),)
    return found


def _cautions_of_size(selection: Selection, k: int, n: int) -> tuple[Caution, ...]:
    from scipy.special import digamma

    reach = float(digamma(n // 2) - digamma(k))
    if selection.value <= NEAR * reach:
        return ()
    text = f"the dependence is near the largest that {n} rows can show (about {reach:.1f} nats)"
    return (Caution("near-ceiling", text, {"n": n, "value": selection.value, "ceiling": reach}),)


def _halves_disagree(selection: Selection) -> tuple[Caution, ...]:
    first, second = (half.value if selection.projected else half.score for half in selection.halves)
    if abs(first - second) <= max(0.05, 5 * selection.se):
        return ()
    text = f"the two halves disagree: {first:.3f} and {second:.3f}"
    return (Caution("halves-disagree", text, {"first": first, "second": second}),)


def _fine_waves(selection: Selection, samples: Samples) -> tuple[Caution, ...]:
    """Waves that neither neighbours nor a wave of one length follow."""
    if max(samples.dims) > MAX_DIMS or samples.raw is None:
        return ()
    x, y = samples.x, samples.y
    wave = next((half for half in selection.halves if half.family == "waves"), None)
    if wave is not None:  # does it leave any?
        for u, v in zip(*(side.T for side in wave.project(np.arange(len(x)))), strict=True):
            x, y = less_mean_along(v, x), less_mean_along(u, y)
    found = unresolved(*samples.raw, x, y, samples.seed)
    if found is None:
        return ()
    side, column = found
    other = "y" if side == "x" else "x"
    text = (
        f"{other} moves with column {column} of {side} in waves too short for nearest neighbours, whose length changes "
        f"along the column: the estimate misses them and is too low; transform the column so that they repeat at equal "
        "distances, or give many more rows"
    )
    return (Caution("fine-waves", text, {"column": column}),)


def _over_k(selection: Selection, k: int) -> tuple[Caution, ...]:
    return disagreement(selection.value, selection.value_at_more_k, k, selection.se)


def _reason(selection: Selection) -> str:
    """What was chosen, over the best candidate of each other family with its score."""
    average = {name: float(np.mean([c.score for c in both])) for name, both in selection.candidates.items()}
    best: dict[str, str] = {}
    for name in sorted(average, key=lambda name: average[name]):
        best[selection.candidates[name][0].family] = name
    others = [f"{name} {average[name]:.3f}" for name in best.values() if name not in selection.chosen]
    return " and ".join(selection.chosen) + (f" over {', '.join(others)}" if others else "")
