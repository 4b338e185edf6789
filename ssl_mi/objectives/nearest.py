"""Any objective on nearest neighbours: the composition behind NNBYOL and NNSiam."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ssl_mi.objectives.objective import Loss, Objective, renamed
from ssl_mi.objectives.queue import Queue


class NearestTargets(Objective):
    """An objective whose targets are replaced by their nearest neighbours in a support set.

        loss = L(online, NN(target, Q)),    NN(y, Q) = the row of Q of the largest <y / |y|, row>

    Q is a queue of unit vectors, the targets of the first view of past steps, as in NNCLR; neighbours carry no
    gradient, and this step's targets enter Q after all neighbours were found. With BYOL it is NNBYOL, with SimSiam
    NNSiam.

    Relation to mutual information: none. (x, NN(y)) is not a pair of views, so whatever L bounds for pairs of views is
    not bounded.

    Args:
        dim: Width d of an embedding; None to build later.
        objective: L, or what makes it.
        queue: Rows of the support set.
        name: Heads plots and tables; None for "nn_" and the name of L.

    Raises:
        ValueError: If there is no objective, if it needs more than embeddings, or if a batch is larger than the support
            set.

    References:
        Dwibedi et al. 2021 (arXiv:2104.14548), for the support set; NNBYOL and NNSiam are solo-learn's.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import NearestTargets, SimSiam
        >>> objective = NearestTargets(4, SimSiam(), queue=12)
        >>> list(objective([torch.randn(6, 4), torch.randn(6, 4)]).terms)
        ['simsiam']
    """

    information = "not bounded: partners come from a support set"

    @renamed(size="queue")
    def __init__(
        self,
        dim: int | None = None,
        objective: Objective | Callable[[], Objective] | None = None,
        queue: int = 65536,
        name: str | None = None,
    ) -> None:
        super().__init__()
        if objective is None:
            raise ValueError("NearestTargets: give an objective, such as BYOL or SimSiam")
        inner = cast(Objective, objective if isinstance(objective, nn.Module) else objective())
        if inner.requires or inner.learns_from != Objective.learns_from or inner.teacher == "unused":
            raise ValueError(f"NearestTargets: '{inner.name}' has no targets that neighbours could replace")
        self.name = name or f"nn_{inner.name}"
        self.teacher, self.min_views, self.evaluated = inner.teacher, inner.min_views, inner.evaluated
        self.objective, self.size = inner, queue
        inner.checks_finite = False  # these embeddings were looked at
        self.build(dim)

    def _make(self, dim: int) -> None:
        self.objective.build(dim)
        self.support = Queue(self.size, dim)

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        if self.teacher == "required" and target is online:
            raise ValueError(f"the targets of '{self.name}' come from a teacher: set teacher=ema")
        with torch.no_grad():
            keys = [normalize(y, dim=1) for y in target]
            support = self.support.past()
            neighbours = [support[(key @ support.T).argmax(1)] for key in keys]
        loss = self.objective(online, neighbours)
        if self.training:
            self.support.push(keys[0])
        return loss

    def facts(self, rows: int) -> dict[str, str]:
        return {"neighbours of": f"{self.size} past targets", **super().facts(rows)}
