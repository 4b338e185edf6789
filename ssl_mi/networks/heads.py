"""Heads: the projector h -> z of a tower, and the local heads of its feature maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from ssl_mi.networks.contracts import Head

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": partial(nn.ReLU, inplace=True), "gelu": nn.GELU}


class MLP(Head):
    """Linear layers with an activation between them and none after the last: [n, in_dim] -> [n, dims[-1]].

    Args:
        in_dim: Width of the input; None where a tower gives it.
        dims: Widths of the layers. The default is SimCLR's projector; [] is the identity.
        batch_norm: Batch norm before each activation.
        final_norm: What follows the last Linear: None; "affine", a batch norm with scale and offset; or "plain", one
            without, as in SimSiam and MoCo v3.
        bias: Whether the Linear layers have a bias. Those before a batch norm never do: it would be subtracted again.
        activation: Between the layers: "relu" or "gelu".

    Attributes:
        out_dim: Width of the output; that of the input for dims=[].

    Raises:
        ValueError: On widths that are not positive, an unknown `final_norm` or `activation`, and rows of another width.

    References:
        Chen et al. 2020 (arXiv:2002.05709), section 2.1; Chen & He 2021 (arXiv:2011.10566).

    Example:
        >>> import torch
        >>> from ssl_mi.networks import MLP
        >>> MLP(32, dims=[16, 8])(torch.randn(2, 32)).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        in_dim: int | None = None,
        dims: Sequence[int] = (512, 128),
        batch_norm: bool = True,
        final_norm: str | None = None,
        bias: bool = True,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"MLP: activation must be one of {', '.join(ACTIVATIONS)}, but got {activation!r}")
        if any(d < 1 for d in dims):
            raise ValueError(f"MLP: widths must be positive, but got dims={list(dims)}")
        if final_norm not in (None, "affine", "plain"):
            raise ValueError(f"MLP: final_norm must be null, 'affine' or 'plain', but got {final_norm!r}")
        if final_norm and not dims:
            raise ValueError(f"MLP: dims=[] is the identity and has no final_norm, but got {final_norm!r}")
        self.dims, self.batch_norm, self.final_norm, self.bias = [int(d) for d in dims], batch_norm, final_norm, bias
        self.activation = activation
        if dims:
            self.out_dim = self.dims[-1]
        self.build(in_dim)

    def _make(self, in_dim: int) -> None:
        widths = [in_dim, *self.dims]
        layers: list[nn.Module] = []
        for i, (d_in, d_out) in enumerate(pairwise(widths)):
            last = i == len(self.dims) - 1
            normed = self.final_norm is not None if last else self.batch_norm
            layers.append(nn.Linear(d_in, d_out, bias=self.bias and not normed))
            if normed:
                layers.append(nn.BatchNorm1d(d_out, affine=not (last and self.final_norm == "plain")))
            if not last:
                layers.append(ACTIVATIONS[self.activation]())
        self.layers = nn.Sequential(*layers)
        self.out_dim = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Rows [..., in_dim] -> rows [..., out_dim]."""
        self.check_input(x)
        return self.layers(x)


class PrototypeHead(Head):
    """DINO's head: an MLP, then cosines with prototypes of unit length: [n, in_dim] -> logits [n, prototypes].

    It belongs to the tower because the teacher has a moving average of it. For the objective `DINO`.

    Args:
        in_dim: Width of the input; None where a tower gives it.
        dims: Widths of the MLP; the last is the bottleneck, which is projected onto the unit sphere.
        prototypes: Number of prototypes, the width of the output.
        batch_norm: Batch norm before each activation of the MLP.
        activation: Of the MLP: "relu" or "gelu".
        weight_std: Standard deviation of the MLP's weights at the start, from a normal distribution, with
            biases of 0. None for those of torch. The authors' heads of transformers have "gelu" and 0.02 and no batch
            norm: activations are small there, and GELU nearly linear, so that embeddings start as far apart as the
            tokens are; ReLU at any scale moves all of them in one direction.

    Raises:
        ValueError: On fewer than 2 prototypes, widths that are not positive, an unknown activation, and a `weight_std`
            that is not positive.

    References:
        Caron et al. 2021 (arXiv:2104.14294), section 3.1 and appendix C.

    Example:
        >>> import torch
        >>> from ssl_mi.networks import PrototypeHead
        >>> PrototypeHead(32, dims=[16, 8], prototypes=5)(torch.randn(2, 32)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        in_dim: int | None = None,
        dims: Sequence[int] = (512, 512, 128),
        prototypes: int = 1024,
        batch_norm: bool = False,
        activation: str = "relu",
        weight_std: float | None = None,
    ) -> None:
        super().__init__()
        if prototypes < 2:
            raise ValueError(f"PrototypeHead: needs 2 prototypes or more, but got {prototypes}")
        if weight_std is not None and weight_std <= 0:
            raise ValueError(f"PrototypeHead: weight_std must be positive, or null for torch's, but got {weight_std}")
        self.mlp, self.out_dim = MLP(None, dims, batch_norm, activation=activation), prototypes
        self.weight_std = weight_std
        self.build(in_dim)

    def _make(self, in_dim: int) -> None:
        self.mlp.build(in_dim)
        if self.weight_std is not None:
            for layer in self.mlp.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.trunc_normal_(layer.weight, std=self.weight_std, a=-2.0, b=2.0)
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)
        self.prototypes = nn.Parameter(normalize(torch.randn(self.out_dim, self.mlp.out_dim), dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """Rows [n, in_dim] -> cosines [n, prototypes]."""
        self.check_input(x)
        return linear(normalize(self.mlp(x), dim=-1), normalize(self.prototypes, dim=1))


class LocalHeads(nn.Module):
    """The local embeddings of feature maps, for `DeepInfoMaxLocal` and `AMDIM`.

    The same MLP of widths [*hidden, out_dim] at every location, that is, a stack of 1 x 1 convolutions: the local side
    of Deep InfoMax's encode-and-dot-product. Batch norms see all locations of all images.

    Args:
        map_dims: Channels of the encoder's maps, the coarsest first.
        out_dim: Width of the projector's output, so that summaries and locations can be compared.
        scales: Which maps, counted from the coarsest.
        hidden: Hidden widths.
        final_norm: As in `MLP`.

    Raises:
        ValueError: On no scales, and on a scale that the encoder does not have.

    References:
        Hjelm et al. 2019 (arXiv:1808.06670).

    Example:
        >>> import torch
        >>> heads = LocalHeads(map_dims=[16], out_dim=8, hidden=[32])
        >>> [local.shape for local in heads([torch.randn(2, 16, 3, 3)])]  # 9 locations
        [torch.Size([2, 9, 8])]
    """

    def __init__(
        self,
        map_dims: Sequence[int],
        out_dim: int,
        scales: Sequence[int] = (0,),
        hidden: Sequence[int] = (512,),
        final_norm: str | None = "plain",
    ) -> None:
        super().__init__()
        if not scales or not all(0 <= scale < len(map_dims) for scale in scales):
            raise ValueError(f"LocalHeads: scales={list(scales)}, and the encoder has maps 0 to {len(map_dims) - 1}")
        self.scales = list(scales)
        self.heads = nn.ModuleList(
            [MLP(map_dims[scale], [*hidden, out_dim], final_norm=final_norm) for scale in self.scales]
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [n, c, rows, columns] -> local embeddings [n, rows * columns, out_dim], one for each of `scales`."""
        return [self._at_every_location(head, maps[s]) for head, s in zip(self.heads, self.scales, strict=True)]

    @staticmethod
    def _at_every_location(head: nn.Module, grid: Tensor) -> Tensor:
        n, _, rows, columns = grid.shape
        return head(grid.permute(0, 2, 3, 1).flatten(0, 2)).view(n, rows * columns, -1)


class Identity(Head):
    """z = h: no projector.

    Args:
        in_dim: Width of the input and of the output; None where a tower gives it.
    """

    def __init__(self, in_dim: int | None = None) -> None:
        super().__init__()
        self.build(in_dim)

    def _make(self, in_dim: int) -> None:
        self.out_dim = in_dim

    def forward(self, x: Tensor) -> Tensor:
        """x itself."""
        return x
