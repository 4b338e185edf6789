"""Which rows make up each training batch: a pure function of (seed, epoch, process)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ssl_mi.data.batch import Source


def this_process() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) when nothing is distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class EpochBatches(Sampler[tuple[int, Tensor]]):
    """The batches of one process: (epoch, rows: int64 [batch_size / world]).

    An epoch is one permutation of the n rows, drawn from (seed, epoch). Global batch b is its stretch
    [b B, (b + 1) B), and process r of W takes the r-th of W equal pieces of that stretch: with W processes
    each global batch holds the same rows as with one. The n mod B rows at the end are left out of that epoch.

    batch_size: B, over all processes.

    Raises ValueError: B not a multiple of W, fewer than two rows a process, fewer rows than one batch.
    """

    def __init__(self, n: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        check_batch_size(batch_size, n, world)
        self.n, self.batch_size, self.seed, self.rank, self.world = n, batch_size, seed, rank, world
        self.epoch = 0
        self.first = 0  # batches of this epoch already seen, when a run resumes inside it

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        if epoch != self.epoch:
            self.epoch, self.first = epoch, 0

    def __len__(self) -> int:
        return self.n // self.batch_size

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        order = torch.from_numpy(np.random.default_rng([self.seed, self.epoch]).permutation(self.n))
        share = self.batch_size // self.world
        epoch = self.epoch
        for batch in range(self.first, len(self)):
            start = batch * self.batch_size + self.rank * share
            yield epoch, order[start : start + share]


def check_batch_size(batch_size: int, n: int | None = None, world: int = 1) -> None:
    """Raise ValueError, with the remedy, for a batch that cannot be trained on."""
    if not isinstance(batch_size, int):
        raise ValueError(f"data.batch_size={batch_size}: use a whole number of images")
    if batch_size < 2:
        raise ValueError(
            f"data.batch_size={batch_size}: an image is compared with the others of its batch, so a batch "
            "needs at least 2"
        )
    if batch_size % world:
        nearest = max(2 * world, batch_size - batch_size % world)
        raise ValueError(
            f"data.batch_size={batch_size} is the batch over all processes and cannot be split evenly over "
            f"{world} of them; use a multiple of {world}, such as {nearest}"
        )
    if batch_size < 2 * world:
        raise ValueError(
            f"data.batch_size={batch_size} leaves {batch_size // world} image for each of {world} processes, "
            f"and each needs 2; use data.batch_size={2 * world} or more, or fewer processes"
        )
    if n is not None and n < batch_size:
        raise ValueError(
            f"data.batch_size={batch_size} is more than the {n} training images (those left after data.limit "
            f"and data.val_fraction); use data.batch_size={max(2, n - n % world)} or less, or more images"
        )


class EpochLoader:
    """The training loader: one `Source` a batch, made by `dataset[epoch, rows]`, in `workers` processes.

    `state_dict` records after which batch of which epoch it stopped, so that a run resumed inside an epoch continues
    with the batches that it had not seen.
    """

    def __init__(self, dataset: Dataset[Source], sampler: EpochBatches, workers: int, pin_memory: bool) -> None:
        self.sampler = sampler
        self._yielded = 0
        self._loader = DataLoader(
            _Told(dataset),
            batch_size=None,  # a row tensor is a whole batch
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Source]:
        # A generator on purpose: Lightning makes the first iterator before it sets the epoch, and workers
        # that started reading then would read the wrong epoch after a resume.
        self._yielded = self.sampler.first
        for source in self._loader:
            if isinstance(source, Exception):
                raise source
            self._yielded += 1
            yield source
        self.sampler.first = 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.sampler.epoch, "batch": self._yielded, "batch_size": self.sampler.batch_size}

    def load_state_dict(self, state: dict[str, int]) -> None:
        done = state["batch"]
        if 0 < done < len(self.sampler) and state["batch_size"] != self.sampler.batch_size:
            raise ValueError(
                f"the checkpoint stopped inside epoch {state['epoch']} at data.batch_size={state['batch_size']}; "
                f"with data.batch_size={self.sampler.batch_size} that place does not exist: resume with the "
                "same batch size, or from a checkpoint made at the end of an epoch"
            )
        self.sampler.epoch = state["epoch"]
        self.sampler.first = self._yielded = done  # after the last batch: nothing, until the epoch changes


class _Told(Dataset[Any]):
    """A data set whose errors are items: raised in a worker process, they would arrive as text with a traceback."""

    def __init__(self, dataset: Dataset[Source]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, Tensor]) -> Source | Exception:
        try:
            return self.dataset[key]
        except (ValueError, OSError) as error:
            return error
