"""A data set: an object with `load() -> Sets(train, test)`, which `ImageData` splits, augments and batches."""

import torch

from ssl_mi.data import ImageSet, Sets


class Stripes:
    """Images of stripes. The class is their direction, one of four; phase and wavelength are free.

    Args:
        train, test: Images of each split.
        width: Pixels a side.
        seed: Of the images.
    """

    def __init__(self, train: int = 2000, test: int = 1000, width: int = 16, seed: int = 0) -> None:
        self.train, self.test, self.width, self.seed = train, test, width, seed

    def load(self) -> Sets:
        return Sets(self._draw(self.train, self.seed), self._draw(self.test, self.seed + 1_000_003))

    def _draw(self, n: int, seed: int) -> ImageSet:
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randint(4, (n,), generator=generator)
        phase, wavelength = torch.rand(2, n, 1, 1, generator=generator)
        angle = direction.view(n, 1, 1) * (torch.pi / 4)
        place = torch.arange(self.width, dtype=torch.float32)
        along = place.view(1, 1, -1) * angle.cos() + place.view(1, -1, 1) * angle.sin()
        grey = (127.5 + 127.5 * torch.sin(2 * torch.pi * (along / (4 + 4 * wavelength) + phase))).to(torch.uint8)
        images = grey[:, None].expand(n, 3, self.width, self.width).contiguous()
        return ImageSet("stripes", images, direction, ("0", "45", "90", "135"), {"phase": phase.flatten()})
