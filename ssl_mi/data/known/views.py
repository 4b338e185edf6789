"""What every generator of views with known mutual information is."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ssl_mi.data.draws import Draws
from ssl_mi.data.known.words import Words

SHARED = 2  # in the place of a view: draws that both views depend on; those of views 0 and 1 are their own


class Pairs(NamedTuple):
    """Which pairs of views: rows `index: int64 [n]` of a split at an epoch. Every number follows from these."""

    seed: int
    split: int
    epoch: int
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index

    def draws(self, view: int, op: int = 0) -> Draws:
        """The random numbers of these pairs for a view, or for both (`SHARED`)."""
        return Draws(self.seed, self.split, self.epoch, self.index, view, op)


class KnownViews:
    """V_v = render(u_v, nuisance_v), two views of a pair.

    Attributes:
        name: What reports call it.
        size: Side of an image, in pixels.
        parts: factor -> nats that it adds to I(V1; V2); factors are independent, so their nats add up.
        columns: The name of each column of u_1, where these are the factors.
        label: The discrete factor that probes take for the class, or None.
        class_names: Its values.
        words: Where view 1 is text: its vocabulary; else None.
    """

    name: str
    size: int
    parts: dict[str, float]
    columns: tuple[str, ...] = ()
    label: str | None = None
    class_names: tuple[str, ...] = ()
    words: Words | None = None

    @property
    def nats(self) -> float:
        """I(V1; V2), exact."""
        return sum(self.parts.values())

    def latents(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(u_1 [n, k], u_2 [n, l]) of these pairs: int64 where they are discrete, float32 where continuous."""
        raise NotImplementedError

    def render(self, u: Tensor, pairs: Pairs, view: int) -> Tensor:
        """V of view 0 or 1 from its u, with this view's own nuisance: uint8 [n, 3, size, size], or the tokens of a
        sentence, int64 [n, length], padded with 0."""
        raise NotImplementedError

    def factors(self, u: Tensor) -> dict[str, Tensor]:
        """The labels and factors that u_1 determines, name -> [n] or [n, k]: by default a column each."""
        return {name: u[:, i] for i, name in enumerate(self.columns)}

    def describe(self) -> str:
        """The nats, and where they come from, in words."""
        shares = [f"{name} {nats:.3f}" for name, nats in self.parts.items() if nats > 0]
        return f"I(V1; V2) = {self.nats:.4f} nats" + (f" ({', '.join(shares)})" if len(shares) > 1 else "")


def check_size(name: str, size: int, smallest: int) -> None:
    """Raise ValueError unless `size` is a whole number, `smallest` or more."""
    if size != int(size) or size < smallest:
        raise ValueError(f"data.size={size}: {name} needs a whole number of pixels, {smallest} or more")


def check_nats(name: str, nats: float, low: float, high: float, remedy: str = "", key: str = "data.nats") -> None:
    """Raise ValueError with the reachable range unless low <= nats <= high."""
    if not low <= nats <= high:
        # Rounded inwards, so that both ends can be asked for.
        ends = f"{-(-low * 1e4 // 1) / 1e4:g} to {high * 1e4 // 1 / 1e4:g}"
        raise ValueError(f"{key}={nats}: {name} can share {ends} nats{'; ' + remedy if remedy else ''}")
