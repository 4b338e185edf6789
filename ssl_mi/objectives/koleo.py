"""A regulariser that spreads embeddings by their nearest neighbours: KoLeo."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_mi.objectives.objective import Loss, Objective, mean_of


class KoLeo(Objective):
    """Kozachenko and Leonenko's estimate of the entropy, as a regulariser.

        loss = - mean over views and rows of log |x_i - x_j(i)|,   j(i) the nearest other row of the view

    on unit vectors. It wants every embedding far from its nearest neighbour and brings no two views together, so it
    trains with others, in a `Sum`. Distances are sqrt(|.|^2 + 1e-16).

    Relation to mutual information: d times the mean is the k = 1 estimate of H(Z) up to constants, the H(Y) of
    I(X; Y) >= H(Y) + E[log q(y | x)]. The entropy is that of a batch and alone bounds nothing.

    Args:
        dim: Width d of an embedding; only checked.

    References:
        Sablayrolles et al. 2019 (arXiv:1806.03198), section 3; Oquab et al. 2024 (arXiv:2304.07193), section 4, with a
        weight of 0.1.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import KoLeo
        >>> z = torch.eye(4)  # every two rows at distance sqrt(2)
        >>> round(float(KoLeo()([z, z]).total), 4)  # -log(2) / 2
        -0.3466
    """

    name = "koleo"
    teacher = "unused"
    min_views = 1
    attracts = False
    information = "no estimate: the entropy of a batch by nearest neighbours, and nothing of agreement"

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.build(dim)

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        return Loss({self.name: -mean_of([self._log_distance(normalize(z, dim=1)) for z in online])}, {})

    @staticmethod
    def _log_distance(x: Tensor) -> Tensor:
        with torch.no_grad():
            near = (x @ x.T).fill_diagonal_(-torch.inf).argmax(1)
        # From the difference, not from the cosine, whose rounding hides small distances.
        return ((x - x[near]).square().sum(1) + 1e-16).log().mean() / 2

    def check(self, images: int) -> None:
        raise ValueError("'koleo' brings no two views together: train it beside another objective, as in objective=sum")
