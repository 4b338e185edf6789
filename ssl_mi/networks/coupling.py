"""An encoder that can be undone: affine coupling layers, Dinh et al. 2017 (arXiv:1605.08803), section 3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ssl_mi.networks.encoders import check_images


class CouplingEncoder(nn.Module):
    """z = f(x): `depth` affine coupling layers on the d = c h w pixels of an image, each behind a fixed permutation.

    A layer leaves one half of its coordinates, a, as it is and moves the other, b, by what it reads in a (eq. 7 of
    the paper; eq. 8 is the inverse):

        b' = b * e^s(a) + t(a),    b = (b' - t(a)) * e^-s(a),    |s| <= limit

    s and t come from one network of `hidden` widths, whose last layer starts at 0: an encoder that has not been
    trained permutes the pixels and does nothing else. Every second layer moves what the one before it left alone.

    Mutual information does not change when either side goes through an invertible map, so whatever the weights,
    I(f(X); g(Y)) = I(X; Y): training can neither lose nor find information, it can only move it about.

    limit: of the logarithm of the factor by which a layer stretches a coordinate, so that the errors of rounding
           grow by a bounded factor a layer.
    seed:  of the permutations; the weights follow torch's own.

    Input [n, *in_shape]; output [n, d]; `inverse` takes [n, d] back. Raises ValueError on other shapes, fewer than
    2 pixels, no layers and no widths.
    """

    def __init__(
        self,
        in_shape: Sequence[int] = (3, 32, 32),
        depth: int = 6,
        hidden: Sequence[int] = (128,),
        limit: float = 1.0,
        seed: int = 0,
    ):
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
        """The x: [n, *in_shape] that `forward` made z: [n, d] of, but for rounding."""
        if z.ndim != 2 or z.shape[1] != self.out_dim:
            raise ValueError(f"CouplingEncoder.inverse takes [n, {self.out_dim}], but got {list(z.shape)}")
        for order, net in zip(reversed(self.orders), reversed(self.nets), strict=True):
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
