"""Heads: the projector h -> z of a tower, and the local heads of its maps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


class MLP(nn.Module):
    """[n, in_dim] -> [n, dims[-1]]: Linear layers of widths `dims`, ReLU between them, none after the last.

    SimCLR's projector is `dims=[512, 128]` (Chen et al. 2020, arXiv:2002.05709, section 2.1);
    `dims=[]` is the identity.

    batch_norm: batch norm before each ReLU.
    final_norm: what follows the last Linear: None; "affine", a batch norm with scale and offset; or
                "plain", one without (SimSiam's projector: Chen & He 2021, arXiv:2011.10566; MoCo v3).
    bias:       whether the Linear layers have one; those that a batch norm follows never do, since it
                would be subtracted again.

    Parameters are said once: YAML gives `_partial_: true` and the widths, the tower passes `in_dim`.
    Raises ValueError on widths that are not positive, an unknown `final_norm`, and rows of another width.
    """

    def __init__(
        self,
        in_dim: int,
        dims: Sequence[int],
        batch_norm: bool = True,
        final_norm: str | None = None,
        bias: bool = True,
    ):
        super().__init__()
        if in_dim < 1 or any(d < 1 for d in dims):
            raise ValueError(f"MLP: widths must be positive, but got in_dim={in_dim}, dims={list(dims)}")
        if final_norm not in (None, "affine", "plain"):
            raise ValueError(f"MLP: final_norm must be null, 'affine' or 'plain', but got {final_norm!r}")
        if final_norm and not dims:
            raise ValueError(f"MLP: dims=[] is the identity and has no final_norm, but got {final_norm!r}")
        widths = [in_dim, *map(int, dims)]
        layers: list[nn.Module] = []
        for i, (d_in, d_out) in enumerate(pairwise(widths)):
            last = i == len(dims) - 1
            normed = final_norm is not None if last else batch_norm
            layers.append(nn.Linear(d_in, d_out, bias=bias and not normed))
            if normed:
                layers.append(nn.BatchNorm1d(d_out, affine=not (last and final_norm == "plain")))
            if not last:
                layers.append(nn.ReLU(inplace=True))
        self.layers = nn.Sequential(*layers)
        self.in_dim, self.out_dim = in_dim, widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.in_dim:
            raise ValueError(f"MLP was made for rows of {self.in_dim}, but got {list(x.shape)}")
        return self.layers(x)


class PrototypeHead(nn.Module):
    """[n, in_dim] -> logits [n, prototypes]: an MLP, then cosines with prototypes, each of unit length.

    DINO's head (Caron et al. 2021, arXiv:2104.14294, section 3.1 and appendix C): an MLP of widths `dims` that ends
    in a bottleneck, the unit sphere, and a linear layer whose rows have length 1. It belongs to the tower because
    the teacher has a moving average of it. Pairs with `objectives.clustering.DINO`.
    """

    def __init__(self, in_dim: int, dims: Sequence[int], prototypes: int, batch_norm: bool = False):
        super().__init__()
        if prototypes < 2:
            raise ValueError(f"PrototypeHead: needs 2 prototypes or more, but got {prototypes}")
        self.mlp = MLP(in_dim, dims, batch_norm)
        self.prototypes = nn.Parameter(normalize(torch.randn(prototypes, self.mlp.out_dim), dim=1))
        self.in_dim, self.out_dim = in_dim, prototypes

    def forward(self, x: Tensor) -> Tensor:
        return linear(normalize(self.mlp(x), dim=-1), normalize(self.prototypes, dim=1))


class LocalHeads(nn.Module):
    """Maps [n, c, rows, columns] -> local embeddings [n, rows * columns, out_dim], one for each of `scales`.

    At every location the same MLP of widths [*hidden, out_dim], which is a stack of 1 x 1 convolutions: the local side
    of Deep InfoMax's encode-and-dot-product (Hjelm et al. 2019, arXiv:1808.06670). Batch norms see every location of
    every image.

    map_dims: the encoder's. out_dim: the projector's, so that summaries and locations can be compared.
    scales:   which maps, counted from the coarsest. final_norm: as in `MLP`.

    Raises ValueError on a scale that the encoder does not have, and on none.
    """

    def __init__(
        self,
        map_dims: Sequence[int],
        out_dim: int,
        scales: Sequence[int] = (0,),
        hidden: Sequence[int] = (512,),
        final_norm: str | None = "plain",
    ):
        super().__init__()
        if not scales or not all(0 <= scale < len(map_dims) for scale in scales):
            raise ValueError(f"LocalHeads: scales={list(scales)}, and the encoder has maps 0 to {len(map_dims) - 1}")
        self.scales = list(scales)
        self.heads = nn.ModuleList(
            [MLP(map_dims[scale], [*hidden, out_dim], final_norm=final_norm) for scale in self.scales]
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [self._at_every_location(head, maps[s]) for head, s in zip(self.heads, self.scales, strict=True)]

    @staticmethod
    def _at_every_location(head: MLP, grid: Tensor) -> Tensor:
        n, _, rows, columns = grid.shape
        return head(grid.permute(0, 2, 3, 1).flatten(0, 2)).view(n, rows * columns, -1)


class Identity(nn.Identity):
    """z = h: no projector."""

    def __init__(self, in_dim: int):
        super().__init__()
        self.out_dim = in_dim
