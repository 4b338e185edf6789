"""Objectives that predict one view's embedding from another's, with nothing to push embeddings apart.

What they have to do with mutual information: -|q(x) - y|^2 is log q(y | x) of a Gaussian (on the sphere, von Mises-
Fisher) around the prediction, the reconstruction term of I(X; Y) >= H(Y) + E[log q(y | x)] (Barber & Agakov 2003;
Rodriguez-Galvez et al. 2023, arXiv:2307.10907). H(Y) is left to the teacher, the stop-gradient and the batch norms.
So neither loss estimates anything: at collapse, where I = 0, both are at their minimum.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ssl_mi.objectives.objective import Loss, Objective, crossings
from ssl_mi.objectives.predictor import predicted


class BYOL(Objective):
    """Predict the teacher's embedding of the other view: Grill et al. 2020 (arXiv:2006.07733).

        L(x, y) = |q(x)/|q(x)| - y/|y||^2 = 2 - 2 cos(q(x), y),     loss = sum over the two directions

    The factor 2 and the *sum* L + L~ of the paper are kept, so the loss lies in [0, 8] with two views;
    code that prints 2 - 2 cos averaged, or 1 - cos, needs a learning rate twice or four times this one's. With
    multi-crop it is still the sum over two pairs: the mean over all pairs, times two.

    predictor: a factory that takes dim. Raises ValueError without a teacher (that is SimSiam).
    """

    name = "byol"
    teacher = "required"
    information = "no estimate: the loss is least at collapse, where there is none"

    def __init__(self, dim: int, predictor: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.predictor = predictor(dim)

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        if target is online:
            raise ValueError("BYOL's targets come from a teacher (teacher=ema); without one, use objective=simsiam")
        cosine = _mean_cosine(self.predictor, online, target)
        return Loss({self.name: 2 * (2 - 2 * cosine)}, {"cosine": cosine.detach()})


class SimSiam(Objective):
    """Predict the other view's own embedding, held still: Chen & He 2021 (arXiv:2011.10566).

        D(x, y) = -cos(q(x), stopgrad(y)),     loss = D(x1, y2) / 2 + D(x2, y1) / 2

    It lies in [-1, 1]. predictor: a factory that takes dim. With a teacher, its embeddings are the ones held still.
    """

    name = "simsiam"
    information = "no estimate: the loss is least at collapse, where there is none"

    def __init__(self, dim: int, predictor: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.predictor = predictor(dim)

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        cosine = _mean_cosine(self.predictor, online, target)
        return Loss({self.name: -cosine}, {"cosine": cosine.detach()})


def _mean_cosine(predictor: nn.Module, online: list[Tensor], target: list[Tensor]) -> Tensor:
    """The mean of cos(q(x_i), stopgrad(y_j)) over the batch and over the pairs i != j of views."""
    held = [y.detach() for y in target]
    met = crossings(predicted(predictor, online), held)
    return sum(cosine_similarity(x, y, dim=1).mean() for x, y in met) / len(met)
