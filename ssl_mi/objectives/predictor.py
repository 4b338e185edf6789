"""The predictor q of the online side. It belongs to the objective, because it exists for the loss only."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Predictor(nn.Sequential):
    """Linear, batch norm, ReLU, Linear: [n, dim] -> [n, dim].

    Its batch norm sees the rows of all processes, which the objective has already.

    Args:
        dim: Width of an embedding.
        hidden: Width of the hidden layer.
        final_norm: Adds a batch norm without scale and offset at the end, as MoCo v3 does.

    Raises:
        ValueError: If `hidden` is not positive.

    References:
        Grill et al. 2020 (arXiv:2006.07733), section 3.3; Chen & He 2021 (arXiv:2011.10566), with a narrow `hidden`;
        Chen et al. 2021 (arXiv:2104.02057).

    Example:
        >>> import torch
        >>> Predictor(dim=4, hidden=16)(torch.randn(6, 4)).shape
        torch.Size([6, 4])
    """

    def __init__(self, dim: int, hidden: int, final_norm: bool = False) -> None:
        if hidden < 1:
            raise ValueError(f"Predictor: hidden must be positive, got {hidden}")
        # A Linear before a batch norm has no bias: it would be subtracted again.
        layers: list[nn.Module] = [nn.Linear(dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
        layers += [nn.Linear(hidden, dim, bias=not final_norm)]
        super().__init__(*layers, *([nn.BatchNorm1d(dim, affine=False)] if final_norm else []))


def predicted(predictor: Callable[[Tensor], Tensor], views: list[Tensor]) -> list[Tensor]:
    """q of each view, one pass per view: each view has its own batch statistics, as in BYOL and SimSiam.

    Args:
        predictor: q, [n, d] -> [n, d].
        views: Embeddings [n, d], one entry per view.
    """
    return [predictor(z) for z in views]
