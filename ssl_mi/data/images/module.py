"""Data modules of images: the splits of a source, its training batches, and the same images for evaluation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssl_mi.data import duplicates
from ssl_mi.data.batch import Source
from ssl_mi.data.contracts import UnreadableRows
from ssl_mi.data.duplicates import shared_images
from ssl_mi.data.images.augmentations import Augmentation
from ssl_mi.data.images.decoding import shown
from ssl_mi.data.images.memory import TensorImages
from ssl_mi.data.module import SPLITS, DataModule, available_workers, evaluation_epoch
from ssl_mi.data.sampler import check_batch_size, this_process
from ssl_mi.data.sets import ImageSet, Sets, stratified_order

log = logging.getLogger(__name__)


class SetSource(Protocol):
    """Where `ImageData` gets its images: `load()`. A `prepare()` beside it may download, in one process a machine."""

    def load(self) -> Sets | tuple[ImageSet, ImageSet | None]:
        """The training set, and the test set or None."""


class TrainImages(Dataset[Source]):
    """Training images by (epoch, rows). Images in files are cropped here, with the view's own draws."""

    def __init__(self, images: ImageSet, augmentation: Augmentation, seed: int) -> None:
        self.images, self.augmentation, self.seed = images, augmentation, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, epoch_and_rows: tuple[int, Tensor]) -> Source:
        epoch, rows = epoch_and_rows
        split, images = SPLITS["train"], self.images.images
        if images.in_memory:
            labels = self.images.label_rows(rows)
            return Source(images.read(rows, self.augmentation.size), rows, labels, split, epoch)
        rows, crops = self._readable_crops(rows, epoch)
        return Source(None, rows, self.images.label_rows(rows), split, epoch, crops)

    def _readable_crops(self, rows: Tensor, epoch: int) -> tuple[Tensor, list[Tensor]]:
        """As many rows, and their crops: each row that cannot be decoded is replaced by the next that can."""
        tried = set(rows.tolist())
        while True:
            try:
                return rows, self.images.images.crops(rows, self.augmentation, self.seed, SPLITS["train"], epoch)
            except UnreadableRows as error:
                rows = rows.clone()
                for bad in error.rows:
                    row = next(r % len(self) for r in range(bad + 1, bad + len(self)) if r % len(self) not in tried)
                    rows[rows == bad] = row
                    tried.add(row)


class ImageModule(DataModule):
    """What the data modules of images share: images as evaluation sees them, and as people do.

    Args:
        augmentation: Draws the views; gives images without augmentation, and takes the normalisation back.
        batch_size: Images per step, over all processes.
        size: Side of an image as the encoder sees it, in pixels.
        mean, std: Per channel, of images in [0, 1].
        seed: Fixes the splits, the order of the batches, and every view.
    """

    kind = "images"
    augmentation: Augmentation

    def __init__(
        self,
        augmentation: Augmentation,
        batch_size: int,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
    ) -> None:
        super().__init__(augmentation, batch_size, seed)
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"data.mean={list(mean)} and data.std={list(std)}: one positive std a channel, please")
        self.size, self.mean, self.std = size, list(mean), list(std)
        self._check_augmentation()
        self.shared: dict[str, int | None] = {}  # split -> images that are also training images, where that is known

    def _check_augmentation(self) -> None:
        """Raise ValueError where the views are made for other images than those that a checkpoint describes."""
        for name, own in {"size": self.size, "mean": self.mean, "std": self.std}.items():
            found = torch.as_tensor(getattr(self.augmentation, name, own)).flatten().float()
            wanted = torch.as_tensor(own).flatten().float()
            if found.shape != wanted.shape or not torch.allclose(found, wanted):
                given = [round(x, 6) for x in found.tolist()] if name != "size" else int(found)
                raise ValueError(
                    f"augmentation.{name}={given} and data.{name}={own}: what encodes images later knows data.{name}; "
                    "set that one alone, and the views follow"
                )

    def read(self, split: str, rows: Tensor) -> Source:
        """Images `rows` (int64 `[n]`) of a split: uint8 `[n, c, h, w]`, as they are in memory or decoded to squares."""
        images: ImageSet = self._split(split)
        pixels = images.images.read(rows, self.size)
        return Source(pixels, rows, images.label_rows(rows), SPLITS[split], evaluation_epoch(0))

    def clean(self, source: Source) -> Tensor:
        """The images of a batch from `batches` as they are, normalised: float `[n, c, size, size]`."""
        return self.augmentation.clean(_whole(source))

    def clean_views(self, source: Source) -> list[Tensor]:
        """`clean` once per view, as the kind of view that it is (see `Augmentation.clean_views`)."""
        return self.augmentation.clean_views(_whole(source))

    def to_display(self, view: Tensor) -> np.ndarray | list[str]:
        """Normalised images `[n, c, h, w]` -> `[n, h, w, c]` in [0, 1]."""
        return self.augmentation.denormalize(view).permute(0, 2, 3, 1).cpu().numpy()

    def row_names(self, split: str, row: int) -> str:
        """The file of a row of a split, as it can be printed; "" where it comes from no file."""
        paths = getattr(self._split(split).images, "paths", None)
        return "" if paths is None else shown(paths[row])

    def preprocessing(self) -> dict[str, Any]:
        """How images reach the encoder, in plain values: what a checkpoint keeps.

        Returns:
            "size" (pixels), "mean" and "std" (per channel, of images in [0, 1]), and "views": for each view the names
            of the ops that say what it shows (luminance, chrominance); None for a view that is no image. Where images
            are decoded from files, "decoder": the arguments of the `Decoder`.
        """
        views = [
            [type(op).__name__ for op in view.ops if op.selects]
            for view in self.augmentation.views
            for _ in range(view.count)
        ]
        return {
            "size": int(self.size),
            "mean": [float(m) for m in self.mean],
            "std": [float(s) for s in self.std],
            "views": views,
            **self._decoder_settings(),
        }

    def _decoder_settings(self) -> dict[str, Any]:
        """How files become pixels, for sources that have files."""
        return {}

    def report(self) -> dict[str, Any]:
        """What a report records of the images."""
        labelled: ImageSet = self._split("labelled")
        shape = None if labelled.shape is None else list(labelled.shape)
        found = {"shape": shape, "view_size": self.size, "in_memory": self.train.in_memory}
        return {**super().report(), **found, "shared_with_train": dict(self.shared)}

    def _form(self) -> str:
        found = self.report()
        shape = "images of many sizes" if found["shape"] is None else "x".join(map(str, found["shape"]))
        where = "in memory" if found["in_memory"] else f"read from files by {self._workers()} workers"
        return f"{shape}, {where}"


class ImageData(ImageModule):
    """Splits a source of images, makes training batches, and gives the same images for evaluation.

    After `setup()`:
        train     what is trained on
        labelled  the part of it that has labels, where probes are fitted: `train` itself, unless the source
                  gives unlabelled images too (then its first rows); has labels=None when there are no labels
        val       held out of the labelled training images, the same whatever `limit` is. With val_fraction=0 nothing is
                  held out: the last fifth of `labelled`, which is trained on too (`val_is_training`)
        test      the source's own test images, or None

    Every split is in a seeded random order that spreads classes evenly, so its first rows are a fair sample.

    Args:
        sets: Source of images; `.load()` gives (train, test) or `Sets`.
        augmentation: Makes the training views, on the training device.
        batch_size: Images per step over all processes, which take equal shares of it.
        size: Side of the images as the encoder sees them.
        mean, std: Per channel, in [0, 1]; they belong to `augmentation` and are checked against the images.
        val_fraction: Of the labelled training images; 0 to train on all of them, and to measure during training on a
            fifth of them.
        limit: Train on just this many images. With unlabelled images: the labelled ones first.
        val_limit, test_limit: The same for the other splits. None takes all.
        labels: False forgets them: training and MI work without, probes do not.
        upscale: Allow images smaller than `size`, which then show nothing that was not there before.
        seed: Fixes the splits, the order of the batches, and every view.
        num_workers: Processes that decode and crop images, "auto" for `available_workers()`; only used where images
            stay in files.
        root: Where the files are; sources read it from here.

    Raises:
        ValueError: What cannot work: in `__init__` where the numbers alone show it, and in `setup`, before anything is
            decoded, where the source is needed.
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
        num_workers: int | str = 0,
        root: str | None = None,
    ) -> None:
        super().__init__(augmentation, batch_size, size, mean, std, seed)
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
        if num_workers != "auto" and (isinstance(num_workers, bool | str) or num_workers < 0):
            raise ValueError(f"data.num_workers={num_workers}: use a whole number, 0 or more, or auto")
        self.sets = sets
        self.val_fraction, self.limit = val_fraction, limit
        self.val_limit, self.test_limit = val_limit, test_limit
        self.use_labels, self.upscale = labels, upscale
        self.num_workers, self.root = num_workers, root

    # Splits

    def prepare_data(self) -> None:
        """Downloads, in one process a machine."""
        if hasattr(self.sets, "prepare"):
            self.sets.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Load the source, and split it."""
        if self.train is not None:
            return
        train, test, unlabelled, val = Sets(*self.sets.load())
        if not self.use_labels:
            train = train.without_labels()
            test = None if test is None else test.without_labels()
            val = None if val is None else val.without_labels()
        _check_classes(train)
        for images in (train, test, unlabelled, val):
            if images is not None:
                self._check_shape(images)

        n_val = round(self.val_fraction * len(train)) if val is None else 0
        order = stratified_order(train.labels, len(train), [self.seed, SPLITS["val"]])
        if val is None:
            val = train.take(_first(order[:n_val], self.val_limit, "val_limit", "data.val_fraction holds out"))
        else:
            val_order = stratified_order(val.labels, len(val), [self.seed, SPLITS["val"]])
            val = val.take(_first(val_order, self.val_limit, "val_limit", f"the validation images of {val.name} are"))
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
        chosen = train.take(rows[:wanted])
        self._say_shared(chosen, {"val": val, "test": test})
        labelled = chosen.decoded()
        self.val = val.decoded() if len(val) else self._of_training(labelled)
        self.test = None if test is None else test.decoded()
        self.train = self.labelled = labelled
        if unlabelled is not None:
            order = stratified_order(None, len(unlabelled), [self.seed, SPLITS["train"]])
            self.train = _with_unlabelled(labelled, unlabelled, order[: wanted - len(labelled)])
            self.labelled = replace(labelled, samples=self.train.images[: len(labelled)])  # shared, not copied
        check_batch_size(self.batch_size, len(self.train), world)  # again: unreadable files may have been left out

    def _of_training(self, labelled: ImageSet) -> ImageSet | None:
        """The last fifth of the labelled training images, to be measured on where none are held out."""
        n = len(labelled)
        count = n // 5 if self.val_limit is None else min(n // 5, self.val_limit)
        self.val_is_training = count > 0
        return labelled.take(torch.arange(n - count, n)) if count else None

    def _say_shared(self, train: ImageSet, held_out: Mapping[str, ImageSet | None]) -> None:
        """Count the images that are in two splits, as they come from the source, and say so."""
        found = {name: images for name, images in held_out.items() if images is not None and len(images)}
        self.shared = {name: shared_images(train.images, images.images) for name, images in found.items()}
        if note := duplicates.describe(self.shared):
            log.warning("%s: %s", train.name, note)

    # Batches

    def dataset(self) -> TrainImages:
        """The training images, by (epoch, rows)."""
        return TrainImages(self._split("train"), self.augmentation, self.seed)

    def _workers(self) -> int:
        if self._split("train").in_memory:  # workers would only copy
            return 0
        return available_workers() if isinstance(self.num_workers, str) else self.num_workers

    def _decoder_settings(self) -> dict[str, Any]:
        decoder = getattr(self.sets, "decoder", None)
        return {} if decoder is None else {"decoder": decoder.settings()}

    def _uncropped(self, source: Source) -> Source:
        images = next(self._split(name) for name, number in SPLITS.items() if number == source.split)
        if images.in_memory:
            return source
        # Views are cut from the whole image, not from the square that `batches` gives.
        key = (self.seed, source.split, source.epoch)
        crops = images.images.crops(source.index.cpu(), self.augmentation, *key)
        return source._replace(images=None, crops=[crop.to(source.index.device) for crop in crops])

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
    first, then = labelled.images, unlabelled.images
    if not (isinstance(first, TensorImages) and isinstance(then, TensorImages)):
        raise ValueError(f"{labelled.name}: a set with unlabelled images has to be in memory")
    return ImageSet(labelled.name, first.followed_by(then, rows))


def _whole(source: Source) -> Tensor:
    if source.images is None:
        raise ValueError("this source holds crops or nothing but rows: take one from `batches`")
    return source.images
