"""Mutual information by Monte Carlo of the exact log ratio: how the stored truths were made, and can be made again."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from ssl_mi.information.distributions.families.base import Distribution

ROWS = 2_000_000
CHUNK = 50_000


class WithRatio(Distribution, Protocol):
    """A distribution whose log density ratio is known at every pair."""

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """log p(x, y) / (p(x) p(y)), nats: [n]."""
        ...


def monte_carlo(distribution: WithRatio, rows: int = ROWS, seed: int = 0) -> tuple[float, float]:
    """I(X; Y) as the mean of log p(x, y) / (p(x) p(y)) over fresh rows, and its standard error, in nats.

    Args:
        distribution: with an exact `pointwise`.
        rows: drawn in all.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    total = square = 0.0
    done = 0
    while done < rows:
        n = min(CHUNK, rows - done)
        ratio = distribution.pointwise(*distribution.sample(n, rng))
        total, square, done = total + float(ratio.sum()), square + float((ratio**2).sum()), done + n
    mean = total / rows
    return mean, math.sqrt(max(square / rows - mean**2, 0.0) / rows)
