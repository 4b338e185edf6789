"""What the processes that hold one batch give an objective, so that each computes a part of a loss over all rows."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class Share(Protocol):
    """One of `size` processes that compute one loss on the same rows: `ssl_mi.distributed.Processes` is one.

    What an objective computes with a share is the loss of the whole batch, in every process; its gradient is `size`
    times this process's part of the sum, so that the mean over processes is the gradient of the whole batch.

    Attributes:
        rank: The number of this process, from 0.
        size: How many there are.
    """

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def sum(self, x: Tensor) -> Tensor:
        """The sum over processes, a new tensor without gradient."""

    def largest(self, x: Tensor) -> Tensor:
        """The largest over processes, a new tensor without gradient."""


def own_rows(share: Share, n: int) -> slice:
    """Which of n rows are this process's: those of all processes cover them.

    Args:
        share: Of this process.
        n: Rows in all.
    """
    return slice(n * share.rank // share.size, n * (share.rank + 1) // share.size)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, share: Share) -> Tensor:
        ctx.size = share.size
        return share.sum(part)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.size, None


class SharedScores(nn.Module):
    """A critic whose scores of all pairs each process computes for its own rows: 1 / size of the evaluations.

    The scores are those of the critic, digit for digit. Communication: one sum of n m numbers, forward only.

    Args:
        critic: (x [n, d], y [m, d]) -> [n, m], a row for each of x.
        share: Of this process.
    """

    def __init__(self, critic: nn.Module, share: Share) -> None:
        super().__init__()
        self.critic, self.share = critic, share

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [n, d], y [m, d] -> [n, m]."""
        rows = own_rows(self.share, len(x))
        part = self.critic(x[rows], y)
        return total(pad(part, (0, 0, rows.start, len(x) - rows.stop)), self.share)


def total(part: Tensor, share: Share | None) -> Tensor:
    """The sum of what the processes computed, with the gradient that a `Share` promises; `part` itself without one.

    Args:
        part: Of this process; of any shape, the same everywhere.
        share: Of this process.
    """
    return part if share is None else _Total.apply(part, share)
