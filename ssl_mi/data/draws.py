"""Random numbers that are a function of what they are for, not of when they were asked.

`Draws` turns (seed, split, epoch, image index, view, op) into a stream of uniform numbers per image, by a
counter-based generator: the k-th number of a stream is `splitmix64(state + k * GOLDEN)`, integer arithmetic
modulo 2**64. So it comes out the same on any device, in any batch, on any number of processes, and after a
resume; nothing is stored, and any view can be drawn again.
Source: Steele, Lea and Flood 2014 (SplitMix64, doi 10.1145/2660193.2660195).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


class Draws:
    """Uniform random numbers for the images `index`: a stream per (seed, split, epoch, index[i], view, op).

    Row i never depends on the other rows. Numbers come in order: `uniform(2)` gives what two calls of
    `uniform(1)` give side by side.

    Args:
        seed: An integer; here as below, a negative one counts modulo 2**64.
        split: The number of the split.
        epoch: The number of the epoch.
        index: int64 [n]; the numbers appear on its device.
        view: The number of the view.
        op: The number of the op within the view.

    Raises:
        ValueError: If `index` is not int64 [n].

    Example:
        >>> import torch
        >>> one = Draws(seed=0, split=0, epoch=3, index=torch.tensor([7]), view=1).uniform(2)
        >>> both = Draws(seed=0, split=0, epoch=3, index=torch.tensor([2, 7]), view=1).uniform(2)
        >>> bool((one == both[1:]).all())  # image 7 has the same draw in any batch
        True
    """

    def __init__(self, seed: int, split: int, epoch: int, index: Tensor, view: int, op: int = 0):
        if index.dtype != torch.int64 or index.ndim != 1:
            raise ValueError(
                f"Draws: index must be int64 [n], got {index.dtype} {list(index.shape)}; "
                "pass the row of each image in its split"
            )
        key = 0
        for word in (seed, split, epoch, view, op):
            key = _finalise((key + GOLDEN + int(word)) & _MASK)
        self._state = splitmix64(index + _signed(key))
        self._drawn = 0

    @classmethod
    def together(cls, parts: Sequence[Draws]) -> Draws:
        """The streams of some draws, of which none was asked for a number, one after the other: as many rows in one.

        Args:
            parts: Draws on one device.
        """
        joint = cls.__new__(cls)
        joint._state, joint._drawn = torch.cat([part._state for part in parts]), 0
        return joint

    def uniform(self, k: int = 1) -> Tensor:
        """The next k numbers of every image: float32 [n, k] in [0, 1), multiples of 2**-24 and so exact."""
        # Made on the device: numbers copied there would make the host wait. Products wrap round at 2**64.
        slots = torch.arange(self._drawn + 1, self._drawn + k + 1, device=self._state.device)
        self._drawn += k
        words = splitmix64(self._state[:, None] + slots * _signed(GOLDEN))
        return ((words >> 40) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def splitmix64(words: Tensor) -> Tensor:
    """SplitMix64's finaliser, elementwise on int64 read as 64-bit words: every input bit stirs every output bit.

    torch's `>>` on int64 drags the sign bit along, so each shift is masked into a logical one.
    """
    for shift, factor in _ROUNDS:
        words = (words ^ ((words >> shift) & (_MASK >> shift))) * _signed(factor)
    return words ^ ((words >> 31) & (_MASK >> 31))


def _finalise(word: int) -> int:
    """`splitmix64` of one Python integer in [0, 2**64)."""
    for shift, factor in _ROUNDS:
        word = (word ^ (word >> shift)) * factor & _MASK
    return word ^ (word >> 31)


def _signed(word: int) -> int:
    """The int64 with the bits of this 64-bit word."""
    return word - (1 << 64) if word >> 63 else word
