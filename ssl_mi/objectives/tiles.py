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

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssl_mi.objectives.score_tiles import KEPT, Rows, Sums, Tiles, Weights, exact, leave_out, once, small
from ssl_mi.objectives.share import Share
from ssl_mi.objectives.small_matrix import CrossEntropy, Whole


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
        return Whole.apply(wide, other, offsets, partners, both)
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
    if len(left) * len(right) > KEPT or not small(wide, other):
        return None
    return CrossEntropy.apply(wide, other, offsets, partners, both)


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


class _Tiled(torch.autograd.Function):
    """Log sums as of `Whole`, of a matrix that never exists."""

    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor | None, offsets: tuple[int, ...], both: bool, share: Share | None
    ) -> Tensor:
        tiles, direct = Tiles(left, right, offsets, share), small(left, right)
        rows = Sums(len(left), left, direct)
        columns = rows if right is None else Sums(len(right), left, direct)
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
            weights = Weights(ctx.direct, sums, tuple(gradients), right is None or ctx.both)
            tiles = Tiles(left, right, ctx.offsets, ctx.share)
            found = _add_up(tiles, lambda i, j: weights(tiles.exponents(i, j, ctx.direct), i, j), ctx)
        return (*once(found, [t for t in (left, right) if t is not None]), None, None, None)


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
        tiles = Tiles(left, right, offsets)
        total, logs = torch.zeros(len(left), dtype=exact(left), device=left.device), Sums(len(left), left, False)
        for i, j in tiles.places():
            scores = leave_out(tiles.scores(i, j).add_(bias), tiles.shifted(i, j), -torch.inf)
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
            tiles = Tiles(left, right, ctx.offsets)
            of_bias = torch.zeros((), dtype=exact(left), device=left.device)

            def weight(i: Rows, j: Rows) -> Tensor:
                share = leave_out(tiles.scores(i, j).add_(bias).sigmoid_(), tiles.shifted(i, j), 0.0)
                share.mul_(gradient[slice(*i), None])
                of_bias.add_(share.sum())
                return share

            found = [*_add_up(tiles, weight, ctx), of_bias.to(bias.dtype)]
        return (*once(found, [left, right, bias]), None)
