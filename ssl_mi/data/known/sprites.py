"""Coloured shapes with six discrete factors, any of them shared by the two views: the knob of content and style."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ssl_mi.data.images.shapes import CLASSES, colour, coverage
from ssl_mi.data.known.channel import channel_error, channel_nats, integers
from ssl_mi.data.known.paint import between, paint, place
from ssl_mi.data.known.views import SHARED, KnownViews, Pairs, check_size

SHAPES = tuple(name for name in CLASSES if name != "disc")  # a disc has no orientation
HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")  # 60 degrees apart
SIZES = (0.08, 0.11, 0.15)  # radius of the disc of equal area, in image widths
PLACES = tuple(f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "centre", "right"))
INK, PAPER, CHROMA = (0.60, 0.72), (0.22, 0.34), 0.22  # mean intensities, distance from grey
TILT = math.radians(20)  # less than a quarter of every shape's symmetry

FACTORS = {
    "shape": SHAPES,
    "colour": HUES,
    "size": ("small", "medium", "large"),
    "position": PLACES,
    "orientation": ("left", "upright", "right"),
    "background": HUES,
}


class Sprites(KnownViews):
    """A shape, light on dark, with `shared` factors in common: I = sum of ln (number of values) over those.

    u_v holds a value of each of the six factors, all uniform and independent: int64 [n, 6]. A shared factor has one
    value in both views (content); any other is drawn for each view alone (style: von Kuegelgen et al. 2021,
    arXiv:2106.04619). Nuisance: the place, by up to a pixel each way, and both intensities.

    A factor that is `partly` shared, of K values, is in view 2 that of view 1 with probability 1 - r and drawn anew
    with probability r, which is a symmetric channel of error e = r (K - 1) / K: ln K - h(e) - e ln(K - 1) nats.

        shape 5   colour 6   size 3   position 3 x 3   orientation 3   background 6     all of them: 9.59 nats

    Exact: intensity determines coverage, since the paper is darker than the ink; the coverages of all shapes, sizes and
    orientations differ, at places that overlap for no two positions; the colours of fully covered and of uncovered
    pixels distinguish the two hues, which are 60 degrees apart and off by less than 5 after rounding to 8 bits.

    Args:
        shared: Factors in common.
        size: Side of an image, 24 or more.
        partly: factor -> nats, of factors that are shared, but not wholly.
    """

    name = "sprites"
    columns = tuple(FACTORS)
    label = "shape"
    class_names = SHAPES

    def __init__(
        self,
        shared: Sequence[str] = ("shape", "position"),
        size: int = 32,
        partly: Mapping[str, float] | None = None,
    ) -> None:
        partly = partly or {}
        check_size(self.name, size, 24)
        check_factors("shared", shared)
        check_factors("partly", partly)
        if twice := [name for name in partly if name in shared]:
            raise ValueError(f"shared={list(shared)} and partly={dict(partly)}: '{twice[0]}' is in both; name it once")
        self.size, self.shared = size, tuple(name for name in FACTORS if name in shared)
        self.parts, kept = {}, []
        for name, values in FACTORS.items():
            k, silent = len(values), 1 - 1 / len(values)
            error = 0.0 if name in shared else silent
            if name in partly:
                error = channel_error(partly[name], k, name, f"data.known.partly.{name}")
            self.parts[name] = 0.0 if error == silent else channel_nats(error, k)
            kept.append(1 - error / silent)
        self.kept = torch.tensor(kept)  # chance that view 2 has the value of view 1 because it is shared
        self.templates = _templates(size)

    def latents(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        counts = torch.tensor([len(values) for values in FACTORS.values()], device=pairs.index.device)
        first, other = (integers(pairs.draws(SHARED, op).uniform(len(counts)), counts) for op in (0, 1))
        kept = pairs.draws(SHARED, 2).uniform(len(counts)) < self.kept.to(pairs.index.device)
        return first, torch.where(kept, first, other)

    def render(self, u: Tensor, pairs: Pairs, view: int) -> Tensor:
        shape, hue, scale, position, tilt, ground = u.unbind(1)
        draws = pairs.draws(view)
        self.templates = self.templates.to(u.device)
        which = (shape * len(SIZES) + scale) * 3 + tilt
        side = self.templates.shape[-1]
        step, around = self.size * 7 // 32, (self.size - side) // 2 - 1
        moved = integers(draws.uniform(2), 3)
        top = around + (position // 3 - 1) * step + moved[:, 0]
        left = around + (position % 3 - 1) * step + moved[:, 1]
        free = draws.uniform(2)
        chroma = torch.full_like(free[:, 0], CHROMA)
        ink = colour(between(INK, free[:, 0]), chroma, hue * (math.pi / 3))
        paper = colour(between(PAPER, free[:, 1]), chroma, ground * (math.pi / 3))
        return paint(place(self.templates[which], top, left, self.size), ink, paper)


def check_factors(argument: str, names: Iterable[str]) -> None:
    if unknown := [name for name in names if name not in FACTORS]:
        raise ValueError(f"{argument}={list(names)}: '{unknown[0]}' is none of the factors {', '.join(FACTORS)}")


def _templates(size: int) -> Tensor:
    """Coverage of every shape, size and orientation, in that order: uint8 [45, s, s], cut at the edges."""
    grid = torch.cartesian_prod(torch.arange(len(SHAPES)), torch.arange(len(SIZES)), torch.arange(3))
    points, ratio = torch.tensor([CLASSES[name] for name in SHAPES]).unbind(1)
    shape, scale, tilt = grid.unbind(1)
    middle = torch.full((len(grid),), 0.5)
    radius, angle = torch.tensor(SIZES)[scale], TILT * (tilt - 1).float()
    covered = coverage(points[shape], ratio[shape], radius, middle, middle, angle, size)
    cut = size // 4
    return (255 * covered).round_().to(torch.uint8)[:, cut:-cut, cut:-cut].contiguous()
