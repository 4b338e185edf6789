"""The training batches of a stream: read, decoded and cropped by worker processes, joined in this one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ssl_mi.data.batch import Source
from ssl_mi.data.contracts import Crops
from ssl_mi.data.images.decoding import Decoder, UnreadableImage, decode
from ssl_mi.data.images.files import MOST_LOST
from ssl_mi.data.streams.order import number_of, reader_samples
from ssl_mi.data.streams.shards import Sample, Shards

log = logging.getLogger(__name__)

_NAMED = 20  # images that are named when they fail; the others are counted


class Reading:
    """What readers need: the set, its order, and how its images become crops. Can be pickled.

    Args:
        shards: The set.
        counts: Samples of each shard.
        classes: Label -> class; None without labels.
        batch_size: Over all processes.
        readers: R, over all processes; divides the batch.
        shuffle: Samples in the buffers of all readers together.
        augmentation: Makes the first crop of each view.
        decoder: How images are decoded.
        on_error: "skip" or "error": what becomes of an image that cannot be decoded.
        seed: Of the order and of the draws.
    """

    def __init__(
        self,
        shards: Shards,
        counts: Sequence[int],
        classes: dict[int | str, int] | None,
        batch_size: int,
        readers: int,
        shuffle: int,
        augmentation: Crops,
        decoder: Decoder,
        on_error: str,
        seed: int,
    ) -> None:
        self.shards, self.counts, self.classes = shards, list(counts), classes
        self.batch_size, self.readers, self.shuffle = batch_size, readers, shuffle
        self.augmentation, self.decoder, self.on_error, self.seed = augmentation, decoder, on_error, seed
        self.lost = torch.zeros(1, dtype=torch.int64).share_memory_()  # images of this epoch, counted by all workers

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return sum(self.counts) // self.batch_size

    def samples(self, reader: int, epoch: int, first: int = 0) -> Iterator[list[Sample]]:
        """What a reader gives to each batch of an epoch, from the batch number `first` on.

        Args:
            reader: Its number.
            epoch: Of the epoch.
            first: The first batch.
        """
        each, size = self.batch_size // self.readers, max(1, self.shuffle // self.readers)
        along = reader_samples(self.shards, self.counts, reader, self.readers, size, self.seed, epoch)
        for batch in range(self.steps):
            some = list(islice(along, each))
            if batch >= first:
                yield some

    def source(self, samples: Sequence[Sample], epoch: int) -> Source:
        """The crops of some samples; one that cannot be decoded is replaced by another of them.

        Args:
            samples: Of one reader and batch.
            epoch: Of the epoch.
        """
        made = [(sample, self._crops(sample, epoch)) for sample in samples]
        good = [(sample, crops) for sample, crops in made if crops is not None]
        if not good:
            raise OSError(f"none of {len(samples)} images side by side can be decoded, the last is {samples[-1].image}")
        chosen = [made[i] if made[i][1] is not None else good[i % len(good)] for i in range(len(made))]
        crops = [torch.stack(view) for view in zip(*(crops for _, crops in chosen if crops is not None), strict=True)]
        index = torch.tensor([number_of(sample.key) for sample, _ in chosen])
        return Source(None, index, self._labels([sample for sample, _ in chosen]), 0, epoch, crops)

    def _labels(self, samples: Sequence[Sample]) -> Tensor | None:
        if self.classes is None:
            return None
        for sample in samples:
            if sample.label not in self.classes:
                raise ValueError(
                    f"{sample.image} is of the class '{sample.label}', which is none of the {len(self.classes)} known "
                    "ones: name them all by data.classes"
                )
        return torch.tensor([self.classes[sample.label] for sample in samples if sample.label is not None])

    def _crops(self, sample: Sample, epoch: int) -> list[Tensor] | None:
        try:
            pixels = torch.from_numpy(decode(sample.image, self.decoder).copy()).permute(2, 0, 1)
        except UnreadableImage as error:
            if self.on_error != "skip":
                raise
            self._mark(error)
            return None
        return self.augmentation.crop(pixels, self.seed, 0, epoch, number_of(sample.key))

    def _mark(self, error: UnreadableImage) -> None:
        self.lost += 1
        lost = int(self.lost)
        if lost > max(10, MOST_LOST * sum(self.counts)):
            raise OSError(
                f"{lost} images of this epoch could not be decoded, the last one {error.path} ({error.why}): see "
                "whether the shards are whole, and resume from the last checkpoint with ckpt_path="
            )
        if lost <= _NAMED:
            log.warning("left out in this epoch: %s: %s", error.path, error.why)


class _Parts(IterableDataset[Source | Exception]):
    """What a worker process gives to each batch: the part of its readers."""

    def __init__(self, reading: Reading, readers: Sequence[int], epoch: int, first: int) -> None:
        self.reading, self.readers, self.epoch, self.first = reading, readers, epoch, first

    def __iter__(self) -> Iterator[Source | Exception]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        mine = np.array_split(np.asarray(self.readers), workers)[number].tolist()
        try:
            for parts in zip(*(self.reading.samples(k, self.epoch, self.first) for k in mine), strict=True):
                yield joined([self.reading.source(part, self.epoch) for part in parts])
        except (ValueError, OSError) as error:  # raised in a worker process, it would arrive as text with a traceback
            yield error


class StreamPlace:
    """Where a stream is. Lightning tells it the epoch.

    Attributes:
        epoch: Its number.
        first: Batches of it that are already seen, when a run resumes inside it.
    """

    def __init__(self) -> None:
        self.epoch = self.first = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        if epoch != self.epoch:
            self.epoch, self.first = epoch, 0


class StreamLoader:
    """The training loader of a stream.

    `state_dict` records after which batch of which epoch it stopped, and what the order of the samples depends on.

    Args:
        reading: What readers need.
        rank, world: This process, and how many there are; they divide the readers.
        workers: Processes that read, decode and crop; at most as many as readers.
        pin_memory: Whether batches are copied to pinned memory.
    """

    def __init__(self, reading: Reading, rank: int, world: int, workers: int, pin_memory: bool) -> None:
        share = reading.readers // world
        self.reading, self.readers = reading, range(rank * share, (rank + 1) * share)
        self.workers, self.pin_memory = min(workers, share), pin_memory
        self.sampler = StreamPlace()
        self._yielded = 0

    def __len__(self) -> int:
        return self.reading.steps

    def __iter__(self) -> Iterator[Source]:
        place = self.sampler
        self._yielded = place.first
        self.reading.lost.zero_()
        parts = iter(
            DataLoader(
                _Parts(self.reading, self.readers, place.epoch, place.first),
                batch_size=None,
                num_workers=self.workers,
                pin_memory=self.pin_memory,
            )
        )
        for _ in range(place.first, len(self)):
            some = []
            for part in islice(parts, max(1, self.workers)):  # in the order of the workers
                if isinstance(part, Exception):
                    raise part
                some.append(part)
            self._yielded += 1
            yield joined(some)
        self.sampler.first = 0

    def _order(self) -> dict[str, int]:
        """What the order depends on."""
        reading = self.reading
        names = ("batch_size", "readers", "shuffle", "seed")
        return {**{name: getattr(reading, name) for name in names}, "samples": sum(reading.counts)}

    def state_dict(self) -> dict[str, int]:
        """The place, and what the order depends on."""
        return {"epoch": self.sampler.epoch, "batch": self._yielded, **self._order()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a place.

        Args:
            state: As `state_dict` gives it.

        Raises:
            ValueError: If the place does not exist in this stream.
        """
        done = state["batch"]
        if 0 < done < len(self):
            changed = [name for name, value in self._order().items() if state.get(name, value) != value]
            if changed:
                raise ValueError(
                    f"the checkpoint stopped inside epoch {state['epoch']} of a stream with {changed[0]}="
                    f"{state[changed[0]]}; with {changed[0]}={self._order()[changed[0]]} that place does not exist: "
                    "resume with the same, or from a checkpoint made at the end of an epoch"
                )
        self.sampler.epoch = state["epoch"]
        self.sampler.first = self._yielded = done


def joined(parts: Sequence[Source]) -> Source:
    """Parts of one batch, one behind the other.

    Args:
        parts: In the order of their readers.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    views = [part.crops for part in parts if part.crops is not None]
    labels = [part.labels for part in parts if part.labels is not None]
    return first._replace(
        index=torch.cat([part.index for part in parts]),
        labels=torch.cat(labels) if labels else None,
        crops=[torch.cat(view) for view in zip(*views, strict=True)],
    )
