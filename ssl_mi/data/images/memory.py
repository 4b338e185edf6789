"""Images that are already in memory, as one tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_mi.data.contracts import Crops


class TensorImages:
    """`contracts.Images` in one tensor.

    Args:
        pixels: uint8 `[N, C, H, W]`.

    Raises:
        ValueError: Another type or number of dimensions.
    """

    in_memory = True

    def __init__(self, pixels: Tensor) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise ValueError(
                f"images must be uint8 [N, C, H, W], not {pixels.dtype} {list(pixels.shape)}: for floats in [0, 1] "
                "pass (255 * images).round().byte(), channels first"
            )
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Tensor | slice | int) -> Tensor:
        return self.pixels[rows]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    def take(self, rows: Tensor) -> TensorImages:
        """The images `rows` (int64 `[n]`), in that order."""
        return TensorImages(self.pixels[rows])

    def read(self, rows: Tensor, size: int) -> Tensor:
        """uint8 `[n, C, H, W]`: the images as they are; `size` is for images of many sizes."""
        return self.pixels[rows]

    def crops(self, rows: Tensor, augmentation: Crops, seed: int, split: int, epoch: int) -> list[Tensor]:
        """The first crop of each view; see `contracts.Images`."""
        crops = [augmentation.crop(self.pixels[i], seed, split, epoch, i) for i in rows.tolist()]
        return [torch.stack(view) for view in zip(*crops, strict=True)]

    def decoded(self) -> tuple[TensorImages, Tensor, tuple[str, ...]]:
        """Themselves: they are in memory."""
        return self, torch.arange(len(self)), ()

    def followed_by(self, other: TensorImages, rows: Tensor) -> TensorImages:
        """These images, then `rows` of the other ones, in one new tensor."""
        k = len(self)
        pixels = torch.empty(k + len(rows), *self.shape, dtype=torch.uint8)
        pixels[:k] = self.pixels
        torch.index_select(other.pixels, 0, rows, out=pixels[k:])
        return TensorImages(pixels)
