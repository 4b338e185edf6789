"""Towers: encoder then projector, and which tower sees which view.

`Siamese` is f_theta = g_phi: one tower sees every view. `Independent` is f_theta and g_phi apart: tower v
sees view v. (The third choice, g an average of f's past, is `teacher.EMA` around either of them.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ssl_mi.networks.heads import Identity


class Embeddings(NamedTuple):
    """One entry per view, in the order of the views.

    h: representations [n, h_dim], the encoder's output; what probes read.
    z: embeddings [n, out_dim], the projector's output; what objectives read.
    """

    h: list[Tensor]
    z: list[Tensor]


class Tower(nn.Module):
    """x -> (h, z) = (encoder(x), projector(h)).

    encoder:   a module with `out_dim`.
    projector: what makes a module from the width of h, e.g. `partial(MLP, dims=[512, 128])`; None for z = h.

    Raises ValueError when either part does not say its `out_dim`.
    """

    def __init__(self, encoder: nn.Module, projector: Callable[[int], nn.Module] | None = None):
        super().__init__()
        self.encoder = encoder
        self.h_dim = _out_dim(encoder)
        self.projector = (projector or Identity)(self.h_dim)
        self.out_dim = _out_dim(self.projector)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.encoder(x)
        return h, self.projector(h)


class Siamese(nn.Module):
    """One tower for every view.

    together: True puts views of equal shape through the tower in one pass, so that its batch norms see the
              statistics of all of them (SimCLR's reference code, and one large pass is faster); False makes
              a pass per view (BYOL, SimSiam, MoCo v3). With batch norm these are different gradients, not
              two ways to the same one. Views of other sizes (multi-crop) go in passes of their own.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: Callable[[int], nn.Module] | None = None,
        together: bool = True,
    ):
        super().__init__()
        self.tower = Tower(encoder, projector)
        self.together = together

    @property
    def h_dim(self) -> int:
        return self.tower.h_dim

    @property
    def out_dim(self) -> int:
        return self.tower.out_dim

    def for_view(self, view: int) -> Tower:
        """The tower that sees view `view`."""
        return self.tower

    def represent(self, views: Sequence[Tensor]) -> Tensor:
        """h of an image, from unaugmented views of it: the first will do, one tower sees them all alike."""
        return self.tower.encoder(views[0])

    def forward(self, views: Sequence[Tensor]) -> Embeddings:
        _check_views(views)
        if not self.together:
            return _embeddings([self.tower(x) for x in views])
        passes: dict[torch.Size, list[int]] = {}
        for v, x in enumerate(views):
            passes.setdefault(x.shape[1:], []).append(v)
        seen: dict[int, tuple[Tensor, Tensor]] = {}
        for members in passes.values():
            sizes = [len(views[v]) for v in members]
            h, z = self.tower(torch.cat([views[v] for v in members]))
            seen.update(zip(members, zip(h.split(sizes), z.split(sizes), strict=True), strict=True))
        return _embeddings([seen[v] for v in range(len(views))])


class Independent(nn.Module):
    """Tower v sees view v: separate weights, for views of different kinds.

    Raises ValueError when two towers share a parameter (that is `Siamese`), and, at the call, when there
    are not as many views as towers.
    """

    def __init__(self, towers: Sequence[Tower]):
        super().__init__()
        if not towers:
            raise ValueError("Independent: give one tower per view, but got none")
        self.towers = nn.ModuleList(towers)
        if sum(len(list(t.parameters())) for t in self.towers) != len(list(self.parameters())):
            raise ValueError("Independent: two towers share parameters; use Siamese for one tower on all views")

    @property
    def h_dim(self) -> int:
        return self._same("h_dim")

    @property
    def out_dim(self) -> int:
        return self._same("out_dim")

    def for_view(self, view: int) -> Tower:
        """The tower that sees view `view`."""
        return self.towers[view]

    def represent(self, views: Sequence[Tensor]) -> Tensor:
        """h of an image, from unaugmented views of it: what the towers see of it, side by side. Towers beyond the
        last view see something else than images (sentences), and are left out."""
        seen = zip(self.towers[: len(views)], views, strict=True)
        return torch.cat([tower.encoder(x) for tower, x in seen], dim=1)

    def forward(self, views: Sequence[Tensor]) -> Embeddings:
        _check_views(views)
        if len(views) != len(self.towers):
            raise ValueError(
                f"Independent has {len(self.towers)} towers, one per view, but got {len(views)} views: "
                f"make the augmentation give {len(self.towers)}, or use towers=siamese"
            )
        return _embeddings([tower(x) for tower, x in zip(self.towers, views, strict=True)])

    def _same(self, width: str) -> int:
        widths = [getattr(tower, width) for tower in self.towers]
        if len(set(widths)) != 1:
            raise ValueError(f"Independent: the towers' {width} differ: {widths}; ask `for_view(v).{width}`")
        return widths[0]


def _embeddings(pairs: list[tuple[Tensor, Tensor]]) -> Embeddings:
    return Embeddings(h=[h for h, _ in pairs], z=[z for _, z in pairs])


def _check_views(views: Sequence[Tensor]) -> None:
    # A tensor is a sequence of its rows, and would pass for n views of one image each.
    if isinstance(views, Tensor):
        raise ValueError(f"towers take a list of views, but got one tensor {list(views.shape)}: put it in a list")
    if not views:
        raise ValueError("towers take a list of views, but got an empty one")


def _out_dim(part: nn.Module) -> int:
    width = getattr(part, "out_dim", None)
    if not isinstance(width, int):
        raise ValueError(f"{type(part).__name__} must say the width of its output as an int `out_dim`")
    return width
