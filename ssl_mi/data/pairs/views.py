"""Views of paired samples: which block a view shows, and what is drawn on it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_mi.data.batch import Source
from ssl_mi.data.draws import Draws
from ssl_mi.data.images.augmentations import Augmentation, View
from ssl_mi.data.images.ops import Op
from ssl_mi.data.pairs.blocks import Blocks, PairSource
from ssl_mi.data.pairs.ops import ArrayOp

_APART = 1 << 40  # between the seeds of two image views, which are both view 0 of an augmentation of their own


class BlockView(ABC):
    """One view of a paired sample.

    Attributes:
        block: Which of the measurements it shows.
        numbers: Whether the view is of numbers that features can be computed from without the other views; False for
            tokens.
    """

    block: int
    numbers = True

    @abstractmethod
    def draw(self, source: PairSource, seed: int, view: int) -> Tensor:
        """The view number `view` of a source, `[n, ...]`."""

    @abstractmethod
    def clean(self, x: Tensor) -> Tensor:
        """The view without augmentation, from its block `[n, ...]`."""

    @abstractmethod
    def describe(self) -> str:
        """In a few words."""

    def fit(self, samples: Blocks) -> None:  # noqa: B027 - most views need nothing
        """Learn what the view needs to know of the training samples. Nothing by default."""

    def display(self, view: Tensor) -> np.ndarray | list[str] | None:
        """A view for people; None where this is no view of this kind, or nothing can be drawn."""
        return None

    def preprocessing(self) -> dict[str, Any]:
        """How samples reach the encoder, in plain values."""
        return {}


class ArrayView(BlockView):
    """A view of a block of numbers: rows of a table, windows of a recording.

    Args:
        ops: `ArrayOp`s, in the order in which they are applied.
        block: Which of the measurements.

    Raises:
        ValueError: If an op is no `ArrayOp`.
    """

    def __init__(self, ops: Sequence[ArrayOp], block: int = 0) -> None:
        if wrong := [op for op in ops if not isinstance(op, ArrayOp)]:
            raise ValueError(f"ArrayView: ops must be ops on arrays, got {wrong[0]!r}: check its _target_")
        self.ops, self.block = copy.deepcopy(list(ops)), int(block)  # each learns from its own block

    @torch.no_grad()
    def draw(self, source: PairSource, seed: int, view: int) -> Tensor:
        """The block through all ops."""
        x = source.blocks[self.block]
        for place, op in enumerate(self.ops):
            x = op(x, Draws(seed, source.split, source.epoch, source.index, view, place))
        return x

    def clean(self, x: Tensor) -> Tensor:
        """The block through those ops that select what the view shows, without chance."""
        for op in self.ops:
            if op.selects:
                x = op.clean(x)
        return x

    def fit(self, samples: Blocks) -> None:
        """Show the training samples to the ops."""
        if any(type(op).fit is not ArrayOp.fit for op in self.ops):
            x = samples.blocks[self.block].read(torch.arange(len(samples)))
            for op in self.ops:
                op.fit(x)

    def describe(self) -> str:
        """The ops."""
        return f"block {self.block} [{' > '.join(map(repr, self.ops)) or 'as it is'}]"


class ImageView(BlockView):
    """A view of a block of images.

    Args:
        ops: Image ops, as in `View`.
        size: Side of an image as evaluation sees it, in pixels.
        mean, std: Per channel, of images in [0, 1].
        block: Which of the measurements.
    """

    def __init__(
        self, ops: Sequence[Op], size: int, mean: Sequence[float], std: Sequence[float], block: int = 0
    ) -> None:
        self.augmentation = Augmentation([View(ops)], size, mean, std)
        self.block = int(block)

    def draw(self, source: PairSource, seed: int, view: int) -> Tensor:
        """float32 `[n, c, h, w]`, normalised."""
        images = Source(source.blocks[self.block], source.index, None, source.split, source.epoch)
        return self.augmentation(images, seed + view * _APART)[0]

    def clean(self, x: Tensor) -> Tensor:
        """The middle square, normalised."""
        return self.augmentation.clean_views(x)[0]

    def describe(self) -> str:
        """The ops."""
        return f"block {self.block} [{' > '.join(map(repr, self.augmentation.views[0].ops)) or 'the image itself'}]"

    def display(self, view: Tensor) -> np.ndarray | None:
        """Normalised images `[n, c, h, w]` -> `[n, h, w, c]` in [0, 1]."""
        if view.ndim != 4:
            return None
        return self.augmentation.denormalize(view).permute(0, 2, 3, 1).cpu().numpy()

    def preprocessing(self) -> dict[str, Any]:
        """Size, mean, std, and the ops that select what the view shows."""
        found = self.augmentation
        return {
            "size": found.size,
            "mean": [float(m) for m in found.mean.flatten()],
            "std": [float(s) for s in found.std.flatten()],
            "views": [type(op).__name__ for op in found.views[0].ops if op.selects],
        }


class TokenView(BlockView):
    """A view of a block of tokens: a sentence, with words left out by chance.

    Args:
        drop: Chance of each word to be replaced by the unknown word. Padding stays.
        block: Which of the measurements.

    Raises:
        ValueError: If `drop` is not in [0, 1).
    """

    UNKNOWN = 1  # the token; 0 is padding
    numbers = False

    def __init__(self, drop: float = 0.0, block: int = 1) -> None:
        if not 0 <= drop < 1:
            raise ValueError(f"TokenView: drop={drop} must be at least 0 and less than 1")
        self.drop, self.block = float(drop), int(block)

    def draw(self, source: PairSource, seed: int, view: int) -> Tensor:
        """int64 `[n, length]`."""
        tokens = source.blocks[self.block]
        u = Draws(seed, source.split, source.epoch, source.index, view).uniform(tokens.shape[1])
        return torch.where((u < self.drop) & (tokens != 0), self.UNKNOWN, tokens)

    def clean(self, x: Tensor) -> Tensor:
        """The tokens themselves."""
        return x

    def describe(self) -> str:
        """The chance of a word."""
        return f"block {self.block} [tokens" + (f", each unknown with chance {self.drop:g}]" if self.drop else "]")


class PairViews:
    """The views of paired samples. A `contracts.Views`.

    Args:
        views: One `BlockView` per view, two or more.

    Raises:
        ValueError: On fewer than two views, and on an entry that is no `BlockView`.
    """

    def __init__(self, views: Sequence[BlockView]) -> None:
        if len(views) < 2:
            raise ValueError(f"PairViews: {len(views)} views, and it takes two to be compared: give two or more")
        if wrong := [view for view in views if not isinstance(view, BlockView)]:
            raise ValueError(f"PairViews: views must be ArrayView, ImageView or TokenView, got {wrong[0]!r}")
        self.views = list(views)

    def __call__(self, source: PairSource, seed: int) -> list[Tensor]:
        """Every view of every sample, on the source's device."""
        return [view.draw(source, seed, number) for number, view in enumerate(self.views)]

    def describe(self) -> str:
        """One line per view."""
        return "\n".join(view.describe() for view in self.views)
