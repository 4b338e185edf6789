"""Halves of real digits, whose mutual information is ln 10 whatever an invertible encoder makes of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_mi.data.known.channel import integers
from ssl_mi.data.known.digits import CLASSES, LEVELS, SIDE, Pool, digits

SHAPE = (1, SIDE // 2, SIDE)
NATS = math.log(CLASSES)


class Pairs(NamedTuple):
    """x: tops, y: bottoms, [n, 1, 4, 8] in -1 .. 1; label: the class of both, int64 [n]."""

    x: Tensor
    y: Tensor
    label: Tensor


class HalfDigits(NamedTuple):
    """X is the top half of a digit, Y the bottom half of a digit of the same class: I(X; Y) = ln 10 = 2.303 nats.

    The class is uniform. Given it the two digits are drawn independently (now and then they are one), and in each half
    on its own ink and paper are exchanged with probability 1/2, so that no class has a mean that a line could tell.
    Tops and bottoms of real 8 x 8 digits are the views of Tschannen et al. 2020 (arXiv:1907.13625, section 3), who
    take both halves of one image.

    Exact: no two of the 2 x 1,797 tops are equal, exchanged or not, nor any two bottoms. So X tells the class C, and Y
    does, and X and Y are independent given C: I(X; Y) = I(C; C) = H(C). It holds in any set of the digits that
    has all classes, and for f(X), g(Y) with f and g invertible on these pictures.
    """

    pool: Pool

    def draw(self, n: int, generator: torch.Generator) -> Pairs:
        """n pairs."""
        uniform = torch.rand(n, 5, generator=generator)
        label = integers(uniform[:, 0], CLASSES)
        halves = [
            _exchanged(halves_of(v)[self.pool.draw(label, uniform[:, 1 + 2 * v])], uniform[:, 2 + 2 * v] < 0.5)
            for v in (0, 1)
        ]
        return Pairs(*halves, label)

    def all(self) -> Pairs:
        """Every half as it is and exchanged, each once: what probes are fitted and judged on."""
        rows, labels = self.pool.rows, digits()[1][self.pool.rows]
        tops, bottoms = (torch.cat([halves_of(v)[rows], -halves_of(v)[rows]]) for v in (0, 1))
        return Pairs(tops, bottoms, labels.repeat(2))


def halves_of(view: int) -> Tensor:
    """Tops (view 0) or bottoms (1) of all digits: float32 [1797, 1, 4, 8], paper -1, ink up to 1."""
    half = digits()[0].unflatten(1, (2, SIDE // 2))[:, view]
    return half[:, None].float() * (2 / LEVELS) - 1


def levels(pictures: Tensor) -> Tensor:
    """The grey levels, 0 .. 16, nearest to these pictures: int64."""
    return ((pictures + 1) * (LEVELS / 2)).round().long()


def _exchanged(pictures: Tensor, where: Tensor) -> Tensor:
    return torch.where(where[:, None, None, None], -pictures, pictures)


def split(seed: int) -> tuple[HalfDigits, HalfDigits]:
    """Half of the digits of each class, drawn from `seed`, to train on, and the others: no digit is in both."""
    labels = digits()[1]
    generator = torch.Generator().manual_seed(seed)
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for c in range(CLASSES):
        of_class = torch.nonzero(labels == c)[:, 0]
        of_class = of_class[torch.randperm(len(of_class), generator=generator)]
        for part, rows in zip(parts, of_class.tensor_split(2), strict=True):
            part.append(rows)
    return tuple(HalfDigits(_pool(part)) for part in parts)


def _pool(rows: list[Tensor]) -> Pool:
    count = torch.tensor([len(r) for r in rows])
    return Pool(torch.cat(rows), count.cumsum(0) - count, count)
