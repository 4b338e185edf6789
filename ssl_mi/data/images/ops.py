"""What an image operation is: drawn, then applied, with one row of parameters per image.

`draw` turns uniform numbers into a dictionary of tensors with one row per image; `apply` is a pure function
of images and those rows, and equals torchvision's operation on each image alone. Images are float32 [n, c,
h, w] in [0, 1]; no op changes its input. Chances are folded into the parameters: an image that an op passes
over has `active` False, or the parameter that changes nothing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from torch import Tensor

from ssl_mi.data.draws import Draws


class Op(ABC):
    """Fixed hyper-parameters; `draw` gives one row of parameters per image, `apply` uses them.

    Attributes:
        selects: True for an op that decides what a view is of (luminance, chrominance) rather than how it varies:
            it is applied to images without augmentation too.
    """

    selects = False

    def draw(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Parameters for images of this shape, [..., c, h, w]; {} for an op without chance."""
        return {}

    @abstractmethod
    def apply(self, images: Tensor, *args: Any, **params: Any) -> Tensor:
        """The op on images [n, c, h, w] with these parameters, image by image."""

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        return self.apply(images, **self.draw(draws, images.shape))

    def __repr__(self) -> str:
        # No dataclass does this for the ops: Hydra would take its instances for configuration.
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in vars(self).items())})"


def active(draws: Draws, p: float) -> Tensor:
    """bool [n], each True with chance p."""
    return draws.uniform()[:, 0] < p


def between(u: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """u in [0, 1) stretched to [low, high)."""
    return low + u * (high - low)


def change_where(
    chosen: Tensor, images: Tensor, change: Callable[..., Tensor], *rows: Tensor, own: bool = False
) -> Tensor:
    """`change(images, *rows)` where `chosen` (bool [n]), the images elsewhere; only what is chosen is computed.

    With `own`, `images` are the caller's to overwrite.
    """
    places = chosen.nonzero().squeeze(1)
    if len(places) == 0:
        return images
    if len(places) == len(images):
        return change(images, *rows).contiguous()
    changed = change(images.index_select(0, places), *(row.index_select(0, places) for row in rows))
    return images.index_copy_(0, places, changed) if own else images.index_copy(0, places, changed)


def refuse(op: Op, name: str, value: Any, want: str) -> NoReturn:
    """Raise the ValueError of an op whose argument is not what it should be."""
    raise ValueError(f"{type(op).__name__}: {name} must be {want}, got {value}")


def check_chance(op: Op, p: float) -> float:
    """p, if it is a probability."""
    if not 0 <= p <= 1:
        refuse(op, "p", p, "a probability in [0, 1]")
    return p


def positive_interval(op: Op, name: str, value: Sequence[float]) -> tuple[float, float]:
    """(low, high), if 0 < low <= high."""
    pair = tuple(value)
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] < math.inf:
        refuse(op, name, value, "two numbers (low, high) with 0 < low <= high")
    return pair
