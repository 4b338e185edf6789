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
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from ssl_mi.data.draws import Draws

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601 as torchvision rounds it: sums to 0.9999


class Kind(IntEnum):
    """The instructions of the compiled kernel, with the numbers of each."""

    NOTHING = 0
    CROP = 1  # bilinear: top, left, height, width; only as the first instruction
    CROP_CUBIC = 2
    FLIP = 3
    BRIGHTNESS = 4  # factor
    CONTRAST = 5  # factor
    SATURATION = 6  # factor
    HUE = 7  # turns
    LUMA = 8
    CHROMA = 9
    BLUR = 10  # standard deviation in pixels, taps
    SOLARIZE = 11  # threshold


class Steps(NamedTuple):
    """An op on a batch as instructions of the compiled kernel.

    Attributes:
        kinds: int64 `[n, k]`, a `Kind` each: k instructions per image, one after the other.
        numbers: float32 `[n, k, 4]`, what they need; unused ones are 0.
        side: Of what comes out, where it is another size than what goes in.
    """

    kinds: Tensor
    numbers: Tensor
    side: int | None = None


def steps_of(kind: Kind | Tensor, *numbers: Tensor | float, chosen: Tensor | None = None) -> Steps:
    """`Steps` of as many instructions per image as the first tensor has columns, one where it is `[n]`.

    Args:
        kind: One for all, or int64 `[n]` or `[n, k]`.
        numbers: Of each instruction, at most four: `[n]`, `[n, k]`, or one for all.
        chosen: bool of the same shape: False does nothing. None means all.
    """
    shape = next(x.shape for x in (kind, chosen, *numbers) if isinstance(x, Tensor))
    kinds = torch.as_tensor(kind).expand(shape)
    kinds = kinds.where(chosen, int(Kind.NOTHING)) if chosen is not None else kinds
    out = torch.zeros(*shape, 4)
    for place, number in enumerate(numbers):
        out[..., place] = number
    if kinds.ndim == 1:
        kinds, out = kinds[:, None], out[:, None]
    return Steps(kinds.long(), out)


class Op(ABC):
    """Fixed hyper-parameters; `draw` gives one row of parameters per image, `apply` uses them.

    An op may also offer its compiled form, `steps`, for 8-bit images on a CPU. It gives the values of `apply` up to
    rounding. A subclass with an `apply` of its own has no compiled form unless it brings one.

    Attributes:
        selects: True for an op that decides what a view is of (luminance, chrominance) rather than how it varies:
            it is applied to images without augmentation too.
        moves: False for an op that leaves every pixel in its place, as changes of colour do. One that moves them
            says where to in `locate`, or its views have no boxes.
    """

    selects = False
    moves = True

    def draw(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """Parameters for images of this shape, [..., c, h, w]; {} for an op without chance."""
        return {}

    @abstractmethod
    def apply(self, images: Tensor, *args: Any, **params: Any) -> Tensor:
        """The op on images [n, c, h, w] with these parameters, image by image."""

    def steps(self, shape: Sequence[int], *args: Any, **params: Any) -> Steps | None:
        """The op with these parameters as instructions of the compiled kernel, or None where it has no such form.

        Args:
            shape: Of the images, `[n, c, h, w]`.
            args, params: What `draw` gave.

        Raises:
            ValueError: On images that `apply` would refuse.
        """
        return None

    def locate(self, where: Tensor, shape: Sequence[int], *args: Any, **params: Any) -> tuple[Tensor, Sequence[int]]:
        """Which part of the source image the op's output shows, and the output's shape.

        Args:
            where: Of its input, [n, 4], a box as in `Batch.boxes`.
            shape: Of its input, [n, c, h, w].
            args, params: What `draw` gave.

        Raises:
            ValueError: If the op moves pixels and does not say where to.
        """
        if self.moves:
            raise ValueError(
                f"{type(self).__name__} moves pixels, and the objective needs the box of the image that a view shows: "
                "choose an augmentation of crops, flips and changes of colour"
            )
        return where, shape

    @property
    def compiles(self) -> bool:
        """Whether `steps` is as new as `apply`: one that is inherited beside a new `apply` would do something else."""
        names = {"apply", "__call__", "steps"}
        return "steps" in next(vars(kind) for kind in type(self).__mro__ if names & vars(kind).keys())

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
    """`change(images, *rows)` where `chosen` (bool [n]), the images elsewhere.

    On a CPU only what is chosen is computed. Elsewhere all of it is: how many are chosen is known on the device alone,
    and to ask would make the host wait for everything that it has asked for so far. With `own`, `images` are the
    caller's to overwrite.
    """
    if images.device.type != "cpu":
        return torch.where(chosen[:, None, None, None], change(images, *rows), images)
    places = chosen.nonzero().squeeze(1)
    if len(places) == 0:
        return images
    if len(places) == len(images):
        return change(images, *rows).contiguous()
    changed = change(images.index_select(0, places), *(row.index_select(0, places) for row in rows))
    return images.index_copy_(0, places, changed) if own else images.index_copy(0, places, changed)


def constant(numbers: Sequence[float], like: Tensor) -> Tensor:
    """These numbers as a tensor of the type and on the device of another one, copied there once and then kept."""
    return _constant(tuple(numbers), like.dtype, like.device)


@lru_cache(maxsize=256)
def _constant(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # or it could take part in no gradient later
        return torch.tensor(numbers, dtype=dtype, device=device)


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
