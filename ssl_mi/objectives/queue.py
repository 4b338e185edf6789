"""The last rows that were seen, for losses that compare with more than a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Queue(nn.Module):
    """A ring of the last `size` rows pushed: rows [size, dim], with `pushed`, how many ever were.

    It starts as random directions, the same in every process, as in the code of MoCo (He et al. 2020,
    arXiv:1911.05722): the first steps compare with noise. Rows and place are buffers: a resumed run goes on
    with the rows it had. A push that reaches the end goes on at the start; no row is dropped.

    Raises ValueError when more rows are pushed at once than it holds.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"Queue: size must be positive, got {size}")
        self.size = size
        start = torch.randn(size, dim, generator=torch.Generator().manual_seed(0))
        self.register_buffer("rows", normalize(start, dim=1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    def past(self) -> Tensor:
        """The rows as they are now: a copy, which this step's graph may keep while the next ones are pushed."""
        return self.rows.clone()

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        n = rows.shape[0]
        if n > self.size:
            raise ValueError(f"a queue of {self.size} rows can not take {n} at once: raise its size to {n} or more")
        place = (self.pushed + torch.arange(n, device=rows.device)) % self.size
        self.rows.index_copy_(0, place, rows.detach().to(self.rows.dtype))
        self.pushed += n
