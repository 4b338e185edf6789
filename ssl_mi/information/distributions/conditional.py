"""The conditional suite: x and y that a third variable z moves, with known I(X; Y | Z).

    X = f(Z) + A,  Y = g(Z) + B,     A and B normal with correlation ρ, independent of Z

For every z the shift is an invertible map, so that I(X; Y | Z) = I(A; B) = -log(1 - ρ²) / 2 whatever f and g are. With
ρ = 0 all that X and Y share is given away by Z, which a test must not mistake for dependence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RHO = 0.6
MOST_GIVEN = 5
Shift = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # z [n, d] -> f(z) and g(z), [n] each


def _linear(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    along = z.sum(1) / math.sqrt(z.shape[1])
    return along, 1.5 * along


def _curved(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Waves along the sum of all columns, a square of the first and a wave of the last."""
    along = z.sum(1) / math.sqrt(z.shape[1])
    return np.sin(2 * along) + z[:, 0] ** 2 / 2, np.sin(2 * along) + 2 * np.cos(z[:, -1])


SHIFTS: dict[str, Shift] = {"linear": _linear, "curved": _curved}


@dataclass(frozen=True)
class ConditionalTask:
    """Samples (x, y, z) with a name and known I(X; Y | Z).

    Args:
        name: used in tables and files.
        title: for people.
        shift: z -> f(z) and g(z).
        dim_z: columns of z.
        rho: correlation of what z does not give.

    Example:
        >>> task = CONDITIONAL[0]
        >>> [part.shape for part in task.sample(10, np.random.default_rng(0))]
        [(10, 1), (10, 1), (10, 1)]
        >>> round(task.mi, 4)  # -log(1 - .36) / 2
        0.2231
    """

    name: str
    title: str
    shift: Shift
    dim_z: int
    rho: float

    @property
    def mi(self) -> float:
        """I(X; Y | Z) in nats, exact."""
        return -math.log1p(-(self.rho**2)) / 2

    @property
    def dims(self) -> tuple[int, int]:
        """Coordinates of X and of Y."""
        return 1, 1

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """n independent rows: float64 [n, 1], [n, 1] and [n, dim_z]."""
        z, (a, e) = rng.standard_normal((n, self.dim_z)), rng.standard_normal((2, n))
        f, g = self.shift(z)
        b = self.rho * a + math.sqrt(1 - self.rho**2) * e
        return (f + a)[:, None], (g + b)[:, None], z


def _tasks() -> tuple[ConditionalTask, ...]:
    return tuple(
        ConditionalTask(
            f"conditional-{shape}-{dim}{'' if rho else '-nothing'}",
            f"x and y given z of {dim}, {shape}{'' if rho else ', nothing beyond z'}",
            shift,
            dim,
            rho,
        )
        for rho in (RHO, 0.0)
        for shape, shift in SHIFTS.items()
        for dim in range(1, MOST_GIVEN + 1)
    )


CONDITIONAL: tuple[ConditionalTask, ...] = _tasks()
