"""LeJEPA: prediction, and a regulariser towards an isotropic Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_mi.objectives.objective import Loss, mean_of, need_views
from ssl_mi.objectives.stepped import SteppedObjective


class LeJEPA(SteppedObjective):
    """LeJEPA: prediction of the global views, and SIGReg.

        predict = mean over views, rows and coordinates of (z_v - centre)^2,   centre: the mean of the global views
        SIGReg  = mean over views and directions a of  n integral |phi(t) - e^(-t^2/2)|^2 e^(-t^2/2) dt
        loss    = (1 - weight) predict + weight SIGReg

    phi is the empirical characteristic function of <a, z> over the batch: Epps & Pulley's test of N(0, 1). The
    directions are drawn in each step from its number alone, so that several processes and a resumed run draw the same.
    The integral is a trapezoidal sum on [-5, 5] at 17 points. Embeddings are not normalised.

    Relation to mutual information: no estimate. If SIGReg is 0, H(Z) is that of N(0, 1), the maximum at its variance,
    and `predict` bounds H(Z_X | Z_Y) from above: proxies of the two terms of I = H(Z) - H(Z | .).

    Args:
        dim: Width d of an embedding; only checked.
        weight: Of SIGReg; the prediction has the rest.
        slices: Directions per step.
        global_views: Views, from the first, whose mean is predicted.

    Raises:
        ValueError: If a number is out of range, or if there are fewer than 2 views.

    References:
        Balestriero & LeCun 2025 (arXiv:2511.08544), algorithms 1 and 2.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import LeJEPA
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(LeJEPA()([z, z]).terms["predict"]), 4)  # equal views are predicted
        0.0
    """

    name = "lejepa"
    teacher = "unused"
    information = "no estimate: a test of Gaussianity stands for the entropy"
    reach, points = 5.0, 17

    def __init__(self, dim: int | None = None, weight: float = 0.05, slices: int = 256, global_views: int = 2) -> None:
        super().__init__()
        if not 0 <= weight <= 1 or slices < 1 or global_views < 1:
            raise ValueError(f"LeJEPA: got weight={weight}, slices={slices}, global_views={global_views}")
        self.weight, self.slices, self.global_views = weight, slices, global_views
        self.build(dim)

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        need_views(online)
        centre = torch.stack(online[: self.global_views]).mean(0)
        predict = mean_of([(z - centre).square().mean() for z in online])
        directions = self._directions(online[0])
        gaussian = mean_of([self._distance(z @ directions) for z in online])
        if self.training:
            self.count_step()
        return Loss({"predict": (1 - self.weight) * predict, "sigreg": self.weight * gaussian}, {})

    def _directions(self, z: Tensor) -> Tensor:
        """[d, slices], unit columns."""
        generator = torch.Generator().manual_seed(self.step)
        return normalize(torch.randn(z.shape[1], self.slices, generator=generator).to(z), dim=0)

    def _distance(self, along: Tensor) -> Tensor:
        """along: [n, slices] -> Epps & Pulley's statistic, averaged over the slices."""
        t = torch.linspace(-self.reach, self.reach, self.points, dtype=along.dtype, device=along.device)
        normal = (-t.square() / 2).exp()
        angle = along[:, :, None] * t
        error = (angle.cos().mean(0) - normal).square() + angle.sin().mean(0).square()
        return along.shape[0] * torch.trapezoid(error * normal, t, dim=1).mean()
