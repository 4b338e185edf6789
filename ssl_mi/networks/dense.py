"""Heads of a feature map that hand out the features beneath, by which locations of two views are matched."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from ssl_mi.networks.heads import LocalHeads


class DenseHeads(nn.Module):
    """Local embeddings of one feature map, and the map itself without a gradient, for `DenseContrast`.

    Args:
        map_dims: Channels of the encoder's maps, the coarsest first.
        out_dim: Width of the projector's output.
        scale: Which map, counted from the coarsest.
        hidden: Hidden widths of the MLP at every location.
        grid: Rows and columns that the map is averaged to; None for as many as it has.
        final_norm: As in `MLP`.

    Raises:
        ValueError: On a scale that the encoder does not have.

    References:
        Wang et al. 2021 (arXiv:2011.09157), section 3.2.

    Example:
        >>> import torch
        >>> heads = DenseHeads(map_dims=[16], out_dim=8, hidden=[32])
        >>> [part.shape for part in heads([torch.randn(2, 16, 3, 3)])]  # 9 locations
        [torch.Size([2, 9, 8]), torch.Size([2, 9, 16])]
    """

    def __init__(
        self,
        map_dims: Sequence[int],
        out_dim: int,
        scale: int = 0,
        hidden: Sequence[int] = (512,),
        grid: int | None = None,
        final_norm: str | None = None,
    ) -> None:
        super().__init__()
        self.heads = LocalHeads(map_dims, out_dim, [scale], hidden, final_norm)
        self.scale, self.grid = scale, grid

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [n, c, rows, columns] -> local embeddings [n, locations, out_dim] and features [n, locations, c]."""
        maps = list(maps)
        if self.grid is not None:
            maps[self.scale] = adaptive_avg_pool2d(maps[self.scale], self.grid)
        (local,) = self.heads(maps)
        return [local, maps[self.scale].detach().flatten(2).mT]
