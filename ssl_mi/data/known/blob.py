"""A smooth blob whose position, size and colour are Gaussian latents."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_mi.data.images.shapes import colour
from ssl_mi.data.known.channel import integers
from ssl_mi.data.known.paint import between, paint
from ssl_mi.data.known.sphere import gaussians
from ssl_mi.data.known.views import SHARED, KnownViews, Pairs, check_nats, check_size

LATENTS = ("x", "y", "size", "colour")
MIDDLE = (0.34, 0.66)  # of the centre, in image widths
WIDTH = (0.055, 0.135)  # standard deviation of the blob, in image widths
HUE = (0.0, 1.2 * math.pi)  # red over green to blue: less than once around, so that the ends do not meet
FINEST = 0.1  # sqrt(1 - rho^2): more than five times the error with which the pictures give a latent back


class GaussianBlob(KnownViews):
    """Latents of both views with correlation rho, d of them: I = -(d/2) ln(1 - rho^2).

    z_1, z_2 standard normal with correlation rho, a pair for each of the latents that are `shared`; the others are
    drawn for each view alone. Each z goes through z / sqrt(1 + z^2 / 4), increasing and bounded, to the blob's x, y,
    size or hue: a Gaussian copula. (The distribution function in its place would be so flat in its tails that pixels
    could not distinguish them.) The picture is paper + exp(-r^2 / 2 s^2) (ink - paper). Nuisance: the grey of the
    paper, how bright the blob is.

    Exact: the logarithm of (picture - paper) is a quadratic function of the pixel's place, the same in every channel
    but for a constant; its coefficients are x, y and s, and the constants the hue. Fitted to pixels rounded to 8 bits,
    z comes back to within 0.02 for 95% of the pictures (x, y and colour to within 0.003).

    u_v is z_v: float32 [n, 4].

    Args:
        nats: I(V1; V2), which sets rho = sqrt(1 - exp(-2 nats / d)); 0 to d ln 10.
        shared: The latents with correlation rho, d of them.
        size: Side of an image, 24 or more.
    """

    name = "gaussian_blob"
    columns = LATENTS

    def __init__(self, nats: float = 2.0, shared: Sequence[str] = LATENTS, size: int = 32) -> None:
        check_size(self.name, size, 24)
        if unknown := [name for name in shared if name not in LATENTS]:
            raise ValueError(f"shared={list(shared)}: '{unknown[0]}' is none of {', '.join(LATENTS)}")
        d = len(set(shared))
        check_nats(f"{self.name} of {d} latents", nats, 0.0, d * math.log(1 / FINEST))
        self.size = size
        rho = math.sqrt(-math.expm1(-2 * nats / d)) if d else 0.0
        self.rho = torch.tensor([rho if name in shared else 0.0 for name in LATENTS])
        self.parts = {name: -math.log1p(-(rho**2)) / 2 if name in shared else 0.0 for name in LATENTS}

    def latents(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        self.rho = self.rho.to(pairs.index.device)
        z, other = gaussians(pairs.draws(SHARED), 8).chunk(2, dim=1)
        return z, self.rho * z + (1 - self.rho.square()).sqrt() * other

    def render(self, u: Tensor, pairs: Pairs, view: int) -> Tensor:
        p = 0.5 + u / (4 * (1 + u.square() / 4).sqrt())  # in (0, 1)
        x, y, s = between(MIDDLE, p[:, 0]), between(MIDDLE, p[:, 1]), between(WIDTH, p[:, 2])
        free = pairs.draws(view).uniform(2)
        ink = colour(between((0.55, 0.65), free[:, 0]), torch.full_like(x, 0.35), between(HUE, p[:, 3]))
        # A whole number of levels: a paper that is rounded would lift the blob by another fraction than its edges.
        paper = (integers(free[:, 1], 40) / 255)[:, None].expand(-1, 3)
        grid = (torch.arange(self.size, device=u.device) + 0.5) / self.size
        # A Gaussian is a product of one of the rows and one of the columns.
        columns = torch.exp(-((grid - x[:, None]) / s[:, None]).square() / 2)
        rows = torch.exp(-((grid - y[:, None]) / s[:, None]).square() / 2)
        return paint(rows[:, :, None] * columns[:, None, :], ink, paper)
