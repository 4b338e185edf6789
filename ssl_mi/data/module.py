"""Data modules: the splits of a run, its training batches, and the same samples for evaluation."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssl_mi.data.batch import Batch, PlacedBatch
from ssl_mi.data.contracts import Known, UnreadableRows, Views
from ssl_mi.data.sampler import EpochBatches, EpochLoader, check_batch_size, this_process

log = logging.getLogger(__name__)

SPLITS = {"train": 0, "labelled": 0, "val": 1, "test": 2}  # name -> Source.split


class DataModule(pl.LightningDataModule):
    """What the data modules of this package share: a `contracts.Data` but for four methods.

    A subclass fills `train`, `labelled`, `val` and `test` in `setup` (`SampleSet`s; the last two may be None) and gives

        dataset()             what training batches are read from: `[epoch, rows] -> source`
        read(split, rows)     the source of these rows for evaluation, with `epoch` to be replaced by `views`
        clean_views(source)   the samples without augmentation, once per view
        to_display(view)      a view for people, or None

    A source is a NamedTuple with `index`, `labels`, `split` and `epoch`; `Source` for images.

    Args:
        augmentation: Draws the views, on the device of the batch.
        batch_size: Samples per step, over all processes.
        seed: Fixes the splits, the order of the batches, and every view.

    Raises:
        ValueError: A batch of fewer than two samples, a negative seed.
    """

    known: Known | None = None
    kind = "samples"
    asked: tuple[str, ...] = ()

    val_is_training: bool = False  # whether `val` are training samples too, the last of `labelled`

    def __init__(self, augmentation: Views, batch_size: int, seed: int = 0) -> None:
        super().__init__()
        check_batch_size(batch_size)
        if seed < 0:
            raise ValueError(f"data.seed={seed} must not be negative")
        self.augmentation: Any = augmentation
        self.batch_size, self.seed = batch_size, seed
        self.train: Any = None
        self.labelled: Any = None
        self.val: Any = None
        self.test: Any = None

    # What a subclass gives

    def dataset(self) -> Dataset:
        """What training batches are read from: `dataset[epoch, rows]` is a source. Pickled when there are workers."""
        raise NotImplementedError

    def read(self, split: str, rows: Tensor) -> Any:
        """The source of `rows` (int64 `[n]`) of a split, for evaluation."""
        raise NotImplementedError

    def clean_views(self, source: Any) -> list[Tensor]:
        """The samples of a source from `batches` without augmentation, once per view."""
        raise NotImplementedError

    def to_display(self, view: Tensor) -> np.ndarray | list[str] | None:
        """A view for people: images `[n, h, w, c]` in [0, 1], n texts, or None where nothing can be drawn."""
        return None

    # Training

    def train_dataloader(self) -> Iterable[Any]:
        """The training batches of this process, as sources; each epoch in an order of its own."""
        train = self._split("train")
        rank, world = this_process()
        sampler = EpochBatches(len(train), self.batch_size, self.seed, rank, world)
        return EpochLoader(
            self.dataset(),
            sampler,
            workers=self._workers(),
            pin_memory=torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, source: Any, dataloader_idx: int) -> Batch | PlacedBatch:
        """The views of a batch, drawn where the batch is."""
        return self._batch(source)

    # Evaluation

    def batches(
        self, split: str, limit: int | None = None, batch_size: int = 512, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Any]:
        """The samples of a split in order, a source at a time, each once; unlike training, no row is left out but
        those that cannot be decoded.

        Args:
            split: "train", "labelled", "val" or "test".
            limit: Only the first rows, a fair sample of the classes; more than there are means all.
            batch_size: Samples per source.
            shard: `(rank, world)`: only this process's piece of those rows. Pieces are contiguous and in rank order,
                and may differ by one row.
        """
        samples = self._split(split)
        rank, world = shard
        rows = torch.arange(len(samples) if limit is None else min(limit, len(samples))).tensor_split(world)[rank]
        for some in rows.split(batch_size) if len(rows) else ():
            source = _without_unreadable(lambda rows: self.read(split, rows), some)
            if source is not None:
                yield source

    def views(self, source: Any, draw: int) -> Batch | PlacedBatch:
        """Fresh views of a batch from `batches`, on its device: the same for the same `draw` >= 0, and never
        those of any training epoch.
        """
        if draw < 0:
            raise ValueError(f"draw={draw} must not be negative")
        source = source._replace(epoch=evaluation_epoch(draw))
        return self._batch(self._uncropped(source))

    def _batch(self, source: Any) -> Batch | PlacedBatch:
        views = self.augmentation(source, self.seed)
        if "boxes" in self.asked and hasattr(self.augmentation, "boxes"):
            boxes = self.augmentation.boxes(source, self.seed)
            if boxes is not None:
                return PlacedBatch(views, source.index, source.labels, boxes)
        return Batch(views, source.index, source.labels)

    def _workers(self) -> int:
        """Processes that make the sources of training batches; 0 for this one."""
        return 0

    def _uncropped(self, source: Any) -> Any:
        """The source as views are drawn from it; images that stay in files are cropped here."""
        return source

    def _split(self, name: str) -> Any:
        if name not in SPLITS:
            raise ValueError(f"split '{name}' is none of {', '.join(SPLITS)}")
        if self.train is None:
            raise RuntimeError(f"{type(self).__name__} has no {self.kind} yet: call setup() first")
        samples = getattr(self, name)
        if samples is None:
            raise ValueError(f"{self.train.name} has no {name} {self.kind}")
        return samples

    # Descriptions

    @property
    def has_labels(self) -> bool:
        """Whether there is anything to fit a probe on."""
        return self._split("labelled").labels is not None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes; () without labels."""
        return self._split("labelled").class_names

    def describe_views(self) -> str:
        """The views, one line per kind."""
        return self.augmentation.describe()

    def report(self) -> dict[str, Any]:
        """What a report records of the data."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        labelled = self._split("labelled")
        return {
            "name": labelled.name,
            self.kind: {name: 0 if samples is None else len(samples) for name, samples in splits.items()},
            "labelled": 0 if labelled.labels is None else len(labelled),
            "classes": list(labelled.class_names),
            "batch_size": self.batch_size,
            "batches_per_epoch": len(self.train) // self.batch_size,
            **({"val_is_training": True} if self.val_is_training else {}),
            "skipped": [path for samples in splits.values() if samples is not None for path in samples.unreadable],
        }

    def describe(self) -> str:
        """`report` as a few words."""
        found = self.report()
        also = " of them" if self.val_is_training else ""
        counts = ", ".join(f"{n:,}{also if name == 'val' else ''} {name}" for name, n in found[self.kind].items())
        classes = f"{len(found['classes'])} classes" if found["labelled"] else "no labels"
        if 0 < found["labelled"] < found[self.kind]["train"]:
            classes += f" on {found['labelled']:,} of them"
        skipped = f"; {len(found['skipped'])} unreadable files left out" if found["skipped"] else ""
        return f"{found['name']}: {counts}; {classes}; {self._form()}{skipped}"

    def _form(self) -> str:
        """What the samples are, for `describe`."""
        return self.kind


def available_workers() -> int:
    """One process less than this process's share of the cores, from 1 to 16; 0 where processes are not forked.

    A process that is started anew imports the user's program again, which only a guarded program bears.
    """
    if multiprocessing.get_start_method() != "fork":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cores // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", this_process()[1])))
    return max(1, min(16, share - 1))


def _without_unreadable(read: Callable[[Tensor], Any], rows: Tensor) -> Any:
    """`read(rows)` of those rows that can be decoded; None where none can."""
    while len(rows):
        try:
            return read(rows)
        except UnreadableRows as error:
            rows = rows[~torch.isin(rows, torch.tensor(error.rows))]
    return None


def evaluation_epoch(draw: int) -> int:
    """Training epochs count up from 0, evaluation draws down from -1."""
    return -1 - draw
