"""An encoder for series: windows [n, channels, steps] -> h [n, out_dim]."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ssl_mi.networks.weights import start_from


class ConvNet1d(nn.Module):
    """Convolution over time, batch norm, ReLU, once per width; then the mean over time.

    Each layer halves the number of steps (`strides`). `with_maps` gives the latents z_t before the mean, in the order
    of time, for objectives that compare moments (CPC).

    Args:
        in_channels: Channels of a window. In a configuration `auto` becomes that of the data.
        widths: Channels of the layers; the last is the width of the output.
        kernel: Steps that a convolution sees.
        strides: Steps that a convolution moves, one number a layer or one for all.
        weights: What to start from, see `weights.start_from`; None for random weights.

    Attributes:
        out_dim: Width of the output, widths[-1].
        map_dims: Channels of the maps, the coarsest first.

    Raises:
        ValueError: On numbers that are not positive, windows of other channels, and windows that are too short.

    References:
        van den Oord et al. 2018 (arXiv:1807.03748), section 3.1, for strided convolutions of raw signals.

    Example:
        >>> import torch
        >>> from ssl_mi.networks import ConvNet1d
        >>> net = ConvNet1d(in_channels=3, widths=[16, 32])
        >>> net(torch.randn(2, 3, 64)).shape
        torch.Size([2, 32])
        >>> [latents.shape for latents in net.with_maps(torch.randn(2, 3, 64))[1]]  # 16 moments; 32 of the layer below
        [torch.Size([2, 32, 1, 16]), torch.Size([2, 16, 1, 32])]
    """

    def __init__(
        self,
        in_channels: int | str = 1,
        widths: Sequence[int] = (32, 64, 128, 128),
        kernel: int = 5,
        strides: Sequence[int] | int = 2,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if isinstance(in_channels, str) or in_channels < 1:
            raise ValueError(
                f"ConvNet1d: in_channels={in_channels}: give the number of channels; data=series sets it, and other "
                "data have no windows"
            )
        steps = [strides] * len(widths) if isinstance(strides, int) else list(strides)
        if not widths or min(*widths, kernel, *steps) < 1 or len(steps) != len(widths):
            raise ValueError(
                f"ConvNet1d: widths={list(widths)}, kernel={kernel}, strides={steps}: all of them must be positive, "
                "and there is one stride a width"
            )
        self.in_channels, self.out_dim = int(in_channels), int(widths[-1])
        self.map_dims = [int(width) for width in reversed(widths)]
        stages = []
        for (c_in, c_out), stride in zip(pairwise([self.in_channels, *widths]), steps, strict=True):
            convolution = nn.Conv1d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
            stages.append(nn.Sequential(convolution, nn.BatchNorm1d(c_out), nn.ReLU(inplace=True)))
        self.stages = nn.ModuleList(stages)
        start_from(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        """Windows [n, in_channels, steps] -> representations [n, out_dim]."""
        return self.with_maps(x)[0]

    def with_maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Representations [n, out_dim], and the outputs [n, channels, 1, moments] of the layers, the coarsest first."""
        if x.ndim != 3 or not x.is_floating_point() or x.shape[1] != self.in_channels:
            raise ValueError(
                f"ConvNet1d was made for float windows [n, {self.in_channels}, steps], but got {x.dtype} "
                f"{list(x.shape)}: set encoder.in_channels to the number of channels"
            )
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x[:, :, None])
        return torch.mean(x, dim=2), maps[::-1]

    def describe(self) -> str:
        """Channels, for the first lines of a run."""
        return f"1-d convolutions {' > '.join(map(str, [self.in_channels, *self.map_dims[::-1]]))}"
