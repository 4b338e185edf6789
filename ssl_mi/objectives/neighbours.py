"""Objectives that compare a batch with a memory of earlier embeddings: NNCLR and ReSSL."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, normalize

from ssl_mi.objectives.objective import Loss, Objective, crossings
from ssl_mi.objectives.predictor import predicted
from ssl_mi.objectives.queue import Queue


class NNCLR(Objective):
    """The partner is a near neighbour of one's other view: Dwibedi et al. 2021 (arXiv:2104.14548), section 3.2.

        L_i = - log exp(<NN(x_i, Q), q(y_i)>/t) / sum_k exp(<NN(x_i, Q), q(y_k)>/t)

    on unit vectors, averaged over the batch and over both directions. NN is the nearest row of the support set Q, a
    queue of `size` embeddings of the first view of past steps, and takes no gradient. q is the predictor, a factory
    that takes dim. Q takes this step's embeddings after every neighbour was found.

    Mutual information: the pair (NN(x), y) is not a pair of views; the loss is a score that bounds nothing.
    """

    name = "nnclr"
    information = "not bounded: partners come from a support set"

    def __init__(self, dim: int, predictor: Callable[[int], nn.Module], size: int, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature
        self.check_settings()
        self.predictor = predictor(dim)
        self.support = Queue(size, dim)

    def check_settings(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"NNCLR: temperature must be positive, got {self.temperature}")

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        keys = [normalize(z.detach(), dim=1) for z in target]
        support = self.support.past()
        neighbours = [support[(key @ support.T).argmax(1)] for key in keys]
        queries = [normalize(q, dim=1) for q in predicted(self.predictor, online)]
        row = torch.arange(len(keys[0]), device=keys[0].device)
        met = crossings(queries, neighbours)
        loss = sum(cross_entropy(near @ query.T / self.temperature, row) for query, near in met) / len(met)
        if self.training:
            self.support.push(keys[0])
        return Loss({self.name: loss}, {})


class ReSSL(Objective):
    """The student's view is to earlier images as the teacher's is: Zheng et al. 2021 (arXiv:2107.09282), section 3.2.

        p = softmax(<y_i, Q>/t_target),   q = softmax(<x_i, Q>/t_online),   L_i = - sum_k p_k log q_k

    on unit vectors, where y is the teacher's embedding and Q a queue of `size` of those of past steps. The paper gives
    the teacher the weaker view only: `teacher.views=1` and an augmentation whose first view is the weak one.

    Mutual information: no estimate. The loss is H(p) + KL(p || q): it asks that two views keep the same relations.
    Nothing but t_target < t_online and the teacher's lag keeps it from collapse.

    Raises ValueError without a teacher, and where t_target >= t_online.
    """

    name = "ressl"
    teacher = "required"
    information = "no estimate: relations to a queue are matched, not pairs told apart"

    def __init__(self, dim: int, size: int, online_temperature: float = 0.1, target_temperature: float = 0.04) -> None:
        super().__init__()
        self.online_temperature, self.target_temperature = online_temperature, target_temperature
        self.check_settings()
        self.queue = Queue(size, dim)

    def check_settings(self) -> None:
        if not 0 < self.target_temperature < self.online_temperature:
            raise ValueError(
                f"ReSSL: the target's temperature must be positive and below the online one, got "
                f"target_temperature={self.target_temperature}, online_temperature={self.online_temperature}"
            )

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        if target is online:
            raise ValueError("ReSSL's relations come from a teacher: set teacher=ema")
        queue = self.queue.past()
        keys = [normalize(z.detach(), dim=1) for z in target]
        relations = [(key @ queue.T / self.target_temperature).softmax(1) for key in keys]
        student = [log_softmax(normalize(z, dim=1) @ queue.T / self.online_temperature, 1) for z in online]
        met = crossings(student, relations)
        loss = sum(-(p * log_q).sum(1).mean() for log_q, p in met) / len(met)
        if self.training:
            self.queue.push(torch.cat(keys))
        return Loss({self.name: loss}, {})
