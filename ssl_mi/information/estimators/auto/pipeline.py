"""The default estimator: looks at the samples, chooses how to read them, and says what it chose.

Symbols on both sides are counted (`discrete`), symbols on one side go to Ross's estimator
(`knn.mixed_ksg_ross`), everything else is read as continuous:

1. Each coordinate goes through its ranks to the standard normal, ties broken at random. Neither loses
   information, and long tails, units, rounding and atoms are gone.
2. The rows are cut in two halves. Projections are fitted on one half and read on the other, both ways round:
   none (up to 4 dimensions a side), canonical correlation analysis to 1..4 dimensions, networks to 1..4.
3. Every candidate is read by KSG. Its bias, which grows with dimension and dependence, is measured on Gaussian
   twins (same n, same covariance, mutual information known) and taken off.
4. Each half is read through the candidate that read most on the *other* half, before anything was added for a
   negative bias. The largest of several noisy readings would be too large; a choice made elsewhere leaves the
   reading fair.
5. The interval holds the noise, the part of the bias that moves with k, downwards what was added for a negative
   bias, and upwards what the projections promised on the rows they were fitted on beyond what they kept on others.

By data processing each candidate bounds I(x; y) from below, up to the bias left in step 3.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import standardize
from ssl_mi.information.core.knn_inputs import MAX_DIMS, prepare
from ssl_mi.information.estimators.auto import candidates
from ssl_mi.information.estimators.auto.candidates import Reading
from ssl_mi.information.estimators.auto.categorical import one_symbol, symbols, two_symbols
from ssl_mi.information.estimators.gaussian import rank_gaussianize
from ssl_mi.information.estimators.ksg import ksg_pointwise, null_values
from ssl_mi.information.inference.uncertainty import derangement, disagreement

FEWEST_ROWS = 40
LEARNING_ROWS = 500  # of a half; networks learn nothing from fewer
TESTED = ("direct", "CCA(1)", "learned(1)")  # for dependence; what is shared shows in the first dimension
NULL_ROWS = 3000  # enough to tell dependence from none, and cheap enough to permute often
FEW_ROWS = 1000
MORE = 4  # times k, for a second look


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
    trusted = {"level": level, "permutations": permutations, "seed": seed}
    if codes_x is not None and codes_y is not None:
        answer = two_symbols(codes_x, codes_y, **trusted)
    elif codes_x is not None:
        answer = one_symbol(y, codes_x, k, ("y", "x"), labels=x, **trusted)
        answer = replace(answer, dims=answer.dims[::-1])
    elif codes_y is not None:
        answer = one_symbol(x, codes_y, k, ("x", "y"), labels=y, **trusted)
    else:
        answer = _continuous(x, y, k, learned, level, permutations, seed)
    for name, codes in (("x", codes_x), ("y", codes_y)):
        if codes is not None and not codes.any():
            nothing = f"{name} is the same in every row: there is nothing to share"
            answer = replace(answer, warnings=(*answer.warnings, nothing))
    return replace(answer, seconds=time.perf_counter() - started)


# --- continuous on both sides ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What was read: every candidate on both halves, which one each half was read through, and those readings."""

    candidates: dict[str, list[Reading]]
    chosen: tuple[str, str]
    parts: tuple[Reading, ...]  # of the two halves; or one of all rows, where nothing was projected
    more: tuple[Reading, ...]  # the same at more neighbours
    halves: tuple[Reading, Reading]

    @property
    def value(self) -> float:
        return float(np.mean([part.value for part in self.parts]))

    @property
    def bias(self) -> float:
        return float(np.mean([part.bias for part in self.parts]))

    @property
    def at_more(self) -> float:
        return float(np.mean([part.value for part in self.more]))

    @property
    def se(self) -> float:
        """Noise of the rows and of the twins."""
        return float(np.sqrt(sum(part.variance + part.bias_variance for part in self.parts))) / len(self.parts)

    @property
    def se_of_more(self) -> float:
        """Noise of `at_more - value`: that of the rows is mostly shared."""
        pairs = zip(self.parts, self.more, strict=True)
        apart = [
            np.var(b.pointwise - a.pointwise, ddof=1) / len(a.u) + a.bias_variance + b.bias_variance for a, b in pairs
        ]
        return float(np.sqrt(sum(apart))) / len(self.parts)

    @property
    def missed(self) -> float:
        """Nats that projections fitted on half of the rows may have missed: by the readiest of the families."""
        best = [np.mean([max(nested, key=lambda r: r.score).promise for nested in halves]) for halves in self.families]
        return max(0.0, float(max(best, default=self.value)) - self.value)

    @property
    def families(self) -> list[list[list[Reading]]]:
        """For each family of projections, its nested readings of the first half and of the second."""
        found = []
        for family in ("CCA", "learned"):
            of_family = [both for name, both in self.candidates.items() if name.startswith(family)]
            found += [[list(readings) for readings in zip(*of_family, strict=True)]] if of_family else []
        return found


def _look(x, y, halves, k, networks, seed) -> Look:
    found = candidates.read_candidates(x, y, halves, k, networks, seed)
    best = [max(found, key=lambda name: found[name][half].score) for half in (0, 1)]
    chosen = best[1], best[0]  # each half is read as the other half prefers
    both = tuple(found[chosen[half]][half] for half in (0, 1))
    parts = (candidates.read(x, y, k, seed),) if chosen == ("direct", "direct") else both
    return Look(found, chosen, parts, tuple(part.again(MORE * k) for part in parts), both)


def _continuous(x, y, k, learned, level, permutations, seed) -> Estimate:
    a, b, warnings = prepare(x, y, standardized=False, duplicates="drop", dequantized=False, seed=seed)
    warnings = tuple(w for w in warnings if "ties" not in w)  # the ranks see to them
    warnings += standardize(a)[2] + standardize(b)[2]  # for what they say of constant columns
    n = a.n
    if n < FEWEST_ROWS:
        raise ValueError(f"x and y have n={n} rows: fitting on half and reading half needs {FEWEST_ROWS}; use ksg")
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    halves = order[: n // 2], order[n // 2 :]
    x, y = rank_gaussianize(a, rng=rng), rank_gaussianize(b, rng=rng)
    networks = learned and n // 2 >= LEARNING_ROWS and max(a.d, b.d) > 1
    look = _look(x, y, halves, k, networks, seed)
    null, p_value = _null(look.candidates, k, permutations, rng) if permutations else (None, None)
    kept = sorted(set(look.chosen))
    return Estimate(
        value=look.value,
        kind="point estimate" if kept == ["direct"] else "lower bound",
        se=look.se,
        ci=_interval(look, level),
        ci_level=level,
        p_value=p_value,
        null=null,
        n=n,
        dims=(a.d, b.d),
        projection=None if kept == ["direct"] else " and ".join(kept) + ", cross-fitted",
        estimator="mutual_information",
        settings={"k": k, "seed": seed, "chosen": _why(look.candidates, kept)},
        warnings=warnings + _warnings(look, k, n, (a.d, b.d), networks),
    )


def _interval(look: Look, level: float) -> tuple[float, float]:
    """Noise, doubt about the bias, and, upwards, what the projection missed.

    The bias that twins can not show moves with k: readings at k and at 4k that differ by more than their noise are
    both off, the first by about as much as they differ. A negative bias was added for: downwards it is not counted.
    """
    from scipy.stats import norm

    noise = float(norm.ppf((1 + level) / 2)) * look.se
    noise += max(0.0, abs(look.at_more - look.value) - look.se_of_more)
    low = look.value - noise - max(abs(look.bias) / 4, -look.bias)
    return low, look.value + noise + abs(look.bias) / 4 + look.missed


def _null(found: dict[str, list[Reading]], k: int, permutations: int, rng) -> tuple[float, float]:
    """Mean reading and p-value over derangements of the second half, the projections fitted on the first as they are.

    The statistic is the sum of a few candidates' readings, the same ones whatever they read. One half, and no choice:
    so the rows that are re-paired had no part in anything, and p is exact. (Readings of both halves, each through
    what was fitted on the other, are tied to each other: p < .05 came up in 13% of independent samples of 2 + 2
    dimensions, and in 8% of all when each half was read through what the other liked best.)
    """
    readings = [found[name][1] for name in TESTED if name in found]
    n = min(NULL_ROWS, len(readings[0].u))
    partners = np.stack([derangement(n, rng) for _ in range(permutations)])
    sides = [(reading.u[:n], reading.v[:n]) for reading in readings]
    observed = sum(ksg_pointwise(u, v, k).mean() for u, v in sides)
    null = sum(null_values(u, v, k, partners) for u, v in sides)
    return float(null.mean()) / len(sides), float(1 + (null >= observed).sum()) / (1 + permutations)


def _warnings(look: Look, k: int, n: int, dims: tuple[int, int], networks: bool) -> tuple[str, ...]:
    from scipy.special import digamma

    found = []
    if look.missed > max(0.03, 0.05 * abs(look.value)):
        found.append(f"projections fitted on half of the rows may miss {look.missed:.2f} nats: more rows would tell")
    if any("Gaussian" in name for name in look.chosen):
        found.append("canonical pairs beyond the fourth are taken to be Gaussian, as the first four were found to be")
    if max(dims) > MAX_DIMS and not networks:
        found.append("only linear projections were tried: dependence without correlation is missed")
    if n < 10 * max(dims):
        found.append(f"n = {n} rows are few for {max(dims)} dimensions: projections fitted on half of them miss much")
    if n < FEW_ROWS:
        found.append(f"n = {n} rows are few: below {FEW_ROWS} expect to be off by a tenth of a nat")
    if abs(look.bias) > max(0.05, 0.05 * abs(look.value)):
        found.append(f"KSG's bias was taken to be {look.bias:+.3f}, as for Gaussians: the value rests on that")
    if look.value > 0.6 * (digamma(n // 2) - digamma(k)):
        found.append(f"the dependence is near what {n} rows can show (about {digamma(n // 2) - digamma(k):.1f} nats)")
    first, second = (half.value for half in look.halves)
    if abs(first - second) > max(0.05, 5 * look.se):
        found.append(f"the two halves disagree: {first:.3f} and {second:.3f}")
    return (*found, *disagreement(look.value, look.at_more, k, look.se))


def _why(readings, kept) -> str:
    """The best reading of each family, and which was kept."""
    average = {name: float(np.mean([r.value for r in both])) for name, both in readings.items()}
    best: dict[str, str] = {}
    for name in sorted(average, key=average.get):
        best[name.split("(")[0]] = name
    others = [f"{name} {average[name]:.3f}" for name in best.values() if name not in kept]
    return " and ".join(kept) + (f" over {', '.join(others)}" if others else "")
