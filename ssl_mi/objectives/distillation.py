"""Objectives that predict the embedding of one view from another's, without negatives: BYOL and SimSiam.

Relation to mutual information: -|q(x) - y|^2 is log q(y | x) of a Gaussian (on the sphere, von Mises-Fisher) around the
prediction, the reconstruction term of I(X; Y) >= H(Y) + E[log q(y | x)] (Barber & Agakov 2003; Rodriguez-Galvez et al.
2023, arXiv:2307.10907). H(Y) is left to the teacher, the stop-gradient and the batch norms. So neither loss estimates
anything: at collapse, where I = 0, both are at their minimum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ssl_mi.objectives.objective import Loss, Objective, mean_of, ordered_pairs
from ssl_mi.objectives.predictor import Predictor, predicted


class BYOL(Objective):
    """Predict the teacher's embedding of the other view.

        L(x, y) = |q(x)/|q(x)| - y/|y||^2 = 2 - 2 cos(q(x), y),     loss = sum over the two directions

    The factor 2 and the *sum* of the paper are kept, so the loss is in [0, 8] with two views. Code that averages 2 - 2
    cos, or uses 1 - cos, needs a learning rate two or four times larger. With multi-crop the loss is twice the mean
    over all pairs.

    Args:
        dim: Width d of an embedding; None to build later.
        predictor: Makes q from d; None for `Predictor(d, hidden=4096)`, the paper's.

    Raises:
        ValueError: If no teacher makes the targets (that is SimSiam), or if there are fewer than 2 views.

    References:
        Grill et al. 2020 (arXiv:2006.07733).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import BYOL
        >>> from torch import nn
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> objective = BYOL(dim=4, predictor=lambda _: nn.Identity())
        >>> round(float(objective([z, z], [-z, -z]).total), 4)  # 2 - 2 cos, in both directions
        8.0
    """

    name = "byol"
    teacher = "required"
    information = "no estimate: the loss is least at collapse, where there is none"

    def __init__(self, dim: int | None = None, predictor: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        self._predictor = predictor or partial(Predictor, hidden=4096)
        self.build(dim)

    def _make(self, dim: int) -> None:
        self.predictor = self._predictor(dim)
        del self._predictor  # it may be a lambda, which cannot be pickled

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        if target is online:
            raise ValueError("BYOL's targets come from a teacher (teacher=ema); without one, use objective=simsiam")
        cosine = _mean_cosine(self.predictor, online, target)
        return Loss({self.name: 2 * (2 - 2 * cosine)}, {"cosine": cosine.detach()})


class SimSiam(Objective):
    """Predict the embedding of the other view, which gets no gradient.

        D(x, y) = -cos(q(x), stopgrad(y)),     loss = D(x1, y2) / 2 + D(x2, y1) / 2

    The loss is in [-1, 1]. With a teacher, the targets are its embeddings.

    Args:
        dim: Width d of an embedding; None to build later.
        predictor: Makes q from d; None for `Predictor(d, hidden=512)`, the paper's.

    Raises:
        ValueError: If there are fewer than 2 views.

    References:
        Chen & He 2021 (arXiv:2011.10566).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import SimSiam
        >>> from torch import nn
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(SimSiam(dim=4, predictor=lambda _: nn.Identity())([z, z]).total), 4)  # -cos
        -1.0
    """

    name = "simsiam"
    information = "no estimate: the loss is least at collapse, where there is none"

    def __init__(self, dim: int | None = None, predictor: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        self._predictor = predictor or partial(Predictor, hidden=512)
        self.build(dim)

    def _make(self, dim: int) -> None:
        self.predictor = self._predictor(dim)
        del self._predictor  # it may be a lambda, which cannot be pickled

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        cosine = _mean_cosine(self.predictor, online, target)
        return Loss({self.name: -cosine}, {"cosine": cosine.detach()})


def _mean_cosine(predictor: nn.Module, online: list[Tensor], target: list[Tensor]) -> Tensor:
    """The mean of cos(q(x_i), stopgrad(y_j)) over the batch and over the pairs i != j of views."""
    held = [y.detach() for y in target]
    met = ordered_pairs(predicted(predictor, online), held)
    return mean_of([cosine_similarity(x, y, dim=1).mean() for x, y in met])
