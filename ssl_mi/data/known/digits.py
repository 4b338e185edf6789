"""Real handwritten digits (scikit-learn's 1,797, of 8 x 8 pixels and 17 grey levels) with a class or a name in common.

What makes these exact: no two of the digits are equal, and two of different classes differ by at least 7 of the 16
levels in some pixel. A picture from which the digit's pixels can be read back therefore determines which digit it
shows, and so its class.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from ssl_mi.data.draws import Draws
from ssl_mi.data.known.channel import channel_error, channel_nats, integers, symbol_pairs
from ssl_mi.data.known.paint import anywhere, ink_and_paper, paint, place
from ssl_mi.data.known.views import KnownViews, Pairs, check_nats, check_size
from ssl_mi.data.sets import stratified_order

SIDE, LEVELS, CLASSES = 8, 16, 10
SHARES = (0.6, 0.2, 0.2)  # of each class that train, val and test draw from


@lru_cache(maxsize=1)
def digits() -> tuple[Tensor, Tensor]:
    """(pixels uint8 [1797, 8, 8] in 0 .. 16, labels int64 [1797])."""
    pixels, labels = load_digits(return_X_y=True)
    return torch.from_numpy(pixels).to(torch.uint8).view(-1, SIDE, SIDE), torch.from_numpy(labels).long()


class Pool(NamedTuple):
    """Digits sorted by class: those of class c are rows[start[c] : start[c] + number[c]]."""

    rows: Tensor
    start: Tensor
    number: Tensor

    def draw(self, classes: Tensor, uniform: Tensor) -> Tensor:
        """A digit of each class, int64 like `classes`, each of the class equally likely."""
        rows, start, number = (x.to(classes.device) for x in self)
        return rows[start[classes] + integers(uniform, number[classes])]


@lru_cache(maxsize=6)
def pool(split: int, view: int) -> Pool:
    """The digits that a view of a split shows. No two of these six pools have a digit in common: the two views of a
    pair are different digits although drawn independently, and held-out pairs show digits never trained on."""
    labels = digits()[1]
    first, last = sum(SHARES[:split]), sum(SHARES[: split + 1])
    rows = []
    for c in range(CLASSES):
        of_class = torch.nonzero(labels == c)[:, 0]
        n = len(of_class)
        rows.append(of_class[round(first * n) : round(last * n)][view::2])
    count = torch.tensor([len(r) for r in rows])
    return Pool(torch.cat(rows), count.cumsum(0) - count, count)


def enlarged(side: int, smooth: bool) -> Tensor:
    """All digits on `side` x `side` pixels, uint8 [1797, side, side] in 0 .. 255; side a multiple of 8.

    smooth: bilinear; a whole factor that is odd leaves the 64 pixels themselves among the new ones.
    """
    grey = digits()[0].float()[:, None] * (255 / LEVELS)
    mode = {"mode": "bilinear", "align_corners": False} if smooth else {"mode": "nearest"}
    return F.interpolate(grey, (side, side), **mode)[:, 0].round_().to(torch.uint8)


class SharedClass(KnownViews):
    """Two different digits of one class, or nearly so: I = ln K - h(e) - e ln(K - 1), ln K without error.

    u_1 is a class, uniform on the first K = `classes` digits; u_2 is u_1 through a symmetric channel of error e
    (`channel`). View v shows a digit of class u_v, enlarged three times, at a place and in two colours of its own. The
    digits of the two views come from pools of their own: given the classes they are independent, and never the same.

    Exact: the paper is the colour of the corner and the ink the one farthest from it, so the coverage of each pixel can
    be read back to within a level of 16 (the two are at least 40 of 255 levels apart); the coverage, cut out at its
    edges, is one of 1,797 different digits, and each of those has one class.

    Args:
        classes: K, 2 to 10.
        nats: I(V1; V2), which sets e; None for e = 0.
        size: Side of an image, 24 or more.
    """

    name = "shared_class"
    columns = ("class",)
    label = "class"

    def __init__(self, classes: int = CLASSES, nats: float | None = None, size: int = 32) -> None:
        check_size(self.name, size, 3 * SIDE)
        if not 2 <= classes <= CLASSES:
            raise ValueError(f"classes={classes}: there are 2 to {CLASSES} digits")
        self.classes, self.size = classes, size
        self.class_names = tuple(map(str, range(classes)))
        self.error = 0.0 if nats is None else channel_error(nats, classes, f"{self.name} of {classes} classes")
        self.parts = {"class": channel_nats(self.error, classes)}
        self.templates = enlarged(3 * SIDE, smooth=True)

    def latents(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        return symbol_pairs(pairs, self.classes, [self.error])

    def render(self, u: Tensor, pairs: Pairs, view: int) -> Tensor:
        draws = pairs.draws(view)
        which = pool(pairs.split, view).draw(u[:, 0], draws.uniform()[:, 0])
        return _painted(self, which, draws)


class FiniteSet(KnownViews):
    """Two augmentations of one of M digits: I = ln M, or less through a symmetric channel.

    u is which of `images` = M digits (as many of each class as can be). View v shows it enlarged three times, moved
    and coloured at random. Held-out pairs are new views of the same M: this is instance discrimination, and shows
    why the InfoNCE of a finite set of images saturates at ln M however good the encoder.

    Exact: as for `SharedClass`, and no two of the digits are equal.

    Args:
        images: M.
        nats: I(V1; V2), which sets the channel's error; None for ln M.
        size: Side of an image, 24 or more.
    """

    name = "finite_set"
    columns = ("image",)

    def __init__(self, images: int = 16, nats: float | None = None, size: int = 32) -> None:
        check_size(self.name, size, 3 * SIDE)
        pixels, labels = digits()
        if not 2 <= images <= len(pixels):
            raise ValueError(f"images={images}: there are 2 to {len(pixels)} digits to choose")
        self.images, self.size = images, size
        self.error = 0.0 if nats is None else channel_error(nats, images, f"{self.name} of {images} images")
        self.parts = {"image": channel_nats(self.error, images)}
        self.rows = stratified_order(labels, len(labels), [0])[:images]
        self.templates = enlarged(3 * SIDE, smooth=True)[self.rows]
        # A probe can learn M classes where each has many rows; beyond that it learns which digit is shown.
        self.label = "image" if images <= 100 else "class"
        self.class_names = tuple(map(str, range(images if images <= 100 else CLASSES)))

    def latents(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        return symbol_pairs(pairs, self.images, [self.error])

    def render(self, u: Tensor, pairs: Pairs, view: int) -> Tensor:
        return _painted(self, u[:, 0], pairs.draws(view))

    def factors(self, u: Tensor) -> dict[str, Tensor]:
        # Beyond 100 images an estimate of I(h; image) would have too few rows of each.
        classes = digits()[1][self.rows][u[:, 0].cpu()].to(u.device)
        return {"image": u[:, 0]} if self.images <= 100 else {"class": classes}


def _painted(views: SharedClass | FiniteSet, which: Tensor, draws: Draws) -> Tensor:
    """Templates `which`, moved and coloured by these draws."""
    views.templates = views.templates.to(which.device)
    cover = place(views.templates[which], *anywhere(draws, views.size, 3 * SIDE), views.size)
    return paint(cover, *ink_and_paper(draws))


INK, GROUND = 0.64, 0.26  # of white, at most


class Patches(KnownViews):
    """A grid of k cells, each showing a digit of a class that goes through a symmetric channel: I adds over the cells.

    View v shows, for each cell, a digit of class u_v[cell] from a pool of its own. Lee & Rhee 2024 (arXiv:2410.10924)
    build theirs so.

    Exact: pixel = 255 (0.64 a + 0.26 b), a in {0, 1/16 .. 1} the digit, b in [0, 1] the background. Were two digits
    a, a' of different classes to give the same picture over some b, b', then 0.64 |a - a'| <= 0.26 + 1/255 in every
    pixel; but in some pixel |a - a'| >= 7/16. So the picture determines the class of every cell, over any background.

    Args:
        grid: Cells a side, k = grid^2.
        symbols: Classes K of each cell; 2 shows zeros and ones, through a binary symmetric channel.
        nats: I(V1; V2) in all, 0 to k ln K; None for all of that.
        spread: True gives each cell the same share, nats / k, through equal channels; False gives the cells ln K each,
            one after another, as far as the nats reach: the last of these goes through a channel, and cells beyond it
            have nothing in common.
        background: "plain" is black. "random" adds to each view a smooth field of three colours, of its own.
        size: Side of an image, in pixels.
    """

    name = "patches"

    def __init__(
        self,
        grid: int = 2,
        symbols: int = CLASSES,
        nats: float | None = None,
        spread: bool = True,
        background: str = "random",
        size: int = 32,
    ) -> None:
        if grid < 1 or not 2 <= symbols <= CLASSES:
            raise ValueError(f"grid={grid}, symbols={symbols}: at least one cell, of 2 to {CLASSES} symbols")
        if background not in ("plain", "random"):
            raise ValueError(f"background={background!r}: choose plain or random")
        check_size(f"a grid of {grid} x {grid} digits", size, grid * SIDE)
        self.grid, self.symbols, self.background, self.size = grid, symbols, background, size
        k, most = grid * grid, math.log(symbols)
        what = f"a grid of {grid} x {grid} cells of {symbols} symbols"
        if nats is None:
            nats = k * most
        check_nats(what, nats, 0.0, k * most, "a larger data.known.grid or data.known.symbols shares more")
        shares = [nats / k] * k if spread else [min(most, max(0.0, nats - c * most)) for c in range(k)]
        self.errors = [channel_error(min(share, most), symbols, what) for share in shares]
        self.columns = tuple(f"cell{c}" for c in range(k))
        self.label = "cell0"
        self.class_names = tuple(map(str, range(symbols)))
        self.parts = dict(zip(self.columns, (channel_nats(e, symbols) for e in self.errors), strict=True))
        cell = size // grid
        digit = enlarged(cell // SIDE * SIDE, smooth=False)
        free = cell - digit.shape[-1]
        edges = (free // 2, free - free // 2) * 2
        self.templates = F.pad(digit, edges)

    def latents(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        return symbol_pairs(pairs, self.symbols, self.errors)

    def render(self, u: Tensor, pairs: Pairs, view: int) -> Tensor:
        n, g, size = len(u), self.grid, self.size
        draws = pairs.draws(view)
        which = pool(pairs.split, view).draw(u, draws.uniform(g * g))
        self.templates = self.templates.to(u.device)
        cell = self.templates.shape[-1]
        cells = self.templates[which].view(n, g, g, cell, cell).transpose(2, 3).reshape(n, 1, g * cell, g * cell)
        left = size - g * cell
        picture = INK * F.pad(cells, (left // 2, left - left // 2) * 2).float()
        if self.background == "random":
            field = pairs.draws(view, op=1).uniform(3 * 16).view(n, 3, 4, 4)
            picture = picture + 255 * GROUND * F.interpolate(field, (size, size), mode="bilinear", align_corners=True)
        return picture.round_().to(torch.uint8).expand(-1, 3, -1, -1)
