"""Sums over all pairs of rows, a tile of the matrix of scores at a time: exact values and gradients in memory O(n).

    scores      S = left @ right.T, [m, c]; pairs (i, j) with j - i in `offsets` are left out
    log_sums    r_i = log sum_j e^(S_ij)
    softplus    r_i = sum_j log(1 + e^(S_ij + b))

No [m, c] matrix exists. The forward pass keeps one number for each row; the backward pass makes each tile again from
that number: with P_ij = e^(S_ij - r_i) and the incoming gradient g,

    dL/dleft_i = g_i sum_j P_ij right_j,    dL/dright_j = sum_i g_i P_ij left_i.

Where both sides are one tensor, S is symmetric: each unordered pair of tiles is made once, and its gradient is that of
P + P^T. Cheng et al. 2024 (Inf-CL, arXiv:2410.17243) describe tiles for such losses.

Two ways to sum exponentials. Where all scores are small (no product of two norms above `DIRECT`), e^S itself is summed:
one exponential serves rows and columns. Elsewhere each row and column keeps the largest score so far and the sum
relative to it. On an accelerator the second way is always taken: to look at the norms, the host would have to wait.

Sums are in float64 whatever the scores are in; scores of half-precision rows are in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

#: Rows and columns of a tile. On a CPU it stays in the cache; on an accelerator it should fill the device.
SIDE = {"cpu": 1024}
SIDE_ELSEWHERE = 4096
#: A matrix of no more scores than this is one tile, kept for the backward pass (4 MiB in float32).
KEPT = 2**20
#: Numbers of a strip of a tile that is worked on at a time.
PIECE = 2**15
#: Largest absolute score whose exponential is summed as it is.
DIRECT = {torch.float32: 30.0, torch.float64: 300.0}

Rows = tuple[int, int]  # from, to


def log_sums(left: Tensor, right: Tensor, offsets: tuple[int, ...] = ()) -> Tensor:
    """log sum_j e^<left_i, right_j> for every row i, over the columns j with j - i not in `offsets`.

    Args:
        left: [m, d].
        right: [c, d]; `left` itself where scores are symmetric, which halves the work.
        offsets: Diagonals that are left out; of one tensor with itself, with every k also -k.

    Returns:
        [m], in the precision of the rows, at least float32.
    """
    wide = _wide(left)
    return _log_sums(wide, None if right is left else _wide(right), offsets, False)[0]


def log_sums_both_ways(left: Tensor, right: Tensor, offsets: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """`log_sums` over columns, [m], and over rows, [c], from the same scores.

    Args:
        left: [m, d].
        right: [c, d].
        offsets: Diagonals that are left out.
    """
    return _log_sums(_wide(left), _wide(right), offsets, True)


def softplus_sums(left: Tensor, right: Tensor, bias: Tensor, offsets: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """sum_j log(1 + e^s_ij) for every row i, s_ij = <left_i, right_j> + bias; and log sum_j e^s_ij without gradient.

    Args:
        left: [m, d].
        right: [c, d].
        bias: A scalar.
        offsets: Diagonals that are left out.
    """
    return _SoftplusSums.apply(_wide(left), _wide(right), bias, offsets)


def log_sums_of_views(
    left: Tensor, right: Tensor, views: int, rows: tuple[int, int] | None = None, of_image: bool = True
) -> Tensor:
    """`log_sums` of rows that are the views of n images, one view after the other, without their own image.

    Args:
        left: [views n, d].
        right: [views n, d]; `left` itself where scores are symmetric.
        views: How many there are.
        rows: The images whose rows are wanted, from and to; None for all.
        of_image: Whether all views of the row's image are left out, or the row itself alone.

    Returns:
        [views n], or the rows of the images wanted, one view after the other.
    """
    n = len(right) // views
    if rows is None:
        return log_sums(left, right, tuple(n * k for k in range(1 - views, views)) if of_image else (0,))
    first, last = rows
    found = []
    for view in range(views):
        itself = tuple(n * k + first for k in (range(views) if of_image else (view,)))
        found.append(log_sums(left[n * view + first : n * view + last], right, itself))
    return torch.cat(found)


def ends(rows: slice | None, n: int) -> tuple[int, int]:
    """The first of n rows that a slice takes and the one after the last; None takes all.

    Args:
        rows: Those of a process, which lie together.
        n: Rows in all.

    Raises:
        ValueError: If rows are left out between.
    """
    first, last, step = slice(None).indices(n) if rows is None else rows.indices(n)
    if step != 1:
        raise ValueError(f"rows of a process lie together: got {rows}")
    return first, last


def row_products(left: Tensor, right: Tensor) -> Tensor:
    """<left_i, right_i>, [m], in at least float32.

    Args:
        left: [m, d].
        right: [m, d].
    """
    return (_wide(left) * _wide(right)).sum(1)


def _log_sums(left: Tensor, right: Tensor | None, offsets: tuple[int, ...], both: bool) -> tuple[Tensor, Tensor]:
    size = len(left) * len(left if right is None else right)
    return (_Whole if size <= KEPT else _Tiled).apply(left, right, offsets, both)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def exact(x: Tensor) -> torch.dtype:
    """What sums over many rows are taken in: float64 where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


class _Tiles:
    """The tiles of left @ right.T, one at a time in one buffer."""

    def __init__(self, left: Tensor, right: Tensor | None, offsets: tuple[int, ...]) -> None:
        self.symmetric, self.offsets = right is None, offsets
        self.left, self.right = left, left if right is None else right
        m, c = len(self.left), len(self.right)
        side = SIDE.get(left.device.type, SIDE_ELSEWHERE)
        self.height, self.width = min(side, m), min(side, c)
        self.buffer = left.new_empty(self.height * self.width)

    def places(self) -> Iterator[tuple[Rows, Rows]]:
        """Rows and columns of each tile; of a symmetric matrix those on and above the diagonal."""
        m, c = len(self.left), len(self.right)
        for top in range(0, m, self.height):
            for start in range(top if self.symmetric else 0, c, self.width):
                yield (top, min(top + self.height, m)), (start, min(start + self.width, c))

    def scores(self, i: Rows, j: Rows) -> Tensor:
        height, width = i[1] - i[0], j[1] - j[0]
        out = self.buffer[: height * width].view(height, width)
        return torch.mm(self.left[i[0] : i[1]], self.right[j[0] : j[1]].T, out=out)

    def shifted(self, i: Rows, j: Rows) -> list[int]:
        """The offsets inside a tile."""
        return [offset + i[0] - j[0] for offset in self.offsets]

    def exponents(self, i: Rows, j: Rows, direct: bool) -> Tensor:
        """e^S, 0 where left out; or S, -inf where left out."""
        return _exponents(self.scores(i, j), self.shifted(i, j), direct)


def _exponents(scores: Tensor, offsets: Iterable[int], direct: bool) -> Tensor:
    """In place: e^scores, 0 where left out; or scores, -inf where left out."""
    return _leave_out(scores.exp_(), offsets, 0.0) if direct else _leave_out(scores, offsets, -torch.inf)


def _leave_out(tile: Tensor, offsets: Iterable[int], value: float) -> Tensor:
    """Set diagonals to `value`."""
    height, width = tile.shape
    for k in offsets:
        if -height < k < width:
            tile.diagonal(k).fill_(value)
    return tile


def _small(left: Tensor, right: Tensor | None) -> bool:
    """Whether e^S can be summed as it is."""
    if left.device.type != "cpu":
        return False
    longest = torch.linalg.vector_norm(left, dim=1).amax()
    other = longest if right is None else torch.linalg.vector_norm(right, dim=1).amax()
    return bool(longest * other <= DIRECT[left.dtype])  # False for NaN


class _Sums:
    """Running log-sum-exps of n rows."""

    def __init__(self, n: int, like: Tensor, direct: bool) -> None:
        self.total = torch.zeros(n, dtype=exact(like), device=like.device)
        # Not -inf: a row of which nothing was seen yet has no difference of infinities.
        self.top = None if direct else like.new_full((n,), torch.finfo(like.dtype).min)

    def add(self, place: Rows, tile: Tensor, dim: int) -> None:
        """Take in a tile of `_Tiles.exponents`, summed along `dim`."""
        rows = slice(*place)
        if self.top is None:
            self.total[rows] += tile.sum(dim)
            return
        old = self.top[rows]
        top = torch.maximum(old, tile.amax(dim))
        relative = (tile - top.unsqueeze(dim)).exp_().sum(dim)
        self.total[rows] = self.total[rows] * (old - top).exp() + relative
        self.top[rows] = top

    def result(self, dtype: torch.dtype) -> Tensor:
        found = self.total.log()
        return (found if self.top is None else found + self.top).to(dtype)


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


def _once(gradients: list[Tensor | None], sources: list[Tensor]) -> list[Tensor | None]:
    """The gradients; where a graph of them is asked for, one that refuses to be differentiated."""
    if not torch.is_grad_enabled():
        return gradients
    return [None if g is None else _Twice.apply(g, *sources) for g in gradients]


class _Whole(torch.autograd.Function):
    """log sums by rows and, for `both`, by columns, of a matrix of scores that is kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor | None, offsets: tuple[int, ...], both: bool
    ) -> tuple[Tensor, ...]:
        direct = _small(left, right)
        scores = left.new_empty(len(left), len(left if right is None else right))
        tile = _exponents(torch.mm(left, (left if right is None else right).T, out=scores), offsets, direct)
        sums = [(tile.sum(d).log() if direct else tile.logsumexp(d)) for d in ((1, 0) if both else (1,))]
        ctx.direct, ctx.both = direct, both
        ctx.save_for_backward(left, right, tile, *sums)
        return (*sums, *([] if both else [sums[0].new_empty(0)]))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        left, right, tile, *sums = ctx.saved_tensors
        with torch.no_grad():
            if ctx.direct:
                by_row, *by_column = (g * (-s).exp() for g, s in zip(gradients, sums, strict=False))
            else:
                by_row, *by_column = gradients[: len(sums)]
            if right is None:
                by_column = [by_row]
            if not ctx.direct:
                weight = (tile - sums[0][:, None]).exp_().mul_(by_row[:, None])
                for g in by_column:
                    weight += (tile - sums[-1]).exp_().mul_(g)
            elif by_column:
                weight = (by_row[:, None] + by_column[0]).mul_(tile)
            else:
                weight = tile * by_row[:, None]
            of_left = weight.mm(left if right is None else right) if ctx.needs_input_grad[0] else None
            of_right = weight.T.mm(left) if ctx.needs_input_grad[1] else None
        return (*_once([of_left, of_right], [t for t in (left, right) if t is not None]), None, None)


class _Tiled(torch.autograd.Function):
    """As `_Whole`, of a matrix that never exists."""

    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor | None, offsets: tuple[int, ...], both: bool
    ) -> tuple[Tensor, Tensor]:
        tiles, direct = _Tiles(left, right, offsets), _small(left, right)
        rows = _Sums(len(left), left, direct)
        columns = rows if right is None else _Sums(len(right), left, direct) if both else None
        for i, j in tiles.places():
            tile = tiles.exponents(i, j, direct)
            rows.add(i, tile, 1)
            if columns is not None and not (right is None and i == j):
                columns.add(j, tile, 0)
        by_row = rows.result(left.dtype)
        by_column = by_row.new_empty(0) if columns is None or columns is rows else columns.result(left.dtype)
        ctx.offsets, ctx.direct, ctx.both = offsets, direct, both
        ctx.save_for_backward(left, right, by_row, by_column)
        return by_row, by_column

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        left, right, *sums = ctx.saved_tensors
        with torch.no_grad():
            if not ctx.both:
                gradients, sums = (gradients[0],) * 2, [sums[0]] * 2
            weights = _Weights(ctx.direct, sums, gradients, right is None or ctx.both)
            tiles = _Tiles(left, right, ctx.offsets)
            found = _add_up(tiles, lambda i, j: weights(tiles.exponents(i, j, ctx.direct), i, j), ctx)
        return (*_once(found, [t for t in (left, right) if t is not None]), None, None)


class _Weights:
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
        if self.columns and len(self.buffer) < height * tile.shape[1]:
            self.buffer = tile.new_empty(height * tile.shape[1])
        for top in range(0, len(tile), height):
            strip = tile[top : top + height]
            self._weigh(strip, slice(i[0] + top, i[0] + top + len(strip)), slice(*j))
        return tile

    def _weigh(self, strip: Tensor, i: slice, j: slice) -> None:
        of_row, of_column = self.gradients[0][i, None], self.gradients[1][j]
        if not self.columns:
            strip.mul_(of_row) if self.direct else strip.sub_(self.sums[0][i, None]).exp_().mul_(of_row)
            return
        other = self.buffer[: strip.numel()].view_as(strip)
        if self.direct:
            strip.mul_(torch.add(of_row, of_column, out=other))
        else:
            torch.sub(strip, self.sums[1][j], out=other).exp_().mul_(of_column)
            strip.sub_(self.sums[0][i, None]).exp_().mul_(of_row).add_(other)


def _add_up(tiles: Any, weight: Callable[[Rows, Rows], Tensor], ctx: Any) -> list[Tensor | None]:
    """The gradients with respect to left and right; weight: (rows, columns) -> dL/dS of the tile."""
    left, right = tiles.left, tiles.right
    of_left = torch.zeros_like(left) if ctx.needs_input_grad[0] else None
    of_right = None
    if tiles.symmetric:
        of_right = of_left
    elif ctx.needs_input_grad[1]:
        of_right = torch.zeros_like(right)
    for i, j in tiles.places():
        w = weight(i, j)
        if of_left is not None:
            of_left[slice(*i)].addmm_(w, right[slice(*j)])
        if of_right is not None and not (tiles.symmetric and i == j):
            of_right[slice(*j)].addmm_(w.T, left[slice(*i)])
    return [of_left, None if tiles.symmetric else of_right]


class _SoftplusSums(torch.autograd.Function):
    """softplus_sums."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, bias: Tensor, offsets: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        tiles = _Tiles(left, right, offsets)
        total, logs = torch.zeros(len(left), dtype=exact(left), device=left.device), _Sums(len(left), left, False)
        for i, j in tiles.places():
            scores = _leave_out(tiles.scores(i, j).add_(bias), tiles.shifted(i, j), -torch.inf)
            logs.add(i, scores, 1)
            total[slice(*i)] += torch.nn.functional.softplus(scores, threshold=40).sum(1)
        ctx.offsets = offsets
        ctx.save_for_backward(left, right, bias)
        by_row = logs.result(left.dtype)
        ctx.mark_non_differentiable(by_row)
        return total.to(left.dtype), by_row

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, unused: Tensor) -> Any:
        left, right, bias = ctx.saved_tensors
        with torch.no_grad():
            tiles = _Tiles(left, right, ctx.offsets)
            of_bias = torch.zeros((), dtype=exact(left), device=left.device)

            def weight(i: Rows, j: Rows) -> Tensor:
                share = _leave_out(tiles.scores(i, j).add_(bias).sigmoid_(), tiles.shifted(i, j), 0.0)
                share.mul_(gradient[slice(*i), None])
                of_bias.add_(share.sum())
                return share

            found = [*_add_up(tiles, weight, ctx), of_bias.to(bias.dtype)]
        return (*_once(found, [left, right, bias]), None)
