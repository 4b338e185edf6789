"""Directions drawn from von Mises-Fisher around each other: the world of the cosine critic, SimCLR's unit test."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import gammaln, ive
from torch import Tensor

from ssl_mi.data.draws import Draws
from ssl_mi.data.images.shapes import colour
from ssl_mi.data.known.paint import anywhere, between, paint, place
from ssl_mi.data.known.views import SHARED, KnownViews, Pairs, check_nats, check_size

LARGEST = 1500.0  # kappa: at 1 / sqrt(kappa) = 0.026 the directions differ 20 times what a picture is unsure of


def vmf_nats(kappa: float, dim: int) -> float:
    """I(u_1; u_2) of u_1 uniform on the unit sphere of R^dim and u_2 | u_1 ~ vMF(u_1, kappa):

        ln(C_d(kappa) |S^(d-1)|) + kappa A_d(kappa),   A_d = I_(d/2)(kappa) / I_(d/2-1)(kappa),

    which for dim = 3 is ln(kappa / sinh kappa) + kappa coth kappa - 1. The critic kappa u_1 . u_2 is optimal.
    """
    order = dim / 2 - 1
    log_bessel = math.log(ive(order, kappa)) + kappa
    log_normaliser = order * math.log(kappa / 2) - gammaln(order + 1) - log_bessel
    return float(log_normaliser + kappa * ive(order + 1, kappa) / ive(order, kappa))


class Sphere(KnownViews):
    """A ball, lit from direction u_1 in one view and u_2 in the other: I = ln(k / sinh k) + k coth k - 1.

    A pixel's brightness is 1/2 + 0.45 phi . u, linear in u. For dim = 3, phi is the ball's normal: a shaded ball
    (half-Lambert, so that light from behind shows too). For larger dim, phi are d patterns of cosines on a square.
    Nuisance: place, hue and brightness of the ball, hue and brightness of the ground, which is darker.

    Exact: the ball is what is lighter than the ground; there brightness is a linear function of u with as many
    equations as pixels and d + 1 unknowns (u and the overall brightness, and |u| = 1). Least squares on pixels
    rounded to 8 bits errs by less than 0.002.

    Args:
        nats: I(V1; V2), which sets the concentration kappa; 0 to 7.
        dim: d of S^(d-1), 3 to 16.
        size: Side of an image, 16 or more.
    """

    name = "sphere"

    def __init__(self, nats: float = 2.0, dim: int = 3, size: int = 32) -> None:
        check_size(self.name, size, 16)
        if not 3 <= dim <= 16:
            raise ValueError(f"dim={dim}: directions in 3 to 16 dimensions can be shown (data=known/rotation is d = 2)")
        check_nats(f"{self.name} in {dim} dimensions", nats, 0.0, vmf_nats(LARGEST, dim))
        self.size, self.dim = size, dim
        # Below this kappa the nats are zero to 12 digits.
        smallest = 1e-6
        if nats <= vmf_nats(smallest, dim):
            self.kappa = smallest
        else:
            self.kappa = brentq(lambda kappa: vmf_nats(kappa, dim) - nats, smallest, LARGEST, xtol=1e-12)
        self.parts = {"direction": vmf_nats(self.kappa, dim)}
        self.patterns, self.inside = _patterns(dim, 2 * (11 * size // 32) + 1)
        self.quantiles = _cosine_quantiles(self.kappa, dim)

    def latents(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        first = torch.nn.functional.normalize(gaussians(pairs.draws(SHARED), self.dim), dim=1)
        cosine = self._cosines(pairs.draws(SHARED, 1).uniform())
        other = gaussians(pairs.draws(SHARED, 2), self.dim)
        tangent = other - (other * first).sum(1, keepdim=True) * first
        tangent = torch.nn.functional.normalize(tangent, dim=1)
        return first, cosine * first + (1 - cosine.square()).clamp_min(0).sqrt() * tangent

    def _cosines(self, uniform: Tensor) -> Tensor:
        """u_1 . u_2 by inversion: density proportional to (1 - w^2)^((d-3)/2) exp(kappa w)."""
        p = uniform.double()
        if self.dim == 3:  # in closed form
            k = self.kappa
            w = 1 + torch.log1p((p - 1) * -math.expm1(-2 * k)) / k if k > 1e-4 else 2 * p - 1
            return w.float()
        self.quantiles = self.quantiles.to(p.device)
        place = p * (len(self.quantiles) - 1)
        low = place.long()
        w = torch.lerp(self.quantiles[low], self.quantiles[low + 1], place - low)
        return w.float()

    def render(self, u: Tensor, pairs: Pairs, view: int) -> Tensor:
        draws = pairs.draws(view)
        self.patterns, self.inside = self.patterns.to(u.device), self.inside.to(u.device)
        brightness = torch.where(self.inside, 0.5 + 0.45 * torch.tensordot(u, self.patterns, 1), -1.0)
        brightness = place(brightness, *anywhere(draws, self.size, self.inside.shape[-1]), self.size, outside=-1.0)
        free = draws.uniform(4)
        ball = colour(between((0.85, 1.0), free[:, 0]), torch.full_like(free[:, 1], 0.15), 2 * math.pi * free[:, 1])
        ground = colour(between((0.02, 0.1), free[:, 2]), torch.full_like(free[:, 3], 0.02), 2 * math.pi * free[:, 3])
        shown = paint(0.2 + 0.6 * brightness, ball, torch.zeros_like(ball))
        ground = (255 * ground).round().to(torch.uint8)[:, :, None, None]
        return torch.where((brightness >= 0)[:, None], shown, ground)

    def factors(self, u: Tensor) -> dict[str, Tensor]:
        return {"direction": u}


def gaussians(draws: Draws, k: int) -> Tensor:
    """The next k standard normal numbers of every image, by Box and Muller: float32 [n, k]."""
    half = -(-k // 2)
    u = draws.uniform(2 * half).double()
    radius = torch.sqrt(-2 * torch.log1p(-u[:, :half]))
    angle = 2 * math.pi * u[:, half:]
    return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :k].float()


def _patterns(dim: int, side: int) -> tuple[Tensor, Tensor]:
    """phi [dim, side, side] with |phi(pixel)| <= 1, and the pixels that are shown, bool [side, side]."""
    radius = side // 2
    grid = torch.arange(-radius, radius + 1) / radius
    if dim == 3:
        x, y = grid[None, :].expand(side, side), grid[:, None].expand(side, side)
        squared = x.square() + y.square()
        return torch.stack([x, y, (1 - squared).clamp_min(0).sqrt()]), squared <= 1
    # The lowest frequencies of a cosine transform but the constant one, brought to |phi| <= 1.
    place = math.pi * (torch.arange(side) + 0.5) / side
    frequencies = sorted(((i, j) for i in range(8) for j in range(8) if i + j), key=lambda f: (sum(f), f))[:dim]
    waves = torch.stack([(j * place).cos()[:, None] * (i * place).cos()[None, :] for i, j in frequencies])
    return waves / waves.square().sum(0).max().sqrt(), torch.ones(side, side, dtype=torch.bool)


def _cosine_quantiles(kappa: float, dim: int, points: int = 2**14) -> Tensor:
    """Quantiles of w = u_1 . u_2 at equal steps of probability, float64 [points + 1]."""
    # In angles, sin^(d-2)(t) exp(kappa cos t): smooth at both ends.
    angle = np.linspace(0, math.pi, 2**17 + 1)
    with np.errstate(divide="ignore"):
        log_density = (dim - 2) * np.log(np.sin(angle)) + kappa * (np.cos(angle) - 1)
    density = np.exp(log_density - log_density[1:-1].max())
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    # Down from pi, so that probability rises with the cosine.
    below = 1 - mass[::-1] / mass[-1]
    quantile = np.interp(np.linspace(0, 1, points + 1), below, angle[::-1])
    return torch.from_numpy(np.cos(quantile))
