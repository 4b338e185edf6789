"""Y = f(X) + s(X) N: a curve with noise, I = h(Y) - E[log s(X)] - h(N) by quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ssl_mi.information.distributions.families.base import check_count

Curve = Callable[[np.ndarray], np.ndarray]
GRID_X, GRID_Y, REACH = 4000, 6001, 6.0  # an even number: no point at 0, where a step has no side


@dataclass(frozen=True)
class NoisyCurve:
    """X ~ N(0, 1), Y = curve(X) + scale(X) N(0, 1).

    p(y) and h(Y) are sums over grids (trapezoids, which converge fast for smooth densities).

    Args:
        curve: f, of an array.
        scale: s > 0, of an array.
    """

    curve: Curve
    scale: Curve
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        if not (self.scale(np.linspace(-REACH, REACH, 101)) > 0).all():
            raise ValueError("scale must be positive everywhere")

    @cached_property
    def _grid(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """x, its weight, f(x) and s(x)."""
        x = np.linspace(-REACH, REACH, GRID_X)
        weight = np.exp(-(x**2) / 2)
        return x, weight / weight.sum(), self.curve(x) + 0.0 * x, self.scale(x) + 0.0 * x

    @cached_property
    def mi(self) -> float:
        _, weight, centre, spread = self._grid
        # Points as dense as the narrowest noise near 0, and further apart where y is large.
        narrow, far = spread.min(), np.abs(centre) + 8 * spread
        place = np.linspace(-1.0, 1.0, GRID_Y) * np.arcsinh(far.max() / narrow)
        y, slope = narrow * np.sinh(place), narrow * np.cosh(place)
        density = self._density(y)
        entropy = -np.sum(density * np.log(np.maximum(density, 1e-300)) * slope) * (place[1] - place[0])
        return float(entropy - weight @ np.log(spread) - math.log(2 * math.pi * math.e) / 2)

    def _density(self, y: np.ndarray) -> np.ndarray:
        _, weight, centre, spread = self._grid
        parts = []
        for some in np.array_split(y, max(1, len(y) // 500)):
            z = (some[:, None] - centre) / spread
            parts.append(np.exp(-(z**2) / 2) @ (weight / spread))
        return np.concatenate(parts) / math.sqrt(2 * math.pi)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((check_count(n), 1))
        return x, self.curve(x) + self.scale(x) * rng.standard_normal((n, 1))

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        a, b = x[:, 0], y[:, 0]
        spread = self.scale(a) + 0.0 * a
        z = (b - self.curve(a)) / spread
        return -(z**2) / 2 - np.log(spread) - math.log(2 * math.pi) / 2 - np.log(self._density(b))
