"""Several processes that compute what one would: gathers with gradients, in rank order."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


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
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rank, size = world()
        ctx.rows = slice(rank * x.shape[0], (rank + 1) * x.shape[0])
        x = x.contiguous()
        gathered = [torch.empty_like(x) for _ in range(size)]
        dist.all_gather(gathered, x)
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # all_reduce writes into its argument, which autograd may still hold: reduce a copy.
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[ctx.rows]


def gather(x: Tensor) -> Tensor:
    """Rows of all processes in rank order, with gradients.

    Communication: one all-gather of n rows forward, one all-reduce of W n rows backward.

    Args:
        x: This process's rows, [n, ...]; every process must hold the same number.

    Returns:
        [W n, ...]; `x` itself in one process.
    """
    return x if world()[1] == 1 else _Gather.apply(x)


def gather_views(views: list[Tensor]) -> list[Tensor]:
    """`gather` for the embeddings of several views, in one communication.

    Args:
        views: One [n, d] for each view.

    Returns:
        One [W n, d] for each view; `views` itself in one process.
    """
    if world()[1] == 1:
        return views
    return list(gather(torch.stack(views, 1)).unbind(1))


def mean_over_processes(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scalars of all processes averaged in value; each keeps the gradient of this process's own.

    For losses that are means over shards of equal size: DDP averages the gradients, which makes the gradient of the
    mean. Communication: one all-reduce of as many numbers, forward only.

    Args:
        values: Named scalars, the same names in every process.

    Returns:
        The means over processes, equal in every process; `values` itself in one process.
    """
    size = world()[1]
    if size == 1 or not values:
        return values
    mean = torch.stack([v.detach().double() for v in values.values()])
    dist.all_reduce(mean)
    return {name: v + (m.to(v.dtype) - v.detach()) for (name, v), m in zip(values.items(), mean / size, strict=True)}


class Processes:
    """All processes as a `ssl_mi.objectives.share.Share`, which objectives use to share the pairs of a loss out.

    Communication: an all-reduce for each sum and each largest number, forward only.
    """

    @property
    def rank(self) -> int:
        """The number of this process."""
        return world()[0]

    @property
    def size(self) -> int:
        """How many there are."""
        return world()[1]

    def sum(self, x: Tensor) -> Tensor:
        """The sum over processes, without gradient.

        Args:
            x: This process's; of one shape everywhere.
        """
        return self._reduced(x, dist.ReduceOp.SUM)

    def largest(self, x: Tensor) -> Tensor:
        """The largest over processes, without gradient.

        Args:
            x: This process's; of one shape everywhere.
        """
        return self._reduced(x, dist.ReduceOp.MAX)

    def _reduced(self, x: Tensor, how: Any) -> Tensor:
        found = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(found, how)
        return found


def gather_objects(x: object) -> list[Any]:
    """One object from each process, in rank order. For evaluation: goes through pickle, no gradients."""
    size = world()[1]
    if size == 1:
        return [x]
    parts: list[Any] = [None] * size
    dist.all_gather_object(parts, x)
    return parts


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the batch of all processes, on any device. (torch's own is for accelerators only.)"""

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"batch norm takes [n, c, ...], got {list(x.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world()[1] == 1:
            return super().forward(x)
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        n = x.new_tensor(x.numel() / x.shape[1], dtype=torch.float64)
        dist.all_reduce(n)
        # Two passes: the difference of a mean square and a squared mean would lose digits.
        wide = x if x.dtype == torch.float64 else x.float()
        mean = _Sum.apply(wide.sum(dims)) / n.to(wide.dtype)
        centred = wide - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(dims)) / n.to(wide.dtype)
        self._track(mean.detach(), (variance * n / (n - 1)).detach())
        out = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased: Tensor) -> None:
        """Move the running statistics, where there are any, towards those of this batch."""
        count, running_mean, running_var = self.num_batches_tracked, self.running_mean, self.running_var
        if not self.track_running_stats or count is None or running_mean is None or running_var is None:
            return
        count += 1
        momentum = 1 / float(count) if self.momentum is None else self.momentum
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Compute every batch norm of a module over the batch of all processes.

    Args:
        module: Its batch norms are replaced in place; the state dict keeps its keys.
        device: Where it will run: torch's own synchronised batch norm serves accelerators only.

    Returns:
        The module.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            other = SyncBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            other.__dict__.update(child.__dict__)  # the same parameters, buffers and mode
            setattr(module, name, other)
        else:
            synchronise_batch_norm(child, device)
    return module
