"""An encoder for rows of numbers: columns [n, d] -> h [n, out_dim]."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from ssl_mi.networks.weights import start_from


class TableMLP(nn.Module):
    """Linear, batch norm, ReLU, once per width: for tables, blocks of measurements, embeddings of another model.

    Args:
        in_dim: Number of columns. In a configuration `auto` becomes that of the data.
        widths: Widths of the layers; the last is the width of the output.
        dropout: Chance of a hidden value to be 0 in training.
        weights: What to start from, see `weights.start_from`; None for random weights.

    Attributes:
        out_dim: Width of the output, widths[-1].

    Raises:
        ValueError: On no or non-positive widths, on rows of another width, and on anything but float [n, in_dim].

    Example:
        >>> import torch
        >>> from ssl_mi.networks import TableMLP
        >>> TableMLP(in_dim=30, widths=[64, 16])(torch.randn(2, 30)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        in_dim: int | str,
        widths: Sequence[int] = (256, 256, 128),
        dropout: float = 0.0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if isinstance(in_dim, str) or in_dim < 1:
            raise ValueError(
                f"TableMLP: in_dim={in_dim}: give the number of columns; data=arrays sets it for views that are rows "
                "of numbers, and other data have none"
            )
        if not widths or min(widths) < 1:
            raise ValueError(f"TableMLP: widths must be positive, one a layer, but got {list(widths)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"TableMLP: dropout={dropout} must be at least 0 and less than 1")
        self.in_dim, self.out_dim = int(in_dim), int(widths[-1])
        layers: list[nn.Module] = []
        for d_in, d_out in pairwise([self.in_dim, *widths]):
            layers += [nn.Linear(d_in, d_out, bias=False), nn.BatchNorm1d(d_out), nn.ReLU(inplace=True)]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(*layers[:-1] if dropout else layers)
        start_from(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        """Rows [n, in_dim] -> representations [n, out_dim]."""
        if x.ndim != 2 or not x.is_floating_point() or x.shape[1] != self.in_dim:
            raise ValueError(
                f"TableMLP was made for float rows [n, {self.in_dim}], but got {x.dtype} {list(x.shape)}: set its "
                "in_dim to the number of columns of the view that it sees (data.x_dim, data.y_dim)"
            )
        return self.layers(x)

    def describe(self) -> str:
        """Widths, for the first lines of a run."""
        widths = [layer.out_features for layer in self.layers if isinstance(layer, nn.Linear)]
        return f"MLP {' > '.join(map(str, [self.in_dim, *widths]))}"
