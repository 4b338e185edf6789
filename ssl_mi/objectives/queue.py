"""A ring buffer of past rows, for losses that compare with more than a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Queue(nn.Module):
    """The last `size` rows that were pushed.

    It starts as random directions, the same in every process, as in the code of MoCo (He et al. 2020,
    arXiv:1911.05722): the first steps compare with noise. Rows and position are buffers, so a resumed run continues
    with the same rows. A push that reaches the end continues at the start; no row is dropped.

    Args:
        size: Number of rows.
        dim: Width of a row.
        key: Of the configuration, that sets `size`.

    Attributes:
        rows: The rows [size, dim].
        pushed: How many rows were ever pushed, int64.

    Raises:
        ValueError: If `size` is not positive, or if more rows are pushed at once than it holds.

    Example:
        >>> import torch
        >>> queue = Queue(size=4, dim=2)
        >>> queue.push(torch.ones(3, 2))
        >>> int(queue.rows.eq(1).all(1).sum())
        3
    """

    rows: Tensor
    pushed: Tensor

    def __init__(self, size: int, dim: int, key: str = "objective.queue") -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"Queue: size must be positive, got {size}")
        self.size, self.key = size, key
        start = torch.randn(size, dim, generator=torch.Generator().manual_seed(0))
        self.register_buffer("rows", normalize(start, dim=1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    def larger_than(self, images: int) -> str:
        """What is wrong with a queue over so few images, and what to set; "" for nothing.

        Args:
            images: That are trained on.
        """
        if self.size <= images:
            return ""
        return (
            f"a queue of {self.size:,} rows over {images:,} training images holds each image itself up to "
            f"{-(-self.size // images)} times, among its negatives or neighbours: set {self.key} to {images} or less"
        )

    def past(self) -> Tensor:
        """A copy of the rows [size, dim], which the graph of this step may keep while new rows are pushed."""
        return self.rows.clone()

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Replace the oldest rows by `rows` [n, dim]."""
        n = rows.shape[0]
        if n > self.size:
            raise ValueError(f"a queue of {self.size} rows cannot take {n} at once: set {self.key} to {n} or more")
        place = (self.pushed + torch.arange(n, device=rows.device)) % self.size
        self.rows.index_copy_(0, place, rows.detach().to(self.rows.dtype))
        self.pushed += n
