"""Blocks: what one measurement holds of every sample, in a fixed order. `Blocks` are the samples of a paired set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from ssl_mi.data.contracts import Images


class PairSource(NamedTuple):
    """A batch before augmentation: the same samples in every block.

    Attributes:
        blocks: One tensor `[n, ...]` per measurement.
        index: int64 `[n]`, the row of each sample in its split. It keys the random draws.
        labels: int64 `[n]` or None.
        split: 0 train, 1 validation, 2 test.
        epoch: What makes this epoch's draws differ from the last one's.
    """

    blocks: list[Tensor]
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index
    labels: Tensor | None
    split: int
    epoch: int


class Block(Protocol):
    """One measurement of N samples."""

    def __len__(self) -> int: ...

    def take(self, rows: Tensor) -> Self:
        """The samples `rows` (int64 `[n]`), in that order."""

    def read(self, rows: Tensor) -> Tensor:
        """What the samples `rows` hold: `[n, ...]`."""


class TensorBlock:
    """A measurement in memory.

    Args:
        x: `[N, ...]`, of any type.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Tensor) -> TensorBlock:
        """The samples `rows` (int64 `[n]`), in that order."""
        return TensorBlock(self.x[rows])

    def read(self, rows: Tensor) -> Tensor:
        """What the samples `rows` hold: `[n, ...]`."""
        return self.x[rows]


class TextBlock:
    """Sentences before they are tokens.

    Args:
        texts: N sentences.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Tensor) -> TextBlock:
        """The sentences of `rows` (int64 `[n]`), in that order."""
        return TextBlock([self.texts[i] for i in rows.tolist()])

    def read(self, rows: Tensor) -> Tensor:
        """Not possible: a tokenizer makes a `TensorBlock` of them first."""
        raise TypeError("sentences become tokens when the data module is set up: call setup() first")


class ImageBlock:
    """Images, in memory or decoded when they are read.

    Args:
        images: A `contracts.Images`.
        size: Side of the middle square of an image that stays in a file, in pixels.
    """

    def __init__(self, images: Images, size: int) -> None:
        self.images, self.size = images, size

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Tensor) -> ImageBlock:
        """The images `rows` (int64 `[n]`), in that order."""
        return ImageBlock(self.images.take(rows), self.size)

    def read(self, rows: Tensor) -> Tensor:
        """uint8 `[n, c, h, w]`."""
        return self.images.read(rows, self.size)


class WindowBlock:
    """Windows of recordings, cut when they are read.

    Args:
        values: All recordings one behind the other, float32 `[channels, total]`.
        starts: First step of each window in `values`, int64 `[N]`.
        length: Steps of a window.
    """

    def __init__(self, values: Tensor, starts: Tensor, length: int) -> None:
        self.values, self.starts, self.length = values, starts, length

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: Tensor) -> WindowBlock:
        """The windows `rows` (int64 `[n]`), in that order; the recordings are shared."""
        return WindowBlock(self.values, self.starts[rows], self.length)

    def read(self, rows: Tensor) -> Tensor:
        """float32 `[n, channels, length]`."""
        steps = self.starts[rows][:, None] + torch.arange(self.length)
        return self.values[:, steps].transpose(0, 1).contiguous()


class Blocks:
    """Samples of which every block holds one measurement. A `contracts.Samples`.

    Args:
        blocks: The measurements, of the same samples in the same order.
        names: What to call each sample: a file, a line of a table; None for its number.

    Raises:
        ValueError: Blocks of unequal length.
    """

    def __init__(self, blocks: Sequence[Block], names: Sequence[str] | None = None) -> None:
        lengths = [len(block) for block in blocks]
        if len(set(lengths)) != 1:
            raise ValueError(
                f"the measurements have {' and '.join(map(str, lengths))} rows: row i of all of them has to be the "
                "same thing, so give files of equally many rows"
            )
        self.blocks, self.names = list(blocks), None if names is None else np.asarray(names, dtype=str)

    def __len__(self) -> int:
        return len(self.blocks[0])

    def take(self, rows: Tensor) -> Blocks:
        """The samples `rows` (int64 `[n]`), in that order. Reads nothing."""
        names = None if self.names is None else self.names[rows.numpy()].tolist()
        return Blocks([block.take(rows) for block in self.blocks], names)

    def read(self, rows: Tensor) -> list[Tensor]:
        """What the samples `rows` hold, a tensor `[n, ...]` per block."""
        return [block.read(rows) for block in self.blocks]
