"""One number through additive or multiplicative noise.

References:
    Czyz, Grabowski, Vogt, Beerenwinkel & Marx 2023 "Beyond Normal", arXiv:2306.11078, appendix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ssl_mi.information.distributions.families.base import check_count, check_positive
from ssl_mi.information.distributions.families.gaussian import additive_gaussian

EULER_GAMMA = float(np.euler_gamma)


@dataclass(frozen=True)
class AdditiveUniform:
    """X ~ U(0, 1), Y = X + U(-epsilon, epsilon).

    I = epsilon - log(2 epsilon) for epsilon <= 1/2, else 1 / (4 epsilon)  (Czyz et al. 2023, appendix).

    Args:
        epsilon: half the width of the noise, positive.

    Example:
        >>> round(AdditiveUniform(0.5).mi, 4)  # 1 / (4 x 0.5)
        0.5
    """

    epsilon: float
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        check_positive("epsilon", self.epsilon)

    @property
    def mi(self) -> float:
        e = self.epsilon
        return e - math.log(2 * e) if e <= 0.5 else 1 / (4 * e)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.uniform(size=(check_count(n), 1))
        return x, x + rng.uniform(-self.epsilon, self.epsilon, size=(n, 1))

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # p(y | x) = 1 / 2e and p(y) = |[y - e, y + e] within [0, 1]| / 2e.
        reach = np.minimum(y + self.epsilon, 1) - np.maximum(y - self.epsilon, 0)
        return -np.log(reach[:, 0])


@dataclass(frozen=True)
class MultiplicativeUniform:
    """X ~ U(0, 1), Y = X U with U ~ U(0, 1): I(X; Y) is Euler's constant, 0.5772 nats.

    p(y | x) = 1/x on (0, x) and p(y) = -log y, so I = h(Y) - E[log X] = (gamma - 1) + 1.

    Example:
        >>> round(MultiplicativeUniform().mi, 4)  # Euler's constant
        0.5772
    """

    dim_x = dim_y = 1
    mi = EULER_GAMMA

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = 1 - rng.uniform(size=(check_count(n), 1))  # (0, 1]: a zero would have no logarithm
        return x, x * (1 - rng.uniform(size=(n, 1)))

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (-np.log(x) - np.log(-np.log(y)))[:, 0]


@dataclass(frozen=True)
class MultiplicativeLogNormal:
    """X and N log-normal, Y = X N^sigma: I = log(1 + 1/sigma^2) / 2, the Gaussian channel of the logarithms.

    Args:
        sigma: the exponent of the noise, positive.

    Example:
        >>> round(MultiplicativeLogNormal(1.0).mi, 4)  # log(2) / 2
        0.3466
    """

    sigma: float
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)

    @property
    def mi(self) -> float:
        return additive_gaussian(self.sigma).mi

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x, y = additive_gaussian(self.sigma).sample(n, rng)
        return np.exp(x), np.exp(y)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return additive_gaussian(self.sigma).pointwise(np.log(x), np.log(y))
