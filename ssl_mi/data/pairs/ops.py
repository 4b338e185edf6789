"""Augmentation of arrays: rows of a table `[n, d]`, windows of a recording `[n, channels, steps]`.

An op maps a batch to a batch, with random numbers from `Draws`: each sample has its own, whatever the batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ssl_mi.data.draws import Draws


class ArrayOp(ABC):
    """One step of the augmentation of arrays.

    Attributes:
        selects: True for an op that decides what a view shows of a sample (a window) rather than how it varies: its
            `clean` is applied to samples without augmentation too.
    """

    selects = False

    @abstractmethod
    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        """The op on a batch `[n, ...]`; row i depends on x[i] and on its own draws alone. `x` is not changed."""

    def clean(self, x: Tensor) -> Tensor:
        """What the op shows of a sample without chance."""
        return x

    def fit(self, x: Tensor) -> None:  # noqa: B027 - most ops need nothing
        """Learn what the op needs to know of the training samples `[N, ...]`. Nothing by default."""

    def __repr__(self) -> str:
        shown = {name: value for name, value in vars(self).items() if not isinstance(value, Tensor | None)}
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in shown.items())})"


def normal(draws: Draws, k: int) -> Tensor:
    """Standard normal numbers, float32 `[n, k]` (Box and Muller 1958, doi 10.1214/aoms/1177706645)."""
    u = draws.uniform(2 * k)
    return (-2 * (1 - u[:, :k]).log()).sqrt() * (2 * math.pi * u[:, k:]).cos()


def _chance(op: ArrayOp, name: str, p: float, below_one: bool = False) -> float:
    if not 0 <= p <= 1 or (below_one and p == 1):
        limits = "at least 0 and less than 1" if below_one else "in [0, 1]"
        raise ValueError(f"{type(op).__name__}: {name}={p} must be {limits}")
    return float(p)


# ------------------------------------------------------------------------------------------------------ any arrays


class Noise(ArrayOp):
    """x + std e with e standard normal; for series it is called jitter.

    Args:
        std: In units of a standardised column or channel.
    """

    def __init__(self, std: float = 0.1) -> None:
        if std < 0:
            raise ValueError(f"Noise: std={std} must not be negative")
        self.std = float(std)

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        return x + self.std * normal(draws, x[0].numel()).view(x.shape)


# ---------------------------------------------------------------------------------------------------------- tables


class Mask(ArrayOp):
    """Each value is replaced by 0, the mean of a standardised column, with chance p.

    Args:
        p: Chance.
    """

    def __init__(self, p: float = 0.2) -> None:
        self.p = _chance(self, "p", p)

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        return x * (draws.uniform(x[0].numel()).view(x.shape) >= self.p)


class FeatureDropout(ArrayOp):
    """A share of the columns, drawn anew for each row, becomes 0, and the others are scaled up.

    The share s is uniform in [0, most]; a column is kept with chance 1 - s and then divided by 1 - s, so that the
    expectation stays.

    Args:
        most: The largest share, less than 1.
    """

    def __init__(self, most: float = 0.5) -> None:
        self.most = _chance(self, "most", most, below_one=True)

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        kept = 1 - self.most * draws.uniform(1)
        u = draws.uniform(x[0].numel())
        return x * ((u < kept) / kept).view(x.shape)


class Corrupt(ArrayOp):
    """Each value is replaced, with chance p, by the value of the same column in a random training row (SCARF).

    The replacement is a draw from the empirical marginal of the column; every value has a row of its own, so the
    columns of a corrupted row are independent of each other. SCARF corrupts a fixed number of the columns,
    floor(p d) of them drawn at random; here each is corrupted on its own, with the same share in expectation.

    Args:
        p: Chance; 0.6 in the paper.

    References:
        Bahri et al. 2022 (arXiv:2106.15147), section 3, algorithm 1.
    """

    def __init__(self, p: float = 0.6) -> None:
        self.p = _chance(self, "p", p)
        self.rows: Tensor | None = None

    def fit(self, x: Tensor) -> None:
        """Keep the training rows `[N, d]`: their columns are the marginals."""
        self.rows = x.flatten(1)

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        if self.rows is None or self.rows.shape[1] != x[0].numel():
            raise ValueError("Corrupt: the marginals of these columns are not known: call fit(training rows) first")
        rows = self.rows = self.rows.to(x.device)
        d = x[0].numel()
        chosen = draws.uniform(d) < self.p
        at = (draws.uniform(d) * len(rows)).long().clamp_max(len(rows) - 1)
        other = rows.gather(0, at).to(x.dtype)
        return torch.where(chosen, other, x.flatten(1)).view(x.shape)


# ---------------------------------------------------------------------------------------------------------- series


class Crop(ArrayOp):
    """A window of `length` steps at a random place; without chance, the middle one.

    Args:
        length: Steps.
    """

    selects = True

    def __init__(self, length: int) -> None:
        if length < 1:
            raise ValueError(f"Crop: length={length} must be positive")
        self.length = int(length)

    def _room(self, x: Tensor) -> int:
        if x.shape[-1] < self.length:
            raise ValueError(f"Crop: length={self.length} is more than the {x.shape[-1]} steps that there are")
        return x.shape[-1] - self.length

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        first = (draws.uniform(1) * (self._room(x) + 1)).long()
        steps = first + torch.arange(self.length, device=x.device)
        return x.gather(-1, steps[:, None].expand(-1, x.shape[1], -1))

    def clean(self, x: Tensor) -> Tensor:
        """The middle `length` steps."""
        first = self._room(x) // 2
        return x[..., first : first + self.length]


class Window(ArrayOp):
    """The window number `number` of `length` steps: those of number 0, 1, 2, ... are consecutive views.

    Args:
        number: From 0 on; the window begins at step number x length.
        length: Steps.
    """

    selects = True

    def __init__(self, number: int, length: int) -> None:
        if number < 0 or length < 1:
            raise ValueError(f"Window: number={number} and length={length}: a number from 0 on, and a positive length")
        self.number, self.length = int(number), int(length)

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        return self.clean(x)

    def clean(self, x: Tensor) -> Tensor:
        """The window itself: there is no chance in it."""
        first = self.number * self.length
        if x.shape[-1] < first + self.length:
            raise ValueError(
                f"Window: window {self.number} of {self.length} steps ends at step {first + self.length} of samples "
                f"that have {x.shape[-1]}: set data.span={first + self.length} or more, or leave that view out"
            )
        return x[..., first : first + self.length]


class Scale(ArrayOp):
    """Each channel times exp(std e) with e standard normal, one factor a channel.

    Args:
        std: Of the logarithm of the factor.
    """

    def __init__(self, std: float = 0.2) -> None:
        if std < 0:
            raise ValueError(f"Scale: std={std} must not be negative")
        self.std = float(std)

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        return x * (self.std * normal(draws, x.shape[1])).exp()[:, :, None]


class TimeMask(ArrayOp):
    """A stretch of the steps becomes 0 in all channels.

    Args:
        most: The longest stretch as a share of the steps; its length is uniform in [0, most].
    """

    def __init__(self, most: float = 0.2) -> None:
        self.most = _chance(self, "most", most)

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        return x * ~_stretch(x.shape[-1], self.most, draws)[:, None]


class FrequencyMask(ArrayOp):
    """A band of the frequencies of each channel is removed; the mean stays.

    The real Fourier transform of the window, a stretch of its coefficients set to 0, and back.

    Args:
        most: The widest band as a share of the frequencies; its width is uniform in [0, most].
    """

    def __init__(self, most: float = 0.2) -> None:
        self.most = _chance(self, "most", most)

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        spectrum = torch.fft.rfft(x.float(), dim=-1)
        removed = _stretch(spectrum.shape[-1] - 1, self.most, draws)
        kept = torch.cat([removed.new_ones(len(x), 1), ~removed], 1)[:, None]
        return torch.fft.irfft(spectrum * kept, n=x.shape[-1], dim=-1).to(x.dtype)


def _stretch(steps: int, most: float, draws: Draws) -> Tensor:
    """bool `[n, steps]`: a stretch of at most `most` of the steps, at a random place."""
    u = draws.uniform(2)
    length = (u[:, :1] * (int(most * steps) + 1)).long()
    first = (u[:, 1:] * (steps - length + 1)).long()
    at = torch.arange(steps, device=u.device)
    return (at >= first) & (at < first + length)
