"""The contracts of data: what a run, its callbacks and its evaluations need, and what makes a set of samples.

    Data      a data module: the splits, the training batches, and the same samples for evaluation
    Split     what is known about the samples of one split: how many, labels, factors
    Views     draws the views of a batch; Crops: those that can begin where an image is decoded
    Samples   the samples of one split, whatever they are
    Images    samples that are images, in memory or decoded when they are read

A source of one's own needs `Data` and nothing else: no callback, evaluation or run asks for more. The shortest way to
it is a subclass of `ssl_mi.data.module.DataModule`, which has all of it but four methods. Sources of images need less:
an object with `load() -> Sets` is a `data.sets` of `ImageData`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from torch import Tensor

from ssl_mi.data.batch import Batch


@runtime_checkable
class Split(Protocol):
    """What is known about the samples of one split; the samples themselves come from `Data.batches`.

    Attributes:
        labels: int64 `[n]` in `0 .. len(class_names) - 1`, or None where there are none.
        class_names: One per class; empty without labels.
        factors: What generated each sample, where that is known: name -> `[n]` or `[n, k]`. Integers and booleans are
            discrete, floats are continuous.
    """

    @property
    def labels(self) -> Tensor | None: ...

    @property
    def class_names(self) -> Sequence[str]: ...

    @property
    def factors(self) -> Mapping[str, Tensor]: ...

    def __len__(self) -> int: ...


@runtime_checkable
class Known(Protocol):
    """The exact mutual information of the two views, where the data know it."""

    @property
    def nats(self) -> float:
        """I(V1; V2) in nats."""

    def describe(self) -> str:
        """Where it comes from, in one line."""


@runtime_checkable
class Data(Protocol):
    """A LightningDataModule for joint embeddings. Everything below is used after `setup()`, except `setup` itself.

    A *source* is a batch before any augmentation. Its type belongs to the data module; others only use `source.index`
    (int64 `[n]`, rows of the split), `source.labels` (int64 `[n]` or None), and move its tensors to another device.

    Attributes:
        train: What is trained on.
        labelled: The samples that probes are fitted on; with `labels=None` there are no probes.
        val: Held out of training; measured during training, and projections are fitted on it. None: no evaluation. An
            optional `val_is_training` (False where it is left out) says that it is the last rows of `labelled`.
        test: Measured once at the end. None: `val` is measured at the end.
        batch_size: Samples per step, over all processes.
        seed: Fixes the splits, the order of the batches, and every view.
        known: I(V1; V2) where the data know it, else None.

    An optional `numbered` (True where it is left out) is False for a stream, whose training sources have no rows: their
    `index` are numbers of the samples' keys, and `batches("train")` gives samples that probes are fitted on.

    An optional `asked` is set by the module that trains: what its objective requires beside embeddings, by name. What
    costs time to make is made where it is asked for: the `boxes` of a batch.
    """

    train: Any
    labelled: Any
    val: Any
    test: Any
    batch_size: int
    seed: int

    @property
    def known(self) -> Known | None: ...

    def setup(self, stage: str | None = None) -> None:
        """Fill the splits. A second call changes nothing.

        Raises:
            ValueError: What cannot work, with the key to set, before anything is computed.
        """

    def train_dataloader(self) -> Iterable[Any]:
        """The sources of one epoch. A loader with a `sampler.set_epoch` is told the epoch."""

    def on_after_batch_transfer(self, source: Any, dataloader_idx: int) -> Batch:
        """The views of a training source: `Batch(views, index, labels)`, on the source's device."""

    def batches(
        self, split: str, limit: int | None = None, batch_size: int = 512, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Any]:
        """The sources of a split ("train", "labelled", "val" or "test") in order, each sample once.

        Args:
            split: Name of the split.
            limit: Only the first rows, which are a fair sample; more than there are means all.
            batch_size: Samples per source.
            shard: `(rank, world)`: only this process's contiguous piece of those rows.
        """

    def views(self, source: Any, draw: int) -> Batch:
        """Two or more views of a source from `batches`: the same for the same `draw >= 0`, never those of training."""

    def clean_views(self, source: Any) -> list[Tensor]:
        """The samples of a source without augmentation, once per view: what features are computed from."""

    def to_display(self, view: Tensor) -> np.ndarray | list[str] | None:
        """A view for people: images `[n, h, w, c]` in [0, 1], n texts, or None where nothing can be drawn."""

    def describe(self) -> str:
        """The data in one line."""

    def describe_views(self) -> str:
        """The views, one line per kind."""

    def report(self) -> Mapping[str, object]:
        """What a report records: name, sizes of the splits, classes, ...; values that JSON can hold."""


class Views(Protocol):
    """Draws the views of a batch. `Augmentation` is one."""

    def __call__(self, source: Any, /, seed: int) -> list[Tensor]:
        """Every view of every sample, `[n, ...]` each, on the source's device: a function of the seed and of the
        source's split, epoch and index alone."""

    def describe(self) -> str:
        """One line per kind of view."""


class Crops(Protocol):
    """Views whose first step is a crop, which can be made where an image is decoded. `Augmentation` is one."""

    def crop(self, image: Tensor, seed: int, split: int, epoch: int, index: int) -> list[Tensor]:
        """The first crop of every view of one image, uint8 `[c, h, w]` -> uint8 `[c, s, s]` each."""


class Samples(Protocol):
    """The samples of a set in a fixed order."""

    def __len__(self) -> int: ...

    def take(self, rows: Tensor) -> Self:
        """The samples `rows` (int64 `[n]`), in that order. Reads nothing."""


class UnreadableRows(ValueError):
    """Some of the rows that were to be read cannot be; whoever reads leaves them out or takes others.

    Args:
        rows: Which ones.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(f"{len(rows)} of the images to be read cannot be decoded: rows {list(rows[:5])}")
        self.rows = list(rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.rows,)


class Images(Samples, Protocol):
    """Images in a fixed order, in memory or decoded when they are read. What they must be is checked here.

    `read` and `crops` raise `UnreadableRows`, with all such rows, where some cannot be decoded.

    Attributes:
        in_memory: True: `read` gives whole images, and views are drawn from them on the training device. False: views
            start from `crops`, which are made in worker processes.
    """

    @property
    def in_memory(self) -> bool: ...

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(channels, height, width), or None when the images differ."""

    def read(self, rows: Tensor, size: int) -> Tensor:
        """uint8 `[n, c, h, w]`: whole images, or their middle squares of `size` x `size` pixels."""

    def crops(self, rows: Tensor, augmentation: Crops, seed: int, split: int, epoch: int) -> list[Tensor]:
        """The first crop of each view, uint8 `[n, c, s, s]` each."""

    def decoded(self) -> tuple[Images, Tensor, tuple[str, ...]]:
        """The same images in memory where they fit there, the rows kept (int64 `[n]`), and the files left out."""
