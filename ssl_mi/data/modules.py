"""The data of a run: its splits, its training batches, and the same images for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssl_mi.data.batch import Batch, Source
from ssl_mi.data.sampler import EpochBatches, EpochLoader, check_batch_size, this_process
from ssl_mi.data.sets import ImageSet, Sets, stratified_order

if TYPE_CHECKING:
    from ssl_mi.data.augmentations import Augmentation

SPLITS = {"train": 0, "labelled": 0, "val": 1, "test": 2}  # name -> Source.split


class SetSource(Protocol):
    def load(self) -> tuple[ImageSet, ImageSet | None] | Sets: ...


class TrainImages(Dataset[Source]):
    """Training images by (epoch, rows). Images in files are cropped here, with the view's own draws."""

    def __init__(self, images: ImageSet, augmentation: Augmentation, seed: int) -> None:
        self.images, self.augmentation, self.seed = images, augmentation, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, epoch_and_rows: tuple[int, Tensor]) -> Source:
        epoch, rows = epoch_and_rows
        split = SPLITS["train"]
        labels = None if self.images.labels is None else self.images.labels[rows]
        if self.images.in_memory:
            return Source(self.images.images[rows], rows, labels, split, epoch)
        crops = self.images.images.crops(rows, self.augmentation, self.seed, split, epoch)
        return Source(None, rows, labels, split, epoch, crops)


class ImageData(pl.LightningDataModule):
    """Splits a source of images, makes training batches, and hands out the same images for evaluation.

    After `setup()`:
        train     what is trained on
        labelled  the part of it that has labels, where probes are fitted: `train` itself, unless the source
                  gives unlabelled images too (then its first rows); has labels=None when there are no labels
        val       held out of the labelled training images, the same whatever `limit` is; None when val_fraction is 0
        test      the source's own test images, or None

    Every split is put in a seeded random order that spreads classes evenly, so its first rows are a fair sample.

    sets:         source of images; `.load()` gives (train, test) or `Sets`.
    augmentation: makes the training views, on the training device.
    batch_size:   images a step over all processes, which take equal shares of it.
    size:         side of the images as the encoder sees them.
    mean, std:    per channel, in [0, 1]; they belong to `augmentation` and are checked against the images.
    val_fraction: of the labelled training images; 0 for none.
    limit:        train on just this many images. With unlabelled images: the labelled ones first.
    val_limit, test_limit: the same for the other splits. None takes all.
    labels:       False forgets them: training and MI work without, probes do not.
    upscale:      allow images smaller than `size`, which then show nothing that was not there before.
    num_workers:  processes that decode and crop images; only used where images stay in files.
    root:         where the files are; sources read it from here.

    Raises ValueError for what cannot work, in `__init__` where the numbers alone tell, and in `setup`, before
    anything is decoded, where the source is needed.
    """

    def __init__(
        self,
        sets: SetSource,
        augmentation: Augmentation,
        batch_size: int,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        val_fraction: float = 0.1,
        limit: int | None = None,
        val_limit: int | None = None,
        test_limit: int | None = None,
        labels: bool = True,
        upscale: bool = False,
        seed: int = 0,
        num_workers: int = 0,
        root: str | None = None,
    ) -> None:
        super().__init__()
        check_batch_size(batch_size)
        if not 0 <= val_fraction < 1:
            raise ValueError(f"data.val_fraction={val_fraction} must be at least 0 and less than 1")
        for name, value in {"limit": limit, "val_limit": val_limit, "test_limit": test_limit}.items():
            if value is not None and value < 1:
                raise ValueError(f"data.{name}={value}: use a positive number of images, or null for all of them")
        if limit is not None and limit < batch_size:
            raise ValueError(
                f"data.limit={limit} is less than one batch (data.batch_size={batch_size}); "
                "raise the one or lower the other"
            )
        if seed < 0 or num_workers < 0:
            raise ValueError(f"data.seed={seed} and data.num_workers={num_workers} must not be negative")
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"data.mean={list(mean)} and data.std={list(std)}: one positive std a channel, please")
        self.sets, self.augmentation, self.batch_size = sets, augmentation, batch_size
        self.size, self.mean, self.std = size, list(mean), list(std)
        self.val_fraction, self.limit = val_fraction, limit
        self.val_limit, self.test_limit = val_limit, test_limit
        self.use_labels, self.upscale = labels, upscale
        self.seed, self.num_workers, self.root = seed, num_workers, root
        self.train: ImageSet | None = None
        self.labelled: ImageSet | None = None
        self.val: ImageSet | None = None
        self.test: ImageSet | None = None

    # Splits

    def prepare_data(self) -> None:
        """Downloads, in one process a machine."""
        if hasattr(self.sets, "prepare"):
            self.sets.prepare()

    def setup(self, stage: str | None = None) -> None:
        if self.train is not None:
            return
        train, test, unlabelled = Sets(*self.sets.load())
        if not self.use_labels:
            train = train.without_labels()
            test = None if test is None else test.without_labels()
        _check_classes(train)
        for images in (train, test, unlabelled):
            if images is not None:
                self._check_shape(images)

        n_val = round(self.val_fraction * len(train))
        order = stratified_order(train.labels, len(train), [self.seed, SPLITS["val"]])
        val_rows = _first(order[:n_val], self.val_limit, "val_limit", "data.val_fraction holds out")
        rows = order[n_val:]
        available = len(rows) + (0 if unlabelled is None else len(unlabelled))
        wanted = available if self.limit is None else self.limit
        if wanted > available:
            raise ValueError(
                f"data.limit={wanted} is more than the {available} training images of {train.name} ({n_val} more are "
                f"held out by data.val_fraction={self.val_fraction}); use {available} or less, or null for all"
            )
        world = this_process()[1]
        check_batch_size(self.batch_size, wanted, world)
        if test is not None:
            test_order = stratified_order(test.labels, len(test), [self.seed, SPLITS["test"]])
            test = test.take(_first(test_order, self.test_limit, "test_limit", f"{test.name} has"))

        # Whatever can be refused has been; only now are files decoded.
        labelled = train.take(rows[:wanted]).decoded()
        self.val = train.take(val_rows).decoded() if n_val else None
        self.test = None if test is None else test.decoded()
        self.train = self.labelled = labelled
        if unlabelled is not None:
            order = stratified_order(None, len(unlabelled), [self.seed, SPLITS["train"]])
            self.train = _with_unlabelled(labelled, unlabelled, order[: wanted - len(labelled)])
            self.labelled = replace(labelled, images=self.train.images[: len(labelled)])  # shared, not copied
        check_batch_size(self.batch_size, len(self.train), world)  # again: unreadable files may have been skipped

    def _check_shape(self, images: ImageSet) -> None:
        """Raise ValueError when the images do not go with mean, std and size."""
        if images.shape is None:  # files of many sizes; they are RGB
            return
        channels, height, width = images.shape
        if channels != len(self.mean):
            raise ValueError(
                f"{images.name}: the images have {channels} channels, but data.mean and data.std have "
                f"{len(self.mean)}; give one number a channel"
            )
        if min(height, width) < self.size and not self.upscale:
            raise ValueError(
                f"{images.name}: the images are {height}x{width} pixels, smaller than data.size={self.size}; "
                f"use data.size={min(height, width)}, or data.upscale=true to enlarge them"
            )

    # Training

    def train_dataloader(self) -> EpochLoader:
        train = self._split("train")
        rank, world = this_process()
        sampler = EpochBatches(len(train), self.batch_size, self.seed, rank, world)
        return EpochLoader(
            TrainImages(train, self.augmentation, self.seed),
            sampler,
            workers=0 if train.in_memory else self.num_workers,  # memory needs none: they would only copy
            pin_memory=torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, source: Source, dataloader_idx: int) -> Batch:
        """The views of a batch, drawn where the batch is."""
        return Batch(self.augmentation(source, self.seed), source.index, source.labels)

    # Evaluation

    def batches(
        self, split: str, limit: int | None = None, batch_size: int = 512, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Source]:
        """The images of a split in order, a `Source` at a time, each once; unlike training, no row is left out.

        limit: only the first rows, a fair sample of the classes; more than there are means all.
        shard: (rank, world): only this process's piece of those rows. Pieces are contiguous and in rank
        order, and may differ by one row.
        """
        images = self._split(split)
        rank, world = shard
        rows = torch.arange(len(images) if limit is None else min(limit, len(images))).tensor_split(world)[rank]
        for some in rows.split(batch_size) if len(rows) else ():
            labels = None if images.labels is None else images.labels[some]
            yield Source(images.read(some, self.size), some, labels, SPLITS[split], _evaluation_epoch(0))

    def views(self, source: Source, draw: int) -> Batch:
        """Fresh views of a batch from `batches`, on its device: the same for the same `draw` >= 0, and never
        those of any training epoch.
        """
        if draw < 0:
            raise ValueError(f"draw={draw} must not be negative")
        source = source._replace(epoch=_evaluation_epoch(draw))
        images = next(self._split(name) for name, number in SPLITS.items() if number == source.split)
        if not images.in_memory:  # views are cut from the whole image, not from the square that `batches` gives
            key = (self.seed, source.split, source.epoch)
            crops = images.images.crops(source.index.cpu(), self.augmentation, *key)
            source = source._replace(images=None, crops=[crop.to(source.index.device) for crop in crops])
        return Batch(self.augmentation(source, self.seed), source.index, source.labels)

    def clean(self, source: Source) -> Tensor:
        """The images of a batch from `batches` as they are, normalised: float [n, c, size, size]."""
        return self.augmentation.clean(source.images)

    def clean_views(self, source: Source) -> list[Tensor]:
        """`clean` once per view, as the kind of view that it is (see `Augmentation.clean_views`)."""
        return self.augmentation.clean_views(source.images)

    def _split(self, name: str) -> ImageSet:
        if name not in SPLITS:
            raise ValueError(f"split '{name}' is none of {', '.join(SPLITS)}")
        if self.train is None:
            raise RuntimeError("ImageData has no images yet: call setup() first")
        images = getattr(self, name)
        if images is None:
            raise ValueError(f"{self.train.name} has no {name} images")
        return images

    # Telling what there is

    @property
    def has_labels(self) -> bool:
        """Whether there is anything to fit a probe on."""
        return self._split("labelled").labels is not None

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._split("labelled").class_names

    def report(self) -> dict[str, object]:
        """What a run should record about its images."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        labelled = self._split("labelled")
        return {
            "name": labelled.name,
            "images": {name: 0 if images is None else len(images) for name, images in splits.items()},
            "labelled": 0 if labelled.labels is None else len(labelled),
            "classes": list(labelled.class_names),
            "shape": None if labelled.shape is None else list(labelled.shape),
            "view_size": self.size,
            "in_memory": self.train.in_memory,
            "batch_size": self.batch_size,
            "batches_per_epoch": len(self.train) // self.batch_size,
            "skipped": [path for images in splits.values() if images is not None for path in images.skipped],
        }

    def describe(self) -> str:
        """`report` as a few words."""
        found = self.report()
        counts = ", ".join(f"{n:,} {name}" for name, n in found["images"].items())
        shape = "images of many sizes" if found["shape"] is None else "x".join(map(str, found["shape"]))
        classes = f"{len(found['classes'])} classes" if found["labelled"] else "no labels"
        if 0 < found["labelled"] < found["images"]["train"]:
            classes += f" on {found['labelled']:,} of them"
        skipped = f"; {len(found['skipped'])} unreadable files skipped" if found["skipped"] else ""
        where = "in memory" if found["in_memory"] else f"read from files by {self.num_workers} workers"
        return f"{found['name']}: {counts}; {classes}; {shape}, {where}{skipped}"


def _evaluation_epoch(draw: int) -> int:
    """Training epochs count up from 0, evaluation draws down from -1."""
    return -1 - draw


def _first(rows: Tensor, limit: int | None, name: str, of: str) -> Tensor:
    if limit is None:
        return rows
    if limit > len(rows):
        raise ValueError(
            f"data.{name}={limit} is more than the {len(rows)} images that {of}; use less, or null for all"
        )
    return rows[:limit]


def _check_classes(images: ImageSet) -> None:
    if images.labels is None:
        return
    present = images.labels.unique()
    if len(present) < 2:
        raise ValueError(
            f"{images.name}: every image is of the class '{images.class_names[int(present[0])]}', and a probe needs "
            "two classes; data.labels=false trains and measures without labels"
        )


def _with_unlabelled(labelled: ImageSet, unlabelled: ImageSet, rows: Tensor) -> ImageSet:
    """The labelled images first, then `rows` of the unlabelled ones, in one tensor, without labels."""
    if not (labelled.in_memory and unlabelled.in_memory):
        raise ValueError(f"{labelled.name}: a set with unlabelled images has to be in memory")
    k = len(labelled)
    images = torch.empty(k + len(rows), *labelled.images.shape[1:], dtype=torch.uint8)
    images[:k] = labelled.images
    torch.index_select(unlabelled.images, 0, rows, out=images[k:])
    return ImageSet(labelled.name, images)
