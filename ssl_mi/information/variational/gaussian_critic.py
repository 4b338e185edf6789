"""Beginning at the Gaussian answer: the canonical correlations that hold, and a critic that starts from them.

Jointly Gaussian rows, and after rank-normal margins all with a Gaussian copula, have the density ratio

    log r(x, y) = sum_i [ rho_i u_i v_i / (1 - rho_i^2) - rho_i^2 (u_i^2 + v_i^2) / (2 (1 - rho_i^2))
                          - log(1 - rho_i^2) / 2 ]

of their canonical coordinates u, v with correlations rho. That is in closed form; networks need thousands of rows to
find it anew, and find it badly. A bound holds for every critic, so a critic may begin there and learn the rest.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ssl_mi.information.estimators.gaussian import whiten
from ssl_mi.information.variational.critics import Critic, Pair, Separable

LARGEST = 1 - 1e-4  # of a correlation: beyond, float32 scores lose their digits


class GaussianStart(Critic):
    """T(x, y) = log r(x, y) + <g(x), h(y)> + a constant; <g, h> and the constant are learned.

    `begin` fits log r; without it, and at correlations of 0, the critic is a separable one that begins at 0.
    """

    name = "gaussian_start"
    description = (
        "the closed-form log ratio of a Gaussian plus a separable critic that learns the rest: correlation is right "
        "before the first step"
    )
    separable = True

    mean_x: Tensor
    mean_y: Tensor
    rho: Tensor
    weight_x: Tensor
    weight_y: Tensor

    def __init__(self, dim_x: int, dim_y: int, hidden: tuple[int, ...] = (128, 128), width: int = 32) -> None:
        super().__init__()
        self.rest = Separable(dim_x, dim_y, hidden, width)
        last = self.rest.h[-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.shift = nn.Parameter(torch.zeros(()))
        for name, value in (("mean_x", torch.zeros(dim_x)), ("mean_y", torch.zeros(dim_y)), ("rho", torch.zeros(0))):
            self.register_buffer(name, value)
        self.register_buffer("weight_x", torch.zeros(dim_x, 0))
        self.register_buffer("weight_y", torch.zeros(dim_y, 0))

    @torch.no_grad()
    def begin(self, fit: Pair, validation: Pair, offset: float = 0.0) -> None:
        """log r from the fit rows, with as many correlations as the validation rows confirm; plus `offset`."""
        x, y = (side.double().cpu().numpy() for side in fit)
        first, second = whiten(x), whiten(y)
        left, strength, right = np.linalg.svd(first.basis.T @ second.basis, full_matrices=False)
        root_n = math.sqrt(len(x))
        weights = (first.axes.T / first.scale @ left * root_n, second.axes.T / second.scale @ right.T * root_n)
        rho = torch.as_tensor(strength).clamp(max=LARGEST)
        u, v = (
            (side.double().cpu() - torch.as_tensor(white.mean)) @ torch.as_tensor(weight)
            for side, white, weight in zip(validation, (first, second), weights, strict=True)
        )
        kept = correlations_kept(u, v, rho)

        def like(values: np.ndarray | Tensor) -> Tensor:
            return torch.as_tensor(values, dtype=fit[0].dtype, device=fit[0].device)

        self.mean_x, self.mean_y, self.rho = like(first.mean), like(second.mean), like(rho[:kept])
        self.weight_x, self.weight_y = like(weights[0][:, :kept]), like(weights[1][:, :kept])
        self.shift.fill_(offset)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        u, v = (x - self.mean_x) @ self.weight_x, (y - self.mean_y) @ self.weight_y
        left_over = 1 - self.rho**2
        squares = self.rho**2 / (2 * left_over)
        constant = self.shift - 0.5 * left_over.log().sum()
        of_x, of_y = (u**2) @ squares, (v**2) @ squares
        return (u * self.rho / left_over) @ v.T - of_x[:, None] - of_y[None] + constant + self.rest(x, y)


def correlations_kept(u: Tensor, v: Tensor, rho: Tensor) -> int:
    """How many of the correlations `rho`, strongest first, to keep: the number of largest likelihood on these rows.

    u, v: [n, k] canonical coordinates of rows that had no part in finding them, rho: [k]. A correlation found where
    there is none costs on other rows what it gained on its own.
    """
    left_over = 1 - rho**2
    gain = (0.5 * v**2 - 0.5 * (v - rho * u) ** 2 / left_over - 0.5 * left_over.log()).mean(0)
    return int(torch.cat([gain.new_zeros(1), gain.cumsum(0)]).argmax())
