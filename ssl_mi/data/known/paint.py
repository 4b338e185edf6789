"""Drawing helpers: templates into pictures, coverage into colours. Everything rows at a time, on one device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_mi.data.draws import Draws
from ssl_mi.data.images.shapes import CHROMA, DARK, LIGHT, colour
from ssl_mi.data.known.channel import integers


def place(maps: Tensor, top: Tensor, left: Tensor, size: int, outside: float = 0) -> Tensor:
    """Each map with its upper left corner at pixel (top[i], left[i]) of a picture [n, size, size], `outside` around it.

    maps: [n, s, s] of any type, s <= size. top, left: int64 [n].
    """
    n, s = maps.shape[:2]
    # A row and a column more stand for everything outside.
    padded = torch.nn.functional.pad(maps, (0, 1, 0, 1), value=outside).flatten(1)
    grid = torch.arange(size, device=top.device)
    row, column = (torch.where((x >= 0) & (x < s), x, s) for x in (grid - top[:, None], grid - left[:, None]))
    pixel = row[:, :, None] * (s + 1) + column[:, None, :]
    return padded.gather(1, pixel.flatten(1)).view(n, size, size)


def anywhere(draws: Draws, size: int, s: int) -> tuple[Tensor, Tensor]:
    """A corner (top, left) for a template of side s, each place of a picture equally likely: int64 [n] twice."""
    top, left = integers(draws.uniform(2), size - s + 1).unbind(1)
    return top, left


def paint(cover: Tensor, ink: Tensor, paper: Tensor) -> Tensor:
    """paper + cover (ink - paper), rounded to 8 bits: uint8 [n, 3, h, w].

    cover: [n, h, w], uint8 or float in [0, 1]. ink, paper: [n, 3] in [0, 1].
    """
    cover = cover.float().div_(255) if cover.dtype == torch.uint8 else cover
    ink, paper = 255 * ink[:, :, None, None], 255 * paper[:, :, None, None]
    return torch.addcmul(paper, cover[:, None], ink - paper).round_().to(torch.uint8)


def between(low_high: tuple[float, float], uniform: Tensor) -> Tensor:
    low, high = low_high
    return low + (high - low) * uniform


def tints(draws: Draws) -> tuple[Tensor, Tensor]:
    """A dark and a light colour, of hues and intensities of their own: [n, 3] twice. Intensities differ by at least
    LIGHT[0] - DARK[1] = 0.16, some 40 of 255 levels."""
    u = draws.uniform(6)
    dark = colour(between(DARK, u[:, 0]), between(CHROMA, u[:, 1]), 2 * math.pi * u[:, 2])
    light = colour(between(LIGHT, u[:, 3]), between(CHROMA, u[:, 4]), 2 * math.pi * u[:, 5])
    return dark, light


def ink_and_paper(draws: Draws) -> tuple[Tensor, Tensor]:
    """`tints`, either of them the ink: [n, 3] twice. So the sign of the contrast is random."""
    dark, light = tints(draws)
    swap = draws.uniform() < 0.5
    return torch.where(swap, dark, light), torch.where(swap, light, dark)
