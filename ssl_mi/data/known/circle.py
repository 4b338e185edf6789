"""An angle that each view turns by an amount of its own: rotation of a dial, cyclic shift of a texture.

theta uniform on the circle, u_v = theta + U(-delta, delta) independently: the difference u_1 - u_2 is triangular on
(-2 delta, 2 delta), and as long as 2 delta <= pi the triangle does not overlap itself around the circle. Then

    I(u_1; u_2) = ln 2 pi - h(triangle) = ln 2 pi - (1/2 + ln 2 delta) = ln(pi / delta) - 1/2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_mi.data.known.paint import anywhere, between, paint, tints
from ssl_mi.data.known.views import SHARED, KnownViews, Pairs, check_nats, check_size

FINEST = 0.02  # radians: 20 times the error with which the pictures give the angle back
GROUND = (0.0, 0.12)  # grey around the dial, darker than any of its colours


class Circle(KnownViews):
    """An angle that each view turns by an amount of its own. u_v is the point (cos, sin) of it: float32 [n, 2].

    Args:
        nats: I(V1; V2), which sets delta = pi exp(-nats - 1/2): from ln 2 - 1/2 = 0.193, where 2 delta = pi, to 4.55,
            where delta is 20 times the error with which 8-bit pictures give the angle back (rounding then costs less
            than 0.01 nats).
        size: Side of an image, 16 or more.
    """

    def __init__(self, nats: float = 2.0, size: int = 32) -> None:
        check_size(self.name, size, 16)
        check_nats(self.name, nats, math.log(2) - 0.5, math.log(math.pi / FINEST) - 0.5)
        self.size = size
        self.delta = math.pi * math.exp(-nats - 0.5)
        self.parts = {"angle": math.log(math.pi / self.delta) - 0.5}

    def latents(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        u = pairs.draws(SHARED).uniform(3)
        angle = 2 * math.pi * u[:, :1] + self.delta * (2 * u[:, 1:] - 1)
        first, second = (torch.stack([a.cos(), a.sin()], dim=1) for a in angle.unbind(1))
        return first, second

    def factors(self, u: Tensor) -> dict[str, Tensor]:
        return {"angle": u}


class Rotation(Circle):
    """A dial: a disc that goes from dark to light in the direction of the angle, on a darker ground.

    Nuisance: the dial's place, its dark and its light colour, the grey of the ground.

    Exact: inside the dial (all that is lighter than the ground) intensity is linear in the pixel's place, and its
    gradient points along the angle. Fitted to some 380 pixels, each rounded to 8 bits, it errs by less than 0.001.
    """

    name = "rotation"

    def render(self, u: Tensor, pairs: Pairs, view: int) -> Tensor:
        draws = pairs.draws(view)
        side = 2 * (11 * self.size // 32) + 1
        top, left = anywhere(draws, self.size, side)
        grid = torch.arange(self.size, device=u.device)
        radius = side // 2
        x, y = grid - (left + radius)[:, None], grid - (top + radius)[:, None]
        across = (u[:, :1] * x)[:, None, :] + (u[:, 1:] * y)[:, :, None]
        dial = (x.square()[:, None, :] + y.square()[:, :, None] <= radius**2)[:, None]
        dark, light = tints(draws)
        ground = (255 * between(GROUND, draws.uniform())).round().to(torch.uint8)[:, :, None, None]
        return torch.where(dial, paint(0.5 + across / (2 * radius), light, dark), ground)


class Shift(Circle):
    """A periodic texture, moved around from left to right by the angle: a cyclic shift.

    T(x, y) = 1/2 + a cos(x - u) + b cos(y - v) + c cos(2(x - u) + (y - v)), x and y in 0 .. 2 pi across the picture.
    Nuisance: its own cyclic shift v from top to bottom, its dark and its light colour.

    Exact: the Fourier coefficient of the intensity at frequency (1, 0) has the phase u, whatever the rest; from
    32 x 32 pixels rounded to 8 bits it errs by less than 0.001.
    """

    name = "shift"
    AMPLITUDES = (0.2, 0.15, 0.15)  # their sum is 1/2: T stays in [0, 1]

    def render(self, u: Tensor, pairs: Pairs, view: int) -> Tensor:
        draws = pairs.draws(view)
        grid = 2 * math.pi * (torch.arange(self.size, device=u.device) + 0.5) / self.size
        y = grid - 2 * math.pi * draws.uniform()
        x = grid - torch.atan2(u[:, 1:], u[:, :1])
        a, b, c = self.AMPLITUDES
        # cos(2x + y) = cos 2x cos y - sin 2x sin y: sines of rows and columns, not of every pixel.
        texture = a * x.cos()[:, None, :] + b * y.cos()[:, :, None] + 0.5
        texture = texture + c * (2 * x).cos()[:, None, :] * y.cos()[:, :, None]
        texture = texture - c * (2 * x).sin()[:, None, :] * y.sin()[:, :, None]
        dark, light = tints(draws)
        return paint(texture, light, dark)
