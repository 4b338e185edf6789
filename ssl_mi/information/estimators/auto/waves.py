"""Fine waves: y moves with cos(ω x - φ), in waves too short for nearest neighbours in x.

With s the scores of y, mean 0 and variance 1, the periodogram

    P(ω) = |Σ_i s_i exp(-i ω x_i)|² / n

is about exponential with mean 1 at any ω where x and y share nothing, and n R² / 2 where a wave explains a share R² of
the variance of y. x is taken in its own units, up to shift and scale: among ranks a wave has no one length.

What does not repeat at equal distances (sin of a steep curve, noise that is a function of x) stays unseen.

References:
    Scargle 1982, ApJ 263, 835 (the periodogram at uneven places).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

BINS = 2**15  # of the range; the shortest wave has eight of them
FINER = 2  # frequencies for each whole number of waves over the range
FEWEST_WAVES = 8  # over the range; neighbours follow longer ones
SMALLEST_SHARE = 0.05  # of the variance of y, that is worth a candidate
CHANCE = 1e-4  # of any wave at all, where x and y share nothing
REACH = 4.0  # interquartile ranges from the median; rows further out are not looked at
CONTINUOUS = 0.9  # of the rows, that differ
REFINED = 33  # frequencies between two of the transform


class Wave(NamedTuple):
    """One wave in a column.

    Args:
        column: of the side that has it.
        other: the column of the other side that moves with it.
        omega: 1 / units of the column.
        phase: where it is largest.
        power: P.
        share: R².
    """

    column: int
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
            other: scores of the other, float64 [n, d'].
        """
        found = np.cos(self.wave.omega * raw[:, [self.wave.column]] - self.wave.phase)
        return found, other[:, [self.wave.other]]


def strongest(x: np.ndarray, y: np.ndarray, scores_x: np.ndarray, scores_y: np.ndarray) -> Line:
    """The wave with the most power, in either side.

    Args:
        x: float64 [n, dx], in units of their own.
        y: float64 [n, dy], likewise.
        scores_x: their normal scores.
        scores_y: those of y.
    """
    (of_x, long_x), (of_y, long_y) = _powers(x, scores_y), _powers(y, scores_x)
    raw, scores, powers = (x, scores_y, of_x) if of_x.max() >= of_y.max() else (y, scores_x, of_y)
    column, other, place = map(int, np.unravel_index(powers.argmax(), powers.shape))
    wave = _refined(raw[:, column], scores[:, other], column, other, place / FINER)
    # On a grid (counts, with noise below one) long waves show once more as short ones, with less power.
    least = max(np.log((of_x.size + of_y.size) / CHANCE), long_x, long_y)
    # Refined by less than a wave, it may still be a long one where there is no short one.
    found = bool(powers.max() > 0 and wave.power > least and wave.share > SMALLEST_SHARE)
    return Line(wave, raw is x, found)


def _powers(raw: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, float]:
    """P of each column of raw, each of scores and each frequency, and the largest of long waves.

    Shape [d, d', BINS FINER / 8]; 0 where waves are long, and in columns whose values repeat.
    """
    powers = np.zeros((raw.shape[1], scores.shape[1], FINER * BINS // 8))
    for column in range(raw.shape[1]):
        if len(np.unique(raw[:, column])) < CONTINUOUS * len(raw):
            continue
        inside, start, width = _range(raw[:, column])
        bins = np.minimum(((raw[inside, column] - start) / width * BINS).astype(np.int64), BINS - 1)
        for other in range(scores.shape[1]):
            transform = np.fft.rfft(np.bincount(bins, scores[inside, other], BINS), FINER * BINS)
            powers[column, other] = np.abs(transform[: powers.shape[2]]) ** 2 / len(bins)
    longest = float(powers[:, :, 1 : FINER * FEWEST_WAVES].max())
    powers[:, :, : FINER * FEWEST_WAVES] = 0.0
    return powers, longest


def _range(raw: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Which rows are looked at, where they start, and over how wide a range."""
    low, middle, high = np.quantile(raw, [0.25, 0.5, 0.75])
    reach = REACH * (high - low) or np.inf
    start, stop = max(raw.min(), middle - reach), min(raw.max(), middle + reach)
    return np.flatnonzero((raw >= start) & (raw <= stop)), float(start), max(float(stop - start), 1e-300)


def _refined(raw: np.ndarray, scores: np.ndarray, column: int, other: int, waves: float) -> Wave:
    """The best frequency near so many waves over the range, by sums over the rows themselves."""
    inside, start, width = _range(raw)
    omegas = 2 * np.pi / width * (waves + np.linspace(-1, 1, REFINED) / FINER)
    sums = np.exp(-1j * (raw[inside, None] - start) * omegas).T @ scores[inside]
    best = int(np.abs(sums).argmax())
    power = float(np.abs(sums[best]) ** 2 / len(inside))
    # The sum at the best frequency points to exp(-i phase) of the rows counted from `start`.
    phase = float(-np.angle(sums[best]) + omegas[best] * start)
    return Wave(column, other, float(omegas[best]), phase, power, 2 * power / len(inside))
