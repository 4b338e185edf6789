"""Fine waves: y moves with cos(ω x - φ), in waves too short for nearest neighbours in x.

With s the scores of y, mean 0 and variance 1, the periodogram

    P(ω) = |Σ_i s_i exp(-i ω x_i)|² / n

is about exponential with mean 1 at any ω where x and y share nothing, and n R² / 2 where a wave explains a share R² of
the variance of y. A wave has one length in one coordinate only: x is tried in its own units and through powers and the
logarithm (`coordinates`). Not as ranks: those of n rows are up to 1 / 2√n off, which is more than a short wave.

Waves whose length changes from place to place in all of these (a chirp) are looked for in short stretches of the rows
(`unresolved`), in each of which they have one length. They are named, not estimated. What is no wave anywhere (a
staircase of random heights, noise that is a function of x) stays unseen.

References:
    Scargle 1982, ApJ 263, 835 (the periodogram at uneven places).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

BINS = 2**15  # of the range; the shortest wave has eight of them
FINER = 2  # frequencies for each whole number of waves over the range
FEWEST_WAVES = 8  # over the range; neighbours follow longer ones
SMALLEST_SHARE = 0.05  # of the variance of y, that is worth a candidate
CHANCE = 1e-6  # of any wave at all, where x and y share nothing
REACH = 4.0  # interquartile ranges from the median; rows further out are not looked at
CONTINUOUS = 0.9  # of the rows, that differ
REFINED = 33  # frequencies between two of the transform

STRETCHES = 10, 20  # at least and at most, of a column
STRETCH = 9.0  # times √n, rows of each: waves of as many rows as that are the shortest that neighbours follow
FEWEST_IN_STRETCH = 2  # waves; a cubic follows longer ones
FEWEST_ROWS = 100  # of a stretch
STRETCH_BINS = 2**13
PARTS = 50  # of the rows along a wave that was found
SIGMAS = 8.0  # of the sum over stretches, beyond chance
MEAN_OF_LARGEST, VARIANCE_OF_LARGEST = 0.5772, 1.6449  # of F exponential variables, the first less log F

Coordinate = Callable[[np.ndarray], np.ndarray]  # of one column

ANY_SIGN: dict[str, Coordinate] = {"itself": lambda raw: raw, "square": np.square}
ONE_SIGN: dict[str, Coordinate] = {
    "logarithm": lambda raw: np.log(np.abs(raw)),
    "root": lambda raw: np.sqrt(np.abs(raw)),
    "reciprocal": lambda raw: 1 / raw,
}
BOTH_SIGNS: dict[str, Coordinate] = {
    "root": lambda raw: np.sign(raw) * np.sqrt(np.abs(raw)),
    "signed square": lambda raw: raw * np.abs(raw),
}


def coordinates(raw: np.ndarray) -> dict[str, Coordinate]:
    """Those in which a column [n] is looked at: name -> coordinate."""
    one_sign = raw.min() > 0 or raw.max() < 0
    return {**ANY_SIGN, **(ONE_SIGN if one_sign else BOTH_SIGNS)}


class Wave(NamedTuple):
    """One wave in a column.

    Args:
        column: of the side that has it.
        coordinate: in which its length is the same everywhere.
        other: the column of the other side that moves with it.
        omega: 1 / units of the coordinate.
        phase: where it is largest.
        power: P.
        share: R².
    """

    column: int
    coordinate: Coordinate
    other: int
    omega: float
    phase: float
    power: float
    share: float


@dataclass(frozen=True)
class Line:
    """The strongest wave between two sides: in x where `of_x`, else in y.

    `significant` by the rows it was found on.
    """

    wave: Wave
    of_x: bool
    significant: bool

    def __call__(self, raw: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The wave of its side, and the column that moves with it: float64 [n, 1] each.

        Args:
            raw: the side that has the wave, float64 [n, d].
            other: normal scores of the other side, float64 [n, d'].
        """
        place = self.wave.coordinate(raw[:, [self.wave.column]])
        return np.cos(self.wave.omega * place - self.wave.phase), other[:, [self.wave.other]]


class _Peak(NamedTuple):
    """The most power in one coordinate of a column, `waves` over the range, with the column `other`."""

    power: float
    column: int
    coordinate: Coordinate
    other: int
    waves: float


@dataclass(frozen=True)
class Lines:
    """Several waves, each found in what those before it left."""

    lines: tuple[Line, ...]

    def __call__(
        self, x: np.ndarray, y: np.ndarray, scores_x: np.ndarray, scores_y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The waves beside the columns that move with them: float64 [n, lines] each.

        Args:
            x: float64 [n, dx], in units of their own.
            y: float64 [n, dy], likewise.
            scores_x: their normal scores.
            scores_y: those of y.
        """
        both = [line(x, scores_y) if line.of_x else line(y, scores_x)[::-1] for line in self.lines]
        u, v = (np.concatenate(side, 1) for side in zip(*both, strict=True))
        return u, v


def significant(
    x: np.ndarray, y: np.ndarray, scores_x: np.ndarray, scores_y: np.ndarray, most: int, anyway: bool = False
) -> Lines | None:
    """The strongest wave, the strongest in what it leaves, and so on, as long as chance does not make them.

    Args:
        x: float64 [n, dx], in units of their own.
        y: float64 [n, dy], likewise.
        scores_x: their normal scores.
        scores_y: those of y.
        most: waves.
        anyway: whether the first is returned even if chance may have made it.
    """
    lines: list[Line] = []
    left_x, left_y = scores_x, scores_y
    while len(lines) < most:
        line = strongest(x, y, left_x, left_y)
        if not (line.significant or (anyway and not lines)):
            break
        lines.append(line)
        u, v = Lines((line,))(x, y, scores_x, scores_y)
        left_x, left_y = (
            (left_x, less_mean_along(u[:, 0], left_y)) if line.of_x else (less_mean_along(v[:, 0], left_x), left_y)
        )
    return Lines(tuple(lines)) if lines else None


def strongest(x: np.ndarray, y: np.ndarray, left_x: np.ndarray, left_y: np.ndarray) -> Line:
    """The wave with the most power, in either side.

    Args:
        x: float64 [n, dx], in units of their own.
        y: float64 [n, dy], likewise.
        left_x: their normal scores, or what is left of them.
        left_y: those of y, likewise.
    """
    (of_x, long_x), (of_y, long_y) = _peaks(x, left_y), _peaks(y, left_x)
    peaks = of_x + of_y
    if not peaks:
        nothing = Wave(0, ANY_SIGN["itself"], 0, 0.0, 0.0, 0.0, 0.0)
        return Line(nothing, True, False)
    best = max(peaks, key=lambda peak: peak.power)
    in_x = best in of_x
    wave = _refined(*((x, left_y) if in_x else (y, left_x)), best)
    # On a grid (counts, with noise below one) long waves show once more as short ones, with less power.
    tried = len(peaks) * FINER * BINS // 8
    least = max(np.log(tried / CHANCE), long_x, long_y)
    # Refined by less than a wave, it may still be a long one where there is no short one.
    return Line(wave, in_x, bool(best.power > 0 and wave.power > least and wave.share > SMALLEST_SHARE))


def _peaks(raw: np.ndarray, others: np.ndarray) -> tuple[list[_Peak], float]:
    """The short wave with the most power in each coordinate of each column, and the largest power of a long one.

    Columns whose values repeat are left out.
    """
    found, longest = [], 0.0
    for column in range(raw.shape[1]):
        if not _continuous(raw[:, column]):
            continue
        for coordinate in coordinates(raw[:, column]).values():
            place = coordinate(raw[:, column])
            inside, start, width = _range(place)
            bins = np.minimum(((place[inside] - start) / width * BINS).astype(np.int64), BINS - 1)
            for other in range(others.shape[1]):
                transform = np.fft.rfft(np.bincount(bins, others[inside, other], BINS), FINER * BINS)
                power = np.abs(transform[: FINER * BINS // 8]) ** 2 / len(bins)
                longest = max(longest, float(power[1 : FINER * FEWEST_WAVES].max()))
                best = FINER * FEWEST_WAVES + int(power[FINER * FEWEST_WAVES :].argmax())
                found.append(_Peak(float(power[best]), column, coordinate, other, best / FINER))
    return found, longest


def _continuous(column: np.ndarray) -> bool:
    return len(np.unique(column)) >= CONTINUOUS * len(column)


def _range(raw: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Which rows are looked at, where they start, and over how wide a range."""
    low, middle, high = np.quantile(raw, [0.25, 0.5, 0.75])
    reach = REACH * (high - low) or np.inf
    start, stop = max(raw.min(), middle - reach), min(raw.max(), middle + reach)
    return np.flatnonzero((raw >= start) & (raw <= stop)), float(start), max(float(stop - start), 1e-300)


def _refined(raw: np.ndarray, scores: np.ndarray, peak: _Peak) -> Wave:
    """The best frequency near that of the peak, by sums over the rows themselves."""
    column, other = peak.column, peak.other
    place = peak.coordinate(raw[:, column])
    inside, start, width = _range(place)
    omegas = 2 * np.pi / width * (peak.waves + np.linspace(-1, 1, REFINED) / FINER)
    sums = np.exp(-1j * (place[inside, None] - start) * omegas).T @ scores[inside, other]
    best = int(np.abs(sums).argmax())
    power = float(np.abs(sums[best]) ** 2 / len(inside))
    # The sum at the best frequency points to exp(-i phase) of the rows counted from `start`.
    phase = float(-np.angle(sums[best]) + omegas[best] * start)
    return Wave(column, peak.coordinate, other, float(omegas[best]), phase, power, 2 * power / len(inside))


def unresolved(
    x: np.ndarray, y: np.ndarray, scores_x: np.ndarray, scores_y: np.ndarray, seed: int
) -> tuple[str, int] | None:
    """The side and column with fine waves whose length may change from place to place; None where there are none.

    A column is cut in stretches of neighbouring rows. In each, the other side less a local cubic has the largest
    of F ordinates of its periodogram; where x and y share no fine structure the sum of these over m stretches has mean
    m (log F + .577) and variance m π² / 6, whatever the distribution of x.

    Args:
        x: float64 [n, dx], in units of their own.
        y: float64 [n, dy], likewise.
        scores_x: their normal scores, or what a wave left of them.
        scores_y: those of y.
        seed: of the stretches that are looked at, of many.
    """
    for side, raw, others in (("x", x, scores_y), ("y", y, scores_x)):
        for column in range(raw.shape[1]):
            if _continuous(raw[:, column]) and _moves(raw[:, column], others, seed):
                return side, column
    return None


def less_mean_along(u: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Columns less their mean over rows of like u: u [n], scores [n, d] -> float64 [n, d]."""
    parts = np.array_split(np.argsort(u), min(PARTS, len(u)))
    left = scores.copy()
    for rows in parts:
        left[rows] -= scores[rows].mean(0)
    return left


def _moves(column: np.ndarray, others: np.ndarray, seed: int) -> bool:
    """Whether any column of the others moves with this one in fine waves, in most stretches of it."""
    size = min(int(STRETCH * np.sqrt(len(column))), len(column) // STRETCHES[0])
    if size < FEWEST_ROWS:
        return False
    stretches = len(column) // size
    rng = np.random.default_rng(seed)
    looked_at = np.sort(rng.permutation(stretches)[: STRETCHES[1]])
    order = np.argsort(column)[: stretches * size].reshape(stretches, size)[looked_at]
    largest = np.array([_largest(column[rows], others[rows]) for rows in order])  # [stretches, others]
    expected = np.log(STRETCH_BINS // 8) + MEAN_OF_LARGEST
    deviations = (largest - expected).sum(0) / np.sqrt(len(order) * VARIANCE_OF_LARGEST)
    most = np.median(largest, axis=0) > expected + 2 * np.sqrt(VARIANCE_OF_LARGEST)
    return bool((most & (deviations > SIGMAS)).any())


def _largest(place: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The largest ordinate of short waves in one stretch, of each of the others less a cubic in `place`: [d]."""
    along = (place - place[0]) / max(place[-1] - place[0], 1e-300)
    curve = np.vander(along, 4)
    left = others - curve @ np.linalg.lstsq(curve, others, rcond=None)[0]
    left = left / np.maximum(left.std(0), 1e-300)
    bins = np.minimum((along * STRETCH_BINS).astype(np.int64), STRETCH_BINS - 1)
    table = np.stack([np.bincount(bins, values, STRETCH_BINS) for values in left.T])
    power = np.abs(np.fft.rfft(table)[:, : STRETCH_BINS // 8]) ** 2 / len(along)
    long, short = (part.max(1) for part in (power[:, 1:FEWEST_IN_STRETCH], power[:, FEWEST_IN_STRETCH:]))
    return np.where(long > short, 0.0, short)
