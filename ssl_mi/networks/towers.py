"""Towers: encoder then projector, and which tower sees which view.

`Siamese` is f_theta = g_phi: one tower sees every view. `Independent` has separate f_theta and g_phi: tower v sees view
v. (The third choice, g a moving average of f, is `teacher.EMA` around either of them.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ssl_mi.networks.contracts import Head, MapEncoder
from ssl_mi.networks.heads import Identity
from ssl_mi.networks.weights import start_from

Projector = Head | Callable[[int], nn.Module]
LocalHeadsFactory = Callable[[Sequence[int], int], nn.Module]


class Embeddings(NamedTuple):
    """What towers return: one entry per view, in the order of the views.

    Attributes:
        h: Representations [n, h_dim], the encoder's output; what is evaluated and used.
        z: Embeddings [n, out_dim], the projector's output; what objectives take.
        maps: Local embeddings, one [n, locations, out_dim] per scale, of towers with local heads; otherwise empty.
    """

    h: list[Tensor]
    z: list[Tensor]
    maps: Sequence[Sequence[Tensor]] = ()


class Tower(nn.Module):
    """x -> (h, z) = (encoder(x), projector(h)), and with local heads (h, z, *local embeddings).

    Args:
        encoder: A module with an int `out_dim`, see `contracts.Encoder`.
        projector: A head such as `MLP(dims=[512, 128])`, or what makes a module with `out_dim` from the width of h;
        None
            for z = h.
        local: What makes a module from the encoder's `map_dims` and `out_dim`, e.g. `LocalHeads`; None for no maps.

    Attributes:
        h_dim: Width of h.
        out_dim: Width of z.

    Raises:
        ValueError: If a part has no `out_dim`, or if an encoder without feature maps gets local heads.

    Example:
        >>> import torch
        >>> from ssl_mi.networks import MLP, MLPEncoder
        >>> tower = Tower(MLPEncoder((3, 8, 8), widths=[16]), MLP(dims=[8, 4]))
        >>> [part.shape for part in tower(torch.randn(2, 3, 8, 8))]  # h, z
        [torch.Size([2, 16]), torch.Size([2, 4])]
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: Projector | None = None,
        local: LocalHeadsFactory | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.h_dim = _out_dim(encoder)
        head = projector or Identity()
        self.projector = head.build(self.h_dim) if isinstance(head, Head) else head(self.h_dim)
        self.out_dim = _out_dim(self.projector)
        self.local = None if local is None else local(_map_dims(encoder), self.out_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """A view [n, ...] -> (h [n, h_dim], z [n, out_dim], *local embeddings [n, locations, out_dim])."""
        if self.local is None:
            h = self.encoder(x)
            return h, self.projector(h)
        h, maps = cast(MapEncoder, self.encoder).with_maps(x)
        return h, self.projector(h), *self.local(maps)


class Siamese(nn.Module):
    """One tower for every view.

    Args:
        encoder: A module with an int `out_dim`, see `contracts.Encoder`.
        projector: A head such as `MLP(dims=[512, 128])`, or what makes a module with `out_dim` from the width of h;
            None for z = h.
        joint_forward: True puts views of equal shape through the tower in one pass, so that its batch norms see all of
            them (SimCLR's reference code; one large pass is also faster). False makes one pass per view (BYOL, SimSiam,
            MoCo v3). With batch norm the gradients differ. Views of other sizes (multi-crop) always have their own
            passes.
        local: What makes a module from the encoder's `map_dims` and `out_dim`, e.g. `LocalHeads`; None for no maps.

    Raises:
        ValueError: If a part has no `out_dim`, or if an encoder without feature maps gets local heads.

    Example:
        >>> import torch
        >>> from ssl_mi.networks import MLP, MLPEncoder
        >>> towers = Siamese(MLPEncoder((3, 8, 8), widths=[16]), MLP(dims=[8, 4]))
        >>> z = towers([torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)]).z
        >>> [view.shape for view in z]
        [torch.Size([2, 4]), torch.Size([2, 4])]
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: Projector | None = None,
        joint_forward: bool = True,
        local: LocalHeadsFactory | None = None,
    ) -> None:
        super().__init__()
        self.tower = Tower(encoder, projector, local)
        self.joint_forward = joint_forward

    @property
    def h_dim(self) -> int:
        return self.tower.h_dim

    @property
    def out_dim(self) -> int:
        return self.tower.out_dim

    @property
    def returns_feature_maps(self) -> bool:
        return self.tower.local is not None

    @property
    def forward_passes(self) -> str:
        """What a batch norm sees at once. Gradients depend on it, so a run prints it."""
        return (
            "one for all views of a size: batch norms see them together" if self.joint_forward else "one for each view"
        )

    def tower_of(self, view: int) -> Tower:
        """The tower that sees view `view`."""
        return self.tower

    def encode(self, views: Sequence[Tensor]) -> Tensor:
        """Representations [n, h_dim] of images.

        Args:
            views: Unaugmented views [n, ...] of the images. One tower sees all views alike, so only the first is used.
        """
        return self.tower.encoder(views[0])

    def forward(self, views: Sequence[Tensor]) -> Embeddings:
        """Views [n, ...] -> their embeddings."""
        _check_views(views)
        if not self.joint_forward:
            return _embeddings([self.tower(x) for x in views])
        passes: dict[torch.Size, list[int]] = {}
        for v, x in enumerate(views):
            passes.setdefault(x.shape[1:], []).append(v)
        seen: dict[int, tuple[Tensor, ...]] = {}
        for members in passes.values():
            sizes = [len(views[v]) for v in members]
            outputs = self.tower(torch.cat([views[v] for v in members]))
            shares = zip(*(output.split(sizes) for output in outputs), strict=True)
            seen.update(zip(members, shares, strict=True))
        return _embeddings([seen[v] for v in range(len(views))])


class Independent(nn.Module):
    """Tower v sees view v: separate weights, for views of different kinds.

    Args:
        towers: One `Tower` per view, with the same widths.
        weights: What the encoders start from, see `weights.start_from`: a run or a file for all of them, where tower v
            takes the weights of view v of a run with a tower per view; or a list with one for each, None for random.

    Raises:
        ValueError: If there are no towers, if two of them share a parameter (that is `Siamese`), or, at the call, if
            there are not as many views as towers.

    Example:
        >>> import torch
        >>> from ssl_mi.networks import MLPEncoder, TextEncoder
        >>> towers = Independent([Tower(MLPEncoder((3, 8, 8), widths=[16])), Tower(TextEncoder(10, out_dim=16))])
        >>> [h.shape for h in towers([torch.randn(2, 3, 8, 8), torch.randint(10, (2, 5))]).h]
        [torch.Size([2, 16]), torch.Size([2, 16])]
    """

    def __init__(self, towers: Sequence[Tower], weights: Any = None) -> None:
        super().__init__()
        if not towers:
            raise ValueError("Independent: give one tower per view, but got none")
        self.towers = nn.ModuleList(towers)
        if sum(len(list(t.parameters())) for t in self.towers) != len(list(self.parameters())):
            raise ValueError("Independent: two towers share parameters; use Siamese for one tower on all views")
        each = list(weights) if isinstance(weights, list | tuple) else [weights] * len(towers)
        if len(each) != len(towers):
            raise ValueError(f"Independent: towers.weights has {len(each)} entries for {len(towers)} towers")
        for view, (tower, some) in enumerate(zip(towers, each, strict=True)):
            start_from(tower.encoder, some, view)

    @property
    def h_dim(self) -> int:
        return self._same("h_dim")

    @property
    def out_dim(self) -> int:
        return self._same("out_dim")

    forward_passes = "one for each view, in a tower of its own"

    @property
    def returns_feature_maps(self) -> bool:
        return any(tower.local is not None for tower in self.towers)

    def tower_of(self, view: int) -> Tower:
        """The tower that sees view `view`."""
        return cast(Tower, self.towers[view])

    def encode(self, views: Sequence[Tensor]) -> Tensor:
        """Representations of images: those of all towers, concatenated.

        Args:
            views: Unaugmented views [n, ...] of the images, one per tower. Towers beyond the last view see something
                else than images (sentences) and are left out.
        """
        seen = zip(self.towers[: len(views)], views, strict=True)
        return torch.cat([cast(Tower, tower).encoder(x) for tower, x in seen], dim=1)

    def forward(self, views: Sequence[Tensor]) -> Embeddings:
        """Views [n, ...], one per tower -> their embeddings."""
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
            raise ValueError(f"Independent: the towers' {width} differ: {widths}; ask `tower_of(v).{width}`")
        return widths[0]


def _embeddings(seen: list[tuple[Tensor, ...]]) -> Embeddings:
    maps = [locals_ for _, _, *locals_ in seen]
    return Embeddings([h for h, *_ in seen], [z for _, z, *_ in seen], maps if any(maps) else ())


def _check_views(views: Sequence[Tensor]) -> None:
    # A tensor is a sequence of its rows, and would pass for n views of one image each.
    if isinstance(views, Tensor):
        raise ValueError(f"towers take a list of views, but got one tensor {list(views.shape)}: put it in a list")
    if not views:
        raise ValueError("towers take a list of views, but got an empty one")


def _out_dim(part: nn.Module) -> int:
    width = getattr(part, "out_dim", None)
    if not isinstance(width, int):
        raise ValueError(
            f"{type(part).__name__} must have an int attribute `out_dim`, the width of its output [n, out_dim]; "
            "ssl_mi.networks.measured(module, image_size) gives it to a network of images"
        )
    return width


def _map_dims(encoder: nn.Module) -> Sequence[int]:
    dims = getattr(encoder, "map_dims", None)
    if not dims:
        raise ValueError(
            f"{type(encoder).__name__} gives no feature maps, and local heads need them: use encoder=convnet, "
            "a resnet or a vit"
        )
    return dims
