"""Coloured shapes drawn from known factors: a data set to train on with nothing to download.

One formula draws all six classes. A class is a number of points k and a ratio q of inner to outer radius:
its outline goes from the outer radius R at a point to the inner radius qR half-way to the next point.
q = cos(pi / k) gives the regular k-gon, smaller q a star; the disc is a 60-gon. The enclosed area is
k q R^2 sin(pi / k), and R is chosen so that the area is that of a disc of radius `size`: every class covers
the same area, so neither the mean nor the histogram of an image determines its class.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ssl_mi.data.images.memory import TensorImages
from ssl_mi.data.sets import ImageSet, Sets

# name -> (points, inner / outer radius)
CLASSES = {
    "disc": (60, math.cos(math.pi / 60)),
    "triangle": (3, math.cos(math.pi / 3)),
    "square": (4, math.cos(math.pi / 4)),
    "pentagon": (5, math.cos(math.pi / 5)),
    "four-pointed star": (4, 0.45),
    "five-pointed star": (5, 0.48),
}

SIZE = (0.15, 0.23)  # radius of the disc of equal area, in image widths
OFFSET = 0.10  # of the centre from the middle, each way: any shape of any size stays inside the image
TILT = math.radians(17)
DARK, LIGHT = (0.24, 0.42), (0.58, 0.76)
CHROMA = (0.10, 0.28)

# Two orthonormal directions of colour at constant mean intensity; the angle in this plane is the hue
# (0 is red, 120 degrees green, 240 degrees blue).
HUE_COS = (2 / math.sqrt(6), -1 / math.sqrt(6), -1 / math.sqrt(6))
HUE_SIN = (0.0, 1 / math.sqrt(2), -1 / math.sqrt(2))

_CHUNK = 256  # images drawn at a time, so that the working arrays stay in cache


def coverage(points: Tensor, ratio: Tensor, size: Tensor, x: Tensor, y: Tensor, tilt: Tensor, width: int) -> Tensor:
    """How much of each pixel the shape covers: float [n, width, width] in [0, 1].

    A pixel is covered by 1/2 - d, clamped to [0, 1], at a signed distance of d pixels from the outline.

    Args:
        points, ratio: Of the outline, `[n]` (see the module).
        size, x, y: Radius of the disc of equal area, and the centre: `[n]`, in image widths, y downwards.
        tilt: `[n]`, radians, clockwise.
        width: Side of the image, in pixels.
    """
    points, ratio, size, x, y, tilt = (value[:, None, None] for value in (points, ratio, size, x, y, tilt))
    grid = (torch.arange(width) + 0.5) / width
    dx, dy = grid[None, None, :] - x, grid[None, :, None] - y
    outer = size * torch.sqrt(math.pi / (points * ratio * torch.sin(math.pi / points)))

    # Fold the plane onto the half-wedge between a point (at angle 0, upwards) and the next inner corner.
    wedge = 2 * math.pi / points
    angle = torch.atan2(dx, -dy) - tilt
    angle = (angle - wedge * torch.round(angle / wedge)).abs()
    radius = torch.sqrt(dx.square() + dy.square())

    # There the outline is one line, through (1, 0) and ratio (cos, sin)(wedge / 2), both times `outer`.
    across, along = ratio * torch.sin(wedge / 2), 1 - ratio * torch.cos(wedge / 2)
    distance = across * (radius * torch.cos(angle) - outer) + along * radius * torch.sin(angle)
    return (0.5 - distance * width / torch.hypot(across, along)).clamp(0, 1)


def colour(light: Tensor, chroma: Tensor, hue: Tensor) -> Tensor:
    """RGB [n, 3] in [0, 1] of mean intensity `light`, at distance `chroma` from grey in direction `hue`."""
    plane = torch.tensor([HUE_COS, HUE_SIN], device=hue.device)
    return light[:, None] + chroma[:, None] * torch.stack([hue.cos(), hue.sin()], dim=1) @ plane


def draw_shapes(n: int, width: int, seed: int, split: int) -> tuple[Tensor, dict[str, Tensor]]:
    """n images, uint8 [n, 3, width, width], and the factors behind each. Row i does not depend on n.

    Independent of each other, and uniform on their ranges:
        shape       int64 [n]; the classes take turns
        hue         float [n, 2], the unit vector (cos, sin) of the shape's hue
        size        float [n], radius of the disc of equal area, in image widths
        x, y        float [n], the centre, in image widths from the top left corner
        rotation    float [n], radians, clockwise
        background  float [n, 2], the unit vector of the background's hue
    Not kept as factors: both saturations, both intensities, and which of the two is the lighter one. So the
    sign of the contrast is random, and a linear function of the pixels learns little about the shape.

    Args:
        n: Number of images.
        width: Side of an image in pixels, at least 16.
        seed: Of all draws.
        split: Number of the split; each has draws of its own.

    Returns:
        The images, and name -> values of each factor.
    """
    u = torch.from_numpy(np.random.default_rng([seed, split]).random((n, 12), dtype=np.float32))
    shape = torch.arange(n) % len(CLASSES)
    points, ratio = torch.tensor(list(CLASSES.values()), dtype=torch.float32)[shape].unbind(1)

    def between(low_high: tuple[float, float], column: int) -> Tensor:
        low, high = low_high
        return low + (high - low) * u[:, column]

    size = between(SIZE, 0)
    x, y = between((0.5 - OFFSET, 0.5 + OFFSET), 1), between((0.5 - OFFSET, 0.5 + OFFSET), 2)
    rotation = between((-TILT, TILT), 3)
    hue, background = 2 * math.pi * u[:, 4], 2 * math.pi * u[:, 5]
    dark, light, shape_is_light = between(DARK, 6), between(LIGHT, 7), u[:, 8] < 0.5
    ink = colour(torch.where(shape_is_light, light, dark), between(CHROMA, 9), hue)
    paper = colour(torch.where(shape_is_light, dark, light), between(CHROMA, 10), background)

    images = torch.empty(n, 3, width, width, dtype=torch.uint8)
    for rows in torch.arange(n).split(_CHUNK):
        chunk = slice(int(rows[0]), int(rows[-1]) + 1)
        k, q, r, left, top, tilt = (v[chunk] for v in (points, ratio, size, x, y, rotation))
        covered = coverage(k, q, r, left, top, tilt, width)[:, None]
        below, above = paper[chunk, :, None, None], ink[chunk, :, None, None]
        images[chunk] = (255 * (below + covered * (above - below))).round_().to(torch.uint8)

    return images, {
        "shape": shape,
        "hue": torch.stack([hue.cos(), hue.sin()], dim=1),
        "size": size,
        "x": x,
        "y": y,
        "rotation": rotation,
        "background": torch.stack([background.cos(), background.sin()], dim=1),
    }


class EmbeddedShapes:
    """Six classes of coloured shapes (`draw_shapes`), the same images in every run with the same `seed`.

    Args:
        train, test: How many images; the validation images come out of `train`.
        width: Side of the images, 16 or more.
        seed: Of the images.
    """

    def __init__(self, train: int, test: int, width: int = 32, seed: int = 0) -> None:
        for name, count in {"train": train, "test": test}.items():
            if count < len(CLASSES):
                raise ValueError(f"shapes: {name}={count} is fewer than one image a class ({len(CLASSES)})")
        if width < 16:
            raise ValueError(f"shapes: width={width} is too small to distinguish the shapes; use 16 or more")
        self.train, self.test, self.width, self.seed = train, test, width, seed

    def load(self) -> Sets:
        """Both splits, drawn now."""
        return Sets(self._split(self.train, 0), self._split(self.test, 1))

    def _split(self, n: int, split: int) -> ImageSet:
        images, factors = draw_shapes(n, self.width, self.seed, split)
        return ImageSet("shapes", TensorImages(images), factors["shape"], tuple(CLASSES), factors)
