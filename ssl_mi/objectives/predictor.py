"""The predictor q of the online side: it lives in the objective, because it exists only for the loss."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Predictor(nn.Sequential):
    """Linear, batch norm, ReLU, Linear: [n, dim] -> [n, dim].

    Grill et al. 2020 (arXiv:2006.07733), section 3.3; Chen & He 2021 (arXiv:2011.10566) with a narrow `hidden`.
    final_norm: a batch norm without scale and offset at the end (Chen et al. 2021, arXiv:2104.02057: MoCo v3).

    Its batch norm sees the rows of all processes, which the objective holds already.
    """

    def __init__(self, dim: int, hidden: int, final_norm: bool = False) -> None:
        if hidden < 1:
            raise ValueError(f"Predictor: hidden must be positive, got {hidden}")
        # A Linear before a batch norm has no bias: it would be subtracted again.
        layers: list[nn.Module] = [nn.Linear(dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
        layers += [nn.Linear(hidden, dim, bias=not final_norm)]
        super().__init__(*layers, *([nn.BatchNorm1d(dim, affine=False)] if final_norm else []))


def predicted(predictor: Callable[[Tensor], Tensor], views: list[Tensor]) -> list[Tensor]:
    """q of each view, a pass per view: each view has batch statistics of its own, as in BYOL and SimSiam."""
    return [predictor(z) for z in views]
