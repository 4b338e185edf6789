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

Several processes that hold the same rows share the tiles out (`Share`): each sums its own, the sums of the rows are
added up, and each makes the gradient of its own tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ssl_mi.objectives.share import Share

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


def log_sums(left: Tensor, right: Tensor, offsets: tuple[int, ...] = (), share: Share | None = None) -> Tensor:
    """log sum_j e^<left_i, right_j> for every row i, over the columns j with j - i not in `offsets`.

    Args:
        left: [m, d].
        right: [c, d]; `left` itself where scores are symmetric, which halves the work.
        offsets: Diagonals that are left out; of one tensor with itself, with every k also -k.
        share: Of this process, where several compute the same sums.

    Returns:
        [m], in the precision of the rows, at least float32.
    """
    return scores_and_log_sums(left, right, offsets, (), share=share)[1]


def log_sums_both_ways(left: Tensor, right: Tensor, offsets: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """`log_sums` over columns, [m], and over rows, [c], from the same scores.

    Args:
        left: [m, d].
        right: [c, d].
        offsets: Diagonals that are left out.
    """
    by_row, by_column = scores_and_log_sums(left, right, offsets, (), both=True)[1].split([len(left), len(right)])
    return by_row, by_column


def scores_and_log_sums(
    left: Tensor,
    right: Tensor,
    offsets: tuple[int, ...],
    partners: tuple[int, ...],
    both: bool = False,
    share: Share | None = None,
) -> tuple[Tensor, Tensor]:
    """Scores of some pairs, and `log_sums`, from one matrix where it is small.

    Args:
        left: [m, d].
        right: [c, d]; `left` itself where scores are symmetric.
        offsets: Diagonals that are left out of the sums; of one tensor with itself, with every k also -k.
        partners: Diagonals whose scores are wanted.
        both: Whether sums over rows are wanted too, after those over columns.
        share: Of this process, where several compute the same sums.

    Returns:
        The scores, one diagonal after the other, and the sums, [m] or [m + c].
    """
    wide, other = _wide(left), None if right is left and not both else _wide(right)
    if share is None and len(left) * len(right) <= KEPT:
        return _Whole.apply(wide, other, offsets, partners, both)
    other_or_same = wide if other is None else other
    joint = [_diagonal_products(wide, other_or_same, k) for k in partners]
    return torch.cat(joint) if joint else wide.new_empty(0), _Tiled.apply(wide, other, offsets, both, share)


def softplus_sums(left: Tensor, right: Tensor, bias: Tensor, offsets: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """sum_j log(1 + e^s_ij) for every row i, s_ij = <left_i, right_j> + bias; and log sum_j e^s_ij without gradient.

    Args:
        left: [m, d].
        right: [c, d].
        bias: A scalar.
        offsets: Diagonals that are left out.
    """
    return _SoftplusSums.apply(_wide(left), _wide(right), bias, offsets)


def cross_entropy(
    left: Tensor, right: Tensor, offsets: tuple[int, ...], partners: tuple[int, ...], both: bool = False
) -> Tensor | None:
    """mean_i log(1 + sum_j e^(S_ij - S_i,partner)) where the matrix is small, its gradient made in the forward pass.

    Args:
        left: [m, d].
        right: [c, d]; `left` itself where scores are symmetric.
        offsets: Diagonals that are left out of the sums; of one tensor with itself, with every k also -k.
        partners: Diagonals that hold the partners: of each row and, for `both`, of each column.
        both: Whether the mean is over columns too.

    Returns:
        A scalar; None where the matrix or its scores are too large for this, and `scores_and_log_sums` serves.
    """
    wide, other = _wide(left), None if right is left and not both else _wide(right)
    if len(left) * len(right) > KEPT or not _small(wide, other):
        return None
    return _CrossEntropy.apply(wide, other, offsets, partners, both)


def log_sums_of_views(
    left: Tensor,
    right: Tensor,
    views: int,
    rows: tuple[int, int] | None = None,
    of_image: bool = True,
    share: Share | None = None,
) -> Tensor:
    """`log_sums` of rows that are the views of n images, one view after the other, without their own image.

    Args:
        left: [views n, d].
        right: [views n, d]; `left` itself where scores are symmetric.
        views: How many there are.
        rows: The images whose rows are wanted, from and to; None for all.
        of_image: Whether all views of the row's image are left out, or the row itself alone.
        share: Of this process, where several compute the sums of all rows.

    Returns:
        [views n], or the rows of the images wanted, one view after the other.
    """
    n = len(right) // views
    if rows is None:
        return log_sums(left, right, of_views(n, views) if of_image else (0,), share)
    first, last = rows
    found = []
    for view in range(views):
        itself = tuple(n * k + first for k in (range(views) if of_image else (view,)))
        found.append(log_sums(left[n * view + first : n * view + last], right, itself))
    return torch.cat(found)


def of_views(n: int, views: int) -> tuple[int, ...]:
    """The diagonals on which both rows are views of one image.

    Args:
        n: Images.
        views: How many each has, one view after the other.
    """
    return tuple(n * k for k in range(1 - views, views))


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


def _diagonal_products(left: Tensor, right: Tensor, k: int) -> Tensor:
    """The scores on a diagonal."""
    first, last = max(0, -k), min(len(left), len(right) - k)
    return row_products(left[first:last], right[first + k : last + k])


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def exact(x: Tensor) -> torch.dtype:
    """What sums over many rows are taken in: float64 where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


class _Tiles:
    """The tiles of left @ right.T that are this process's, one at a time in one buffer."""

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

    def result(self, dtype: torch.dtype, share: Share | None) -> Tensor:
        found = self.total.log()
        found = found if self.top is None else found + self.top
        if share is not None:
            # As logarithms: whether e^S was summed as it is may differ between machines.
            top = share.largest(found).clamp_(min=torch.finfo(dtype).min)
            found = share.sum((found - top).exp_()).log_().add_(top)
        return found.to(dtype)


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
    """Scores of partners and log sums by rows and, for `both`, by columns, of a matrix that is kept for the gradient.

    At a few hundred rows new memory costs as much as arithmetic: what else is as large is made a strip at a time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        left: Tensor,
        right: Tensor | None,
        offsets: tuple[int, ...],
        partners: tuple[int, ...],
        both: bool,
    ) -> tuple[Tensor, Tensor]:
        other = left if right is None else right
        tile = torch.mm(left, other.T)
        joint = torch.cat([tile.diagonal(k) for k in partners]) if partners else left.new_empty(0)
        direct = _small(left, right)
        tile = _exponents(tile, offsets, direct)
        sums = [(tile.sum(d).log_() if direct else tile.logsumexp(d)) for d in ((1, 0) if both else (1,))]
        ctx.direct, ctx.both, ctx.partners = direct, both, partners
        logs = torch.cat(sums) if both else sums[0]
        ctx.save_for_backward(left, right, tile, logs)
        return joint, logs

    @staticmethod
    def backward(ctx: Any, of_joint: Tensor, of_logs: Tensor) -> Any:
        left, right, tile, logs = ctx.saved_tensors
        with torch.no_grad():
            m = len(left)
            columns = slice(m, None) if ctx.both else slice(None)
            sums, gradients = [logs[:m], logs[columns]], (of_logs[:m], of_logs[columns])
            weights = _Weights(ctx.direct, sums, gradients, right is None or ctx.both)
            found = _add_up_strips(tile, weights, _Partners(ctx.partners, of_joint, right is None), left, right, ctx)
        return (*_once(found, [t for t in (left, right) if t is not None]), None, None, None)


class _CrossEntropy(torch.autograd.Function):
    """The mean cross-entropy of `_Whole`, where e^S can be summed as it is; dL/dS takes the place of e^S.

    With r the sum of e^S without the partner p: value log(1 + r e^-S_ip), dL/dS_ij = w e^S_ij, dL/dS_ip = - w r,
    w = 1 / (r + e^S_ip).
    """

    @staticmethod
    def forward(
        ctx: Any,
        left: Tensor,
        right: Tensor | None,
        offsets: tuple[int, ...],
        partners: tuple[int, ...],
        both: bool,
    ) -> Tensor:
        other = left if right is None else right
        tile = torch.mm(left, other.T)
        own = torch.cat([tile.diagonal(k) for k in partners]).exp_()
        tile = _exponents(tile, offsets, True)
        sums = torch.cat([tile.sum(1), tile.sum(0)]) if both else tile.sum(1)
        value = (sums / own).log1p_().mean()
        if any(ctx.needs_input_grad):
            weight = own.add_(sums).mul_(len(sums)).reciprocal_()
            m = len(left)
            columns = weight[m:] if both else weight if right is None else None
            _scale(tile, weight[:m, None], columns)
            _Partners(partners, weight.mul(sums).neg_(), right is None).add(tile, 0, m)
            of_left = tile.mm(other) if ctx.needs_input_grad[0] else None
            of_right = tile.T.mm(left) if ctx.needs_input_grad[1] else None
            ctx.save_for_backward(left, right, of_left, of_right)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        left, right, *found = ctx.saved_tensors
        with torch.no_grad():
            found = [None if x is None else x * gradient for x in found]
        return (*_once(found, [t for t in (left, right) if t is not None]), None, None, None)


def _scale(tile: Tensor, rows: Tensor, columns: Tensor | None) -> None:
    """Multiply a tile by rows, or by rows + columns, in place."""
    if columns is None:
        tile.mul_(rows)
        return
    (m, c) = tile.shape
    height = max(2 * PIECE // c, 64) if tile.device.type == "cpu" else m
    for top in range(0, m, height):
        tile[top : top + height].mul_(rows[top : top + height] + columns)


class _Partners:
    """The gradient of the scores on some diagonals, added to a strip of dL/dS.

    Args:
        partners: The diagonals.
        gradient: Of their scores, one diagonal after the other.
        symmetric: Whether what is added to S_ij is added to S_ji too.
    """

    def __init__(self, partners: tuple[int, ...], gradient: Tensor, symmetric: bool) -> None:
        self.partners, self.gradient, self.symmetric = partners, gradient, symmetric

    def add(self, strip: Tensor, top: int, rows: int) -> None:
        """Add them to rows top, top + 1, ... of a matrix that has `rows` rows."""
        start = 0
        found: dict[int, Tensor] = {}
        for k in self.partners:
            length = min(rows, strip.shape[1] - k) - max(0, -k)
            part = self.gradient[start : start + length]
            for diagonal in (k, -k) if self.symmetric and k else (k,) * (1 + self.symmetric):
                found[diagonal] = found[diagonal] + part if diagonal in found else part
            start += length
        for k, part in found.items():
            _add_diagonal(strip, top, k, part)


def _add_diagonal(strip: Tensor, top: int, k: int, values: Tensor) -> None:
    """Add to what a strip from row `top` on has of the diagonal k of a matrix."""
    if not -len(strip) < k + top < strip.shape[1]:
        return
    place = strip.diagonal(k + top)
    begin = max(top, -k) - max(0, -k)
    place.add_(values[begin : begin + len(place)])


def _add_up_strips(
    tile: Tensor, weights: _Weights, partners: _Partners, left: Tensor, right: Tensor | None, ctx: Any
) -> list[Tensor | None]:
    """The gradients with respect to left and right of a matrix that stays as it is."""
    (m, c), other = tile.shape, left if right is None else right
    height = min(m, max(PIECE // c, 64)) if tile.device.type == "cpu" else m
    of_left = torch.empty_like(left) if ctx.needs_input_grad[0] else None
    of_right = torch.zeros_like(other) if right is not None and ctx.needs_input_grad[1] else None
    buffer = tile.new_empty(height, c)
    for top in range(0, m, height):
        rows = slice(top, min(top + height, m))
        strip = weights.of(tile[rows], buffer[: rows.stop - top], rows, slice(0, c))
        partners.add(strip, top, m)
        if of_left is not None:
            torch.mm(strip, other, out=of_left[rows])
        if of_right is not None:
            of_right.addmm_(strip.T, left[rows])
    return [of_left, of_right]


class _Tiled(torch.autograd.Function):
    """Log sums as of `_Whole`, of a matrix that never exists."""

    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor | None, offsets: tuple[int, ...], both: bool, share: Share | None
    ) -> Tensor:
        tiles, direct = _Tiles(left, right, offsets, share), _small(left, right)
        rows = _Sums(len(left), left, direct)
        columns = rows if right is None else _Sums(len(right), left, direct)
        for i, j in tiles.places():
            tile = tiles.exponents(i, j, direct)
            rows.add(i, tile, 1)
            if both or (right is None and i != j):
                columns.add(j, tile, 0)
        logs = rows.result(left.dtype, share)
        if both:
            logs = torch.cat([logs, columns.result(left.dtype, share)])
        ctx.offsets, ctx.direct, ctx.both, ctx.share = offsets, direct, both, share
        ctx.save_for_backward(left, right, logs)
        return logs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        left, right, logs = ctx.saved_tensors
        with torch.no_grad():
            if ctx.share is not None:
                gradient = gradient * ctx.share.size
            parts = [len(left), len(logs) - len(left)]
            sums, gradients = (list(x.split(parts)) if ctx.both else [x, x] for x in (logs, gradient))
            weights = _Weights(ctx.direct, sums, tuple(gradients), right is None or ctx.both)
            tiles = _Tiles(left, right, ctx.offsets, ctx.share)
            found = _add_up(tiles, lambda i, j: weights(tiles.exponents(i, j, ctx.direct), i, j), ctx)
        return (*_once(found, [t for t in (left, right) if t is not None]), None, None, None)


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
        by_row = logs.result(left.dtype, None)
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
