"""Images that are already in memory, as one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_mi.data.contracts import Crops
from ssl_mi.data.images.index import Paths


class TensorImages:
    """`contracts.Images` in one tensor.

    Args:
        pixels: uint8 `[N, C, H, W]`.
        paths: The files that they come from, N of them; None where there are no files.

    Raises:
        ValueError: Another type or number of dimensions, or another number of paths.
    """

    in_memory = True

    def __init__(self, pixels: Tensor, paths: Sequence[str] | None = None) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise ValueError(
                f"images must be uint8 [N, C, H, W], not {pixels.dtype} {list(pixels.shape)}: for floats in [0, 1] "
                "pass (255 * images).round().byte(), channels first"
            )
        if paths is not None and len(paths) != len(pixels):
            raise ValueError(f"{len(pixels)} images but {len(paths)} paths: give one path an image, or none")
        self.pixels = pixels
        self.paths = paths if paths is None or isinstance(paths, Paths) else Paths(paths)

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
        return TensorImages(self.pixels[rows], None if self.paths is None else self.paths.take(rows.numpy()))

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
