"""An invertible encoder: affine coupling layers, Dinh et al. 2017 (arXiv:1605.08803), section 3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ssl_mi.networks.encoders import check_images


class CouplingEncoder(nn.Module):
    """Affine coupling layers on the d = c h w pixels of an image, each after a fixed permutation.

    A layer keeps one half of its coordinates, a, and transforms the other, b, by a function of a (eq. 7 of the paper;
    eq. 8 is the inverse):

        b' = b * e^s(a) + t(a),    b = (b' - t(a)) * e^-s(a),    |s| <= limit

    s and t are outputs of one network, whose last layer starts at 0: an untrained encoder permutes the pixels and does
    nothing else. Every second layer transforms what the one before it kept.

    Mutual information is invariant under invertible maps of either side, so for any weights I(f(X); g(Y)) = I(X; Y):
    training can neither lose nor add information, only rearrange it.

    Args:
        in_shape: Channels, height and width of an image.
        depth: Number of layers.
        hidden: Hidden widths of the network of each layer.
        limit: Largest |s|, the logarithm of the factor by which a layer stretches a coordinate, so that rounding errors
            grow by a bounded factor per layer.
        seed: Of the permutations; the weights use torch's own generator.

    Attributes:
        out_dim: d, the width of the output.

    Raises:
        ValueError: On images of another shape, fewer than 2 pixels, no layers, no widths, or `limit` <= 0.

    References:
        Dinh et al. 2017 (arXiv:1605.08803), section 3.

    Example:
        >>> import torch
        >>> from ssl_mi.networks import CouplingEncoder
        >>> CouplingEncoder((3, 8, 8), depth=2)(torch.randn(2, 3, 8, 8)).shape
        torch.Size([2, 192])
    """

    orders: Tensor

    def __init__(
        self,
        in_shape: Sequence[int] = (3, 32, 32),
        depth: int = 6,
        hidden: Sequence[int] = (128,),
        limit: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_dim, self.limit = tuple(in_shape), math.prod(in_shape), limit
        if self.out_dim < 2 or depth < 1 or not hidden or min(hidden) < 1 or limit <= 0:
            raise ValueError(
                f"CouplingEncoder: in_shape={list(in_shape)}, depth={depth}, hidden={list(hidden)}, limit={limit}: "
                f"give 2 pixels, a layer and a width or more, and a limit above 0"
            )
        self.kept = self.out_dim // 2
        generator = torch.Generator().manual_seed(seed)
        swapped = torch.arange(self.out_dim).roll(self.out_dim - self.kept)
        orders = [swapped if i % 2 else torch.randperm(self.out_dim, generator=generator) for i in range(depth)]
        self.register_buffer("orders", torch.stack(orders))
        self.nets = nn.ModuleList(_net(self.kept, hidden, 2 * (self.out_dim - self.kept)) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, *in_shape] -> representations [n, d]."""
        check_images(x, self.in_shape[0], "CouplingEncoder")
        if x.shape[1:] != self.in_shape:
            raise ValueError(
                f"CouplingEncoder was made for images of {list(self.in_shape)}, but got {list(x.shape[1:])}: "
                f"set encoder.in_shape to what the augmentation gives"
            )
        z = x.flatten(1)
        for order, net in zip(self.orders, self.nets, strict=True):
            a, b = z[:, order].tensor_split([self.kept], dim=1)
            s, t = self._stretch_and_shift(net, a)
            z = torch.cat([a, b * s.exp() + t], 1)
        return z

    def inverse(self, z: Tensor) -> Tensor:
        """Representations [n, d] -> the images [n, *in_shape] that `forward` maps to them, up to rounding."""
        if z.ndim != 2 or z.shape[1] != self.out_dim:
            raise ValueError(f"CouplingEncoder.inverse takes [n, {self.out_dim}], but got {list(z.shape)}")
        for order, net in zip(self.orders.flip(0), reversed(self.nets), strict=True):
            a, b = z.tensor_split([self.kept], dim=1)
            s, t = self._stretch_and_shift(net, a)
            z = torch.cat([a, (b - t) * (-s).exp()], 1)[:, order.argsort()]
        return z.unflatten(1, self.in_shape)

    def _stretch_and_shift(self, net: nn.Module, a: Tensor) -> tuple[Tensor, Tensor]:
        s, t = net(a).chunk(2, dim=1)
        return self.limit * (s / self.limit).tanh(), t


def _net(d_in: int, hidden: Sequence[int], d_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in pairwise([d_in, *hidden]):
        layers += [nn.Linear(i, o), nn.ReLU(inplace=True)]
    last = nn.Linear(hidden[-1], d_out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
