"""Sums over all pairs of rows where the matrix of scores is small: it is kept for the gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssl_mi.objectives.score_tiles import PIECE, Weights, exponents, once, small


class Whole(torch.autograd.Function):
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
        direct = small(left, right)
        tile = exponents(tile, offsets, direct)
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
            weights = Weights(ctx.direct, sums, gradients, right is None or ctx.both)
            found = _add_up_strips(tile, weights, _Partners(ctx.partners, of_joint, right is None), left, right, ctx)
        return (*once(found, [t for t in (left, right) if t is not None]), None, None, None)


class CrossEntropy(torch.autograd.Function):
    """The mean cross-entropy of `Whole`, where e^S can be summed as it is; dL/dS takes the place of e^S.

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
        tile = exponents(tile, offsets, True)
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
        return (*once(found, [t for t in (left, right) if t is not None]), None, None, None)


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
    tile: Tensor, weights: Weights, partners: _Partners, left: Tensor, right: Tensor | None, ctx: Any
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
