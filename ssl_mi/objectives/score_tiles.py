"""What sums over pairs of rows are made of: tiles of the matrix of scores, running sums, weights of the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ssl_mi.objectives.share import Share

#: Rows and columns of a tile. On a CPU it stays in the cache; on an accelerator it should fill the device.
SIDE = {"cpu": 640}
SIDE_ELSEWHERE = 4096
#: A matrix of no more scores than this is one tile, kept for the backward pass (4 MiB in float32).
KEPT = 2**20
#: Numbers of a strip of a tile that is worked on at a time.
PIECE = 2**15
#: Largest absolute score whose exponential is summed as it is.
DIRECT = {torch.float32: 30.0, torch.float64: 300.0}

Rows = tuple[int, int]  # from, to


def exact(x: Tensor) -> torch.dtype:
    """What sums over many rows are taken in: float64 where the device has it.

    Args:
        x: On that device.
    """
    return torch.float32 if x.device.type == "mps" else torch.float64


class Tiles:
    """The tiles of left @ right.T that are this process's, one at a time in one buffer.

    Args:
        left: [m, d].
        right: [c, d]; None for `left` itself, where scores are symmetric.
        offsets: Diagonals that are left out.
        share: Of this process, where several compute the same sums.
    """

    def __init__(
        self, left: Tensor, right: Tensor | None, offsets: tuple[int, ...], share: Share | None = None
    ) -> None:
        self.symmetric, self.offsets, self.share = right is None, offsets, share
        self.left, self.right = left, left if right is None else right
        m, c = len(self.left), len(self.right)
        side = SIDE.get(left.device.type, SIDE_ELSEWHERE)
        self.height, self.width = min(side, m), min(side, c)
        if share is not None:
            # 2 W strips of rows, or a multiple, make a number of tiles that W divides: W (2 W + 1) of a symmetric one.
            strips = 2 * share.size * math.ceil(m / (2 * share.size * side))
            self.height = math.ceil(m / strips)
            self.width = self.height if self.symmetric else math.ceil(c / math.ceil(c / side))
        self.buffer = left.new_empty(self.height * self.width)

    def places(self) -> Iterator[tuple[Rows, Rows]]:
        """Rows and columns of each tile; of a symmetric matrix those on and above the diagonal."""
        share = self.share
        return self._all() if share is None else islice(self._all(), share.rank, None, share.size)

    def _all(self) -> Iterator[tuple[Rows, Rows]]:
        m, c = len(self.left), len(self.right)
        for top in range(0, m, self.height):
            for start in range(top if self.symmetric else 0, c, self.width):
                yield (top, min(top + self.height, m)), (start, min(start + self.width, c))

    def scores(self, i: Rows, j: Rows) -> Tensor:
        """S of some rows and columns, in the buffer."""
        height, width = i[1] - i[0], j[1] - j[0]
        out = self.buffer[: height * width].view(height, width)
        return torch.mm(self.left[i[0] : i[1]], self.right[j[0] : j[1]].T, out=out)

    def shifted(self, i: Rows, j: Rows) -> list[int]:
        """The offsets inside a tile."""
        return [offset + i[0] - j[0] for offset in self.offsets]

    def exponents(self, i: Rows, j: Rows, direct: bool) -> Tensor:
        """e^S, 0 where left out; or S, -inf where left out."""
        return exponents(self.scores(i, j), self.shifted(i, j), direct)


def exponents(scores: Tensor, offsets: Iterable[int], direct: bool) -> Tensor:
    """In place: e^scores, 0 where left out; or scores, -inf where left out.

    Args:
        scores: [m, c].
        offsets: Diagonals that are left out.
        direct: Whether exponentials are wanted.
    """
    return leave_out(scores.exp_(), offsets, 0.0) if direct else leave_out(scores, offsets, -torch.inf)


def leave_out(tile: Tensor, offsets: Iterable[int], value: float) -> Tensor:
    """Set diagonals to `value`.

    Args:
        tile: [m, c], changed in place.
        offsets: The diagonals; those that do not meet the tile are passed over.
        value: What they become.
    """
    height, width = tile.shape
    for k in offsets:
        if -height < k < width:
            tile.diagonal(k).fill_(value)
    return tile


def small(left: Tensor, right: Tensor | None) -> bool:
    """Whether e^S can be summed as it is.

    Args:
        left: [m, d].
        right: [c, d]; None for `left` itself.
    """
    if left.device.type != "cpu":
        return False
    longest = torch.linalg.vector_norm(left, dim=1).amax()
    other = longest if right is None else torch.linalg.vector_norm(right, dim=1).amax()
    return bool(longest * other <= DIRECT[left.dtype])  # False for NaN


class Sums:
    """Running log-sum-exps of n rows.

    Args:
        n: How many.
        like: Of the precision and device of the scores.
        direct: Whether e^S is summed as it is.
    """

    def __init__(self, n: int, like: Tensor, direct: bool) -> None:
        self.total = torch.zeros(n, dtype=exact(like), device=like.device)
        # Not -inf: a row of which nothing was seen yet has no difference of infinities.
        self.top = None if direct else like.new_full((n,), torch.finfo(like.dtype).min)

    def add(self, place: Rows, tile: Tensor, dim: int) -> None:
        """Take in a tile of `Tiles.exponents`, summed along `dim`."""
        rows = slice(*place)
        if self.top is None:
            self.total[rows] += tile.sum(dim)
            return
        old = self.top[rows]
        top = torch.maximum(old, tile.amax(dim))
        relative = (tile - top.unsqueeze(dim)).exp_().sum(dim)
        self.total[rows] = self.total[rows] * (old - top).exp() + relative
        self.top[rows] = top

    def result(self, dtype: torch.dtype, share: Share | None) -> Tensor:
        """The logarithms [n], summed over processes."""
        found = self.total.log()
        found = found if self.top is None else found + self.top
        if share is not None:
            # As logarithms: whether e^S was summed as it is may differ between machines.
            top = share.largest(found).clamp_(min=torch.finfo(dtype).min)
            found = share.sum((found - top).exp_()).log_().add_(top)
        return found.to(dtype)


class Weights:
    """dL/dS of a tile, for the sums by rows, by columns, or both; of a symmetric matrix its sum with its transpose.

    Args:
        direct: The tiles hold e^S.
        sums: Log sums by rows and by columns.
        gradients: With respect to them.
        columns: Whether sums by columns count.
    """

    def __init__(self, direct: bool, sums: list[Tensor], gradients: tuple[Tensor, ...], columns: bool) -> None:
        self.direct, self.columns, self.sums, self.gradients = direct, columns, sums, gradients
        if direct:
            self.gradients = tuple(g * (-s).exp() for g, s in zip(gradients, sums, strict=True))
        self.buffer = sums[0].new_empty(0)

    def __call__(self, tile: Tensor, i: Rows, j: Rows) -> Tensor:
        """In place; a strip at a time, so that what is added stays in the cache."""
        height = min(len(tile), max(PIECE // tile.shape[1], 64))
        if len(self.buffer) < height * tile.shape[1]:
            self.buffer = tile.new_empty(height * tile.shape[1])
        for top in range(0, len(tile), height):
            strip = tile[top : top + height]
            other = self.buffer[: strip.numel()].view_as(strip)
            rows = slice(i[0] + top, i[0] + top + len(strip))
            self._in_place(strip, other, rows, slice(*j))
        return tile

    def of(self, strip: Tensor, out: Tensor, i: slice, j: slice) -> Tensor:
        """In `out`; the strip stays as it is."""
        of_row, of_column = self.gradients[0][i, None], self.gradients[1][j]
        if self.direct:
            return (
                torch.add(of_row, of_column, out=out).mul_(strip) if self.columns else torch.mul(strip, of_row, out=out)
            )
        torch.sub(strip, self.sums[0][i, None], out=out).exp_().mul_(of_row)
        return out.add_((strip - self.sums[1][j]).exp_().mul_(of_column)) if self.columns else out

    def _in_place(self, strip: Tensor, other: Tensor, i: slice, j: slice) -> None:
        of_row, of_column = self.gradients[0][i, None], self.gradients[1][j]
        if not self.columns:
            strip.mul_(of_row) if self.direct else strip.sub_(self.sums[0][i, None]).exp_().mul_(of_row)
        elif self.direct:
            strip.mul_(torch.add(of_row, of_column, out=other))
        else:
            torch.sub(strip, self.sums[1][j], out=other).exp_().mul_(of_column)
            strip.sub_(self.sums[0][i, None]).exp_().mul_(of_row).add_(other)


class _Twice(torch.autograd.Function):
    """A gradient that cannot be differentiated, and says so."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *sources: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError(
            "a contrastive loss in tiles (ssl_mi.objectives.tiles) has no second derivative: take it of the loss "
            "written out on the whole matrix of scores, critic(x, y)"
        )


def once(gradients: list[Tensor | None], sources: list[Tensor]) -> list[Tensor | None]:
    """The gradients; where a graph of them is asked for, one that refuses to be differentiated.

    Args:
        gradients: Of the sources, None where none is wanted.
        sources: What they are taken with respect to.
    """
    if not torch.is_grad_enabled():
        return gradients
    return [None if g is None else _Twice.apply(g, *sources) for g in gradients]
