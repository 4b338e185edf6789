"""What towers need of an encoder and of a projector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Encoder(Protocol):
    """A module that maps a view [n, ...] to representations h [n, out_dim]. This is all that `Siamese` needs.

    Attributes:
        out_dim: Width of h, an int.
    """

    out_dim: int

    def __call__(self, x: Tensor, /) -> Tensor: ...


@runtime_checkable
class MapEncoder(Encoder, Protocol):
    """An encoder that also gives feature maps, for local heads: ConvNet, ResNet, ViT.

    Attributes:
        map_dims: Channels of the maps, the coarsest first.
    """

    map_dims: Sequence[int]

    def with_maps(self, x: Tensor, /) -> tuple[Tensor, list[Tensor]]:
        """h [n, out_dim], and the maps [n, channels, rows, columns], the coarsest first."""


@runtime_checkable
class PatchEncoder(Encoder, Protocol):
    """An encoder that can be shown some patches of an image only, for masked autoencoders: ViT.

    Attributes:
        image_size: Side of an image, in pixels.
        patch_size: Side of a patch, in pixels.
    """

    image_size: int
    patch_size: int

    def visible(self, x: Tensor, keep: Tensor, /) -> Tensor:
        """Tokens [n, 1 + kept, out_dim] of the patches keep, int64 [n, kept]; the class token comes first."""

    def masked(self, x: Tensor, hidden: Tensor, token: Tensor, /) -> Tensor:
        """Tokens [n, 1 + patches, out_dim] where token [out_dim] replaced the patches hidden, bool [n, patches]."""

    def blocks(self, x: Tensor, last: int, /) -> Tensor:
        """Tokens [n, last, 1 + patches, out_dim] of whole images after each of the last blocks, for data2vec."""


class Head(nn.Module):
    """A network after the encoder whose input width may be known later: `MLP(dims=[512, 128])`.

    A subclass sets `out_dim`, makes its layers in `_make`, and ends its constructor with `self.build(in_dim)`. `Tower`
    builds it for the width of its encoder.

    Attributes:
        in_dim: Width of the input; None before it is known.
        out_dim: Width of the output.
    """

    out_dim: int

    def __init__(self) -> None:
        super().__init__()
        self.in_dim: int | None = None

    def build(self, in_dim: int | None) -> Self:
        """Make the layers, once.

        Args:
            in_dim: Width of the input. None changes nothing: the width is given later.

        Returns:
            The head itself.

        Raises:
            ValueError: If it was built for another width, or if the width is not positive.
        """
        if in_dim is None or in_dim == self.in_dim:
            return self
        name = type(self).__name__
        if in_dim < 1:
            raise ValueError(f"{name}: in_dim must be positive, but got {in_dim}")
        if self.in_dim is not None:
            raise ValueError(f"{name}(in_dim={self.in_dim}) got an input of width {in_dim}: leave in_dim out")
        self._make(in_dim)
        self.in_dim = in_dim
        return self

    def _make(self, in_dim: int) -> None:
        raise NotImplementedError

    def check_input(self, x: Tensor) -> None:
        """Raise ValueError unless `x` is [..., in_dim]."""
        name = type(self).__name__
        if self.in_dim is None:
            raise ValueError(f"{name} does not know the width of its input yet: give {name}(in_dim=...), or a tower")
        if x.shape[-1] != self.in_dim:
            raise ValueError(f"{name} was made for rows of {self.in_dim}, but got {list(x.shape)}")
