"""Critics: functions that score every pair, scores[i, j] = T(x_i, y_j).

    cosine      <x, y> / (|x| |y| temperature)       bounded: scores differ by at most 2/temperature
    bilinear    x^T W y                              needs standardised inputs
    separable   <g(x), h(y)>                         n + m network evaluations
    concat      t([x, y])                            n m evaluations; the most flexible

x: [n, dim_x], y: [m, dim_y] -> [n, m]. `score_range` is the largest difference between two scores,
which bounds what InfoNCE can read (see bounds.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


def mlp(dims: Sequence[int]) -> nn.Sequential:
    """Linear layers dims[0] -> ... -> dims[-1] with ReLU between."""
    layers: list[nn.Module] = []
    for i, o in pairwise(dims):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Cosine(nn.Module):
    """Cosine similarity over a temperature: Chen et al. 2020 (arXiv:2002.05709).

    learned=True makes log(1/temperature) a parameter, as in Radford et al. 2021 (arXiv:2103.00020,
    section 2.5), with the temperature kept at or above `minimum` so that it can not run away.
    """

    def __init__(self, temperature: float = 0.5, learned: bool = False, minimum: float = 0.01) -> None:
        super().__init__()
        if not temperature >= minimum > 0:
            raise ValueError(f"temperature must be at least minimum > 0, got {temperature} and {minimum}")
        self.minimum = minimum
        logit = torch.tensor(-math.log(temperature))
        if learned:
            self.log_inverse = nn.Parameter(logit)
        else:
            self.register_buffer("log_inverse", logit, persistent=False)

    @property
    def temperature(self) -> float:
        """The temperature; it can be set where it is not learned, which schedules do."""
        return 1 / self.inverse_temperature().detach().item()

    @temperature.setter
    def temperature(self, value: float) -> None:
        if isinstance(self.log_inverse, nn.Parameter):
            raise ValueError("the temperature is learned: set learned=false to fix or schedule it")
        if not value >= self.minimum:
            raise ValueError(f"temperature must be at least minimum={self.minimum}, got {value}")
        self.log_inverse.fill_(-math.log(value))

    def inverse_temperature(self) -> Tensor:
        return self.log_inverse.clamp(max=-math.log(self.minimum)).exp()

    @property
    def score_range(self) -> float:
        return 2 * self.inverse_temperature().detach().item()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        left = normalize(x, dim=1)
        right = left if y is x else normalize(y, dim=1)
        # The temperature divides the n rows, not the n m scores.
        return left * self.inverse_temperature().to(x.dtype) @ right.T


class Bilinear(nn.Module):
    """x^T W y: van den Oord et al. 2018 (arXiv:1807.03748), with log taken.

    W starts as the identity over sqrt(dim): where the two towers agree, so do the first scores.
    """

    score_range = math.inf

    def __init__(self, dim_x: int, dim_y: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(dim_x, dim_y) / math.sqrt(max(dim_x, dim_y)))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ self.weight @ y.T


class Separable(nn.Module):
    """<g(x), h(y)> with two networks: Poole et al. 2019 (arXiv:1905.06922), section 3."""

    score_range = math.inf

    def __init__(self, dim_x: int, dim_y: int, hidden: Sequence[int] = (256, 256), width: int = 32) -> None:
        super().__init__()
        self.g = mlp([dim_x, *hidden, width])
        self.h = mlp([dim_y, *hidden, width])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.g(x) @ self.h(y).T


class Concat(nn.Module):
    """t([x, y]) for every pair: the critic of Belghazi et al. 2018 (arXiv:1801.04062).

    The first layer is linear in [x, y], so it is applied to x and to y apart and added: n + m products
    instead of n m. Memory is n m times the first hidden width.
    """

    score_range = math.inf

    def __init__(self, dim_x: int, dim_y: int, hidden: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("concat needs at least one hidden layer: without one it can not join x and y")
        self.dim_x = dim_x
        self.first = nn.Linear(dim_x + dim_y, hidden[0])
        self.rest = nn.Sequential(nn.ReLU(), mlp([*hidden, 1]))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        of_x = linear(x, self.first.weight[:, : self.dim_x])
        of_y = linear(y, self.first.weight[:, self.dim_x :], self.first.bias)
        return self.rest(of_x[:, None] + of_y[None, :]).squeeze(-1)
