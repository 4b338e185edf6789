"""VICRegL's local half: VICReg on locations of two views that are matched by where they are and by what is there."""

from __future__ import annotations

import math
from itertools import combinations

import torch
from torch import Tensor

from ssl_mi.objectives.objective import Loss
from ssl_mi.objectives.redundancy import VarianceCovariance


class LocalVICReg(VarianceCovariance):
    """VICReg on pairs of locations, the local half of VICRegL.

        L_s(z, z') = l(z_p, z'_NN(p))     NN(p) = the location of z' whose centre is nearest to that of p in the image
        L_d(z, z') = l(z_p, z'_NN'(p))    NN'(p) = the location of z' whose embedding is nearest to z_p, by distance
        loss       = (L_s(z, z') + L_s(z', z)) / 2 + (L_d(z, z') + L_d(z', z)) / 2

    Of the pairs of an image only the `matches` nearest are kept, in the order of p. l is the loss of `VICReg`: the
    mean square over pairs and coordinates, and variances and covariances over the images at each of the kept places,
    averaged over these. VICRegL is alpha VICReg + (1 - alpha) of this, alpha = 0.75: `objective=vicregl`, a `Sum`.

    The maps come from `networks.LocalHeads`, maps[v] = [local embeddings [n, L, d]] of square maps, row by row; several
    scales are averaged. `PlacedBatch.boxes` says where views lie. A view with fewer locations than the largest keeps
    the same share of them: of 49 and 9 locations the paper's 20 and 4.

    Differences from the authors' code: it weighs covariances by half, and of more than two views its local term is that
    of the last pair alone; here as in the paper c(Z) + c(Z') is the covariance term, and pairs are averaged.

    Relation to mutual information: none, as for VICReg.

    Args:
        dim: Width d of local embeddings; only checked.
        matches: Pairs that are kept, the paper's gamma.
        invariance: Weight of the mean square.
        variance: Weight of the variances.
        covariance: Weight of the covariances.

    Raises:
        ValueError: If `matches` is not positive, exceeds the locations of a map, or a map is not square.

    References:
        Bardes, Ponce & LeCun 2022 (arXiv:2210.01571), section 3, equations 1 to 4.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import LocalVICReg
        >>> z = [torch.randn(6, 4), torch.randn(6, 4)]
        >>> maps = [[torch.randn(6, 9, 4)], [torch.randn(6, 9, 4)]]  # 9 locations
        >>> boxes = torch.tensor([0.0, 0.0, 32.0, 32.0]).expand(6, 2, 4)  # both views show the whole image
        >>> list(LocalVICReg(dim=4, matches=5)(z, maps=maps, boxes=boxes).terms)
        ['invariance', 'variance', 'covariance']
    """

    name = "vicreg_local"
    requires = ("maps", "boxes")
    towers = "siamese_expanders"
    teacher = "unused"

    def __init__(
        self,
        dim: int | None = None,
        matches: int = 20,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ) -> None:
        if matches < 1:
            raise ValueError(f"LocalVICReg: matches must be positive, got {matches}")
        super().__init__(dim, invariance, variance, covariance)
        self.matches = matches

    def forward(self, online: list[Tensor], target: list[Tensor], maps: list[list[Tensor]], boxes: Tensor) -> Loss:
        met = []
        for scale in zip(*maps, strict=True):
            most = max(local.shape[1] for local in scale)
            if self.matches > most:
                raise ValueError(
                    f"LocalVICReg: matches={self.matches} of maps of {most} locations: set "
                    f"objective.parts.local.matches to {most} or less"
                )
            placed = [(z, _centres(boxes[:, v], z.shape[1])) for v, z in enumerate(scale)]
            for first, second in combinations(placed, 2):
                met += self._matched(first, second, most) + self._matched(second, first, most)
        return Loss({name: 2 * term for name, term in self._terms(met).items()}, {})  # by place and by embedding

    def _matched(
        self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], most: int
    ) -> list[tuple[Tensor, Tensor]]:
        """The kept pairs [n, k, d] of two maps, by place and by embedding."""
        (x, place_x), (y, place_y) = first, second
        keep = max(1, round(self.matches * x.shape[1] / most))
        return [_nearest(x, y, _distances(*apart), keep) for apart in ((place_x, place_y), (x.detach(), y.detach()))]

    def facts(self, rows: int) -> dict[str, str]:
        return {"pairs of locations": f"{self.matches} by place, {self.matches} by embedding", **super().facts(rows)}


def _centres(box: Tensor, locations: int) -> Tensor:
    """Where in the image the centres of a view's locations are, [n, L, 2] in pixels, from its box [n, 4]."""
    side = math.isqrt(locations)
    if side * side != locations:
        raise ValueError(f"LocalVICReg: a map of {locations} locations is not square: use square views and maps")
    along = (torch.arange(side, device=box.device, dtype=box.dtype) + 0.5) / side
    rows, columns = (box[:, i, None] + box[:, i + 2, None] * along for i in (0, 1))  # [n, side] each
    return torch.stack([rows.repeat_interleave(side, 1), columns.repeat(1, side)], 2)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # By products a distance near 0 would be rounding, and with it which pairs are nearest.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _nearest(x: Tensor, y: Tensor, distances: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The `keep` locations of x [n, L, d] that have the nearest partners in y, and these: [n, keep, d] each."""
    least, partner = distances.min(2)
    kept = least.argsort(dim=1, stable=True)[:, :keep].sort(1).values
    return _taken(x, kept), _taken(y, partner.gather(1, kept))


def _taken(z: Tensor, places: Tensor) -> Tensor:
    """Locations `places` [n, k] of a map [n, L, d]."""
    return z.gather(1, places[:, :, None].expand(-1, -1, z.shape[2]))
