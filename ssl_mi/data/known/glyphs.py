"""Letters of the font that Matplotlib ships, DejaVu Sans, and their Unicode names: thousands of image-text pairs."""

from __future__ import annotations

import math
import unicodedata
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.ft2font import FT2Font
from PIL import ImageFont
from torch import Tensor

from ssl_mi.data.known.channel import integers
from ssl_mi.data.known.paint import ink_and_paper, paint, place
from ssl_mi.data.known.views import SHARED, KnownViews, Pairs, check_size
from ssl_mi.data.known.words import Words, join

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
SIDE = 28  # pixels that a letter may take
VISIBLE = 32  # of 255: letters are cut out where their coverage is less
APART = 200.0  # Euclidean distance between any two letters, in levels of 255: they differ by 7 or more in some pixel
MOVES = 6  # pixels that a letter's place may differ by, where there is room
OPENINGS = ("", "the", "here is", "this is the", "a picture of")
CLOSINGS = ("", "in black", "as printed", "from a font")


class Letters:
    """The letters of the font that differ: characters, their names, and coverages uint8 [M, 28, 28] at the upper left.

    Letters in the order of their code points; a letter that looks like an earlier one (A, Greek Alpha and Cyrillic A
    are one picture) is left out.
    """

    def __init__(self) -> None:
        charmap = FT2Font(str(FONT)).get_charmap()
        found = [chr(code) for code in sorted(charmap) if unicodedata.category(chr(code)).startswith("L")]
        font = ImageFont.truetype(str(FONT), 22, layout_engine=ImageFont.Layout.BASIC)
        drawn = {c: picture for c in found if unicodedata.name(c, "") and (picture := _drawn(font, c)) is not None}
        characters, pictures = list(drawn), torch.from_numpy(np.stack(list(drawn.values())))
        kept = _different(pictures)
        self.characters = [characters[i] for i in kept.tolist()]
        self.names = [unicodedata.name(c) for c in self.characters]
        self.pictures = pictures[kept]

    def __len__(self) -> int:
        return len(self.characters)


@lru_cache(maxsize=1)
def letters() -> Letters:
    return Letters()


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> np.ndarray | None:
    """Coverage, cut out at its edges and brought to a maximum of 255; None for a letter that is blank or too large."""
    mask = font.getmask(character)
    cover = np.array(mask, dtype=np.float32).reshape(mask.size[::-1])
    if cover.size == 0 or cover.max() < VISIBLE:
        return None
    cover *= 255 / cover.max()
    rows, columns = (np.flatnonzero((cover >= VISIBLE).any(axis)) for axis in (1, 0))
    cut = cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if max(cut.shape) > SIDE:
        return None
    picture = np.zeros((SIDE, SIDE), np.uint8)
    picture[: cut.shape[0], : cut.shape[1]] = cut.round()
    return picture


def _different(pictures: Tensor) -> Tensor:
    """The rows that are at least APART from every row before them that is itself one: int64."""
    flat = pictures.flatten(1).float()
    near = (torch.cdist(flat, flat) < APART).numpy()
    kept = np.zeros(len(flat), dtype=bool)
    for i in range(len(flat)):
        kept[i] = not (near[i] & kept).any()
    return torch.from_numpy(np.flatnonzero(kept))


class Glyphs(KnownViews):
    """View 0: a letter. View 1: its name in Unicode, "LATIN SMALL LETTER A WITH ACUTE", in a phrase: I = ln M.

    u is which letter, in both views: int64 [n, 1]. Nuisance of the picture: the letter's place and two colours; of the
    text: the words around the name. The class that probes learn is the first word of the name: LATIN, GREEK, ...

    Exact: a picture is a letter's coverage, cut out where its edges are, in two colours that can be read from the
    corner and from the farthest colour, at least 40 of 255 levels apart; any two letters differ by 7 of 255 in some
    pixel, and so by more than rounding. Names are unique in Unicode, and the words around them are not among theirs.

    Args:
        letters: M, the first of those that differ (`Letters`); None for all, more than 2,000.
        size: Side of an image, in pixels.
    """

    name = "glyphs"

    def __init__(self, letters: int | None = None, size: int = 32) -> None:
        check_size(self.name, size, SIDE + 2)
        known = globals()["letters"]()
        count = len(known) if letters is None else letters
        if not 2 <= count <= len(known):
            raise ValueError(f"letters={letters}: the font has 2 to {len(known)} letters that differ")
        self.letters, self.size = count, size
        self.parts = {"letter": math.log(count)}
        names = known.names[:count]
        self.characters = known.characters[:count]
        self.pictures = known.pictures[:count]
        shown = self.pictures > 0
        self.extents = torch.stack([shown.any(2).sum(1), shown.any(1).sum(1)], 1)  # height, width
        self.words = Words([*OPENINGS, ":", *names, ";", *CLOSINGS])
        around = [f"{opening} :" for opening in OPENINGS], [f"; {closing}" for closing in CLOSINGS]
        self.sentences = [self.words.ids(phrases) for phrases in (around[0], names, around[1])]
        self.length = sum(ids.shape[1] for ids in self.sentences)
        scripts = [name.split()[0] for name in names]
        self.class_names = tuple(dict.fromkeys(scripts))
        self.scripts = torch.tensor([self.class_names.index(script) for script in scripts])
        self.label = "script" if len(self.class_names) > 1 else None

    def latents(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        u = integers(pairs.draws(SHARED).uniform(), self.letters)
        return u, u

    def render(self, u: Tensor, pairs: Pairs, view: int) -> Tensor:
        draws = pairs.draws(view)
        if view == 0:
            self.pictures = self.pictures.to(u.device)
            # Near the middle, with a free pixel all around, so that the corner shows the paper.
            free = self.size - 2 - self.extents.to(u.device)[u[:, 0]]
            slack = free.clamp(max=MOVES)
            top, left = (1 + (free - slack) // 2 + integers(draws.uniform(2), slack + 1)).unbind(1)
            return paint(place(self.pictures[u[:, 0]], top, left, self.size), *ink_and_paper(draws))
        before, name, after = (ids.to(u.device) for ids in self.sentences)
        opening, closing = draws.uniform(2).unbind(1)
        parts = before[integers(opening, len(before))], name[u[:, 0]], after[integers(closing, len(after))]
        return join(torch.cat(parts, 1)[:, None], self.length)

    def factors(self, u: Tensor) -> dict[str, Tensor]:
        return {"script": self.scripts.to(u.device)[u[:, 0]]}
