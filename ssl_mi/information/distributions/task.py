"""A distribution with a name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssl_mi.information.distributions import families as d
from ssl_mi.information.distributions import transforms as t


@dataclass(frozen=True)
class Task:
    """A distribution with a name (used in tables and files) and a title (for people).

    Args:
        name: used in tables and files.
        title: for people.
        distribution: samples the pairs, and has their I(X; Y).
    """

    name: str
    title: str
    distribution: d.Distribution

    @property
    def mi(self) -> float:
        """I(X; Y) in nats, exact."""
        return self.distribution.mi

    @property
    def dims(self) -> tuple[int, int]:
        """Coordinates of X and of Y."""
        return self.distribution.dim_x, self.distribution.dim_y

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """n independent pairs: float64 [n, dim_x] and [n, dim_y]."""
        return self.distribution.sample(n, rng)

    def through(self, prefix: str, title: str, x: t.Map, y: t.Map | None = None, dims: str = "") -> Task:
        """This task seen through invertible maps of X and (if given) Y, under a longer name."""
        name = f"{prefix}-{self.name}"
        return Task(name, dims or f"{title} @ {self.title}", t.Transformed(self.distribution, x, y))
