"""Several processes in one: threads that meet wherever they exchange sums."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


class Thread:
    """A `ssl_mi.objectives.share.Share` whose processes are threads.

    Attributes:
        numbers: How many were exchanged.
    """

    def __init__(self, rank: int, size: int, barrier: threading.Barrier, given: list[Any]) -> None:
        self.rank, self.size, self.barrier, self.given, self.numbers = rank, size, barrier, given, 0

    def sum(self, x: Tensor) -> Tensor:
        return self._all(x).sum(0)

    def largest(self, x: Tensor) -> Tensor:
        return self._all(x).amax(0)

    def _all(self, x: Tensor) -> Tensor:
        self.numbers += x.numel()
        self.given[self.rank] = x.detach().clone()
        self.barrier.wait(30)
        found = torch.stack(self.given)
        self.barrier.wait(30)
        return found


def together(size: int, work: Callable[[Thread], Any]) -> list[Any]:
    """What `work` gives in each of `size` processes."""
    barrier, given = threading.Barrier(size), [None] * size
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: work(Thread(rank, size, barrier, given)), range(size)))
