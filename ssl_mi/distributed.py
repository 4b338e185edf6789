"""Several processes that compute what one would: gathers with gradients, in rank order."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """(this process's rank, number of processes); (0, 1) where nothing is distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _Gather(torch.autograd.Function):
    """[n, ...] -> [W n, ...]; backward sums the gradients of all processes and keeps this one's rows.

    When every process then computes a loss on the gathered rows and DDP averages the parameters'
    gradients over processes, the result is the gradient of the mean of the processes' losses; where
    they all compute the same loss, it is that loss's own gradient, as in one process.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        rank, size = world()
        ctx.rows = slice(rank * x.shape[0], (rank + 1) * x.shape[0])
        x = x.contiguous()
        gathered = [torch.empty_like(x) for _ in range(size)]
        dist.all_gather(gathered, x)
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.rows]


def gather(x: Tensor) -> Tensor:
    """Rows of all processes in rank order, with gradients: [n, ...] -> [W n, ...].

    Every process must hold the same number of rows.
    """
    return x if world()[1] == 1 else _Gather.apply(x)


def gather_views(views: list[Tensor]) -> list[Tensor]:
    """`gather` for the embeddings of several views in one communication: V times [n, d] -> [W n, d]."""
    if world()[1] == 1:
        return views
    return list(gather(torch.stack(views, 1)).unbind(1))


def gather_objects(x: object) -> list:
    """One object from each process, in rank order. For evaluation: goes through pickle, no gradients."""
    size = world()[1]
    if size == 1:
        return [x]
    parts: list = [None] * size
    dist.all_gather_object(parts, x)
    return parts
