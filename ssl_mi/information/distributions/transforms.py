"""Maps that make a distribution hard and leave its mutual information alone.

I(f(X); g(Y)) = I(X; Y) whenever f and g are invertible (data processing, both ways). `Transformed` applies
such maps row by row and inherits the truth of the distribution underneath; `Embedded` hides it among nuisance
dimensions that carry nothing.

The shapes of the maps (half-cube, wiggle, spiral, Swiss roll, bimodal margins) are those of Czyz et al. 2023
(arXiv 2306.11078, section 3 and appendix), so that results can be held against the Beyond Normal benchmark.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from ssl_mi.information.distributions.families import Distribution

Map = Callable[[np.ndarray], np.ndarray]  # [n, d] -> [n, d'], invertible


class Transformed:
    """(f(X), g(Y)): the MI of `base`, because `x` and `y` are invertible. None leaves a side alone.

    Args:
        base: the distribution of (X, Y).
        x: f, invertible, [n, dim_x] -> [n, d]; None for X itself.
        y: g, invertible, [n, dim_y] -> [n, d']; None for Y itself.

    Example:
        >>> import numpy as np
        >>> from ssl_mi.information.distributions import correlated_gaussian
        >>> round(Transformed(correlated_gaussian(0.6), y=np.exp).mi, 4)  # that of the Gaussian
        0.2231
    """

    def __init__(self, base: Distribution, x: Map | None = None, y: Map | None = None) -> None:
        self.base = base
        self.x, self.y = x or _identity, y or _identity
        # Maps may change the dimension (a Swiss roll does); ask them with a few rows rather than trust a number.
        a, b = self.sample(3, np.random.default_rng(0))
        self.dim_x, self.dim_y = a.shape[1], b.shape[1]

    @property
    def mi(self) -> float:
        return self.base.mi

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x, y = self.base.sample(n, rng)
        return self.x(x), self.y(y)


class Embedded:
    """`base` in `dim_x` + `dim_y` dimensions: nuisance coordinates join it and everything is mixed.

    X' = M_x (X, N_x), N_x ~ N(0, noise^2) independent of all else, M_x a fixed orthogonal matrix drawn with
    `seed`; likewise Y'. With `layers` > 0 the mixture passes through that many rounds of sinh-arcsinh-like
    bending (t -> asinh(2 t)) and rotation. All invertible, so I(X'; Y') = I(X; Y), however deep it lies.

    Args:
        base: the distribution of the signal.
        dim_x: coordinates of X', at least those of X.
        dim_y: coordinates of Y', at least those of Y.
        noise: standard deviation of the nuisance coordinates.
        layers: rounds of bending and rotation.
        seed: of the rotations.

    Raises:
        ValueError: if the dimensions cannot hold the base, or a coordinate would be constant.
    """

    def __init__(
        self, base: Distribution, dim_x: int, dim_y: int, noise: float = 1.0, layers: int = 0, seed: int = 0
    ) -> None:
        if dim_x < base.dim_x or dim_y < base.dim_y:
            raise ValueError(
                f"({dim_x}, {dim_y}) dimensions cannot hold a base of ({base.dim_x}, {base.dim_y}); give more"
            )
        if noise < 0 or (noise == 0 and (dim_x, dim_y) != (base.dim_x, base.dim_y)):
            raise ValueError(f"noise must be positive so that no coordinate is constant, got {noise}")
        self.base, self.dim_x, self.dim_y, self.noise = base, dim_x, dim_y, noise
        rng = np.random.default_rng(seed)
        self._mix_x = [_rotation(dim_x, rng) for _ in range(layers + 1)]
        self._mix_y = [_rotation(dim_y, rng) for _ in range(layers + 1)]

    @property
    def mi(self) -> float:
        return self.base.mi

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x, y = self.base.sample(n, rng)
        x = np.hstack([x, self.noise * rng.standard_normal((n, self.dim_x - x.shape[1]))])
        y = np.hstack([y, self.noise * rng.standard_normal((n, self.dim_y - y.shape[1]))])
        return _mix(x, self._mix_x), _mix(y, self._mix_y)


# ---------------------------------------------------------------------------------- coordinate by coordinate


def asinh(x: np.ndarray) -> np.ndarray:
    """log(x + sqrt(x^2 + 1)): shortens the tails of a Student-t."""
    return np.arcsinh(x)


def half_cube(x: np.ndarray) -> np.ndarray:
    """sign(x) |x|^(3/2): lengthens tails, and has slope 0 at the origin."""
    return x * np.sqrt(np.abs(x))


def normal_cdf(x: np.ndarray) -> np.ndarray:
    """Phi(x): standard normal margins become uniform ones."""
    return special.ndtr(x)


def wiggle_x(x: np.ndarray) -> np.ndarray:
    """x plus three sines, still strictly increasing (slope at least 1 - .4 - .34 - .099 > 0)."""
    return x + 0.4 * np.sin(x) + 0.2 * np.sin(1.7 * x + 1) + 0.03 * np.sin(3.3 * x - 2.5)


def wiggle_y(y: np.ndarray) -> np.ndarray:
    """The sister of `wiggle_x` for Y (slope at least 1 - .16 - .221 - .086 > 0)."""
    return y - 0.4 * np.sin(0.4 * y) + 0.17 * np.sin(1.3 * y + 3.5) + 0.02 * np.sin(4.3 * y - 2.5)


@dataclass(frozen=True)
class MixtureQuantile:
    """Inverse CDF of sum_k weights_k N(means_k, 1): uniform margins become margins with several modes."""

    weights: tuple[float, ...]
    means: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.means) or not math.isclose(sum(self.weights), 1):
            raise ValueError(f"weights {self.weights} must sum to 1, one for each of means {self.means}")

    def __call__(self, u: np.ndarray) -> np.ndarray:
        if not ((u > 0) & (u < 1)).all():
            raise ValueError("u must lie strictly between 0 and 1; apply normal_cdf first")
        # The quantile of a mixture lies between the least and the greatest quantile of its components.
        low, high = special.ndtri(u) + min(self.means), special.ndtri(u) + max(self.means)
        for _ in range(60):  # bisection down to the last float64 bits
            middle = (low + high) / 2
            below = sum(w * special.ndtr(middle - m) for w, m in zip(self.weights, self.means, strict=True)) < u
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2


# ------------------------------------------------------------------------------------- between coordinates


@dataclass(frozen=True)
class Spiral:
    """x -> R(speed ||x||^2) x, R a rotation in the plane of coordinates `i` and `j`.

    The norm stays, so the map is invertible (turn back by the same angle); it preserves volume too.
    """

    i: int
    j: int
    speed: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if max(self.i, self.j) >= x.shape[1] or self.i == self.j:
            raise ValueError(f"a spiral in the plane ({self.i}, {self.j}) needs those coordinates, got {x.shape}")
        angle = self.speed * np.sum(x**2, axis=1)
        a, b = x[:, self.i], x[:, self.j]
        turned = x.copy()
        turned[:, self.i] = np.cos(angle) * a - np.sin(angle) * b
        turned[:, self.j] = np.sin(angle) * a + np.cos(angle) * b
        return turned


def swiss_roll(u: np.ndarray) -> np.ndarray:
    """u in [0, 1] -> (t cos t, t sin t) / 21 with t = 3 pi/2 (1 + 2u): a line rolled up in the plane."""
    if u.shape[1] != 1:
        raise ValueError(f"swiss_roll takes one coordinate, got shape {u.shape}")
    t = 1.5 * math.pi * (1 + 2 * u)
    return np.hstack([t * np.cos(t), t * np.sin(t)]) / 21


@dataclass(frozen=True)
class Rotation:
    """x -> x Q, Q a random orthogonal matrix of `dim` drawn with `seed` (Haar measure)."""

    dim: int
    seed: int = 0

    @cached_property
    def matrix(self) -> np.ndarray:
        return _rotation(self.dim, np.random.default_rng(self.seed))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x @ self.matrix


def compose(*maps: Map) -> Map:
    """compose(f, g)(x) = f(g(x)): the last is applied first, as it is written."""

    def composed(x: np.ndarray) -> np.ndarray:
        for each in reversed(maps):
            x = each(x)
        return x

    return composed


def _identity(x: np.ndarray) -> np.ndarray:
    return x


def _rotation(dim: int, rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((dim, dim)))
    return q * np.sign(np.diag(r))  # without the signs the QR convention would bias the draw


def _mix(z: np.ndarray, rotations: list[np.ndarray]) -> np.ndarray:
    z = z @ rotations[0]
    for rotation in rotations[1:]:
        z = np.arcsinh(2 * z) @ rotation
    return z
