"""The left and the right half of a picture made of parts: as many on the one side as on the other."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_mi.data.known.channel import channel_error, channel_nats, integers, symbol_pairs
from ssl_mi.data.known.paint import ink_and_paper, paint
from ssl_mi.data.known.views import KnownViews, Pairs, check_size

GRID, CELL = 4, 8  # a half is 4 x 4 places of 8 x 8 pixels
CORNERS = 4  # a part sits in one of 2 x 2 positions within its place
RADII = (1.5, 2.0, 2.5)  # pixels


class Halves(KnownViews):
    """Two halves, each with as many discs as the other: I = ln K, or less through a symmetric channel.

    u_v is the number of discs less one, uniform on 0 .. K-1, K = `most`; u_2 is u_1 through a symmetric channel
    (`channel`). View 0 is the left half of the picture, view 1 the right one. Nuisance, of each half alone: which of
    the 16 places are taken, how large each disc is, where it sits in its place, and the two colours.

    Exact: no disc reaches the edge of its place, so that discs never touch, and their number is the number of connected
    regions that are not of the colour of the paper; ink and paper are at least 40 of 255 levels apart. The paper has
    the colour of the picture's edges, which no disc reaches either.

    Args:
        most: K, 2 to 16.
        nats: I(V1; V2), which sets the channel's error; None for ln K.
        size: Side of an image, in pixels.
    """

    name = "halves"
    columns = ("number",)
    label = "number"

    def __init__(self, most: int = 8, nats: float | None = None, size: int = 32) -> None:
        check_size(self.name, size, GRID * CELL)
        if not 2 <= most <= GRID * GRID:
            raise ValueError(f"most={most}: a half has room for 2 to {GRID * GRID} parts")
        self.most, self.size = most, size
        self.class_names = tuple(map(str, range(1, most + 1)))
        self.error = 0.0 if nats is None else channel_error(nats, most, f"{self.name} of up to {most} parts")
        self.parts = {"number": channel_nats(self.error, most)}
        self.templates = _discs()

    def latents(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        return symbol_pairs(pairs, self.most, [self.error])

    def render(self, u: Tensor, pairs: Pairs, view: int) -> Tensor:
        n, places = len(u), GRID * GRID
        draws = pairs.draws(view)
        # Places in random order; the first u + 1 of them are taken.
        taken = draws.uniform(places).argsort(1).argsort(1) <= u
        kind = integers(draws.uniform(places), len(RADII) * CORNERS)
        self.templates = self.templates.to(u.device)
        cells = self.templates[torch.where(taken, kind, len(RADII) * CORNERS)]
        cover = cells.view(n, GRID, GRID, CELL, CELL).transpose(2, 3).reshape(n, GRID * CELL, GRID * CELL)
        left = self.size - GRID * CELL
        cover = torch.nn.functional.pad(cover, (left // 2, left - left // 2) * 2)
        return paint(cover, *ink_and_paper(draws))


def _discs() -> Tensor:
    """Coverage of a disc of each radius at each position, and of nothing, last: uint8 [13, 8, 8]."""
    centre = torch.tensor([3.5, 4.5])
    grid = torch.arange(CELL) + 0.5
    away = [
        torch.sqrt((grid[:, None] - y).square() + (grid[None, :] - x).square()) - radius
        for radius in RADII
        for y in centre
        for x in centre
    ]
    covered = [(0.5 - distance).clamp(0, 1) for distance in away]
    return (255 * torch.stack([*covered, torch.zeros(CELL, CELL)])).round().to(torch.uint8)
