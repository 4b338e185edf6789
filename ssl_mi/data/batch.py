"""What travels from the loader to the module: source images first, views of them after."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Source(NamedTuple):
    """A batch as it leaves the loader: source images, before any augmentation.

    Attributes:
        images: uint8 `[n, c, h, w]`; None when a worker has already cropped them, and when views are drawn from
            nothing but (split, epoch, index) (`known.KnownData`).
        index: int64 `[n]`, the row of each image in its split. It keys the random draws.
        labels: int64 `[n]` or None. The training step never reads them.
        split: 0 train, 1 validation, 2 test.
        epoch: What makes this epoch's draws differ from the last one's.
        crops: One uint8 `[n, c, s, s]` per view, cropped in a worker; None when `images` is there.
    """

    images: Tensor | None
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index
    labels: Tensor | None
    split: int
    epoch: int
    crops: list[Tensor] | None = None


class Batch(NamedTuple):
    """A batch as the module sees it: `views[v][i]` shows source sample `index[i]`.

    Attributes:
        views: One tensor per view, `[n, ...]`: float `[n, c, h, w]`, normalised; the tokens of a sentence, int64
            `[n, length]`; whatever the towers take.
        index: int64 `[n]`.
        labels: int64 `[n]` or None, for objectives that are supervised; everything else ignores them.
    """

    views: list[Tensor]
    index: Tensor  # type: ignore[assignment]
    labels: Tensor | None

    @property
    def boxes(self) -> None:
        """Nothing says which parts of their sources the views show; of a `PlacedBatch` it does."""
        return None


class PlacedBatch(NamedTuple):
    """A `Batch` that knows where its views were cut. Loaders may collate a `Batch`, which holds no None for boxes.

    Attributes:
        views, index, labels: See `Batch`.
        boxes: float32 `[n, views, 4]`: the part of its source that a view shows, as top, left, height and width in
            pixels of the source; a mirrored view has its right edge for `left` and a negative width. For objectives
            that compare places.
    """

    views: list[Tensor]
    index: Tensor  # type: ignore[assignment]
    labels: Tensor | None
    boxes: Tensor
